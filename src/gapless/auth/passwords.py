"""Passwords: what makes one, and hashing them without standing in anybody's way.

argon2id with 19 MiB, two passes, one lane (OWASP's password storage cheat sheet), at most two at
once. A hash takes some 40 ms of a core, so it is made in threads that yield to all others.
"""

from __future__ import annotations

import asyncio
import unicodedata
from collections.abc import Callable, Hashable
from contextlib import AbstractAsyncContextManager, suppress
from typing import Final, TypeVar

from argon2 import PasswordHasher
from argon2.exceptions import InvalidHashError, VerificationError

from gapless.errors import InvalidQuery, Overloaded
from gapless.threads import Threads
from gapless.turns import FairTurns

T = TypeVar("T")
SHORTEST: Final = 12
LONGEST: Final = 256
_AT_ONCE: Final = 2
_NICENESS: Final = 10
# The hash of a password that nobody has: who is not known costs as much as who is.
_NOBODYS: Final = (
    "$argon2id$v=19$m=19456,t=2,p=1$JPKS7l9johmEwi32S3908g"
    "$B0Bp80kGja1NrdMX5E42+B+VlJTpcuJvT9nTZQyIQf8"
)


def check_password(password: str, email: str) -> None:
    """Raise `InvalidQuery` for what is no password; it is held against nothing but this."""
    if len(password) < SHORTEST:
        raise InvalidQuery(f"the password has {len(password)} characters; {SHORTEST} are the least")
    if len(password) > LONGEST:
        raise InvalidQuery(f"the password is too long; {LONGEST} characters are the most")
    if len(set(password)) < 4 or password.casefold() == email:
        raise InvalidQuery("this password is too easy to guess; choose another one")


class Passwords:
    """Hashes and checks passwords, in turn among the keys that ask; `most_of_one` may wait."""

    def __init__(self, most_of_one: int = 256, most_waiting: int = 2_048) -> None:
        self._hasher = PasswordHasher(time_cost=2, memory_cost=19_456, parallelism=1)
        self._threads = Threads("password", _AT_ONCE, _NICENESS)
        self._turns = FairTurns(_AT_ONCE)
        self._most_of_one, self._most_waiting = most_of_one, most_waiting

    async def hashed(
        self, password: str, key: Hashable = "", admit: Callable[[], None] = lambda: None
    ) -> str:
        """Return the hash of a password, as it is stored; for `admit` see `verify`."""
        async with self._turn(key):
            admit()
            return await self._away(lambda: self._hasher.hash(_normal(password)))

    async def verify(
        self,
        stored: str | None,
        password: str,
        key: Hashable = "",
        admit: Callable[[], None] = lambda: None,
    ) -> bool:
        """Whether it is the password; `stored` `None`: there is none, which takes as long.

        `key` is whose queue it stands in. `admit` is called when its turn has come, and may raise.
        """
        async with self._turn(key):
            admit()
            if len(password) > LONGEST:
                password = ""
            return await self._away(lambda: self._matches(stored, password))

    def outdated(self, stored: str) -> bool:
        """Whether a hash was made by other parameters than today's."""
        return self._hasher.check_needs_rehash(stored)

    def close(self) -> None:
        """Let the threads go."""
        self._threads.shutdown(wait=False, cancel_futures=True)

    def _matches(self, stored: str | None, password: str) -> bool:
        with suppress(VerificationError, InvalidHashError):
            self._hasher.verify(stored or _NOBODYS, _normal(password))
            return stored is not None
        return False

    def _turn(self, key: Hashable) -> AbstractAsyncContextManager[None]:
        """Return a turn with a thread; raise `Overloaded` where too many wait for theirs."""
        turns = self._turns
        own = turns.waiting_of(key)
        if own >= self._most_of_one or turns.waiting >= self._most_waiting:
            raise Overloaded(
                f"{max(own, 1):,} sign-ins wait for their turn already; try again later",
                retry_after_s=5,
            )
        return turns.turn(key)

    async def _away(self, work: Callable[[], T]) -> T:
        return await asyncio.get_running_loop().run_in_executor(self._threads, work)


def _normal(password: str) -> str:
    """Return a password as every keyboard and system spells it (NIST SP 800-63B, 3.1.1.2)."""
    return unicodedata.normalize("NFKC", password)
