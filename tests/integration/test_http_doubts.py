"""What is in doubt, as operators are told of it over HTTP."""

from __future__ import annotations

from pathlib import Path

from gapless.domain.believing import Doubt, Suspicion
from gapless.protocol.times import parse_instant
from gapless.providers.base import DAY_MS
from gapless.store.base import Change
from support.clock import ManualClock
from support.providers import SteadyProvider
from support.web import web

NOW = parse_instant("2020-02-01", now_ms=0)


async def test_what_is_in_doubt_is_told_until_it_is_asked_for_again(tmp_path: Path) -> None:
    """Coverage tells why and until when; a plan leaves it alone until then, and no longer."""
    clock = ManualClock(NOW)
    steady = SteadyProvider()
    doubt = Doubt(NOW - 20 * DAY_MS, NOW - 10 * DAY_MS, Suspicion.EMPTY, NOW, NOW + 900_000)
    async with web(tmp_path, steady, clock=clock) as opened:
        key = steady.key("A", {})
        await opened.hub.holdings.apply(Change(key, (), doubts=(doubt,), at=NOW))
        told = (await opened.get("/v1/coverage/steady/A")).json()
        assert told["doubts"] == [
            {
                "start": "2020-01-12T00:00:00Z",
                "end": "2020-01-22T00:00:00Z",
                "why": "unconfirmed_empty",
                "since": "2020-02-01T00:00:00Z",
                "next_try": "2020-02-01T00:15:00Z",
            }
        ]
        wanted = {"provider": "steady", "ticker": "A", "start": "2020-01-10", "end": "2020-01-20"}
        plan = await opened.send("POST", "/v1/plan", wanted)
        assert plan["doubted"] == [["2020-01-12T00:00:00Z", "2020-01-20T00:00:00Z"]]
        assert [(gap["start"], gap["end"]) for gap in plan["gaps"]] == [
            ("2020-01-10T00:00:00Z", "2020-01-12T00:00:00Z")
        ]
        clock.advance(900)
        plan = await opened.send("POST", "/v1/plan", wanted)
        assert plan["doubted"] == []
        assert [(gap["start"], gap["end"]) for gap in plan["gaps"]] == [
            ("2020-01-10T00:00:00Z", "2020-01-20T00:00:00Z")
        ]
