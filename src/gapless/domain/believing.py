"""What is believed of an answer that contradicts what is known: loss and emptiness, slowly.

Stitching rule 6. Pure: what was held, what came and the hour are arguments.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from enum import StrEnum
from heapq import nlargest
from itertools import islice, pairwise
from operator import sub
from typing import Literal

from gapless.domain.intervals import Interval, hull, intersect, subtract, union
from gapless.instants import DAY_MS

# Upstream may withdraw a row or two at once, and not trade for two weeks.
MOST_LOST = 2
MOST_WEEKDAYS = 10
# Two answers this far apart are two, and not one fault.
APART_MS = 6 * 3_600_000
# So many stretches of one answer are told apart.
_MOST_PARTS = 128
_FIRST_PAUSE_MS = 15 * 60_000
# The first session of a day opens so long before the day begins, UTC: at ten in Auckland.
_EAST_MS = 3 * 3_600_000
# Days are counted from a Thursday.
_EPOCH_WEEKDAY = 3


class Suspicion(StrEnum):
    """What an answer said that is not believed yet: each is confirmed by its like alone."""

    LOSS = "unconfirmed_loss"
    EMPTY = "unconfirmed_empty"
    UNKNOWN = "unconfirmed_unknown"

    @property
    def reason(self) -> Literal["unconfirmed_loss", "unconfirmed_empty"]:
        """The reason in an answer's `why`: with its ticker all that is held is lost."""
        return "unconfirmed_empty" if self is Suspicion.EMPTY else "unconfirmed_loss"


@dataclass(frozen=True, slots=True)
class Sent:
    """When a request was sent: by the hub's clock, and the earliest and latest by any clock.

    Milliseconds UTC. A clock that is wrong for one answer makes no two answers of it.
    """

    own: int
    earliest: int
    latest: int

    @classmethod
    def at(cls, instant: int) -> Sent:
        """Return the instant by clocks that agree."""
        return cls(instant, instant, instant)


@dataclass(frozen=True, slots=True, order=True)
class Doubt:
    """A stretch of a series of which upstream said something that is not believed yet.

    Milliseconds UTC. `since`: when it first said so; `next_try`: from when on it is asked again;
    `tries`: how often it has said so.
    """

    start: int
    end: int
    suspicion: Suspicion
    since: int
    next_try: int
    tries: int = 1

    @property
    def interval(self) -> Interval:
        """The stretch."""
        return Interval(self.start, self.end)

    def confirmed(self, sent: Sent) -> bool:
        """Whether an answer to a request sent then, which says the same, is believed."""
        return sent.earliest - self.since >= APART_MS

    def over(self, interval: Interval) -> Doubt:
        """Return the same doubt of another stretch."""
        return Doubt(*interval, self.suspicion, self.since, self.next_try, self.tries)

    def again(self, interval: Interval, sent: Sent) -> Doubt:
        """Return the doubt after another answer that says the same: it is asked less often."""
        pause = min(_FIRST_PAUSE_MS << self.tries, APART_MS)
        return Doubt(*interval, self.suspicion, self.since, sent.own + pause, self.tries + 1)

    @classmethod
    def new(cls, interval: Interval, suspicion: Suspicion, sent: Sent) -> Doubt:
        """Return the doubt after the first answer that says so."""
        return cls(*interval, suspicion, sent.latest, sent.own + _FIRST_PAUSE_MS)


@dataclass(frozen=True, slots=True)
class Verdict:
    """What is made of an answer: what is not stored, and why; what is believed to be out of reach.

    The last is kept as it is held, without being doubted again, and may reach beyond the answer.
    """

    doubts: tuple[Doubt, ...] = ()
    lost_for_good: tuple[Interval, ...] = ()

    @property
    def withheld(self) -> list[Interval]:
        """Where what came is not stored."""
        return [doubt.interval for doubt in self.doubts]


@dataclass(frozen=True, slots=True)
class Lacking:
    """What an answer lacks.

    `lost` are the bars of final held records that it lacks, as far as they were asked for, those
    that follow one another in one run, `bar` how long each nominally is; `empty` the stretches
    that were never known and for which it has no rows, without what lies before the first trade,
    counted together. `asked` is all that it is an answer for. `most_lost`: so many bars are
    believed to be lost at once.
    """

    lost: Sequence[Sequence[Interval]]
    empty: Sequence[Interval]
    bar: int
    asked: Sequence[Interval]
    most_lost: int = MOST_LOST


