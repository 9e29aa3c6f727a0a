"""Long-lived tokens for programs: made with a name, an expiry and scopes, listed, revoked."""

from __future__ import annotations

import asyncio
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from typing import Final

from gapless.auth.audit import Audit
from gapless.auth.directory import Account, Directory, Grant
from gapless.auth.permissions import Scope
from gapless.auth.tokens import Kind, mint
from gapless.auth.users import Users
from gapless.clock import Clock
from gapless.errors import Conflict, Forbidden, InvalidQuery, NotFound
from gapless.store.accounts import AccountStore, NewToken

MOST_DAYS: Final = 3_650
DEFAULT_DAYS: Final = 90
_DAY_MS: Final = 86_400_000
_LONGEST_NAME: Final = 100
_MOST_TOKENS: Final = 100


@dataclass(frozen=True, slots=True)
class ApiToken:
    """A token that was just made; its text is shown once."""

    grant: Grant
    text: str = field(repr=False)


class ApiTokens:
    """The tokens of all users, those of sign-ins too."""

    def __init__(
        self,
        store: AccountStore,
        directory: Directory,
        users: Users,
        audit: Audit,
        clock: Clock,
    ) -> None:
        self._store = store
        self._directory = directory
        self._users = users
        self._audit = audit
        self._clock = clock
        # One after the other: what is looked at before is still so when it is stored.
        self._creating = asyncio.Lock()

    def of(self, account: Account) -> Sequence[Grant]:
        """Return a user's tokens that count, oldest first; refresh tokens are not among them."""
        now = self._clock.now_ms()
        return [grant for _, grant in sorted(account.grants.items()) if grant.current(now)]

    def all(self) -> Sequence[Grant]:
        """Return everybody's."""
        return [grant for account in self._users.all() for grant in self.of(account)]

    async def create(
        self, account: Account, name: str, scopes: Iterable[str] | None, days: float, actor: str
    ) -> ApiToken:
        """Make a token for a program; raise `InvalidQuery`, `Forbidden`, `Conflict`.

        It may no more than its user. `scopes` `None`: all that its user may but `admin`, which
        is given to a program only by name.
        """
        async with self._creating:
            return await self._create(account, name.strip(), scopes, days, actor)

    async def _create(
        self, account: Account, name: str, scopes: Iterable[str] | None, days: float, actor: str
    ) -> ApiToken:
        if not name or len(name) > _LONGEST_NAME or not name.isprintable():
            raise InvalidQuery(f"a token needs a name, of {_LONGEST_NAME} characters at the most")
        if not 0 < days <= MOST_DAYS:
            raise InvalidQuery(
                f"a token is good for more than 0 and up to {MOST_DAYS:,} days, not for {days:g}"
            )
        chosen = account.scopes - {Scope.ADMIN} if scopes is None else _scopes(scopes)
        if not chosen <= account.scopes:
            beyond = ", ".join(sorted(chosen - account.scopes))
            raise Forbidden(f"{account.email} has the role {account.user.role}, without {beyond}")
        kept = [grant for grant in self.of(account) if grant.kind is Kind.API]
        if any(grant.stored.token.name == name for grant in kept):
            raise Conflict(f"{account.email} has a token {name!r} already; revoke it first")
        if len(kept) >= _MOST_TOKENS:
            raise Conflict(f"{account.email} has {len(kept)} tokens already; revoke some first")
        minted, epoch, now = mint(Kind.API), account.epoch, self._clock.now_ms()
        text = " ".join(sorted(chosen))
        new = NewToken(
            minted.digest,
            minted.kind,
            minted.family,
            name,
            text,
            now,
            now + round(days * _DAY_MS),
        )
        with self._audit.deed(
            actor, "token created", account.email, name=name, scopes=text, days=f"{days:g}"
        ) as deed:
            (stored,) = await self._store.add_tokens(account.user.number, [new], deed)
        if account.epoch != epoch:
            # The password was reset, or the user removed, while this was being stored.
            self._directory.disown([stored.number])
            await self._store.remove_tokens([stored.number])
            self._directory.removed([stored.number])
            raise Conflict(f"the tokens of {account.email} have just been ended; try again")
        self._directory.grant(account, [stored])
        return ApiToken(account.grants[stored.number], minted.text)

    async def revoke(self, number: int, actor: str, owner: Account | None = None) -> Grant:
        """End a token; one of a sign-in ends with all of that sign-in. Raises `NotFound`.

        With an `owner` only theirs are looked through.
        """
        accounts = self._users.all() if owner is None else [owner]
        found = [account for account in accounts if number in account.grants]
        if not found:
            raise NotFound(f"there is no token {number}")
        account = found[0]
        grant = account.grants[number]
        tokens = self._directory.family(account, grant.family)
        # In memory first: whatever becomes of the store, nobody gets in with it any more.
        self._directory.end(account, tokens)
        name = grant.stored.token.name
        with self._audit.deed(actor, "token revoked", account.email, name=name) as deed:
            numbers = [one.number for one in tokens]
            await self._store.remove_tokens(numbers, deed)
            self._directory.removed(numbers)
        return grant


def _scopes(names: Iterable[str]) -> frozenset[Scope]:
    """Return the scopes of these names; raise `InvalidQuery`, also where there are none."""
    result: set[Scope] = set()
    for name in names:
        try:
            result.add(Scope(name))
        except ValueError:
            known = ", ".join(Scope)
            raise InvalidQuery(
                f"there is no scope {name[:60]!r}; the scopes are: {known}"
            ) from None
    if not result:
        raise InvalidQuery(
            "a token without scopes is good for nothing; name some of "
            f"{', '.join(Scope)}, or leave `scopes` out for all that you may but admin"
        )
    return frozenset(result)
