"""A range search to its end: look up, plan, fetch the gaps and what is not fresh, look again.

Apart from the hub, which knows what else can be asked.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from functools import partial

import structlog
from msgspec import structs

from gapless.clock import Clock
from gapless.computing import MANY, computed
from gapless.domain.believing import unasked
from gapless.domain.freshness import Freshness
from gapless.domain.intervals import Interval, hull, intersect, subtract, union
from gapless.domain.planning import Plan, renewed
from gapless.domain.series import SeriesKey
from gapless.errors import GaplessError, InternalError, QuotaExceeded
from gapless.hub.answers import Answer
from gapless.hub.callers import ANYBODY, Caller
from gapless.hub.course import Course, as_held, not_checked
from gapless.hub.filling import Filler
from gapless.hub.holdings import Holdings
from gapless.hub.leases import Filled, Lease, Leases, LeaseTaken
from gapless.hub.look import Look, Requests, Rules, needed, rows_over
from gapless.hub.queues import Queues
from gapless.hub.ranges import RangeSearch, present, reach
from gapless.hub.series import Series
from gapless.hub.upstream import Upstream
from gapless.providers.base import Provider
from gapless.store.base import Superseded

_log = structlog.get_logger("gapless.hub")

# Each round ends with something fetched, failed or overtaken; more is a fault of ours.
_MOST_ROUNDS = 200
# After the second time that stored data has become due, an answer is given (stitching rule 13).
_MOST_RESTATED = 2


class Searcher:
    """Answers range searches from what is held, going upstream for gaps and what is not fresh."""

    def __init__(
        self,
        holdings: Holdings,
        clock: Clock,
        rules: Rules,
        leases: Leases,
        upstream: Callable[[Provider], Upstream],
    ) -> None:
        self.rules = rules
        self._holdings = holdings
        self._clock = clock
        self._leases = leases
        self._queues = Queues(leases)
        self._upstream = upstream

    async def look(self, provider: Provider, search: RangeSearch, now: int) -> Look:
        """Look at a range without going upstream; `now` is in milliseconds UTC."""
        series = await self._holdings.directory(search.key, search.asked, runs=True)
        look = partial(Look, self.rules, provider, search, series, now)
        return await computed(rows_over(series, search.asked), look)

    async def search(
        self,
        look: Look,
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
        fresh, key = look.said.fresh, look.key
        waits = self.rules.check_wait_s
        course = Course(caller, None if fresh is Freshness.NOW or strict else waits)
        if fresh is Freshness.HELD:
            course.unchecked = as_held(key)
        try:
            return await self._searched(look, course, most_loaded)
        finally:
            self._queues.leave(_fetched(look.provider, key), course)

    async def _searched(self, look: Look, course: Course, most_loaded: int | None) -> Answer:
        key, anew = look.key, look.said.fresh is Freshness.NOW
        fetched = _fetched(look.provider, key)
        for _ in range(_MOST_ROUNDS):
            if not look.series.current:
                series = await self._holdings.directory(key, look.said.asked)
                look = await _renewed(look, series)
                if not series.current:
                    # It was changed while it was planned elsewhere.
                    continue
            if not look.placed and (look.plan.complete or course.answered or course.failures):
                # An answer tells the zone, or there is none.
                look = await computed(look.rows, look.anywhere)
            wanted = look.plan
            course.gaps = union(course.gaps, wanted.gaps)
            if anew:
                wanted = renewed(wanted, look.reach, course.answered)
            # What upstream has answered for in this request is as fresh as it gets.
            if wanted.aged and course.answered:
                wanted = structs.replace(wanted, aged=tuple(subtract(wanted.aged, course.answered)))
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
                course.give_up(wanted, key)
            elif await self._advance(look, wanted, course):
                continue
            answer = await self._answer(look, wanted, course, most_loaded)
            if answer is not None:
                return answer
        asked = look.said.asked
        _log.error("no end of planning", series=key.text, asked=asked, course=course)
        raise InternalError(f"{key.text} could not be planned to an end; the log has more")

    async def _answer(
        self, look: Look, wanted: Plan, course: Course, most_loaded: int | None
    ) -> Answer | None:
        """Put an answer together; `None`: the series has changed, so that it is planned again.

        How many records it has is known before any is read.
        """
        asked, series = wanted.asked, look.series
        doubts = None
        fetched = _fetched(look.provider, look.key)
        if fetched != look.key:
            doubts = (await self._holdings.directory(fetched)).state.doubts
        most = look.rules.max_records
        if most_loaded is not None:
            most = min(most, most_loaded)
        total = series.state.count(asked)
        if total > most:
            # So far those beyond the edges of the range are counted, too.
            counted = await self._holdings.count(series, asked)
            if counted is None:
                return None
            total = counted
        if most_loaded is not None and total > most_loaded:
            answer = partial(look.answer, wanted, course, doubts=doubts, total=total)
            return await computed(look.rows, answer)
        look.rules.check_size(total)
        if not series.holds(asked):
            found = await self._holdings.load(look.key, asked)
            if found.at() != series.at():
                return None
            look = look.renewed(found)
        return await computed(look.rows, partial(look.answer, wanted, course, doubts=doubts))

    # One round of a range search

    async def _advance(self, look: Look, wanted: Plan, course: Course) -> bool:
        """Bring the answer one step nearer; return whether to look and plan again."""
        search, provider, series = look.search, look.provider, look.series
        key = _fetched(provider, search.key)
        gaps = await computed(look.rows, partial(_open, look, wanted, course))
        old = list(wanted.aged) if course.unchecked is None else []
        if not gaps and not old:
            return False
        about = needed(provider, hull([*gaps, *old]))
        if key != search.key:
            series = await self._holdings.directory(key, about)
            doubts = series.state.doubts
            waiting = unasked(doubts, look.now) if search.fresh is not Freshness.NOW else []
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
        failure = self.rules.ageings.failure(key)
        if old and failure is not None and search.fresh is not Freshness.NOW:
            course.unchecked = failure
            return True
        if provider.info.whole and gaps:
            served = reach(provider, key, look.now)
            gaps = union(gaps, renewed(wanted, served).aged)
        patience = None if gaps else course.patience
        if _one_by_one(provider) and not self._queues.enter(key, course):
            ended = await self._queues.stand(key, course, [*gaps, *old], patience)
            if ended is None:
                course.pending(key)
            elif ended:
                await self._ended(ended, gaps, old, course)
            return True
        series = await self._holdings.directory(key, about)
        rows = len(gaps) + len(old) + rows_over(series, about)
        requests = await computed(rows, partial(look.requests, series, gaps, old))
        if rows > MANY and not (series.current and look.series.current):
            # What others have brought meanwhile is not fetched again.
            return True
        leases = self._begun(look, requests, key, course)
        await self._ended(leases, gaps, old, course, patience)
        return True

    def _begun(self, look: Look, wanted: Requests, key: SeriesKey, course: Course) -> list[Lease]:
        """Find or start the tasks that fill the gaps (stitching rules 7 and 9)."""
        provider = look.provider
        # Tasks beside one another would have nothing to compare with, or fetch the same: one after
        # the other costs fewer requests.
        cores = dict(wanted.ranges[:1] if wanted.serial else wanted.ranges)
        filler = Filler(
            self._holdings,
            self._leases,
            self._upstream(provider),
            self._clock,
            self.rules.ageings,
        )
        leases = self._leases.overlapping(key, cores)
        for gap in self._leases.unleased(key, cores):
            lease = self._leases.launch(
                key,
                gap,
                partial(_filled, filler, cores.get(gap, gap)),
                reaches_present=gap.end >= present(look.now),
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
                self.rules.ageings.failed(lease.key, outcome)
        if any(isinstance(done, Filled) and done.restated for done in outcomes):
            course.due_again()


async def _renewed(look: Look, series: Series) -> Look:
    """Return the look at a series as it is by now."""
    if series.validity is look.series.validity:
        return look.renewed(series)
    return await computed(rows_over(series, look.said.asked), partial(look.renewed, series))


def _open(look: Look, wanted: Plan, course: Course) -> list[Interval]:
    """Return the gaps of a plan that this request has not been answered for, and did not fail at.

    What is due again as soon as it came, by an upstream whose clock is behind, is not asked for
    over and over: it is told as due.
    """
    over = [failure.interval for failure in course.failures]
    if course.answered:
        rows = look.series.state.coverage.over(look.search.asked)
        over += intersect(course.answered, (row.interval for row in rows))
    return subtract(wanted.gaps, over)


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
