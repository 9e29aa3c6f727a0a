"""Who may only read gets what is held and the truth about the rest, and causes no request."""

from __future__ import annotations

import asyncio
from pathlib import Path
from typing import Any

from gapless.providers.base import Pace
from support.clock import HeldClock, ManualClock
from support.people import person
from support.plugins import until
from support.providers import SteadyProvider
from support.web import web
from support.wire import (
    PATIENCE_S,
    PATIENT,
    Door,
    but,
    connect,
    door,
    line_of,
    records,
    request,
    search,
)

JANUARY = ("2024-01-01", "2024-02-01")
WIDER = ("2023-12-01", "2024-03-01")
PATH = f"/v1/data/steady/ABC?start={WIDER[0]}&end={WIDER[1]}"
# So many turns come in the time that a request has.
TURNS = 60
SLOW = Pace(rate=TURNS / PATIENCE_S, burst=1)


async def test_a_gap_is_told_and_not_fetched(tmp_path: Path) -> None:
    """Held records are answered as partial; with none held it is forbidden; `fetch` fills it."""
    steady = SteadyProvider()
    async with web(tmp_path, steady, auth=True) as opened:
        reader = await person(opened.authority, "read")
        fetcher = await person(opened.authority, "fetch")
        async with await connect(opened.tcp_port) as wire:
            nothing = await wire.ask(search("steady", "ABC", *WIDER), token=reader.pair.access)
            assert nothing["error"]["code"] == "forbidden"
            assert "scope fetch" in nothing["error"]["message"]
            assert (await opened.client.get(PATH, headers=reader.bearer)).status_code == 403
            assert steady.calls == []
            await wire.ask(search("steady", "ABC", *JANUARY), token=fetcher.pair.access)
            assert len(steady.calls) == 1
            partial = await wire.ask(search("steady", "ABC", *WIDER), token=reader.pair.access)
            assert len(records(partial)) == 31
            stitch = partial["stitch"]
            assert stitch["state"] == "partial"
            assert {one["reason"] for one in stitch["why"]} == {"forbidden"}
            assert len(stitch["missing"]) == 2
            strict = await wire.ask(
                search("steady", "ABC", *WIDER), token=reader.pair.access, strict=True
            )
            assert not strict["ok"]
            for method in ("GET", "HEAD"):
                response = await opened.client.request(method, PATH, headers=reader.bearer)
                assert response.status_code == 200
                assert response.headers["gapless-state"] == "partial"
                assert "forbidden" in response.headers["gapless-why"]
            assert len(steady.calls) == 1
            # What a reader was answered is nobody else's answer, kept ready or not.
            for method in ("HEAD", "GET"):
                response = await opened.client.request(method, PATH, headers=fetcher.bearer)
                assert response.headers["gapless-state"] == "ready"
            assert len(steady.calls) == 3
            whole = await wire.ask(search("steady", "ABC", *WIDER), token=reader.pair.access)
            assert whole["stitch"]["state"] == "ready"


async def test_what_is_due_is_served_stale(tmp_path: Path) -> None:
    """A reader gets it as it was, and is told so."""
    clock = ManualClock(1_704_100_000_000)
    steady = SteadyProvider(tail_ms=86_400_000)
    async with door(tmp_path, steady, auth=True, clock=clock) as opened:
        reader = await person(opened.authority, "read")
        fetcher = await person(opened.authority, "fetch")
        line = search("steady", "ABC", "2023-12-01", "now")
        async with opened.client() as client:
            assert (await client.ask(line, token=fetcher.pair.access))["ok"]
            clock.advance(120)
            answer = await client.ask(line, token=reader.pair.access)
            assert answer["stitch"]["state"] in ("stale", "partial")
            assert {one["reason"] for one in answer["stitch"]["why"]} == {"forbidden"}
            assert len(steady.calls) == 1


async def test_what_others_are_fetching_is_waited_for(tmp_path: Path) -> None:
    """A reader causes nothing by waiting for what is on its way."""
    steady = SteadyProvider()
    gate = steady.hold("ABC")
    async with door(tmp_path, steady, auth=True) as opened:
        reader = await person(opened.authority, "read")
        fetcher = await person(opened.authority, "fetch")
        async with opened.client() as one, opened.client() as two:
            line = search("steady", "ABC", *JANUARY)
            first = asyncio.ensure_future(one.ask(line, token=fetcher.pair.access))
            await gate.arrived.wait()
            token = reader.pair.access
            await two.send(line_of(line, token=token))
            await two.send(line_of({"type": "Ping"}, ordered=False))
            # The answer to what was sent after it tells that it has come.
            assert (await two.answer())["kind"] == "Ping"
            gate.open.set()
            assert (await first)["ok"]
            assert (await two.answer())["ok"]
            assert len(steady.calls) == 1


