"""The parts of one answer, as a plugin's process sends them and as they are taken.

Apart from the calls, which know nothing of what is done with a part: while they wait to be taken
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
        self._closed = False

    def put(self, part: Part, body: bytearray) -> None:
        """Take in what the process has sent."""
        if self._closed:
            return
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

    def close(self) -> None:
        """Let go of what waits and of what is yet to come: nobody takes it any more.

        The process has other answers to send, which come behind the rest of this one.
        """
        self._closed = True
        if len(self._waiting) >= _MOST_WAITING:
            self.taken()
        self._waiting.clear()

    def _over(self, answer: asyncio.Future[Any]) -> None:
        self._came.set()
