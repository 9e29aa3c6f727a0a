"""One provider as the hub asks it: paced, retried, behind its breaker, counted."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Mapping
from itertools import pairwise
from typing import Any

import pytest
from structlog.testing import capture_logs

from gapless.config import CacheSettings, FetchSettings
from gapless.domain.intervals import Interval
from gapless.domain.series import SeriesKey
from gapless.errors import (
    BadPluginReply,
    BadUpstreamReply,
    GaplessError,
    OutOfWindow,
    ProviderError,
    RateLimited,
    UnknownTicker,
    UpstreamUnavailable,
    UpstreamUnreachable,
)
from gapless.hub.brought import Brought
from gapless.hub.upstream import Tally, Upstream, UpstreamCall
from gapless.providers.base import (
    DueMoments,
    Fetched,
    Pace,
    ProviderInfo,
    Provisional,
    Record,
    Traits,
)
from support.clock import ManualClock
from support.wire import PATIENCE_S

KEY = SeriesKey("script", "AAPL")
ASKED = Interval(0, 100)
GOOD = Fetched((Record(10, {"t": 10}), Record(20, {"t": 20})))

PACE = Pace(2.0, 20)
Reply = Fetched | BaseException


class ScriptProvider:
    """A provider that answers by a script, and gives its last answer for ever.

    Each answer `takes_s` on its clock.
    """

    def __init__(
        self,
        *replies: Reply,
        pace: Pace = PACE,
        takes_s: float = 0.0,
        deadline_s: float | None = None,
    ) -> None:
        self.replies = list(replies)
        self.takes_s = takes_s
        self.calls: list[float] = []
        self.clock = ManualClock()
        self.go = asyncio.Event()
        self.go.set()
        self._info = ProviderInfo("script", "A script", (), ("t",), pace, 0, deadline_s=deadline_s)

    @property
    def info(self) -> ProviderInfo:
        return self._info

    def key(self, ticker: str, params: Mapping[str, str]) -> SeriesKey:
        return SeriesKey.of("script", ticker, params)

    def traits(self, key: SeriesKey) -> Traits:
        return Traits(bar=10)

    async def fetch(
        self, key: SeriesKey, interval: Interval, now_ms: int, meta: Mapping[str, Any]
    ) -> Fetched:
        self.calls.append(self.clock.monotonic())
        reply = self.replies.pop(0) if len(self.replies) > 1 else self.replies[0]
        await self.go.wait()
        self.clock.advance(self.takes_s)
        if isinstance(reply, BaseException):
            raise reply
        return reply

    def due_moments(self, meta: Mapping[str, Any], now_ms: int) -> DueMoments:
        return DueMoments.daily(now_ms)

    async def aclose(self) -> None:
        """Hold nothing."""


def upstream(
    provider: ScriptProvider,
    fetch: FetchSettings | None = None,
    observe: Callable[[UpstreamCall], None] = lambda asked: None,
) -> Upstream:
    """Return the provider as the hub asks it."""
    fetch = fetch or FetchSettings()
    return Upstream(provider, provider.clock, fetch, CacheSettings(), observe, seed=1)


async def ask(one: Upstream, tally: Tally | None = None, key: SeriesKey = KEY) -> Brought:
    """Ask for the same interval as always."""
    return (await one.ask(key, ASKED, {}, "gap", tally or Tally()))[1]


async def test_an_answer() -> None:
    """What the provider returned comes back, counted and observed."""
    seen: list[UpstreamCall] = []
    provider = ScriptProvider(Fetched(GOOD.records, requests=3))
    one = upstream(provider, observe=seen.append)
    tally = Tally()
    assert (await ask(one, tally)).run == GOOD.run()
    assert (tally.requests, one.requests) == (3, 3)
    assert seen == [UpstreamCall(KEY, ASKED, "gap", None)]
    assert provider.clock.slept == []


async def test_what_may_pass_is_tried_again() -> None:
    """Failures that may pass are retried with growing pauses, and each is observed."""
    seen: list[UpstreamCall] = []
    down = UpstreamUnavailable("down")
    provider = ScriptProvider(down, down, GOOD)
    one = upstream(provider, observe=seen.append)
    tally = Tally()
    assert (await ask(one, tally)).run == GOOD.run()
    assert [asked.error for asked in seen] == [down, down, None]
    assert tally.requests == 3
    first, second = provider.clock.slept
    assert 0.25 <= first <= 0.5 <= second <= 1.0
    assert one.last_error is None


async def test_retries_end_at_the_deadline() -> None:
    """All retries together stay within one deadline, then the last error is left."""
    provider = ScriptProvider(UpstreamUnavailable("down"))
    one = upstream(provider, FetchSettings(deadline_s=20.0, breaker_failures=1_000))
    started = provider.clock.monotonic()
    with pytest.raises(UpstreamUnavailable, match="down"):
        await ask(one)
    assert provider.clock.monotonic() - started < 20.0
    assert 4 <= len(provider.calls) <= 8


@pytest.mark.parametrize("takes_s", [0.01, 0.1, 0.3, 0.6])
async def test_tries_that_take_long_share_one_deadline(takes_s: float) -> None:
    """However long each of them takes, none goes on beyond the deadline of the request."""
    for deadline in (1.0, 3.0, 20.0):
        provider = ScriptProvider(UpstreamUnavailable("down"), takes_s=takes_s)
        one = upstream(provider, FetchSettings(deadline_s=deadline, breaker_failures=1_000))
        started = provider.clock.monotonic()
        with pytest.raises(UpstreamUnavailable, match="down"):
            await ask(one)
        assert provider.clock.monotonic() - started <= max(deadline, takes_s)
        for before, after in pairwise(provider.calls):
            # No try begins that would have less time than was waited for it.
            assert started + deadline - after >= after - before - takes_s - 1e-9


class Hanging(ScriptProvider):
    """A provider whose first tries fail, and whose last one hangs."""

    async def fetch(
        self, key: SeriesKey, interval: Interval, now_ms: int, meta: Mapping[str, Any]
    ) -> Fetched:
        if len(self.replies) == 1:
            self.go.clear()
        return await super().fetch(key, interval, now_ms, meta)


async def test_a_try_has_what_is_left_of_the_deadline() -> None:
    """One that hangs is given up when the time of the whole request is over, not its own."""
    down = UpstreamUnavailable("down")
    provider = Hanging(down, GOOD, takes_s=0.3)
    started = provider.clock.monotonic()
    with pytest.raises(UpstreamUnavailable) as caught:
        await ask(upstream(provider, FetchSettings(deadline_s=1.0)))
    left = 1.0 - (provider.calls[1] - started)
    assert 0.2 <= left <= 0.45
    assert caught.value.message == (
        f"script did not answer within {left:.3g} s, what was left of 1 s (fetch.deadline_s)"
    )


async def test_waiting_for_a_turn_is_part_of_the_deadline() -> None:
    """Whoever stood in the queue for half of it has the other half to be answered."""
    provider = ScriptProvider(GOOD, pace=Pace(2.0, 1))
    one = upstream(provider, FetchSettings(deadline_s=1.0))
    await ask(one)
    provider.go.clear()
    with pytest.raises(UpstreamUnavailable, match=r"within 0\.5 s, what was left of 1 s"):
        await ask(one)
    assert provider.clock.slept == [0.5]


async def test_a_provider_with_a_longer_deadline_of_its_own() -> None:
    """It is waited for as long as it says, all in all, and is the first to say that it is over."""
    provider = ScriptProvider(GOOD, pace=Pace(4.0, 1), deadline_s=0.2)
    one = upstream(provider, FetchSettings(deadline_s=0.5))
    await ask(one)
    provider.go.clear()
    with pytest.raises(UpstreamUnavailable, match=r"within 0\.95 s, what was left of 1\.2 s"):
        await ask(one)


async def test_a_trial_is_waited_for_no_longer_than_the_deadline() -> None:
    """Who finds one under way is told when the time is over, and the trial goes on."""
    provider = ScriptProvider(UpstreamUnreachable("down"), deadline_s=60)
    one = upstream(provider, FetchSettings(deadline_s=0.05, breaker_failures=1))
    with pytest.raises(UpstreamUnavailable, match="down"):
        await ask(one)
    provider.clock.advance(60.0)
    provider.replies = [GOOD]
    provider.go.clear()
    trial = asyncio.ensure_future(ask(one))
    await asyncio.sleep(0)
    with pytest.raises(UpstreamUnavailable, match=r"tries it is not answered yet"):
        await ask(one)
    assert len(provider.calls) == 2
    provider.go.set()
    assert (await trial).run == GOOD.run()
    assert (await ask(one)).run == GOOD.run()


async def test_a_timeout_of_the_providers_own() -> None:
    """It is a failure of the provider's, and not told as the deadline that has not passed."""
    provider = ScriptProvider(TimeoutError("mine"))
    with capture_logs(), pytest.raises(ProviderError, match=r"should not \(TimeoutError"):
        await ask(upstream(provider))


