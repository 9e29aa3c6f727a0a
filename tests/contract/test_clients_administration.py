"""What both Python clients ask about a hub: plans, coverage, refreshing, forgetting, providers."""

from __future__ import annotations

import json
from collections.abc import Awaitable, Callable
from datetime import UTC, date, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest

import gapless
from gapless.config import YahooSettings
from gapless.providers.sample import SampleProvider
from gapless.providers.yahoo import YahooProvider
from gapless.simulator.instruments import equity
from gapless.simulator.market import Market
from gapless.simulator.prices import RandomWalk
from gapless.simulator.server import YahooSimulator
from support import asking as asking_module
from support.asking import KINDS, Asker, asking
from support.clock import ManualClock
from support.people import api_token, person
from support.providers import SteadyProvider
from support.strangers import Guest, greeting, http_answer, stranger
from support.web import web
from support.wire import IMPATIENT, PATIENCE_S

pytestmark = pytest.mark.parametrize("kind", KINDS)

JANUARY = ("2021-01-01", "2021-02-01")
DAY_MS = 86_400_000
BERLIN = equity("EUDE", tz="Europe/Berlin", hours=(32_400, 63_000), first_trade=date(2023, 1, 3))

# What only HTTP has, each by a call that would be answered.
CALLS: dict[str, Callable[[Asker], Awaitable[Any]]] = {
    "plan": lambda hub: hub.plan("steady", "A", *JANUARY),
    "coverage": lambda hub: hub.coverage("steady", "A"),
    "refresh": lambda hub: hub.refresh("steady", "A", *JANUARY),
    "forget": lambda hub: hub.forget("steady", "A", *JANUARY),
    "providers": lambda hub: hub.providers(details=True),
}
# What may be asked again changes nothing.
REPEATED = {
    "plan": {"id": "steady:A", "cached": [], "gaps": []},
    "coverage": {"id": "steady:A", "version": 1, "records": 0, "coverage": []},
    "providers": {"providers": []},
}


def midnight(text: str) -> datetime:
    """Return a date's midnight in UTC."""
    return datetime.fromisoformat(text).replace(tzinfo=UTC)


def span(start: str, end: str) -> gapless.Span:
    """Return a range of whole days, UTC."""
    return gapless.Span(midnight(start), midnight(end))


def at(text: str) -> ManualClock:
    """Return a clock that stands at a date's midnight, UTC."""
    return ManualClock(round(midnight(text).timestamp() * 1000))


async def test_a_plan_fetches_nothing_and_is_what_then_happens(tmp_path: Path, kind: str) -> None:
    """It says what is held, what would be fetched and why; then that is fetched."""
    steady = SteadyProvider()
    async with (
        web(tmp_path, steady, clock=at("2021-06-01")) as opened,
        asking(kind, opened.tcp_port) as hub,
    ):
        await hub.search("steady", "A", *JANUARY)
        before = len(steady.calls)
        plan = await hub.plan("steady", "A", "2021-01-01", date(2021, 3, 1))
        assert len(steady.calls) == before
        gap = gapless.Gap(midnight("2021-02-01"), midnight("2021-03-01"), "not_held")
        assert plan == gapless.Plan(
            id="steady:A:2021-01-01T00:00:00Z..2021-03-01T00:00:00Z",
            cached=(span(*JANUARY),),
            gaps=(gap,),
            upstream_requests=1,
        )
        assert plan.gaps[0].span == span("2021-02-01", "2021-03-01")
        assert plan.gaps[0].start.tzinfo is UTC
        assert repr(plan) == (
            "<gapless.Plan steady:A:2021-01-01T00:00:00Z..2021-03-01T00:00:00Z: cached "
            "2021-01-01..2021-02-01; fetches 2021-02-01..2021-03-01 (not_held); 1 upstream request>"
        )
        assert repr(gap) == "<gapless.Gap 2021-02-01..2021-03-01 not_held>"
        result = await hub.search("steady", "A", "2021-01-01", "2021-03-01")
        assert result.stitch.fetched == tuple(one.span for one in plan.gaps)
        again = await hub.plan("steady", "A", "2021-01-01", "2021-03-01")
        assert (again.gaps, again.upstream_requests) == ((), 0)


