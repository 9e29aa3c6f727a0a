"""`gapless cache forget` and `gapless refresh`, beside a hub that runs and without one."""

from __future__ import annotations

import io
import json
import sys
from collections.abc import AsyncIterator, Mapping
from contextlib import asynccontextmanager
from dataclasses import replace
from datetime import date
from pathlib import Path

import pytest

from gapless.app import RunningHub, running_hub
from gapless.cli.exits import Exit
from gapless.cli.stage import session
from gapless.config import Settings, YahooSettings
from gapless.domain.series import SeriesKey
from gapless.errors import UpstreamUnavailable
from gapless.protocol.times import parse_instant
from gapless.simulator.instruments import equity
from gapless.simulator.market import Market
from gapless.simulator.prices import RandomWalk
from gapless.simulator.server import YahooSimulator
from gapless.store.sqlite import FileLock
from support.clock import ManualClock
from support.command_line import LINE, RECORDS, Commands, filled
from support.people import api_token, person
from support.providers import SteadyProvider
from support.wire import IMPATIENT, PATIENCE_S, but, door

BERLIN = equity("EUDE", tz="Europe/Berlin", hours=(32_400, 63_000), first_trade=date(2023, 1, 3))
# Days of June, as the sample has them.
JUNE = "2010-06-01..2010-07-01"
JUNE_ID = "sample:IBM:2010-06-01T00:00:00Z..2010-07-01T00:00:00Z"
APRIL_ID = "yahoo_finance:EUDE?interval=1mo:2024-03-31T22:00:00Z..2024-04-30T22:00:00Z"


class Terminal(io.StringIO):
    """A stdin at which somebody sits."""

    def isatty(self) -> bool:
        """Return that it is one."""
        return True


class CapitalProvider(SteadyProvider):
    """One whose tickers differ by their capitals."""

    def key(self, ticker: str, params: Mapping[str, str]) -> SeriesKey:
        """Return the key with the ticker as it is."""
        return replace(super().key(ticker, params), ticker=ticker)


@asynccontextmanager
async def listed_in_berlin(path: Path) -> AsyncIterator[RunningHub]:
    """Run a hub that has fetched a year of months, and two of days, of a share in Berlin."""
    clock = ManualClock(parse_instant("2025-03-10", now_ms=0))
    market = Market([BERLIN], prices=RandomWalk(3))
    async with YahooSimulator(market, clock=lambda: clock.now_ms() / 1000) as upstream:
        yahoo = YahooSettings(
            base_url=upstream.base_url, fallback_url=None, timeout_s=PATIENCE_S, rate=1000.0
        )
        settings = Settings(db=str(path), tcp="127.0.0.1:0", http="off", yahoo=yahoo)
        async with running_hub(settings, clock=clock) as hub, session(hub.tcp) as client:
            line = "provider yahoo_finance search ticker=EUDE"
            months = await client.ask(f"{line} date=2024-01-01..2025-01-01 interval=1mo")
            assert len(months.records) == 12
            await client.ask(f"{line} date=2025-01-01..2025-03-01")
            yield hub


async def test_a_running_hub_forgets(tmp_path: Path, gapless: Commands) -> None:
    """A range, then all; at once, and it is fetched again when it is asked for."""
    path = tmp_path / "hub.db"
    db = ("--db", str(path), "--yes")
    async with filled(path) as hub, session(hub.tcp) as client:
        june = await gapless("cache", "forget", "sample", "ibm", JUNE, *db)
        assert (june.code, june.out) == (Exit.OK, f"forgot 22 records of {JUNE_ID}\n")
        again = await client.ask(LINE)
        assert (again.requests, len(again.records)) == (1, RECORDS)
        (fetched,) = again.fetched
        assert fetched == (
            parse_instant("2010-06-01", now_ms=0),
            parse_instant("2010-07-01", now_ms=0),
        )
        told = await gapless("cache", "forget", "sample", "IBM", "interval=1d", *db, "-o", "json")
        assert json.loads(told.out) == {"id": "sample:IBM", "records": RECORDS}
        assert (await client.ask(LINE)).requests == 1


async def test_without_a_hub_the_database_is_opened(tmp_path: Path, gapless: Commands) -> None:
    """The same, and what is left is what a hub finds."""
    path = tmp_path / "hub.db"
    db = ("--db", str(path))
    async with filled(path):
        pass
    june = await gapless("cache", "forget", "sample", "ibm", JUNE, *db, "-y")
    assert (june.code, june.out) == (Exit.OK, f"forgot 22 records of {JUNE_ID}\n")
    again = await gapless("cache", "forget", "sample", "ibm", JUNE, *db, "-y")
    assert (again.code, again.out) == (
        Exit.OK,
        f"nothing to forget: nothing is known of {JUNE_ID}\n",
    )
    until = await gapless("cache", "forget", "sample", "ibm", "..2010-06-01", *db, "-y")
    assert until.out == (
        "forgot 102 records of sample:IBM:2010-01-01T00:00:00Z..2010-06-01T00:00:00Z\n"
    )
    recent = await gapless("cache", "forget", "sample", "ibm", "-30d", *db, "-o", "json")
    assert (recent.code, json.loads(recent.out)["records"]) == (Exit.OK, 0)
    assert (await gapless("db", "check", *db)).code == Exit.OK
    rest = await gapless("cache", "forget", "sample", "ibm", *db, "-y")
    assert rest.out == "forgot 128 records of sample:IBM\n"
    assert "holds nothing yet" in (await gapless("coverage", *db)).out
    async with filled(path):
        assert (await gapless("cache", "stats", *db)).code == Exit.OK


