"""What is known of a series: disjoint intervals, each with an outcome and how long it holds.

Coverage says what is known, records say what there is: a weekend is covered and empty.
"""

from __future__ import annotations

from collections.abc import Container, Iterable, Sequence
from dataclasses import dataclass
from enum import StrEnum
from typing import NamedTuple

import msgspec
from msgspec.structs import replace

from gapless.domain.intervals import Interval, intersect, subtract, union
from gapless.domain.spans import Spans

# A range that ends within this of the instant it was asked at reached the present: bounds
# relative to now are floored to the second (stitching rule 1).
_PRESENT_MS = 1_000
# Rows of what does not age that are no further apart are told as one, with the older age: a series
# that grows day by day has a row a week, and what is forgotten by age goes by no more than that.
_ONE_AGE_MS = 7 * 86_400_000
# Clocks that differ by more are not those of one world; up to it they differ by the way between
# (stitching rule 1).
CLOCKS_APART_MS = 300_000


class Outcome(StrEnum):
    """What upstream had for an interval (stitching rule 2); a failure leaves no coverage."""

    HELD = "held"
    EMPTY = "empty"
    OUT_OF_WINDOW = "out_of_window"


class Mark(StrEnum):
    """What the reader of an answer must know of records that upstream no longer serves."""

    RESCALED = "rescaled"
    UNVERIFIED = "unverified"


# There may be hundreds of thousands of them, which the collector of garbage need not look through.
class Coverage(msgspec.Struct, frozen=True, gc=False):
    """One known interval. Instants are milliseconds UTC.

    `fetched_at` is when the request that brought it was sent: data is at least that fresh.
    `refresh_after` `None`: final. `commit` is the number of the commit that wrote it last
    (stitching rule 2). `changed_at`: when upstream was last seen to have changed a final record of
    it; `None`: never (stitching rule 14). `ratio`: by the splits of so many new shares for one old
    its records were rescaled since they were fetched; `None`: by none (stitching rule 12).
    """

    start: int
    end: int
    outcome: Outcome
    fetched_at: int
    refresh_after: int | None = None
    mark: Mark | None = None
    commit: int = 0
    changed_at: int | None = None
    ratio: float | None = None

    @property
    def interval(self) -> Interval:
        """The instants it speaks of."""
        return Interval(self.start, self.end)

    @property
    def final(self) -> bool:
        """Whether upstream is done with it (stitching rule 3)."""
        return self.refresh_after is None

    @property
    def reaches_present(self) -> bool:
        """Whether it ended at the present when it was fetched: a tail, not a patch."""
        return not self.final and self.asked_to_present

    @property
    def asked_to_present(self) -> bool:
        """Whether it was asked for up to the present, final or not."""
        return self.end >= self.fetched_at - _PRESENT_MS

    def due(self, now: int) -> bool:
        """Whether it must be fetched again before it is answered as fresh."""
        return self.refresh_after is not None and self.refresh_after <= now

    def joins(self, later: Coverage, revises: bool) -> bool:
        """Whether the two can be told as one row: touching, final, and alike but for some days.

        Of a series that `revises` only what one commit wrote: by its age it is told what is fresh.
        """
        alike = (
            self.commit == later.commit and self.fetched_at == later.fetched_at
            if revises
            else abs(self.fetched_at - later.fetched_at) <= _ONE_AGE_MS
        )
        return (
            self.end == later.start
            and alike
            and self.final
            and later.final
            and self.outcome == later.outcome
            and self.mark == later.mark
            and self.changed_at == later.changed_at
            and self.ratio == later.ratio
        )


@dataclass(frozen=True, slots=True)
class Ageing:
    """What of a series counts as fresh (stitching rule 9).

    What was fetched at `since` or later, milliseconds UTC, and by no commit earlier than `commit`.
    What says that it was fetched after `until`, or reaches beyond it, was fetched by a clock that
    was wrong (stitching rule 1). Of a provider that does not revise its past nothing ages.
    """

    since: int
    until: int
    commit: int = 0

    def fresh(self, row: Coverage) -> bool:
        """Whether what a row says need not be fetched again."""
        return (
            self.since <= row.fetched_at <= self.until
            and row.end <= self.until
            and self.commit <= row.commit
        )