@pytest.mark.parametrize("error", [OutOfWindow("gone"), UnknownTicker("who?"), RateLimited("no")])
async def test_what_will_not_pass_is_not_tried_again(error: ProviderError) -> None:
    """A refusal is final at once."""
    provider = ScriptProvider(error)
    with pytest.raises(type(error)):
        await ask(upstream(provider))
    assert len(provider.calls) == 1


async def test_a_pause_that_upstream_asks_for_is_kept() -> None:
    """`Retry-After` is honoured where it is longer than the back-off."""
    provider = ScriptProvider(UpstreamUnavailable("busy", retry_after_s=7.0), GOOD)
    assert (await ask(upstream(provider))).run == GOOD.run()
    assert provider.clock.slept == [7.0]
    provider = ScriptProvider(UpstreamUnavailable("busy", retry_after_s=70.0), GOOD)
    with pytest.raises(UpstreamUnavailable):
        await ask(upstream(provider))
    assert provider.clock.slept == []


async def test_the_pace_is_kept() -> None:
    """Beyond the burst requests go out at the rate, and too long a queue is refused."""
    provider = ScriptProvider(GOOD, pace=Pace(2.0, 3))
    one = upstream(provider, FetchSettings(deadline_s=20.0))
    outcomes = await asyncio.gather(*(ask(one) for _ in range(100)), return_exceptions=True)
    refused = [error for error in outcomes if isinstance(error, RateLimited)]
    assert len(refused) == 100 - len(provider.calls)
    assert len(provider.calls) == 3 + 40
    assert all(error.retry_after_s is not None for error in refused)
    start = provider.calls[0]
    for count, at in enumerate(sorted(provider.calls)):
        assert count < 3 + 2.0 * (at - start) + 1


