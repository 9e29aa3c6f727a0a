"""The hub: look up, plan, fetch the gaps, store, answer."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Mapping
from typing import Any, cast

from gapless.clock import Clock
from gapless.config.settings import Settings
from gapless.domain.facts import every_fact
from gapless.domain.freshness import Freshness
from gapless.domain.intervals import Interval
from gapless.domain.planning import Known, Reach, plan
from gapless.errors import (
    Forbidden,
    NotFound,
    ProviderError,
    Unsupported,
)
from gapless.hub.adjusting import Adjuster
from gapless.hub.answers import Answer, State, compose
from gapless.hub.callers import ANYBODY, Caller
from gapless.hub.course import as_held
from gapless.hub.entities import Entities, Listing, matches, may_match
from gapless.hub.holdings import Holdings
from gapless.hub.hot import HotTier
from gapless.hub.leases import Leases, LocalLeases
from gapless.hub.ranges import (
    RangeSearch,
    default_range,
    no_range,
    present,
    range_search,
    series_key,
    shortened,
)
from gapless.hub.searching import Searcher
from gapless.hub.upstream import Asked, Upstream
from gapless.instants import DAY_MS
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
from gapless.store.base import EntityFilter, Store
from gapless.zones import zone_named

# The latest bars, over any holidays.
_LATEST_MS = 7 * DAY_MS


class Hub:
    """Answers requests to providers from the store, going upstream only for the gaps."""

    def __init__(
        self,
        store: Store,
        registry: Registry,
        clock: Clock,
        settings: Settings | None = None,
        observe: Callable[[Asked], None] = lambda asked: None,
        seed: int | None = None,
        leases: Leases | None = None,
    ) -> None:
        self.settings = settings or Settings()
        self.registry = registry
        self.clock = clock
        self.hot = HotTier(self.settings.cache.hot_bytes)
        self.leases = leases or LocalLeases()
        self.holdings = Holdings(store, self.hot, self.leases)
        self.searcher = Searcher(
            self.holdings,
            registry,
            clock,
            self.settings.cache,
            self.settings.limits,
            self.leases,
            self.upstream,
        )
        self.adjuster = Adjuster(self.searcher, self.holdings, registry, clock)
        self.entities = Entities(
            self.holdings,
            clock,
            self.settings.limits,
            self.searcher.plan,
            self.adjuster.as_held,
        )
        self._observe = observe
        self._seed = seed
        self._upstreams: dict[str, Upstream] = {}
        # Answers that are kept ready hang on the series in memory.
        registry.replaced.append(self.hot.forget)

    def upstream(self, provider: Provider) -> Upstream:
        """Return the provider as it is asked, with its budget and breaker."""
        name = provider.info.name
        found = self._upstreams.get(name)
        if found is None or found.provider is not provider:
            found = Upstream(
                provider,
                self.clock,
                self.settings.fetch,
                self.settings.cache,
                self._observe,
                self._seed,
            )
            self._upstreams[name] = found
        return found

    def held(
        self, request: ProviderRequest, strict: bool = False, most_loaded: int | None = None
    ) -> Answer | None:
        """Answer a range search at once if all of it is fresh and in memory; else `None`.

        Raises what is wrong with the request, and `TooLarge` for more records than one answer may
        have, unless more than `most_loaded` are not sent with it; `strict` as for `answer`. Never
        waits, so it is called where requests are read.
        """
        if type(request.request) is not SearchEntities:
            return None
        provider = self.registry.get(request.provider)
        now = self.clock.now_ms()
        search = range_search(provider, request.request.query, now, request.fresh, self.hot.zone_of)
        if search is None or search.others or search.fresh is Freshness.NOW:
            return None
        entry = self.hot.get(search.key)
        if entry is None:
            return None
        placed = search.placed(entry.state.ticker)
        if placed is None:
            return None
        search = placed
        wanted = self.searcher.plan(provider, entry, search, now)
        if not wanted.complete or entry.lacking(search.asked):
            return None
        if not wanted.fresh and search.fresh is not Freshness.HELD:
            return None
        pending = None if wanted.fresh else as_held(search.key)
        self.hot.hits += 1
        answer = compose(entry, wanted, now, unchecked=pending)
        if most_loaded is None or answer.count <= most_loaded:
            self.searcher.check_size(answer)
        answer = _complete(answer, strict, search.fresh)
        dated = self.searcher.dated(provider, answer, search, now)
        return dated if search.adjusted is None else self.adjuster.held(dated, search.adjusted)

    async def answer(
        self,
        request: ProviderRequest,
        strict: bool = False,
        caller: Caller = ANYBODY,
        most_loaded: int | None = None,
    ) -> Answer | Listing:
        """Answer any request to a provider; `strict`: a partial or stale answer is an error.

        Whatever goes upstream for it does so on behalf of `caller`. `most_loaded`: a range of
        more records, or the view of one, is answered without them.
        """
        provider = self.registry.get(request.provider)
        if request.fresh is not None and type(request.request) is not SearchEntities:
            raise no_range(request.fresh)
        match request.request:
            case SearchEntities(query, limit):
                now = self.clock.now_ms()
                search = range_search(provider, query, now, request.fresh)
                if search is None and provider.info.entities:
                    return await self._asked(provider, request.request, limit, caller)
                if search is None:
                    return await self.entities.filtered(provider, query, limit)
                if limit == 0 or not may_match(search):
                    return Listing(())
                return await self._range(provider, search, strict, caller, most_loaded)
            case GetEntity(id):
                return await self._by_id(provider, id, strict, caller, most_loaded)
            case GetEntities(ids):
                return await self.entities.many(provider, ids)
            case GetAllEntities(limit, offset):
                return await self.entities.listed(
                    EntityFilter(source=provider.info.name), limit, offset or 0
                )
            case GetReport():
                if provider.info.entities:
                    return await self._asked(provider, request.request, None, caller)
                raise Unsupported(
                    f"{provider.info.name} has no reports; ask it for a ticker with search"
                )

    async def records(
        self,
        request: ProviderRequest,
        strict: bool = False,
        most_loaded: int | None = None,
        caller: Caller = ANYBODY,
    ) -> Answer:
        """Answer a search by ticker and range alone; see `search`."""
        provider = self.registry.get(request.provider)
        assert isinstance(request.request, SearchEntities)
        now = self.clock.now_ms()
        search = range_search(provider, request.request.query, now, request.fresh)
        assert search is not None and not search.others
        answer = await self._searched(search, strict, caller, most_loaded)
        return _complete(answer, strict, search.fresh)

    async def warm(self) -> Answer | None:
        """Prepare what the first request would otherwise pay for: statements, connections, code.

        Rehearses on a block of any series that is held and returns the answer, `None` where
        nothing is held. Nothing is asked upstream, and nothing stays in memory.
        """
        key = await self.holdings.warm()
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
        wanted = plan(asked, Known(entry.state.coverage), whole, -1)
        self.hot.drop(key)
        return compose(entry, wanted, self.clock.now_ms())

    async def prune(self, before: int) -> tuple[int, int]:
        """Forget what was fetched before that instant; return (series touched, records gone)."""
        return await self.holdings.prune(before)

    async def statistics(self) -> dict[str, int]:
        """Count what is stored, what is in memory, and what it cost upstream."""
        figures = await self.holdings.figures()
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
        await self.leases.drain(timeout)
        await self.holdings.settle()
        await asyncio.gather(*(provider.aclose() for provider in self.registry.all()))

    def dates(self, answer: Answer) -> str | None:
        """Return the time zone in which an answer's records have dates: bars of a day or longer.

        A name of the tz database; `UTC` where the ticker's own is not known. `None`: its bars are
        of less than a day.
        """
        provider = self.registry.get(answer.key.provider)
        if provider.traits(answer.key).bar < DAY_MS:
            return None
        zone = zone_named(answer.entry.state.ticker.zone)
        return "UTC" if zone is None else zone.key

    async def describe(
        self, provider: str, ticker: str, caller: Caller = ANYBODY
    ) -> Mapping[str, Any]:
        """Return what is known of a ticker beside its bars; see `every_fact`.

        Goes upstream only where nothing is known and the provider's answers tell it, for the
        latest bars. Raises what that fails with, and `InvalidQuery` for what is no ticker.
        """
        source = self.registry.get(provider)
        key = series_key(source, ticker, {})
        entry = await self.holdings.load(key)
        if source.info.zoned and not entry.state.ticker.facts:
            end = present(self.clock.now_ms())
            latest = RangeSearch(key, Interval(end - _LATEST_MS, end), absolute=False)
            answer = await self.searcher.search(latest, caller=caller, most_loaded=0)
            entry = answer.entry
        return every_fact(entry.state.ticker.facts)

    # Entities

    async def _range(
        self,
        provider: Provider,
        search: RangeSearch,
        strict: bool,
        caller: Caller,
        most_loaded: int | None = None,
    ) -> Answer | Listing:
        answer = await self._searched(search, strict, caller, most_loaded)
        answer = _complete(answer, strict, search.fresh)
        now = self.clock.now_ms()
        if not all(matches(answer, item, now) for item in search.others):
            return Listing(())
        return answer

    async def _searched(
        self, search: RangeSearch, strict: bool, caller: Caller, most_loaded: int | None
    ) -> Answer:
        if search.adjusted is not None:
            return await self.adjuster.search(search, caller=caller, strict=strict)
        return await self.searcher.search(
            search, caller=caller, strict=strict, most_loaded=most_loaded
        )

    async def _by_id(
        self,
        provider: Provider,
        id: str,
        strict: bool,
        caller: Caller,
        most_loaded: int | None,
    ) -> Answer | Listing:
        """Answer an id; one that is no stored entity's is read as a ticker, of the last 30 days."""
        found = await self.entities.stored(provider, id, most_loaded)
        if found is not None:
            return found
        if provider.info.entities:
            listing = await self._asked(provider, GetEntity(id), None, caller)
            if not listing.entities:
                raise NotFound(f"{provider.info.name} has no entity {shortened(id)}")
            return listing
        asked = default_range(provider.info, self.clock.now_ms())
        search = RangeSearch(series_key(provider, id, {}), asked, absolute=False)
        return await self._range(provider, search, strict, caller, most_loaded)

    async def _asked(
        self, provider: Provider, request: Request, limit: int | None, caller: Caller
    ) -> Listing:
        """Hand a provider that answers itself a request as it is; keep what it answers with."""
        if limit == 0:
            return Listing(())
        if not caller.may_fetch:
            raise Forbidden(
                f"{provider.info.name} answers this itself, and having it asked takes the scope "
                "fetch; ask with a token that has it"
            )
        upstream = self.upstream(provider)
        found = await upstream.entities(cast("EntityProvider", provider), request, caller)
        return await self.entities.kept(found, limit, self.registry.names())


def _complete(answer: Answer, strict: bool, fresh: Freshness) -> Answer:
    """Return the answer; where it must be complete, or as fresh as was wanted, raise why not."""
    if strict and answer.missing:
        # Not all reasons are of what is missing: what is held may be marked, too.
        first = min(
            answer.why,
            key=lambda one: not any(one.interval.overlaps(span) for span in answer.missing),
        )
        raise ProviderError(f"the answer would be partial: {first.message}", reason=first.reason)
    if strict and answer.state is State.STALE and fresh is not Freshness.HELD:
        stale = answer.why[0]
        raise ProviderError(f"the answer would be stale: {stale.message}", reason=stale.reason)
    return answer
