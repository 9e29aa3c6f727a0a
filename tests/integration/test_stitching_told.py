"""How an answer was put together is told alike over every door."""

from __future__ import annotations

import json
from datetime import date, datetime
from pathlib import Path

from gapless.config import YahooSettings
from gapless.providers.yahoo import YahooProvider
from gapless.simulator.happenings import Restatement
from gapless.simulator.instruments import equity
from gapless.simulator.market import Market
from gapless.simulator.server import YahooSimulator
from support.asking import KINDS, asking
from support.clock import ManualClock
from support.commands import gapless as command
from support.scenes import PRICES, ms, seconds
from support.web import stitch_of, web
from support.wire import PATIENCE_S, PATIENT, but, connect, search

MAY = ("2026-05-01", "2026-06-01")
TARGET = f"/v1/data/yahoo_finance/ACME?start={MAY[0]}&end={MAY[1]}"
ASKED = search("yahoo_finance", "ACME", *MAY)


async def test_when_upstream_changed_what_was_final_is_told(tmp_path: Path) -> None:
    """Nowhere before it has, and over every door after it was seen; for pieces and pages, too."""
    clock = ManualClock(ms("2026-06-10T20:30"))
    market = Market([equity("ACME")], prices=PRICES)
    market.add(Restatement("ACME", date(2026, 5, 13), seconds("2026-06-11T12:00"), close=1.01))
    settings = but(PATIENT, limits={"max_records": 15})
    async with YahooSimulator(market, clock=lambda: clock.now_ms() / 1000) as sim:
        yahoo = YahooSettings(
            base_url=sim.base_url, fallback_url=None, rate=1000.0, burst=1000, timeout_s=PATIENCE_S
        )
        provider = YahooProvider(yahoo, monotonic=clock.monotonic)
        async with (
            web(tmp_path, provider, clock=clock, settings=settings) as opened,
            await connect(opened.tcp_port) as wire,
        ):
            first = await wire.ask(ASKED, inline_records=0)
            assert "changed_at" not in first["stitch"]
            assert "gapless-changed-at" not in (await opened.get(TARGET)).headers
            clock.set_wall(ms("2026-06-12T14:00"))
            seen = await wire.ask(ASKED, inline_records=0)
            told = seen["stitch"]["changed_at"]
            assert told.startswith("2026-06-12T14:00:00")
            again = await wire.ask(ASKED, inline_records=0)
            assert again["stitch"]["changed_at"] == told
            page = await opened.get(f"{TARGET}&limit=5")
            assert page.headers["gapless-changed-at"] == told
            assert stitch_of(page.headers)["state"] == "ready"
            for kind in KINDS:
                for http in (None, False):
                    async with asking(kind, opened.tcp_port, http=http) as hub:
                        found = await hub.search("yahoo_finance", "ACME", *MAY)
                    assert len(found) == 21
                    assert found.stitch.changed_at == datetime.fromisoformat(told)
            # What lies beside it has not been changed.
            june = await wire.ask(search("yahoo_finance", "ACME", "2026-05-20", MAY[1]))
            assert "changed_at" not in june["stitch"]
            line = f"provider yahoo_finance search ticker=ACME date=2026-05-10..{MAY[1]}"
            address = ("--tcp", f"127.0.0.1:{opened.tcp_port}")
            done = await command("shell", *address, stdin=f":format table\n{line}\n")
            assert "USD, changed upstream 2026-06-12 14:00" in " ".join(done.out.split())


async def test_why_what_is_held_is_stale_is_told_over_both_doors(tmp_path: Path) -> None:
    """By the same word, in the stitch and in a header."""
    clock = ManualClock(ms("2026-06-10T20:30"))
    async with YahooSimulator(
        Market([equity("ACME")], prices=PRICES), clock=lambda: clock.now_ms() / 1000
    ) as sim:
        provider = YahooProvider(YahooSettings(base_url=sim.base_url, fallback_url=None))
        async with (
            web(tmp_path, provider, clock=clock) as opened,
            await connect(opened.tcp_port) as wire,
        ):
            await wire.ask(ASKED)
            clock.set_wall(ms("2026-06-13T20:30"))
            over_tcp = (await wire.ask(ASKED, fresh="held"))["stitch"]["why"]
            over_http = (await opened.get(f"{TARGET}&fresh=held")).headers["gapless-why"]
            assert json.loads(over_http) == over_tcp
            assert [one["reason"] for one in over_tcp] == ["check_pending"]
