"""Who guesses has to wait longer and longer: a back-off by key, the time an argument.

Not a lock: whoever is kept waiting may try again when told to, so that nobody can be shut out of
an account for good by others who guess at it.
"""

from __future__ import annotations

from collections.abc import Hashable
from dataclasses import dataclass

from gapless.lru import Lru


@dataclass(frozen=True, slots=True)
class Patience:
    """How many failures are `free`; then a wait of `first` seconds, doubling up to `most`."""

    free: int
    first: float
    most: float

    def pause(self, failures: int) -> float:
        """Return the seconds to wait after so many failures in a row."""
        over = failures - self.free
        if over < 0:
            return 0.0
        return min(self.most, self.first * 2.0 ** min(over, 60))


@dataclass(slots=True)
class _Failures:
    count: int
    until: float


class Throttle:
    """Failures in a row by key, the latest `limit` keys; `patience` is the same for each."""

    def __init__(self, patience: Patience, limit: int = 10_000) -> None:
        self.patience = patience
        self._failures: Lru[Hashable, _Failures] = Lru(limit)

    def wait(self, key: Hashable, now: float) -> float:
        """Return the seconds until this key may try again; 0.0: now."""
        found = self._failures.peek(key)
        return 0.0 if found is None else max(0.0, found.until - now)

    def failed(self, key: Hashable, now: float) -> None:
        """Count a failure."""
        found = self._failures.peek(key)
        if found is None or now > found.until + 2 * self.patience.most:
            # What is long past is forgiven.
            found = _Failures(0, now)
        found.count += 1
        found.until = max(found.until, now + self.patience.pause(found.count))
        self._failures.put(key, found)

    def succeeded(self, key: Hashable) -> None:
        """Forget the failures of a key."""
        self._failures.drop(key)
