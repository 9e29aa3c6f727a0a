"""A hub on a full disk: reads go on, room can be made in place, and what was made is used."""

from __future__ import annotations

import asyncio
import json
from pathlib import Path

import pytest

from gapless.store.base import EntityFilter
from gapless.store.health import inspect
from gapless.store.sqlite import check
from support.commands import gapless, hub
from support.disks import fill, small_disk
from support.people import PASSWORD
from support.providers import SteadyProvider
from support.stores import store_of
from support.web import Web, web
from support.wire import connect, records, search

# Each fills a disk.
pytestmark = pytest.mark.slow

MIB = 24
MINUTE_MS = 60_000
NOTES = """
class Provider:
    def name(self):
        return "notes"

    def fetch_entities(self, request):
        return []
"""


def steady() -> SteadyProvider:
    """Return a provider of 1.4 MB a day."""
    return SteadyProvider(step=MINUTE_MS, padding=900)


def day(ticker: str, date: int = 1, days: int = 1) -> str:
    """Return the path of some days of a ticker."""
    return f"/v1/data/steady/{ticker}?start=2020-01-{date:02}&end=2020-01-{date + days:02}"


async def fill_by(opened: Web, by: str, disk: Path) -> None:
    """Fill the disk: by a stranger's file, or by what the hub itself stores."""
    if by == "stranger":
        await asyncio.to_thread(fill, disk)
        return
    for number in range(2 * MIB):
        response = await opened.client.get(day(f"F{number}"))
        if response.status_code != 200:
            assert response.status_code == 507
            return
    raise AssertionError("the disk does not become full")


def entity(size: int) -> dict[str, object]:
    """Return the body of an entity with so much data."""
    return {"source": "mine", "data": json.dumps(["x" * size])}


@pytest.mark.parametrize("by", ["itself", "stranger"])
async def test_room_is_made_in_place(tmp_path: Path, by: str) -> None:
    """Forgetting works on a full disk, each way there is; then what was refused is stored."""
    provider = steady()
    with small_disk(tmp_path, MIB) as disk:
        async with web(disk, provider) as opened:
            (disk / "notes.py").write_text(NOTES)
            await opened.send("POST", "/plugins/load", {"file": "notes.py"})
            await opened.send("PUT", "/v1/entities/big", entity(600_000), 201)
            for ticker in "ABCD":
                await opened.get(day(ticker))
            await opened.get(day("E", days=2))
            held = (await opened.get(day("A"))).content
            await fill_by(opened, by, disk)
            await opened.get(day("X", days=3), 507)
            await opened.send("PUT", "/v1/entities/more", entity(3_000_000), 507)
            stop = asyncio.Event()

            async def read_on() -> int:
                count = 0
                while not stop.is_set():
                    opened.hub.memory.drop(provider.key("A", {}))
                    assert (await opened.get(day("A"))).content == held
                    count += 1
                return count

            reading = asyncio.create_task(read_on())
            b = "/v1/series/steady/B?start=2020-01-01T06:00:00Z&end=2020-01-01T18:00:00Z"
            assert (await opened.send("DELETE", b))["records"] == 720
            assert (await opened.send("DELETE", "/v1/series/steady/C"))["records"] == 1_440
            await opened.send("PUT", "/v1/entities/big", entity(10))
            await opened.send("DELETE", "/v1/plugins/notes")
            assert (await opened.send("DELETE", "/v1/series/steady/E"))["records"] == 2_880
            again = await opened.get(day("X", days=3))
            assert again.json() == provider.rows("X", "2020-01-01", "2020-01-04")
            stop.set()
            assert await reading > 0
            opened.hub.memory.drop(provider.key("X", {}))
            assert (await opened.get(day("X", days=3))).content == again.content
            assert (await opened.get(day("A"))).content == held
            rest = (await opened.get(day("B"))).json()
            assert rest == provider.rows("B", "2020-01-01", "2020-01-02")
            stored = await store_of(opened.hub).entities(EntityFilter(source="mine"), 10)
            assert [one.id for one in stored] == ["big"]
            assert await store_of(opened.hub).plugins() == []
            assert set(opened.logged("error")) == {"nothing could be stored"}
        assert await asyncio.to_thread(check, disk / "web.db") == []
        assert await asyncio.to_thread(inspect, disk / "web.db") == []


