"""Who sends an HTTP request: a program with a bearer token, or a browser with a cookie.

Pure. Everything that is sent is text of a stranger's.
"""

from __future__ import annotations

from collections.abc import Mapping, Set
from dataclasses import dataclass
from typing import Any, Final

from litestar import Request
from litestar.types import HTTPScope

from gapless.auth.directory import Grant
from gapless.hub.callers import Caller
from gapless.servers.admission import Session, caller_of

# Where the gate notes, in the scope's state, what a request has shown of who sends it.
SESSION: Final = "gapless_session"
# Where it is noted by which name of an operation a request was let in.
OPERATION: Final = "gapless_operation"
_BEARER: Final = "bearer"
_MOST_COOKIES: Final = 5


@dataclass(frozen=True, slots=True)
class Shown:
    """The tokens that a request shows; `by_cookie`: its browser does so of its own accord.

    Pages of other ports can set cookies of our name too, so that there may be several.
    `malformed`: there is an `Authorization`, but no token in it.
    """

    tokens: tuple[str, ...] = ()
    by_cookie: bool = False
    malformed: bool = False


def shown(headers: Mapping[bytes, bytes], cookie: str) -> Shown:
    """Return the token in the headers of a request; `cookie` is the name of ours.

    An `Authorization` of another kind is for a proxy on the way.
    """
    credentials = headers.get(b"authorization", b"").decode("latin-1")
    scheme, _, token = credentials.partition(" ")
    if scheme.lower() == _BEARER and token.strip():
        return Shown((token.strip(),))
    if scheme.lower() == _BEARER:
        return Shown(malformed=True)
    found: list[str] = []
    # Read by hand: a cookie of another program's that is no valid one must not hide ours.
    for part in headers.get(b"cookie", b"").decode("latin-1").split(";"):
        name, _, value = part.strip().partition("=")
        if name == cookie and value and value not in found:
            found.append(value)
    return Shown(
        tuple(found[:_MOST_COOKIES]),
        by_cookie=bool(found),
        malformed=bool(credentials) and not found,
    )


def client_of(
    client: tuple[str, int] | None, headers: Mapping[bytes, bytes], proxies: Set[str]
) -> tuple[str, int] | None:
    """Return where a request comes from: where a proxy that is believed says so, what it says.

    Of a list the last entry that is none of these proxies; what stands before it anybody may
    have written.
    """
    if client is None or client[0] not in proxies:
        return client
    said = headers.get(b"x-forwarded-for", b"").decode("latin-1").split(",")
    for entry in reversed(said):
        address = entry.strip()[:100]
        if address and address not in proxies:
            return address, 0
    return client


def session_of(request: Request[Any, Any, Any]) -> Session:
    """Return what a request has shown of who sends it; the gate has looked."""
    session = request.scope["state"][SESSION]
    assert isinstance(session, Session)
    return session


def grant_of(request: Request[Any, Any, Any]) -> Grant:
    """Return the grant that a request goes ahead by, on a route that is not open to anyone."""
    grant = session_of(request).grant
    assert grant is not None
    return grant


def connection_of(client: tuple[str, int] | None) -> str:
    """Return the name of a connection, by where it comes from."""
    return "unknown" if client is None else f"{client[0]}:{client[1]}"


def asker_of(request: Request[Any, Any, Any]) -> Caller:
    """Return on whose behalf the hub works for a request that is not open to anyone."""
    return caller_of(grant_of(request), session_of(request))


def party_of(scope: HTTPScope) -> str:
    """Return whose turns a request takes: its user's; its connection's where there are no users."""
    session = scope["state"][SESSION]
    assert isinstance(session, Session)
    return session.party


def address_of(request: Request[Any, Any, Any]) -> str:
    """Return the address that a request comes from."""
    client = request.scope.get("client")
    return client[0] if client else "unknown"
