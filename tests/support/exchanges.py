"""A hub with both doors open, on shares that are listed at exchanges anywhere.

Upstream is the simulator over real sockets; both go by one clock, which tests move.
"""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import NamedTuple

from gapless.config import YahooSettings
from gapless.protocol.times import parse_instant
from gapless.providers.yahoo import YahooProvider
from gapless.simulator.market import Market
from gapless.simulator.quirks import Quirks
from gapless.simulator.server import YahooSimulator
from support.clock import ManualClock
from support.web import Web, web
from support.wire import PATIENCE_S


class Exchange(NamedTuple):
    """The hub, what it asks, and the clock of both."""

    hub: Web
    sim: YahooSimulator
    clock: ManualClock
    market: Market

    @property
    def asked(self) -> int:
        """How many requests upstream got."""
        return len(self.sim.requests)


@asynccontextmanager
async def exchange(
    folder: Path, market: Market, now: str, quirks: Quirks | None = None
) -> AsyncIterator[Exchange]:
    """Open a hub in a folder, at an instant."""
    clock = ManualClock(parse_instant(now, now_ms=0))
    async with YahooSimulator(
        market, clock=lambda: clock.now_ms() / 1000, quirks=quirks or Quirks()
    ) as sim:
        settings = YahooSettings(
            base_url=sim.base_url, fallback_url=None, rate=1000.0, burst=1000, timeout_s=PATIENCE_S
        )
        yahoo = YahooProvider(settings, monotonic=clock.monotonic)
        async with web(folder, yahoo, clock=clock) as opened:
            yield Exchange(opened, sim, clock, market)
