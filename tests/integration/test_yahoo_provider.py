"""The Yahoo provider against the simulated upstream: its records are the market's own bars."""

from __future__ import annotations

import asyncio
import itertools
import socket
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from dataclasses import replace
from datetime import UTC, date, datetime
from email.utils import format_datetime
from typing import Any

import pytest

from gapless.config import YahooSettings
from gapless.domain.intervals import Interval
from gapless.errors import (
    BadUpstreamReply,
    InvalidQuery,
    OutOfWindow,
    ProviderError,
    RateLimited,
    UnknownTicker,
    UpstreamRejected,
    UpstreamUnavailable,
)
from gapless.providers.base import DAY_MS, Fetched
from gapless.providers.yahoo import YahooProvider
from gapless.simulator import faults
from gapless.simulator.clock import SimClock
from gapless.simulator.happenings import Dividend, MissingRow, NullRow, Split
from gapless.simulator.instruments import coin, currency_pair, equity
from gapless.simulator.market import Market
from gapless.simulator.prices import RandomWalk
from gapless.simulator.quirks import Quirks
from gapless.simulator.server import YahooSimulator
from support.wire import PATIENCE_S

PRICES = RandomWalk()
INSTANTS = {
    "forming": "2026-06-17T15:07:31",
    "just closed": "2026-06-17T20:00:40",
    "evening": "2026-06-17T21:30:00",
    "next morning": "2026-06-18T08:00:00",
    "weekend": "2026-06-20T12:00:00",
    "monday of summer time": "2026-03-09T14:10:05",
    "monday after summer time": "2026-11-02T15:20:05",
    "first of a quarter": "2026-07-01T14:45:10",
}
DAYS_BACK = {"1m": 4, "2m": 5, "5m": 6, "1h": 30, "1d": 90, "1wk": 200, "1mo": 400, "3mo": 800}
INTERVALS = ("1m", "2m", "5m", "15m", "30m", "1h", "90m", "4h", "1d", "1wk", "1mo", "3mo")
TICKERS = ("ABC", "SYD.AX", "NZ.NZ", "EURUSD=X", "BTC-USD")


def at(text: str) -> float:
    """Return UTC seconds of an ISO time."""
    return datetime.fromisoformat(text).replace(tzinfo=UTC).timestamp()


def new_market(**options: Any) -> Market:
    """Return a market with an instrument for each kind of trading day."""
    return Market(
        [
            equity("ABC", holidays=frozenset({date(2026, 6, 19)})),
            equity("SYD.AX", tz="Australia/Sydney"),
            equity("NZ.NZ", tz="Pacific/Auckland"),
            equity("FAR", tz="Pacific/Kiritimati"),
            currency_pair("EURUSD=X"),
            coin("BTC-USD"),
            equity("NEW", first_trade=date(2026, 6, 1)),
        ],
        prices=PRICES,
        **options,
    )


class Upstream:
    """A running simulator and a provider that asks it."""

    def __init__(self, sim: YahooSimulator, provider: YahooProvider, clock: SimClock) -> None:
        self.sim, self.provider, self.clock = sim, provider, clock
        self.meta: dict[str, Any] = {}

    async def fetch(
        self, ticker: str, interval: str = "1d", days: float | None = None, end_s: float = 0
    ) -> tuple[Fetched, Interval]:
        """Fetch the last `days` days, or those before `end_s`; keep the meta as the hub does."""
        until = round((end_s or self.clock()) * 1000)
        back = DAYS_BACK.get(interval, 12) if days is None else days
        asked = Interval(until - round(back * DAY_MS), until)
        key = self.provider.key(ticker, {"interval": interval})
        found = await self.provider.fetch(key, asked, round(self.clock() * 1000), self.meta)
        self.meta = dict(found.meta or {})
        return found, asked

    def truth(self, ticker: str, interval: str, asked: Interval) -> list[tuple[Any, ...]]:
        """Return the market's own bars of `asked`, as tuples in the record's order."""
        bars = self.sim.market.bars(
            ticker, interval, asked.start / 1000, asked.end / 1000, self.clock()
        )
        return [
            (bar.t, bar.open, bar.high, bar.low, bar.close, bar.adjclose, bar.volume)
            for bar in bars
        ]