async def test_it_asks_first(
    tmp_path: Path, gapless: Commands, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Nothing goes unless somebody says so, with --yes or at a terminal; beside a hub as well."""
    path = tmp_path / "hub.db"
    forget = ("cache", "forget", "sample", "IBM", "--db", str(path))
    async with filled(path) as hub, session(hub.tcp) as client:
        monkeypatch.setattr(sys, "stdin", io.StringIO())
        unasked = await gapless(*forget, JUNE)
        assert unasked.code == Exit.USAGE
        assert f"this would forget {JUNE_ID}; say --yes if that is meant" in unasked.err
        monkeypatch.setattr(sys, "stdin", Terminal("no\n"))
        refused = await gapless(*forget)
        assert (refused.code, refused.out) == (Exit.FAILURE, "nothing was forgotten\n")
        assert "This forgets all of sample:IBM" in refused.err
        assert (await client.ask(LINE)).requests == 0
        monkeypatch.setattr(sys, "stdin", Terminal("y\n"))
        agreed = await gapless(*forget)
        assert (agreed.code, agreed.out) == (Exit.OK, f"forgot {RECORDS} records of sample:IBM\n")


async def test_what_is_not_held_is_said(tmp_path: Path, gapless: Commands) -> None:
    """Which there are is told; what makes no sense is a misuse, and nothing is forgotten."""
    path = tmp_path / "hub.db"
    db = ("--db", str(path), "--yes")
    missing = await gapless("cache", "forget", "sample", "IBM", *db)
    assert (missing.code, "there is no database at" in missing.err) == (Exit.FAILURE, True)
    assert not path.exists()
    async with filled(path):
        pass
    for words, code, said in (
        (("sample", "AAPL"), Exit.FAILURE, "holds nothing of sample AAPL; of sample it holds IBM"),
        (("nobody", "IBM"), Exit.FAILURE, "holds nothing of nobody IBM; gapless coverage lists"),
        (("sample", "IBM", "interval=1h"), Exit.USAGE, "interval=1h is not supported"),
        (("sample", "IBM", "soon"), Exit.USAGE, "`soon` is none of what may stand there"),
        (("sample", "IBM", "2010-02-01..2010-01-01"), Exit.USAGE, "the range is empty"),
    ):
        ran = await gapless("cache", "forget", *words, *db)
        assert (ran.code, said in ran.err, ran.out) == (code, True, ""), ran
    lock = FileLock(path)
    lock.acquire("process 4711, gapless 0.1.0")
    stuck = await gapless("cache", "forget", "sample", "IBM", *db)
    lock.release()
    assert (stuck.code, "a hub (process 4711, gapless 0.1.0) has" in stuck.err) == (
        Exit.FAILURE,
        True,
    )


@pytest.mark.parametrize("runs", [True, False], ids=["beside a hub", "without one"])
async def test_days_are_those_of_the_exchange(
    tmp_path: Path, gapless: Commands, runs: bool
) -> None:
    """By what is stored of the ticker; other series of it stay as they are."""
    path = tmp_path / "hub.db"
    april = ("cache", "forget", "yahoo_finance", "eude", "2024-04-01..2024-05-01", "--yes")
    db = ("--db", str(path))
    async with listed_in_berlin(path):
        if runs:
            ran = await gapless(*april, "interval=1mo", *db)
    if not runs:
        ran = await gapless(*april, "interval=1mo", *db)
    assert (ran.code, ran.out) == (Exit.OK, f"forgot 1 record of {APRIL_ID}\n")
    days = await gapless(*april, *db)
    assert days.out.startswith("nothing to forget: nothing is known of yahoo_finance:EUDE:")
    # The default has no name; weeks were never asked for.
    weeks = await gapless(*april, "interval=1wk", *db)
    assert (weeks.code, "none with these parameters is held; of eude there are " in weeks.err) == (
        Exit.FAILURE,
        True,
    )
    assert "yahoo_finance:EUDE?interval=1mo" in weeks.err
    default = await gapless(*april, "interval=1d", *db)
    assert default.out == days.out


async def test_what_only_a_plugin_knows_is_named_as_it_is_held(
    tmp_path: Path, gapless: Commands
) -> None:
    """Data outlives its provider; tickers that differ in capitals alone are told apart."""
    async with door(tmp_path, CapitalProvider()) as hub:
        for ticker, side in (("ab", "left"), ("AB", "left"), ("AB", "right")):
            async with session(f"127.0.0.1:{hub.port}") as client:
                await client.ask(
                    f"provider steady search ticker={ticker} side={side} "
                    "date=2020-01-01..2020-01-11"
                )
    db = ("--db", str(tmp_path / "door.db"), "--yes")
    forget = ("cache", "forget", "steady")
    right = await gapless(*forget, "ab", "2020-01-01..2020-01-03", "side=right", *db)
    assert right.out.startswith("forgot 2 records of steady:AB?side=right:")
    default = await gapless(*forget, "ab", "side=left", *db)
    assert (default.code, "of ab there are steady:" in default.err) == (Exit.FAILURE, True)
    either = await gapless(*forget, "Ab", *db)
    assert (either.code, either.out) == (Exit.FAILURE, "")
    assert "that may be one of steady:" in either.err
    small = await gapless(*forget, "ab", *db)
    assert small.out == "forgot 10 records of steady:ab\n"
    capital = await gapless(*forget, "AB", *db)
    assert capital.out == "forgot 10 records of steady:AB\n"


async def test_a_refresh_fetches_what_is_held(tmp_path: Path, gapless: Commands) -> None:
    """In one line, or as JSON; the records stay with the hub, however many there are."""
    upstream = SteadyProvider()
    settings = but(IMPATIENT, limits={"max_records": 20})
    async with door(tmp_path, upstream, settings=settings) as hub:
        refresh = ("refresh", "steady", "a", "2020-01-01..2020-02-01")
        tcp = ("--tcp", f"127.0.0.1:{hub.port}")
        id = "steady:A:2020-01-01T00:00:00Z..2020-02-01T00:00:00Z"
        for calls in (1, 2):
            ran = await gapless(*refresh, *tcp)
            assert (ran.code, ran.err) == (Exit.OK, "")
            assert ran.out == f"refreshed {id}: ready, 31 records, 1 upstream request\n"
            assert len(upstream.calls) == calls
        told = json.loads((await gapless(*refresh, "side=right", *tcp, "-o", "json")).out)
        assert told["id"] == id.replace(":A:", ":A?side=right:")
        assert (told["records"], told["stitch"]["state"]) == (31, "ready")
        upstream.failures["A"] = UpstreamUnavailable("it is down")
        stale = await gapless(*refresh, *tcp)
        assert stale.code == Exit.OK
        assert stale.out.startswith(f"asked again for {id}: stale, 31 records, ")
        assert "may be out of date: it is down" in stale.err
        strict = await gapless(*refresh, *tcp, "--strict")
        assert (strict.code, strict.out) == (Exit.FAILURE, "")
        assert "it is down" in strict.err
        upstream.failures.clear()
        recent = await gapless("refresh", "steady", "b", "-7d", *tcp)
        assert (recent.code, ": ready, 7 records, " in recent.out) == (Exit.OK, True)


async def test_a_refresh_that_cannot_be(tmp_path: Path, gapless: Commands) -> None:
    """Without a hub it says how to start one; what a hub refuses has its own exit code."""
    async with door(tmp_path, SteadyProvider(), auth=True) as hub:
        tcp = ("--tcp", f"127.0.0.1:{hub.port}")
        reader = await person(hub.authority, "read")
        token = await api_token(hub.authority, reader.email)
        for words, code, said in (
            (("steady", "A"), Exit.DENIED, "token"),
            (("steady", "A", "--token", token), Exit.DENIED, "fetch"),
            (("steady", "A", "soon", "--token", token), Exit.USAGE, "`soon` is none of what"),
            (("steady", "A", "hue=red", "--token", token), Exit.USAGE, "no parameter 'hue'"),
            (("nobody", "A", "--token", token), Exit.FAILURE, "no provider 'nobody'"),
            (("steady", "A", "--timeout", "0"), Exit.USAGE, "--timeout needs a number"),
        ):
            ran = await gapless("refresh", *words, *tcp)
            assert (ran.code, said in ran.err, ran.out) == (code, True, ""), ran
    gone = await gapless("refresh", "steady", "A", *tcp)
    assert (gone.code, gone.out) == (Exit.UNREACHABLE, "")
    assert "start one with: gapless serve" in gone.err


async def test_a_refresh_by_days_of_the_exchange(tmp_path: Path, gapless: Commands) -> None:
    """The hub knows the ticker, so that the same words mean the same as to forget."""
    path = tmp_path / "hub.db"
    words = ("yahoo_finance", "EUDE", "2024-04-01..2024-05-01", "interval=1mo")
    async with listed_in_berlin(path) as hub:
        ran = await gapless("refresh", *words, "--tcp", hub.tcp)
    assert (ran.code, ran.err) == (Exit.OK, "")
    assert ran.out == f"refreshed {APRIL_ID}: ready, 1 record, 1 upstream request\n"
