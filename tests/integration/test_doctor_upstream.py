"""`gapless doctor --upstream` against the simulator: honest, and with each assumption broken."""

from __future__ import annotations

import asyncio
import json
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from dataclasses import replace
from datetime import UTC, date, datetime
from email.utils import format_datetime
from pathlib import Path
from typing import Any

import httpx
import pytest

from gapless.cli.exits import Exit
from gapless.cli.findings import Finding
from gapless.cli.recordings import Recordings
from gapless.cli.upstream_findings import Canary
from gapless.config import YahooSettings
from gapless.errors import GaplessError, RateLimited, UnknownTicker
from gapless.providers.yahoo import YahooProvider
from gapless.providers.yahoo_assumptions import ASSUMPTIONS, MOST_REQUESTS
from gapless.simulator import faults
from gapless.simulator.chart import Answer, Query, answer, parse, problem
from gapless.simulator.happenings import Dividend, Split
from gapless.simulator.instruments import equity
from gapless.simulator.market import Market
from gapless.simulator.quirks import Quirks
from gapless.simulator.server import YahooSimulator
from support.clock import ManualClock
from support.commands import gapless
from support.recordings import Recording
from support.wire import PATIENCE_S

Alter = Callable[[Query, Answer], Answer]

# A Wednesday, an hour before the close in New York: there is a live row.
OPEN = datetime(2026, 6, 10, 19, 0, tzinfo=UTC)
SUNDAY = datetime(2026, 6, 14, 12, 0, tzinfo=UTC)
RATE = 4.0


def market() -> Market:
    """Return a market with the share that is asked about, its split and two of its dividends."""
    made = Market([equity("AAPL", first_trade=date(2016, 1, 4))])
    made.add(
        Split("AAPL", date(2020, 8, 31), 4),
        Dividend("AAPL", date(2021, 2, 5), 0.205),
        Dividend("AAPL", date(2021, 5, 7), 0.22),
    )
    return made


MARKET = market()
# Headers of one connection, which are not passed on.
_HOPS = frozenset({"connection", "content-length", "content-encoding", "transfer-encoding"})


def as_it_is(query: Query, found: Answer) -> Answer:
    """Alter nothing."""
    return found


@asynccontextmanager
async def before(sim: YahooSimulator, alter: Alter) -> AsyncIterator[str]:
    """Listen before a simulator, alter its answers on their way; yield the base address."""

    async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        target = (await reader.readuntil(b"\r\n\r\n")).split()[1].decode()
        try:
            came = await client.get(sim.base_url + target)
        except httpx.TransportError:
            writer.transport.abort()
            return
        stated = datetime.fromtimestamp(sim.clock(), UTC)
        headers = {"date": format_datetime(stated, usegmt=True), **came.headers}
        query = parse(target)
        assert isinstance(query, Query)
        found = alter(query, Answer(came.status_code, came.content, headers))
        lines = [f"{name}: {value}" for name, value in found.headers.items() if name not in _HOPS]
        crlf = "\r\n"
        lines += [f"content-length: {len(found.body)}", "connection: close"]
        writer.write(f"HTTP/1.1 {found.status} Altered\r\n{crlf.join(lines)}\r\n\r\n".encode())
        writer.write(found.body)
        await writer.drain()
        writer.close()

    async with httpx.AsyncClient(
        timeout=PATIENCE_S, verify=False, headers={"user-agent": "Mozilla/5.0"}
    ) as client:
        server = await asyncio.start_server(serve, "127.0.0.1", 0)
        try:
            yield f"http://127.0.0.1:{server.sockets[0].getsockname()[1]}"
        finally:
            server.close()
            await server.wait_closed()


