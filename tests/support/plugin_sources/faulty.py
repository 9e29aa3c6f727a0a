"""A plugin that fails in every way there is; the ticker says which."""

from __future__ import annotations

import ctypes
import os
import sys
import time
from collections.abc import Callable
from datetime import datetime, timedelta
from typing import Any


class RateLimited(Exception):
    """Asked too often."""

    reason = "rate_limited"
    retry_after_s = 7


def fork() -> Any:
    """Fork, and go on in both."""
    os.fork()
    return None


def orphan() -> Any:
    """Leave a process behind that holds everything it was born with; tell its number."""
    pid = os.fork()
    if pid == 0:
        os.setsid()
        time.sleep(3_600)
    return [{"timestamp": 1_704_067_200, "pid": pid}]


def leak() -> Any:
    """Take memory until there is no more."""
    taken = []
    while True:
        taken.append(bytearray(16 << 20))


def spin() -> Any:
    """Hold the interpreter for good."""
    while True:
        pass


def hold() -> Any:
    """Hold it in C, where not even a signal's handler runs."""
    return sum(range(10**15))


def shout() -> Any:
    """Print to everything that can be printed to."""
    print("to stdout")  # noqa: T201
    os.write(1, b"to file 1\n")
    os.write(2, b"to file 2\x1b[2J\n")
    sys.stderr.write("no end")
    return []


def flood(megabytes: int) -> Any:
    """Print lines, very many."""
    lines = b"x" * 99 + b"\n"
    for _ in range(megabytes):
        os.write(2, lines * 10_000)
    return []


def close_all() -> Any:
    """Close every file there is, the hub's socket among them."""
    os.closerange(3, 256)
    return []


def scribble() -> Any:
    """Write on the hub's socket."""
    for fd in range(3, 64):
        try:
            os.write(fd, b"\xff" * 64)
        except OSError:
            continue
    return []


def raising(error: BaseException) -> Callable[[], Any]:
    """Return what raises."""

    def fail() -> Any:
        raise error

    return fail


FAULTS: dict[str, Callable[[], Any]] = {
    "RAISE": lambda: 1 / 0,
    "RATE": raising(RateLimited("slow down")),
    "INTERRUPT": raising(KeyboardInterrupt()),
    "ODD": raising(BaseException("neither here nor there")),
    "EXIT": lambda: sys.exit("enough"),
    "EXIT0": lambda: sys.exit(),
    "_EXIT": lambda: os._exit(9),
    "ABORT": os.abort,
    "SEGV": lambda: ctypes.string_at(0),
    "SPIN": spin,
    "HOLD": hold,
    "SLEEP": lambda: time.sleep(3_600),
    "LEAK": leak,
    "SHOUT": shout,
    "FLOOD": lambda: flood(100),
    "FORK": fork,
    "ORPHAN": orphan,
    "CLOSE": close_all,
    "SCRIBBLE": scribble,
    "HUGE": lambda: [{"timestamp": 1_704_067_200, "x": "x" * (5 << 20)}],
    "NUMBER": lambda: 42,
    "TEXT": lambda: "[]",
    "ROWS": lambda: [1, 2],
    "NO_TIME": lambda: [{"close": 1}],
    "OBJECT": lambda: [{"timestamp": 1_704_067_200, "x": object()}],
    "SURROGATE": lambda: [{"timestamp": 1_704_067_200, "x": "\ud800"}],
}


class Provider:
    """Does what the ticker says; any other ticker is answered well."""

    def name(self) -> str:
        return "faulty"

    def fetch(self, ticker: str, start: datetime, end: datetime) -> Any:
        fault = FAULTS.get(ticker.split("-", maxsplit=1)[0])
        if fault is not None:
            return fault()
        return [{"timestamp": start + timedelta(seconds=1), "pid": os.getpid()}]
