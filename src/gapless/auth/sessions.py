"""Signing in, going on, signing out; and setting a new hub up, once."""

from __future__ import annotations

import asyncio
import hmac
import secrets
from collections.abc import Sequence
from contextlib import AbstractContextManager
from dataclasses import dataclass, field, replace
from typing import Final

from gapless.auth.audit import Audit
from gapless.auth.directory import Account, Directory, Grant
from gapless.auth.guessing import Guessing, origin_of
from gapless.auth.passwords import Passwords, check_password
from gapless.auth.permissions import EVERYTHING
from gapless.auth.throttle import Patience, Throttle
from gapless.auth.tokens import Kind, Minted, digest, family_of, mint
from gapless.auth.users import Users, checked_email, plain
from gapless.clock import Clock
from gapless.config.settings import AccessSettings
from gapless.errors import Conflict, Forbidden, QuotaExceeded, Unauthorized
from gapless.store.accounts import AccountStore, Deed, NewToken, StoredToken

# Of a family that goes on and on, the access tokens of so many turns back still count.
_ACCESS_TOKENS: Final = 3
_WRONG: Final = "the email address or the password is wrong"
_SETUP_OVER: Final = "setup is over: there is a user already; sign in"


@dataclass(frozen=True, slots=True)
class Pair:
    """What a program gets for signing in; both texts are shown once."""

    account: Account
    access: str = field(repr=False)
    refresh: str = field(repr=False)
    expires_in_s: int
    refresh_expires_in_s: int