@asynccontextmanager
async def upstream(
    clock: ManualClock, alter: Alter, quirks: Quirks | None = None
) -> AsyncIterator[tuple[YahooSimulator, YahooProvider]]:
    """Run an upstream for the length of the block, with a provider that asks it."""
    async with (
        YahooSimulator(MARKET, clock=lambda: clock.now_ms() / 1000, quirks=quirks) as sim,
        before(sim, alter) as url,
    ):
        provider = YahooProvider(
            YahooSettings(base_url=url, fallback_url=None, rate=RATE, timeout_s=PATIENCE_S)
        )
        try:
            yield sim, provider
        finally:
            await provider.aclose()


async def found(
    at: datetime = OPEN,
    alter: Alter = as_it_is,
    quirks: Quirks | None = None,
) -> list[Finding]:
    """Return what is found of an upstream."""
    clock = ManualClock(round(at.timestamp() * 1000))
    async with upstream(clock, alter, quirks) as (_, provider):
        return [one async for one in Canary(provider, clock).findings()]


async def follow(canary: Canary, heard: list[Finding]) -> None:
    """Add to `heard` what the canary finds."""
    async for one in canary.findings():
        heard.append(one)


def said(findings: list[Finding], level: str) -> list[str]:
    """Return what the findings of a level say."""
    return [one.said for one in findings if one.level == level]


# An honest upstream


async def test_an_upstream_that_is_as_it_was_breaks_nothing() -> None:
    """Every assumption is seen to hold while a session is open, by ten requests."""
    findings = await found()
    assert said(findings, "problem") == said(findings, "note") == []
    assert {one.says for one in ASSUMPTIONS} <= set(said(findings, "ok"))
    assert findings[-1].said == f"asked {MOST_REQUESTS} times"


@pytest.mark.parametrize(
    "quirks",
    [
        Quirks(live_duplicate=True),
        Quirks(no_bars="adjclose_absent"),
        Quirks(live_in_period="included", first_bar_volume_zero=True),
        Quirks(live_past_period2=True, live_before_period1=True),
        Quirks(absent_meta=frozenset({"tradingPeriods"})),
    ],
)
async def test_quirks_that_are_known_break_nothing(quirks: Quirks) -> None:
    """What the provider copes with is not told as if it were new."""
    assert said(await found(quirks=quirks), "problem") == []


async def test_what_cannot_be_seen_now_is_not_held_to_be_so() -> None:
    """On a Sunday there is no live row, which is said, with when to ask."""
    findings = await found(SUNDAY)
    assert said(findings, "problem") == []
    (note,) = said(findings, "note")
    assert note.startswith("not seen: the live row is stamped at the last trade")
    assert "ask while a session is open" in note


async def test_it_keeps_to_the_pace_without_bursts() -> None:
    """Each request but the first waits for its turn, and no more are made than are allowed."""
    clock = ManualClock(round(OPEN.timestamp() * 1000))
    async with upstream(clock, as_it_is) as (sim, provider):
        _ = [one async for one in Canary(provider, clock).findings()]
        assert len(sim.requests) == MOST_REQUESTS
    assert clock.slept == [pytest.approx(1 / RATE)] * (MOST_REQUESTS - 1)


# One that is no longer as it was


def edited(edit: Callable[[dict[str, Any]], None], interval: str | None = None) -> Alter:
    """Return what edits the result of every chart, or of those of an interval."""

    def alter(query: Query, found: Answer) -> Answer:
        if found.status != 200 or interval not in (None, query.interval):
            return found
        document = json.loads(found.body)
        edit(document["chart"]["result"][0])
        return replace(found, body=json.dumps(document).encode())

    return alter


def without(drop: Callable[[Query, int], bool], interval: str) -> Alter:
    """Return what takes the rows away for which `drop` says so, given their stamps."""

    def alter(query: Query, found: Answer) -> Answer:
        def edit(result: dict[str, Any]) -> None:
            stamps = result.get("timestamp", [])
            kept = [i for i, stamp in enumerate(stamps) if not drop(query, stamp)]
            if kept == list(range(len(stamps))):
                return
            indicators = result["indicators"]
            result["timestamp"] = [stamps[i] for i in kept]
            for columns in (*indicators["quote"], *indicators.get("adjclose", [])):
                for name, column in columns.items():
                    columns[name] = [column[i] for i in kept]

        return edited(edit, interval)(query, found)

    return alter


