"""A range search to its end: look up, plan, fetch the gaps, look again.

Apart from the hub, which knows what else can be asked.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Sequence
from dataclasses import replace

import structlog

from gapless.clock import Clock
from gapless.domain.intervals import Interval, subtract
from gapless.domain.planning import Plan, everything, plan
from gapless.domain.series import SeriesKey
from gapless.errors import GaplessError, InternalError, QuotaExceeded, StoreError, TooLarge
from gapless.hub.answers import Answer, compose, not_renewed
from gapless.hub.bars import has_final
from gapless.hub.callers import ANYBODY, Caller
from gapless.hub.course import Course, not_verified
from gapless.hub.filling import Filler
from gapless.hub.holdings import Holdings
from gapless.hub.hot import HotSeries
from gapless.hub.leases import Filled, Lease, Leases, LeaseTaken
from gapless.hub.options import Options
from gapless.hub.ranges import RangeSearch, present, reach
from gapless.hub.upstream import Upstream
from gapless.providers.base import Provider
from gapless.providers.registry import Registry
from gapless.store.base import Superseded

_log = structlog.get_logger("gapless.hub")

# Each round ends with something fetched, failed or overtaken; more is a fault of ours.
_MOST_ROUNDS = 60


class Searcher:
    """Answers range searches from what is held, going upstream only for the gaps."""

    def __init__(
        self,
        holdings: Holdings,
        registry: Registry,
        clock: Clock,
        options: Options,
        leases: Leases,
        upstream: Callable[[Provider], Upstream],
    ) -> None:
        self._holdings = holdings
        self._registry = registry
        self._clock = clock
        self._options = options
        self._leases = leases
        self._upstream = upstream
        self._probe_after: dict[SeriesKey, tuple[float, GaplessError]] = {}

    async def search(
        self,
        search: RangeSearch,
        *,
        caller: Caller = ANYBODY,
        anew: bool = False,
        most_loaded: int | None = None,
    ) -> Answer:
        """Answer a range search, going upstream for its gaps (stitching rules 5 to 16).

        `anew`: all that upstream serves of the range is fetched, held or not. `most_loaded`: an
        answer of more records comes without its slices, to be read block by block; `None` has
        it whole, or raises `TooLarge`. A `caller` who may not have anything fetched is told so
        of the gaps.
        """
        provider = self._registry.get(search.key.provider)
        now = self._clock.now_ms()
        course = Course(caller)
        at_hand = search.asked if most_loaded is None else Interval(0, 0)
        for _ in range(_MOST_ROUNDS):
            entry = await self._holdings.load(search.key, at_hand)
            wanted = lacking = self.plan(provider, entry, search, now)
            if anew:
                lacking = everything(wanted, reach(provider, search.key, now), course.fetched)
                busy = self._leases.overlapping(search.key, lacking.gaps)
                if busy and not course.begun:
                    # What is under way may have been fetched before this was asked for; what
                    # begins from now on is not.
                    course.begun = True
                    await self._leases.wait(busy)
                    continue
            course.begun = True
            if course.bumps > self._options.max_bumps:
                course.give_up(wanted, search.key)
            elif await self._advance(provider, entry, lacking, search, now, course):
                continue
            answer = compose(
                entry,
                wanted,
                now,
                fetched=course.fetched,
                failures=course.failures,
                unverified=course.unverified,
                requests=course.requests,
                loaded=most_loaded is None,
            )
            if most_loaded is not None:
                total = await self._total(entry, search.asked, answer.generation, most_loaded)
                if total is None:
                    continue
                if total <= most_loaded:
                    at_hand, most_loaded = search.asked, None
                    continue
                answer = replace(answer, total=total)
            self.check_size(answer)
            if anew:
                answer = not_renewed(answer, course.failures)
            return self.dated(provider, answer, search, now)
        _log.error("no end of planning", series=search.key.text, asked=search.asked, course=course)
        raise InternalError(f"{search.key.text} could not be planned to an end; the log has more")

    async def _total(
        self, entry: HotSeries, asked: Interval, generation: int, enough: int
    ) -> int | None:
        """Count the records of an answer, unless they are surely no more than `enough`.

        `None`: the series has changed meanwhile.
        """
        most = entry.state.count(asked, generation)
        return most if most <= enough else await self._holdings.count(entry, asked, generation)

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
        key = search.key
        filler = Filler(self._holdings, self._leases, self._upstream(provider), self._clock)
        gaps = subtract(wanted.gaps, (failure.interval for failure in course.failures))
        if gaps and not course.caller.may_fetch:
            # What others have fetched just now is as good as held.
            under_way = self._leases.overlapping(key, gaps)
            if under_way:
                await self._ended(under_way, gaps, course)
            else:
                course.denied(key, gaps)
            return True
        if gaps:
            if provider.info.whole:
                gaps = list(everything(wanted, reach(provider, key, now)).gaps)
            leases = self._begun(provider, entry, filler, gaps, now, course)
            await self._ended(leases, gaps, course)
            return True
        if wanted.rescale and not course.failures:
            under_way = self._leases.overlapping(key, wanted.rescale)
            if not under_way:
                lease = self._leases.launch(
                    key,
                    wanted.rescale[0],
                    lambda lease: _settled(filler.rescale(lease, wanted.rescale)),
                )
                under_way = [lease]
            await self._ended(under_way, list(wanted.rescale), course)
            return True
        if course.unverified is None and self.basis_due(provider, entry, search.asked, now):
            if not course.caller.may_fetch:
                course.unverified = not_verified(key)
                return True
            return await self._verify(provider, filler, key, now, course)
        return False

    def _begun(
        self,
        provider: Provider,
        entry: HotSeries,
        filler: Filler,
        gaps: Sequence[Interval],
        now: int,
        course: Course,
    ) -> list[Lease]:
        """Find or start the tasks that fill the gaps (stitching rule 7)."""
        key = entry.state.key
        if provider.info.whole or (provider.info.revises and not has_final(entry)):
            # Tasks beside one another would have nothing to compare with, or fetch the same:
            # one after the other costs fewer requests.
            under_way = list(self._leases.of(key))
            if under_way:
                return under_way
            gaps = gaps[:1]
        leases = self._leases.overlapping(key, gaps)
        for gap in self._leases.unleased(key, gaps):
            lease = self._leases.launch(
                key,
                gap,
                lambda lease: _settled(filler.fill(lease)),
                reaches_present=gap.end >= present(now),
                caller=course.caller,
            )
            course.tallies.append(lease.tally)
            leases.append(lease)
        return leases or list(self._leases.of(key))

    async def _ended(
        self, leases: Sequence[Lease], gaps: Sequence[Interval], course: Course
    ) -> None:
        """Wait for tasks and note what they brought to these gaps."""
        for lease, outcome in await self._outcomes(leases, course):
            if isinstance(outcome, Filled):
                course.brought(outcome)
            elif not course.excuses(lease, outcome):
                course.failed(lease, gaps, outcome)

    async def _outcomes(
        self, leases: Sequence[Lease], course: Course
    ) -> list[tuple[Lease, Filled | GaplessError]]:
        """Wait for tasks, on the caller's behalf too, and for those that they had to give way to.

        What those come to is the business of others: this request plans again after them.
        """
        if course.caller.may_fetch:
            for lease in leases:
                lease.tally.join(course.caller)
        outcomes = await self._leases.wait(leases)
        ahead = {one for done in outcomes if isinstance(done, Filled) for one in done.behind}
        if ahead:
            await self._leases.wait(list(ahead))
        return list(zip(leases, outcomes, strict=True))

    async def _verify(
        self, provider: Provider, filler: Filler, key: SeriesKey, now: int, course: Course
    ) -> bool:
        """Check the basis by the oldest held bar before a full hit (stitching rule 10)."""
        later = self._probe_after.get(key)
        if later is not None:
            if self._clock.monotonic() < later[0]:
                course.unverified = later[1]
                return True
            del self._probe_after[key]
        oldest = await filler.oldest(key, now)
        if oldest is None:
            return await filler.disown(key)
        there = Interval(oldest.time, oldest.time + 1)
        leases = self._leases.overlapping(key, [there])
        if not leases:
            lease = self._leases.launch(
                key,
                there,
                lambda lease: _settled(filler.verify(lease, oldest)),
                caller=course.caller,
            )
            course.tallies.append(lease.tally)
            leases = [lease]
        for lease, outcome in await self._outcomes(leases, course):
            if isinstance(outcome, Filled):
                course.brought(outcome)
            elif isinstance(outcome, StoreError | InternalError):
                raise outcome
            elif isinstance(outcome, QuotaExceeded):
                # That one user asks too much says nothing of the series to others.
                if not course.excuses(lease, outcome):
                    course.unverified = outcome
            else:
                pause = max(self._options.retry_probe_s, outcome.retry_after_s or 0.0)
                self._put_off(key, pause, outcome.again())
                course.unverified = outcome
        return True

    def _put_off(self, key: SeriesKey, pause: float, error: GaplessError) -> None:
        """Remember that a probe failed and when it is worth another; forget what is over."""
        now = self._clock.monotonic()
        over = [one for one, (until, _) in self._probe_after.items() if until <= now]
        for one in over:
            del self._probe_after[one]
        self._probe_after[key] = (now + pause, error)

    # What is known without asking

    def plan(self, provider: Provider, entry: HotSeries, search: RangeSearch, now: int) -> Plan:
        """Decide what of a search is answered from what is held, and what would be fetched."""
        return plan(
            search.asked,
            entry.state.coverage,
            entry.state.generation,
            reach(provider, search.key, now),
            now,
            int(self._options.join_distance_s * 1000),
        )

    def basis_due(self, provider: Provider, entry: HotSeries, asked: Interval, now: int) -> bool:
        """Whether a full hit must check the basis first: records, a day, a session (rule 10)."""
        info, state = provider.info, entry.state
        if not info.revises or state.basis_checked_at is None:
            return False
        if now - state.basis_checked_at <= self._options.basis_ttl_s * 1000:
            return False
        if not any(
            block.generation == state.generation
            and block.first < asked.end
            and asked.start <= block.last
            for block in state.blocks
        ):
            return False
        return provider.session_closed(state.meta, state.basis_checked_at, now)

    def dated(self, provider: Provider, answer: Answer, search: RangeSearch, now: int) -> Answer:
        """Say until when the same words have the same answer; relative ones not at all."""
        if not search.absolute or answer.state != "ready":
            return replace(answer, fresh_until=now)
        checked = answer.entry.state.basis_checked_at
        if not provider.info.revises or checked is None:
            return answer
        due = checked + int(self._options.basis_ttl_s * 1000)
        if due <= now:
            # The check is past its time, but no session has closed since: ask again each time.
            return replace(answer, fresh_until=now)
        until = due if answer.fresh_until is None else min(due, answer.fresh_until)
        return replace(answer, fresh_until=until)

    def check_size(self, answer: Answer) -> None:
        """Raise `TooLarge` for an answer of more records than one may have."""
        if answer.count > self._options.max_records:
            raise TooLarge(
                f"the answer would have {answer.count:,} records, more than the "
                f"{self._options.max_records:,} one answer may have (limits.max_records); ask for "
                "shorter ranges, one after the other, or over HTTP, where it comes in pages"
            )


async def _settled(filling: Awaitable[Filled]) -> Filled:
    """Await a piece of filling; one that was overtaken brings nothing, and is planned again."""
    try:
        return await filling
    except LeaseTaken as taken:
        return Filled(behind=taken.by)
    except Superseded as overtaken:
        _log.info("overtaken, planning again", why=str(overtaken))
        return Filled()
