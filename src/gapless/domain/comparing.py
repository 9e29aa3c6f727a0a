"""Comparing a held bar with a fresh copy: is it the same, on another basis, or restated?

Stitching rules 9 to 12. A *basis* is what prices are adjusted to: after a split or a dividend
upstream serves the whole past on another one.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any


@dataclass(frozen=True, slots=True)
class Tolerance:
    """Relative differences that still count as equal (stitching rule 11)."""

    price: float = 1e-4
    volume: float = 5e-3


@dataclass(frozen=True, slots=True)
class Basis:
    """Which columns of a record tell its basis."""

    prices: tuple[str, ...] = ("open", "high", "low", "close")
    adjusted: str | None = "adjclose"
    volume: str | None = "volume"


@dataclass(frozen=True, slots=True)
class Ratio:
    """What older records are multiplied by to stand on the newer basis."""

    price: float = 1.0
    adjusted: float = 1.0
    volume: float = 1.0

    def then(self, later: Ratio) -> Ratio:
        """Return the ratio of this change followed by a later one."""
        return Ratio(
            self.price * later.price,
            self.adjusted * later.adjusted,
            self.volume * later.volume,
        )


@dataclass(frozen=True, slots=True)
class Same:
    """The bars agree within the tolerance."""


@dataclass(frozen=True, slots=True)
class BasisChange:
    """Everything before now is on another basis; `ratio` leads from the old one to the new."""

    ratio: Ratio


@dataclass(frozen=True, slots=True)
class Restatement:
    """This bar was corrected; how far back that reaches is not known."""


Comparison = Same | BasisChange | Restatement

Row = Mapping[str, Any]


def comparable(row: Row, basis: Basis) -> bool:
    """Whether a bar says enough to be compared: every price is there and not zero."""
    return all(_number(row.get(column)) for column in basis.prices)


def compare(held: Row, fresh: Row | None, basis: Basis, tolerance: Tolerance) -> Comparison:
    """Tell what the difference between a held bar and its fresh copy means (stitching rule 11).

    `fresh` is `None` where upstream withdrew the bar.
    """
    if fresh is None or not comparable(fresh, basis):
        return Restatement()
    ratios = [fresh[column] / held[column] for column in basis.prices]
    price = sum(ratios) / len(ratios)
    one_ratio = all(_close(ratio, price, tolerance.price) for ratio in ratios)
    adjusted = _ratio(held, fresh, basis.adjusted)
    volume = _ratio(held, fresh, basis.volume)
    if not one_ratio or adjusted is _ONE_SIDED or volume is _ONE_SIDED:
        return Restatement()
    adjusted = 1.0 if adjusted is None else adjusted
    if _close(price, 1.0, tolerance.price):
        if volume is not None and not _close(volume, 1.0, tolerance.volume):
            return Restatement()
        if _close(adjusted, 1.0, tolerance.price):
            return Same()
        return BasisChange(Ratio(adjusted=adjusted))
    if volume is not None and not _close(volume * price, 1.0, tolerance.volume):
        return Restatement()
    return BasisChange(Ratio(price=price, adjusted=adjusted, volume=1.0 / price))


def rescale(row: Row, basis: Basis, ratio: Ratio) -> dict[str, Any]:
    """Return the record on the newer basis (stitching rule 12); volume stays a whole number."""
    result = dict(row)
    for column in basis.prices:
        if _number(result.get(column)):
            result[column] *= ratio.price
    if basis.adjusted is not None and _number(result.get(basis.adjusted)):
        result[basis.adjusted] *= ratio.adjusted
    if basis.volume is not None and _number(result.get(basis.volume)):
        result[basis.volume] = round(result[basis.volume] * ratio.volume)
    return result


_ONE_SIDED = math.nan


def _ratio(held: Row, fresh: Row, column: str | None) -> float | None:
    """Return fresh / held; `None` where neither says anything, `_ONE_SIDED` where only one does."""
    if column is None:
        return None
    before, after = _number(held.get(column)), _number(fresh.get(column))
    if before and after:
        return after / before
    return None if not before and not after else _ONE_SIDED


def _number(value: object) -> float:
    """Return a finite number that is not zero, or 0.0 for everything else."""
    if isinstance(value, (int, float)) and not isinstance(value, bool) and math.isfinite(value):
        return value
    return 0.0


def _close(left: float, right: float, tolerance: float) -> bool:
    return abs(left - right) <= tolerance * max(abs(left), abs(right))