def cut(rows: Iterable[Coverage], holes: Iterable[Coverage | Interval]) -> list[Coverage]:
    """Return the rows without what lies in the holes; a row over an edge of one keeps its rest."""
    over = Spans(union(Interval(hole.start, hole.end) for hole in holes))
    result: list[Coverage] = []
    for row in rows:
        parts = over.over(row.interval)
        if not parts:
            result.append(row)
            continue
        result += [
            replace(row, start=part.start, end=part.end) for part in subtract([row.interval], parts)
        ]
    return result


def insert(
    rows: Iterable[Coverage], fresh: Sequence[Coverage], revises: bool = False
) -> list[Coverage]:
    """Return the rows with `fresh` in place of whatever they said before, joined where alike.

    A joined row carries the older `fetched_at` of the two: no instant is claimed to be fresher
    than it is. It carries the later `commit`: nothing is claimed to be as it was that is not.
    """
    kept = cut(rows, fresh)
    result: list[Coverage] = []
    for row in sorted([*kept, *fresh], key=lambda one: one.start):
        if result and result[-1].joins(row, revises):
            last = result[-1]
            result[-1] = replace(
                last,
                end=row.end,
                fetched_at=min(last.fetched_at, row.fetched_at),
                commit=max(last.commit, row.commit),
            )
        else:
            result.append(row)
    return result


def changed(
    rows: Iterable[Coverage], before: Spans[Coverage], where: Iterable[Interval], at: int
) -> list[Coverage]:
    """Return new rows, cut where what was final was changed at different times.

    `where` it was changed now, at `at`; elsewhere it was when the rows before them say.
    """
    times = Spans(union(where))
    result: list[Coverage] = []
    for row in rows:
        left = [row.interval]
        parts: list[tuple[Interval, int | None]] = []
        for part, changed_at in (
            *((one, at) for one in times.over(row.interval)),
            *(
                (one.interval, one.changed_at)
                for one in before.over(row.interval)
                if one.changed_at is not None
            ),
        ):
            parts += [(hit, changed_at) for hit in intersect(left, [part])]
            left = subtract(left, [part])
        parts += [(part, None) for part in left]
        result += [
            replace(row, start=part.start, end=part.end, changed_at=changed_at)
            for part, changed_at in sorted(parts)
        ]
    return result


def gone(rows: Sequence[Coverage], interval: Interval, at: int, commit: int) -> list[Coverage]:
    """Return the rows with what they know of an interval as out of reach, asked for at `at`.

    `commit` is the number of the commit that does so (stitching rule 6).
    """
    lost = [
        replace(
            row,
            start=part.start,
            end=part.end,
            outcome=Outcome.OUT_OF_WINDOW,
            fetched_at=at,
            refresh_after=None,
            commit=commit,
        )
        for row in rows
        if row.outcome is not Outcome.EMPTY
        for part in intersect([row.interval], [interval])
    ]
    return insert(rows, lost, revises=True)


class Written(NamedTuple):
    """A part of a series and the commit that wrote it."""

    start: int
    end: int
    commit: int


def written(rows: Spans[Coverage], interval: Interval) -> tuple[Written, ...]:
    """Return which commits wrote what is known of `interval`.

    Two of them are equal as long as nothing was written or forgotten there (stitching rule 7).
    """
    parts = (Written(row.start, row.end, row.commit) for row in rows.over(interval))
    return clipped(parts, interval)


def unchanged(asked: tuple[Written, ...], now: tuple[Written, ...], own: Container[int]) -> bool:
    """Return whether nobody else has written or forgotten anything between two `written`.

    `own` are the commits of whoever asks; what they were joined with was written by them as well.
    """
    if union(map(_extent, asked)) != union(map(_extent, now)):
        return False
    before = Spans(asked)
    theirs = ((one, _extent(one)) for one in now if one.commit not in own)
    return all(clipped(before.over(extent), extent) == (one,) for one, extent in theirs)


def _extent(part: Written) -> Interval:
    return Interval(part.start, part.end)


def clipped(parts: Iterable[Written], interval: Interval) -> tuple[Written, ...]:
    """Return what of disjoint parts lies in `interval`, in order, those of one commit joined."""
    result: list[Written] = []
    for part in sorted(parts):
        start, end = max(part.start, interval.start), min(part.end, interval.end)
        if start >= end:
            continue
        if result and (result[-1].end, result[-1].commit) == (start, part.commit):
            result[-1] = result[-1]._replace(end=end)
        else:
            result.append(Written(start, end, part.commit))
    return tuple(result)