class Sessions:
    """Who is signed in."""

    def __init__(
        self,
        store: AccountStore,
        directory: Directory,
        users: Users,
        passwords: Passwords,
        audit: Audit,
        clock: Clock,
        limits: AccessSettings,
    ) -> None:
        self.limits = limits
        self._store = store
        self._directory = directory
        self._users = users
        self._passwords = passwords
        self._audit = audit
        self._clock = clock
        self._setup_key: str | None = None
        self._guessing = Guessing(clock)
        # One's own password is guessed at only with a token of one's own.
        self._own = Throttle(Patience(free=5, first=1.0, most=60.0))
        # One after the other: who is signed in too often is decided on all of them.
        self._signing_in = asyncio.Lock()
        self._refreshing = asyncio.Lock()

    # Setup

    def open_setup(self) -> str:
        """Let a first user be made by whoever has the key that is returned."""
        self._setup_key = secrets.token_urlsafe(32)
        return self._setup_key

    @property
    def awaits_setup(self) -> bool:
        """Whether there has never been a user."""
        return self._setup_key is not None and not self._directory.accounts()

    def check_setup_key(self, key: str) -> None:
        """Raise `Conflict` where setup is over, `Forbidden` for another key."""
        if self._setup_key is None or not self.awaits_setup:
            raise Conflict(_SETUP_OVER)
        if not hmac.compare_digest(key.encode(), self._setup_key.encode()):
            raise Forbidden("that is not the key; it stands in the hub's log, in the setup address")

    async def set_up(self, key: str, email: str, password: str) -> Pair:
        """Make the first user, an administrator, and sign them in; setup is over then.

        Raises `Forbidden` for another key, `InvalidQuery`, and `Conflict` for all but the first.
        """
        self.check_setup_key(key)
        email = checked_email(email)
        check_password(password, email)
        hashed = await self._passwords.hashed(password, "setup", lambda: self.check_setup_key(key))
        minted = _pair()
        new = self._new(minted, "setup")
        try:
            with self._audit.deed("setup", "first user added", email, role="admin") as deed:
                user, tokens = await self._store.add_user(
                    email, "admin", hashed, deed, new, first=True, signed_in_at=deed.at
                )
        except Conflict:
            self._setup_key = None
            raise
        self._setup_key = None
        account = self._directory.add(user, tokens)
        return self._shown(account, minted)

    # Signing in and out

    async def sign_in(self, email: str, password: str, address: str) -> Pair:
        """Return tokens for a password; raise `Unauthorized`, or `QuotaExceeded` for a guesser."""
        account = await self._proven(email, password, address)
        minted = _pair()
        await self._begin(account, account.epoch, minted, address)
        await self._users.renew_hash(account, password)
        return self._shown(account, minted)

    async def sign_in_browser(self, email: str, password: str, address: str) -> str:
        """Return what a browser is to keep as a cookie; see `sign_in`."""
        account = await self._proven(email, password, address)
        minted = mint(Kind.SESSION)
        await self._begin(account, account.epoch, [minted], address)
        await self._users.renew_hash(account, password)
        return minted.text

    async def refresh(self, token: str, address: str) -> Pair:
        """Return new tokens for a refresh token, which is used up by it.

        One that was used before ends its family: of the two who have it one is a thief, and
        `address` is where the second one is. Raises `Unauthorized`.
        """
        family = family_of(token)
        if family is None:
            raise Unauthorized("that is no refresh token")
        async with self._refreshing:
            found = self._directory.refresh(family)
            if found is None:
                raise Unauthorized("this refresh token is not valid, or not any more; sign in")
            account, current = found
            if not hmac.compare_digest(digest(token), current.token.digest):
                email = account.email
                alarm = self._audit.alarm(email, "refresh token used twice", email, address=address)
                await self._end_family(account, family, alarm)
                raise Unauthorized(
                    "this refresh token has been used before, so that whoever signed in with it "
                    "is signed out; sign in again"
                )
            minted = _pair(family)
            new = self._new(minted, current.token.name)
            old = [current, *self._oldest(account, family)]
            stored = await self._store.add_tokens(
                account.user.number, new, instead=[one.number for one in old]
            )
            if self._directory.refresh(family) != found:
                # Signed out, or the password reset, while this was being stored.
                await self._take_back(stored)
                raise Unauthorized("this sign-in has just been ended; sign in again")
            self._directory.end(account, old)
            self._directory.removed(one.number for one in old)
            self._directory.grant(account, stored)
            return self._shown(account, minted)

    async def sign_out(self, grant: Grant) -> None:
        """End all tokens that came from the same sign-in."""
        email = grant.account.email
        deed = self._audit.deed(email, "signed out", email)
        await self._end_family(grant.account, grant.family, deed)

    async def change_password(self, grant: Grant, old: str, new: str) -> None:
        """Change one's own password, which ends all tokens, this one too.

        Whoever else guesses at the account does not keep its user from it.
        """
        account = grant.account
        check_password(new, account.email)

        def admit() -> None:
            wait = self._own.wait(account.email, self._clock.monotonic())
            if wait > 0:
                raise QuotaExceeded(
                    f"that was wrong too often; try again in {max(wait, 1):.0f} s",
                    retry_after_s=max(0.1, round(wait, 1)),
                )

        # When its turn has come: many at once would all be let through else.
        if not await self._passwords.verify(account.user.password, old, account.email, admit):
            self._own.failed(account.email, self._clock.monotonic())
            raise Forbidden("that is not your password")
        if grant.ended:
            raise Unauthorized("this sign-in has just been ended; sign in again")
        self._own.succeeded(account.email)
        await self._users.set_password(account.email, new, account.email)

    # How

    async def _proven(self, email: str, password: str, address: str) -> Account:
        """Return whose password it is, or raise, after the same time for any address."""
        email, origin = plain(email), origin_of(address)

        def admit() -> None:
            self._guessing.check(email, origin)

        admit()
        account = self._directory.account(email)
        stored = None if account is None else account.user.password
        queue = self._guessing.queue(email, origin)
        # Asked again when its turn has come: many at once would all be let through else.
        if not await self._passwords.verify(stored, password, queue, admit):
            self._guessing.failed(email, origin, known=account is not None)
            raise Unauthorized(_WRONG)
        if account is None or account.user.password != stored:
            # It was changed, or the user removed, while this was looked at.
            raise Unauthorized(_WRONG)
        self._guessing.succeeded(email, origin)
        return account

    async def _begin(
        self, account: Account, epoch: int, minted: Sequence[Minted], address: str
    ) -> None:
        """Let a new family of tokens count; a user who is signed in too often loses the oldest."""
        async with self._signing_in:
            now = self._clock.now_ms()
            new = self._new(minted, f"signed in from {address}")
            old = self._surplus(account)
            email = account.email
            with self._audit.deed(email, "signed in", email, address=address) as deed:
                stored = await self._store.add_tokens(
                    account.user.number,
                    new,
                    deed,
                    instead=[one.number for one in old],
                    signed_in_at=now,
                )
            self._directory.end(account, old)
            self._directory.removed(one.number for one in old)
            if account.epoch != epoch:
                # The password was reset, or the user removed, while this was being stored.
                await self._take_back(stored)
                raise Unauthorized(_WRONG)
            account.user = replace(account.user, signed_in_at=now)
            self._directory.grant(account, stored)

    async def _end_family(
        self, account: Account, family: str, why: AbstractContextManager[Deed]
    ) -> None:
        tokens = self._directory.family(account, family)
        # In memory first: whatever becomes of the store, nobody gets in with one any more.
        self._directory.end(account, tokens)
        with why as deed:
            numbers = [one.number for one in tokens]
            await self._store.remove_tokens(numbers, deed)
            self._directory.removed(numbers)

    async def _take_back(self, stored: Sequence[StoredToken]) -> None:
        """Remove tokens from the store that never counted, now or as soon as that can be."""
        numbers = [one.number for one in stored]
        self._directory.disown(numbers)
        await self._store.remove_tokens(numbers)
        self._directory.removed(numbers)

    def _oldest(self, account: Account, family: str) -> list[StoredToken]:
        """Return the access tokens of a family that are too many by one more."""
        access = sorted(
            (one.stored for one in account.grants.values() if one.family == family),
            key=lambda stored: stored.number,
        )
        return access[: max(0, len(access) - _ACCESS_TOKENS + 1)]

    def _surplus(self, account: Account) -> list[StoredToken]:
        """Return the tokens of the oldest sign-ins that are too many by one more."""
        begun: dict[str, int] = {}
        signed_in = [one.stored for one in account.grants.values() if one.signed_in]
        tokens = [*signed_in, *account.families.values()]
        for stored in tokens:
            family = stored.token.family
            begun[family] = max(begun.get(family, 0), stored.token.created_at)
        ordered = sorted(begun, key=lambda family: begun[family])
        over = set(ordered[: max(0, len(ordered) - self.limits.max_sign_ins + 1)])
        return [stored for stored in tokens if stored.token.family in over]

    def _new(self, minted: Sequence[Minted], name: str) -> list[NewToken]:
        """Return what is stored of tokens that are good for all that their user's role is."""
        now = self._clock.now_ms()
        scopes = " ".join(sorted(EVERYTHING))
        return [
            NewToken(
                one.digest, one.kind, one.family, name, scopes, now, now + self._lifetime(one.kind)
            )
            for one in minted
        ]

    def _lifetime(self, kind: Kind) -> int:
        seconds = {
            Kind.ACCESS: self.limits.access_token_s,
            Kind.REFRESH: self.limits.refresh_token_s,
            Kind.SESSION: self.limits.session_s,
        }[kind]
        return round(seconds * 1_000)

    def _shown(self, account: Account, minted: Sequence[Minted]) -> Pair:
        access, refresh = minted
        return Pair(
            account,
            access.text,
            refresh.text,
            round(self.limits.access_token_s),
            round(self.limits.refresh_token_s),
        )


def _pair(family: str | None = None) -> list[Minted]:
    access = mint(Kind.ACCESS, family)
    return [access, mint(Kind.REFRESH, access.family)]