async def test_nothing_is_stored_that_the_file_could_not_take(tmp_path: Path) -> None:
    """What has room in the log alone is refused: it would keep it from ever being emptied."""
    provider = steady()
    with small_disk(tmp_path, MIB) as disk:
        async with web(disk, provider) as opened:
            await opened.get(day("A"))
            await opened.get(day("B", days=8), 507)
            assert opened.logged("error") == ["nothing could be stored"]
            await opened.get("/v1/coverage/steady/B", 404)
            await opened.get(day("B", days=4))
            for ticker in "AB":
                await opened.send("DELETE", f"/v1/series/steady/{ticker}")
            await opened.get(day("C", days=4))


@pytest.mark.parametrize(
    "command", [("prune", "--before", "2100-01-01"), ("forget", "sample", "aapl")]
)
async def test_making_room_with_and_without_a_hub(tmp_path: Path, command: tuple[str, ...]) -> None:
    """It is done in place, on a hub that runs and on one that was killed."""
    wide = search("sample", "AAPL", "2000-01-01", "2010-01-01")
    with small_disk(tmp_path, 16) as disk:
        database = disk / "hub.db"
        forget = ("cache", *command, "--db", str(database))
        async with hub(database, "--http", "off") as running:
            async with await connect(running.port) as wire:
                found = records(await wire.ask(wide))
                stranger = await asyncio.to_thread(fill, disk)
                done = await gapless(*forget, "--yes")
                assert (done.code, done.err) == (0, "")
                assert f"forgot {len(found):,} records of " in done.out
                assert records(await wire.ask(wide)) == found
            running.process.kill()
            await running.process.wait()
        stranger.unlink()
        await asyncio.to_thread(fill, disk)
        asked = await gapless(*forget)
        assert "say --yes if that is meant" in asked.err
        done = await gapless(*forget, "--yes")
        assert (done.code, done.err) == (0, "")
        assert f"forgot {len(found):,} records of " in done.out
        async with hub(database, "--http", "off") as running, await connect(running.port) as wire:
            assert records(await wire.ask(wide)) == found
            sound = await gapless("db", "check", "--db", str(database))
            assert sound.code == 0, sound


async def test_a_hub_that_was_stopped_starts_on_a_full_disk(tmp_path: Path) -> None:
    """Even opening takes some room, which is there; without a reserve it is told by name."""
    wide = search("sample", "AAPL", "2000-01-01", "2010-01-01")
    with small_disk(tmp_path, 16) as disk:
        database = disk / "hub.db"
        async with hub(database, "--http", "off") as running, await connect(running.port) as wire:
            found = records(await wire.ask(wide))
        await asyncio.to_thread(fill, disk)
        async with hub(database, "--http", "off") as running, await connect(running.port) as wire:
            answer = await wire.ask(wide)
            assert records(answer) == found
            assert answer["stitch"]["fetched"] == []
        (disk / "hub.db.reserve").unlink()
        (disk / "stranger").unlink()
        await asyncio.to_thread(fill, disk)
        done = await gapless(
            "cache", "prune", "--db", str(database), "--before", "2100-01-01", "--yes"
        )
        assert done.code != 0
        assert str(database) in done.err


async def test_whoever_makes_room_is_let_in(tmp_path: Path) -> None:
    """Signing in stores a token, and works on a full disk for those who have to."""
    provider = steady()
    with small_disk(tmp_path, 16) as disk:
        async with web(disk, provider, auth=True) as opened:
            await opened.authority.users.add("root@example.com", PASSWORD, "admin", "test")
            first = await opened.authority.sessions.sign_in("root@example.com", PASSWORD, "::1")
            opened.client.headers["authorization"] = f"Bearer {first.access}"
            await opened.get(day("A"))
            await fill_by(opened, "itself", disk)
            await asyncio.to_thread(fill, disk)
            del opened.client.headers["authorization"]
            body = {"email": "root@example.com", "password": PASSWORD}
            token = (await opened.send("POST", "/v1/auth/login", body))["access_token"]
            opened.client.headers["authorization"] = f"Bearer {token}"
            await opened.send("DELETE", "/v1/series/steady/A")
            assert set(opened.logged("error")) == {"nothing could be stored"}
