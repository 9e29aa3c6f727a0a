"""Threads for what is long: they give way to the loop, which answers whoever asks meanwhile."""

from __future__ import annotations

import os
import sys
import threading
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from typing import Final

NICENESS: Final = 3
"""Half the weight of the loop, which so preempts such a thread on a core that they share.

Not more, for where other programs have the processors, too, the loop waits for a thread that has
the interpreter while that waits for a core.
"""


class Threads(ThreadPoolExecutor):
    """So many threads at the most, each of which has less of the processor than the loop's.

    A thread that computes keeps its core for some milliseconds at a time from one that has just
    something to do, where both have the same right to it.
    """

    def __init__(self, name: str, most: int | None = None, niceness: int = NICENESS) -> None:
        super().__init__(most, f"gapless-{name}", initializer=_give_way, initargs=(niceness,))


def _give_way(niceness: int) -> None:
    # Elsewhere it would be that of the whole process.
    if sys.platform != "linux":
        return
    thread = threading.get_native_id()
    with suppress(OSError):
        # Beside that of the process, which whoever starts it may have chosen.
        before = os.getpriority(os.PRIO_PROCESS, thread)
        os.setpriority(os.PRIO_PROCESS, thread, before + niceness)
