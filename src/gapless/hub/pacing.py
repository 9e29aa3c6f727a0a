"""How often upstream is asked: a bucket of turns, a back-off, a breaker; time is an argument.

Ours and small: the libraries for this sleep for real and share no budget between callers.
"""

from __future__ import annotations

from dataclasses import dataclass


class Bucket:
    """A budget of turns: `burst` at once, refilled at `rate` a second (stitching rule 8).

    Turns are handed out in the order they are asked for, each with the seconds to wait for it.
    """

    def __init__(self, rate: float, burst: int, now: float) -> None:
        self.rate = rate
        self.burst = burst
        self._turns = float(burst)
        self._at = now

    def wait(self, now: float) -> float:
        """Return how many seconds from now the next turn would come."""
        return self.wait_for(1, now)

    def wait_for(self, count: int, now: float) -> float:
        """Return how many seconds from now so many turns would have come."""
        self._refill(now)
        return max(0.0, (count - self._turns) / self.rate)

    def turns(self, now: float) -> int:
        """Return how many turns there are without waiting."""
        self._refill(now)
        return max(0, int(self._turns))

    def take(self, now: float) -> float:
        """Take the next turn; return the seconds to wait before using it."""
        wait = self.wait(now)
        self._turns -= 1.0
        return wait

    def _refill(self, now: float) -> None:
        self._turns = min(float(self.burst), self._turns + max(0.0, now - self._at) * self.rate)
        self._at = now


@dataclass(frozen=True, slots=True)
class Deadline:
    """By when all that a request takes is over: waits for turns, tries, pauses between them.

    Instants of a monotonic clock, seconds. No try begins after `begin_by`, none is waited for
    beyond `end_by`; the two differ where a provider may take longer than the hub would wait.
    """

    start: float
    begin_by: float
    end_by: float

    @classmethod
    def of(cls, now: float, seconds: float, longest: float) -> Deadline:
        """Return the deadline of a request that begins now; `longest` is its very end."""
        return cls(now, now + seconds, now + longest)

    def half(self, now: float) -> Deadline:
        """Return one that leaves as much time after it as it has itself."""
        return Deadline(self.start, (now + self.begin_by) / 2, (now + self.end_by) / 2)

    def to_begin(self, now: float) -> float:
        """Return the seconds within which the next try has to begin."""
        return max(0.0, self.begin_by - now)

    def to_end(self, now: float) -> float:
        """Return the seconds that a try has which begins now."""
        return max(0.0, self.end_by - now)

    def allows(self, pause: float, now: float) -> bool:
        """Whether a try after this pause has a chance: as long as was waited for it, at least."""
        return now + 2 * pause <= self.begin_by


def back_off(attempt: int, jitter: float, base: float = 0.5, most: float = 8.0) -> float:
    """Return the seconds before retry `attempt` (1, 2 …); `jitter` in [0, 1) spreads them."""
    reach = min(most, base * 2.0 ** (attempt - 1))
    return float(reach * (0.5 + 0.5 * jitter))


_SHORTEST_S = 1.0
"""No upstream's word makes the pause shorter."""


@dataclass(slots=True)
class Breaker:
    """Keeps everybody from asking an upstream that fails; lets one through to try.

    Closed: all pass. After `threshold` failures in a row, or when told to, it opens for
    `cooldown` seconds, doubling up to `most` while the trials fail. Then one caller passes, and
    its outcome closes or opens it for all.
    """

    threshold: int
    cooldown: float
    most: float
    failures: int = 0
    open_until: float | None = None
    trying: bool = False
    _next: float = 0.0

    def blocked_for(self, now: float) -> float:
        """Return the seconds until a caller may try; 0.0: may pass now."""
        if self.open_until is None:
            return 0.0
        if now < self.open_until:
            return self.open_until - now
        return 1.0 if self.trying else 0.0

    def enter(self) -> bool:
        """Say that a caller who was not blocked goes ahead; return whether it is the trial."""
        if self.open_until is not None:
            self.trying = True
        return self.trying

    def succeeded(self) -> None:
        """Close it, unless whoever succeeded went ahead before it opened."""
        if self.open_until is not None and not self.trying:
            return
        self.failures = 0
        self.open_until = None
        self.trying = False
        self._next = 0.0

    def abandoned(self) -> None:
        """Say that a caller who went ahead came back without an outcome."""
        self.trying = False

    def failed(self, now: float, open_for: float | None = None) -> None:
        """Count a failure; `open_for` opens it at once for that long.

        Whoever said how long is believed the first time; where the trial after it fails too, the
        time doubles as it does for others.
        """
        self.failures += 1
        if self.open_until is not None and not self.trying:
            # One of many that were under way when it opened: news, but not of a trial.
            self.open_until = max(self.open_until, now + (open_for or 0.0))
            return
        if open_for is not None or self.trying or self.failures >= self.threshold:
            first = self.cooldown if open_for is None else max(open_for, _SHORTEST_S)
            self._next = min(self.most, self._next * 2 if self._next else first)
            self.open_until = now + max(self._next, open_for or 0.0)
            self.trying = False