@asynccontextmanager
async def upstream(
    now: str = INSTANTS["forming"],
    quirks: Quirks | None = None,
    market: Market | None = None,
    monotonic: Callable[[], float] = lambda: 0.0,
    **settings: Any,
) -> AsyncIterator[Upstream]:
    """Run a simulator and a provider for it."""
    clock = SimClock(at(now))
    async with YahooSimulator(market or new_market(), clock=clock, quirks=quirks) as sim:
        patience = {"timeout_s": PATIENCE_S, "connect_timeout_s": PATIENCE_S}
        hosts = {"base_url": sim.base_url, "fallback_url": None}
        given = YahooSettings(**{**hosts, **patience, **settings})
        provider = YahooProvider(given, monotonic)
        try:
            yield Upstream(sim, provider, clock)
        finally:
            await provider.aclose()


def rows(found: Fetched) -> list[tuple[Any, ...]]:
    """Return the records as tuples of their values."""
    assert [record.time for record in found.records] == sorted(
        record.row.timestamp * 1000 for record in found.records
    )
    return [
        (
            record.row.timestamp,
            record.row.open,
            record.row.high,
            record.row.low,
            record.row.close,
            record.row.adjclose,
            record.row.volume,
        )
        for record in found.records
    ]


INCLUDED = replace(Quirks(), live_in_period="included")


@pytest.mark.share(2)
@pytest.mark.parametrize("when", INSTANTS.values(), ids=INSTANTS.keys())
async def test_records_are_the_bars_of_the_market(when: str) -> None:
    """Every interval of every kind of instrument comes back as the market has it."""
    async with upstream(when, INCLUDED) as one:
        for ticker, interval in itertools.product(TICKERS, INTERVALS):
            one.meta = {}
            found, asked = await one.fetch(ticker, interval)
            assert rows(found) == one.truth(ticker, interval, asked), (ticker, interval)
            assert found.requests == 1
            assert (found.meta or {})["tz"] == one.sim.market.calendar(ticker).zone.key


@pytest.mark.parametrize("when", INSTANTS.values(), ids=INSTANTS.keys())
async def test_a_known_zone_gives_the_same_records(when: str) -> None:
    """With the zone of an earlier fetch the longer bars are asked exactly, and are the same."""
    async with upstream(when, INCLUDED) as one:
        for ticker, interval in itertools.product(TICKERS, ("1d", "1wk", "1mo", "3mo")):
            one.meta = {}
            first, _ = await one.fetch(ticker, interval)
            again, _ = await one.fetch(ticker, interval)
            assert rows(again) == rows(first), (ticker, interval)


@pytest.mark.share(2)
@pytest.mark.parametrize(
    "quirks",
    [
        Quirks.none(),
        replace(INCLUDED, live_duplicate=True),
        replace(INCLUDED, live_past_period2=True, live_before_period1=True),
        replace(INCLUDED, pre_post_unasked=True),
        replace(INCLUDED, pre_post_unasked=True, absent_meta=frozenset({"tradingPeriods"})),
        replace(INCLUDED, period2_inclusive_daily=False, period2_inclusive_intraday=True),
        replace(INCLUDED, absent_meta=frozenset({"regularMarketTime", "currentTradingPeriod"})),
        replace(
            INCLUDED,
            null_meta=frozenset({"currency", "regularMarketTime"}),
            absent_meta=frozenset({"firstTradeDate", "tradingPeriods"}),
        ),
        replace(Quirks.all(), live_in_period="included", first_bar_volume_zero=False),
    ],
    ids=[
        "none",
        "duplicate",
        "outside the window",
        "pre and post",
        "pre and post, no periods",
        "bounds",
        "no hours",
        "null meta",
        "all",
    ],
)
async def test_quirks_do_not_reach_the_records(quirks: Quirks) -> None:
    """Whatever upstream does to the rows, the records are the market's bars."""
    for when in ("forming", "just closed", "evening"):
        async with upstream(INSTANTS[when], quirks) as one:
            for ticker, interval in itertools.product(TICKERS[1:], ("5m", "1d", "1wk", "1mo")):
                one.meta = {}
                found, asked = await one.fetch(ticker, interval)
                assert rows(found) == one.truth(ticker, interval, asked), (when, ticker, interval)


