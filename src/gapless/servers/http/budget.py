"""A budget of bytes for answers that wait for their clients to read them."""

from __future__ import annotations

import asyncio
from collections import deque
from collections.abc import AsyncGenerator
from contextlib import asynccontextmanager

from gapless.errors import Overloaded

_LONGEST_WAIT_S = 30.0


class ByteBudget:
    """So many bytes may be held at once; who wants more than is left waits for its turn."""

    def __init__(self, limit: int) -> None:
        self.limit = limit
        self._left = limit
        self._waiting: deque[tuple[int, asyncio.Future[None]]] = deque()

    @asynccontextmanager
    async def hold(self, size: int) -> AsyncGenerator[None, None]:
        """Hold `size` bytes for the length of the block.

        One answer may always be held, however large. Raises `Overloaded` where no turn comes.
        """
        size = min(size, self.limit)
        if self._waiting or size > self._left:
            await self._turn(size)
        else:
            self._left -= size
        try:
            yield
        finally:
            self._left += size
            self._admit()

    async def _turn(self, size: int) -> None:
        turn: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        place = (size, turn)
        self._waiting.append(place)
        try:
            async with asyncio.timeout(_LONGEST_WAIT_S):
                await turn
        except BaseException as error:
            if turn.done() and not turn.cancelled():
                self._left += size
            elif place in self._waiting:
                self._waiting.remove(place)
            self._admit()
            if isinstance(error, TimeoutError):
                raise Overloaded(
                    "as many large answers as the hub holds at once wait for their clients to "
                    f"read them, and none has ended within {_LONGEST_WAIT_S:g} s; try again",
                    retry_after_s=_LONGEST_WAIT_S,
                ) from None
            raise

    def _admit(self) -> None:
        """Give those who wait their turn, as far as there is room, first come, first served."""
        while self._waiting and self._waiting[0][0] <= self._left:
            size, turn = self._waiting.popleft()
            if not turn.done():
                self._left -= size
                turn.set_result(None)
