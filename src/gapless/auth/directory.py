"""Users and their tokens in memory: what a request is held against, without waiting.

All of them are here, for there are few: a token that is not here is none. Whatever changes in the
store is changed here in the same breath, so that it counts from the next request on.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from dataclasses import replace
from typing import Final

from gapless.auth.permissions import EVERYTHING, ROLES, Scope, Standing, allowed
from gapless.auth.rate import Rate
from gapless.auth.tokens import Kind, digest, plausible
from gapless.clock import Clock
from gapless.lru import Lru
from gapless.store.accounts import NewToken, StoredToken, StoredUser

_NEVER_MS: Final = 1 << 62
_FOREVER_S: Final = float("inf")
_MOST_LATEST: Final = 1_000


class Account:
    """A user, and the budget that all tokens of theirs share; `rate` `None`: there is none."""

    __slots__ = ("epoch", "families", "grants", "rate", "scopes", "user")

    def __init__(self, user: StoredUser, rate: Rate | None) -> None:
        self.user = user
        self.rate = rate
        # Grows whenever all tokens are ended: one that was asked for before does not count.
        self.epoch = 0
        self.scopes = ROLES.get(user.role, frozenset())
        self.grants: dict[int, Grant] = {}
        self.families: dict[str, StoredToken] = {}

    @property
    def email(self) -> str:
        """The address that the user goes by."""
        return self.user.email


class Grant:
    """A valid token, until it ends: whose it is, and what it is good for.

    `reads` is whether it is still good for reading, which is all that a held answer asks.
    """

    __slots__ = (
        "account",
        "allowed",
        "deadline",
        "ended",
        "expires_ms",
        "family",
        "kind",
        "number",
        "reads",
        "scopes",
        "standing",
        "stored",
        "used_ms",
    )

    def __init__(self, account: Account, stored: StoredToken, deadline: float) -> None:
        self.account = account
        self.stored = stored
        self.number = stored.number
        self.kind = Kind(stored.token.kind)
        self.family = stored.token.family
        self.expires_ms = stored.token.expires_at
        # By the clock that nobody sets, so that setting the other one back revives nothing.
        self.deadline = deadline
        self.used_ms = stored.used_at
        self.ended = False
        self.scopes = frozenset(Scope(name) for name in stored.token.scopes.split())
        self.standing: Standing
        self.allowed: frozenset[str]
        self.reads: bool
        self.settle()

    @property
    def email(self) -> str:
        """Whose it is."""
        return self.account.email

    @property
    def signed_in(self) -> bool:
        """Whether it came from signing in."""
        return self.kind is not Kind.API

    def settle(self) -> None:
        """Find out anew what it is good for: what it was made for, as far as the role reaches."""
        scopes = self.scopes & self.account.scopes
        self.standing = Standing(scopes, self.signed_in)
        self.allowed = allowed(self.standing)
        self.reads = Scope.READ in scopes

    def current(self, now_ms: int) -> bool:
        """Whether it still counts."""
        return not self.ended and now_ms < self.expires_ms

    def takes(self) -> bool:
        """Take a request from the budget of its user; `False`: there is none left."""
        rate = self.account.rate
        return rate is None or rate.take()

    def admits(self, now_ms: int) -> bool:
        """Whether it may read now, which takes a request from its user's budget."""
        if not self.reads or now_ms >= self.expires_ms:
            return False
        self.used_ms = now_ms
        return self.takes()


def everybody() -> Grant:
    """Return the grant of a hub without authentication: whoever reaches it may do all."""
    user = StoredUser(0, "anonymous", "admin", 0, 0, None, "")
    scopes = " ".join(sorted(EVERYTHING))
    token = NewToken("", Kind.SESSION.value, "", "", scopes, 0, _NEVER_MS)
    return Grant(Account(user, None), StoredToken(0, 0, token, None), _FOREVER_S)