async def test_an_unknown_ticker_is_remembered() -> None:
    """A ticker that upstream does not know is refused without asking, for a while."""
    provider = ScriptProvider(UnknownTicker("no such ticker"), GOOD)
    one = upstream(provider)
    with pytest.raises(UnknownTicker):
        await ask(one)
    with pytest.raises(UnknownTicker, match="no such ticker"):
        await ask(one)
    assert len(provider.calls) == 1
    assert one.refusal(SeriesKey("script", "MSFT")) is None
    provider.clock.advance(900.0)
    assert one.refusal(KEY) is None
    assert (await ask(one)).run == GOOD.run()


async def test_too_many_failures_open_the_breaker_for_all() -> None:
    """After failures in a row nobody asks, then one tries, and its success serves all again."""
    provider = ScriptProvider(UpstreamUnreachable("down", retry_after_s=99.0))
    one = upstream(provider)
    for _ in range(5):
        with pytest.raises(UpstreamUnavailable):
            await ask(one)
    with pytest.raises(ProviderError, match="left alone for 60 s after failures: down") as caught:
        await ask(one)
    assert caught.value.reason == "upstream_unavailable"
    assert caught.value.retry_after_s == 60.0
    assert len(provider.calls) == 5
    provider.clock.advance(60.0)
    provider.replies = [GOOD]
    provider.go.clear()
    trial, beside = asyncio.ensure_future(ask(one)), asyncio.ensure_future(ask(one))
    await asyncio.sleep(0)
    assert len(provider.calls) == 6, "one tries, the other waits for it"
    provider.go.set()
    assert (await trial).run == GOOD.run()
    assert (await beside).run == GOOD.run()


async def test_who_waits_for_a_trial_that_fails_is_refused() -> None:
    """A trial that fails opens the breaker again, for those who waited for it too."""
    provider = ScriptProvider(UpstreamUnreachable("down", retry_after_s=99.0))
    one = upstream(provider)
    for _ in range(5):
        with pytest.raises(UpstreamUnavailable):
            await ask(one)
    provider.clock.advance(60.0)
    outcomes = await asyncio.gather(*(ask(one) for _ in range(3)), return_exceptions=True)
    assert len(provider.calls) == 6
    assert all(isinstance(error, ProviderError) for error in outcomes)


