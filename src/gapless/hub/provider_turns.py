"""Whose turn it is to ask a provider: within its pace, and in turn among those who wait.

A bucket alone serves whoever came first, so that one user's backfill of a thousand tickers would
keep all others waiting behind it. Here callers take turns: each has a queue of its own, and the
next turn goes to the next caller, however long the queues of others are. Alone one has the whole
pace; among `n` who wait, the `n`th part of it.
"""

from __future__ import annotations

import asyncio
from collections import OrderedDict, deque
from collections.abc import Callable, Iterable

from gapless.clock import Clock
from gapless.errors import GaplessError, QuotaExceeded, RateLimited
from gapless.hub.callers import Caller
from gapless.hub.pacing import Bucket


class Waiting:
    """A request that waits for its turn, in the queues of all on whose behalf it is."""

    __slots__ = ("awake", "callers")

    def __init__(self) -> None:
        self.awake = asyncio.Event()
        self.callers: list[Caller] = []


class ProviderTurns:
    """The turns of one provider; `name` is what errors call it."""

    def __init__(self, name: str, bucket: Bucket, clock: Clock) -> None:
        self.bucket = bucket
        self._name = name
        self._clock = clock
        # Callers in the order in which they have their turns.
        self._queues: OrderedDict[str, deque[Waiting]] = OrderedDict()

    async def take(
        self,
        callers: Iterable[Caller],
        patience: float,
        joinable: Callable[[Callable[[Caller], None] | None], None] = lambda join: None,
    ) -> bool:
        """Wait for a turn on behalf of `callers` and take it; return whether there was a wait.

        Raises `RateLimited` where it does not come within `patience` seconds, `QuotaExceeded`
        where that is because of what the caller itself has asked before. `joinable` is handed
        what lets others wait for the same turn, and `None` when it is over.
        """
        callers = list(callers)
        now = self._clock.monotonic()
        if not self._queues and self.bucket.wait(now) <= 0:
            self.bucket.take(now)
            return False
        self._check(callers, patience, now)
        until = now + patience
        waiting = Waiting()
        for caller in callers:
            self._join(waiting, caller)
        joinable(lambda caller: self._join(waiting, caller))
        try:
            # Those before it may leave late, and others come between.
            async with asyncio.timeout(patience):
                await self._turn(waiting, until)
        except TimeoutError:
            wait = self.bucket.wait(self._clock.monotonic())
            raise self._late(waiting.callers, wait, itself=1) from None
        finally:
            joinable(None)
            self._leave(waiting)
        return True

    async def _turn(self, waiting: Waiting, until: float) -> None:
        """Wait until it is the next one and there is a turn, and take that."""
        while True:
            if self._next() is not waiting:
                waiting.awake.clear()
                await waiting.awake.wait()
                continue
            now = self._clock.monotonic()
            wait = self.bucket.wait(now)
            if wait <= 0:
                self.bucket.take(now)
                self._rotate(waiting)
                return
            if now + wait > until:
                raise self._late(waiting.callers, wait, itself=1)
            await self._clock.sleep(wait)

    def _check(self, callers: list[Caller], patience: float, now: float) -> None:
        """Refuse at once what would wait in vain."""
        wait = min(self._estimate(caller, now) for caller in callers)
        if wait > patience:
            raise self._late(callers, wait)

    def _estimate(self, caller: Caller, now: float) -> float:
        """Return the seconds until this caller's next request would have its turn."""
        place = len(self._queues.get(caller.name, ())) + 1
        others = (queue for name, queue in self._queues.items() if name != caller.name)
        before = place + sum(min(len(queue), place) for queue in others)
        return self.bucket.wait_for(before, now)

    def _late(self, callers: list[Caller], wait: float, itself: int = 0) -> GaplessError:
        """Return why there is no turn in time; `itself`: it is among those that wait."""
        queues = [self._queues.get(one.name, ()) for one in callers if one.share]
        own = max(map(len, queues), default=0) - itself
        if own > 0:
            return QuotaExceeded(
                f"{own:,} requests of yours wait for {self._name} already, which is asked at most "
                f"{self.bucket.rate:g} times a second; the next turn comes in {wait:.0f} s; "
                "try again then",
                retry_after_s=max(0.1, round(wait, 1)),
            )
        return RateLimited(
            f"{self._name} is asked at most {self.bucket.rate:g} times a second, "
            f"and the next turn comes in {wait:.0f} s; try again then",
            retry_after_s=max(0.1, round(wait, 1)),
        )

    # The queues

    def _next(self) -> Waiting | None:
        for queue in self._queues.values():
            return queue[0]
        return None

    def _join(self, waiting: Waiting, caller: Caller) -> None:
        if any(one.name == caller.name for one in waiting.callers):
            return
        waiting.callers.append(caller)
        self._queues.setdefault(caller.name, deque()).append(waiting)

    def _rotate(self, waiting: Waiting) -> None:
        """Let those who have had their turn come last."""
        for caller in waiting.callers:
            self._queues.move_to_end(caller.name)

    def _leave(self, waiting: Waiting) -> None:
        for caller in waiting.callers:
            queue = self._queues[caller.name]
            queue.remove(waiting)
            if not queue:
                del self._queues[caller.name]
        after = self._next()
        if after is not None:
            after.awake.set()
