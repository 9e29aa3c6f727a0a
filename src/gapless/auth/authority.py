"""Authentication put together, as the doors and the commands have it: on or off."""

from __future__ import annotations

import asyncio
from functools import partial

import structlog

from gapless.auth.api_tokens import ApiTokens
from gapless.auth.audit import Audit
from gapless.auth.directory import Directory, Grant, everybody
from gapless.auth.passwords import Passwords
from gapless.auth.rate import Rate
from gapless.auth.sessions import Sessions
from gapless.auth.users import Users
from gapless.clock import Clock
from gapless.config.settings import AccessSettings
from gapless.errors import GaplessError
from gapless.store.accounts import AccountStore

_log = structlog.get_logger("gapless.auth")

# How soon it is known after a restart when a token was last used, and what is over goes.
_HOUSEKEEPING_S = 60.0
# How soon a token ends whose time has come by the clock that nobody sets.
_LOOK_S = 1.0


class Authority:
    """Users, tokens and the audit log of a hub.

    `enabled`: requests need a token. `open_grant` is what requests have where they need none.
    """

    def __init__(
        self,
        store: AccountStore,
        clock: Clock,
        enabled: bool = False,
        limits: AccessSettings | None = None,
    ) -> None:
        limits = limits or AccessSettings()
        self.enabled = enabled
        self.open_grant: Grant | None = None if enabled else everybody()
        self.passwords = Passwords()
        self.audit = Audit(store, clock)
        rate = partial(Rate, limits.rate, limits.burst, clock.monotonic)
        self.directory = Directory(clock, rate if limits.rate else lambda: None)
        self.users = Users(store, self.directory, self.passwords, self.audit)
        self.sessions = Sessions(
            store,
            self.directory,
            self.users,
            self.passwords,
            self.audit,
            clock,
            limits,
        )
        self.tokens = ApiTokens(store, self.directory, self.users, self.audit, clock)
        self._store = store
        self._house: asyncio.Task[None] | None = None

    async def load(self) -> str | None:
        """Read all users and tokens; return the setup key where there has never been a user."""
        roster = await self._store.roster()
        accounts = {user.number: self.directory.add(user) for user in roster.users}
        for token in roster.tokens:
            self.directory.grant(accounts[token.user], [token])
        await self._clear()
        return None if roster.set_up else self.sessions.open_setup()

    def keep_house(self) -> None:
        """Begin to end what runs out, and to store when tokens were used."""
        self._house = asyncio.get_running_loop().create_task(self._keep(), name="tokens")

    async def close(self) -> None:
        """Store what is not stored yet, and let go."""
        if self._house is not None:
            self._house.cancel()
            await asyncio.wait([self._house])
        await self._clear()
        self.passwords.close()

    async def _keep(self) -> None:
        # By the loop's own time: a clock that is slept through at once would fly.
        loop = asyncio.get_running_loop()
        cleared = loop.time()
        while True:
            await asyncio.sleep(_LOOK_S)
            self.directory.expire()
            if loop.time() - cleared >= _HOUSEKEEPING_S:
                cleared = loop.time()
                await self._clear()

    async def _clear(self) -> None:
        """Remove tokens that are over from the store, and note when others were used."""
        try:
            over = self.directory.over()
            if over:
                await self._store.remove_tokens(sorted(over))
                self.directory.removed(over)
            await self._store.note_use(self.directory.used())
        except GaplessError as error:
            # It is tried again; what is over counts no more, whatever the store has.
            _log.warning("tokens could not be put in order", error=error.message)
