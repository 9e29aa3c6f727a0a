"""Long histories of plugins: stored as they come, right or refused, hardly noticed by others."""

from __future__ import annotations

from functools import partial
from itertools import count
from pathlib import Path
from typing import Any

import httpx
import pytest

from gapless.domain.intervals import Interval, subtract
from gapless.instants import format_instant
from gapless.protocol.times import parse_instant
from support.bystanders import Asking, Commits, asking_for, best, disturbed, drain, minute, tell
from support.hubs import running
from support.plugin_sources.lengthy import record
from support.plugins import SOURCES, plugged
from support.wire import PATIENCE_S, connect, read

# Beside others an answer takes at the most so many times as long as alone.
MOST = 5
NUMBER = 60_000


def true_rows(asked: Interval) -> list[dict[str, Any]]:
    """Return the records that there are of an interval of whole minutes."""
    return [record(one) for one in range(asked.start // 60_000, asked.end // 60_000)]


def check_truth(answer: dict[str, Any], asked: Interval) -> str:
    """See that an answer has all records of what it says it has; return its state."""
    if not answer["ok"]:
        error = answer["error"]
        assert error["code"] == "provider_request_failed"
        assert error["message"]
        return "failed"
    stitch = answer["stitch"]
    missing = [
        Interval(*(parse_instant(text, now_ms=0) for text in pair)) for pair in stitch["missing"]
    ]
    assert (stitch["state"] == "ready") == (not missing)
    assert not missing or stitch["why"]
    rows = answer["result"][0]["data"]
    assert rows == [row for part in subtract([asked], missing) for row in true_rows(part)]
    state: str = stitch["state"]
    return state


async def test_what_came_before_a_failure_is_kept(tmp_path: Path, record_property: Any) -> None:
    """An iterator that raises after 99 of 100 records: they are held, and only the rest is asked.

    The answer says what is missing, and why.
    """
    asked = minute(0, NUMBER)
    async with plugged(tmp_path) as hub, hub.client() as wire:
        await hub.load("lengthy")
        commits = Commits(hub.door.hub.holdings)
        answer = await ask(wire, "RAISING", asked)
        assert check_truth(answer, asked) == "partial"
        ((start, _),) = answer["stitch"]["missing"]
        assert len(answer["result"][0]["data"]) >= NUMBER * 99 // 100 - 1
        assert "the line went dead" in answer["stitch"]["why"][0]["message"]
        assert len(commits.seen) >= 4
        hub.door.logged("error")
        assert check_truth(await ask(wire, "RAISING", asked), asked) == "ready"
        first, second = await hub.asked(2)
        assert first.split()[1:] == [format_instant(one)[:16] for one in asked]
        assert second.split()[1] == start[:16]


async def ask(wire: Any, ticker: str, asked: Interval, **envelope: Any) -> dict[str, Any]:
    """Ask a range of the plugin; return the answer."""
    await wire.send(asking_for(ticker, asked, provider="lengthy", data_as="array", **envelope))
    return read(await wire.line())


@pytest.mark.parametrize("way", ["LIST", "FRAME", "EACH"])
async def test_a_long_answer_is_stored_in_several_commits(tmp_path: Path, way: str) -> None:
    """However a plugin hands it over, others have their turns between them."""
    asked = minute(0, NUMBER)
    async with plugged(tmp_path) as hub, hub.client() as wire:
        await hub.load("lengthy")
        commits = Commits(hub.door.hub.holdings)
        assert check_truth(await ask(wire, way, asked), asked) == "ready"
        assert len(commits.seen) >= 4
        assert len(await hub.asked(1)) == 1


@pytest.mark.parametrize("way", ["descending", "back", "woven", "stretches", "pages", "broken"])
async def test_an_iterator_out_of_order_is_never_silently_short(
    tmp_path: Path, way: str, record_property: Any
) -> None:
    """Whatever an iterator does, an answer has all records of what it says it has."""
    asked = minute(0, NUMBER)
    async with plugged(tmp_path) as hub, hub.client() as wire:
        await hub.load("lengthy")
        states = []
        for _ in range(10):
            states.append(check_truth(await ask(wire, way.upper(), asked), asked))
            hub.door.logged("error")
        tell(record_property, states=states)
        assert states[-1] == "ready"


async def test_what_is_held_is_refreshed_as_a_whole(tmp_path: Path) -> None:
    """An iterator goes back where all is held, and would fail if it was asked again."""
    asked = minute(0, NUMBER)
    async with plugged(tmp_path) as hub, hub.client() as wire:
        await hub.load("lengthy")
        assert check_truth(await ask(wire, "BACKING", asked), asked) == "ready"
        assert check_truth(await ask(wire, "BACKING", asked, fresh="now"), asked) == "ready"
        assert check_truth(await ask(wire, "BACKING", asked, fresh="held"), asked) == "ready"


@pytest.mark.slow
@pytest.mark.parametrize("way", ["LIST", "FRAME", "EACH"])
async def test_a_long_fetch_is_hardly_noticed_by_others(
    tmp_path: Path, way: str, record_property: Any
) -> None:
    """300,000 records of a plugin, stored in several commits; what is held is answered beside."""
    number = 300_000
    asked = minute(0, number)
    settings = f"""
[cache]
hot_bytes = "16MiB"
[plugins]
load_s = {PATIENCE_S}
deadline_s = {PATIENCE_S}
"""
    async with (
        running(tmp_path / "hub.db", settings, http="127.0.0.1:0") as server,
        await connect(server.port) as wire,
        httpx.AsyncClient(base_url=server.http, timeout=PATIENCE_S) as client,
    ):
        loaded = await client.post(
            "/plugins/load", json={"file": str(SOURCES / "lengthy.py"), "name": "lengthy"}
        )
        assert loaded.json() == {"ok": True, "name": "lengthy"}
        held, places = Asking(wire, "LIST", provider="lengthy"), count()
        await held(minute(0, 1_000))

        async def one() -> None:
            # In words that were not asked before.
            start, end = minute(next(places) % 800, 100)
            await held(Interval(start + 1 + next(places), end))

        async def fetch(turn: int) -> None:
            ticker = f"{way}-{turn}"
            (size,) = await drain(server.port, [asking_for(ticker, asked, provider="lengthy")])
            assert size > number * 50

        # What the first one makes the process keep is not the others'.
        await fetch(0)
        before = server.watch_peak()
        rounds = await disturbed(one, [partial(fetch, turn) for turn in (1, 2)])
        grown = server.peak - before
        tell(record_property, rounds="; ".join(map(str, rounds)), grown=f"{grown >> 20} MiB")
        assert best(rounds) <= MOST
        # A list comes as a whole: its text and its index. What an iterator yields does not.
        whole = number * (60 + 24)
        assert grown < (64 << 20) + (0 if way == "EACH" else 3 * whole)