async def test_a_range_in_the_past_has_no_live_row() -> None:
    """A live row that comes although it lies far past the range is dropped."""
    quirks = replace(Quirks.all(), live_in_period="included", first_bar_volume_zero=False)
    async with upstream(INSTANTS["evening"], quirks) as one:
        for ticker, interval in itertools.product(TICKERS, ("15m", "1d", "1wk", "1mo")):
            found, asked = await one.fetch(ticker, interval, end_s=one.clock() - 3 * 86_400)
            assert rows(found) == one.truth(ticker, interval, asked), (ticker, interval)


async def test_a_live_day_left_out_of_its_period_is_never_added() -> None:
    """The week that leaves out the live day stays as upstream gave it, and is provisional."""
    async with upstream(INSTANTS["evening"], replace(Quirks(), live_in_period="left_out")) as one:
        found, asked = await one.fetch("ABC", "1wk")
        truth = one.truth("ABC", "1wk", asked)
        assert rows(found)[:-1] == truth[:-1]
        assert rows(found)[-1][0] == truth[-1][0]
        assert rows(found)[-1][6] < truth[-1][6]
        assert found.provisional[-1].start <= found.records[-1].time < found.provisional[-1].end


@pytest.mark.share(2)
@pytest.mark.parametrize("when", INSTANTS.values(), ids=INSTANTS.keys())
async def test_what_is_said_to_be_final_is_what_stands_a_month_later(when: str) -> None:
    """Outside of the provisional spans every record is there and as it will always be."""
    async with upstream(when) as one:
        for ticker, interval in itertools.product(TICKERS, ("1m", "1h", "1d", "1wk", "1mo", "3mo")):
            one.meta = {}
            found, asked = await one.fetch(ticker, interval)
            fetched = rows(found)
            one.clock.advance(100 * 86_400)
            later = one.truth(ticker, interval, asked)
            one.clock.advance(-100 * 86_400)

            def final(row: tuple[Any, ...], spans: Any = found.provisional) -> bool:
                return not any(span.start <= row[0] * 1000 < span.end for span in spans)

            assert [*filter(final, fetched)] == [*filter(final, later)], (ticker, interval)
            assert any(map(final, fetched))


async def test_odd_values_are_null_or_kept() -> None:
    """An infinite adjclose becomes null however it is written; a low of 0.0 stays."""
    odd = frozenset({date(2026, 6, 9)})
    for token in (b"Infinity", b"-Infinity", b"NaN", b"1e999", b'"Infinity"'):
        quirks = Quirks(infinite_adjclose_on=odd, zero_low_on=odd, infinity_token=token)
        async with upstream(quirks=quirks) as one:
            found, asked = await one.fetch("ABC")
            truth = [
                (*row[:3], 0.0, row[4], None, row[6]) if row[0] == at("2026-06-09T13:30") else row
                for row in one.truth("ABC", "1d", asked)
            ]
            assert rows(found) == truth


