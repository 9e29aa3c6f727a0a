"""A few slots for heavy work, given in turn among those who wait, not to whoever came first."""

from __future__ import annotations

import asyncio
from collections import OrderedDict, deque
from collections.abc import AsyncIterator, Hashable
from contextlib import asynccontextmanager

from gapless.errors import Overloaded


class FairSlots:
    """So many `slots`; each key has a queue of its own, of at most `most_of_one`."""

    def __init__(self, slots: int, most_of_one: int, most: int) -> None:
        self._free = slots
        self._most_of_one = most_of_one
        self._most = most
        self._waiting = 0
        self._queues: OrderedDict[Hashable, deque[asyncio.Future[None]]] = OrderedDict()

    @asynccontextmanager
    async def slot(self, key: Hashable) -> AsyncIterator[None]:
        """Wait for a slot and have it for the length of the block; raise `Overloaded`."""
        await self._acquire(key)
        try:
            yield
        finally:
            self._release()

    async def _acquire(self, key: Hashable) -> None:
        if self._free:
            self._free -= 1
            return
        queue = self._queues.get(key, ())
        if len(queue) >= self._most_of_one or self._waiting >= self._most:
            raise Overloaded(
                f"{max(len(queue), 1):,} sign-ins wait for their turn already; try again later",
                retry_after_s=5,
            )
        turn = asyncio.get_running_loop().create_future()
        self._queues.setdefault(key, deque()).append(turn)
        self._waiting += 1
        try:
            await turn
        except asyncio.CancelledError:
            if turn.done() and not turn.cancelled():
                # It was given the slot just before it left.
                self._release()
            raise
        finally:
            self._waiting -= 1

    def _release(self) -> None:
        """Hand the slot to the next one who still waits."""
        while self._queues:
            key, queue = next(iter(self._queues.items()))
            turn = queue.popleft()
            if queue:
                self._queues.move_to_end(key)
            else:
                del self._queues[key]
            if not turn.done():
                turn.set_result(None)
                return
        self._free += 1