class Directory:
    """Finds the grant of a token, and ends it."""

    def __init__(self, clock: Clock, rate: Callable[[], Rate | None]) -> None:
        self._clock = clock
        self._rate = rate
        self._accounts: dict[int, Account] = {}
        self._by_email: dict[str, Account] = {}
        self._grants: dict[str, Grant] = {}
        # Those that were found last, by their text: hashing it costs most of finding one. They
        # are looked at each time all the same: one that has ended allows nothing any more.
        self.latest: Lru[str, Grant] = Lru(_MOST_LATEST)
        self._families: dict[str, Account] = {}
        # When refresh tokens end by the clock that nobody sets.
        self._deadlines: dict[str, float] = {}
        # Tokens that are over and may yet be in the store.
        self._over: set[int] = set()

    def find(self, token: str) -> Grant | None:
        """Return what a token grants; `None`: it is none, or not any more."""
        now = self._clock.now_ms()
        if not plausible(token):
            return None
        grant = self._grants.get(digest(token))
        if grant is None:
            return None
        if now >= grant.expires_ms or self._clock.monotonic() >= grant.deadline:
            self._end(grant)
            self._over.add(grant.number)
            return None
        grant.used_ms = now
        self.latest.put(token, grant)
        return grant

    # Accounts

    def add(self, user: StoredUser, tokens: Iterable[StoredToken] = ()) -> Account:
        """Take a user in, with tokens."""
        account = Account(user, self._rate())
        self._accounts[user.number] = account
        self._by_email[user.email] = account
        self.grant(account, tokens)
        return account

    def account(self, email: str) -> Account | None:
        """Return the user of an address."""
        return self._by_email.get(email)

    def accounts(self) -> list[Account]:
        """Return all users, by their addresses."""
        return [account for _, account in sorted(self._by_email.items())]

    def changed(self, account: Account, user: StoredUser) -> None:
        """Take over what was changed of a user, role included."""
        account.user = user
        account.scopes = ROLES.get(user.role, frozenset())
        for grant in account.grants.values():
            grant.settle()

    def remove(self, account: Account) -> None:
        """Let a user go, and end their tokens."""
        self.end_all(account)
        del self._accounts[account.user.number]
        del self._by_email[account.email]

    # Tokens

    def grant(self, account: Account, tokens: Iterable[StoredToken]) -> None:
        """Let new tokens count."""
        now, monotonic = self._clock.now_ms(), self._clock.monotonic()
        for stored in tokens:
            token = stored.token
            if token.kind == Kind.REFRESH:
                account.families[token.family] = stored
                self._families[token.family] = account
                self._deadlines[token.family] = monotonic + (token.expires_at - now) / 1_000
                continue
            left = (token.expires_at - now) / 1_000
            grant = Grant(account, stored, monotonic + left)
            account.grants[stored.number] = grant
            self._grants[token.digest] = grant

    def refresh(self, family: str) -> tuple[Account, StoredToken] | None:
        """Return whose a family is, and its one refresh token that is not used yet."""
        self.expire()
        account = self._families.get(family)
        return None if account is None else (account, account.families[family])

    def family(self, account: Account, family: str) -> list[StoredToken]:
        """Return the tokens of a family."""
        found = [one.stored for one in account.grants.values() if one.family == family]
        refresh = account.families.get(family)
        return found if refresh is None else [*found, refresh]

    def end(self, account: Account, tokens: Iterable[StoredToken]) -> None:
        """End tokens: whoever shows one again is refused.

        They are `over` until they are said to be `removed`: a store that fails just then must not
        bring them back some day.
        """
        for stored in tokens:
            self._over.add(stored.number)
            if stored.token.kind == Kind.REFRESH:
                if account.families.get(stored.token.family) is stored:
                    del account.families[stored.token.family]
                    del self._families[stored.token.family]
                    del self._deadlines[stored.token.family]
            elif (grant := account.grants.get(stored.number)) is not None:
                self._end(grant)

    def end_all(self, account: Account) -> None:
        """End all tokens of a user, and those that are just being made."""
        account.epoch += 1
        self.end(account, list(account.families.values()))
        for grant in list(account.grants.values()):
            self._end(grant)

    # For whoever keeps the house

    def used(self) -> dict[int, int]:
        """Return when tokens were used since this was last asked, by their numbers."""
        found: dict[int, int] = {}
        for account in self._accounts.values():
            for grant in account.grants.values():
                if grant.used_ms is not None and grant.used_ms != grant.stored.used_at:
                    found[grant.number] = grant.used_ms
                    grant.stored = replace(grant.stored, used_at=grant.used_ms)
        return found

    def expire(self) -> None:
        """End what has run out, by either clock: setting one back revives nothing."""
        now, monotonic = self._clock.now_ms(), self._clock.monotonic()
        for account in self._accounts.values():
            for grant in list(account.grants.values()):
                if now >= grant.expires_ms or monotonic >= grant.deadline:
                    self._end(grant)
                    self._over.add(grant.number)
            for family, stored in list(account.families.items()):
                if now >= stored.token.expires_at or monotonic >= self._deadlines[family]:
                    self.end(account, [stored])

    def over(self) -> frozenset[int]:
        """Return the numbers of tokens that are over, and may yet be in the store."""
        self.expire()
        return frozenset(self._over)

    def disown(self, numbers: Iterable[int]) -> None:
        """Note that these are in the store and must not be."""
        self._over.update(numbers)

    def removed(self, numbers: Iterable[int]) -> None:
        """Note that these are in the store no more."""
        self._over.difference_update(numbers)

    def _end(self, grant: Grant) -> None:
        # Answers that are kept ready hang on the grant itself.
        grant.ended = True
        grant.reads = False
        grant.scopes = frozenset()
        grant.standing = Standing(frozenset(), grant.signed_in)
        grant.allowed = frozenset()
        grant.account.grants.pop(grant.number, None)
        self._grants.pop(grant.stored.token.digest, None)