async def test_too_often_stops_all_for_as_long_as_it_says() -> None:
    """One 429 stops everybody, those who stand in the queue and those who come too."""
    provider = ScriptProvider(
        RateLimited("slow down", retry_after_s=120.0), GOOD, pace=Pace(2.0, 1)
    )
    one = upstream(provider)
    outcomes = await asyncio.gather(*(ask(one) for _ in range(30)), return_exceptions=True)
    assert len(provider.calls) == 1
    assert all(isinstance(error, ProviderError) for error in outcomes)
    assert {error.reason for error in outcomes if isinstance(error, ProviderError)} == {
        "rate_limited"
    }
    provider.clock.advance(60.0)
    with pytest.raises(ProviderError, match="left alone"):
        await ask(one)
    provider.clock.advance(60.0)
    assert (await ask(one)).run == GOOD.run()


@pytest.mark.parametrize("last", [OutOfWindow("gone"), GOOD])
async def test_all_are_told_of_the_outage_and_not_of_the_last_answer(last: Reply) -> None:
    """What was under way when the breaker opened, and ends otherwise, is not why it is open."""
    provider = ScriptProvider(last, UpstreamUnreachable("down", retry_after_s=99.0))
    one = upstream(provider)
    held = provider.go = asyncio.Event()
    slow = asyncio.ensure_future(ask(one))
    await asyncio.sleep(0)
    provider.go = asyncio.Event()
    provider.go.set()
    for _ in range(5):
        with pytest.raises(UpstreamUnavailable):
            await ask(one)
    held.set()
    await asyncio.gather(slow, return_exceptions=True)
    with pytest.raises(ProviderError, match="left alone for 60 s after failures: down") as caught:
        await ask(one)
    assert caught.value.reason == "upstream_unavailable"


ODD, MSFT, IBM = (SeriesKey("script", ticker) for ticker in ("ODD", "MSFT", "IBM"))
DOWN = UpstreamUnavailable("HTTP 500")
MAD = BadUpstreamReply("it is of 'XYZ'")


class Moody(ScriptProvider):
    """A provider with an answer of its own for some tickers."""

    def __init__(self, **moods: Reply) -> None:
        super().__init__(GOOD)
        self.moods: dict[str, Reply] = dict(moods)

    async def fetch(
        self, key: SeriesKey, interval: Interval, now_ms: int, meta: Mapping[str, Any]
    ) -> Fetched:
        self.replies = [self.moods.get(key.ticker, GOOD)]
        return await super().fetch(key, interval, now_ms, meta)


async def failed(
    one: Upstream, key: SeriesKey, meta: Mapping[str, Any] | None = None
) -> GaplessError:
    """Ask for a series and return the error."""
    with capture_logs(), pytest.raises(ProviderError) as caught:
        await one.ask(key, ASKED, meta or {}, "gap", Tally())
    return caught.value


@pytest.mark.parametrize("error", [DOWN, MAD])
async def test_a_ticker_that_fails_alone_keeps_no_other_from_being_asked(
    error: ProviderError,
) -> None:
    """However often it fails, known or not, all others are answered, and it says why itself."""
    provider = Moody(ODD=error)
    one = upstream(provider)
    for _ in range(40):
        told = await failed(one, ODD, {"tz": "UTC"})
        assert (told.message, told.reason) == (error.message, error.reason)
        assert told.retry_after_s is not None
        assert (await ask(one, key=MSFT)).run == GOOD.run()
        assert one.breaker.blocked_for(provider.clock.monotonic()) == 0.0
        provider.clock.advance(50.0)
    assert len(one.failures) == 1
    assert [(failure.key, failure.error.message) for failure in one.failures.first(5)] == [
        (ODD, error.message)
    ]
    del provider.moods["ODD"]
    provider.clock.advance(3600.0)
    await ask(one, key=ODD)
    assert len(one.failures) == 0


async def test_a_series_that_fails_alone_is_left_alone_for_longer_each_time() -> None:
    """A minute, doubling up to an hour, without a request in between; a success ends it."""
    provider = Moody(ODD=MAD)
    one = upstream(provider)
    for pause in (60, 120, 240, 480, 960, 1920, 3600, 3600):
        asked = len(provider.calls)
        assert (await failed(one, ODD)).retry_after_s == pause
        assert len(provider.calls) == asked + 1, "what is no answer is not asked for again at once"
        provider.clock.advance(pause - 1.0)
        assert (await failed(one, ODD)).retry_after_s == 1.0
        assert len(provider.calls) == asked + 1
        # Its other series are others.
        hourly = SeriesKey("script", "ODD", (("interval", "1h"),))
        provider.moods.clear()
        await ask(one, key=hourly)
        provider.moods["ODD"] = MAD
        provider.clock.advance(1.0)
    provider.moods.clear()
    await ask(one, key=ODD)
    provider.moods["ODD"] = MAD
    assert (await failed(one, ODD)).retry_after_s == 60


