"""A range search to its end: look up, plan, fetch the gaps and what is not fresh, look again.

Apart from the hub, which knows what else can be asked.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from functools import partial

import structlog

from gapless.clock import Clock
from gapless.config.settings import CacheSettings, LimitSettings
from gapless.domain.believing import unasked
from gapless.domain.freshness import Freshness
from gapless.domain.intervals import Interval, intersect, subtract, union
from gapless.domain.planning import (
    Joining,
    Known,
    Plan,
    as_wide,
    clipped,
    plan,
    renewed,
    worth_taking_along,
)
from gapless.domain.series import SeriesKey
from gapless.errors import GaplessError, InternalError, QuotaExceeded, TooLarge
from gapless.hub.ageing import Ageings
from gapless.hub.answers import Answer, compose
from gapless.hub.beside import finals
from gapless.hub.callers import ANYBODY, Caller
from gapless.hub.course import Course, as_held, not_checked
from gapless.hub.filling import Filler
from gapless.hub.holdings import NOTHING, Holdings
from gapless.hub.hot import HotSeries
from gapless.hub.leases import Filled, Lease, Leases, LeaseTaken
from gapless.hub.queues import Queues
from gapless.hub.ranges import RangeSearch, present, reach
from gapless.hub.upstream import Upstream
from gapless.providers.base import Provider
from gapless.providers.registry import Registry
from gapless.store.base import Superseded

_log = structlog.get_logger("gapless.hub")

# Each round ends with something fetched, failed or overtaken; more is a fault of ours.
_MOST_ROUNDS = 200
# After the second time that stored data has become due, an answer is given (stitching rule 13).
_MOST_RESTATED = 2


@dataclass(frozen=True, slots=True)
class _Requests:
    """What is asked for: ranges, each with the part of it that must be had; one after the other?"""

    ranges: tuple[tuple[Interval, Interval], ...]
    serial: bool


class Searcher:
    """Answers range searches from what is held, going upstream for gaps and what is not fresh."""

    def __init__(
        self,
        holdings: Holdings,
        registry: Registry,
        clock: Clock,
        cache: CacheSettings,
        limits: LimitSettings,
        leases: Leases,
        upstream: Callable[[Provider], Upstream],
    ) -> None:
        self._holdings = holdings
        self._registry = registry
        self._clock = clock
        self._cache = cache
        self._limits = limits
        self._leases = leases
        self._queues = Queues(leases)
        self._upstream = upstream
        self.ageings = Ageings(cache, clock)
        self._joining = Joining(int(cache.join_distance_s * 1000), cache.max_gaps)

    async def search(
        self,
        search: RangeSearch,
        *,
        caller: Caller = ANYBODY,
        strict: bool = False,
        most_loaded: int | None = None,
    ) -> Answer:
        """Answer a range search, going upstream for what it lacks (stitching rules 5 to 16).

        `strict`: what is not fresh is waited for to its end, and not for `cache.check_wait_s`
        alone; so it is where everything was to be fetched again. `most_loaded`: an answer of more
        records comes without its slices, to be read block by block; `None` has it whole, or raises
        `TooLarge`. A `caller` who may not have anything fetched is told so of the gaps.
        """
        provider = self._registry.get(search.key.provider)
        now = self._clock.now_ms()
        anew = search.fresh is Freshness.NOW
        course = Course(caller, None if anew or strict else self._cache.check_wait_s)
        if search.fresh is Freshness.HELD:
            course.unchecked = as_held(search.key)
        try:
            return await self._searched(provider, search, course, now, most_loaded)
        finally:
            self._queues.leave(_fetched(provider, search.key), course)

    async def _searched(
        self,
        provider: Provider,
        search: RangeSearch,
        course: Course,
        now: int,
        most_loaded: int | None,
    ) -> Answer:
        said, anew = search, search.fresh is Freshness.NOW
        fetched = _fetched(provider, search.key)
        whole = most_loaded is None
        for _ in range(_MOST_ROUNDS):
            entry = await self._holdings.load(said.key, said.asked if whole else NOTHING)
            search, wanted = self._placed(provider, entry, said, now, course)
            course.gaps = union(course.gaps, wanted.gaps)
            if anew:
                served = reach(provider, search.key, now)
                wanted = renewed(wanted, served, course.answered)
            # What upstream has answered for in this request is as fresh as it gets.
            wanted = replace(wanted, aged=tuple(subtract(wanted.aged, course.answered)))
            if anew:
                busy = self._leases.overlapping(fetched, [*wanted.gaps, *wanted.aged])
                if busy and not course.begun:
                    # What is under way may have been fetched before this was asked for; what
                    # begins from now on is not.
                    course.begun = True
                    await self._leases.wait(busy)
                    continue
            course.begun = True
            if course.times_due >= _MOST_RESTATED and not wanted.fresh:
                course.give_up(wanted, search.key)
            elif await self._advance(provider, entry, wanted, search, now, course):
                continue
            by = entry if fetched == search.key else await self._holdings.load(fetched)
            answer = compose(
                entry,
                wanted,
                now,
                doubts=by.state.doubts,
                fetched=intersect(course.fetched, course.gaps),
                failures=course.failures,
                unchecked=course.unchecked,
                bad_values=course.bad_values,
                requests=course.requests,
                loaded=whole,
            )
            if not whole:
                assert most_loaded is not None
                total = await self._total(entry, answer.asked, most_loaded)
                if total is None:
                    continue
                if total <= most_loaded:
                    whole = True
                    continue
                answer = replace(answer, total=total)
            self.check_size(answer)
            return self.dated(provider, answer, search, now)
        _log.error("no end of planning", series=search.key.text, asked=search.asked, course=course)
        raise InternalError(f"{search.key.text} could not be planned to an end; the log has more")

    def _placed(
        self, provider: Provider, entry: HotSeries, said: RangeSearch, now: int, course: Course
    ) -> tuple[RangeSearch, Plan]:
        """Return a search as its range is in its ticker's time zone, and its plan.

        Where that is not known yet it stays as wide as it may be, until upstream was asked for
        it: an answer tells the zone, or there is none.
        """
        placed = said.placed(entry.state.ticker)
        search = said if placed is None else placed
        wanted = self.plan(provider, entry, search, now)
        if placed is None and (wanted.complete or course.answered or course.failures):
            search = said.placed_in_utc()
            wanted = self.plan(provider, entry, search, now)
        return search, wanted

    async def _total(self, entry: HotSeries, asked: Interval, enough: int) -> int | None:
        """Count the records of an answer, unless they are surely no more than `enough`.

        `None`: the series has changed meanwhile.
        """
        most = entry.state.count(asked)
        return most if most <= enough else await self._holdings.count(entry, asked)

    # One round of a range search

    async def _advance(
        self,
        provider: Provider,
        entry: HotSeries,
        wanted: Plan,
        search: RangeSearch,
        now: int,
        course: Course,
    ) -> bool:
        """Bring the answer one step nearer; return whether to look and plan again."""
        key = _fetched(provider, search.key)
        # What is due again as soon as it came, by an upstream whose clock is behind, is not asked
        # for over and over: it is told as due.
        known = (row.interval for row in entry.state.coverage)
        over = [failure.interval for failure in course.failures]
        over += intersect(course.answered, known)
        gaps = subtract(wanted.gaps, over)
        old = list(wanted.aged) if course.unchecked is None else []
        if not gaps and not old:
            return False
        if key != search.key:
            entry = await self._holdings.load(key)
            waiting = unasked(entry.state.doubts, now) if search.fresh is not Freshness.NOW else []
            again = [*waiting, *course.answered]
            doubted = intersect(gaps, again)
            if doubted:
                course.doubted(doubted)
                return True
            old = subtract(old, again)
            if not gaps and not old:
                return False
        if not course.caller.may_fetch:
            # What others have fetched just now is as good as held.
            under_way = self._leases.overlapping(key, [*gaps, *old])
            if under_way:
                await self._ended(under_way, gaps, old, course)
                return True
            course.denied(key, gaps)
            course.unchecked = not_checked(key) if old else course.unchecked
            return True
        failure = self.ageings.failure(key)
        if old and failure is not None and search.fresh is not Freshness.NOW:
            course.unchecked = failure
            return True
        if provider.info.whole and gaps:
            served = reach(provider, key, now)
            gaps = union(gaps, renewed(wanted, served).aged)
        patience = None if gaps else course.patience
        if _one_by_one(provider) and not self._queues.enter(key, course):
            ended = await self._queues.stand(key, course, [*gaps, *old], patience)
            if ended is None:
                course.pending(key)
            elif ended:
                await self._ended(ended, gaps, old, course)
            return True
        leases = self._begun(provider, entry, gaps, old, now, course)
        await self._ended(leases, gaps, old, course, patience)
        return True

    def _begun(
        self,
        provider: Provider,
        entry: HotSeries,
        gaps: Sequence[Interval],
        old: Sequence[Interval],
        now: int,
        course: Course,
    ) -> list[Lease]:
        """Find or start the tasks that fill the gaps (stitching rules 7 and 9)."""
        key = entry.state.key
        wanted = self._requests(provider, entry, gaps, old, now)
        # Tasks beside one another would have nothing to compare with, or fetch the same: one after
        # the other costs fewer requests.
        cores = dict(wanted.ranges[:1] if wanted.serial else wanted.ranges)
        filler = Filler(
            self._holdings, self._leases, self._upstream(provider), self._clock, self.ageings
        )
        leases = self._leases.overlapping(key, cores)
        for gap in self._leases.unleased(key, cores):
            lease = self._leases.launch(
                key,
                gap,
                partial(_filled, filler, cores.get(gap, gap)),
                reaches_present=gap.end >= present(now),
                caller=course.caller,
            )
            course.tallies.append(lease.tally)
            if _one_by_one(provider):
                self._queues.follow(lease)
            leases.append(lease)
        return leases or list(self._leases.of(key))

    async def _ended(
        self,
        leases: Sequence[Lease],
        gaps: Sequence[Interval],
        old: Sequence[Interval],
        course: Course,
        patience: float | None = None,
    ) -> None:
        """Wait for tasks, on the caller's behalf too, and note what they brought.

        What those come to that they had to give way to is the business of others: this request
        plans again after them.
        """
        if course.caller.may_fetch:
            for lease in leases:
                lease.tally.join(course.caller)
        outcomes = await self._leases.wait(leases, patience)
        ahead = {one for done in outcomes if isinstance(done, Filled) for one in done.behind}
        if ahead:
            await self._leases.wait(list(ahead), patience)
        for lease, outcome in zip(leases, outcomes, strict=True):
            course.answered += lease.answered
            course.fetched += lease.fetched
            course.bad_values += lease.bad_values
            if outcome is None:
                course.pending(lease.key)
            elif isinstance(outcome, Filled):
                if lease.overlaps([*gaps, *old]):
                    course.brought(outcome)
            elif not course.excuses(lease, outcome):
                course.failed(lease, gaps, old, outcome)
            if old and isinstance(outcome, GaplessError) and not isinstance(outcome, QuotaExceeded):
                self.ageings.failed(lease.key, outcome)
        if any(isinstance(done, Filled) and done.restated for done in outcomes):
            course.due_again()

    # What is known without asking

    def _requests(
        self,
        provider: Provider,
        entry: HotSeries,
        gaps: Sequence[Interval],
        old: Sequence[Interval],
        now: int,
    ) -> _Requests:
        """Decide what is asked for: each gap by itself, and with it what is not fresh (rule 9)."""
        key, info = entry.state.key, provider.info
        known = self._known(provider, entry, now)
        served = reach(provider, key, now)
        failing = self.ageings.failure(key) is not None
        along = [] if failing else worth_taking_along(known, served, now)
        if known.ageing is None:
            # Nothing is to be compared, so that nothing need wait for anything.
            return _Requests(tuple((one, one) for one in union(gaps, old)), serial=info.whole)
        if not old and not along:
            compares = bool(finals(entry, [served.served], known.ageing))
            serial = info.whole or not compares
            return _Requests(tuple((gap, gap) for gap in gaps), serial)
        span = self.ageings.span(key, provider.traits(key))
        left = [*gaps, *old]
        ranges: list[tuple[Interval, Interval]] = []
        while left:
            wide = as_wide(as_wide(left[0], left, span), along, span)
            ranges.append((wide, left[0]))
            left = subtract(left, [wide])
        return _Requests(tuple(ranges), serial=True)

    def requests(self, provider: Provider, entry: HotSeries, plan: Plan, now: int) -> int:
        """Count the requests that a plan takes at least."""
        span = provider.traits(entry.state.key).max_span
        wanted = self._requests(provider, entry, plan.gaps, plan.aged, now)
        return sum(1 if span is None else -(-wide.length // span) for wide, _ in wanted.ranges)

    def plan(self, provider: Provider, entry: HotSeries, search: RangeSearch, now: int) -> Plan:
        """Decide what of a search is answered from what is held, and what would be fetched."""
        known = self._known(provider, entry, now)
        wanted = plan(search.asked, known, reach(provider, search.key, now), now, self._joining)
        return wanted if search.latitude == 0 else clipped(wanted, search.latitude)

    def _known(self, provider: Provider, entry: HotSeries, now: int) -> Known:
        state = entry.state
        return Known(state.coverage, self.ageings.of(provider, entry, now), state.doubts)

    def dated(self, provider: Provider, answer: Answer, search: RangeSearch, now: int) -> Answer:
        """Say until when the same words have the same answer; relative ones not at all."""
        if not search.absolute or answer.state != "ready" or search.fresh is Freshness.NOW:
            return replace(answer, fresh_until=now)
        until = self.ageings.until(provider, answer.entry, answer.fetched_at, now)
        known = [one for one in (until, answer.fresh_until) if one is not None]
        return replace(answer, fresh_until=min(known, default=None))

    def check_size(self, answer: Answer) -> None:
        """Raise `TooLarge` for an answer of more records than one may have."""
        if answer.count > self._limits.max_records:
            raise TooLarge(
                f"the answer would have {answer.count:,} records, more than the "
                f"{self._limits.max_records:,} one answer may have (limits.max_records); ask for "
                "shorter ranges, one after the other, or over HTTP, where it comes in pages"
            )


def _fetched(provider: Provider, key: SeriesKey) -> SeriesKey:
    """Return the series that is asked for upstream where this one lacks something."""
    carrier = provider.traits(key).carrier
    return key if carrier is None else key.sibling(carrier)


def _one_by_one(provider: Provider) -> bool:
    """Whether one request at a time has a series fetched: bars are compared, or all is asked."""
    return provider.info.revises or provider.info.whole


async def _filled(filler: Filler, core: Interval, lease: Lease) -> Filled:
    """Fill what a lease holds; where that was overtaken, what it lacks is planned again."""
    try:
        return await filler.fill(lease, core)
    except LeaseTaken as taken:
        return Filled(behind=taken.by)
    except Superseded as overtaken:
        _log.info("overtaken, planning again", why=str(overtaken))
        return Filled()
