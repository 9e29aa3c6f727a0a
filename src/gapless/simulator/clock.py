"""The simulator's own clock, so that a test may move upstream's time and nobody else's."""

from __future__ import annotations

from collections.abc import Callable

Now = Callable[[], float]
"""Returns UTC seconds."""


class SimClock:
    """A clock that stands still until it is moved; call it for the time in UTC seconds."""

    def __init__(self, now_s: float) -> None:
        self.now_s = now_s

    def __call__(self) -> float:
        """Return the time in UTC seconds."""
        return self.now_s

    def advance(self, seconds: float) -> None:
        """Move on by `seconds`."""
        self.now_s += seconds
