"""The hub: look up, plan, fetch the gaps, store, answer."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from functools import partial
from typing import cast

import structlog

from gapless.clock import Clock
from gapless.domain.intervals import Interval, subtract
from gapless.domain.planning import Plan, Reach, everything, plan
from gapless.domain.series import SeriesKey
from gapless.errors import (
    GaplessError,
    InternalError,
    NotFound,
    ProviderError,
    StoreError,
    TooLarge,
    Unsupported,
)
from gapless.hub.answers import Answer, compose, not_renewed
from gapless.hub.bars import has_final
from gapless.hub.course import Course
from gapless.hub.entities import Entities, Listing, ListingLimits, matches, may_match
from gapless.hub.filling import Filler
from gapless.hub.flights import Filled, Flight, Flights
from gapless.hub.holdings import Holdings
from gapless.hub.hot import HotSeries, HotTier
from gapless.hub.ranges import (
    RangeSearch,
    default_range,
    present,
    range_search,
    reach,
    series_key,
    shortened,
)
from gapless.hub.upstream import Asked, Limits, Tally, Upstream
from gapless.protocol.messages import (
    GetAllEntities,
    GetEntities,
    GetEntity,
    GetReport,
    ProviderRequest,
    Request,
    SearchEntities,
)
from gapless.providers.base import EntityProvider, Provider
from gapless.providers.registry import Registry
from gapless.store.base import EntityFilter, Store, Superseded

_log = structlog.get_logger("gapless.hub")

# Each round ends with something fetched, failed or overtaken; more is a fault of ours.
_MOST_ROUNDS = 60


@dataclass(frozen=True, slots=True)
class Options:
    """What the hub allows itself; seconds, bytes and counts by name."""

    upstream: Limits = Limits()
    hot_bytes: int = 256 << 20
    basis_ttl_s: float = 86_400
    join_distance_s: float = 0
    max_bumps: int = 2
    max_records: int = 1_000_000
    max_entities: int = 1_000
    default_entities: int = 100
    max_listing_bytes: int = 4 << 20
    retry_probe_s: float = 60


class Hub:
    """Answers requests to providers from the store, going upstream only for the gaps."""

    def __init__(
        self,
        store: Store,
        registry: Registry,
        clock: Clock,
        options: Options | None = None,
        observe: Callable[[Asked], None] = lambda asked: None,
        seed: int | None = None,
    ) -> None:
        self.options = options or Options()
        self.registry = registry
        self.clock = clock
        self.hot = HotTier(self.options.hot_bytes)
        self.holdings = Holdings(store, self.hot)
        self.entities = Entities(
            self.holdings,
            clock,
            ListingLimits(
                self.options.max_entities,
                self.options.default_entities,
                self.options.max_listing_bytes,
                self.options.max_records,
            ),
            self.basis_due,
        )
        self.flights = Flights()
        self._store = store
        self._observe = observe
        self._seed = seed
        self._upstreams: dict[str, Upstream] = {}
        self._probe_after: dict[SeriesKey, tuple[float, GaplessError]] = {}
        # Answers that are kept ready hang on the series in memory.
        registry.replaced.append(self.hot.forget)

    def upstream(self, provider: Provider) -> Upstream:
        """Return the provider as it is asked, with its budget and breaker."""
        name = provider.info.name
        found = self._upstreams.get(name)
        if found is None or found.provider is not provider:
            found = Upstream(provider, self.clock, self.options.upstream, self._observe, self._seed)
            self._upstreams[name] = found
        return found

    def held(self, request: ProviderRequest) -> Answer | None:
        """Answer a range search at once if all of it is fresh and in memory; else `None`.

        Raises what is wrong with the request. Never waits, so it is called where requests are
        read.
        """
        if type(request.request) is not SearchEntities:
            return None
        provider = self.registry.get(request.provider)
        now = self.clock.now_ms()
        search = range_search(provider, request.request.query, now)
        if search is None or search.others:
            return None
        entry = self.hot.get(search.key)
        if entry is None:
            return None
        wanted = self.plan(provider, entry, search, now)
        if not wanted.complete or entry.lacking(search.asked):
            return None
        if self.basis_due(provider, entry, search.asked, now):
            return None
        self.hot.hits += 1
        answer = compose(entry, wanted, now)
        self._check_size(answer)
        return self._dated(provider, answer, search, now)

    async def answer(self, request: ProviderRequest, strict: bool = False) -> Answer | Listing:
        """Answer any request to a provider; `strict`: a partial answer is an error."""
        provider = self.registry.get(request.provider)
        match request.request:
            case SearchEntities(query, limit):
                search = range_search(provider, query, self.clock.now_ms())
                if search is None and provider.info.entities:
                    return await self._asked(provider, request.request, limit)
                if search is None:
                    return await self.entities.filtered(provider, query, limit)
                if limit == 0 or not may_match(search):
                    return Listing(())
                return await self._range(provider, search, strict)
            case GetEntity(id):
                return await self._by_id(provider, id, strict)
            case GetEntities(ids):
                return await self.entities.many(provider, ids)
            case GetAllEntities(limit, offset):
                return await self.entities.listed(
                    EntityFilter(source=provider.info.name), limit, offset or 0
                )
            case GetReport():
                if provider.info.entities:
                    return await self._asked(provider, request.request, None)
                raise Unsupported(
                    f"{provider.info.name} has no reports; ask it for a ticker with search"
                )

    async def records(
        self, request: ProviderRequest, strict: bool = False, most_loaded: int | None = None
    ) -> Answer:
        """Answer a search by ticker and range alone; see `search`."""
        provider = self.registry.get(request.provider)
        assert isinstance(request.request, SearchEntities)
        search = range_search(provider, request.request.query, self.clock.now_ms())
        assert search is not None and not search.others
        return _complete(await self.search(search, most_loaded=most_loaded), strict)

    async def search(
        self, search: RangeSearch, *, anew: bool = False, most_loaded: int | None = None
    ) -> Answer:
        """Answer a range search, going upstream for its gaps (stitching rules 5 to 16).

        `anew`: all that upstream serves of the range is fetched, held or not. `most_loaded`: an
        answer of more records comes without its slices, to be read block by block; `None` has
        it whole, or raises `TooLarge`.
        """
        provider = self.registry.get(search.key.provider)
        now = self.clock.now_ms()
        course = Course()
        at_hand = search.asked if most_loaded is None else Interval(0, 0)
        for _ in range(_MOST_ROUNDS):
            entry = await self.holdings.load(search.key, at_hand)
            wanted = self.plan(provider, entry, search, now)
            if anew and not course.begun:
                wanted = everything(wanted, reach(provider, search.key, now))
            course.begun = True
            if course.bumps > self.options.max_bumps:
                course.give_up(wanted, search.key)
            elif await self._advance(provider, entry, wanted, search, now, course):
                continue
            if most_loaded is not None and entry.state.count(search.asked) <= most_loaded:
                at_hand = search.asked
                most_loaded = None
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
            self._check_size(answer)
            if anew:
                answer = not_renewed(answer, course.failures)
            return self._dated(provider, answer, search, now)
        _log.error("no end of planning", series=search.key.text, asked=search.asked, course=course)
        raise InternalError(f"{search.key.text} could not be planned to an end; the log has more")

    async def warm(self) -> Answer | None:
        """Prepare what the first request would otherwise pay for: statements, connections, code.

        Rehearses on a block of any series that is held and returns the answer, `None` where
        nothing is held. Nothing is asked upstream, and nothing stays in memory.
        """
        key = await self._store.warm()
        if key is None:
            return None
        entry = await self.holdings.load(key)
        blocks = entry.state.blocks
        if not blocks:
            return None
        asked = blocks[0].interval
        entry = await self.holdings.load(key, asked)
        whole = Reach(asked.start, asked.end, asked.start)
        # At the beginning of time nothing is due.
        wanted = plan(asked, entry.state.coverage, blocks[0].generation, whole, -1)
        self.hot.drop(key)
        return compose(entry, wanted, self.clock.now_ms())

    async def prune(self, before: int) -> tuple[int, int]:
        """Forget what was fetched before that instant; return (series touched, records gone)."""
        gone = await self._store.prune(before)
        self.hot.clear()
        return gone

    async def statistics(self) -> dict[str, int]:
        """Count what is stored, what is in memory, and what it cost upstream."""
        figures = await self._store.figures()
        return {
            "series": figures.series,
            "blocks": figures.blocks,
            "records": figures.records,
            "bytes": figures.bytes,
            "hot_series": len(self.hot),
            "hot_bytes": self.hot.size,
            "hot_hits": self.hot.hits,
            "hot_misses": self.hot.misses,
            "upstream_requests": sum(one.requests for one in self._upstreams.values()),
        }

    async def close(self, timeout: float = 5.0) -> None:
        """Let fetches under way end, or cancel them; nothing half-done is stored."""
        await self.flights.drain(timeout)
        await asyncio.gather(*(provider.aclose() for provider in self.registry.all()))

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
        filler = Filler(self.holdings, self.upstream(provider), self.clock)
        gaps = subtract(wanted.gaps, (failure.interval for failure in course.failures))
        if gaps:
            if provider.info.whole:
                gaps = list(everything(wanted, reach(provider, key, now)).gaps)
            flights = self._take_off(provider, entry, filler, gaps, now, course)
            await self._land(flights, gaps, course)
            return True
        if wanted.rescale and not course.failures:
            flight = self.flights.launch(
                key,
                wanted.rescale[0],
                lambda _, tally: _settled(filler.rescale(key, wanted.rescale)),
            )
            await self._land([flight], list(wanted.rescale), course)
            return True
        if course.unverified is None and self.basis_due(provider, entry, search.asked, now):
            return await self._verify(provider, filler, key, now, course)
        return False

    def _take_off(
        self,
        provider: Provider,
        entry: HotSeries,
        filler: Filler,
        gaps: Sequence[Interval],
        now: int,
        course: Course,
    ) -> list[Flight]:
        """Find or start the tasks that fill the gaps (stitching rule 7)."""
        key = entry.state.key
        if provider.info.whole or (provider.info.revises and not has_final(entry)):
            # Tasks beside one another would have nothing to compare with, or fetch the same:
            # one after the other costs fewer requests.
            under_way = list(self.flights.of(key))
            if under_way:
                return under_way
            gaps = gaps[:1]
        flights = self.flights.overlapping(key, gaps)
        for gap in self.flights.unleased(key, gaps):
            to_present = gap.end >= present(now)
            flight = self.flights.launch(
                key,
                gap,
                partial(_fill, filler, key, to_present),
                reaches_present=to_present,
            )
            course.tallies.append(flight.tally)
            flights.append(flight)
        return flights or list(self.flights.of(key))

    async def _land(
        self, flights: Sequence[Flight], gaps: Sequence[Interval], course: Course
    ) -> None:
        """Wait for tasks and note what they brought to these gaps."""
        outcomes = await self.flights.wait(flights)
        for flight, outcome in zip(flights, outcomes, strict=True):
            if isinstance(outcome, Filled):
                course.brought(outcome)
            else:
                course.failed(flight.interval, gaps, outcome)

    async def _verify(
        self, provider: Provider, filler: Filler, key: SeriesKey, now: int, course: Course
    ) -> bool:
        """Check the basis by the oldest held bar before a full hit (stitching rule 10)."""
        later = self._probe_after.get(key)
        if later is not None:
            if self.clock.monotonic() < later[0]:
                course.unverified = later[1]
                return True
            del self._probe_after[key]
        oldest = await filler.oldest(key, now)
        if oldest is None:
            return await filler.disown(key)
        lease = Interval(oldest.time, oldest.time + 1)
        flights = self.flights.overlapping(key, [lease])
        if not flights:
            flight = self.flights.launch(
                key, lease, lambda _, tally: _settled(filler.verify(key, oldest, tally))
            )
            course.tallies.append(flight.tally)
            flights = [flight]
        for outcome in await self.flights.wait(flights):
            if isinstance(outcome, Filled):
                course.brought(outcome)
            elif isinstance(outcome, StoreError | InternalError):
                raise outcome
            else:
                pause = max(self.options.retry_probe_s, outcome.retry_after_s or 0.0)
                self._put_off(key, pause, outcome.again())
                course.unverified = outcome
        return True

    def _put_off(self, key: SeriesKey, pause: float, error: GaplessError) -> None:
        """Remember that a probe failed and when it is worth another; forget what is over."""
        now = self.clock.monotonic()
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
            int(self.options.join_distance_s * 1000),
        )

    def basis_due(self, provider: Provider, entry: HotSeries, asked: Interval, now: int) -> bool:
        """Whether a full hit must check the basis first: records, a day, a session (rule 10)."""
        info, state = provider.info, entry.state
        if not info.revises or state.basis_checked_at is None:
            return False
        if now - state.basis_checked_at <= self.options.basis_ttl_s * 1000:
            return False
        if not any(
            block.generation == state.generation
            and block.first < asked.end
            and asked.start <= block.last
            for block in state.blocks
        ):
            return False
        return provider.session_closed(state.meta, state.basis_checked_at, now)

    def _dated(self, provider: Provider, answer: Answer, search: RangeSearch, now: int) -> Answer:
        """Say until when the same words have the same answer; relative ones not at all."""
        if not search.absolute or answer.state != "ready":
            return replace(answer, fresh_until=now)
        checked = answer.entry.state.basis_checked_at
        if not provider.info.revises or checked is None:
            return answer
        due = checked + int(self.options.basis_ttl_s * 1000)
        if due <= now:
            # The check is past its time, but no session has closed since: ask again each time.
            return replace(answer, fresh_until=now)
        until = due if answer.fresh_until is None else min(due, answer.fresh_until)
        return replace(answer, fresh_until=until)

    def _check_size(self, answer: Answer) -> None:
        if answer.count > self.options.max_records:
            raise TooLarge(
                f"the answer would have {answer.count:,} records, more than the "
                f"{self.options.max_records:,} one answer may have; ask for a shorter range, "
                "one after the other"
            )

    # Entities

    async def _range(
        self, provider: Provider, search: RangeSearch, strict: bool
    ) -> Answer | Listing:
        answer = _complete(await self.search(search), strict)
        now = self.clock.now_ms()
        if not all(matches(answer, item, now) for item in search.others):
            return Listing(())
        return answer

    async def _by_id(self, provider: Provider, id: str, strict: bool) -> Answer | Listing:
        """Answer an id; one that is no stored entity's is read as a ticker, of the last 30 days."""
        found = await self.entities.stored(provider, id)
        if found is not None:
            return found
        if provider.info.entities:
            listing = await self._asked(provider, GetEntity(id), None)
            if not listing.entities:
                raise NotFound(f"{provider.info.name} has no entity {shortened(id)}")
            return listing
        asked = default_range(provider.info, self.clock.now_ms())
        search = RangeSearch(series_key(provider, id, {}), asked, absolute=False)
        return await self._range(provider, search, strict)

    async def _asked(self, provider: Provider, request: Request, limit: int | None) -> Listing:
        """Hand a provider that answers itself a request as it is; keep what it answers with."""
        if limit == 0:
            return Listing(())
        found = await self.upstream(provider).entities(cast("EntityProvider", provider), request)
        return await self.entities.kept(found, limit)


def _complete(answer: Answer, strict: bool) -> Answer:
    """Return the answer; where it must be complete and is not, raise why."""
    if strict and answer.missing:
        first = next(iter(answer.why))
        raise ProviderError(f"the answer would be partial: {first.message}", reason=first.reason)
    return answer


async def _fill(
    filler: Filler, key: SeriesKey, to_present: bool, gap: Interval, tally: Tally
) -> Filled:
    return await _settled(filler.fill(key, gap, tally, to_present))


async def _settled(work: object) -> Filled:
    """Await a piece of filling; one that was overtaken brings nothing, and is planned again."""
    try:
        return await work  # type: ignore[misc, no-any-return]  # a coroutine of Filler
    except Superseded as overtaken:
        _log.info("overtaken, planning again", why=str(overtaken))
        return Filled()
