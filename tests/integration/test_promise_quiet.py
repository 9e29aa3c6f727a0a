"""While nothing happens upstream, the hub keeps the promise of `ready` to the letter."""

from __future__ import annotations

import asyncio
from datetime import UTC, date, datetime
from pathlib import Path

import pytest

from gapless.hub.answers import Answer
from gapless.simulator.instruments import coin, currency_pair, equity
from gapless.simulator.market import Market
from gapless.simulator.prices import RandomWalk
from gapless.simulator.quirks import Quirks
from gapless.store.sqlite import open_store
from support.promise import Promise
from support.telling import told
from support.told import Facts
from support.world import World, request

HOUR, DAY = 3600, 86_400
MARKET = Market(
    [
        equity("AAA", first_trade=date(2024, 1, 2)),
        equity("ALL.AX", tz="Australia/Sydney", hours=(10 * HOUR, 16 * HOUR)),
        currency_pair("EURUSD=X"),
        coin("BTC-USD"),
    ],
    prices=RandomWalk(7),
)
BEGIN = datetime(2025, 3, 12, 16, 7, 13, tzinfo=UTC).timestamp()
"""A Wednesday, the New York session open."""


@pytest.mark.share(5)
@pytest.mark.parametrize(("interval", "days"), [("1d", 60), ("1h", 20), ("15m", 6), ("1wk", 100)])
@pytest.mark.parametrize("symbol", MARKET.symbols)
async def test_a_quiet_upstream_is_answered_as_promised(
    tmp_path: Path, symbol: str, interval: str, days: int
) -> None:
    """Minutes, hours and days apart, with a live row beside its duplicate."""
    template = tmp_path / "template.db"
    store = await asyncio.to_thread(open_store, template)
    await store.close()
    market = MARKET.fresh()
    quirks = Quirks(live_duplicate=True, live_in_period="included")
    world = World(market, BEGIN, tmp_path, template, quirks)
    instrument = market.instrument(symbol)
    assert instrument is not None
    facts = Facts.of(instrument)
    promise = Promise(market, world.sim.requests)
    await world.open()
    try:
        for later in (0, 60, 400, 1000, HOUR, 7 * HOUR, DAY, 3 * DAY, 3 * DAY + 300):
            world.clock.now_s = BEGIN + later
            t0 = world.clock.now_ms()
            start = (t0 // 1000 - days * DAY) * 1000
            answer = await world.hub.answer(
                world.hub.question(request(symbol, interval, start, t0 // 1000 * 1000))
            )
            assert isinstance(answer, Answer)
            assert answer.state == "ready"
            promise.check(told(answer, t0, world.clock.now_ms(), facts))
    finally:
        await world.close()
