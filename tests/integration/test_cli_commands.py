"""The commands about a database, beside a hub that runs on it and without one."""

from __future__ import annotations

import asyncio
import io
import json
import sqlite3
import sys
from datetime import UTC, datetime
from pathlib import Path

import pytest

from gapless.cli import main
from gapless.cli.exits import Exit
from gapless.cli.stage import session
from gapless.errors import UpstreamUnavailable
from gapless.servers.control import socket_path
from gapless.simulator.instruments import equity
from gapless.simulator.market import Market
from gapless.simulator.server import YahooSimulator
from gapless.store.sqlite import FileLock, open_store
from support.command_line import LINE, RECORDS, Commands, filled
from support.providers import SteadyProvider
from support.wire import PATIENT, but, door


async def test_reading_beside_a_hub(tmp_path: Path, gapless: Commands) -> None:
    """Coverage, statistics and checks disturb no hub, and the hub's own figures are told."""
    path = tmp_path / "hub.db"
    db = ("--db", str(path))
    async with filled(path):
        shown = await gapless("coverage", "sample", *db, "-o", "json")
        (series,) = json.loads(shown.out)
        assert (series["records"], series["missing"]) == (RECORDS, [])
        assert series["from"] == "2010-01-01T00:00:00Z"
        stats = json.loads((await gapless("cache", "stats", *db, "-o", "json")).out)
        assert stats["records"] == RECORDS
        assert stats["upstream_requests"] == 1
        told = await gapless("cache", "stats", *db)
        assert "upstream requests" in told.out
        assert "told by the hub on" in told.out
        sound = await gapless("db", "check", *db)
        assert (sound.code, sound.out) == (Exit.OK, f"{path} is sound\n")
        current = await gapless("db", "upgrade", *db)
        assert (current.code, "is up to date" in current.out) == (Exit.OK, True)
    stats = json.loads((await gapless("cache", "stats", *db, "-o", "json")).out)
    assert stats["records"] == RECORDS
    assert "upstream_requests" not in stats
    assert "no hub is running on" in (await gapless("cache", "stats", *db)).out


async def test_pruning_over_the_socket(tmp_path: Path, gapless: Commands) -> None:
    """A running hub forgets what it is told to, at once, and fetches it again when asked."""
    path = tmp_path / "hub.db"
    db = ("--db", str(path))
    async with filled(path) as hub, session(hub.tcp) as client:
        assert (await client.ask(LINE)).requests == 0
        kept = await gapless("cache", "prune", "--before", "-1d", *db, "--yes")
        assert (kept.code, kept.out) == (Exit.OK, "forgot 0 records of 0 series\n")
        assert (await client.ask(LINE)).requests == 0
        gone = await gapless("cache", "prune", "--before=2100-01-01", *db, "--yes")
        assert (gone.code, gone.out) == (Exit.OK, "forgot 252 records of 1 series\n")
        again = await client.ask(LINE)
        assert (again.requests, len(again.records)) == (1, RECORDS)


async def test_pruning_without_a_hub(tmp_path: Path, gapless: Commands) -> None:
    """Where no hub runs the database is opened for it, and let go of."""
    path = tmp_path / "hub.db"
    db = ("--db", str(path))
    async with filled(path):
        pass
    gone = await gapless("cache", "prune", "--before", "2100-01-01", *db, "-y")
    assert (gone.code, gone.out) == (Exit.OK, "forgot 252 records of 1 series\n")
    assert "holds nothing yet" in (await gapless("coverage", *db)).out
    async with filled(path):
        assert (await gapless("cache", "stats", *db)).code == Exit.OK
    missing = await gapless("cache", "prune", "--before", "now", "--db", str(tmp_path / "x.db"))
    assert missing.code == Exit.FAILURE
    assert "there is no database at" in missing.err
    assert not (tmp_path / "x.db").exists()