async def test_two_tickers_that_answered_before_tell_of_an_outage() -> None:
    """Where both fail and nothing succeeds between, all are left alone, and then all are asked."""
    provider = Moody(MSFT=DOWN, IBM=DOWN)
    one = upstream(provider)
    assert (await failed(one, MSFT, {"tz": "UTC"})).retry_after_s == 60
    told = await failed(one, IBM, {"tz": "UTC"})
    assert told.reason == "upstream_unavailable"
    assert one.breaker.blocked_for(provider.clock.monotonic()) > 0
    assert len(one.failures) == 0, "it was none of their own"
    asked = len(provider.calls)
    assert "left alone" in (await failed(one, KEY)).message
    assert len(provider.calls) == asked
    provider.moods.clear()
    provider.clock.advance(60.0)
    for key in (MSFT, IBM, KEY):
        await ask(one, key=key)


async def test_a_success_between_two_failures_tells_of_no_outage() -> None:
    """Two tickers that fail in turn with others who succeed are two that fail by themselves."""
    provider = Moody(ODD=DOWN, IBM=DOWN)
    one = upstream(provider)
    for key in (ODD, IBM, MSFT):
        provider.moods, moods = {}, provider.moods
        await ask(one, key=key)
        provider.moods = moods
    for _ in range(8):
        for key in (ODD, IBM):
            await failed(one, key)
            await ask(one, key=MSFT)
        provider.clock.advance(3600.0)
    assert len(one.failures) == 2
    assert one.breaker.failures == 0


async def test_tickers_that_never_answered_tell_of_no_outage() -> None:
    """Any number of them: there may be no such thing at all; each is left alone by itself."""
    keys = [SeriesKey("script", f"T{n}") for n in range(50)]
    provider = Moody(**{key.ticker: DOWN for key in keys})
    one = upstream(provider)
    for key in keys:
        await failed(one, key)
    await ask(one)
    assert len(one.failures) == 50


async def test_a_trial_that_fails_by_itself_tells_nothing() -> None:
    """The next one is the trial, and its success lets all ask again."""
    provider = Moody(ODD=MAD, MSFT=UpstreamUnreachable("no connection", retry_after_s=99.0))
    one = upstream(provider, FetchSettings(breaker_failures=1))
    await failed(one, MSFT)
    assert "left alone" in (await failed(one, KEY)).message
    provider.clock.advance(60.0)
    assert (await failed(one, ODD)).reason == "bad_upstream_reply"
    await ask(one)
    assert not one.breaker.trying
    assert one.breaker.open_until is None


async def test_an_outage_shows_in_wide_tries_too() -> None:
    """Where pages come for two tickers, they are not for the width of what was asked."""
    provider = Moody(MSFT=DOWN, IBM=DOWN)
    one = upstream(provider)
    for key in (MSFT, IBM, MSFT, IBM):
        with capture_logs(), pytest.raises(ProviderError):
            await one.ask(key, ASKED, {"tz": "UTC"}, "gap", Tally(), one.deadline(), wide=True)
    assert one.breaker.blocked_for(provider.clock.monotonic()) > 0
    assert len(one.failures) == 0


async def test_a_wide_try_is_not_held_against_the_series() -> None:
    """It has half of the deadline, and what is narrower is asked with what is left."""
    provider = Moody(AAPL=MAD)
    one = upstream(provider, FetchSettings(deadline_s=20.0))
    whole = one.deadline()
    with pytest.raises(BadUpstreamReply):
        await one.ask(KEY, ASKED, {"tz": "UTC"}, "gap", Tally(), whole, wide=True)
    assert one.failures.refusal(KEY, provider.clock.monotonic()) is None
    provider.moods.clear()
    assert (await one.ask(KEY, ASKED, {}, "gap", Tally(), whole))[1].run == GOOD.run()
    provider.moods["AAPL"] = UpstreamUnavailable("slow")
    started = provider.clock.monotonic()
    with pytest.raises(UpstreamUnavailable):
        await one.ask(KEY, ASKED, {}, "gap", Tally(), one.deadline(), wide=True)
    assert provider.clock.monotonic() - started < 10.0
    assert len(one.failures) == 0


