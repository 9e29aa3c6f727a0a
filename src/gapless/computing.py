"""Where what is merely computed is done: what is short at once, what is long in a thread.

A series may have very many rows of coverage, and an answer very many records. Whoever asks about
such a one waits for it; nobody else does.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from typing import TypeVar

T = TypeVar("T")

MANY = 250
"""Of so many rows or records, at 10 to 20 µs each, others would feel what is made of them."""


async def computed(count: int, work: Callable[[], T]) -> T:
    """Do pure work on `count` rows or records: at once, or in a thread where they are many.

    What it reads may have been overtaken by then, as after every wait.
    """
    return work() if count <= MANY else await asyncio.to_thread(work)
