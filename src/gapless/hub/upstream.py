"""One provider as the hub asks it: paced, retried within a deadline, behind a breaker.

The only place from which a provider's `fetch` and `entities` are called, so that everything asked
upstream is counted and logged here.
"""

from __future__ import annotations

import asyncio
import random
from collections.abc import Awaitable, Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field, replace
from typing import Any, TypeVar, cast

import structlog

from gapless.clock import Clock
from gapless.config.settings import CacheSettings, FetchSettings
from gapless.domain.intervals import Interval
from gapless.domain.series import SeriesKey
from gapless.errors import (
    GaplessError,
    InternalError,
    OutOfWindow,
    ProviderError,
    RateLimited,
    UnknownTicker,
    UpstreamUnavailable,
)
from gapless.hub.brought import Brought, bring
from gapless.hub.callers import ANYBODY, Caller
from gapless.hub.failures import Concern, SeriesFailures, bound_pause, concern_of
from gapless.hub.pacing import Breaker, Bucket, Deadline, back_off
from gapless.hub.provider_turns import ProviderTurns
from gapless.hub.skew import Skew
from gapless.lru import Lru
from gapless.protocol.messages import Entity, Request
from gapless.providers.base import (
    EntityProvider,
    Fetched,
    PartwiseProvider,
    Provider,
)
from gapless.store.base import Superseded

T = TypeVar("T")
TakeBrought = Callable[[Interval, "Brought | None"], Awaitable[None]]
_log = structlog.get_logger("gapless.upstream")

# What a remembered refusal may cost in memory.
_MOST_UNKNOWN = 10_000
# An upstream that says "too often" without saying for how long is left alone for this long.
_RATE_LIMITED_S = 60.0
# A provider with a deadline of its own must be the one to say that it has passed.
_MARGIN_S = 1.0
_NO_RANGE = Interval(0, 0)


@dataclass(frozen=True, slots=True)
class UpstreamCall:
    """One request that went upstream, for logs, metrics and tests; `error` `None`: it answered.

    A request for entities has no ticker and an empty interval.
    """

    key: SeriesKey
    interval: Interval
    purpose: str
    error: GaplessError | None


@dataclass(frozen=True, slots=True)
class _Call:
    """What is asked of the provider, however often it is tried, and on whose behalf.

    `counts`: where it fails, that is held against the series. `held`: the series was answered
    before. `of_series`: it is asked for one.
    """

    key: SeriesKey
    interval: Interval
    purpose: str
    tally: Tally
    counts: bool = True
    held: bool = False
    of_series: bool = True

    def asked(self, error: GaplessError | None) -> UpstreamCall:
        """Return one try of it, as it is told."""
        return UpstreamCall(self.key, self.interval, self.purpose, error)


@dataclass(slots=True)
class Tally:
    """On whose behalf a piece of work is done, and how many requests it has cost upstream."""

    callers: list[Caller] = field(default_factory=lambda: [ANYBODY])
    requests: int = 0
    _join: Callable[[Caller], None] | None = None

    def join(self, caller: Caller) -> None:
        """Do it on behalf of another one too, whose turn it may be sooner."""
        if caller not in self.callers:
            self.callers.append(caller)
            if self._join is not None:
                self._join(caller)

    def joinable(self, join: Callable[[Caller], None] | None) -> None:
        """Hand on to the turn that is waited for who else waits; `None`: there is none."""
        self._join = join


