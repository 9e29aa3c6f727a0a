"""The page of one's account: tokens for programs, where one is signed in, the password."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, Final

from litestar import Request, Response, get, post
from litestar.handlers import BaseRouteHandler
from litestar.params import FromPath

from gapless.auth.authority import Authority
from gapless.auth.directory import Grant
from gapless.auth.passwords import SHORTEST
from gapless.auth.permissions import ROLES, Scope
from gapless.auth.tokens import Kind
from gapless.errors import GaplessError, InvalidQuery, RequestError
from gapless.servers.http.account_pages import AccountPages
from gapless.servers.http.cookies import SessionCookie
from gapless.servers.http.identity import grant_of
from gapless.servers.http.problems import status_of
from gapless.servers.http.routes.authentication import BODY_BYTES
from gapless.servers.http.routes.forms import (
    ACCOUNT,
    check_twice,
    form_of,
    led,
    nobody_signs_in,
)

_MEANS: Final = {
    "read": "ask for what is held",
    "fetch": "have what is not held fetched",
    "admin": "load code, manage users, store and delete data",
}
_ROLE_MEANS: Final = {
    "read": "you may ask for what is held",
    "fetch": "you may ask for anything; what is not held is fetched",
    "admin": "you may do everything",
}


def account_routes(
    authority: Authority, pages: AccountPages, cookie: SessionCookie
) -> Sequence[BaseRouteHandler]:
    """Return the routes; they are for browsers, and not in the description."""
    sessions, tokens = authority.sessions, authority.tokens

    def account_page(
        grant: Grant, error: GaplessError | None = None, **values: Any
    ) -> Response[str]:
        mine = tokens.of(grant.account)
        scopes = [
            {"name": scope, "means": _MEANS[scope], "chosen": scope != "admin"}
            for scope in ROLES["admin"] & grant.account.scopes
        ]
        return pages.page(
            "account",
            "Your account",
            200 if error is None else status_of(error),
            error=error.message if error else "",
            who=grant,
            role=grant.account.user.role,
            manages=Scope.ADMIN in grant.standing.scopes,
            role_means=_ROLE_MEANS[grant.account.user.role],
            scopes=sorted(scopes, key=lambda one: list(_MEANS).index(one["name"])),
            tokens=[_row(one) for one in mine if one.kind is Kind.API],
            sessions=[_row(one) for one in mine if one.kind is not Kind.API],
            here=grant.number,
            shortest=SHORTEST,
            **{"fresh": "", "name": "", "days": "90", "done": "", **values},
        )

    @get(ACCOUNT, include_in_schema=False)
    async def account(request: Request[Any, Any, Any]) -> Response[str]:
        """Show one's account."""
        return account_page(grant_of(request)) if authority.enabled else nobody_signs_in(pages)

    @post(
        "/account/tokens",
        include_in_schema=False,
        status_code=200,
        request_max_body_size=BODY_BYTES,
    )
    async def make_token(request: Request[Any, Any, Any]) -> Response[str]:
        """Make a token for a program, and show it."""
        if not authority.enabled:
            return nobody_signs_in(pages)
        grant, form = grant_of(request), {}
        try:
            form = await form_of(request)
            chosen = [scope for scope in _MEANS if scope in form]
            if not chosen:
                raise InvalidQuery("choose at least one thing that the token may do")
            made = await tokens.create(
                grant.account, form.get("name", ""), chosen, _days(form), grant.email
            )
        except RequestError as error:
            return account_page(
                grant, error, name=form.get("name", ""), days=form.get("days", "90")
            )
        return account_page(grant, fresh=made.text)

    @post(
        "/account/tokens/{number:int}/revoke",
        include_in_schema=False,
        status_code=303,
    )
    async def revoke(request: Request[Any, Any, Any], number: FromPath[int]) -> Response[str]:
        """Revoke one of one's tokens."""
        if not authority.enabled:
            return nobody_signs_in(pages)
        grant = grant_of(request)
        try:
            await tokens.revoke(number, grant.email, grant.account)
        except RequestError as error:
            return account_page(grant, error)
        return led(ACCOUNT)

    @post(
        "/account/password",
        include_in_schema=False,
        status_code=200,
        request_max_body_size=BODY_BYTES,
    )
    async def password(request: Request[Any, Any, Any]) -> Response[str]:
        """Change one's password, and lead to signing in with it."""
        if not authority.enabled:
            return nobody_signs_in(pages)
        grant = grant_of(request)
        try:
            form = await form_of(request)
            check_twice(form, "new_password")
            await sessions.change_password(
                grant,
                form.get("password", ""),
                form.get("new_password", ""),
            )
        except RequestError as error:
            return account_page(grant, error)
        return led("/login", cookie.taken())

    return [account, make_token, revoke, password]


def _row(grant: Grant) -> dict[str, Any]:
    token = grant.stored.token
    return {
        "number": grant.number,
        "name": token.name,
        "scopes": sorted(grant.scopes, key=list(_MEANS).index),
        "created_at": token.created_at,
        "expires_at": token.expires_at,
        "used_at": grant.used_ms,
    }


def _days(form: Mapping[str, str]) -> float:
    try:
        return float(form.get("days") or "90")
    except ValueError:
        raise InvalidQuery("how many days it is good for is a number") from None
