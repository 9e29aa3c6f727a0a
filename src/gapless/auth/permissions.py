"""What each operation takes, and the one decision about it, for every door.

Pure: a table and a function. An operation that is not in the table is refused, so that a route
which somebody adds is closed until it is put here.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from enum import StrEnum
from functools import cache
from types import MappingProxyType
from typing import Final

from gapless.errors import Forbidden, GaplessError, MissingToken, Unauthorized


class Scope(StrEnum):
    """What a token may be good for."""

    READ = "read"
    """Ask for what is held."""
    FETCH = "fetch"
    """Cause requests upstream."""
    ADMIN = "admin"
    """Load code, manage users, store and delete data."""


ROLES: Final[Mapping[str, frozenset[Scope]]] = MappingProxyType(
    {
        "read": frozenset({Scope.READ}),
        "fetch": frozenset({Scope.READ, Scope.FETCH}),
        "admin": frozenset(Scope),
    }
)
"""What each role may; a token may at most what its user's role does."""

EVERYTHING: Final = ROLES["admin"]


@dataclass(frozen=True, slots=True)
class Rule:
    """What an operation takes.

    `scope` `None`: any valid token. `anyone`: not even that. `signed_in`: a token that a sign-in
    brought, within hours; one that was made for a program, and may have leaked from it, is not
    enough to make others from.
    """

    scope: Scope | None = None
    anyone: bool = False
    signed_in: bool = False


@dataclass(frozen=True, slots=True)
class Standing:
    """How a request stands: what its token is good for, and where that came from."""

    scopes: frozenset[Scope]
    signed_in: bool


ANYONE: Final = Rule(anyone=True)
ANY_TOKEN: Final = Rule()
SIGNED_IN: Final = Rule(signed_in=True)
READ: Final = Rule(Scope.READ)
FETCH: Final = Rule(Scope.FETCH)
ADMIN: Final = Rule(Scope.ADMIN)
ADMIN_HERSELF: Final = Rule(Scope.ADMIN, signed_in=True)

OPERATIONS: Final[Mapping[str, Rule]] = MappingProxyType(
    {
        # Lines of TCP, and bodies of /v1/query. What a query line says counts once it is read.
        "Ping": ANYONE,
        "Auth": ANY_TOKEN,
        "Line": ANY_TOKEN,
        "ProviderList": READ,
        "Describe": READ,
        # Of what is not held, those without `fetch` get what there is, and why it is no more.
        "GetEntity": READ,
        "GetEntities": READ,
        "GetAllEntities": READ,
        "SearchEntities": READ,
        "GetReport": FETCH,
        # What any route answers of itself.
        "OPTIONS": ANY_TOKEN,
        # Routes about who one is.
        "GET /setup": ANYONE,
        "POST /setup": ANYONE,
        "GET /login": ANYONE,
        "POST /login": ANYONE,
        "POST /v1/auth/login": ANYONE,
        "POST /v1/auth/refresh": ANYONE,
        "POST /v1/auth/logout": SIGNED_IN,
        "GET /v1/auth/me": ANY_TOKEN,
        "POST /v1/auth/password": SIGNED_IN,
        "POST /logout": SIGNED_IN,
        "GET /account": SIGNED_IN,
        "POST /account/tokens": SIGNED_IN,
        "POST /account/tokens/{number}/revoke": SIGNED_IN,
        "POST /account/password": SIGNED_IN,
        "GET /v1/tokens": SIGNED_IN,
        "POST /v1/tokens": SIGNED_IN,
        "DELETE /v1/tokens/{number}": SIGNED_IN,
        "GET /v1/users": ADMIN,
        "POST /v1/users": ADMIN_HERSELF,
        "PATCH /v1/users/{email}": ADMIN_HERSELF,
        "DELETE /v1/users/{email}": ADMIN_HERSELF,
        "GET /v1/audit": ADMIN,
        # Routes that ask.
        "POST /v1/query": ANY_TOKEN,
        "GET /v1/data/{provider}/{ticker}": READ,
        "HEAD /v1/data/{provider}/{ticker}": READ,
        "GET /providers": READ,
        "GET /providers/{name}/ping": READ,
        "GET /v1/providers": READ,
        "GET /v1/series": READ,
        "GET /v1/series/{provider}/{ticker}": READ,
        "GET /v1/coverage/{provider}/{ticker}": READ,
        "POST /v1/plan": READ,
        "POST /v1/refresh": FETCH,
        "DELETE /v1/series/{provider}/{ticker}": ADMIN,
        "GET /v1/entities": READ,
        "GET /v1/entities/{entity_id}": READ,
        "PUT /v1/entities/{entity_id}": ADMIN,
        # Routes about code.
        "POST /plugins/load": ADMIN,
        "GET /v1/plugins": READ,
        "GET /v1/plugins/{name}": READ,
        "POST /v1/plugins/{name}/reload": ADMIN,
        "DELETE /v1/plugins/{name}": ADMIN,
        # Routes about the hub itself.
        "GET /healthz": ANYONE,
        "GET /readyz": ANYONE,
        "GET /metrics": READ,
        "GET /": ANY_TOKEN,
        "GET /docs": ANY_TOKEN,
        "GET /docs/docs.css": ANY_TOKEN,
        "GET /openapi.json": ANY_TOKEN,
    }
)
"""Each operation of TCP by its name, each of HTTP by its method and route."""


def refusal(
    operation: str, standing: Standing | None, *, presented: bool = False
) -> GaplessError | None:
    """Return why an operation is refused; `None`: it is allowed.

    `standing` `None`: there is no valid token; `presented`: though there was one.
    """
    rule = OPERATIONS.get(operation)
    if rule is not None and rule.anyone:
        return None
    if standing is None:
        return invalid_token() if presented else missing_token()
    if rule is None:
        return Forbidden(f"{operation} is open to nobody: no rule says who may use it")
    if rule.scope is not None and rule.scope not in standing.scopes:
        return Forbidden(
            f"this takes the scope {rule.scope}; your token has "
            f"{', '.join(sorted(standing.scopes)) or 'none'}"
        )
    if rule.signed_in and not standing.signed_in:
        return Forbidden(
            "this takes a token from signing in; one that was made for a program cannot do it"
        )
    return None


@cache
def allowed(standing: Standing) -> frozenset[str]:
    """Return the operations that `refusal` lets a standing do: the same decision, made before."""
    return frozenset(name for name in OPERATIONS if refusal(name, standing) is None)


def missing_token() -> MissingToken:
    """Return the error of a request without a token; doors say how one is shown to them."""
    return MissingToken("authentication is on, and the request has no token")


def invalid_token() -> Unauthorized:
    """Return the error of a request with a token that is none of ours, or not any more."""
    return Unauthorized("the token is not valid, or not any more")