async def test_null_rows_are_records_and_provisional_for_a_week() -> None:
    """A null row comes as a record of nulls; a recent one is due again, an old one is not."""
    market = new_market()
    market.add(
        NullRow("ABC", day=date(2026, 6, 12)),
        NullRow("ABC", day=date(2026, 5, 12), partly=True),
        MissingRow("ABC", day=date(2026, 6, 11)),
    )
    async with upstream(market=market) as one:
        found, asked = await one.fetch("ABC")
        assert rows(found) == one.truth("ABC", "1d", asked)
        assert sum(record.row.null for record in found.records) == 2
        null, tail = found.provisional
        now_ms = round(one.clock() * 1000)
        assert null.start == at("2026-06-12T13:30") * 1000
        assert null.end == null.start + DAY_MS
        assert null.refresh_after == now_ms + 3_600_000
        assert (tail.start, tail.end) == (at("2026-06-16T04:00") * 1000, asked.end)
        assert tail.refresh_after == now_ms + 900_000


async def test_splits_and_dividends_come_as_upstream_adjusts_them() -> None:
    """What the market rewrites after an event is what the records say."""
    market = new_market()
    market.add(Split("ABC", date(2026, 6, 10), 4), Dividend("ABC", date(2026, 5, 20), 0.5))
    async with upstream(market=market) as one:
        found, asked = await one.fetch("ABC")
        assert rows(found) == one.truth("ABC", "1d", asked)
        for interval in ("1d", "1wk", "1mo"):
            found, _ = await one.fetch("ABC", interval)
            assert [tuple(record.values()) for record in found.actions or ()] == [
                (at("2026-05-20T13:30"), 0.125, None, None),
                (at("2026-06-10T13:30"), None, 4.0, None),
            ]
        assert found.facts is not None
        assert (found.facts["zone"], found.facts["kind"]) == ("America/New_York", "EQUITY")
        assert found.facts["session"] == {"open": "09:30", "close": "16:00"}


async def test_both_forms_of_no_bars_are_known_empty() -> None:
    """A range without bars gives no records and no error, whatever form the answer has."""
    for form in ("adjclose_absent", "adjclose_empty"):
        quirks = replace(Quirks.none(), no_bars=form)
        async with upstream(quirks=quirks) as one:
            sunday = at("2026-06-14T23:00")
            found, _ = await one.fetch("ABC", "1d", days=1.5, end_s=sunday)
            assert found.records == []
            assert found.provisional == ()


async def test_before_the_first_trade_is_known_empty() -> None:
    """Upstream's 400 about a range before the listing is an answer: nothing, and final."""
    async with upstream() as one:
        found, _ = await one.fetch("NEW", "1d", days=30, end_s=at("2026-03-01T00:00"))
        assert (found.records, found.provisional, found.meta) == ((), (), None)
        assert one.sim.requests[-1].status == 400


async def test_a_zone_that_makes_a_guess_wrong_is_asked_once_more() -> None:
    """On the far side of the date line the first weekly fetch takes a second request."""
    async with upstream(quirks=INCLUDED) as one:
        for interval in ("1wk", "1mo", "3mo"):
            one.meta = {}
            found, asked = await one.fetch("FAR", interval)
            assert found.requests == len(one.sim.requests) == 2
            assert rows(found) == one.truth("FAR", interval, asked)
            found, asked = await one.fetch("FAR", interval)
            assert found.requests == 1
            assert rows(found) == one.truth("FAR", interval, asked)
            one.sim.clear_requests()


async def test_the_request_is_what_upstream_expects() -> None:
    """One request: the bounds in whole seconds outward, no pre- or post-market, a browser."""
    async with upstream() as one:
        key = one.provider.key("abc", {"interval": "60m"})
        start = round(at("2026-06-15T00:00") * 1000)
        await one.provider.fetch(key, Interval(start + 1, start + 60_001), start + DAY_MS, {})
        (request,) = one.sim.requests
        assert request.target == (
            f"/v8/finance/chart/ABC?period1={start // 1000}&period2={start // 1000 + 61}"
            "&interval=1h&events=div,splits,capitalGains&includePrePost=false"
        )
        assert request.user_agent.startswith("Mozilla/5.0")