@pytest.mark.share(4)
@pytest.mark.parametrize(
    ("bounds", "planned"),
    [
        ((), "2021-05-02T00:00:00Z..2021-06-01T00:00:00Z"),
        (("-7d",), "2021-05-25T00:00:00Z..2021-06-01T00:00:00Z"),
        ((None, "2020-02-01"), "2020-01-01T00:00:00Z..2020-02-01T00:00:00Z"),
        # All there is, as `search` has it.
        (("",), "2020-01-01T00:00:00Z..2021-06-01T00:00:00Z"),
        (
            (midnight("2021-01-01"), midnight("2021-01-02") + timedelta(hours=6)),
            "2021-01-01T00:00:00Z..2021-01-02T06:00:00Z",
        ),
    ],
)
async def test_bounds_mean_what_they_mean_to_a_search(
    tmp_path: Path, kind: str, bounds: tuple[Any, ...], planned: str
) -> None:
    """What is planned, fetched anew and forgotten is the very range that a search has."""
    async with (
        web(tmp_path, SteadyProvider(), clock=at("2021-06-01")) as opened,
        asking(kind, opened.tcp_port) as hub,
    ):
        assert (await hub.plan("steady", "A", *bounds)).id == f"steady:A:{planned}"
        assert (await hub.refresh("steady", "A", *bounds)).id == f"steady:A:{planned}"
        found = await hub.search("steady", "A", *bounds)
        assert found.id == f"steady:A:{planned}"
        assert found.stitch.upstream_requests == 0
        assert await hub.forget("steady", "A", *bounds) == len(found)


async def test_parameters_are_keywords(tmp_path: Path, kind: str) -> None:
    """They name the series; `None` is the default, and what the provider does not know is refused.

    Tickers are written as they are, whatever a path makes of their characters.
    """
    async with web(tmp_path, SteadyProvider()) as opened, asking(kind, opened.tcp_port) as hub:
        for ticker in ("A", "Z/Z", "B C?", "..", "Ü%41&x=y"):
            assert (await hub.refresh("steady", ticker, *JANUARY, side="right")).state == "ready"
            coverage = await hub.coverage("steady", ticker, side="right")
            assert coverage.records == 31
            assert "?side=right" in coverage.id
            with pytest.raises(gapless.NotFound):
                await hub.coverage("steady", ticker, side=None)
            assert (await hub.plan("steady", ticker, *JANUARY)).gaps
            assert not (await hub.plan("steady", ticker, *JANUARY, side="right")).gaps
            ten_days = ("2021-01-11", "2021-01-21")
            assert await hub.forget("steady", ticker, *ten_days, side="right") == 10
            assert await hub.forget("steady", ticker, side="right") == 21
        for call in (hub.plan, hub.coverage, hub.refresh, hub.forget):
            for wrong in ({"side": "up"}, {"colour": "red"}, {"side": ["left"]}):
                with pytest.raises(gapless.InvalidQuery):
                    await call("steady", "A", **wrong)
            for names in (("", "A"), ("steady", ""), ("steady", None), ("steady", "\ud800")):
                with pytest.raises(gapless.InvalidQuery):
                    await call(*names)
        for call in (hub.plan, hub.refresh, hub.forget):
            with pytest.raises(gapless.InvalidQuery, match="has no time zone"):
                await call("steady", "A", datetime(2021, 1, 1, 9, 30))  # noqa: DTZ001


async def test_coverage_tells_what_is_known(tmp_path: Path, kind: str) -> None:
    """Interval by interval: the outcome, when it was fetched, when it is due, what is not fresh."""
    steady = SteadyProvider(tail_ms=DAY_MS)
    async with (
        web(tmp_path, steady, clock=at("2021-06-01")) as opened,
        asking(kind, opened.tcp_port) as hub,
    ):
        await hub.search("steady", "A", "2021-05-01")
        coverage = await hub.coverage("steady", "A")
        final, tail = coverage.intervals
        assert final == gapless.Covered(
            midnight("2021-05-01"), midnight("2021-05-31"), "held", midnight("2021-06-01")
        )
        assert tail.span == span("2021-05-31", "2021-06-01")
        assert tail.refresh_after == midnight("2021-06-01") + timedelta(minutes=1)
        assert (coverage.id, coverage.records, coverage.doubts) == ("steady:A", 31, ())
        assert coverage.version > 0
        assert repr(coverage) == (
            "<gapless.Coverage steady:A: 31 records; 2021-05-01..2021-05-31 held; "
            "2021-05-31..2021-06-01 held>"
        )
        for day in range(1, 8):
            await hub.search("steady", "B", f"2021-01-0{day}", f"2021-01-0{day}T12:00:00Z")
        assert repr(await hub.coverage("steady", "B")).endswith(" held; 2 more>")


