"""File descriptors: how many connections the process may have for them, and when there are none.

Every connection takes one, and so does every file of the database, every pipe to a plugin and
every request upstream. What happens where none is left is libuv's business: it hangs up on
newcomers without a word, or, once its own last one is taken by somebody else, leaves them waiting.
So doors take no more connections than there is room for, and a few descriptors are held only to
be let go when it has come to that: with them newcomers are told why they are turned away.
"""

from __future__ import annotations

import os
import resource
from typing import Final

import structlog

from gapless.clock import Clock, SystemClock
from gapless.errors import Overloaded

_log = structlog.get_logger("gapless.descriptors")

# What is kept from connections: for the database, plugins, upstream, and files that are read.
KEPT: Final = 256
_LEAST_KEPT: Final = 64
# A shortage is over when these can be had again, so that it does not begin again at once.
_SPARES: Final = 8
_LOOK_EVERY_S: Final = 1.0
_WARN_EVERY_S: Final = 60.0
# Whoever looks once a minute should not miss it.
_TOLD_FOR_S: Final = 60.0


def wanted(connections: int) -> int:
    """Return how many files a process has to have open to take so many connections."""
    return connections + KEPT


def raise_limit(connections: int) -> int | None:
    """Let the process have as many open files as it takes connections, if it may.

    Returns the limit that is in force, `None` where there is none.
    """
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    goal = wanted(connections)
    if hard != resource.RLIM_INFINITY:
        goal = min(goal, hard)
    if soft != resource.RLIM_INFINITY and soft < goal:
        resource.setrlimit(resource.RLIMIT_NOFILE, (goal, hard))
        soft = goal
    return None if soft == resource.RLIM_INFINITY else soft


def fitting(limit: int | None, tcp: int, http: int) -> tuple[int, int]:
    """Return how many connections each door may take under a limit on open files.

    As many as it is set to where there is room for all of them; otherwise its part of the room.
    """
    total = tcp + http
    if limit is None or wanted(total) <= limit:
        return tcp, http
    room = limit - min(KEPT, max(_LEAST_KEPT, limit // 4))
    return min(tcp, max(1, tcp * room // total)), min(http, max(1, http * room // total))


class Descriptors:
    """Whether there are any left, as `watch` finds out; what doors and operators are told."""

    def __init__(self, clock: Clock | None = None) -> None:
        self._clock = clock or SystemClock()
        self._spares: list[int] = []
        self._since: float | None = None
        self._last: float | None = None
        self._warned: float | None = None
        self.shortages = 0
        """How often there were none left."""

    async def watch(self) -> None:
        """Look again and again, until cancelled."""
        try:
            while True:
                self.look()
                await self._clock.sleep(_LOOK_EVERY_S)
        finally:
            self._let_go()

    def look(self) -> None:
        """Find out whether there are any left; if not, let go of the spare ones, and say so."""
        now = self._clock.monotonic()
        if self._take():
            if self._since is not None:
                _log.info("there are file descriptors again", short_s=round(now - self._since, 1))
                self._since = None
            return
        self._let_go()
        self._last = now
        if self._since is None:
            self._since = now
            self.shortages += 1
        if self._warned is None or now - self._warned >= _WARN_EVERY_S:
            self._warned = now
            _log.warning(
                "the process is out of file descriptors, and newcomers are turned away; let it "
                "have more (ulimit -n), or lower limits.max_connections and api.max_connections",
                limit=resource.getrlimit(resource.RLIMIT_NOFILE)[0],
                shortages=self.shortages,
            )

    def refusal(self) -> Overloaded | None:
        """Return what a newcomer is turned away with; `None`: there is room."""
        if self._since is None:
            return None
        return Overloaded(
            "the hub is out of file descriptors, and takes no more connections for now; close "
            "some, or try again later",
            retry_after_s=1,
        )

    @property
    def trouble(self) -> str | None:
        """What operators are told: of a shortage that is there, or was within a minute."""
        if self._last is None:
            return None
        ago = self._clock.monotonic() - self._last
        if self._since is None and ago > _TOLD_FOR_S:
            return None
        verb = "is" if self._since is not None else "was"
        return (
            f"the process {verb} out of file descriptors, and turned newcomers away; let it have "
            "more (ulimit -n), or lower limits.max_connections and api.max_connections"
        )

    def _take(self) -> bool:
        """Take the spare ones that are lacking; return whether all of them could be had."""
        try:
            while len(self._spares) < _SPARES:
                self._spares.append(os.open(os.devnull, os.O_RDONLY | os.O_CLOEXEC))
            # One more, which is not kept: the spare ones are not the last.
            os.close(os.open(os.devnull, os.O_RDONLY | os.O_CLOEXEC))
        except OSError:
            return False
        return True

    def _let_go(self) -> None:
        while self._spares:
            os.close(self._spares.pop())
