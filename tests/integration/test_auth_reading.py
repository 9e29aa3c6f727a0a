"""Who may only read gets what is held and the truth about the rest, and causes no request."""

from __future__ import annotations

import asyncio
from pathlib import Path
from typing import Any

from gapless.auth.authority import AuthLimits
from gapless.hub.hub import Options
from gapless.hub.upstream import Limits
from gapless.providers.base import Pace
from support.clock import ManualClock
from support.people import person
from support.providers import SteadyProvider
from support.web import web
from support.wire import connect, connections, door, line_of, records, request, search

JANUARY = ("2024-01-01", "2024-02-01")
WIDER = ("2023-12-01", "2024-03-01")
PATH = f"/v1/data/steady/ABC?start={WIDER[0]}&end={WIDER[1]}"


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
    pace = Pace(rate=20, burst=1)
    steady = SteadyProvider(pace=pace)
    options = Options(upstream=Limits(deadline=3.0, breaker_failures=10**6))
    limits = AuthLimits(requests_per_s=0)
    async with door(tmp_path, steady, auth=True, options=options, auth_limits=limits) as opened:
        ann = await person(opened.authority, "fetch", "ann@example.com")
        bob = await person(opened.authority, "fetch", "bob@example.com")
        async with connections(opened.port, 2) as (one, two):
            await one.ask({"type": "Auth"}, token=ann.pair.access)
            await two.ask({"type": "Auth"}, token=bob.pair.access)
            loop = asyncio.get_running_loop()
            backfill = asyncio.ensure_future(
                asyncio.gather(
                    *(
                        asked(opened.port, ann.pair.access, f"T{number}", chunk)
                        for chunk in range(3)
                        for number in range(100)
                    )
                )
            )
            await steady.arrivals.get()
            started = loop.time()
            for number in range(5):
                answer = await two.ask(search("steady", f"B{number}", *JANUARY))
                assert answer["ok"], answer
            took = loop.time() - started
            answers = await backfill
        # Each of Bob's comes after one of Ann's: five of them take ten turns.
        assert took < 1.5, took
        codes = [None if one["ok"] else one["error"]["code"] for one in answers]
        assert set(codes) == {None, "overloaded"}
        assert codes.count(None) >= 30
        errors = [one["error"] for one in answers if not one["ok"]]
        assert all(error["retry_after_s"] > 0 for error in errors)
        assert "requests of yours wait for steady" in errors[0]["message"]


async def asked(port: int, token: str, ticker: str, chunk: int) -> dict[str, Any]:
    """Ask for a ticker of a backfill on a connection of its own."""
    async with await connect(port) as wire:
        return await wire.ask(search("steady", f"{ticker}-{chunk}", *JANUARY), token=token)


async def test_what_one_user_asks_too_much_of_fails_nobody_else(tmp_path: Path) -> None:
    """Who waits for the very same gap as a user who is over their share has it all the same."""
    steady = SteadyProvider(pace=Pace(rate=10, burst=1))
    options = Options(upstream=Limits(deadline=1.5, breaker_failures=10**6))
    async with door(tmp_path, steady, auth=True, options=options) as opened:
        ann = await person(opened.authority, "fetch", "ann@example.com")
        bob = await person(opened.authority, "fetch", "bob@example.com")
        backfill = [
            asyncio.ensure_future(asked(opened.port, ann.pair.access, f"T{number}", 0))
            for number in range(40)
        ]
        await steady.arrivals.get()
        answers = await asyncio.gather(
            *(asked(opened.port, bob.pair.access, f"T{number}", 0) for number in (35, 36, 37))
        )
        assert all(answer["ok"] for answer in answers), answers
        await asyncio.gather(*backfill)