async def test_a_refresh_fetches_what_is_held(tmp_path: Path, kind: str) -> None:
    """Held or not; where upstream fails, that is warned of where it was asked for."""
    steady = SteadyProvider()
    async with (
        web(tmp_path, steady, settings=IMPATIENT) as opened,
        asking(kind, opened.tcp_port) as hub,
    ):
        await hub.search("steady", "A", *JANUARY)
        steady.padding = "!"
        refreshed = await hub.refresh("steady", "A", *JANUARY, timeout=PATIENCE_S)
        assert refreshed.id == "steady:A:2021-01-01T00:00:00Z..2021-02-01T00:00:00Z"
        assert (refreshed.state, refreshed.last_error) == ("ready", "")
        assert refreshed.stitch == gapless.Stitch((span(*JANUARY),), (), (), 1, "ready")
        assert repr(refreshed) == f"<gapless.Refreshed {refreshed.id} ready: 1 upstream request>"
        records = (await hub.search("steady", "A", *JANUARY)).records
        assert {one["note"] for one in records} == {'"A"!'}
        steady.failures["A"] = gapless.UpstreamUnavailable("it is down")
        with pytest.warns(gapless.NotReadyWarning, match="may be out of date: .*down") as told:
            failed = await hub.refresh("steady", "A", *JANUARY)
        assert [one.filename for one in told] == [asking_module.__file__]
        assert failed.state == "stale"
        assert "it is down" in failed.last_error
        with pytest.raises(gapless.UpstreamUnavailable, match="it is down"):
            await hub.refresh("steady", "A", "2022-01-01", "2022-02-01")


async def test_a_range_is_forgotten_or_all(tmp_path: Path, kind: str) -> None:
    """How many records went is told; they are fetched again when they are asked for."""
    steady = SteadyProvider()
    async with web(tmp_path, steady) as opened, asking(kind, opened.tcp_port) as hub:
        whole = await hub.search("steady", "A", *JANUARY)
        assert await hub.forget("steady", "A", "2021-01-10", "2021-01-20") == 10
        again = await hub.search("steady", "A", *JANUARY)
        assert again.records == whole.records
        assert again.stitch.fetched == (span("2021-01-10", "2021-01-20"),)
        assert await hub.forget("steady", "A") == 31
        with pytest.raises(gapless.NotFound, match="nothing of steady:A is held"):
            await hub.forget("steady", "A")
        with pytest.raises(gapless.NotFound, match="nothing of steady:A is held"):
            await hub.coverage("steady", "A")


async def test_providers_tell_how_they_fare(tmp_path: Path, kind: str) -> None:
    """What each declares, its last fetch and its last error; by default their names alone."""
    clock = at("2021-06-01")
    steady = SteadyProvider()
    async with (
        web(tmp_path, steady, SampleProvider(), clock=clock, settings=IMPATIENT) as opened,
        asking(kind, opened.tcp_port) as hub,
    ):
        await hub.search("steady", "A", *JANUARY)
        steady.failures["B"] = gapless.UpstreamRejected("not B")
        with pytest.raises(gapless.UpstreamRejected):
            await hub.search("steady", "B", *JANUARY)
        assert await hub.providers() == ["sample", "steady"]
        assert await hub.providers(details=False) == ["sample", "steady"]
        sample, told = await hub.providers(details=True)
    assert isinstance(told, gapless.ProviderDetails)
    assert (told.name, told.title, told.health) == ("steady", steady.info.title, "failing")
    assert told.params == (gapless.Parameter("side", "left", ("left", "right")),)
    assert (told.columns, told.revises, told.built_in) == (("value", "note"), False, True)
    assert (told.data_start, told.data_end) == (midnight("2020-01-01"), None)
    assert sample.data_end == midnight("2013-03-02")
    assert told.last_fetch == told.last_failure == midnight("2021-06-01")
    assert (told.requests, told.breaker) == (2, gapless.Breaker(open=False, blocked_s=0.0))
    assert (told.pace.rate, told.pace.burst) == (100_000, 100_000)
    assert told.last_error is not None
    assert (told.last_error.message, told.last_error.reason) == ("not B", "upstream_rejected")
    assert repr(told) == "<gapless.ProviderDetails steady failing: 2 requests; last error: not B>"
    assert repr(sample) == "<gapless.ProviderDetails sample ok: 0 requests>"