async def test_pruning_asks_first(
    tmp_path: Path, gapless: Commands, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Nothing goes unless somebody says so: with --yes, or at a terminal."""

    class Terminal(io.StringIO):
        def isatty(self) -> bool:
            return True

    path = tmp_path / "hub.db"
    db = ("--db", str(path))
    async with filled(path):
        pass
    monkeypatch.setattr(sys, "stdin", io.StringIO())
    unasked = await gapless("cache", "prune", "--before", "2100-01-01", *db)
    assert unasked.code == Exit.USAGE
    assert "in 1 of 1 series; say --yes if that is meant" in unasked.err
    early = await gapless("cache", "prune", "--before", "2020-01-01", *db)
    assert (early.code, "nothing to forget" in early.out) == (Exit.OK, True)
    monkeypatch.setattr(sys, "stdin", Terminal("no\n"))
    refused = await gapless("cache", "prune", "--before", "2100-01-01", *db)
    assert (refused.code, refused.out) == (Exit.FAILURE, "nothing was forgotten\n")
    assert "sample:IBM" in refused.err
    monkeypatch.setattr(sys, "stdin", Terminal("y\n"))
    agreed = await gapless("cache", "prune", "--before", "2100-01-01", *db)
    assert (agreed.code, agreed.out) == (Exit.OK, "forgot 252 records of 1 series\n")
    nonsense = await gapless("cache", "prune", "--before", "last week", *db)
    assert nonsense.code == Exit.USAGE
    assert "--before `last week` is no instant" in nonsense.err


async def test_a_hub_that_does_not_answer(tmp_path: Path, gapless: Commands) -> None:
    """A database that is held without a hub at its socket is neither opened nor guessed about."""
    path = tmp_path / "hub.db"
    db = ("--db", str(path))
    async with filled(path):
        pass
    lock = FileLock(path)
    lock.acquire("process 4711, gapless 0.1.0")
    for command in (("cache", "stats"), ("cache", "prune", "--before", "now", "--yes")):
        ran = await gapless(*command, *db)
        assert ran.code == Exit.FAILURE
        assert "a hub (process 4711, gapless 0.1.0) has" in ran.err
        assert str(socket_path(path)) in ran.err
    lock.release()


async def test_a_damaged_database_is_listed_and_left_alone(
    tmp_path: Path, gapless: Commands
) -> None:
    """Every finding is a line on stdout, and the exit code is 1."""
    path = tmp_path / "hub.db"
    async with filled(path):
        pass
    with sqlite3.connect(path) as connection:
        connection.execute("UPDATE entities SET data = replace(data, '1', '2')")
        connection.execute("UPDATE coverage SET end_ms = start_ms")
    connection.close()
    before = path.read_bytes()
    found = await gapless("db", "check", "--db", str(path))
    assert found.code == Exit.FAILURE
    assert len(found.out.splitlines()) == 3
    assert "is not what was stored" in found.out
    assert "3 findings in" in found.err
    told = json.loads((await gapless("db", "check", "--db", str(path), "-o", "json")).out)
    assert told["sound"] is False
    assert len(told["findings"]) == 3
    assert path.read_bytes() == before


async def test_upgrading(tmp_path: Path, gapless: Commands) -> None:
    """An empty file becomes a database; a missing one is not made."""
    path = tmp_path / "hub.db"
    missing = await gapless("db", "upgrade", "--db", str(path))
    assert missing.code == Exit.FAILURE
    assert not path.exists()
    path.touch()
    made = await gapless("db", "upgrade", "--db", str(path))
    assert (made.code, "it was empty" in made.out) == (Exit.OK, True)
    assert (await gapless("db", "check", "--db", str(path))).code == Exit.OK
    path.unlink()
    path.touch()
    lock = FileLock(path)
    lock.acquire("process 4711")
    held = await gapless("db", "upgrade", "--db", str(path))
    lock.release()
    assert held.code == Exit.FAILURE
    assert "process 4711" in held.err


async def test_the_doctor_sees_the_hub(
    tmp_path: Path, gapless: Commands, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A hub that answers is named; one that listens elsewhere than thought is noted."""
    path = tmp_path / "hub.db"
    monkeypatch.setenv("GAPLESS_YAHOO__ENABLED", "no")
    async with filled(path) as hub:
        monkeypatch.setenv("GAPLESS_TCP", hub.tcp)
        seen = await gapless("doctor", "--db", str(path))
        assert seen.code == Exit.OK
        assert f"answers at {hub.tcp}" in seen.out
        other = await gapless("doctor", "--db", str(tmp_path / "other.db"))
        assert f"one on another answers at {hub.tcp}" in other.out
        monkeypatch.setenv("GAPLESS_TCP", "127.0.0.1:1")
        astray = await gapless("doctor", "--db", str(path))
        assert (astray.code, "but not at 127.0.0.1:1" in astray.out) == (Exit.OK, True)


async def test_the_doctor_asks_upstream_only_when_told(
    tmp_path: Path, gapless: Commands, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Without --online upstream hears nothing; with it, one request."""
    market = Market([equity("SPY")])
    async with YahooSimulator(market, clock=lambda: datetime.now(UTC).timestamp()) as upstream:
        monkeypatch.setenv("GAPLESS_YAHOO__BASE_URL", upstream.base_url)
        db = ("--db", str(tmp_path / "hub.db"))
        assert (await gapless("doctor", *db)).code == Exit.OK
        assert upstream.requests == []
        online = await gapless("doctor", *db, "--online")
        assert (online.code, "bars of SPY in" in online.out) == (Exit.OK, True)
        assert len(upstream.requests) == 1
        market.delist("SPY")
        failed = await gapless("doctor", *db, "--online")
        assert (failed.code, "it fails" in failed.out) == (Exit.FAILURE, True)


async def test_a_question_without_quotes(tmp_path: Path, gapless: Commands) -> None:
    """What the demo shows can be typed as it stands, word by word."""
    async with filled(tmp_path / "hub.db") as hub:
        asked = await gapless("query", *LINE.split(), "--tcp", hub.tcp)
        assert asked.code == Exit.OK
        assert json.loads(asked.out)["stitch"]["upstream_requests"] == 0


async def test_all_or_nothing(tmp_path: Path, gapless: Commands) -> None:
    """An answer that is partial is printed with a warning, and refused where it must be whole."""
    upstream = SteadyProvider()
    settings = but(PATIENT, fetch={"deadline_s": 0.01, "breaker_failures": 5})
    async with door(tmp_path, upstream, settings=settings) as hub:
        tcp = ("--tcp", f"127.0.0.1:{hub.port}")
        line = "provider steady search ticker=A date=2020-01-01..2020-01-03"
        assert (await gapless("query", line, *tcp)).code == Exit.OK
        upstream.failures["A"] = UpstreamUnavailable("it is down")
        asked = (line.replace("01-03", "01-05"), *tcp)
        partial = await gapless("query", *asked)
        assert (partial.code, "A" in partial.out) == (Exit.OK, True)
        assert "is incomplete: it is down; missing: 2020-01-03..2020-01-05" in partial.err
        refused = await gapless("query", *asked, "--strict")
        assert (refused.code, refused.out) == (Exit.FAILURE, "")
        assert "it is down" in refused.err


def test_the_store_opens_after_all_this(tmp_path: Path) -> None:
    """A database that commands looked at is still one that a hub opens."""
    path = tmp_path / "hub.db"
    asyncio.run(open_store(path).close())
    assert main(["db", "check", "--db", str(path)]) == Exit.OK
    asyncio.run(open_store(path).close())
