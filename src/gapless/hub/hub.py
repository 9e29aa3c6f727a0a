"""The hub: look up, plan, fetch the gaps, store, answer."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Mapping
from dataclasses import replace
from typing import Any, cast

from gapless.clock import Clock
from gapless.computing import MANY
from gapless.config.settings import Settings
from gapless.domain.facts import every_fact
from gapless.domain.intervals import Interval
from gapless.domain.planning import Joining
from gapless.errors import Forbidden, NotFound, Unsupported
from gapless.hub.adjusting import Adjuster
from gapless.hub.ageing import Ageings
from gapless.hub.answers import Answer
from gapless.hub.callers import ANYBODY, Caller
from gapless.hub.entities import Entities, Listing, matches, may_match
from gapless.hub.holdings import Holdings
from gapless.hub.leases import Leases, LocalLeases
from gapless.hub.look import Look, Rules, rows_over
from gapless.hub.memory import Memory
from gapless.hub.question import Question
from gapless.hub.ranges import (
    Keys,
    RangeSearch,
    default_range,
    no_range,
    present,
    range_search,
    series_key,
    shortened,
)
from gapless.hub.searching import Searcher
from gapless.hub.upstream import Upstream, UpstreamCall
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
        observe: Callable[[UpstreamCall], None] = lambda asked: None,
        seed: int | None = None,
        leases: Leases | None = None,
    ) -> None:
        self.settings = settings or Settings()
        self.registry = registry
        self.clock = clock
        cache, limits = self.settings.cache, self.settings.limits
        self.memory = Memory(cache.hot_bytes)
        self.leases = leases or LocalLeases()
        self.holdings = Holdings(store, self.memory, self.leases)
        rules = Rules(
            Ageings(cache, clock),
            Joining(int(cache.join_distance_s * 1000), cache.max_gaps),
            cache.check_wait_s,
            limits.max_records,
        )
        self.searcher = Searcher(self.holdings, clock, rules, self.leases, self.upstream)
        self.adjuster = Adjuster(self.searcher, self.holdings, clock)
        self.entities = Entities(
            self.holdings,
            clock,
            limits,
            self.searcher,
            self.adjuster,
        )
        self._keys = Keys(self.memory.zone_of)
        self._observe = observe
        self._seed = seed
        self._upstreams: dict[str, Upstream] = {}
        # Answers that are kept ready hang on the series in memory.
        registry.replaced += [self.memory.forget, self._keys.forget]

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

    def question(
        self, request: ProviderRequest, strict: bool = False, most_loaded: int | None = None
    ) -> Question:
        """Read a request, once; raise what is wrong with it.

        `strict`: a partial or stale answer is an error. `most_loaded`: a range of more records, or
        the view of one, is answered without them; `None`: with them.
        """
        provider = self.registry.get(request.provider)
        now = self.clock.now_ms()
        asked = request.request
        search = None
        if type(asked) is SearchEntities:
            search = range_search(provider, asked.query, now, request.fresh, self._keys)
        elif request.fresh is not None:
            raise no_range(request.fresh)
        return Question(provider, asked, search, now, strict, most_loaded)

    def held(self, question: Question) -> Answer | None:
        """Answer a range search at once if all of it is fresh and in memory; else `None`.

        Raises what it fails with. How many records it may have is for whoever sends them. Never
        waits, so it is called where requests are read.
        """
        search, request = question.search, question.request
        if search is None or search.others:
            return None
        if type(request) is SearchEntities and request.limit == 0:
            return None
        series = self.memory.get(search.key)
        if series is None or not series.state.knows(search.asked):
            return None
        if rows_over(series, search.asked) > MANY:
            # Planned in a thread, for which this cannot wait.
            return None
        look = Look(self.searcher.rules, question.provider, search, series, question.now)
        question.look = look
        if not look.ready:
            return None
        with_runs = self.memory.with_runs(series, look.plan.asked)
        if with_runs is None:
            return None
        self.memory.hits += 1
        answer = question.complete(look.renewed(with_runs).answer())
        return answer if search.adjusted is None else self.adjuster.held(answer, search.adjusted)

    async def answer(self, question: Question, caller: Caller = ANYBODY) -> Answer | Listing:
        """Answer any request to a provider.

        Whatever goes upstream for it does so on behalf of `caller`.
        """
        provider, search = question.provider, question.search
        match question.request:
            case SearchEntities(query, limit):
                if search is None and provider.info.entities:
                    return await self._asked(provider, question.request, limit, caller)
                if search is None:
                    return await self.entities.filtered(provider, query, limit)
                if limit == 0 or not may_match(search):
                    return Listing(())
                answer = await self.records(question, caller)
                now = self.clock.now_ms()
                if not all(matches(answer, item, now) for item in search.others):
                    return Listing(())
                return answer
            case GetEntity(id):
                return await self._by_id(question, id, caller)
            case GetEntities(ids):
                return await self.entities.many(provider, ids)
            case GetAllEntities(limit, offset):
                return await self.entities.listed(
                    EntityFilter(source=provider.info.name), limit, offset or 0
                )
            case GetReport():
                if provider.info.entities:
                    return await self._asked(provider, question.request, None, caller)
                raise Unsupported(
                    f"{provider.info.name} has no reports; ask it for a ticker with search"
                )

    async def records(self, question: Question, caller: Caller = ANYBODY) -> Answer:
        """Answer a search by ticker and range; see `Searcher.search`."""
        search, look = question.search, question.look
        assert search is not None
        if look is None or not look.series.current:
            look = await self.searcher.look(question.provider, search, question.now)
        return question.complete(await self._searched(look, question, caller))

    async def warm(self) -> Answer | None:
        """Prepare what the first request would otherwise pay for: statements, connections, code.

        Rehearses on a block of any series that is held and returns the answer, `None` where
        nothing is held. Nothing is asked upstream, and nothing stays in memory.
        """
        key = await self.holdings.warm()
        if key is None or key.provider not in self.registry.names():
            return None
        provider, now = self.registry.get(key.provider), self.clock.now_ms()
        series = await self.holdings.directory(key)
        if not series.state.blocks:
            return None
        asked = series.state.blocks[-1].interval
        series = await self.holdings.load(key, asked)
        look = Look(self.searcher.rules, provider, RangeSearch(key, asked, True), series, now)
        wanted = look.as_held()
        self.memory.drop(key)
        return look.answer(wanted) if wanted.complete else None

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
            "hot_series": len(self.memory),
            "hot_bytes": self.memory.size,
            "hot_hits": self.memory.hits,
            "hot_misses": self.memory.misses,
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
        zone = zone_named(answer.series.state.ticker.zone)
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
        series = await self.holdings.directory(key)
        if source.info.zoned and not series.state.ticker.facts:
            now = self.clock.now_ms()
            end = present(now)
            latest = RangeSearch(key, Interval(end - _LATEST_MS, end), absolute=False)
            look = await self.searcher.look(source, latest, now)
            answer = await self.searcher.search(look, caller=caller, most_loaded=0)
            series = answer.series
        return every_fact(series.state.ticker.facts)

    async def _searched(self, look: Look, question: Question, caller: Caller) -> Answer:
        if look.said.adjusted is not None:
            return await self.adjuster.search(look, caller=caller, strict=question.strict)
        return await self.searcher.search(
            look,
            caller=caller,
            strict=question.strict,
            most_loaded=question.most_loaded,
        )

    # Entities

    async def _by_id(self, question: Question, id: str, caller: Caller) -> Answer | Listing:
        """Answer an id; one that is no stored entity's is read as a ticker, of the last 30 days."""
        provider = question.provider
        found = await self.entities.stored(provider, id, question.most_loaded)
        if found is not None:
            return found
        if provider.info.entities:
            listing = await self._asked(provider, GetEntity(id), None, caller)
            if not listing.entities:
                raise NotFound(f"{provider.info.name} has no entity {shortened(id)}")
            return listing
        asked = default_range(provider.info, question.now)
        search = RangeSearch(series_key(provider, id, {}), asked, absolute=False)
        return await self.records(replace(question, search=search), caller)

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


__all__ = ["Hub"]
