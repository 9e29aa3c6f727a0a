"""The gate in front of every route: who asks, held data at once, and what everything took.

A bare ASGI application, because a framework costs more than a held answer does.
"""

from __future__ import annotations

import asyncio
from collections.abc import Mapping, Sequence
from contextlib import aclosing
from time import perf_counter
from typing import cast

import structlog
from litestar.types import ASGIApp, HTTPScope, Message, Receive, Scope, Send

from gapless.errors import Forbidden, GaplessError, InvalidQuery
from gapless.servers.http import problems
from gapless.servers.http.asking import PATH
from gapless.servers.http.data import Data
from gapless.servers.http.hosts import SAFE_METHODS, Hosts, crosses_sites
from gapless.servers.http.replies import Asked, Reply
from gapless.servers.meter import OK, Meter

_log = structlog.get_logger("gapless.http")

_MOST_REMEMBERED_HOSTS = 1_000
# Where a handler notes, in the scope's state, which error it answered with.
OUTCOME = "gapless_outcome"


class Gate:
    """The application that the server runs."""

    def __init__(self, app: ASGIApp, data: Data, hosts: Hosts, meter: Meter) -> None:
        self._app = app
        self._data = data
        self._hosts = hosts
        self._meter = meter
        self._known: dict[bytes, bool] = {}

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Answer one request."""
        http = cast("HTTPScope", scope)
        started = perf_counter()
        headers = dict(http["headers"])
        outcome = OK
        try:
            refusal = self._refusal(http["method"], headers)
            if refusal is not None:
                error, status = refusal
                outcome = error.code
                await send_problem(error, send, status)
                return
            if http["method"] == "GET" and http["path"].startswith(PATH):
                reply = self._data.at_once(asked_of(http, headers))
                if reply is not None:
                    self._meter.points(reply.cached, reply.fetched)
                    await send_reply(reply, headers, receive, send, started)
                    return
            await self._app(scope, receive, send)
            outcome = http["state"].get(OUTCOME, OK)
        except GaplessError as error:
            outcome = error.code
            await send_problem(error, send)
        finally:
            self._meter.request("http", outcome, perf_counter() - started)

    def _refusal(
        self, method: str, headers: Mapping[bytes, bytes]
    ) -> tuple[GaplessError, int | None] | None:
        """Return why a request goes no further, and the status that says so."""
        host = headers.get(b"host", b"")
        allowed = self._known.get(host)
        if allowed is None:
            allowed = self._hosts.allows(host.decode("latin-1"))
            if len(self._known) < _MOST_REMEMBERED_HOSTS:
                self._known[host] = allowed
        if not allowed:
            return Forbidden(
                f"this hub is not addressed as {host.decode('latin-1')[:60]!r}; use localhost, or "
                "add the name to the setting api.hosts"
            ), None
        if method in SAFE_METHODS:
            return None
        origin, site = headers.get(b"origin"), headers.get(b"sec-fetch-site")
        if crosses_sites(
            method,
            host.decode("latin-1"),
            None if origin is None else origin.decode("latin-1"),
            None if site is None else site.decode("latin-1"),
        ):
            return Forbidden("another site's page may not change anything here"), None
        if _has_body(headers) and not _is_json(headers.get(b"content-type", b"")):
            return InvalidQuery(
                "the body must be JSON: send it with content-type: application/json"
            ), 415
        return None


def asked_of(scope: HTTPScope, headers: Mapping[bytes, bytes]) -> Asked:
    """Return what chooses the answer to a request for data."""
    return (
        scope["raw_path"],
        scope["query_string"],
        headers.get(b"accept", b""),
        headers.get(b"accept-encoding", b""),
    )


async def send_problem(error: GaplessError, send: Send, status: int | None = None) -> None:
    """Answer with an error."""
    problem = problems.problem_of(error, status)
    body = problems.encoded(problem)
    headers = [
        (b"content-type", problems.MEDIA_TYPE.encode()),
        (b"content-length", b"%d" % len(body)),
        *((name.encode(), value.encode()) for name, value in problems.headers_of(problem).items()),
    ]
    await send(_start(problem.status, headers))
    await send(_body(body))


async def send_reply(
    reply: Reply,
    headers: Mapping[bytes, bytes],
    receive: Receive,
    send: Send,
    started: float,
) -> None:
    """Answer with data, or say that the client has it already."""
    body = reply.body
    if reply.etag is not None and _has(headers.get(b"if-none-match"), reply.etag):
        kept = [(name, value) for name, value in reply.headers if not _of_body(name)]
        await send(_start(304, [*kept, _timing(started)]))
        await send(_body(b""))
        if not isinstance(body, bytes):
            await body.aclose()
        return
    if isinstance(body, bytes):
        await send(_start(reply.status, [*reply.headers, _timing(started)]))
        await send(_body(body))
        return
    async with aclosing(body):
        # What fails before anything is sent can still be told.
        first = await anext(body, b"")
        await send(_start(reply.status, [*reply.headers, _timing(started)]))
        gone = _Departure(receive)
        try:
            await send(_body(first, more=True))
            async for piece in body:
                if gone.noticed:
                    return
                await send(_body(piece, more=True))
        except GaplessError as error:
            # Without its end the body is known to be cut short: the server hangs up.
            _log.warning("an answer was broken off", error=error.message)
            return
        finally:
            gone.close()
        await send(_body(b""))


class _Departure:
    """Whether the client has gone: an answer is put together for somebody, or not at all."""

    def __init__(self, receive: Receive) -> None:
        self._task = asyncio.ensure_future(_gone(receive))

    @property
    def noticed(self) -> bool:
        return self._task.done()

    def close(self) -> None:
        self._task.cancel()


async def _gone(receive: Receive) -> None:
    while (await receive())["type"] != "http.disconnect":
        pass


def _start(status: int, headers: Sequence[tuple[bytes, bytes]]) -> Message:
    return {"type": "http.response.start", "status": status, "headers": headers}


def _body(body: bytes, more: bool = False) -> Message:
    return {"type": "http.response.body", "body": body, "more_body": more}


def _timing(started: float) -> tuple[bytes, bytes]:
    return b"server-timing", b"total;dur=%.3f" % ((perf_counter() - started) * 1_000)


def _of_body(name: bytes) -> bool:
    return name.startswith(b"content-")


def _has(if_none_match: bytes | None, tag: bytes) -> bool:
    """Whether a client has what is tagged so (RFC 9110, 13.1.2: compared weakly)."""
    if if_none_match is None:
        return False
    tag = tag.removeprefix(b"W/")
    items = (item.strip().removeprefix(b"W/") for item in if_none_match.split(b","))
    return any(item in (b"*", tag) for item in items)


def _has_body(headers: Mapping[bytes, bytes]) -> bool:
    return b"transfer-encoding" in headers or headers.get(b"content-length", b"0") != b"0"


def _is_json(content_type: bytes) -> bool:
    kind = content_type.partition(b";")[0].strip().lower()
    return kind == b"application/json"
