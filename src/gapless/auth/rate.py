"""How often one user may ask: a budget of requests a second, checked in a fraction of one µs.

The generic cell rate algorithm (ITU-T I.371): one number says when the next request would be due
if they came evenly.
"""

from __future__ import annotations

from collections.abc import Callable


class Rate:
    """So many requests a `second`, and so many `burst` at once after a rest."""

    __slots__ = ("_ahead", "_due", "_monotonic", "_step")

    def __init__(self, per_second: float, burst: float, monotonic: Callable[[], float]) -> None:
        self._step = 1.0 / per_second
        self._ahead = max(0.0, burst - 1) * self._step
        self._due = 0.0
        self._monotonic = monotonic

    def take(self) -> bool:
        """Take a request from the budget; `False`: there is none, and nothing was taken."""
        now, due = self._monotonic(), self._due
        if due <= now:
            self._due = now + self._step
            return True
        if due - self._ahead > now:
            return False
        self._due = due + self._step
        return True

    def wait(self) -> float:
        """Return the seconds until there is a request in the budget."""
        # Rounded as `take` rounds it: who is refused is not told to wait for nothing.
        return max(0.0, (self._due - self._ahead) - self._monotonic())
