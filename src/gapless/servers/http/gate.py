"""The gate in front of every route: who asks, held data at once, and what everything took.

A bare ASGI application, because a framework costs more than a held answer does.
"""

from __future__ import annotations

import asyncio
from collections.abc import Mapping
from time import perf_counter
from typing import cast
from urllib.parse import quote

import structlog
from litestar.types import ASGIApp, HTTPScope, Message, Receive, Scope, Send
from litestar.types.asgi_types import HTTPReceiveMessage as ReceiveMessage

from gapless.auth.permissions import OPERATIONS
from gapless.errors import Forbidden, GaplessError, InternalError, InvalidQuery, Overloaded
from gapless.protocol.paths import DATA_PATH
from gapless.servers.admission import Admission, Session, charge
from gapless.servers.http.asking import takes_gzip
from gapless.servers.http.budget import ByteBudget
from gapless.servers.http.cookies import SessionCookie
from gapless.servers.http.data import Data
from gapless.servers.http.fields import combined
from gapless.servers.http.hosts import SAFE_METHODS, Hosts, crosses_sites
from gapless.servers.http.identity import (
    OPERATION,
    SESSION,
    client_of,
    connection_of,
    party_of,
    shown,
)
from gapless.servers.http.replies import Asked, Reply
from gapless.servers.http.sending import send_problem, send_redirect, send_reply
from gapless.servers.meter import OK, Meter
from gapless.servers.strangers import kind_of
from gapless.turns import PARTY

_log = structlog.get_logger("gapless.http")

_MOST_REMEMBERED_HOSTS = 1_000
_LONGEST_HOST = 255
_OWN_SITE = frozenset({b"same-origin", b"none"})
DATA = "GET /v1/data/{provider}/{ticker}"
# Routes that take forms, of pages of ours, instead of JSON.
FORMS = frozenset({"/setup", "/login", "/logout"})
FORMS_UNDER = "/account/"
# What needs no token: no path among them has a part that changes.
_OPEN = frozenset(
    tuple(name.split(" ", 1)) for name, rule in OPERATIONS.items() if rule.anyone and " " in name
)
# Where a handler notes, in the scope's state, which error it answered with.
OUTCOME = "gapless_outcome"
# Where the route finds what was read of a request for data.
READ = "gapless_read"