async def test_errors_have_their_kinds(tmp_path: Path, kind: str) -> None:
    """What a hub answers over HTTP is raised as what it answers over TCP is."""
    async with web(tmp_path, SampleProvider()) as opened, asking(kind, opened.tcp_port) as hub:
        for call in (hub.plan, hub.coverage, hub.refresh, hub.forget):
            with pytest.raises(gapless.ProviderNotFound, match="nobody"):
                await call("nobody", "A")
        for call in (hub.plan, hub.refresh):
            with pytest.raises(gapless.InvalidQuery, match="is empty"):
                await call("sample", "IBM", "2010-02-01", "2010-01-01")
        with pytest.raises(gapless.UnknownTicker, match="no ticker 'NOPE'"):
            await hub.refresh("sample", "NOPE", "2010-01-01", "2010-02-01")
        with pytest.raises(gapless.InvalidQuery, match="timeout=0"):
            await hub.plan("sample", "IBM", timeout=0)


async def test_days_are_those_of_the_exchange(tmp_path: Path, kind: str) -> None:
    """Bare dates are the ticker's, in plans, refreshing and forgetting, as they are in searches."""
    clock = at("2025-03-10")
    market = Market([BERLIN], prices=RandomWalk(3))
    async with YahooSimulator(market, clock=lambda: clock.now_ms() / 1000) as sim:
        settings = YahooSettings(
            base_url=sim.base_url, fallback_url=None, rate=1000.0, burst=1000, timeout_s=PATIENCE_S
        )
        yahoo = YahooProvider(settings, monotonic=clock.monotonic)
        async with (
            web(tmp_path, yahoo, clock=clock) as opened,
            asking(kind, opened.tcp_port) as hub,
        ):
            year = ("yahoo_finance", "EUDE", date(2024, 1, 1), date(2025, 1, 1))
            told = "2023-12-31T23:00:00Z..2024-12-31T23:00:00Z"
            refreshed = await hub.refresh(*year, interval="1mo")
            assert refreshed.id == f"yahoo_finance:EUDE?interval=1mo:{told}"
            plan = await hub.plan(*year, interval="1mo")
            assert plan.id == refreshed.id
            assert (plan.gaps, plan.upstream_requests) == ((), 0)
            assert plan.next_due is not None
            # April there, not the month that is on at midnight UTC.
            april = ("yahoo_finance", "EUDE", "2024-04-01", "2024-05-01")
            assert await hub.forget(*april, interval="1mo") == 1
            found = await hub.plan(*year, interval="1mo")
            (gap,) = found.gaps
            assert gap.start == midnight("2024-04-01") - timedelta(hours=2)
            assert gap.end == midnight("2024-05-01") - timedelta(hours=2)
            # Some sessions later all of it may have changed upstream.
            clock.advance(5 * 86_400)
            first, *_ = (await hub.coverage("yahoo_finance", "EUDE", interval="1mo")).intervals
            assert not first.fresh
            assert repr(first) == f"<gapless.Covered {first.span} held, not fresh>"
            reasons = [one.why for one in (await hub.plan(*year, interval="1mo")).gaps]
            assert reasons == ["not_fresh", "not_held", "not_fresh"]