async def test_clocks_that_differ_are_told() -> None:
    """What was brought says what upstream's clock shows; over five minutes is logged, not often."""
    provider = ScriptProvider(GOOD)
    one = upstream(provider)
    behind = provider.clock.now_ms() - 400_000
    provider.replies = [Fetched(GOOD.records, upstream_now=behind, known_until=behind)]
    with capture_logs() as logs:
        for _ in range(3):
            brought = await ask(one)
            assert (brought.upstream_now, brought.known_until) == (behind, behind)
    assert [entry["log_level"] for entry in logs] == ["warning"]
    assert logs[0]["upstream_ahead_s"] == -400.0
    assert one.skew.seconds == -400.0


async def test_a_refusal_is_an_answer() -> None:
    """Refusals of single series never open the breaker."""
    provider = ScriptProvider(OutOfWindow("gone"))
    one = upstream(provider)
    for _ in range(15):
        with pytest.raises(OutOfWindow):
            await ask(one)
    assert len(provider.calls) == 15


async def test_a_request_that_is_cancelled_frees_the_trial() -> None:
    """A trial that is cancelled while it waits leaves the way free for the next."""
    provider = ScriptProvider(RateLimited("slow down", retry_after_s=60.0), GOOD)
    one = upstream(provider)
    with pytest.raises(RateLimited):
        await ask(one)
    provider.clock.advance(60.0)
    provider.go.clear()
    trial = asyncio.ensure_future(ask(one))
    await asyncio.sleep(0)
    trial.cancel()
    with pytest.raises(asyncio.CancelledError):
        await trial
    provider.go.set()
    assert (await ask(one)).run == GOOD.run()


BROKEN: list[tuple[str, Reply, type[GaplessError]]] = [
    ("out of order", Fetched((Record(20, {}), Record(10, {}))), BadPluginReply),
    ("twice the same time", Fetched((Record(10, {}), Record(10, {}))), BadPluginReply),
    ("before what was asked", Fetched((Record(-1, {}),)), BadPluginReply),
    ("at the end of what was asked", Fetched((Record(100, {}),)), BadPluginReply),
    ("provisional beyond", Fetched((), (Provisional(90, 101, 5),)), BadPluginReply),
    ("provisional and empty", Fetched((), (Provisional(9, 9, 5),)), BadPluginReply),
    (
        "provisional twice",
        Fetched((), (Provisional(0, 50, 5), Provisional(40, 60, 5))),
        BadPluginReply,
    ),
    ("raises something", ZeroDivisionError("oops"), ProviderError),
]


@pytest.mark.parametrize(("name", "reply", "error"), BROKEN)
async def test_what_breaks_the_contract_is_refused(
    name: str, reply: Reply, error: type[GaplessError]
) -> None:
    """Nothing malformed comes through, and it is counted like any other request."""
    seen: list[UpstreamCall] = []
    provider = ScriptProvider(reply, GOOD)
    one = upstream(provider, observe=seen.append)
    tally = Tally()
    with capture_logs(), pytest.raises(error):
        await ask(one, tally)
    assert tally.requests == 1, name
    assert seen[0].error is not None
    assert (await ask(one)).run == GOOD.run()


async def test_a_remembered_refusal_does_not_grow() -> None:
    """Each who asks gets an error of its own: one that is raised again keeps every frame."""
    provider = ScriptProvider(UnknownTicker("no such ticker"))
    one = upstream(provider)
    errors = []
    for _ in range(3):
        with pytest.raises(UnknownTicker) as caught:
            await ask(one)
        errors.append(caught.value)
    assert len(provider.calls) == 1
    assert len({id(error) for error in errors}) == 3
    assert [error.message for error in errors] == ["no such ticker"] * 3


async def test_each_trial_lets_those_go_on_who_wait_for_it() -> None:
    """Where the breaker closes and opens again beside a trial, the next one does not replace it."""
    provider = ScriptProvider(GOOD)
    one = upstream(provider)
    clock = provider.clock

    def opened() -> None:
        one.breaker.failed(clock.monotonic(), open_for=1.0)
        clock.advance(one.breaker.blocked_for(clock.monotonic()))

    opened()
    first = one._enter()
    assert first is not None
    waiting = asyncio.ensure_future(ask(one))
    await asyncio.sleep(0)
    # Somebody who went ahead before it had opened comes back with an answer.
    one.breaker.succeeded()
    opened()
    second = one._enter()
    assert second is not None
    assert second is not first
    one._end(second)
    one.breaker.succeeded()
    await asyncio.sleep(0)
    assert not waiting.done()
    one._end(first)
    async with asyncio.timeout(PATIENCE_S):
        assert len((await waiting).run) == 2
    assert one._trial is None