class Upstream:
    """A provider with its budget, its breaker, and its memory of tickers that fail.

    `alone`: its last error was of one series, and says nothing of upstream.
    """

    def __init__(
        self,
        provider: Provider,
        clock: Clock,
        fetch: FetchSettings,
        cache: CacheSettings,
        observe: Callable[[UpstreamCall], None] = lambda asked: None,
        seed: int | None = None,
    ) -> None:
        self.provider = provider
        pace = provider.info.pace
        own = provider.info.deadline_s
        hub_s = fetch.deadline_s
        self._longest = hub_s if own is None else max(hub_s, own + _MARGIN_S)
        self.bucket = Bucket(pace.rate, pace.burst, clock.monotonic())
        self._turns = ProviderTurns(provider.info.name, self.bucket, clock)
        self.breaker = Breaker(
            fetch.breaker_failures, fetch.breaker_cooldown_s, fetch.breaker_cooldown_max_s
        )
        self.requests = 0
        self.last_error: GaplessError | None = None
        self.alone = False
        self.failures = SeriesFailures()
        self.skew = Skew()
        # When it last answered, and when it last failed; milliseconds UTC.
        self.answered_at: int | None = None
        self.failed_at: int | None = None
        self._clock = clock
        self._fetch = fetch
        self._unknown_s = cache.unknown_ticker_s
        self._observe = observe
        self._random = random.Random(seed)
        self._trial: asyncio.Event | None = None
        # What the breaker last heard of: not a refusal of one ticker, nor gone with a success.
        self._outage: ProviderError | None = None
        self._unknown: Lru[SeriesKey, tuple[float, UnknownTicker]] = Lru(_MOST_UNKNOWN)

    def refusal(self, key: SeriesKey) -> UnknownTicker | None:
        """Return the refusal of a ticker that upstream lately did not know."""
        found = self._unknown.peek(key)
        if found is None:
            return None
        until, error = found
        if self._clock.monotonic() < until:
            return error
        self._unknown.drop(key)
        return None

    async def ask(
        self,
        key: SeriesKey,
        interval: Interval,
        meta: Mapping[str, Any],
        purpose: str,
        tally: Tally,
        deadline: Deadline | None = None,
        *,
        wide: bool = False,
        take: TakeBrought | None = None,
    ) -> tuple[Interval, Brought]:
        """Fetch once, with retries within the deadline; raise the `ProviderError` that is left.

        Returns what came, and of which part of the interval: what came before it was given to
        `take`, where a provider hands on what it has before it has all.

        The deadline is one for all (stitching rule 8): waiting for turns, tries and the pauses
        between them. Each try has what is left of it. `None`: it begins now, and ends after
        `fetch.deadline_s`. `wide`: where it fails less is asked for after it, so that it has half
        of what is left (stitching rule 9), and is not held against the series yet.
        """
        now = self._clock.monotonic()
        refused = self.refusal(key) or self.failures.refusal(key, now)
        if refused is not None:
            raise refused.again()
        whole = deadline or self.deadline()
        call = _Call(key, interval, purpose, tally, counts=not wide, held=bool(meta))

        left = interval

        async def taken(part: Interval, brought: Brought | None) -> None:
            nonlocal left
            assert take is not None
            await take(part, brought)
            left = interval if brought is None else Interval(max(left.start, part.end), left.end)

        async def once(deadline: Deadline) -> Brought:
            # What was taken before it failed is not asked for again.
            rest = replace(call, interval=left)
            return await self._attempt(rest, meta, deadline, None if take is None else taken)

        brought = await self._tried(once, call, whole.half(now) if wide else whole)
        return left, brought

    def deadline(self) -> Deadline:
        """Return the deadline of a request that begins now."""
        return Deadline.of(self._clock.monotonic(), self._fetch.deadline_s, self._longest)

    async def entities(
        self, provider: EntityProvider, request: Request, caller: Caller
    ) -> Sequence[Entity]:
        """Hand the provider a request as it is, within its pace; raise the `ProviderError` left."""
        key = SeriesKey(provider.info.name, "")
        call = _Call(key, _NO_RANGE, "entities", Tally([caller]), counts=False, of_series=False)

        async def once(deadline: Deadline) -> Sequence[Entity]:
            now = self._clock.now_ms()
            with self._accounted(call):
                found = await self._in_time(provider.entities(request, now), deadline)
            self._count(call, 1, None)
            self._answered()
            return found

        return await self._tried(once, call, self.deadline())

    async def _tried(
        self, once: Callable[[Deadline], Awaitable[T]], call: _Call, deadline: Deadline
    ) -> T:
        attempt = 0
        while True:
            trial = await self._turn(deadline, call.tally)
            attempt += 1
            try:
                with self._trying(trial):
                    brought = await once(deadline)
            except ProviderError as error:
                self.last_error = error.again()
                pause = self._pause(error, attempt, deadline)
                if pause is None:
                    raise self._given_up(call, error) from error.__cause__
                _log.info(
                    "upstream failed, trying again",
                    series=call.key.text,
                    error=error.message,
                    pause_s=round(pause, 2),
                )
                await self._clock.sleep(pause)
            else:
                self.last_error = None
                return brought

    async def _turn(self, deadline: Deadline, tally: Tally) -> asyncio.Event | None:
        """Wait for a turn of the budget; return what ends it if it is the breaker's trial.

        Raises what `ProviderTurns.take` raises where none comes in time. Who finds a trial under
        way waits for it: if that succeeds, all may go on.
        """
        await self._trial_over(deadline)
        now = self._clock.monotonic()
        self._refuse_blocked(now)
        trial = self._enter()
        try:
            patience = deadline.to_begin(now)
            waited = await self._turns.take(tally.callers, patience, tally.joinable)
        except BaseException:
            if trial is not None:
                self.breaker.abandoned()
                self._end(trial)
            raise
        if waited and trial is None:
            # It may have opened for all while this one stood in the queue.
            self._refuse_blocked(self._clock.monotonic())
            trial = self._enter()
        return trial

    async def _trial_over(self, deadline: Deadline) -> None:
        """Wait for the trials under way; raise `UpstreamUnavailable` where that takes too long."""
        try:
            async with asyncio.timeout(deadline.to_begin(self._clock.monotonic())):
                while self._trial is not None:
                    await self._trial.wait()
        except TimeoutError:
            raise UpstreamUnavailable(
                f"{self.provider.info.name} has failed lately, and the request that tries it is "
                f"not answered yet, {self._fetch.deadline_s:g} s after this one began "
                "(fetch.deadline_s); try again"
            ) from None

    def _enter(self) -> asyncio.Event | None:
        """Go ahead past the breaker; return what others wait for if this is its trial.

        Each trial ends what it began itself: the breaker may have closed and opened again since
        an earlier one went ahead, which then is under way yet.
        """
        if not self.breaker.enter():
            return None
        self._trial = asyncio.Event()
        return self._trial

    @contextmanager
    def _trying(self, trial: asyncio.Event | None) -> Iterator[None]:
        """Let those who wait for a trial go on when it is over, however it ended."""
        try:
            yield
        finally:
            if trial is not None:
                self._end(trial)

    def _end(self, trial: asyncio.Event) -> None:
        trial.set()
        if self._trial is trial:
            self._trial = None

    def _refuse_blocked(self, now: float) -> None:
        blocked = self.breaker.blocked_for(now)
        if blocked > 0:
            said = f": {self._outage.message}" if self._outage is not None else ""
            reason = self._outage.reason if self._outage is not None else None
            raise ProviderError(
                f"{self.provider.info.name} is left alone for {blocked:.0f} s after failures{said}",
                reason=reason,
                retry_after_s=round(blocked, 1),
            )

    async def _attempt(
        self,
        call: _Call,
        meta: Mapping[str, Any],
        deadline: Deadline,
        taken: TakeBrought | None,
    ) -> Brought:
        now, start = self._clock.now_ms(), call.interval.start
        name = self.provider.info.name

        async def take(part: Interval, fetched: Fetched | None) -> None:
            nonlocal start
            assert taken is not None
            brought = None if fetched is None else await bring([fetched], now, part, name)
            start = call.interval.start if fetched is None else max(start, part.end)
            await taken(part, brought)

        with self._accounted(call):
            if taken is not None and self.provider.info.partwise:
                partwise = cast("PartwiseProvider", self.provider)
                work = partwise.fetch_in_parts(call.key, call.interval, now, take)
            else:
                work = self.provider.fetch(call.key, call.interval, now, meta)
            fetched = await self._in_time(work, deadline)
            requests, own = fetched.requests, [fetched]
            # Letting go of very many records takes a while: nobody else has them.
            del fetched, work
            brought = await bring(own, now, Interval(start, call.interval.end), name)
        self._count(call, requests, None)
        self._hear_clock(brought.upstream_now, now)
        self.failures.answered(call.key)
        self._answered()
        return brought

    @contextmanager
    def _accounted(self, call: _Call) -> Iterator[None]:
        """Count what fails, tell the breaker, and put what no provider may raise into our words."""
        self.alone = False
        try:
            yield
        except ProviderError as error:
            bound_pause(error)
            self._count(call, error.requests, error)
            self._failed(call, error)
            raise
        except GaplessError as error:
            self._count(call, 1, error)
            self.breaker.abandoned()
            raise
        except Superseded:
            # What was taken could not be stored, of which upstream can know nothing.
            self.breaker.abandoned()
            raise
        except Exception as error:
            _log.exception("provider raised", series=call.key.text)
            ours = InternalError(
                f"{self.provider.info.name} failed in a way it should not ({error!r}); "
                "the log has the details"
            )
            self._count(call, 1, ours)
            self.breaker.abandoned()
            raise ProviderError(ours.message, reason="upstream_unavailable") from error
        except BaseException:
            self.breaker.abandoned()
            raise

    async def _in_time(self, work: Awaitable[T], deadline: Deadline) -> T:
        """Call the provider, which may hang: no lease is held for longer than the deadline."""
        left = deadline.to_end(self._clock.monotonic())
        try:
            async with asyncio.timeout(left) as scope:
                return await work
        except TimeoutError as error:
            if not scope.expired():
                # It is the provider's own, and says nothing of how long it took.
                raise
            rest = "" if left >= self._longest else f", what was left of {self._longest:g} s"
            setting = " (fetch.deadline_s)" if self.provider.info.deadline_s is None else ""
            raise UpstreamUnavailable(
                f"{self.provider.info.name} did not answer within {left:.3g} s{rest}{setting}"
            ) from error

    def _count(self, call: _Call, requests: int, error: GaplessError | None) -> None:
        for _ in range(requests - 1):
            # What the provider sent besides is paid for by those who come next.
            self.bucket.take(self._clock.monotonic())
        call.tally.requests += requests
        self.requests += requests
        if error is None:
            self.answered_at = self._clock.now_ms()
        else:
            self.failed_at = self._clock.now_ms()
        self._observe(call.asked(error))

    def _answered(self) -> None:
        """Note that upstream is there, be it only to refuse."""
        self.failures.upstream_answered()
        self.breaker.succeeded()

    def _hear_clock(self, upstream_now: int | None, sent: int) -> None:
        received = self._clock.now_ms()
        if self.skew.heard(upstream_now, sent, received, self._clock.monotonic()):
            _log.warning(
                "the clocks differ: the hub's own, or upstream's, is wrong",
                provider=self.provider.info.name,
                upstream_ahead_s=self.skew.seconds,
            )

    def _failed(self, call: _Call, error: ProviderError) -> None:
        """Tell the breaker, which only the failures of upstream as a whole concern."""
        now, key = self._clock.monotonic(), call.key
        if isinstance(error, UnknownTicker):
            self._unknown.put(key, (now + self._unknown_s, error.again()))
        concern = concern_of(error)
        if concern is Concern.NOBODY:
            self.alone = isinstance(error, UnknownTicker | OutOfWindow)
            self._answered()
            return
        if call.of_series:
            of_all = self.failures.is_of_all(key, error, call.held)
        else:
            of_all = concern is not Concern.SERIES
        self.alone = not of_all
        if not of_all:
            # It may have been the trial, which has told nothing then.
            self.breaker.abandoned()
            return
        self._outage = error.again()
        open_for = None
        if isinstance(error, RateLimited):
            silence = max(_RATE_LIMITED_S, self._fetch.breaker_cooldown_s)
            open_for = silence if error.retry_after_s is None else error.retry_after_s
        self.breaker.failed(now, open_for)

    def _given_up(self, call: _Call, error: ProviderError) -> ProviderError:
        """Leave a series alone that fails by itself; return what is told to who asked for it."""
        pause = None
        if call.counts:
            pause = self.failures.gave_up(call.key, error, self._clock.monotonic())
        if pause is None:
            return error
        _log.warning(
            "a series fails by itself", series=call.key.text, error=error.message, pause_s=pause
        )
        told = error.again()
        told.retry_after_s = pause
        return told

    def _pause(self, error: ProviderError, attempt: int, deadline: Deadline) -> float | None:
        """Return the seconds before the next attempt; `None`: there is none."""
        if not error.retryable or isinstance(error, RateLimited):
            return None
        now = self._clock.monotonic()
        pause = max(back_off(attempt, self._random.random()), error.retry_after_s or 0.0)
        if self.breaker.blocked_for(now) > 0:
            return None
        return pause if deadline.allows(pause, now) else None