@pytest.mark.share(4)
@pytest.mark.parametrize("name", CALLS)
async def test_what_only_http_has_says_so(tmp_path: Path, kind: str, name: str) -> None:
    """Where HTTP is not to be used, and where the hub has none, the error says what to do."""
    call = CALLS[name]
    async with web(tmp_path, SteadyProvider()) as opened:
        async with asking(kind, opened.tcp_port, http=False) as hub:
            with pytest.raises(gapless.HttpUnusable, match="make a client without that"):
                await call(hub)
        wrong = f"127.0.0.1:{opened.tcp_port}"
        async with asking(kind, opened.tcp_port, http=wrong) as hub:
            with pytest.raises(gapless.HttpUnusable, match="say where it speaks HTTP by http="):
                await call(hub)
    async with stranger(greeting) as opened_, asking(kind, opened_.port) as hub:
        with pytest.raises(gapless.HttpUnusable, match="start it with --http HOST:PORT"):
            await call(hub)


async def test_each_takes_its_scope(tmp_path: Path, kind: str) -> None:
    """Reading is enough to look; fetching takes `fetch`, forgetting `admin`."""
    async with web(tmp_path, SteadyProvider(), auth=True) as opened:
        tokens = {
            role: await api_token(
                opened.authority, (await person(opened.authority, role)).email, scopes
            )
            for role, scopes in (
                ("read", None),
                ("fetch", None),
                ("admin", ["read", "fetch", "admin"]),
            )
        }
        async with asking(kind, opened.tcp_port) as hub:
            for call in CALLS.values():
                with pytest.raises(gapless.MissingToken, match="give token="):
                    await call(hub)
            await hub.set_token("gapless_wrong")
            for call in CALLS.values():
                with pytest.raises(gapless.Unauthorized):
                    await call(hub)
            await hub.set_token(tokens["fetch"])
            await hub.refresh("steady", "A", *JANUARY)
            await hub.set_token(tokens["read"])
            assert not (await hub.plan("steady", "A", *JANUARY)).gaps
            assert (await hub.coverage("steady", "A")).records == 31
            assert len(await hub.providers(details=True)) == 1
            with pytest.raises(gapless.Forbidden, match="fetch"):
                await hub.refresh("steady", "A", *JANUARY)
            for role in ("read", "fetch"):
                await hub.set_token(tokens[role])
                with pytest.raises(gapless.Forbidden, match="admin"):
                    await hub.forget("steady", "A")
            await hub.set_token(tokens["admin"])
            assert await hub.forget("steady", "A") == 31


@pytest.mark.share(5)
@pytest.mark.parametrize("name", CALLS)
async def test_only_what_is_harmless_is_asked_again(kind: str, name: str) -> None:
    """A broken connection, then a hub that is busy for a moment: who looks does not notice.

    What fetches or forgets may have been done before the connection broke.
    """
    asked: list[bytes] = []

    async def script(guest: Guest, number: int) -> None:
        while True:
            asked.append((await guest.asked()).split(b"?")[0])
            if len(asked) == 1:
                return
            if len(asked) == 2:
                busy = b'{"code":"overloaded","message":"busy","retry_after_s":0}'
                await guest.say(http_answer(503, busy))
            else:
                await guest.say(http_answer(200, json.dumps(REPEATED[name]).encode()))

    async with stranger(script) as opened, stranger(greeting) as named:
        base = f"http://127.0.0.1:{opened.port}"
        async with asking(kind, named.port, http=base, retries=2) as hub:
            if name in REPEATED:
                await CALLS[name](hub)
            else:
                with pytest.raises(gapless.ConnectionLost):
                    await CALLS[name](hub)
                with pytest.raises(gapless.Overloaded, match="busy"):
                    await CALLS[name](hub)
    assert len(asked) == (3 if name in REPEATED else 2)


@pytest.mark.share(5)
@pytest.mark.parametrize("name", CALLS)
@pytest.mark.parametrize("body", [b"", b"[]", b"{}", b'{"records":"many"}', b"\xff"])
async def test_what_is_no_answer_is_none(kind: str, name: str, body: bytes) -> None:
    """A body that no hub sends is an error of ours, not of the JSON library."""

    async def script(guest: Guest, number: int) -> None:
        await guest.asked()
        await guest.say(http_answer(200, body))
        await guest.left()

    async with stranger(script) as opened, stranger(greeting) as named:
        base = f"http://127.0.0.1:{opened.port}"
        async with asking(kind, named.port, http=base) as hub:
            with pytest.raises(gapless.UnexpectedAnswer, match="says what no gapless hub does"):
                await CALLS[name](hub)
