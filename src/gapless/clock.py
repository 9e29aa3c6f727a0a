"""Time as a dependency: what the hub asks for the hour and waits by, so that tests can own it."""

from __future__ import annotations

import asyncio
import time
from typing import Protocol


class Clock(Protocol):
    """The three ways in which the hub meets time."""

    def now_ms(self) -> int:
        """Return wall time, milliseconds UTC since 1970: for ranges, stamps and due dates."""
        ...

    def monotonic(self) -> float:
        """Return seconds that never go back: for pace, back-off and deadlines."""
        ...

    async def sleep(self, seconds: float) -> None:
        """Return when `seconds` have passed on the monotonic clock."""
        ...


class SystemClock:
    """The machine's own clock."""

    def now_ms(self) -> int:
        """Return the system's wall time in milliseconds."""
        return time.time_ns() // 1_000_000

    def monotonic(self) -> float:
        """Return the system's monotonic time in seconds."""
        return time.monotonic()

    async def sleep(self, seconds: float) -> None:
        """Sleep on the running loop."""
        await asyncio.sleep(seconds)