def judge(lacking: Lacking, doubts: Iterable[Doubt], sent: Sent) -> Verdict:
    """Decide what is believed of an answer to a request sent at an instant.

    `doubts` are those of earlier answers: they confirm what they are about, and nothing beside it.
    """
    lost, empty, bar = lacking.lost, lacking.empty, lacking.bar
    earlier = sorted(doubts, key=lambda doubt: doubt.since)
    found: list[Doubt] = []
    gone: list[Interval] = []
    believed: list[Interval] = []
    many = sum(map(len, lost)) > lacking.most_lost
    for run in lost:
        again = [
            one
            for one in _doubted(hull(run), Suspicion.LOSS, earlier, sent, new=many)
            if _begun(run, [one.interval])
        ]
        parts = subtract([hull(run)], [one.interval for one in again])
        found += again
        believed += parts
        gone += _begun(run, parts)
    # What is shorter lies beside a bar of its own day, or is a night or a weekend.
    bare = telling(empty)
    long = weekdays(bare) > MOST_WEEKDAYS
    for stretch in empty if long else bare:
        found += _doubted(stretch, Suspicion.EMPTY, earlier, sent, new=long)
    # What was lost with it counts as well, and is kept with it: it may be asked for bit by bit.
    alike = subtract(union(_lost_together(earlier, believed)), lacking.asked)
    days = _days_of_bars(gone, bar) | _days_in(alike, bar)
    for_good = union([*believed, *alike]) if gone and len(days) > MOST_WEEKDAYS else []
    for_good = [hull(for_good[group]) for group in _groups(for_good)]
    return Verdict(_few(found), tuple(for_good))


def telling(empty: Iterable[Interval]) -> list[Interval]:
    """Return the stretches without rows that count: a day of the week at least."""
    return [one for one in empty if one.length >= DAY_MS and weekdays([one])]


def judge_unknown(held: Interval, doubts: Iterable[Doubt], sent: Sent) -> Doubt | None:
    """Decide what is believed of upstream's word that it does not know what is held.

    Returns the doubt that there is, `None` where it is believed. Only a doubt of all that is held
    says the same: where upstream has answered for a part since, it knows the ticker.
    """
    whole = [
        one for one in doubts if one.suspicion is Suspicion.UNKNOWN and one.interval.contains(held)
    ]
    if not whole:
        return Doubt.new(held, Suspicion.UNKNOWN, sent)
    before = min(whole, key=lambda doubt: doubt.since)
    return None if before.confirmed(sent) else before.again(held, sent)


def remaining(
    doubts: Iterable[Doubt], answered: Iterable[Interval], new: Iterable[Doubt]
) -> list[Doubt]:
    """Return the doubts of a series after some of it was answered for: those left, and the new."""
    over = list(answered)
    left = [doubt.over(part) for doubt in doubts for part in subtract([doubt.interval], over)]
    return sorted([*left, *new])


def unasked(doubts: Iterable[Doubt], now: int) -> list[Interval]:
    """Return where upstream is not asked again yet."""
    return [doubt.interval for doubt in doubts if doubt.next_try > now]


def to_retry(doubts: Iterable[Doubt], now: int) -> list[Interval]:
    """Return what is held and in doubt, and is to be asked for again, fresh or not."""
    return [
        one.interval
        for one in doubts
        if one.suspicion is not Suspicion.EMPTY and one.next_try <= now
    ]