async def test_tickers_survive_the_way_to_upstream() -> None:
    """Signs that mean something in an address arrive as part of the ticker."""
    market = new_market()
    for ticker in ("^GSPC", "M&M.NS", "ES=F", "A_B+C$D!"):
        market.enlist(equity(ticker))
    async with upstream(market=market) as one:
        for ticker in ("^GSPC", "M&M.NS", "ES=F", "A_B+C$D!"):
            found, asked = await one.fetch(ticker)
            assert rows(found) == one.truth(ticker, "1d", asked)


async def test_the_gate_opens_for_impersonation_alone() -> None:
    """Where upstream wants a browser, a plain client is told that it is refused."""
    async with upstream(impersonate=False) as one:
        one.sim.faults.user_agent_gate = True
        with pytest.raises(RateLimited):
            await one.fetch("ABC")
        assert one.sim.requests[-1].user_agent == "gapless"
    async with upstream() as one:
        one.sim.faults.user_agent_gate = True
        found, _ = await one.fetch("ABC")
        assert found.records


FAULTS: list[tuple[faults.Fault, type[ProviderError], str]] = [
    (faults.too_many_requests(), RateLimited, "too many requests"),
    (faults.too_many_requests("Too Many Requests"), RateLimited, "too many requests"),
    (replace(faults.too_many_requests(), status=200), RateLimited, "too many requests"),
    (faults.server_error(502), UpstreamUnavailable, "HTTP 502: upstream error"),
    (faults.html_page(), UpstreamUnavailable, "no chart: it is no JSON: Yahoo Will be right back"),
    (faults.html_page(503), UpstreamUnavailable, "HTTP 503: Yahoo Will be right back"),
    (faults.wrong_json(), UpstreamUnavailable, "no chart: it is no JSON"),
    (faults.wrong_json(b"{}"), BadUpstreamReply, "no chart of it: there is no chart in it"),
    (faults.wrong_json(b""), UpstreamUnavailable, "no chart: it is no JSON: nothing"),
    (faults.wrong_json(b"[" * 100_000), UpstreamUnavailable, "no chart: it is no JSON"),
    (faults.wrong_json(b"\xff\xfe"), UpstreamUnavailable, "no chart: it is no JSON"),
    (faults.truncated(), UpstreamUnavailable, "ended too early"),
    (faults.connection_reset(), UpstreamUnavailable, "did not answer"),
    (faults.huge_body(4), UpstreamUnavailable, "more than 1 MiB"),
    (faults.gzip_bomb(16), UpstreamUnavailable, "more than 1 MiB"),
    (faults.hang(), UpstreamUnavailable, "within 0.3 s"),
    (faults.slow_drip(1, 0.02), UpstreamUnavailable, "within 0.3 s"),
    (faults.Fault("302", status=302, body=b"moved"), UpstreamUnavailable, "not followed"),
    (
        faults.Fault("403", status=403, body=b"<h1>Forbidden</h1>"),
        UpstreamUnavailable,
        "HTTP 403: Forbidden",
    ),
]


@pytest.mark.parametrize(("fault", "error", "says"), FAULTS, ids=lambda value: str(value)[:40])
async def test_each_fault_is_the_right_error(
    fault: faults.Fault, error: type[ProviderError], says: str
) -> None:
    """Each way to fail is one request and one error that says what happened."""
    hangs = says.startswith("within")
    async with upstream(max_body_bytes=1 << 20, timeout_s=0.3 if hangs else PATIENCE_S) as one:
        one.sim.faults.fail_next(fault)
        with pytest.raises(ProviderError) as raised:
            await one.fetch("ABC")
        assert type(raised.value) is error
        assert says in raised.value.message
        assert len(one.sim.requests) == 1
        one.sim.release()
        one.sim.faults.clear()
        one.provider.settings = replace(one.provider.settings, timeout_s=PATIENCE_S)
        # Connections keep what they were made with.
        await one.provider.aclose()
        found, asked = await one.fetch("ABC")
        assert rows(found) == one.truth("ABC", "1d", asked)


