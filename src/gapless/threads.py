"""Threads for what is long: they give way to the loop, which answers whoever asks meanwhile."""

from __future__ import annotations

import os
import sys
import threading
from collections import OrderedDict, deque
from collections.abc import Callable, Hashable
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import suppress
from functools import partial
from typing import Any, Final, NamedTuple, ParamSpec, TypeVar

from gapless.turns import PARTY

P = ParamSpec("P")
T = TypeVar("T")

NICENESS: Final = 3
"""Half the weight of the loop, which so preempts such a thread on a core that they share.

Not more, for where other programs have the processors, too, the loop waits for a thread that has
the interpreter while that waits for a core.
"""


class Threads(ThreadPoolExecutor):
    """So many threads at the most, each of which has less of the processor than the loop's.

    A thread that computes keeps its core for some milliseconds at a time from one that has just
    something to do, where both have the same right to it. What is to be done is done in turns: one
    party's thousand pieces of work are one queue beside the queues of others (`PARTY`).
    """

    def __init__(self, name: str, most: int | None = None, niceness: int = NICENESS) -> None:
        super().__init__(most, f"gapless-{name}", initializer=_give_way, initargs=(niceness,))
        # Parties in the order in which they have their turns; those who want nothing have none.
        self._queues: OrderedDict[Hashable, deque[_Job]] = OrderedDict()
        self._lock = threading.Lock()

    def submit(self, work: Callable[P, T], /, *args: P.args, **named: P.kwargs) -> Future[T]:
        """Have work done when it is its party's turn; see `Executor.submit`."""
        future: Future[T] = Future()
        with self._lock:
            # For each there is somebody who does one, though it may be another one.
            super().submit(self._do_next)
            queue = self._queues.setdefault(PARTY.get(), deque())
            queue.append(_Job(future, partial(work, *args, **named)))
        return future

    def _do_next(self) -> None:
        with self._lock:
            party, queue = next(iter(self._queues.items()))
            job = queue.popleft()
            self._queues.move_to_end(party)
            if not queue:
                del self._queues[party]
        job.do()


class _Job(NamedTuple):
    """A piece of work, and where its outcome goes."""

    future: Future[Any]
    work: Callable[[], object]

    def do(self) -> None:
        if not self.future.set_running_or_notify_cancel():
            return
        try:
            result = self.work()
        except BaseException as error:
            self.future.set_exception(error)
        else:
            self.future.set_result(result)


def _give_way(niceness: int) -> None:
    # Elsewhere it would be that of the whole process.
    if sys.platform != "linux":
        return
    thread = threading.get_native_id()
    with suppress(OSError):
        # Beside that of the process, which whoever starts it may have chosen.
        before = os.getpriority(os.PRIO_PROCESS, thread)
        os.setpriority(os.PRIO_PROCESS, thread, before + niceness)