def weekdays(intervals: Iterable[Interval]) -> int:
    """Count the days from Monday to Friday, UTC, that begin in the intervals."""
    return sum(
        _weekdays_before(-(-one.end // DAY_MS)) - _weekdays_before(-(-one.start // DAY_MS))
        for one in intervals
    )


def without_rows(interval: Interval, times: Sequence[int], bar: int) -> list[Interval]:
    """Return where an interval has no rows for so long that it may be in doubt.

    Neither at an instant, nor for a bar after one; `times` ascend. What is short counts at the
    edges alone: the answer for what lies beside may go on with it. A month, or another bar of more
    than a day, may have begun before the interval, which is its own until it ends.
    """
    if bar > DAY_MS:
        interval = Interval(interval.start + bar, interval.end)
    if not times:
        return [] if interval.empty else [interval]
    long = MOST_WEEKDAYS * DAY_MS + bar
    steps = map(sub, islice(times, 1, None), times)
    between = (
        Interval(times[at] + bar, times[at + 1]) for at, step in enumerate(steps) if step > long
    )
    stretches = [
        Interval(interval.start, times[0]),
        *between,
        Interval(times[-1] + bar, interval.end),
    ]
    return [one for one in stretches if not one.empty]


def _begun(bars: Iterable[Interval], parts: Sequence[Interval]) -> list[Interval]:
    """Return the bars that begin in some parts."""
    return [bar for bar in bars if any(part.start <= bar.start < part.end for part in parts)]


def _lost_together(earlier: Sequence[Doubt], believed: Sequence[Interval]) -> list[Interval]:
    """Return what else was lost by the same answers, or plans, as what is believed to be now."""
    losses = [one for one in earlier if one.suspicion is Suspicion.LOSS]
    since = {one.since for one in losses if intersect(believed, [one.interval])}
    return [one.interval for one in losses if one.since in since]


def _days_of_bars(bars: Sequence[Interval], bar: int) -> set[int]:
    """Return the weekdays of bars: one of each that is no longer than a day, all of a longer one.

    By their beginnings, for hardly any bar of a session has a midnight in it, and of a week that
    was asked for in part all is lost.
    """
    length = bar if bar > DAY_MS else 1
    return _days_in((Interval(one.start, one.start + length) for one in bars), bar)


def _days_in(stretches: Iterable[Interval], bar: int) -> set[int]:
    """Return the weekdays that stretches of bars are of, counted from 1970."""
    found: set[int] = set()
    for one in stretches:
        if bar > DAY_MS:
            found.update(range(-(-one.start // DAY_MS), -(-one.end // DAY_MS)))
        else:
            last = max(one.start, one.end - bar)
            found.update(range((one.start + _EAST_MS) // DAY_MS, (last + _EAST_MS) // DAY_MS + 1))
    return {day for day in found if (day + _EPOCH_WEEKDAY) % 7 < 5}


def _weekdays_before(day: int) -> int:
    """Count the weekdays before a day since a Monday long ago; `day` counts from 1970."""
    weeks, rest = divmod(day + _EPOCH_WEEKDAY, 7)
    return 5 * weeks + min(rest, 5)


def _doubted(
    stretch: Interval, suspicion: Suspicion, earlier: Iterable[Doubt], sent: Sent, *, new: bool
) -> Iterator[Doubt]:
    """Yield the doubts of what an answer says of a stretch; what is left of it is believed.

    `earlier`, the oldest first: a part that more of them are about goes by the oldest. What is in
    doubt stays so when it is asked for bit by bit; `new`: what is not yet comes into doubt.
    """
    left = [stretch]
    for doubt in earlier:
        if doubt.suspicion is suspicion and doubt.interval.overlaps(stretch):
            if not doubt.confirmed(sent):
                yield from (doubt.again(part, sent) for part in intersect(left, [doubt.interval]))
            left = subtract(left, [doubt.interval])
    if new:
        yield from (Doubt.new(part, suspicion, sent) for part in left)


def _few(doubts: Sequence[Doubt]) -> tuple[Doubt, ...]:
    """Return the doubts of one answer; of many, those near one another are one, as the newest."""
    found: list[Doubt] = []
    for suspicion in Suspicion:
        same = sorted(one for one in doubts if one.suspicion is suspicion)
        for group in _groups([one.interval for one in same]):
            newest = max(same[group], key=lambda one: one.since)
            found.append(newest.over(hull(one.interval for one in same[group])))
    return tuple(found)


def _groups(parts: Sequence[Interval]) -> Iterator[slice]:
    """Cut parts, which ascend, where the most lies between them, into so many as are told apart.

    What lies between those of one group counts as a part as well, so that it is as little as can
    be, and each later answer has less to compare.
    """
    between = [(later.start - one.end, at) for at, (one, later) in enumerate(pairwise(parts), 1)]
    cuts = sorted(at for _, at in nlargest(_MOST_PARTS - 1, between))
    if parts:
        yield from map(slice, [0, *cuts], [*cuts, len(parts)])
