"""A watch on a loop: fails on a callback of over 10 ms of CPU, and on a pause of over 30 ms.

The loop notes both clocks, of the wall and of its thread's CPU, wherever a callback begins and
ends, and every millisecond besides; that is all that is between two notes: one callback, or what
one look at its sockets brought. A second thread looks whether such a span is getting long, and
takes the stacks of all threads then, so that it can be told where. It gets the interpreter as soon
as whatever holds it lets it go, which is where that has just been.

A time in which the process could not run because others did is no pause: of the wall's time is
taken off what any of its threads has waited for a core (the second figure of `schedstat`), and what
the host took away from the machine (`steal` of /proc/stat). All threads count, for the one that
holds the interpreter may be the one that waits; so on a busy machine some pauses are not seen. The
CPU's time has nothing of it but what the host took.

Garbage is the loop's own time as well, for who asks waits for its collection all the same. That of
a test cannot be told apart within a process. So a hub that is watched has a process of its own,
where nothing is the test's: see `watched`.
"""

from __future__ import annotations

import asyncio
import os
import sys
import threading
import time
import traceback
from collections import deque
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from contextvars import Context
from dataclasses import dataclass
from pathlib import Path
from typing import NamedTuple, TypeVarTuple

import uvloop

MOST_CPU_MS = 10.0
MOST_PAUSE_MS = 30.0
_PROBE_S = 0.001
_NS = 1_000_000
# From here on it is looked where a span hangs, and again after twice as long.
_SUSPECT_NS = 4 * _NS
_DEEPEST = 12
# Where threads of pools wait for work.
_IDLE = ("concurrent/futures/thread.py", "/threading.py")
_TASKS = Path("/proc/self/task")
_TICK_NS = 1_000_000_000 // os.sysconf("SC_CLK_TCK")

Span = tuple[int, int]
Ts = TypeVarTuple("Ts")


@dataclass(frozen=True, slots=True)
class Hang:
    """A span that was too long: when it began by `time.monotonic_ns`, and what it took, in ms.

    `waited_ms`: for how long the process's threads waited for a core then, all together.
    `callback`: what began it. `stacks`: where its threads were, one look after the other.
    """

    began_ns: int
    cpu_ms: float
    wall_ms: float
    waited_ms: float
    callback: str
    stacks: tuple[str, ...]

    def __str__(self) -> str:
        burnt = self.cpu_ms > MOST_CPU_MS
        where = "\n".join(self.stacks) or "  (it was over before anybody could look)"
        return (
            f"{self.cpu_ms if burnt else self.wall_ms:.1f} ms {'of CPU' if burnt else 'paused'} "
            f"(CPU {self.cpu_ms:.1f}, wall {self.wall_ms:.1f}, waiting for cores "
            f"{self.waited_ms:.1f}) in {self.callback}\n{where}"
        )


class _Waits(NamedTuple):
    """For how long each thread of the process has waited for a core, and the host has kept it.

    `at` is when that was, by `time.monotonic_ns`.
    """

    at: int
    queued_ns: dict[str, int]
    stolen_ns: int


class WatchedLoop(uvloop.Loop):
    """A loop as the hub has it, that notes where callbacks begin and end.

    What its transports call by themselves, which is a protocol told of bytes, is in the span
    between two such notes.
    """

    def __init__(self) -> None:
        super().__init__()
        self.watchdog = Watchdog()

    def call_soon(
        self, callback: Callable[[*Ts], object], *args: *Ts, context: Context | None = None
    ) -> asyncio.Handle:
        return super().call_soon(self.watchdog.noting, callback, *args, context=context)

    def call_soon_threadsafe(
        self, callback: Callable[[*Ts], object], *args: *Ts, context: Context | None = None
    ) -> asyncio.Handle:
        return super().call_soon_threadsafe(self.watchdog.noting, callback, *args, context=context)

    def call_later(
        self,
        delay: float,
        callback: Callable[[*Ts], object],
        *args: *Ts,
        context: Context | None = None,
    ) -> asyncio.TimerHandle:
        return super().call_later(delay, self.watchdog.noting, callback, *args, context=context)

    def call_at(
        self,
        when: float,
        callback: Callable[[*Ts], object],
        *args: *Ts,
        context: Context | None = None,
    ) -> asyncio.TimerHandle:
        return super().call_at(when, self.watchdog.noting, callback, *args, context=context)


