"""What is held and why: series, coverage, plans; fetching anew and forgetting."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Annotated, Any, Final

from litestar import Request, Response, delete, get, post
from litestar.handlers import BaseRouteHandler
from litestar.params import FromPath, JSONBody, QueryParameter

from gapless.clock import Clock
from gapless.domain.series import SeriesKey
from gapless.errors import InvalidQuery, NotFound
from gapless.hub.administration import Administration, Knowledge
from gapless.hub.ranges import RangeSearch, range_search, series_key, source_of
from gapless.protocol.messages import DateRange, Filter, Param, Ticker
from gapless.protocol.paths import COVERAGE_PATH, SERIES_PATH
from gapless.providers.registry import Registry
from gapless.servers.http.asking import path_of, query_of
from gapless.servers.http.identity import asker_of
from gapless.servers.http.routes.responses import ANY_KEYS, problems, shaped
from gapless.servers.http.shapes import (
    CoverageShape,
    Deleted,
    FactsShape,
    PlanShape,
    RangeRequest,
    Refreshed,
    SeriesPage,
    SeriesShape,
    cursor_of,
    key_of_cursor,
)

_MOST_SERIES: Final = 1_000
_Provider = Annotated[str, QueryParameter(description="only of this provider", max_length=100)]
_Limit = Annotated[int, QueryParameter(description="the most of one page", ge=1, le=_MOST_SERIES)]
_Cursor = Annotated[str, QueryParameter(description="`next` of the page before")]
_Bound = Annotated[str, QueryParameter(description="a bound of the range; both empty: all of it")]


def series_routes(
    administration: Administration, registry: Registry, clock: Clock
) -> Sequence[BaseRouteHandler]:
    """Return the routes."""

    def search_of(provider: str, ticker: str, rest: Mapping[str, str]) -> RangeSearch:
        """Return what a request means by a series and a range."""
        params = dict(rest)
        start, end = params.pop("start", ""), params.pop("end", "")
        filters: list[Filter] = [Ticker(ticker)]
        if start or end:
            filters.append(DateRange(start, end))
        filters.extend(Param(name, value) for name, value in params.items())
        search = range_search(registry.get(provider), filters, clock.now_ms())
        assert search is not None
        return search

    def search_of_body(body: RangeRequest) -> RangeSearch:
        rest = {**body.params, "start": body.start or "", "end": body.end or ""}
        if set(body.params) & {"start", "end"}:
            raise InvalidQuery("params: start and end are keys of their own, not parameters")
        return search_of(body.provider, body.ticker, rest)

    def key_of(name: str, ticker: str, params: Mapping[str, str]) -> SeriesKey:
        """Return the key of a series, as it is listed where its provider is not loaded.

        Data outlives its provider.
        """
        if name in registry.names():
            provider = registry.get(name)
            key = series_key(provider, ticker, params)
            source, adjusted = source_of(key, provider.traits(key))
            if adjusted is not None:
                raise InvalidQuery(
                    f"{key.text} is made of {source.text} when it is asked for, and not held "
                    "itself; name that"
                )
            return key
        return SeriesKey.of(name, ticker, params)

    async def held(name: str, ticker: str, params: Mapping[str, str]) -> Knowledge:
        """Return what is known of a series, or raise `NotFound`."""
        key = key_of(name, ticker, params)
        known = await administration.known(key)
        if known.state.number is None:
            # Where there is neither data nor a provider, that is what is wrong.
            registry.get(name)
            raise NotFound(f"nothing of {key.text} is held; ask for its data first")
        return known

    @get("/v1/series", tags=["held"], responses=problems())
    async def series(
        provider: _Provider = "", limit: _Limit = 100, cursor: _Cursor = ""
    ) -> Response[SeriesPage]:
        """List what is held, a page at a time."""
        after = key_of_cursor(cursor) if cursor else None
        if cursor and after is None:
            raise InvalidQuery("cursor: it is none of this hub's; take it from `next` of a page")
        found = await administration.series(provider or None, after, limit + 1)
        more = len(found) > limit
        page = found[:limit]
        following = cursor_of(page[-1].key) if more else None
        return await shaped(
            len(page), lambda: SeriesPage([SeriesShape.of(one) for one in page], following)
        )

    @get(
        "/v1/series/{provider:str}/{ticker:path}",
        tags=["held"],
        responses=problems(404, 502, 503, 504, 507),
    )
    async def describe(
        request: Request[Any, Any, Any], provider: FromPath[str], ticker: FromPath[str]
    ) -> FactsShape:
        """Tell what is known of a ticker beside its records: time zone, currency, name.

        Goes upstream only where nothing is known.
        """
        name, ticker = path_of(request.scope["raw_path"], "/v1/series/")
        return FactsShape.of(await administration.describe(name, ticker, asker_of(request)))

    @get(
        "/v1/coverage/{provider:str}/{ticker:path}",
        tags=["held"],
        opt={ANY_KEYS: True},
        responses=problems(404),
    )
    async def coverage(
        request: Request[Any, Any, Any], provider: FromPath[str], ticker: FromPath[str]
    ) -> Response[CoverageShape]:
        """Tell what is known of a series: intervals, their outcome and age.

        Keys of the query are parameters of the provider, such as `interval=1h`.
        """
        name, ticker = path_of(request.scope["raw_path"], COVERAGE_PATH)
        params = query_of(request.scope["query_string"])
        known = await held(name, ticker, params)
        return await shaped(len(known.state.coverage), lambda: CoverageShape.of(known))

    @post("/v1/plan", tags=["held"], status_code=200, responses=problems(404, 413, 415))
    async def plan(data: JSONBody[RangeRequest]) -> Response[PlanShape]:
        """Tell what a request for a range would fetch, and why; nothing is fetched."""
        explained = await administration.explain(search_of_body(data))
        count = len(explained.plan.cached) + len(explained.gaps)
        return await shaped(count, lambda: PlanShape.of(explained))

    @post(
        "/v1/refresh",
        tags=["held"],
        status_code=200,
        responses=problems(404, 413, 415, 422, 502, 503, 504, 507),
    )
    async def refresh(request: Request[Any, Any, Any], data: JSONBody[RangeRequest]) -> Refreshed:
        """Fetch a range anew, held or not."""
        caller = asker_of(request)
        return Refreshed.of(await administration.refresh(search_of_body(data), caller))

    @delete(
        "/v1/series/{provider:str}/{ticker:path}",
        tags=["held"],
        opt={ANY_KEYS: True},
        status_code=200,
        responses=problems(404, 507),
    )
    async def forget(
        request: Request[Any, Any, Any],
        provider: FromPath[str],
        ticker: FromPath[str],
        start: _Bound = "",
        end: _Bound = "",
    ) -> Deleted:
        """Forget a range of a series, or all of it, and what is being fetched of it.

        Further keys of the query are parameters of the provider, such as `interval=1h`.
        """
        name, ticker = path_of(request.scope["raw_path"], SERIES_PATH)
        rest = query_of(request.scope["query_string"])
        params = {name: value for name, value in rest.items() if name not in ("start", "end")}
        key = key_of(name, ticker, params)
        if not administration.fetching(key):
            await held(name, ticker, params)
        whole = not (rest.get("start") or rest.get("end"))
        asked = None if whole else await administration.range_of(search_of(name, ticker, rest))
        return Deleted(await administration.delete(key, asked))

    return [series, describe, coverage, plan, refresh, forget]
