"""The hub: look up, plan, fetch the gaps, store, answer."""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field, replace

import structlog

from gapless.clock import Clock
from gapless.domain.coverage import Outcome
from gapless.domain.intervals import Interval, intersect, subtract
from gapless.domain.planning import Plan, plan
from gapless.domain.series import SeriesKey, parse_view_id
from gapless.errors import (
    GaplessError,
    InternalError,
    InvalidQuery,
    NotFound,
    ProviderError,
    StoreError,
    TooLarge,
    Unsupported,
    UpstreamUnavailable,
)
from gapless.hub.answers import Answer, Failure, compose
from gapless.hub.filling import Filler
from gapless.hub.flights import Filled, Flight, Flights
from gapless.hub.holdings import Holdings
from gapless.hub.hot import HotSeries, HotTier
from gapless.hub.ranges import RangeSearch, default_range, present, range_search, reach
from gapless.hub.upstream import Asked, Limits, Tally, Upstream
from gapless.protocol.messages import (
    ById,
    BySource,
    ByState,
    ByTags,
    ByUpdatedAtRange,
    ByUrl,
    Filter,
    GetAllEntities,
    GetEntities,
    GetEntity,
    GetReport,
    ProviderRequest,
    SearchEntities,
)
from gapless.protocol.times import format_instant, parse_range
from gapless.providers.base import Provider
from gapless.providers.registry import Registry
from gapless.store.base import EntityFilter, Store, StoredEntity, Superseded

_log = structlog.get_logger("gapless.hub")

# Each round ends with something fetched, failed or overtaken; more is a fault of ours.
_MOST_ROUNDS = 60
_MOST_KEYS = 100_000


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


