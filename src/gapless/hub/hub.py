"""The hub: look up, plan, fetch the gaps, store, answer."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field, replace
from functools import partial

import structlog

from gapless.clock import Clock
from gapless.domain.coverage import Outcome
from gapless.domain.intervals import Interval, intersect, subtract
from gapless.domain.planning import Plan, Reach, plan
from gapless.domain.series import SeriesKey
from gapless.errors import (
    GaplessError,
    InternalError,
    ProviderError,
    StoreError,
    TooLarge,
    Unsupported,
    UpstreamUnavailable,
)
from gapless.hub.answers import Answer, Failure, compose
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
)
from gapless.hub.upstream import Asked, Limits, Tally, Upstream
from gapless.protocol.messages import (
    GetAllEntities,
    GetEntities,
    GetEntity,
    GetReport,
    ProviderRequest,
    SearchEntities,
)
from gapless.providers.base import Provider
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


@dataclass(slots=True)
class _Course:
    """What has happened to one range search so far."""

    fetched: list[Interval] = field(default_factory=list)
    failures: list[Failure] = field(default_factory=list)
    tallies: list[Tally] = field(default_factory=list)
    bumps: int = 0
    unverified: GaplessError | None = None

    @property
    def requests(self) -> int:
        return sum(tally.requests for tally in self.tallies)


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
            self._basis_due,
        )
        self.flights = Flights()
        self._store = store
        self._observe = observe
        self._seed = seed
        self._upstreams: dict[str, Upstream] = {}
        self._probe_after: dict[SeriesKey, tuple[float, GaplessError]] = {}

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
        wanted = self._plan(provider, entry, search, now)
        if not wanted.complete or entry.lacking(search.asked):
            return None
        if self._basis_due(provider, entry, search.asked, now):
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
                raise Unsupported(
                    f"{provider.info.name} has no reports; ask it for a ticker with search"
                )

    async def search(self, search: RangeSearch) -> Answer:
        """Answer a range search, going upstream for its gaps (stitching rules 5 to 16)."""
        provider = self.registry.get(search.key.provider)
        now = self.clock.now_ms()
        course = _Course()
        for _ in range(_MOST_ROUNDS):
            entry = await self.holdings.load(search.key, search.asked)
            wanted = self._plan(provider, entry, search, now)
            if course.bumps > self.options.max_bumps:
                self._give_up(course, wanted, search)
            elif await self._advance(provider, entry, wanted, search, now, course):
                continue
            answer = compose(
                entry,
                wanted,
                now,
                fetched=course.fetched,
                failures=course.failures,
                unverified=course.unverified,
                requests=course.requests,
            )
            self._check_size(answer)
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
        for provider in self.registry.all():
            await provider.aclose()

    # One round of a range search

    async def _advance(
        self,
        provider: Provider,
        entry: HotSeries,
        wanted: Plan,
        search: RangeSearch,
        now: int,
        course: _Course,
    ) -> bool:
        """Bring the answer one step nearer; return whether to look and plan again."""
        key = search.key
        filler = Filler(self.holdings, self.upstream(provider), self.clock)
        gaps = subtract(wanted.gaps, (failure.interval for failure in course.failures))
        if gaps:
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
        if course.unverified is None and self._basis_due(provider, entry, search.asked, now):
            return await self._verify(provider, filler, key, now, course)
        return False

    def _take_off(
        self,
        provider: Provider,
        entry: HotSeries,
        filler: Filler,
        gaps: Sequence[Interval],
        now: int,
        course: _Course,
    ) -> list[Flight]:
        """Find or start the tasks that fill the gaps (stitching rule 7)."""
        key = entry.state.key
        if provider.info.revises and not _has_final(entry):
            # Tasks beside one another would have nothing to compare with: one after the other
            # costs fewer requests.
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
        self, flights: Sequence[Flight], gaps: Sequence[Interval], course: _Course
    ) -> None:
        """Wait for tasks and note what they brought to these gaps."""
        outcomes = await self.flights.wait(flights)
        for flight, outcome in zip(flights, outcomes, strict=True):
            if isinstance(outcome, Filled):
                course.fetched.extend(outcome.intervals)
                course.bumps += outcome.basis_changed
                continue
            if isinstance(outcome, StoreError | InternalError):
                # What upstream said is not stored: no answer would be true.
                _log.error("nothing could be stored", error=outcome.message)
                raise outcome
            lost = intersect(gaps, [flight.interval])
            course.failures.extend(Failure(part, outcome) for part in lost)

    async def _verify(
        self, provider: Provider, filler: Filler, key: SeriesKey, now: int, course: _Course
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
                course.fetched.extend(outcome.intervals)
                course.bumps += outcome.basis_changed
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

    def _give_up(self, course: _Course, wanted: Plan, search: RangeSearch) -> None:
        """Answer with what is held of one basis: upstream will not settle on one (rule 13)."""
        error = UpstreamUnavailable(
            f"{search.key.provider} served {search.key.ticker} on changing bases "
            f"{course.bumps} times while this was answered; try again later"
        )
        course.failures.extend(Failure(gap, error) for gap in wanted.gaps)
        course.unverified = error

    # What is known without asking

    def _plan(self, provider: Provider, entry: HotSeries, search: RangeSearch, now: int) -> Plan:
        return plan(
            search.asked,
            entry.state.coverage,
            entry.state.generation,
            reach(provider, search.key, now),
            now,
            int(self.options.join_distance_s * 1000),
        )

    def _basis_due(self, provider: Provider, entry: HotSeries, asked: Interval, now: int) -> bool:
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
        answer = await self.search(search)
        if strict and answer.missing:
            first = next(iter(answer.why))
            raise ProviderError(
                f"the answer would be partial: {first.message}", reason=first.reason
            )
        now = self.clock.now_ms()
        if not all(matches(answer, item, now) for item in search.others):
            return Listing(())
        return answer

    async def _by_id(self, provider: Provider, id: str, strict: bool) -> Answer | Listing:
        """Answer an id; one that is no stored entity's is read as a ticker, of the last 30 days."""
        found = await self.entities.stored(provider, id)
        if found is not None:
            return found
        asked = default_range(provider.info, self.clock.now_ms())
        search = RangeSearch(series_key(provider, id, {}), asked, absolute=False)
        return await self._range(provider, search, strict)


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


def _has_final(entry: HotSeries) -> bool:
    """Whether anything held could serve as a comparison."""
    state = entry.state
    return any(
        row.final and row.outcome is Outcome.HELD and row.generation == state.generation
        for row in state.coverage
    )
