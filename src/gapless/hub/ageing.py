"""What of a series is fresh, and how much of it one request brings (stitching rules 9 and 10).

Apart from planning, which takes what is said here as given, because it knows the settings and
the sessions of a provider.
"""

from __future__ import annotations

from gapless.clock import Clock
from gapless.config.checks import Check, parse_check
from gapless.config.settings import CacheSettings
from gapless.domain.coverage import CLOCKS_APART_MS, Ageing
from gapless.domain.series import SeriesKey
from gapless.errors import GaplessError
from gapless.hub.series import Series
from gapless.instants import DAY_MS
from gapless.lru import Lru
from gapless.providers.base import DueMoments, Provider, Traits

# What a remembered width or failure may cost in memory.
_MOST_REMEMBERED = 10_000
# Moments of a series in memory are good for so long; milliseconds.
_MOMENTS_MS = 60_000
_NEVER = DueMoments(-(1 << 62), 1 << 62)
# After a failure a series is left alone for so long, if upstream does not say for longer.
_PAUSE_S = 60.0


class Ageings:
    """Tells for each series what is fresh; remembers what was too wide, and what failed."""

    def __init__(self, cache: CacheSettings, clock: Clock) -> None:
        self.check_bars = cache.check_bars
        self._every: Check = parse_check(cache.check)
        self._clock = clock
        # Series for which upstream failed at a wide request: until when, and how wide one may be.
        self._narrowed: Lru[SeriesKey, tuple[float, int]] = Lru(_MOST_REMEMBERED)
        self._failed: Lru[SeriesKey, tuple[float, GaplessError]] = Lru(_MOST_REMEMBERED)

    def of(self, provider: Provider, entry: Series, now: int) -> Ageing | None:
        """Return what of a series is fresh now; `None`: what its provider serves does not age."""
        if not provider.info.revises:
            return None
        since = self._moments(provider, entry, now).last
        # A search may last: by the clock as it is now what it has fetched itself was just fetched.
        until = self._clock.now_ms() + CLOCKS_APART_MS
        return Ageing(since, until, entry.state.due_before)

    def until(self, provider: Provider, entry: Series, fetched_at: int, now: int) -> int | None:
        """Return until when what was fetched then, and is fresh now, stays so; `None`: for good."""
        if not provider.info.revises or self._check(provider) == "never":
            return None
        moments = self._moments(provider, entry, now)
        return moments.next if moments.every is None else fetched_at + moments.every

    def next_due(self, provider: Provider, entry: Series, now: int) -> int | None:
        """Return when what is fetched now is to be fetched again; `None`: it does not age."""
        return self.until(provider, entry, now, now)

    def span(self, key: SeriesKey, traits: Traits) -> int:
        """Return how long a range a request may be widened to, milliseconds."""
        bars = self.check_bars
        if traits.check_bars is not None:
            bars = min(bars, traits.check_bars)
        span = bars * traits.bar
        if traits.max_span is not None:
            span = min(span, traits.max_span)
        until, narrowed = self._narrowed.peek(key) or (0.0, span)
        return min(span, narrowed) if self._clock.monotonic() < until else span

    def narrower(self, key: SeriesKey, width: int) -> None:
        """Widen to half as much for the day: upstream failed at a width, milliseconds."""
        self._narrowed.put(key, (self._clock.monotonic() + DAY_MS / 1000, width // 2))

    def failed(self, key: SeriesKey, error: GaplessError) -> None:
        """Remember that a check of a series failed: it is not tried again at once."""
        pause = max(_PAUSE_S, error.retry_after_s or 0.0)
        self._failed.put(key, (self._clock.monotonic() + pause, error.again()))

    def failure(self, key: SeriesKey) -> GaplessError | None:
        """Return why a check of a series failed lately."""
        until, error = self._failed.peek(key) or (0.0, None)
        if error is not None and self._clock.monotonic() >= until:
            self._failed.drop(key)
            return None
        return error

    def _check(self, provider: Provider) -> Check:
        """Return when what this provider may revise is fetched again."""
        own = provider.info.check
        return self._every if own is None else own

    def _moments(self, provider: Provider, entry: Series, now: int) -> DueMoments:
        every = self._check(provider)
        if every == "never":
            return _NEVER
        if every != "session":
            pause = round(every * 1000)
            return DueMoments(now - pause, now + pause, pause)
        at, moments = entry.validity.moments
        if moments is None or not at <= now < min(at + _MOMENTS_MS, moments.next):
            moments = provider.due_moments(entry.state.meta, now)
            entry.validity.moments = (now, moments)
        return moments