async def test_upstreams_own_refusals() -> None:
    """An unknown ticker, a range too far back, and an interval upstream does not take."""
    async with upstream() as one:
        with pytest.raises(UnknownTicker, match="no ticker GONE: No data found"):
            await one.fetch("GONE")
        with pytest.raises(OutOfWindow, match="within the last 60 days"):
            await one.fetch("ABC", "5m", days=61)
        with pytest.raises(OutOfWindow, match="Only 8 days"):
            await one.fetch("ABC", "1m", days=9)
        body = b'{"chart":{"result":null,"error":{"code":"Bad Request","description":"No."}}}'
        one.sim.faults.fail_next(faults.Fault("400", status=400, body=body))
        with pytest.raises(UpstreamRejected, match="No\\."):
            await one.fetch("ABC")


async def test_the_declared_limits_are_inside_upstreams() -> None:
    """A fetch as far back and as long as the traits allow is served."""
    async with upstream() as one:
        for interval in INTERVALS:
            traits = one.provider.traits(one.provider.key("ABC", {"interval": interval}))
            if traits.look_back is None:
                continue
            now_ms = round(one.clock() * 1000)
            start = now_ms - traits.look_back
            asked = Interval(start, start + (traits.max_span or 2 * DAY_MS))
            key = one.provider.key("ABC", {"interval": interval})
            found = await one.provider.fetch(key, asked, now_ms, {})
            assert rows(found) == one.truth("ABC", interval, asked)


async def test_a_crumb_is_asked_for_once() -> None:
    """A 401 is tried once more; the second one is an error."""
    async with upstream() as one:
        one.sim.faults.fail_next(faults.invalid_crumb())
        found, _ = await one.fetch("ABC")
        assert found.requests == 2
        one.sim.faults.fail_next(faults.invalid_crumb(), 2)
        with pytest.raises(UpstreamRejected, match="Invalid Crumb"):
            await one.fetch("ABC")
        assert len(one.sim.requests) == 4


async def test_retry_after_is_read_as_seconds_and_as_a_date() -> None:
    """What upstream says about when to come back is passed on, in seconds from now."""
    async with upstream() as one:
        later = datetime.fromtimestamp(one.clock() + 90, UTC)
        date_form = format_datetime(later, usegmt=True)
        for header, expected in (
            ("7", 7.0),
            (date_form, 90.0),
            ("Wed, 21 Oct 2015 07:28:00 GMT", 0.0),
            ("soon", None),
            (None, None),
        ):
            one.sim.faults.fail_next(faults.too_many_requests(retry_after=header))
            with pytest.raises(RateLimited) as raised:
                await one.fetch("ABC")
            assert raised.value.retry_after_s == expected


async def test_the_other_host_is_asked_where_the_first_is_down_and_stayed_with() -> None:
    """A host that cannot be reached is left for a minute; a failing answer moves nothing."""
    now = 100.0
    clock = SimClock(at(INSTANTS["forming"]))
    market = new_market(edge_lags_s=(0.0, 0.0))
    async with YahooSimulator(market, clock=clock) as sim:
        with socket.socket() as closed:
            closed.bind(("127.0.0.1", 0))
            dead = f"http://127.0.0.1:{closed.getsockname()[1]}"
            settings = YahooSettings(base_url=dead, fallback_url=sim.base_urls[1])
            provider = YahooProvider(settings, lambda: now)
            one = Upstream(sim, provider, clock)
            found, _ = await one.fetch("ABC")
            assert found.requests == 2
            found, _ = await one.fetch("ABC")
            assert found.requests == 1
            now += 61
            found, _ = await one.fetch("ABC")
            assert found.requests == 2
            sim.faults.fail_next(faults.server_error())
            with pytest.raises(UpstreamUnavailable, match="HTTP 502"):
                await one.fetch("ABC")
            await sim.refuse()
            with pytest.raises(UpstreamUnavailable, match="was not reached"):
                await one.fetch("ABC")
            await sim.accept()
            assert {request.edge for request in sim.requests} == {1}
            await provider.aclose()