class Watchdog:
    """Watches the loop that it belongs to while it is told to; `hangs` is what it found.

    `tell` is called with each in the loop's thread, at once.
    """

    def __init__(self) -> None:
        self.hangs: list[Hang] = []
        self.tell: Callable[[Hang], None] = self.hangs.append
        self._last: Span = (0, 0)
        self._callback: object = None
        self._watching = False
        self._looking: tuple[Span, list[str]] | None = None
        self._waits: deque[_Waits] = deque(maxlen=1_000)

    def noting(self, callback: Callable[[*Ts], object], *args: *Ts) -> None:
        """Call a callback between two notes."""
        self._note(callback)
        try:
            callback(*args)
        finally:
            self._note(None)

    @contextmanager
    def watching(self) -> Iterator[Watchdog]:
        """Watch the running loop for the length of the block."""
        loop = asyncio.get_running_loop()
        self._last = (time.monotonic_ns(), time.thread_time_ns())
        self._waits.append(_waited())
        self._watching = True
        ended = threading.Event()
        looker = threading.Thread(
            target=self._look, args=(threading.get_ident(), ended), name="watchdog", daemon=True
        )
        looker.start()
        handle = loop.call_soon(self._probe, loop)
        try:
            yield self
        finally:
            self._note(None)
            self._watching = False
            handle.cancel()
            ended.set()
            looker.join()

    # In the loop's thread

    def _probe(self, loop: asyncio.AbstractEventLoop) -> None:
        if self._watching:
            loop.call_later(_PROBE_S, self._probe, loop)

    def _note(self, callback: object) -> None:
        was, began_by = self._last, self._callback
        now = (time.monotonic_ns(), time.thread_time_ns())
        self._last, self._callback = now, callback
        wall, cpu = now[0] - was[0], now[1] - was[1]
        if self._watching and (cpu > MOST_CPU_MS * _NS or wall > MOST_PAUSE_MS * _NS):
            self._judge(was, wall, cpu, began_by)
            # What judging it took is nobody's.
            self._last = (time.monotonic_ns(), time.thread_time_ns())

    def _judge(self, was: Span, wall: int, cpu: int, callback: object) -> None:
        before = next((one for one in reversed(self._waits) if one.at <= was[0]), self._waits[0])
        now = _waited()
        stolen = now.stolen_ns - before.stolen_ns
        waited = stolen + sum(
            queued - before.queued_ns.get(thread, 0) for thread, queued in now.queued_ns.items()
        )
        if cpu - stolen <= MOST_CPU_MS * _NS and wall - waited <= MOST_PAUSE_MS * _NS:
            return
        looking = self._looking
        stacks = looking[1] if looking is not None and looking[0] == was else ()
        named = "what the sockets brought" if callback is None else _named(callback)
        told = (cpu - stolen) / _NS, wall / _NS, waited / _NS
        self.tell(Hang(was[0], *told, named, tuple(stacks)))

    # In a thread of its own

    def _look(self, loop_thread: int, ended: threading.Event) -> None:
        pause_s = _PROBE_S
        while not ended.wait(pause_s):
            now, last = time.monotonic_ns(), self._last
            since = now - last[0]
            # Seldom in a long span, for what this thread waits for a core is taken off as well.
            pause_s = max(_PROBE_S, since / 1e9)
            if since < _SUSPECT_NS:
                # So it stands before whatever begins from now on.
                if now - self._waits[-1].at > 2 * _NS:
                    self._waits.append(_waited())
                continue
            if self._looking is None or self._looking[0] != last:
                self._looking = last, []
            self._looking[1].append(_stacks(loop_thread, since / _NS))


def _named(callback: object) -> str:
    """Return what a callback is called; that of a task by its coroutine."""
    task = getattr(callback, "__self__", None)
    return repr(task if isinstance(task, asyncio.Task) else callback)


def _waited() -> _Waits:
    """Return for how long threads have waited for a core so far, and the host has kept it."""
    now, queued = time.monotonic_ns(), {}
    for thread in os.listdir(_TASKS):  # noqa: PTH208  # hundreds of times a second
        with suppress(OSError):
            queued[thread] = int((_TASKS / thread / "schedstat").read_bytes().split()[1])
    with Path("/proc/stat").open("rb") as stat:
        stolen = int(stat.readline().split()[8])
    return _Waits(now, queued, stolen * _TICK_NS)


def _stacks(loop_thread: int, after_ms: float) -> str:
    """Return where all threads are but this one and idle ones, the loop's first.

    Innermost frames come last; those below a callback of the loop are left out.
    """
    names = {one.ident: one.name for one in threading.enumerate()} | {loop_thread: "the loop"}
    frames = sys._current_frames()
    lines = [f"  after {after_ms:.0f} ms:"]
    for ident, frame in sorted(frames.items(), key=lambda one: one[0] != loop_thread):
        if ident == threading.get_ident():
            continue
        stack = []
        for one, line in traceback.walk_stack(frame):
            if one.f_code is Watchdog.noting.__code__:
                break
            stack.append(f"{_place(one.f_code.co_filename)}:{line} {one.f_code.co_qualname}")
        if stack[0].split()[0].partition(":")[0].endswith(_IDLE):
            continue
        lines.append(f"    {names.get(ident, 'a thread')}:")
        lines += [f"      {one}" for one in reversed(stack[:_DEEPEST])]
    return "\n".join(lines)


def _place(file: str) -> str:
    """Return the last parts of a file's path."""
    return "/".join(Path(file).parts[-3:])


def burn(ms: float) -> None:
    """Use so many milliseconds of this thread's CPU, in Python."""
    end = time.thread_time_ns() + ms * _NS
    while time.thread_time_ns() < end:
        pass
