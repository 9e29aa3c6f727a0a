"""One look at a range search: what is held of it at a moment, what it lacks, what it answers.

Every door and every way goes through here, so that a range is planned and put together by one
recipe. A look is made once for a request, handed along with it, and renewed when something was
fetched. All of it is pure: the series in memory and the hour are given.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from gapless.domain.believing import Doubt
from gapless.domain.freshness import Freshness
from gapless.domain.intervals import ALWAYS, Interval, subtract, union
from gapless.domain.planning import (
    Joining,
    Known,
    Plan,
    as_wide,
    clipped,
    plan,
    worth_taking_along,
)
from gapless.domain.series import SeriesKey
from gapless.errors import TooLarge
from gapless.hub.ageing import Ageings
from gapless.hub.answers import Answer, State, compose
from gapless.hub.beside import holds_final
from gapless.hub.course import Course, as_held
from gapless.hub.ranges import RangeSearch, reach
from gapless.hub.series import Series
from gapless.providers.base import Provider


@dataclass(frozen=True, slots=True)
class Rules:
    """By what ranges are looked at: what ages, which gaps are joined, how long an answer may be.

    `check_wait_s`: how long an answer waits that needs nothing else than what is fetched again.
    """

    ageings: Ageings
    joining: Joining
    check_wait_s: float
    max_records: int

    def check_size(self, records: int) -> None:
        """Raise `TooLarge` for more records than one answer may have."""
        most = self.max_records
        if records > most:
            raise TooLarge(
                f"the answer would have {records:,} records, more than the {most:,} one answer "
                "may have (limits.max_records); ask for shorter ranges, one after the other, or "
                "over HTTP, where it comes in pages"
            )


@dataclass(frozen=True, slots=True)
class Requests:
    """What is asked for: ranges, each with the part of it that must be had; one after the other?"""

    ranges: tuple[tuple[Interval, Interval], ...]
    serial: bool


class Look:
    """A range search, what is held of it, and its plan; `now` is in milliseconds UTC.

    `said` is the search as it was asked, `search` as its range is in its ticker's time zone. Where
    that is not known it is not `placed`, and as wide as it may be. `reach` is what the provider can
    serve of it.
    """

    __slots__ = ("now", "placed", "plan", "provider", "reach", "rules", "said", "search", "series")

    def __init__(
        self, rules: Rules, provider: Provider, said: RangeSearch, series: Series, now: int
    ) -> None:
        placed = said.placed(series.state.ticker)
        self.rules = rules
        self.provider = provider
        self.said = said
        self.series = series
        self.now = now
        self.placed = placed is not None
        self.search = said if placed is None else placed
        self.reach = reach(provider, said.key, now)
        self.plan = self._planned()

    @property
    def key(self) -> SeriesKey:
        """The series that is looked at."""
        return self.said.key

    @property
    def rows(self) -> int:
        """How many rows of coverage, and doubts, a plan of it goes through."""
        return rows_over(self.series, self.said.asked)

    @property
    def ready(self) -> bool:
        """Whether it can be answered from what is held, as it is wanted."""
        return (
            self.placed
            and self.plan.complete
            and self.search.fresh is not Freshness.NOW
            and (self.plan.fresh or self.search.fresh is Freshness.HELD)
        )

    def renewed(self, series: Series) -> Look:
        """Return the look at the series as it is by now; the very same one has the same plan."""
        if series.validity is self.series.validity:
            self.series = series
            return self
        return Look(self.rules, self.provider, self.said, series, self.now)

    def anywhere(self) -> Look:
        """Return the look where nobody knows of a time zone: days are those of UTC."""
        return Look(self.rules, self.provider, self.said.placed_in_utc(), self.series, self.now)

    def as_held(self) -> Plan:
        """Return the plan by which what is held is told, if only as due."""
        # At the beginning of time nothing is due.
        known = Known(self.series.state.coverage)
        return plan(self.search.asked, known, self.reach, -1)

    def requests(
        self, series: Series, gaps: Sequence[Interval], old: Sequence[Interval]
    ) -> Requests:
        """Decide what is asked for: each gap by itself, and with it what is not fresh (rule 9).

        `series` is the one that it is asked of.
        """
        key, info = series.state.key, self.provider.info
        known = self._known(series)
        served = reach(self.provider, key, self.now)
        if known.ageing is None:
            # Nothing is to be compared, so that nothing need wait for anything.
            return Requests(tuple((one, one) for one in union(gaps, old)), serial=info.whole)
        span = self.rules.ageings.span(key, self.provider.traits(key))
        failing = self.rules.ageings.failure(key) is not None
        near = Interval(
            min((one.start for one in (*gaps, *old)), default=0) - span,
            max((one.end for one in (*gaps, *old)), default=0) + span,
        )
        along = [] if failing else worth_taking_along(known, served, near, self.now)
        if not old and not along:
            compares = holds_final(series, served.served, known.ageing)
            serial = info.whole or not compares
            return Requests(tuple((gap, gap) for gap in gaps), serial)
        left = [*gaps, *old]
        ranges: list[tuple[Interval, Interval]] = []
        while left:
            wide = as_wide(as_wide(left[0], left, span), along, span)
            ranges.append((wide, left[0]))
            left = subtract(left, [wide])
        return Requests(tuple(ranges), serial=True)

    def cost(self, series: Series, wanted: Plan) -> int:
        """Count the requests upstream that a plan takes at least; `series` as for `requests`."""
        span = self.provider.traits(self.key).max_span
        asked = self.requests(series, wanted.gaps, wanted.aged)
        return sum(1 if span is None else -(-wide.length // span) for wide, _ in asked.ranges)

    def answer(
        self,
        wanted: Plan | None = None,
        course: Course | None = None,
        *,
        doubts: Sequence[Doubt] | None = None,
        total: int | None = None,
    ) -> Answer:
        """Put the answer together by a plan, its own unless another one is given.

        `course` is what has happened for it. `total`: it has so many records, and comes without
        them; `None`: with those in memory. Raises what `compose` does, and `TooLarge`.
        """
        if course is None and not self.plan.fresh:
            course = Course(unchecked=as_held(self.key))
        wanted = wanted or self.plan
        return compose(
            self.series,
            wanted,
            self.now,
            course,
            doubts=doubts,
            total=total,
            until=self._until,
        )

    def _planned(self) -> Plan:
        search = self.search
        wanted = plan(
            search.asked, self._known(self.series), self.reach, self.now, self.rules.joining
        )
        return wanted if search.latitude == 0 else clipped(wanted, search.latitude)

    def _known(self, series: Series) -> Known:
        state = series.state
        ageing = self.rules.ageings.of(self.provider, series, self.now)
        return Known(state.coverage, ageing, state.doubts)

    def _until(self, state: State, fetched_at: int, due: int | None) -> int | None:
        """Return until when the same words have the same answer; relative ones not at all."""
        search, now = self.search, self.now
        if not search.absolute or state is not State.READY or search.fresh is Freshness.NOW:
            return now
        until = self.rules.ageings.until(self.provider, self.series, fetched_at, now)
        if until is None or due is None:
            return due if until is None else until
        return min(until, due)


def rows_over(series: Series, interval: Interval) -> int:
    """Count what is known of an interval of a series: rows of coverage, and doubts."""
    i, j = series.state.coverage.bounds(interval)
    return j - i + len(series.state.doubts)


def needed(provider: Provider, interval: Interval) -> Interval:
    """Return how much of a series' directory must be at hand to fetch an interval of it.

    What is compared may lie anywhere; else what lies beside it is enough.
    """
    return ALWAYS if provider.info.revises else Interval(interval.start - 1, interval.end + 1)