async def test_without_a_fallback_a_dead_host_is_an_error() -> None:
    """Where there is one host alone, not reaching it says so."""
    async with upstream() as one:
        await one.sim.refuse()
        with pytest.raises(UpstreamUnavailable, match=r"127\.0\.0\.1:\d+\) was not reached"):
            await one.fetch("ABC")


def test_keys_are_canonical_and_nonsense_is_refused() -> None:
    """Capitals, aliases and defaults make one key; what is no ticker or interval is named."""
    provider = YahooProvider(YahooSettings())
    assert provider.key("aapl", {}).text == "yahoo_finance:AAPL"
    assert provider.key("AAPL", {"interval": "1d"}) == provider.key("aapl", {})
    assert provider.key("x", {"interval": "60m"}).text == "yahoo_finance:X?interval=1h"
    for ticker in ("", "A B", "A/B", "..", "A" * 33, "Ä", "A%42", "A\n"):
        with pytest.raises(InvalidQuery, match="no Yahoo ticker"):
            provider.key(ticker, {})
    with pytest.raises(InvalidQuery, match="five-day"):
        provider.key("AAPL", {"interval": "5d"})
    with pytest.raises(InvalidQuery, match="45m"):
        provider.key("AAPL", {"interval": "45m"})


async def test_a_clock_that_is_ahead_makes_nothing_final() -> None:
    """The hub's clock is five days ahead: no day is final that upstream's clock has not seen."""
    body = (
        b'{"chart":{"result":[{"meta":{"symbol":"ABC","dataGranularity":"1d",'
        b'"exchangeTimezoneName":"America/New_York","instrumentType":"EQUITY"},'
        b'"indicators":{"quote":[{}]}}],"error":null}}'
    )
    true = at("2026-06-17T12:00")

    async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await reader.readuntil(b"\r\n\r\n")
        when = format_datetime(datetime.fromtimestamp(true - 60, UTC), usegmt=True)
        head = f"HTTP/1.1 200 OK\r\nDate: {when}\r\nAge: 60\r\nContent-Length: {len(body)}\r\n"
        writer.write(f"{head}Connection: close\r\n\r\n".encode() + body)
        await writer.drain()
        writer.close()
        await writer.wait_closed()

    server = await asyncio.start_server(serve, "127.0.0.1", 0)
    port = server.sockets[0].getsockname()[1]
    provider = YahooProvider(YahooSettings(base_url=f"http://127.0.0.1:{port}", fallback_url=None))
    upstream_ms = round(true * 1000)
    own_ms = upstream_ms + 5 * DAY_MS
    try:
        key = provider.key("ABC", {})
        asked = Interval(own_ms - 30 * DAY_MS, own_ms)
        found = await provider.fetch(key, asked, own_ms, {})
        assert (found.upstream_now, found.known_until) == (upstream_ms, upstream_ms)
        (tail,) = found.provisional
        assert (tail.start, tail.end) == (round(at("2026-06-16T04:00") * 1000), own_ms)
        assert upstream_ms < tail.refresh_after < own_ms
        ahead = await provider.fetch(key, Interval(own_ms - DAY_MS, own_ms), own_ms, {})
        assert [span[:2] for span in ahead.provisional] == [(own_ms - DAY_MS, own_ms)]
        right = await provider.fetch(key, asked, upstream_ms - 2_000, {})
        assert right.known_until == upstream_ms - 2_000
    finally:
        await provider.aclose()
        server.close()
        await server.wait_closed()
