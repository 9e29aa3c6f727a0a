"""Places that answers have for as long as their clients take, and how long is waited for one.

No party, which is a user, or a connection where there are no users, may have so much of them that
less is left to others.
"""

from __future__ import annotations

from collections.abc import AsyncGenerator, Hashable
from contextlib import asynccontextmanager
from typing import Final

from gapless.errors import Overloaded
from gapless.turns import FairShares, FairTurns

_LONGEST_WAIT_S: Final = 30.0


class Share:
    """Turns as one party has them; `busy` is what is said of them where none comes in time."""

    __slots__ = ("_busy", "_turns", "party")

    def __init__(self, turns: FairTurns, party: Hashable, busy: str) -> None:
        self._turns = turns
        self._busy = busy
        self.party = party

    async def acquire(self, weight: int = 1) -> None:
        """Take places, which `release` gives back; raise `Overloaded` where no turn comes."""
        try:
            await self._turns.acquire(self.party, weight, _LONGEST_WAIT_S)
        except TimeoutError:
            raise Overloaded(
                f"{self._busy}, and no turn of yours has come within {_LONGEST_WAIT_S:g} s; "
                "try again",
                retry_after_s=_LONGEST_WAIT_S,
            ) from None

    async def wait(self, weight: int = 1) -> None:
        """Take places as `acquire` does, for what has begun and is to be ended: at any time."""
        await self._turns.acquire(self.party, weight)

    def release(self, weight: int = 1) -> None:
        """Give places back."""
        self._turns.release(self.party, weight)

    @asynccontextmanager
    async def hold(self, weight: int = 1) -> AsyncGenerator[None, None]:
        """Have places for the length of the block; raise `Overloaded` where no turn comes."""
        await self.acquire(weight)
        try:
            yield
        finally:
            self.release(weight)


class ByteBudget:
    """So many bytes of answers may wait for their clients at once."""

    def __init__(self, limit: int) -> None:
        self._bytes = FairShares(limit)

    @property
    def held(self) -> int:
        """How many bytes wait now."""
        return self._bytes.places - self._bytes.left

    def of(self, party: Hashable) -> Share:
        """Return the budget as a party has it."""
        return Share(
            self._bytes,
            party,
            "as many bytes of answers as the hub holds wait for their clients to read them "
            "(api.max_unsent_bytes)",
        )