def asked_anew(change: Callable[[Query], Query], quirks: Quirks | None = None) -> Alter:
    """Return what answers another question than was asked, or with other quirks."""

    def alter(query: Query, found: Answer) -> Answer:
        other = answer(MARKET, quirks or Quirks(), change(query), OPEN.timestamp())
        return replace(other, headers=found.headers)

    return alter


def for_all(**values: Any) -> Callable[[dict[str, Any]], None]:
    """Return the edit that sets fields of meta."""
    return lambda result: result["meta"].update(values)


def moved(seconds: int, rows: slice = slice(None)) -> Callable[[dict[str, Any]], None]:
    """Return the edit that moves stamps."""

    def edit(result: dict[str, Any]) -> None:
        stamps = result.get("timestamp", [])
        stamps[rows] = [stamp + seconds for stamp in stamps[rows]]

    return edit


def of_quote(change: Callable[[dict[str, list[Any]]], object]) -> Callable[[dict[str, Any]], None]:
    """Return the edit that changes the columns of rows that are there."""

    def edit(result: dict[str, Any]) -> None:
        if "timestamp" in result:
            change(result["indicators"]["quote"][0])

    return edit


def before_the_split(factor: float) -> Callable[[dict[str, Any]], None]:
    """Return the edit that puts closes from before the split on another basis."""
    ex_date = datetime(2020, 8, 31, tzinfo=UTC).timestamp()

    def edit(result: dict[str, Any]) -> None:
        columns = result["indicators"]["quote"][0]
        for i, stamp in enumerate(result.get("timestamp", [])):
            if stamp < ex_date:
                columns["close"][i] *= factor

    return edit


def of_events(kind: str, change: Callable[[dict[str, Any]], Any]) -> Alter:
    """Return what changes the events of a kind."""

    def edit(result: dict[str, Any]) -> None:
        events = result.get("events", {})
        if kind in events:
            events[kind] = change(events[kind])

    return edited(edit)


def instead(status: int, description: str) -> Alter:
    """Return what answers with that error wherever upstream answers with one."""

    def alter(query: Query, found: Answer) -> Answer:
        other = problem(status, "Bad Request", description)
        return found if found.status == 200 else replace(other, headers=found.headers)

    return alter


def short_range(query: Query, found: Answer) -> Answer:
    """Answer no more than ten years of days."""
    span = 10 * 365 * 86_400
    late = query.period1 is not None and query.period2 is not None
    if late and query.period2 - query.period1 > span:  # type: ignore[operator]  # both are there
        return asked_anew(lambda one: replace(one, period1=one.period2 - span))(query, found)  # type: ignore[operator]
    return found


def empty_lists(query: Query, found: Answer) -> Answer:
    """Answer no rows as rows of which there are none."""

    def edit(result: dict[str, Any]) -> None:
        if "timestamp" not in result:
            result["timestamp"] = []

    return edited(edit)(query, found)


def another_close(query: Query, found: Answer) -> Answer:
    """Answer a long range with closes that are a little off."""

    def edit(result: dict[str, Any]) -> None:
        if len(result.get("timestamp", [])) > 1000:
            of_quote(lambda columns: columns.update(close=[c * 1.001 for c in columns["close"]]))(
                result
            )

    return edited(edit)(query, found)


def dateless(query: Query, found: Answer) -> Answer:
    """Answer without a Date."""
    return replace(found, headers={"content-type": "application/json"})


def at_bound(name: str) -> Callable[[Query, int], bool]:
    """Return whether a row lies at a bound of what was asked."""
    return lambda query, stamp: stamp == getattr(query, name)


