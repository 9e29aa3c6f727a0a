"""The gate in front of every route: who asks, held data at once, and what everything took.

A bare ASGI application, because a framework costs more than a held answer does.
"""

from __future__ import annotations

from collections.abc import Mapping
from time import perf_counter
from typing import cast

import structlog
from litestar.types import ASGIApp, HTTPScope, Receive, Scope, Send

from gapless.errors import Forbidden, GaplessError, InvalidQuery
from gapless.servers.http.asking import PATH
from gapless.servers.http.data import Data
from gapless.servers.http.hosts import SAFE_METHODS, Hosts, crosses_sites
from gapless.servers.http.replies import Asked
from gapless.servers.http.sending import send_problem, send_reply
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
                    await send_reply(reply, "GET", headers, receive, send, started)
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


def _has_body(headers: Mapping[bytes, bytes]) -> bool:
    return b"transfer-encoding" in headers or headers.get(b"content-length", b"0") != b"0"


def _is_json(content_type: bytes) -> bool:
    kind = content_type.partition(b";")[0].strip().lower()
    return kind == b"application/json"
