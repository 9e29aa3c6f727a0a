"""The parts of one answer, as a plugin's process sends them and as they are taken.

Apart from the calls, which know nothing of what is done with a part: while nobody takes them
nothing more is read of what the process sends.
"""

from __future__ import annotations

import asyncio
from collections import deque
from collections.abc import Callable
from typing import Any

from gapless.providers.plugins.messages import Part

# So many wait before nothing more is read.
_MOST_WAITING = 3


def _nothing() -> None:
    pass


class Parts:
    """What has come of an answer before its end; `full` and `taken` stop and start the reading."""

    def __init__(self) -> None:
        self.full: Callable[[], None] = _nothing
        self.taken: Callable[[], None] = _nothing
        self._waiting: deque[tuple[Part, bytearray]] = deque()
        self._came = asyncio.Event()

    def put(self, part: Part, body: bytearray) -> None:
        """Take in what the process has sent."""
        self._waiting.append((part, body))
        if len(self._waiting) >= _MOST_WAITING:
            self.full()
        self._came.set()

    async def next(self, answer: asyncio.Future[Any]) -> tuple[Part, bytearray] | None:
        """Return the next part, as soon as it is there; `None`: there are no more, as `answer` is.

        What `answer` failed with is for whoever has it.
        """
        answer.add_done_callback(self._over)
        try:
            while not self._waiting:
                if answer.done():
                    return None
                self._came.clear()
                await self._came.wait()
        finally:
            answer.remove_done_callback(self._over)
        found = self._waiting.popleft()
        if len(self._waiting) < _MOST_WAITING:
            self.taken()
        return found

    def _over(self, answer: asyncio.Future[Any]) -> None:
        self._came.set()
