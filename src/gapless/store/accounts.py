"""Users, tokens and the audit log, as a store keeps them: the words, and what can be done.

Apart from `base.py`, for the hub that answers from histories knows nothing of who asks.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Protocol


@dataclass(frozen=True, slots=True)
class StoredUser:
    """A user. `password` is an argon2id hash; instants are milliseconds UTC."""

    number: int
    email: str
    role: str
    created_at: int
    password_at: int
    signed_in_at: int | None
    password: str = field(repr=False)


@dataclass(frozen=True, slots=True)
class NewToken:
    """A token to be stored: the SHA-256 of its text in hex, never the text.

    `kind` is `access`, `refresh`, `session` or `api`. Tokens of one sign-in are one `family`.
    `scopes` have spaces between them.
    """

    digest: str = field(repr=False)
    kind: str
    family: str = field(repr=False)
    name: str
    scopes: str
    created_at: int
    expires_at: int


@dataclass(frozen=True, slots=True)
class StoredToken:
    """A token as it is stored; `used_at` is about when it was last shown, `None`: never."""

    number: int
    user: int
    token: NewToken
    used_at: int | None


@dataclass(frozen=True, slots=True)
class Deed:
    """What somebody did, for the audit log: who, what, to what, and more by name."""

    at: int
    actor: str
    action: str
    target: str
    details: Mapping[str, str] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class StoredDeed:
    """A line of the audit log; numbers ascend with time."""

    number: int
    deed: Deed


@dataclass(frozen=True, slots=True)
class Roster:
    """All users and tokens in one snapshot; `set_up`: there has been a user."""

    users: Sequence[StoredUser]
    tokens: Sequence[StoredToken]
    set_up: bool


class AccountStore(Protocol):
    """Where users and tokens are kept. Each change is one transaction, and is on the disk then.

    A change is made together with the deed that tells of it, or not at all.
    """

    async def roster(self) -> Roster:
        """Return all users and tokens."""
        ...

    async def add_user(
        self,
        email: str,
        role: str,
        password: str,
        deed: Deed,
        tokens: Sequence[NewToken] = (),
        *,
        first: bool = False,
        signed_in_at: int | None = None,
    ) -> tuple[StoredUser, Sequence[StoredToken]]:
        """Store a user, with tokens; from then on setup is over.

        `signed_in_at`: when they signed in, where the tokens are of a sign-in.

        Raises `Conflict` where the address is taken, and, if it must be the `first`, where there
        has ever been one.
        """
        ...

    async def change_user(
        self, number: int, deed: Deed, *, role: str | None = None, password: str | None = None
    ) -> bool:
        """Change a user's role or password, which ends all tokens; return whether it is there."""
        ...

    async def remove_user(self, number: int, deed: Deed) -> bool:
        """Remove a user and all tokens of theirs; return whether it was there."""
        ...

    async def rehash(self, number: int, old: str, new: str) -> bool:
        """Store the same password's hash anew; return whether the `old` one was still there."""
        ...

    async def add_tokens(
        self,
        user: int,
        tokens: Sequence[NewToken],
        deed: Deed | None = None,
        *,
        instead: Sequence[int] = (),
        signed_in_at: int | None = None,
    ) -> Sequence[StoredToken]:
        """Store tokens, in the place of those `instead`; raise `NotFound` for no such user."""
        ...

    async def remove_tokens(self, numbers: Sequence[int], deed: Deed | None = None) -> int:
        """Remove tokens; return how many were there."""
        ...

    async def note_use(self, used: Mapping[int, int]) -> None:
        """Store when tokens were last used, by their numbers."""
        ...

    async def record(self, deed: Deed) -> None:
        """Add a line to the audit log."""
        ...

    async def deeds(self, limit: int, before: int | None = None) -> Sequence[StoredDeed]:
        """Return the latest lines of the audit log, or those before that number."""
        ...
