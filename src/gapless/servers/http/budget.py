"""A budget of bytes for answers that wait for their clients to read them.

No party, which is a user, or a connection where there are no users, may have more of it than is
left to others.
"""

from __future__ import annotations

from collections.abc import AsyncGenerator, Generator, Hashable
from contextlib import asynccontextmanager, contextmanager
from typing import Final

from gapless.errors import Overloaded
from gapless.turns import FairShares

LONGEST_WAIT_S: Final = 30.0


class Share:
    """What may wait for clients, as one party has it; weights are bytes."""

    __slots__ = ("_turns", "party")

    def __init__(self, turns: FairShares, party: Hashable) -> None:
        self._turns = turns
        self.party = party

    @property
    def room(self) -> int:
        """How many bytes the party would be given at once."""
        return self._turns.room_of(self.party)

    async def acquire(self, size: int) -> None:
        """Take bytes, which `release` gives back; raise `Overloaded` where no turn comes."""
        with in_time(
            "as many bytes of answers as the hub holds wait for their clients to read them "
            "(api.max_unsent_bytes)"
        ):
            await self._turns.acquire(self.party, size, LONGEST_WAIT_S)

    async def wait(self, size: int) -> None:
        """Take bytes as `acquire` does, for what has begun and is to be ended: at any time."""
        await self._turns.acquire(self.party, size)

    def release(self, size: int) -> None:
        """Give bytes back."""
        self._turns.release(self.party, size)

    @asynccontextmanager
    async def hold(self, size: int) -> AsyncGenerator[None, None]:
        """Have bytes for the length of the block; raise `Overloaded` where no turn comes."""
        await self.acquire(size)
        try:
            yield
        finally:
            self.release(size)


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
        return Share(self._bytes, party)


@contextmanager
def in_time(busy: str) -> Generator[None, None, None]:
    """Raise `Overloaded`, which says what is `busy`, where a turn has not come in time."""
    try:
        yield
    except TimeoutError:
        raise Overloaded(
            f"{busy}, and no turn of yours has come within {LONGEST_WAIT_S:g} s; try again",
            retry_after_s=LONGEST_WAIT_S,
        ) from None
