"""A clock that tests own: time passes when it is slept through or moved, never by itself."""

from __future__ import annotations

import asyncio


class ManualClock:
    """A `gapless.clock.Clock` whose sleeps end at once, with the time they took on the clock.

    `slept` lists the sleeps in seconds, in the order they began.
    """

    def __init__(self, now_ms: int = 1_700_000_000_000, monotonic: float = 1_000.0) -> None:
        self._now_ms = now_ms
        self._monotonic = monotonic
        self.slept: list[float] = []

    def now_ms(self) -> int:
        """Return the wall time it was moved to, milliseconds UTC."""
        return self._now_ms

    def monotonic(self) -> float:
        """Return the seconds it was moved to."""
        return self._monotonic

    async def sleep(self, seconds: float) -> None:
        """Let `seconds` pass at once, after one turn of the loop."""
        self.slept.append(seconds)
        until = self._monotonic + seconds
        await asyncio.sleep(0)
        # Sleeps that overlap take as long as the longest, not their sum.
        if until > self._monotonic:
            self.advance(until - self._monotonic)

    def advance(self, seconds: float) -> None:
        """Let time pass, on the wall and on the monotonic clock."""
        self._monotonic += seconds
        self._now_ms += round(seconds * 1_000)

    def set_wall(self, now_ms: int) -> None:
        """Put the wall clock somewhere else, as an administrator would; timers do not notice."""
        self._now_ms = now_ms


class HeldClock(ManualClock):
    """A clock that stands still, whoever sleeps, until `running` is set."""

    def __init__(self, now_ms: int) -> None:
        super().__init__(now_ms)
        self.running = asyncio.Event()

    async def sleep(self, seconds: float) -> None:
        """Let `seconds` pass once time passes."""
        await self.running.wait()
        await super().sleep(seconds)
