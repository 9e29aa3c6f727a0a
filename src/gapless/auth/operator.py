"""What an operator does about users and tokens: the same words over a hub's socket and without one.

Whoever can open the socket, or the database, is one: both are the hub's user's alone.
"""

from __future__ import annotations

import pwd
from collections.abc import Mapping
from typing import Annotated, Any

import msgspec
from msgspec import Struct

from gapless.auth.api_tokens import DEFAULT_DAYS
from gapless.auth.authority import Authority
from gapless.auth.directory import Account, Grant
from gapless.errors import InvalidQuery, NotFound
from gapless.instants import format_instant
from gapless.store.accounts import StoredDeed

Json = dict[str, Any]


class AddUser(Struct, tag="users.add", forbid_unknown_fields=True):
    """Add a user."""

    email: str
    password: str
    role: str

    def __repr__(self) -> str:
        """Return it without the password."""
        return f"AddUser({self.email!r}, role={self.role!r})"


class CheckUser(Struct, tag="users.check", forbid_unknown_fields=True):
    """Say whether a user can be added, before anybody is asked for the password."""

    email: str
    role: str


class FindUser(Struct, tag="users.find", forbid_unknown_fields=True):
    """Tell of a user."""

    email: str


class ListUsers(Struct, tag="users.list", forbid_unknown_fields=True):
    """List the users."""


class RemoveUser(Struct, tag="users.remove", forbid_unknown_fields=True):
    """Remove a user."""

    email: str


class SetPassword(Struct, tag="users.passwd", forbid_unknown_fields=True):
    """Give a user another password."""

    email: str
    password: str

    def __repr__(self) -> str:
        """Return it without the password."""
        return f"SetPassword({self.email!r})"


class SetRole(Struct, tag="users.role", forbid_unknown_fields=True):
    """Give a user another role."""

    email: str
    role: str


class CreateToken(Struct, tag="tokens.create", forbid_unknown_fields=True):
    """Make a token for a program of a user's; `scopes` `None`: all the user's but `admin`."""

    email: str
    name: str
    scopes: list[str] | None = None
    days: float = DEFAULT_DAYS


class ListTokens(Struct, tag="tokens.list", forbid_unknown_fields=True):
    """List the tokens of a user, or of all."""

    email: str | None = None


class RevokeToken(Struct, tag="tokens.revoke", forbid_unknown_fields=True):
    """End a token."""

    number: int


class ListDeeds(Struct, tag="audit", forbid_unknown_fields=True):
    """List the latest lines of the audit log."""

    limit: Annotated[int, msgspec.Meta(ge=1, le=100_000)] = 100


Order = (
    AddUser
    | CheckUser
    | FindUser
    | ListUsers
    | RemoveUser
    | SetPassword
    | SetRole
    | CreateToken
    | ListTokens
    | RevokeToken
    | ListDeeds
)


def order_of(told: Mapping[str, Any]) -> Order:
    """Return the order that JSON tells, by its `type`; raise `InvalidQuery`."""
    try:
        order: Order = msgspec.convert(told, type=Order)
    except (msgspec.ValidationError, RecursionError) as error:
        raise InvalidQuery(f"that is no command of this hub: {error}") from error
    return order


async def perform(authority: Authority, order: Order, actor: str) -> Json:
    """Do what an operator says and return what is to be told of it, as JSON."""
    users, tokens = authority.users, authority.tokens
    match order:
        case AddUser(email, password, role):
            users.check_new(email, role)
            return _user(await users.add(email, password, role, actor))
        case CheckUser(email, role):
            users.check_new(email, role)
            return {}
        case FindUser(email):
            return _user(users.get(email))
        case ListUsers():
            return {"users": [_user(account) for account in users.all()]}
        case RemoveUser(email):
            account = users.get(email)
            await users.remove(email, actor)
            return {"email": account.email}
        case SetPassword(email, password):
            return _user(await users.set_password(email, password, actor))
        case SetRole(email, role):
            before = users.get(email).user.role
            return {**_user(await users.set_role(email, role, actor)), "before": before}
        case CreateToken(email, name, scopes, days):
            made = await tokens.create(users.get(email), name, scopes, days, actor)
            return {"token": made.text, **_token(made.grant)}
        case ListTokens(email):
            found = tokens.all() if email is None else tokens.of(users.get(email))
            return {"tokens": [_token(grant) for grant in found]}
        case RevokeToken(number):
            try:
                return _token(await tokens.revoke(number, actor))
            except NotFound as error:
                raise NotFound(f"{error.message}; see: gapless tokens list") from None
        case ListDeeds(limit):
            return {"deeds": [_deed(one) for one in await authority.audit.deeds(limit)]}


def operator_name(uid: int) -> str:
    """Return how the audit log calls a user of this machine."""
    try:
        return f"operator {pwd.getpwuid(uid).pw_name}"
    except (KeyError, OverflowError):
        return "operator" if uid < 0 else f"operator {uid}"


def _user(account: Account) -> Json:
    user = account.user
    return {
        "email": user.email,
        "role": user.role,
        "created_at": format_instant(user.created_at),
        "signed_in_at": _instant(user.signed_in_at),
        "tokens": len(account.grants),
    }


def _token(grant: Grant) -> Json:
    token = grant.stored.token
    return {
        "number": grant.number,
        "user": grant.email,
        "kind": token.kind,
        "name": token.name,
        "scopes": token.scopes.split(),
        "created_at": format_instant(token.created_at),
        "expires_at": format_instant(token.expires_at),
        "used_at": _instant(grant.used_ms),
    }


def _deed(stored: StoredDeed) -> Json:
    deed = stored.deed
    return {
        "at": format_instant(deed.at),
        "actor": deed.actor,
        "action": deed.action,
        "target": deed.target,
        "details": dict(deed.details),
    }


def _instant(ms: int | None) -> str | None:
    return None if ms is None else format_instant(ms)
