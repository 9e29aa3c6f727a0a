"""Whom a failure concerns: upstream as a whole, or one series, which is then left alone by itself.

Pure, with the clock as an argument; stitching rule 8. What is decided here is carried out in
upstream.py. One ticker that upstream has trouble with must never keep all others from being asked,
and an upstream that is down must not be asked for each of them in turn.
"""

from __future__ import annotations

from dataclasses import dataclass
from enum import Enum
from itertools import chain, islice

from gapless.domain.series import SeriesKey
from gapless.errors import (
    BadUpstreamReply,
    ProviderError,
    RateLimited,
    UpstreamUnavailable,
    UpstreamUnreachable,
)
from gapless.lru import Lru

FIRST_PAUSE_S = 60.0
LONGEST_PAUSE_S = 3_600.0
# Upstream may ask for more, but not for years.
_LONGEST_TOLD_S = 86_400.0
# Of a series that nobody asks for any more nothing is told after so long.
_KEPT_S = 86_400.0
# What may be remembered of each kind.
_MOST = 10_000


class Concern(Enum):
    """What a failure says something about."""

    UPSTREAM = "upstream as a whole"
    UNSURE = "one series or all: more than one has to fail so"
    SERIES = "one series"
    NOBODY = "none: upstream is there, and refuses"


def concern_of(error: ProviderError) -> Concern:
    """Return what a failure says something about, as far as it shows by itself."""
    if isinstance(error, RateLimited | UpstreamUnreachable):
        return Concern.UPSTREAM
    if isinstance(error, UpstreamUnavailable):
        return Concern.UNSURE
    return Concern.SERIES if isinstance(error, BadUpstreamReply) else Concern.NOBODY


def bound_pause(error: ProviderError) -> None:
    """Bound how long upstream asks to be left alone."""
    if error.retry_after_s is not None:
        error.retry_after_s = min(error.retry_after_s, _LONGEST_TOLD_S)


@dataclass(frozen=True, slots=True)
class SeriesFailure:
    """A series that fails by itself: its last error, and until when it is left alone.

    `until` is an instant of the clock that the caller goes by, in seconds; `pause` how long it is
    left alone since it last failed.
    """

    key: SeriesKey
    error: ProviderError
    pause: float
    until: float

    def again(self, now: float) -> ProviderError:
        """Return the error for whoever asks meanwhile, with the seconds that are left."""
        error = self.error.again()
        error.retry_after_s = round(self.until - now, 1)
        return error


class SeriesFailures:
    """Which series fail by themselves, and what tells a failure of theirs from one of upstream.

    A failure that may be either is upstream's once two tickers that have answered before have
    failed so without a success between. Until then it is that series' own.
    """

    def __init__(self, most: int = _MOST) -> None:
        self._most = most
        self._failing: Lru[SeriesKey, SeriesFailure] = Lru(most)
        self._answered: Lru[str, None] = Lru(most)
        # By ticker, those that failed since the last success in a way that may be upstream's:
        # of two at the most, for then it is upstream's.
        self._suspects: dict[str, set[SeriesKey]] = {}

    def __len__(self) -> int:
        """Return how many series fail by themselves, those that may be asked again included."""
        return len(self._failing)

    def first(self, count: int) -> list[SeriesFailure]:
        """Return the latest few of them."""
        return list(islice(reversed(self._failing.values()), count))

    def refusal(self, key: SeriesKey, now: float) -> ProviderError | None:
        """Return what is told of a series instead of asking upstream; `None`: it may be asked."""
        found = self._failing.peek(key)
        return None if found is None or found.until <= now else found.again(now)

    def answered(self, key: SeriesKey) -> None:
        """Note that a series was answered."""
        self._failing.drop(key)
        self._answered.put(key.ticker, None)
        self.upstream_answered()

    def upstream_answered(self) -> None:
        """Note that upstream is there, if only to refuse: what failed before was not its doing."""
        self._suspects.clear()

    def is_of_all(self, key: SeriesKey, error: ProviderError, known: bool) -> bool:
        """Note one failed try of a series; return whether upstream as a whole has failed.

        `known`: the series is held, so that it was answered before, if not since the start.
        """
        concern = concern_of(error)
        if concern is not Concern.UNSURE:
            return concern is Concern.UPSTREAM
        if known:
            self._answered.put(key.ticker, None)
        if not self._several_suspects and key.ticker in self._answered:
            suspects = self._suspects.setdefault(key.ticker, set())
            if len(suspects) < self._most:
                suspects.add(key)
            if self._several_suspects:
                # They were left alone for what has turned out to be upstream's.
                for suspect in chain.from_iterable(self._suspects.values()):
                    self._failing.drop(suspect)
        return self._several_suspects

    def gave_up(self, key: SeriesKey, error: ProviderError, now: float) -> float | None:
        """Note that a request for a series has failed; return for how long it is left alone.

        Seconds: a minute at first, twice as long each time, an hour at most, and never less than
        upstream said. `None`: it failed with all others, or was refused.
        """
        concern = concern_of(error)
        own = concern is Concern.SERIES or (
            concern is Concern.UNSURE and not self._several_suspects
        )
        if not own:
            return None
        self._forget(now)
        before = self._failing.peek(key)
        doubled = FIRST_PAUSE_S if before is None else 2 * before.pause
        pause = min(doubled, LONGEST_PAUSE_S)
        told = max(pause, error.retry_after_s or 0.0)
        self._failing.put(key, SeriesFailure(key, error.again(), pause, now + told))
        return told

    @property
    def _several_suspects(self) -> bool:
        return len(self._suspects) > 1

    def _forget(self, now: float) -> None:
        """Let go of what has not been asked for since long."""
        while self._failing:
            oldest = next(iter(self._failing.values()))
            if oldest.until + _KEPT_S > now:
                return
            self._failing.drop(oldest.key)
