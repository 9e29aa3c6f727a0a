"""Comparing a held record with a fresh copy: does upstream serve another price by now?

Stitching rules 11 and 14. A split or a dividend changes the price of the whole past, a correction
that of some bars; either way what was stored before may be as old.
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from gapless.domain.blocks import Run
from gapless.domain.intervals import Interval

Row = Mapping[str, Any]


@dataclass(frozen=True, slots=True)
class Basis:
    """Which columns of a record tell its basis, and how far apart prices still count as equal.

    A record whose `prices` all have a value can be compared. `tolerance` is relative. That volumes
    differ says nothing: upstream corrects them for days.
    """

    prices: tuple[str, ...] = ("open", "high", "low", "close")
    adjusted: str | None = "adjclose"
    volume: str | None = "volume"
    tolerance: float = 1e-4

    def whole(self, row: Row) -> bool:
        """Whether a record says enough to be compared: every price is there and not zero."""
        return all(_number(row.get(column)) for column in self.prices)

    def differ(self, held: Row, fresh: Row) -> bool:
        """Whether the price of a record is another one by now; both are whole."""
        return any(
            abs(before - after) > self.tolerance * max(abs(before), abs(after))
            for column in (*self.prices, self.adjusted or "")
            if (before := _number(held.get(column))) and (after := _number(fresh.get(column)))
        )


def pairs(
    held: Run, fresh: Run, within: Sequence[Interval]
) -> Iterator[tuple[int, Row, Row | None]]:
    """Yield (index, held record, its fresh copy) in the intervals; `None`: there is no copy.

    Those whose text is the same are left out.
    """
    for interval in within:
        i, j = held.bounds(interval)
        k, m = fresh.bounds(interval)
        if (j - i, held.sum(i, j)) == (m - k, fresh.sum(k, m)):
            continue
        copies = {fresh.times[at]: at for at in range(k, m)}
        for at in range(i, j):
            copy = copies.get(held.times[at])
            if copy is None:
                yield at, held.row(at), None
            elif held.record(at) != fresh.record(copy):
                yield at, held.row(at), fresh.row(copy)


def _number(value: object) -> float:
    """Return a finite number that is not zero, or 0.0 for everything else."""
    if isinstance(value, (int, float)) and not isinstance(value, bool) and math.isfinite(value):
        return value
    return 0.0
