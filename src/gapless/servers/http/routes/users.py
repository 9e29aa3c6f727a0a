"""Users, tokens for programs, and the audit log."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Annotated, Any, Final

from litestar import Request, Response, delete, get, patch, post
from litestar.handlers import BaseRouteHandler
from litestar.params import FromPath, JSONBody, QueryParameter

from gapless.auth.authority import Authority
from gapless.auth.permissions import Scope
from gapless.errors import InvalidQuery
from gapless.servers.http.account_shapes import (
    AuditPage,
    CreatedToken,
    NewApiToken,
    NewUser,
    Removed,
    TokenPage,
    TokenShape,
    UserChange,
    UserPage,
    UserShape,
)
from gapless.servers.http.identity import grant_of
from gapless.servers.http.routes.authentication import BODY_BYTES, require
from gapless.servers.http.routes.responses import problems

_MOST: Final = 1_000
_Limit = Annotated[int, QueryParameter(description="the most of one page", ge=1, le=_MOST)]
_Before = Annotated[
    int, QueryParameter(description="`next` of the page before; 0: the latest", ge=0, le=2**63 - 1)
]
_Everybodys = Annotated[
    bool, QueryParameter(name="all", description="everybody's, for administrators")
]


def user_routes(authority: Authority) -> Sequence[BaseRouteHandler]:
    """Return the routes."""
    users, tokens = authority.users, authority.tokens

    @get("/v1/users", tags=["users"], responses=problems(422))
    async def listed() -> UserPage:
        """List the users."""
        require(authority)
        return UserPage([UserShape.of(account) for account in users.all()])

    @post(
        "/v1/users",
        tags=["users"],
        status_code=201,
        request_max_body_size=BODY_BYTES,
        responses=problems(409, 413, 415, 422, 503, 507),
    )
    async def add(request: Request[Any, Any, Any], data: JSONBody[NewUser]) -> UserShape:
        """Add a user.

        The role is `read` (what is held), `fetch` (what is not, too) or `admin` (everything).
        """
        require(authority)
        actor = grant_of(request).email
        return UserShape.of(await users.add(data.email, data.password, data.role, actor))

    @patch(
        "/v1/users/{email:str}",
        tags=["users"],
        request_max_body_size=BODY_BYTES,
        responses=problems(404, 409, 413, 415, 422, 503, 507),
    )
    async def change(
        request: Request[Any, Any, Any], email: FromPath[str], data: JSONBody[UserChange]
    ) -> UserShape:
        """Give a user another role, or another password, which ends all tokens of theirs."""
        require(authority)
        actor, account = grant_of(request).email, users.get(email)
        if data.role is None and data.password is None:
            raise InvalidQuery("give a role, or a password")
        if data.role is not None:
            account = await users.set_role(email, data.role, actor)
        if data.password is not None:
            account = await users.set_password(email, data.password, actor)
        return UserShape.of(account)

    @delete(
        "/v1/users/{email:str}",
        tags=["users"],
        status_code=200,
        responses=problems(404, 409, 422, 507),
    )
    async def remove(request: Request[Any, Any, Any], email: FromPath[str]) -> Removed:
        """Remove a user, and end all tokens of theirs."""
        require(authority)
        account = users.get(email)
        await users.remove(email, grant_of(request).email)
        return Removed(True, account.email)

    @get("/v1/tokens", tags=["users"], responses=problems(422))
    async def tokens_listed(
        request: Request[Any, Any, Any], everybodys: _Everybodys = False
    ) -> TokenPage:
        """List your tokens that count, or everybody's."""
        require(authority)
        grant = grant_of(request)
        if everybodys and Scope.ADMIN in grant.standing.scopes:
            return TokenPage([TokenShape.of(one) for one in tokens.all()])
        if everybodys:
            raise InvalidQuery("all=true is for administrators; leave it out for your own tokens")
        return TokenPage([TokenShape.of(one) for one in tokens.of(grant.account)])

    @post(
        "/v1/tokens",
        tags=["users"],
        status_code=201,
        request_max_body_size=BODY_BYTES,
        responses=problems(409, 413, 415, 422, 507),
    )
    async def create(
        request: Request[Any, Any, Any], data: JSONBody[NewApiToken]
    ) -> Response[CreatedToken]:
        """Make a token for a program, with no more scopes than you have yourself.

        It takes a token from signing in: one that leaked from a program makes no others.
        """
        require(authority)
        grant = grant_of(request)
        made = await tokens.create(
            grant.account, data.name, data.scopes, data.expires_in_days, grant.email
        )
        return Response(
            CreatedToken(made.text, TokenShape.of(made.grant)),
            status_code=201,
            headers={"cache-control": "no-store"},
        )

    @delete(
        "/v1/tokens/{number:int}",
        tags=["users"],
        status_code=200,
        responses=problems(404, 422, 507),
    )
    async def revoke(request: Request[Any, Any, Any], number: FromPath[int]) -> Removed:
        """Revoke a token of yours; administrators may revoke any.

        One of a sign-in ends with all that belongs to it.
        """
        require(authority)
        grant = grant_of(request)
        owner = None if Scope.ADMIN in grant.standing.scopes else grant.account
        gone = await tokens.revoke(number, grant.email, owner)
        return Removed(True, gone.stored.token.name)

    @get("/v1/audit", tags=["users"], responses=problems())
    async def audit(limit: _Limit = 100, before: _Before = 0) -> AuditPage:
        """Tell who loaded which code, let whom in or out, made or revoked what; latest first."""
        return AuditPage.of(await authority.audit.deeds(limit, before or None), limit)

    return [listed, add, change, remove, tokens_listed, create, revoke, audit]
