"""Dividends, splits and capital gains by their ex-dates: what an answer names, and what follows.

Stitching rules 11, 12 and 21. Pure: what is stored and what came are arguments. A record of them
has the time of its ex-date's session open, and `dividend`, `split` and `capital_gain`, each a
number or null; a split is new shares for one old.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from math import isclose
from typing import Any

from gapless.domain.blocks import Run, encode_all
from gapless.domain.intervals import Interval
from gapless.instants import DAY_MS

COLUMNS = ("dividend", "split", "capital_gain")
# Amounts that are no further apart, relatively, are the same one told with other digits.
_TOLERANCE = 1e-4
# How long before and after its ex-date upstream may begin to show a split.
_NEAR_MS = 14 * DAY_MS
# Of several splits together: what is rescaled by more could not be had back.
_MOST_RATIO = 1e6


def run_of(actions: Iterable[Mapping[str, Any]]) -> Run:
    """Return actions, which ascend, as records; their `timestamp` is in Unix seconds."""
    rows = list(actions)
    return Run.of_texts([row["timestamp"] * 1000 for row in rows], encode_all(rows))


def merged(stored: Run, named: Run) -> Run:
    """Return actions as they are known after an answer that names some of them."""
    if not len(named) or not len(stored):
        return stored if len(stored) else named
    known = {stored.times[at]: stored.row(at) for at in range(len(stored))}
    for at, time in enumerate(named.times):
        row = named.row(at)
        told = {name: value for name, value in row.items() if value is not None}
        known[time] = {**row, **known.get(time, {}), **told}
    return Run.of_texts(sorted(known), encode_all([known[time] for time in sorted(known)]))


def differing(
    stored: Run, named: Run, covered: Sequence[Interval], whole: Sequence[Interval]
) -> list[Interval]:
    """Return the instants of the ex-dates that an answer tells otherwise than they are stored.

    That counts only where actions are `covered`. Of the `whole` intervals the answer names all
    that there are, so that one which it does not name is gone, and one of another kind on the same
    day; elsewhere it may name some.
    """
    known = {stored.times[at]: stored.row(at) for at in range(len(stored))}
    told = {named.times[at]: named.row(at) for at in range(len(named))}
    other = [
        time
        for time, row in told.items()
        if time not in known or _differ(known[time], row, whole=_within(time, whole))
    ]
    gone = [time for time in known.keys() - told.keys() if _within(time, whole)]
    return [Interval(time, time + 1) for time in sorted([*other, *gone]) if _within(time, covered)]


def ratio_since(actions: Run, at: int) -> float | None:
    """Return new shares for one old by the splits after an instant, milliseconds UTC; 1.0: none.

    `None`: a split is so near to it that what was served then may show it, or may not, for upstream
    names splits some days ahead at times, and others some days late; or the ratio makes no sense.
    Two alike within two weeks are one, whose ex-date was corrected.
    """
    ratio, before = 1.0, (0, 0.0)
    for time, split in splits_of(actions):
        if abs(time - at) <= _NEAR_MS:
            return None
        again = split == before[1] and time - before[0] <= _NEAR_MS
        before = (time, split)
        if time > at and not again:
            ratio *= split
    return ratio if 1 / _MOST_RATIO <= ratio <= _MOST_RATIO else None


def splits_of(actions: Run) -> list[tuple[int, float]]:
    """Return the splits as the time of each, milliseconds UTC, and new shares for one old."""
    rows = map(actions.row, range(len(actions)))
    named = zip(actions.times, (row.get("split") for row in rows), strict=True)
    return [(time, split) for time, split in named if split]


def _differ(stored: Mapping[str, Any], named: Mapping[str, Any], *, whole: bool) -> bool:
    return any(
        (stored.get(column) is None) != (named.get(column) is None)
        or not isclose(stored.get(column) or 0.0, named.get(column) or 0.0, rel_tol=_TOLERANCE)
        for column in COLUMNS
        if whole or named.get(column) is not None
    )


def _within(time: int, intervals: Sequence[Interval]) -> bool:
    return any(start <= time < end for start, end in intervals)
