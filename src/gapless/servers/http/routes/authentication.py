"""Signing in and out for programs: a password for tokens, a refresh token for new ones."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, Final

from litestar import Request, get, post
from litestar.handlers import BaseRouteHandler
from litestar.params import JSONBody

from gapless.auth.authority import Authority
from gapless.errors import Unsupported
from gapless.servers.http.account_shapes import (
    Login,
    Me,
    NewPassword,
    Refresh,
    SignedOut,
    Tokens,
)
from gapless.servers.http.identity import address_of, grant_of
from gapless.servers.http.routes.responses import open_problems, problems

# Before a token is shown nobody may make the hub hold much.
BODY_BYTES: Final = 16 << 10


def authentication_routes(authority: Authority) -> Sequence[BaseRouteHandler]:
    """Return the routes."""
    sessions = authority.sessions

    @post(
        "/v1/auth/login",
        tags=["authentication"],
        status_code=200,
        request_max_body_size=BODY_BYTES,
        responses=open_problems(
            413, 415, 422, 503, unauthorized="The email address or the password is wrong."
        ),
    )
    async def login(request: Request[Any, Any, Any], data: JSONBody[Login]) -> Tokens:
        """Sign in with an email address and a password.

        The access token is for requests, as `Authorization: Bearer TOKEN`, and over TCP as
        `token`; the refresh token is for the next pair. Whoever guesses has to wait.
        """
        require(authority)
        return Tokens.of(await sessions.sign_in(data.email, data.password, address_of(request)))

    @post(
        "/v1/auth/refresh",
        tags=["authentication"],
        status_code=200,
        request_max_body_size=BODY_BYTES,
        responses=open_problems(
            413, 415, 422, 503, unauthorized="The refresh token is not valid, or not any more."
        ),
    )
    async def refresh(request: Request[Any, Any, Any], data: JSONBody[Refresh]) -> Tokens:
        """Have new tokens for a refresh token, which is used up by it.

        One that was used before ends all tokens of its sign-in.
        """
        require(authority)
        return Tokens.of(await sessions.refresh(data.refresh_token, address_of(request)))

    @post(
        "/v1/auth/logout",
        tags=["authentication"],
        status_code=200,
        responses=problems(422, 507),
    )
    async def logout(request: Request[Any, Any, Any]) -> SignedOut:
        """Sign out: all tokens of this sign-in end, the refresh token too."""
        require(authority)
        await sessions.sign_out(grant_of(request))
        return SignedOut(True)

    @get("/v1/auth/me", tags=["authentication"], responses=problems())
    async def me(request: Request[Any, Any, Any]) -> Me:
        """Tell who you are by this token, and what it is good for."""
        return Me.of(grant_of(request))

    @post(
        "/v1/auth/password",
        tags=["authentication"],
        status_code=200,
        request_max_body_size=BODY_BYTES,
        responses=problems(413, 415, 422, 503, 507),
    )
    async def password(request: Request[Any, Any, Any], data: JSONBody[NewPassword]) -> SignedOut:
        """Change your password; all your tokens end, this one too."""
        require(authority)
        await sessions.change_password(grant_of(request), data.password, data.new_password)
        return SignedOut(True)

    return [login, refresh, logout, me, password]


def require(authority: Authority) -> None:
    """Raise `Unsupported` where there is no authentication: whoever reaches the hub may do all.

    Users that anybody made then would be there when it is on.
    """
    if not authority.enabled:
        raise Unsupported(
            "authentication is off; start the hub with --auth, or manage users with: gapless users"
        )
