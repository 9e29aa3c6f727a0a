"""Turns with what there is little of: one party after the other, not whoever came first.

Threads, places and bytes are shared like this. In a single queue a thousand requests of one party
would keep all others waiting behind them; here each party has a queue of its own, and the next
turn goes to the next party, however long the queues of others are.
"""

from __future__ import annotations

import asyncio
from collections import OrderedDict, deque
from collections.abc import AsyncGenerator, Callable, Hashable
from concurrent.futures import Executor
from contextlib import asynccontextmanager
from contextvars import ContextVar
from typing import Final, TypeVar

T = TypeVar("T")

PARTY: Final[ContextVar[Hashable]] = ContextVar("party", default="the hub itself")
"""Whose turns are taken by what is done in a context.

Doors set it where a request comes in; what is begun for it goes on under the same name.
"""


class _Waiting:
    """One that waits: how many places it wants, and what tells it that it has them."""

    __slots__ = ("turn", "weight")

    def __init__(self, weight: int) -> None:
        self.weight = weight
        self.turn: asyncio.Future[None] = asyncio.get_running_loop().create_future()


class FairTurns:
    """So many `places`, for turns that are short: a party that is alone may have all of them.

    A party is whoever is to be told apart from others, by any name that can be hashed. Within a
    party whoever came first is served first; parties have their turns one after the other. Where
    there is not room enough yet for the one whose turn it is, nobody overtakes it, so that what is
    heavy has its turn as well.

    For one event loop, and not for threads.
    """

    def __init__(self, places: int) -> None:
        self.places = places
        self._left = places
        self._taken: dict[Hashable, int] = {}
        # Parties in the order in which they have their turns; those of whom nobody waits have none.
        self._queues: OrderedDict[Hashable, deque[_Waiting]] = OrderedDict()
        self._waiting = 0

    @property
    def left(self) -> int:
        """How many places nobody has."""
        return self._left

    @property
    def waiting(self) -> int:
        """How many wait for their turn."""
        return self._waiting

    def taken_by(self, party: Hashable) -> int:
        """Return how many places a party has."""
        return self._taken.get(party, 0)

    def waiting_of(self, party: Hashable) -> int:
        """Return how many of a party wait for their turn."""
        return len(self._queues.get(party, ()))

    @asynccontextmanager
    async def turn(
        self, party: Hashable, weight: int = 1, patience: float | None = None
    ) -> AsyncGenerator[None, None]:
        """Have a turn of a party for the length of the block; see `acquire`."""
        await self.acquire(party, weight, patience)
        try:
            yield
        finally:
            self.release(party, weight)

    async def acquire(
        self, party: Hashable, weight: int = 1, patience: float | None = None
    ) -> None:
        """Wait for a turn of a party, and take `weight` places, which `release` gives back.

        What weighs more than one may have is given as much as one may have. Raises `TimeoutError`
        where the turn does not come within `patience` seconds; `None`: it may take any time. One
        that is cancelled while it waits leaves nothing behind.
        """
        weight = self._within(weight)
        if not self._queues and self._may(party, weight):
            self._give(party, weight)
            return
        one = _Waiting(weight)
        self._queues.setdefault(party, deque()).append(one)
        self._waiting += 1
        # Those who wait may be of parties that give way to this one.
        self._go_on()
        if one.turn.done():
            return
        try:
            async with asyncio.timeout(patience):
                await one.turn
        except BaseException:
            if one.turn.done() and not one.turn.cancelled():
                # It came just before this one left.
                self.release(party, weight)
            else:
                self._leave(party, one)
                self._go_on()
            raise

    def release(self, party: Hashable, weight: int = 1) -> None:
        """Give back what was taken by `acquire` with the same `weight`; whoever is next has it."""
        weight = self._within(weight)
        self._left += weight
        self._taken[party] -= weight
        if not self._taken[party]:
            del self._taken[party]
        self._go_on()

    # Whose turn it is

    def _within(self, weight: int) -> int:
        """Return how much is given to one that wants so much."""
        return max(1, min(weight, self.places))

    def _may(self, party: Hashable, weight: int) -> bool:
        """Whether a party may have so many places when it is its turn."""
        return weight <= self._left

    def _gives_way(self) -> bool:
        """Whether others go ahead of a party that may not have its turn yet."""
        return False

    def _next(self) -> tuple[Hashable, _Waiting] | None:
        """Return whose turn it is, and of which party; `None`: nobody's, for now."""
        for party, queue in self._queues.items():
            if self._may(party, queue[0].weight):
                return party, queue[0]
            if not self._gives_way():
                return None
        return None

    # The queues

    def _go_on(self) -> None:
        """Give their turns to those who may have them."""
        while (found := self._next()) is not None:
            party, one = found
            self._leave(party, one)
            if party in self._queues:
                self._queues.move_to_end(party)
            # One that is cancelled may not have left yet.
            if not one.turn.done():
                self._give(party, one.weight)
                one.turn.set_result(None)

    def _leave(self, party: Hashable, one: _Waiting) -> None:
        queue = self._queues.get(party)
        if queue is None or one not in queue:
            return
        queue.remove(one)
        self._waiting -= 1
        if not queue:
            del self._queues[party]

    def _give(self, party: Hashable, weight: int) -> None:
        self._left -= weight
        self._taken[party] = self._taken.get(party, 0) + weight


class FairShares(FairTurns):
    """Turns that may last: whoever has one leaves as much to others as its party has of them all.

    That is the rule of dynamic thresholds for a shared buffer (Choudhury and Hahne, 1998): a party
    alone has at most half of the places, each of two a third, and there is always room for one
    more that wants little. One that may not have its turn yet keeps nobody else waiting, for that
    could be for as long as others keep theirs; what is heavy waits until enough is left. There
    are two places at the least.
    """

    def room_of(self, party: Hashable) -> int:
        """Return the most that a party would be given now, if nobody else wants any; or 0."""
        return max(0, self._left - self.taken_by(party)) // 2

    def _within(self, weight: int) -> int:
        return max(1, min(weight, self.places // 2))

    def _may(self, party: Hashable, weight: int) -> bool:
        return self.taken_by(party) + weight <= self._left - weight

    def _gives_way(self) -> bool:
        return True


async def in_turns(threads: Executor | None, work: Callable[[], T], *turns: FairTurns) -> T:
    """Do work in a thread, in turns that end with it: whoever has it done may leave before.

    `threads` `None`: in one of the loop's own.
    """
    party, taken = PARTY.get(), list[FairTurns]()

    def over(_job: object = None) -> None:
        for one in taken:
            one.release(party)

    try:
        for one in turns:
            await one.acquire(party)
            taken.append(one)
        job = asyncio.get_running_loop().run_in_executor(threads, work)
    except BaseException:
        over()
        raise
    job.add_done_callback(over)
    return await asyncio.shield(job)