@dataclass(frozen=True, slots=True)
class Listing:
    """Stored entities and views; `next_offset`: where to go on after a page that was cut short."""

    entities: Sequence[StoredEntity | Answer]
    next_offset: int | None = None


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
        self.flights = Flights()
        self._store = store
        self._observe = observe
        self._seed = seed
        self._upstreams: dict[str, Upstream] = {}
        self._keys: OrderedDict[tuple[str, tuple[Filter, ...]], SeriesKey] = OrderedDict()
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
        if wanted.gaps or wanted.unserved or wanted.rescale or entry.lacking(search.asked):
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
                    return await self._filtered(provider, query, limit)
                return await self._range(provider, search, strict)
            case GetEntity(id):
                return await self._by_id(provider, id, strict)
            case GetEntities(ids):
                return await self._by_ids(provider, ids)
            case GetAllEntities(limit, offset):
                return await self._listed(
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
        raise InternalError(f"{search.key.text} could not be planned to an end; the log has why")

    async def warm(self) -> None:
        """Prepare what the first request would otherwise pay for: statements and connections."""
        await self._store.warm()

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
            flight = self.flights.launch(
                key,
                gap,
                lambda interval, tally: _settled(filler.fill(key, interval, tally)),
                reaches_present=gap.end >= present(now),
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
            return False
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
                self._probe_after[key] = (self.clock.monotonic() + pause, outcome)
                course.unverified = outcome
        return True

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
        if search.others and not all(_matches(answer, item) for item in search.others):
            return Listing(())
        return answer

    async def _by_id(self, provider: Provider, id: str, strict: bool) -> Answer | Listing:
        name = provider.info.name
        stored = await self._store.entities(EntityFilter(ids=(id,), source=name), 1)
        if stored:
            return Listing(stored)
        if parse_view_id(id) is not None:
            view = await self._view(provider, id)
            if view is None:
                raise NotFound(
                    f"{id!r} is not wholly held; search {name} for its ticker and range instead"
                )
            return Listing([view])
        now = self.clock.now_ms()
        asked = default_range(provider.info, now)
        return await self._range(
            provider, RangeSearch(provider.key(id, {}), asked, absolute=False), strict
        )

    async def _by_ids(self, provider: Provider, ids: Sequence[str]) -> Listing:
        if len(ids) > self.options.max_entities:
            raise InvalidQuery(
                f"{len(ids):,} ids are more than the {self.options.max_entities:,} of one request"
            )
        wanted = EntityFilter(ids=tuple(ids), source=provider.info.name)
        stored = {one.id: one for one in await self._store.entities(wanted, len(ids) or 1)}
        found: list[StoredEntity | Answer] = []
        for id in ids:
            entity = stored.get(id) or await self._view(provider, id)
            if entity is not None:
                found.append(entity)
        if not found:
            raise NotFound(f"none of the {len(ids)} entities is stored")
        return Listing(found)

    async def _view(self, provider: Provider, id: str) -> Answer | None:
        """Answer a view by its id from what is wholly held (stitching rule 20)."""
        parts = parse_view_id(id)
        if parts is None or parts.source != provider.info.name:
            return None
        now = self.clock.now_ms()
        try:
            key = provider.key(parts.ticker, dict(parts.params))
            bounds = parse_range(parts.start, parts.end, now_ms=now)
        except InvalidQuery:
            return None
        if bounds.start_ms is None or bounds.end_ms > present(now):
            return None
        asked = Interval(bounds.start_ms, bounds.end_ms)
        entry = await self.holdings.load(key, asked)
        # At the beginning of time nothing is due: what is held is held, if only as stale.
        wanted = plan(
            asked,
            entry.state.coverage,
            entry.state.generation,
            reach(provider, key, now),
            -1,
        )
        if wanted.gaps or wanted.unserved or wanted.rescale:
            return None
        return compose(entry, wanted, now)

    async def _filtered(
        self, provider: Provider, filters: Sequence[Filter], limit: int | None
    ) -> Listing:
        """Filter what is stored; nothing goes upstream."""
        ids: tuple[str, ...] | None = None
        tags: list[str] = []
        state: str | None = None
        source: str | None = None
        updated: tuple[str | None, str | None] = (None, None)
        for item in filters:
            match item:
                case ById(value):
                    ids = (value,) if ids is None or value in ids else ()
                case BySource(value):
                    source = value
                case ByState(value):
                    state = value
                case ByTags(values):
                    tags.extend(values)
                case ByUrl(value):
                    tags.append(f"url={value}")
                case ByUpdatedAtRange(start, end):
                    bounds = parse_range(start, end, now_ms=self.clock.now_ms())
                    since = None if bounds.start_ms is None else format_instant(bounds.start_ms)
                    updated = (since, format_instant(bounds.end_ms))
                case _:
                    pass
        wanted = EntityFilter(ids, provider.info.name, source, state, tuple(tags), updated)
        return await self._listed(wanted, limit, 0)

    async def _listed(self, wanted: EntityFilter, limit: int | None, offset: int) -> Listing:
        most = self.options.default_entities if limit is None else limit
        most = min(most, self.options.max_entities)
        if most == 0:
            return Listing(())
        found = await self._store.entities(wanted, most + 1, offset, self.options.max_listing_bytes)
        page = found[:most]
        cut_short = len(found) > most or await self._more(wanted, offset + len(page), page)
        return Listing(page, offset + len(page) if cut_short else None)

    async def _more(self, wanted: EntityFilter, offset: int, page: Sequence[StoredEntity]) -> bool:
        """Whether entities follow a page that may have been cut at its size."""
        return bool(page) and bool(await self._store.entities(wanted, 1, offset, 1))


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


def _matches(answer: Answer, item: Filter) -> bool:
    """Whether a stitched entity matches a filter that was given beside its ticker."""
    match item:
        case BySource(value):
            return value == answer.key.provider
        case ByState(value):
            return value == answer.state.value
        case ByTags(values):
            tags = {f"ticker={answer.key.ticker}"}
            tags |= {f"{name}={value}" for name, value in answer.key.params}
            tags.add(f"from={format_instant(answer.asked.start)}")
            tags.add(f"to={format_instant(answer.asked.end)}")
            return set(values) <= tags
        case ByUpdatedAtRange(start, end):
            bounds = parse_range(start, end, now_ms=answer.updated_at + 1)
            since = bounds.start_ms
            return (since is None or since <= answer.updated_at) and (
                answer.updated_at < bounds.end_ms
            )
    return False
