"""Bars on another basis than they are held on: as traded, less dividends, after a further split.

Pure. Providers that adjust hold prices as upstream tells them: divided by all splits up to today,
and beside the close one from which dividends are taken off as well. The other forms are made of
that when they are asked for, column by column, and are stored nowhere.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from enum import StrEnum
from operator import mul, truediv
from typing import Any, NamedTuple, TypeAlias

import msgspec

from gapless.domain.blocks import Run, encode_all
from gapless.domain.comparing import Basis

_Columns: TypeAlias = dict[str, list[Any]]
_Operator: TypeAlias = Callable[[float, float], float]

_MOST_VOLUME = 1 << 63
_CLOSE = "close"


class Adjustment(StrEnum):
    """What bars are made of those held: as traded on the day, or less dividends as well."""

    NONE = "none"
    ALL = "all"


class Undoing(NamedTuple):
    """A split: bars before its ex-date `first`, milliseconds UTC, are divided by `ratio`."""

    first: int
    ratio: float


def as_traded(run: Run, splits: Iterable[Undoing], basis: Basis) -> Run:
    """Return bars with the splits that came after each of them undone: prices and volume.

    The adjusted close stays as it is, for nothing was ever traded at it.
    """
    ratios = [1.0] * len(run)
    for first, ratio in splits:
        before = sum(time < first for time in run.times)
        ratios[:before] = [known * ratio for known in ratios[:before]]

    def change(columns: _Columns) -> None:
        for name in basis.prices:
            columns[name] = _prices(mul, columns[name], ratios)
        if basis.volume:
            columns[basis.volume] = _volumes(truediv, columns[basis.volume], ratios)

    return _changed(run, (*basis.prices, *filter(None, [basis.volume])), change)


def less_dividends(run: Run, basis: Basis) -> Run:
    """Return bars whose prices are multiplied by the adjusted close over the close.

    Where one of the two is null, or the close 0, prices are null. The volume stays.
    """
    adjusted = basis.adjusted
    assert adjusted is not None, "bars without an adjusted close are not asked for so"

    def change(columns: _Columns) -> None:
        factors = [
            None if not close or new is None else new / close
            for close, new in zip(columns[_CLOSE], columns[adjusted], strict=True)
        ]
        for name in basis.prices:
            columns[name] = _prices(mul, columns[name], factors)
        # Without a detour by its factor, which could cost the last digit.
        columns[_CLOSE] = [
            None if factor is None else new
            for factor, new in zip(factors, columns[adjusted], strict=True)
        ]

    return _changed(run, (*basis.prices, adjusted), change)


def rescaled(run: Run, ratio: float, basis: Basis) -> Run:
    """Return bars as they are after a split of `ratio` new shares for one old.

    A volume beyond 64 bits is null.
    """
    prices = [*basis.prices, *filter(None, [basis.adjusted])]
    ratios = [ratio] * len(run)

    def change(columns: _Columns) -> None:
        for name in prices:
            columns[name] = _prices(truediv, columns[name], ratios)
        if basis.volume:
            columns[basis.volume] = _volumes(mul, columns[basis.volume], ratios)

    return _changed(run, (*prices, *filter(None, [basis.volume])), change)


def _changed(run: Run, names: Iterable[str], change: Callable[[_Columns], None]) -> Run:
    """Return records with some columns changed; a record gets none that it has not."""
    rows: list[dict[str, Any]] = msgspec.json.decode(b"[%b]" % run.text)
    columns = {name: [row.get(name) for row in rows] for name in names}
    change(columns)
    for name, values in columns.items():
        for row, value in zip(rows, values, strict=True):
            if name in row:
                row[name] = value
    return Run.of_texts(list(run.times), encode_all(rows))


def _prices(
    operator: _Operator, values: Sequence[float | None], by: Sequence[float | None]
) -> list[float | None]:
    return [
        None if value is None or other is None else operator(value, other)
        for value, other in zip(values, by, strict=True)
    ]


def _volumes(
    operator: _Operator, values: Sequence[int | None], by: Sequence[float]
) -> list[int | None]:
    shares = [
        None if value is None else round(operator(value, other))
        for value, other in zip(values, by, strict=True)
    ]
    return [None if value is None or value >= _MOST_VOLUME else value for value in shares]
