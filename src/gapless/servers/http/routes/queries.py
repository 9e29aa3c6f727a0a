"""Asking: the envelope of the TCP door, and records in bulk."""

from __future__ import annotations

from collections.abc import Sequence
from time import perf_counter
from typing import Annotated, Any

from litestar import HttpMethod, Request, Response, post, route
from litestar.handlers import BaseRouteHandler
from litestar.params import FromPath, QueryParameter
from litestar.types import ASGIApp, Receive, Scope, Send

from gapless.servers.desk import Desk
from gapless.servers.http.data import Data
from gapless.servers.http.gate import OUTCOME, asked_of
from gapless.servers.http.problems import status_of
from gapless.servers.http.replies import Reply
from gapless.servers.http.routes.responses import ANY_KEYS, problems
from gapless.servers.http.sending import send_reply
from gapless.servers.meter import Meter


class Prepared(Response[bytes]):
    """A response that is a reply already."""

    def __init__(self, reply: Reply, started: float) -> None:
        super().__init__(b"")
        self._reply = reply
        self._started = started

    def to_asgi_response(self, request: Request[Any, Any, Any], **_: Any) -> ASGIApp:  # type: ignore[override]
        """Return what sends it."""

        async def send_it(scope: Scope, receive: Receive, send: Send) -> None:
            headers = dict(scope["headers"])
            await send_reply(self._reply, request.method, headers, receive, send, self._started)

        return send_it


def query_routes(desk: Desk, data: Data, meter: Meter) -> Sequence[BaseRouteHandler]:
    """Return the routes that ask."""

    @post(
        "/v1/query",
        tags=["asking"],
        status_code=200,
        responses=problems(404, 413, 415, 422, 502, 503, 504, 507),
    )
    async def query(request: Request[Any, Any, Any]) -> Response[bytes]:
        """Ask as over TCP.

        The body is the JSON of a line: `{"request_id": 1, "query": {"type": "ProviderList"}}`.
        So is the answer, with the status that goes with its error.
        """
        line, error = await desk.answer(await request.body())
        if error is not None:
            request.scope["state"][OUTCOME] = error.code
        return Response(
            line,
            status_code=200 if error is None else status_of(error),
            media_type="application/json",
            headers={"cache-control": "no-store"},
        )

    @route(
        "/v1/data/{provider:str}/{ticker:path}",
        http_method=[HttpMethod.GET, HttpMethod.HEAD],
        tags=["asking"],
        opt={ANY_KEYS: True},
        responses=problems(404, 406, 422, 502, 503, 504, 507),
    )
    async def records(
        request: Request[Any, Any, Any],
        provider: FromPath[str],
        ticker: FromPath[str],
        start: _Start = "",
        end: _End = "",
        columns: _Columns = "",
        strict: _Strict = "",
        format: _Format = "",
        limit: _Limit = "",
        cursor: _Cursor = "",
    ) -> Response[bytes]:
        """Get the records of a series in bulk.

        In the format that `format` names, or else the ending of the ticker (`AAPL.csv`), or else
        `Accept`. Headers tell how the answer was put together. What is final carries an `ETag`.
        An answer that is longer than `limit` names the next page in `Link`. Further keys of the
        query are parameters of the provider, such as `interval=1h`.
        """
        started = perf_counter()
        headers = dict(request.scope["headers"])
        whole = request.method == HttpMethod.HEAD or b"range" in headers
        reply = await data.reply(asked_of(request.scope, headers), whole)
        meter.points(reply.cached, reply.fetched)
        return Prepared(reply, started)

    return [query, records]


_Start = Annotated[
    str,
    QueryParameter(description="first instant: RFC 3339, YYYY-MM-DD, now, or a duration as -30d"),
]
_End = Annotated[str, QueryParameter(description="first instant that is not in it; empty: now")]
_Columns = Annotated[str, QueryParameter(description="names with commas between them; empty: all")]
_Strict = Annotated[str, QueryParameter(description="true: a partial answer is an error")]
_Format = Annotated[str, QueryParameter(description="one of the formats, by name")]
_Limit = Annotated[str, QueryParameter(description="the most records of one answer")]
_Cursor = Annotated[str, QueryParameter(description="from the link of the page before")]