BROKEN: dict[str, Alter] = {
    "a daily bar stamped at period1 comes back": without(at_bound("period1"), "1d"),
    "a daily bar stamped at period2 comes back": without(at_bound("period2"), "1d"),
    "daily bars are stamped at their session's opening": edited(moved(3_600), "1d"),
    "rows have all columns, and volumes are whole numbers": edited(
        of_quote(lambda columns: columns.update(volume=[0.5 for _ in columns["volume"]])), "1d"
    ),
    "prices have single precision": edited(
        of_quote(lambda columns: columns.update(high=[0.1 for _ in columns["high"]])), "1d"
    ),
    "a split is told with its ex-date and its shares": of_events(
        "splits",
        lambda splits: {key: {**one, "numerator": 3} for key, one in splits.items()},
    ),
    "prices from before a split are divided by it": edited(before_the_split(4.0), "1d"),
    "meta tells ticker, interval, zone, kind, hours and last trade": edited(
        for_all(currentTradingPeriod=None)
    ),
    "99 years of daily bars come at once, from the first trade on": short_range,
    "the live row is stamped at the last trade": edited(moved(-4 * 3_600, slice(-1, None)), "1d"),
    "nothing is stamped ahead of upstream's clock": edited(
        for_all(regularMarketTime=int(OPEN.timestamp()) + 3_000), "1d"
    ),
    "a bar is the same, whichever range it is asked in": another_close,
    "an intraday bar stamped at period1 comes back": without(at_bound("period1"), "30m"),
    "an intraday bar stamped at period2 does not come back": asked_anew(
        lambda query: query, Quirks(period2_inclusive_intraday=True)
    ),
    "intraday bars lie on a grid from the opening on": edited(moved(600, slice(1, None)), "30m"),
    "intraday bars have no adjclose": edited(
        lambda result: result["indicators"].update(
            adjclose=[{"adjclose": result["indicators"]["quote"][0]["close"]}]
        ),
        "30m",
    ),
    "weeks begin on the weekday of period1": asked_anew(
        lambda query: query, Quirks(weeks_from_period1=False)
    ),
    "months are stamped at local midnight of the 1st": edited(moved(86_400), "1mo"),
    "a dividend is keyed by the bar that it falls in, with its ex-date": of_events(
        "dividends", lambda dividends: {str(one["date"]): one for one in dividends.values()}
    ),
    "no bars: a chart without timestamp, and an empty quote": empty_lists,
    "before the first trade: HTTP 400, data doesn't exist": instead(400, "No data"),
    "an unknown ticker: HTTP 404, not found": instead(404, "No data found"),
    "hourly bars reach 730 days back; what begins before: HTTP 422": asked_anew(
        lambda query: query, Quirks(lookback_days={"1h": 1_000})
    ),
    "a request has 8 days of minutes at the most; more: HTTP 422": asked_anew(
        lambda query: query, Quirks(span_days={"1m": 30})
    ),
    "every answer has a Date": dateless,
}


def test_each_assumption_is_broken_once() -> None:
    """No assumption goes without an upstream that breaks it."""
    assert BROKEN.keys() == {one.says for one in ASSUMPTIONS} | {"every answer has a Date"}


@pytest.mark.parametrize("says", BROKEN)
async def test_an_assumption_that_is_broken_is_told(says: str) -> None:
    """An upstream that no longer does what was assumed of it is told of, with what it does."""
    findings = await found(alter=BROKEN[says])
    told = next(one for one in findings if one.said.startswith(f"no longer so: {says}; "))
    assert told.level == "problem"
    assert len(told.said) > len(f"no longer so: {says}; ")
    assert "--record DIR" in told.advice
    assert says not in said(findings, "ok")


async def test_a_page_instead_of_charts_is_told_once_a_question() -> None:
    """Where no chart can be read the assumptions about it are neither held nor broken."""

    def alter(query: Query, found: Answer) -> Answer:
        return Answer(200, faults.HTML_PAGE, {**found.headers, "content-type": "text/html"})

    findings = await found(alter=alter)
    told = said(findings, "problem")
    assert sum("answered with a chart" in one for one in told) == 5
    assert "Will be right back" in told[0]
    assert set(said(findings, "ok")) == {"every answer has a Date", "asked 9 times"}