async def test_other_ways_to_go_upstream(tmp_path: Path) -> None:
    """By an id that is read as a ticker, by a refresh, by a report: none of them does."""
    steady = SteadyProvider()
    async with web(tmp_path, steady, auth=True) as opened:
        reader = await person(opened.authority, "read")
        async with await connect(opened.tcp_port) as wire:
            for query in (
                request("steady", "GetEntity", id="ABC"),
                request("steady", "GetReport", url="http://127.0.0.1/"),
                {"type": "Line", "payload": {"line": "provider steady search ticker=ABC"}},
            ):
                answer = await wire.ask(query, token=reader.pair.access)
                assert answer["error"]["code"] == "forbidden", answer
        body = {"provider": "steady", "ticker": "ABC", "start": JANUARY[0], "end": JANUARY[1]}
        response = await opened.client.post("/v1/refresh", json=body, headers=reader.bearer)
        assert response.status_code == 403
        response = await opened.client.post("/v1/plan", json=body, headers=reader.bearer)
        assert response.status_code == 200
        assert steady.calls == []


async def test_a_backfill_does_not_starve_the_others(tmp_path: Path) -> None:
    """One user asks for three hundred tickers, another for one: it has its turn at once.

    What is more than the pace allows in the time that a request has is `overloaded`, and says
    when to come again.
    """
    steady, clock = SteadyProvider(pace=SLOW), HeldClock(1_790_000_000_000)
    settings = but(PATIENT, access={"rate": 0})
    async with door(tmp_path, steady, auth=True, settings=settings, clock=clock) as opened:
        ann = await person(opened.authority, "fetch", "ann@example.com")
        bob = await person(opened.authority, "fetch", "bob@example.com")
        async with opened.client() as client:
            await client.ask({"type": "Auth"}, token=bob.pair.access)
            backfill = [
                asyncio.ensure_future(asked(opened.port, ann.pair.access, f"T{number}"))
                for number in range(300)
            ]
            # One is fetched, so many wait for the clock, and all others are refused at once.
            await until(lambda: sum(one.done() for one in backfill) == 300 - TURNS)
            at_once = [one.result() for one in backfill if one.done()]
            for number in range(5):
                await client.send(line_of(search("steady", f"B{number}", *JANUARY), ordered=False))
            await until(lambda: waiting(opened, steady) == [5, TURNS])
            clock.running.set()
            for _ in range(5):
                assert (await client.answer())["ok"]
        answers = await asyncio.gather(*backfill)
    # Each of Bob's comes after one of Ann's, the first of which waited for nobody.
    turns = [call.ticker[0] for call in steady.calls]
    assert turns[:11] == ["T", *"TB" * 5]
    # As often as Bob has had a turn, one of Ann's does not come in time any more.
    assert sum(one["ok"] for one in answers) == 1 + TURNS - 5
    errors = [one["error"] for one in at_once if not one["ok"]]
    assert len(errors) == 300 - TURNS - 1
    assert {error["code"] for error in errors} == {"overloaded"}
    assert all(error["retry_after_s"] > 0 for error in errors)
    assert "requests of yours wait for steady" in errors[0]["message"]


def waiting(opened: Door, steady: SteadyProvider) -> list[int]:
    """Return how many requests of each user wait for their turn, the fewest first."""
    return sorted(map(len, opened.hub.upstream(steady)._turns._queues.values()))


async def asked(port: int, token: str, ticker: str) -> dict[str, Any]:
    """Ask for a ticker of a backfill on a connection of its own."""
    async with await connect(port) as wire:
        return await wire.ask(search("steady", ticker, *JANUARY), token=token)


async def test_what_one_user_asks_too_much_of_fails_nobody_else(tmp_path: Path) -> None:
    """Who wants the very same as a user who is over their share has it all the same.

    What has been refused to the other, and what the other waits for yet.
    """
    steady, clock = SteadyProvider(pace=SLOW), HeldClock(1_790_000_000_000)
    async with door(tmp_path, steady, auth=True, clock=clock) as opened:
        ann = await person(opened.authority, "fetch", "ann@example.com")
        bob = await person(opened.authority, "fetch", "bob@example.com")
        backfill = {
            f"T{number}": asyncio.ensure_future(asked(opened.port, ann.pair.access, f"T{number}"))
            for number in range(TURNS + 20)
        }
        await until(lambda: sum(one.done() for one in backfill.values()) == 20)
        refused = [name for name, one in backfill.items() if one.done() and not one.result()["ok"]]
        waits = [name for name, one in backfill.items() if not one.done()]
        assert (len(refused), len(waits)) == (19, TURNS)
        wanted = [
            asyncio.ensure_future(asked(opened.port, bob.pair.access, name))
            for name in (*refused[:3], *waits[-3:])
        ]
        await until(lambda: waiting(opened, steady) == [6, TURNS])
        clock.running.set()
        answers = await asyncio.gather(*wanted)
        assert all(answer["ok"] for answer in answers), answers
        await asyncio.gather(*backfill.values())
