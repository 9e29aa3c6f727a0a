"""Who sends an HTTP request: a program with a bearer token, or a browser with a cookie.

Pure. Everything that is sent is text of a stranger's.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Final

from litestar import Request

from gapless.auth.directory import Grant
from gapless.servers.admission import Session

# Where the gate notes, in the scope's state, what a request has shown of who sends it.
SESSION: Final = "gapless_session"
_BEARER: Final = "bearer"


@dataclass(frozen=True, slots=True)
class Shown:
    """The token that a request shows; `by_cookie`: its browser does so of its own accord."""

    token: str | None
    by_cookie: bool = False


def shown(headers: Mapping[bytes, bytes], cookie: str) -> Shown:
    """Return the token in the headers of a request; `cookie` is the name of ours.

    An `Authorization` of another kind is for a proxy on the way.
    """
    scheme, _, token = headers.get(b"authorization", b"").decode("latin-1").partition(" ")
    if scheme.lower() == _BEARER:
        return Shown(token.strip())
    cookies = headers.get(b"cookie")
    if cookies is not None:
        # Read by hand: a cookie of another program's that is no valid one must not hide ours.
        for part in cookies.decode("latin-1").split(";"):
            name, _, value = part.strip().partition("=")
            if name == cookie and value:
                return Shown(value, by_cookie=True)
    return Shown(None)


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


def address_of(request: Request[Any, Any, Any]) -> str:
    """Return the address that a request comes from."""
    client = request.scope.get("client")
    return client[0] if client else "unknown"
