"""What the routes about users and tokens take and return. Instants are RFC 3339."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Annotated, Final

from msgspec import Meta, Struct

from gapless.auth.directory import Account, Grant
from gapless.auth.sessions import Pair
from gapless.instants import format_instant
from gapless.store.accounts import StoredDeed

_Email = Annotated[str, Meta(min_length=3, max_length=254, examples=["ann@example.com"])]
# What is too long or too short is told in the words of those who check it.
_Password = Annotated[str, Meta(max_length=1_000, description="12 to 256 characters")]
_Token = Annotated[str, Meta(max_length=1_000)]
_Role = Annotated[str, Meta(max_length=100, description="read, fetch or admin")]
_SCOPES: Final = "read, fetch, admin: at least one of them"
_Name = Annotated[str, Meta(min_length=1, max_length=100)]


class Login(Struct, frozen=True, forbid_unknown_fields=True):
    """An email address and its password."""

    email: Annotated[str, Meta(max_length=1_000, examples=["ann@example.com"])]
    password: _Password


class Refresh(Struct, frozen=True, forbid_unknown_fields=True):
    """A refresh token, which is used up by this."""

    refresh_token: _Token


class Tokens(Struct, frozen=True):
    """Tokens that are told this once; `expires_in` and the like are seconds."""

    access_token: str
    refresh_token: str
    token_type: str
    expires_in: int
    refresh_expires_in: int
    role: str

    @classmethod
    def of(cls, pair: Pair) -> Tokens:
        """Return how a new pair is told."""
        return cls(
            pair.access,
            pair.refresh,
            "Bearer",
            pair.expires_in_s,
            pair.refresh_expires_in_s,
            pair.account.user.role,
        )


class SignedOut(Struct, frozen=True):
    """It is done: the tokens of this sign-in count no more."""

    ok: bool


class Me(Struct, frozen=True):
    """Who a token makes one, and what it is good for; no `expires_at`: authentication is off."""

    email: str
    role: str
    scopes: list[str]
    kind: str
    expires_at: str | None

    @classmethod
    def of(cls, grant: Grant) -> Me:
        """Return who a grant makes one."""
        return cls(
            grant.email,
            grant.account.user.role,
            sorted(grant.standing.scopes),
            grant.kind.value,
            format_instant(grant.expires_ms) if grant.number else None,
        )


class NewPassword(Struct, frozen=True, forbid_unknown_fields=True):
    """One's password, and the one to have instead; all tokens end with the old one."""

    password: _Password
    new_password: _Password


class UserShape(Struct, frozen=True):
    """A user."""

    email: str
    role: str
    created_at: str
    password_changed_at: str
    signed_in_at: str | None
    tokens: int

    @classmethod
    def of(cls, account: Account) -> UserShape:
        """Return how a user is shown."""
        user = account.user
        return cls(
            user.email,
            user.role,
            format_instant(user.created_at),
            format_instant(user.password_at),
            _instant(user.signed_in_at),
            len(account.grants),
        )


class UserPage(Struct, frozen=True):
    """All users, by address."""

    users: list[UserShape]


class NewUser(Struct, frozen=True, forbid_unknown_fields=True):
    """A user to be added."""

    email: _Email
    password: _Password
    role: _Role = "fetch"


class UserChange(Struct, frozen=True, forbid_unknown_fields=True):
    """What is to be changed of a user; a new password ends all tokens of theirs."""

    role: _Role | None = None
    password: _Password | None = None


class Removed(Struct, frozen=True):
    """It is gone."""

    ok: bool
    removed: str


class TokenShape(Struct, frozen=True):
    """A token, but for its text: of an API token, or of a sign-in (`access`, `session`)."""

    number: int
    user: str
    kind: str
    name: str
    scopes: list[str]
    created_at: str
    expires_at: str
    used_at: str | None

    @classmethod
    def of(cls, grant: Grant) -> TokenShape:
        """Return how a token is shown."""
        token = grant.stored.token
        return cls(
            grant.number,
            grant.email,
            grant.kind.value,
            token.name,
            sorted(grant.scopes),
            format_instant(token.created_at),
            format_instant(token.expires_at),
            _instant(grant.used_ms),
        )


class TokenPage(Struct, frozen=True):
    """Tokens that count, by user, oldest first."""

    tokens: list[TokenShape]


class NewApiToken(Struct, frozen=True, forbid_unknown_fields=True):
    """A token to be made for a program; without `scopes` it may all that you may but `admin`."""

    name: _Name
    # That there is at least one is told in the words of who checks it.
    scopes: Annotated[list[str], Meta(max_length=3, description=_SCOPES)] | None = None
    expires_in_days: Annotated[float, Meta(gt=0, le=3_650)] = 90


class CreatedToken(Struct, frozen=True):
    """A token that was made; its text is told this once."""

    token: str
    about: TokenShape


class DeedShape(Struct, frozen=True):
    """Who did what, to what."""

    number: int
    at: str
    actor: str
    action: str
    target: str
    details: dict[str, str]

    @classmethod
    def of(cls, stored: StoredDeed) -> DeedShape:
        """Return how a line of the audit log is shown."""
        deed = stored.deed
        return cls(
            stored.number,
            format_instant(deed.at),
            deed.actor,
            deed.action,
            deed.target,
            dict(deed.details),
        )


class AuditPage(Struct, frozen=True):
    """Deeds, the latest first; `next` is the `before` of the page that follows."""

    deeds: list[DeedShape]
    next: int | None

    @classmethod
    def of(cls, found: Sequence[StoredDeed], limit: int) -> AuditPage:
        """Return a page of at most `limit` lines."""
        full = len(found) >= limit
        return cls([DeedShape.of(one) for one in found], found[-1].number if full else None)


def _instant(ms: int | None) -> str | None:
    return None if ms is None else format_instant(ms)