async def test_clocks_that_differ_are_told() -> None:
    """Upstream's clock counts its cache's age; five minutes are nothing."""

    def behind(seconds: int, age: int) -> Alter:
        def alter(query: Query, found: Answer) -> Answer:
            stated = datetime.fromtimestamp(OPEN.timestamp() - seconds, UTC)
            said = {"date": format_datetime(stated, usegmt=True), "age": str(age)}
            return replace(found, headers={**found.headers, **said})

        return alter

    (note,) = said(await found(alter=behind(900, 0), quirks=Quirks.none()), "note")[-1:]
    assert note == "its clock is 900 s behind this one"
    assert said(await found(alter=behind(900, 800)), "note") == []


# What becomes of it where upstream says no


async def test_too_many_requests_end_it_at_once() -> None:
    """After a 429 nothing more is asked, and it is told how far it came."""
    clock = ManualClock(round(OPEN.timestamp() * 1000))
    async with upstream(clock, as_it_is) as (sim, provider):
        sim.faults.fail_always(
            faults.too_many_requests(retry_after="60"), when=lambda query: query.interval == "1wk"
        )
        before: list[Finding] = []
        with pytest.raises(RateLimited, match=r"weeks from a Wednesday") as refused:
            await follow(Canary(provider, clock), before)
        assert "(4 of 10 requests)" in str(refused.value)
        assert refused.value.retry_after_s == 60
        assert len(sim.requests) == 4
        assert len(before) == 16


async def test_no_answer_ends_it() -> None:
    """Whoever cannot be reached, or breaks off, is not asked for more."""
    clock = ManualClock(round(OPEN.timestamp() * 1000))
    async with upstream(clock, as_it_is) as (sim, provider):
        sim.faults.fail_next(faults.connection_reset())
        (one,) = [one async for one in Canary(provider, clock).findings()]
        assert one.level == "problem"
        assert "two weeks of daily bars around a split" in one.said
        assert len(sim.requests) == 1


# Recordings


def files(folder: Path) -> list[Path]:
    """Return what is in a folder, by name."""
    return sorted(folder.iterdir())


@pytest.fixture
def secretive() -> Alter:
    """Return what adds headers that tell who asked, and by which way."""
    added = {
        "set-cookie": "A3=d=AQABBKsecret; Domain=.yahoo.com",
        "x-client-ip": "203.0.113.7",
        "y-rid": "5g3ho0tjeg892",
        "via": "1.1 proxy.of-mine.example",
    }
    return lambda query, found: replace(found, headers={**found.headers, **added})


