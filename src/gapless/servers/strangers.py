"""What a client without a valid token is told: how one is shown at this door, and where it is had.

Pure. By what was shown alone: whether such a token ever counted is nobody's business.
"""

from __future__ import annotations

from collections.abc import Mapping
from types import MappingProxyType
from typing import Final, Literal

from gapless.auth.tokens import PREFIXES, Kind
from gapless.errors import MissingToken, RequestError, Unauthorized

Door = Literal["http", "tcp"]

_HOW: Final[Mapping[Door, str]] = MappingProxyType(
    {
        "http": "send Authorization: Bearer TOKEN",
        "tcp": "put it into the line as `token`, beside `query` and not in its payload",
    }
)
_ANOTHER: Final = "make another one with: gapless tokens create NAME"
_WHAT: Final[Mapping[Kind | None, str]] = MappingProxyType(
    {
        Kind.API: f"the API token is not valid, or not any more; {_ANOTHER}",
        Kind.ACCESS: "the access token is not valid, or not any more; have a new one with the "
        "refresh token (POST /v1/auth/refresh), or sign in",
        Kind.REFRESH: "that is a refresh token, which is good for POST /v1/auth/refresh alone; "
        "show the access token that it brings",
        Kind.SESSION: "this browser is not signed in, or not any more; sign in at /login",
        None: f"that is no token of a hub's, which begins with gapless_; {_ANOTHER}",
    }
)


def kind_of(text: str) -> Kind | None:
    """Return what a token says that it is; whether it is one is not looked at."""
    return next((kind for kind, prefix in PREFIXES.items() if text.startswith(prefix)), None)


def turned_away(
    door: Door, *, users: bool, shown: Kind | None = None, presented: bool, malformed: bool = False
) -> RequestError:
    """Return the error of a request that comes with no valid token.

    `users`: there are any. `presented`: it came with a token, of the kind `shown` by what it says.
    `malformed`: with an Authorization header that has none.
    """
    error = Unauthorized if presented else MissingToken
    if not users:
        return error(
            "authentication is on, and this hub has no users yet; make the first at the address "
            "that it printed when it started, or with: gapless users add EMAIL --role admin"
        )
    if presented:
        return error(_WHAT[shown])
    if malformed:
        return error(
            "the Authorization header shows no token to this hub; its form is "
            "'Authorization: Bearer TOKEN'"
        )
    return error(
        f"authentication is on, and the request has no token; {_HOW[door]}. One is made with: "
        "gapless tokens create NAME (gapless query takes it from GAPLESS_TOKEN)"
    )
