"""How far upstream's clock is from the hub's own; stitching rule 1. Pure, time is an argument."""

from __future__ import annotations

from dataclasses import dataclass

from gapless.domain.coverage import CLOCKS_APART_MS

# How often it is said while it lasts.
_QUIET_S = 60.0


@dataclass(slots=True)
class Skew:
    """By how much upstream's clock is ahead, as it was last heard; `ms` `None`: never heard."""

    ms: int | None = None
    _told: float = float("-inf")

    @property
    def seconds(self) -> float | None:
        """By how many seconds upstream's clock is ahead; below 0: behind."""
        return None if self.ms is None else round(self.ms / 1000, 1)

    @property
    def apart(self) -> bool:
        """Whether the two differ by more than the way between them explains."""
        return self.ms is not None and abs(self.ms) > CLOCKS_APART_MS

    def heard(self, upstream_now: int | None, sent: int, received: int, now: float) -> bool:
        """Note what upstream's clock showed in an answer; return whether that is to be said.

        It was asked at `sent` and had answered by `received`, milliseconds of the own clock: what
        lies between is no difference. `now` is an instant of a clock that never goes back, seconds.
        """
        if upstream_now is None:
            return False
        self.ms = min(0, upstream_now - sent) + max(0, upstream_now - received)
        if not self.apart or now - self._told < _QUIET_S:
            return False
        self._told = now
        return True
