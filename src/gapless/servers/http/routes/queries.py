"""Asking: the envelope of the TCP door, and records in bulk."""

from __future__ import annotations

from asyncio import to_thread
from collections.abc import Sequence
from contextlib import aclosing
from time import perf_counter
from typing import Annotated, Any, Final

from litestar import HttpMethod, Request, Response, post, route
from litestar.handlers import BaseRouteHandler
from litestar.params import FromPath, QueryParameter
from litestar.types import ASGIApp, Receive, Scope, Send

from gapless.errors import InvalidQuery, LineTooLong
from gapless.protocol.messages import Rejected
from gapless.servers.desk import Desk, Settled, error_of, size_of
from gapless.servers.http.budget import ByteBudget, Share
from gapless.servers.http.data import Data
from gapless.servers.http.gate import OUTCOME, READ
from gapless.servers.http.identity import asker_of, party_of, session_of
from gapless.servers.http.problems import status_of
from gapless.servers.http.replies import Reply
from gapless.servers.http.routes.responses import ANY_KEYS, problems
from gapless.servers.http.sending import send_reply
from gapless.servers.meter import Meter
from gapless.servers.window import Window

_LARGE_BYTES: Final = 1 << 20


class Prepared(Response[bytes]):
    """A response that is a reply already."""

    def __init__(self, reply: Reply, started: float, share: Share, meter: Meter) -> None:
        super().__init__(b"")
        self._reply = reply
        self._started = started
        self._share = share
        self._meter = meter

    def to_asgi_response(self, request: Request[Any, Any, Any], **_: Any) -> ASGIApp:  # type: ignore[override]
        """Return what sends it."""

        async def send_it(scope: Scope, receive: Receive, send: Send) -> None:
            reply, headers = self._reply, dict(scope["headers"])
            if await send_reply(
                reply, request.method, headers, receive, send, self._started, self._share
            ):
                self._meter.points(reply.cached, reply.fetched)

        return send_it


class Envelope(Response[bytes]):
    """A response that is a line of TCP, encoded only when there is room for it."""

    def __init__(self, desk: Desk, reply: list[bytes] | Settled | Rejected, share: Share) -> None:
        super().__init__(b"")
        self._desk = desk
        self._reply = reply
        self._share = share

    def to_asgi_response(self, request: Request[Any, Any, Any], **_: Any) -> ASGIApp:  # type: ignore[override]
        """Return what sends it."""
        desk, reply = self._desk, self._reply
        error = error_of(reply)
        status = 200 if error is None else status_of(error)
        size = size_of(reply)

        async def send_it(scope: Scope, receive: Receive, send: Send) -> None:
            started = perf_counter()
            async with self._share.hold(size):
                line = await _line_of(desk, reply, large=size > _LARGE_BYTES)
                headers = [
                    (b"content-type", b"application/json"),
                    (b"content-length", b"%d" % len(line)),
                    (b"cache-control", b"no-store"),
                ]
                ready = Reply(status, headers, line)
                await send_reply(ready, "POST", {}, receive, send, started, None)

        return send_it


async def _line_of(desk: Desk, reply: list[bytes] | Settled | Rejected, *, large: bool) -> bytes:
    """Return the line that answers a request."""
    if isinstance(reply, Settled) and reply.piecewise:
        found: list[bytes] = []
        async with aclosing(desk.pieces(reply, Window())) as pieces:
            async for parts in pieces:
                found += parts
        return await to_thread(lambda: b"".join(found))
    return await to_thread(desk.encoded, reply) if large else desk.encoded(reply)


def query_routes(
    desk: Desk, data: Data, meter: Meter, budget: ByteBudget, max_line_bytes: int
) -> Sequence[BaseRouteHandler]:
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
        body = await request.body()
        if len(body) > max_line_bytes:
            raise LineTooLong(
                f"the request has {len(body):,} bytes; {max_line_bytes:,} are the most "
                "(limits.max_line_bytes)"
            )
        reply = await desk.settled(body, session_of(request))
        error = error_of(reply)
        if error is not None:
            request.scope["state"][OUTCOME] = error.code
        return Envelope(desk, reply, budget.of(party_of(request.scope)))

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
        fresh: _Fresh = "",
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
        # A client of HTTP/1.0 could not tell the end of a body that comes in pieces.
        old = request.scope["http_version"] == "1.0"
        whole = request.method == HttpMethod.HEAD or b"range" in headers or old
        caller = asker_of(request)
        share = budget.of(party_of(request.scope))
        reply = await data.reply(request.scope["state"][READ], share, whole, caller)
        if old and not isinstance(reply.body, bytes):
            await reply.body.aclose()
            raise InvalidQuery("so large an answer needs HTTP/1.1; or ask for it with limit=")
        return Prepared(reply, started, share, meter)

    return [query, records]


_Start = Annotated[
    str,
    QueryParameter(
        description="first instant: RFC 3339, YYYY-MM-DD (a day of the exchange), now, a time back "
        "such as -30d, -3mo or -1y, ytd or max"
    ),
]
_End = Annotated[str, QueryParameter(description="first instant that is not in it; empty: now")]
_Columns = Annotated[str, QueryParameter(description="names with commas between them; empty: all")]
_Strict = Annotated[str, QueryParameter(description="true: a partial answer is an error")]
_Fresh = Annotated[
    str,
    QueryParameter(
        description="held: nothing is fetched for its age alone; check (the default): what is due; "
        "now: all of it is fetched anew"
    ),
]
_Format = Annotated[str, QueryParameter(description="one of the formats, by name")]
_Limit = Annotated[str, QueryParameter(description="the most records of one answer")]
_Cursor = Annotated[str, QueryParameter(description="from the link of the page before")]
