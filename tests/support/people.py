"""Users of a hub with authentication, and what they show; all passwords can be searched for."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass

from gapless.auth.authority import Authority
from gapless.auth.sessions import Pair
from gapless.auth.tokens import PREFIXES

MARK = "jabberwock"
PASSWORD = f"{MARK} with eyes of flame"
OTHER_PASSWORD = f"{MARK} came whiffling through"
ROLES = ("read", "fetch", "admin")
# What gives a token away wherever it stands.
TOKEN_STARTS = tuple(PREFIXES.values())


@dataclass(frozen=True, slots=True)
class Person:
    """A user by address, and what signing in brought."""

    email: str
    pair: Pair

    @property
    def bearer(self) -> dict[str, str]:
        """The header that a request of theirs has."""
        return {"authorization": f"Bearer {self.pair.access}"}


async def person(authority: Authority, role: str, email: str | None = None) -> Person:
    """Add a user of a role and sign them in."""
    email = email or f"{role}@example.com"
    if authority.users.all() == [] or all(one.email != email for one in authority.users.all()):
        await authority.users.add(email, PASSWORD, role, "test")
    return Person(email, await authority.sessions.sign_in(email, PASSWORD, "127.0.0.1"))


async def api_token(
    authority: Authority, email: str, scopes: Iterable[str] | None = None, name: str = "program"
) -> str:
    """Make a token for a program of a user's; without `scopes` for all that the user may."""
    account = authority.users.get(email)
    chosen = account.scopes if scopes is None else scopes
    made = await authority.tokens.create(account, name, chosen, 90, "test")
    return made.text


def bearer(token: str) -> dict[str, str]:
    """Return the header that shows a token."""
    return {"authorization": f"Bearer {token}"}