async def test_what_is_recorded_is_what_tests_read(tmp_path: Path, secretive: Alter) -> None:
    """Recordings are numbered on, replay as what upstream answered, and tell nobody's secrets."""
    clock = ManualClock(round(OPEN.timestamp() * 1000))
    (tmp_path / "22_AAPL_older.json").write_text("{}")
    async with upstream(clock, secretive) as (_, provider):
        recordings = Recordings(tmp_path)
        findings = [one async for one in Canary(provider, clock, recordings).findings()]
        host = provider.settings.base_url.removeprefix("http://")
    assert findings[-1].said == f"asked 10 times; its answers are in {tmp_path}"
    made = [path for path in files(tmp_path) if path.name != "22_AAPL_older.json"]
    assert [path.name[:2] for path in made] == [str(number) for number in range(23, 33)]
    assert made[0].name == "23_AAPL_1d_bounds_rec2026-06.json"
    whole = "".join(path.read_text() for path in made)
    for secret in ("cookie", "AQABBK", "203.0.113.7", "5g3ho", "of-mine", host):
        assert secret not in whole
    bounds = Recording(tmp_path, "23")
    replayed = await bounds.replay("AAPL", "1d", None, clock.now_ms())
    # The bar stamped at period2 came, and lies outside.
    assert [one.time // 1000 for one in replayed.records] == list(bounds.rows)[:-1]
    assert json.loads(made[0].read_text())["response"]["headers"]["date"].startswith("Wed, 10 Jun")
    unknown = next(path.name[:2] for path in made if "unknown" in path.name)
    with pytest.raises(UnknownTicker):
        await Recording(tmp_path, unknown).replay("NOSUCHTICKER0", "1d", None, clock.now_ms())


async def test_pages_are_recorded_without_addresses(tmp_path: Path) -> None:
    """A page that tells the client its address is kept without it, and a 429 is kept too."""
    clock = ManualClock(round(OPEN.timestamp() * 1000))
    page = "Too Many Requests from 203.0.113.7, 2001:db8::7f and 2001:db8:0:0:1:0:0:1 at 12:30:45"
    async with upstream(clock, as_it_is) as (sim, provider):
        sim.faults.fail_next(faults.too_many_requests(page))
        with pytest.raises(RateLimited):
            await follow(Canary(provider, clock, Recordings(tmp_path)), [])
    (path,) = files(tmp_path)
    response = json.loads(path.read_text())["response"]
    assert response["status"] == 429
    assert response["body"] == ("Too Many Requests from ADDRESS, ADDRESS and ADDRESS at 12:30:45")


def test_a_folder_that_cannot_be_is_told(tmp_path: Path) -> None:
    """A file in the folder's place is named."""
    (tmp_path / "file").touch()
    with pytest.raises(GaplessError, match="file cannot be written"):
        Recordings(tmp_path / "file")


# The command


@pytest.fixture
def variables() -> dict[str, str]:
    """Return the settings by which the command asks a simulator fast."""
    return {
        "GAPLESS_YAHOO__ENABLED": "true",
        "GAPLESS_YAHOO__RATE": "1000",
        "GAPLESS_YAHOO__TIMEOUT_S": str(PATIENCE_S),
    }


async def test_the_command_tells_and_records(tmp_path: Path, variables: dict[str, str]) -> None:
    """It goes by the settings' address, ends with 0 where all is as it was, and records."""
    async with YahooSimulator(MARKET) as sim, before(sim, as_it_is) as url:
        done = await gapless(
            *("doctor", "--db", str(tmp_path / "hub.db"), "--upstream"),
            *("--record", str(tmp_path / "answers")),
            GAPLESS_YAHOO__BASE_URL=url,
            **variables,
        )
        assert (done.code, done.err) == (Exit.OK, "")
        assert "ok       upstream    a daily bar stamped at period2 comes back\n" in done.out
        assert len(sim.requests) == MOST_REQUESTS
    assert len(files(tmp_path / "answers")) == MOST_REQUESTS


async def test_the_commands_exit_codes(tmp_path: Path, variables: dict[str, str]) -> None:
    """1 where something is no longer so, 75 where upstream asks to be left alone, 2 for misuse."""
    database = ("--db", str(tmp_path / "hub.db"))
    alter = BROKEN["a daily bar stamped at period2 comes back"]
    async with YahooSimulator(MARKET) as sim, before(sim, alter) as url:
        variables["GAPLESS_YAHOO__BASE_URL"] = url
        done = await gapless("doctor", *database, "--upstream", "-o", "json", **variables)
        assert done.code == Exit.FAILURE
        told = json.loads(done.out)
        assert [one["about"] for one in told["findings"] if one["level"] == "problem"] == [
            "upstream"
        ]
        sim.faults.fail_always(faults.too_many_requests())
        done = await gapless("doctor", *database, "--upstream", "-o", "json", **variables)
        assert done.code == Exit.RATE_LIMITED
        told = json.loads(done.out)
        assert told["ok"] is False
        assert "too many requests from this address" in told["findings"][-1]["said"]
        assert "1 of 10 requests" in told["findings"][-1]["said"]
    done = await gapless("doctor", *database, "--record", str(tmp_path / "answers"), **variables)
    assert done.code == Exit.USAGE
    assert "--record goes with --upstream" in done.err
    assert not (tmp_path / "answers").exists()