class Gate:
    """The application that the server runs."""

    def __init__(
        self,
        app: ASGIApp,
        data: Data,
        hosts: Hosts,
        meter: Meter,
        budget: ByteBudget,
        admission: Admission,
        cookie: SessionCookie,
        proxies: frozenset[str] = frozenset(),
    ) -> None:
        self._app = app
        self._data = data
        self._hosts = hosts
        self._admission = admission
        self._cookie = cookie
        self._proxies = proxies
        self._meter = meter
        self._budget = budget
        self._known: dict[bytes, bool] = {}

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Answer one request."""
        http = cast("HTTPScope", scope)
        started = perf_counter()
        sending = _Sending(send)
        outcome = OK
        try:
            headers = _fields(http)
            if self._proxies:
                http["client"] = client_of(http["client"], headers, self._proxies)
            refusal = self._refusal(http, headers)
            if refusal is not None:
                error, status = refusal
                outcome = error.code
                await send_problem(error, send, status)
                return
            session = self._session(http, headers)
            if session is None:
                await send_redirect(_to_sign_in(http), send)
                return
            PARTY.set(party_of(http))
            method = http["method"]
            if method in ("GET", "HEAD") and http["path"].startswith(DATA_PATH):
                self._admission.admit(DATA, session)
                reply = self._data.at_once(asked_of(http, headers))
                if isinstance(reply, Reply):
                    sent = await send_reply(
                        reply,
                        method,
                        headers,
                        receive,
                        sending,
                        started,
                        self._budget.of(party_of(http)),
                    )
                    if sent:
                        self._meter.points(reply.cached, reply.fetched)
                    return
                http["state"][READ] = reply
            if self._admission.required and http["method"] not in SAFE_METHODS:
                receive = self._deciding_again(http, receive)
            await self._app(scope, receive, sending)
            outcome = http["state"].get(OUTCOME, OK)
        except GaplessError as error:
            outcome = error.code
            await sending.problem(error)
        except asyncio.CancelledError:
            stopping = Overloaded("the hub is stopping; ask again", retry_after_s=1)
            outcome = stopping.code
            await sending.problem(stopping)
        except Exception:
            _log.exception("a request failed in a way it should not")
            fault = InternalError("the hub failed in a way it should not; its log has the details")
            outcome = fault.code
            await sending.problem(fault)
        finally:
            self._meter.request("http", outcome, perf_counter() - started)

    def _deciding_again(self, http: HTTPScope, receive: Receive) -> Receive:
        """Return what hands on a body only to who may still do what they were let in for.

        A body can be held back for as long as a request may take to arrive, and whoever was let
        in by its head may have been shown the door meanwhile.
        """

        async def received() -> ReceiveMessage:
            message = cast("ReceiveMessage", await receive())
            operation = http["state"].get(OPERATION)
            if (
                operation is not None
                and message["type"] == "http.request"
                and not message["more_body"]
            ):
                self._admission.admit(operation, http["state"][SESSION], charged=False)
            return message

        return received

    def _session(self, http: HTTPScope, headers: Mapping[bytes, bytes]) -> Session | None:
        """Return what a request has shown of who sends it, and note it for its handler.

        `None`: a browser that is to sign in first. Raises what a request without a valid token
        is refused with, before anything is routed or a body read, unless its route is open.
        """
        if not self._admission.required:
            session = self._admission.shown((), connection_of(http["client"]))
            http["state"][SESSION] = session
            return session
        who = shown(headers, self._cookie.name)
        session = self._admission.shown(who.tokens, connection_of(http["client"]), counted=True)
        http["state"][SESSION] = session
        grant, method, path = session.grant, http["method"], http["path"]
        if grant is None:
            if (method, path) in _OPEN:
                return session
            if method == "GET" and b"text/html" in headers.get(b"accept", b""):
                return None
            raise self._admission.stranger(
                "http",
                kind_of(who.tokens[0]) if who.tokens else None,
                presented=session.presented,
                malformed=who.malformed,
            )
        if who.by_cookie and method not in SAFE_METHODS and not _says_where_from(headers):
            # Browsers of today all say it; others may be made to send the cookie by any page.
            raise Forbidden("a request with a cookie must say which page it comes from (Origin)")
        charge(grant)
        return session

    def _refusal(
        self, http: HTTPScope, headers: Mapping[bytes, bytes]
    ) -> tuple[GaplessError, int | None] | None:
        """Return why a request goes no further, and the status that says so."""
        method = http["method"]
        host = headers.get(b"host", b"")
        allowed = self._known.get(host)
        if allowed is None:
            allowed = self._hosts.allows(host.decode("latin-1"))
            if len(self._known) < _MOST_REMEMBERED_HOSTS and len(host) <= _LONGEST_HOST:
                self._known[host] = allowed
        if not allowed:
            return Forbidden(
                f"this hub is not addressed as {host.decode('latin-1')[:60]!r}; use localhost, or "
                "add the name to the setting api.hosts"
            ), None
        site = headers.get(b"sec-fetch-site")
        if method in SAFE_METHODS:
            if site is not None and site not in _OWN_SITE and http["path"].startswith(DATA_PATH):
                # It may go upstream, and nobody there could read the answer anyway.
                return Forbidden("another site's page may not ask for data here"), None
            return None
        origin = headers.get(b"origin")
        if crosses_sites(
            method,
            host.decode("latin-1"),
            None if origin is None else origin.decode("latin-1"),
            None if site is None else site.decode("latin-1"),
        ):
            return Forbidden("another site's page may not change anything here"), None
        if headers.get(b"content-encoding", b"identity") != b"identity":
            return InvalidQuery("the body must be sent as it is, without Content-Encoding"), 415
        if http["path"] in FORMS or http["path"].startswith(FORMS_UNDER):
            if _has_body(headers) and not _is_kind(headers, b"application/x-www-form-urlencoded"):
                return InvalidQuery(
                    "the body must be a form: application/x-www-form-urlencoded"
                ), 415
            return None
        if _has_body(headers) and not _is_kind(headers, b"application/json"):
            return InvalidQuery(
                "the body must be JSON: send it with content-type: application/json"
            ), 415
        return None


def asked_of(scope: HTTPScope, headers: Mapping[bytes, bytes]) -> Asked:
    """Return what chooses the answer to a request for data."""
    encoding = headers.get(b"accept-encoding")
    return (
        scope["raw_path"],
        scope["query_string"],
        headers.get(b"accept", b""),
        # Told apart by what is made of it, so that all who take gzip find the same.
        b"gzip" if encoding and takes_gzip(encoding.decode("latin-1")) else b"",
    )


class _Sending:
    """The way back to the client, and whether anything has gone it yet."""

    def __init__(self, send: Send) -> None:
        self._send = send
        self._begun = False

    async def __call__(self, message: Message) -> None:
        """Send a message."""
        self._begun = True
        await self._send(message)

    async def problem(self, error: GaplessError) -> None:
        """Say what went wrong, if there is still a way to; otherwise the server hangs up."""
        if not self._begun:
            await send_problem(error, self)


def _fields(http: HTTPScope) -> dict[bytes, bytes]:
    """Return the header fields, and let all who read them later find one line of each.

    Raises `InvalidQuery` where it cannot be told which of several lines counts.
    """
    lines = list(http["headers"])
    fields = dict(lines)
    if len(fields) < len(lines):
        fields = combined(lines)
        http["headers"] = list(fields.items())
    return fields


def _has_body(headers: Mapping[bytes, bytes]) -> bool:
    return b"transfer-encoding" in headers or headers.get(b"content-length", b"0") != b"0"


def _is_kind(headers: Mapping[bytes, bytes], wanted: bytes) -> bool:
    kind = headers.get(b"content-type", b"").partition(b";")[0].strip().lower()
    return kind == wanted


def _says_where_from(headers: Mapping[bytes, bytes]) -> bool:
    return b"origin" in headers or b"sec-fetch-site" in headers


def _to_sign_in(http: HTTPScope) -> str:
    """Return where a browser signs in, and is led back from."""
    path = quote(http["path"])
    return "/login" if path == "/" else f"/login?next={path}"
