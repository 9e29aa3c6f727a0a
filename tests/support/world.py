"""A hub and a living upstream on one clock, and a ledger of what passed between them.

The upstream is the simulator over real sockets, the hub and its database are the real ones. Time
belongs to the world: waiting moves it on at once.
"""

from __future__ import annotations

import asyncio
import shutil
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any
from zoneinfo import ZoneInfo

from gapless.config import Settings, YahooSettings
from gapless.domain.blocks import Run
from gapless.domain.coverage import Coverage
from gapless.domain.intervals import Interval
from gapless.domain.series import SeriesKey
from gapless.hub.answers import Answer
from gapless.hub.hub import Hub
from gapless.hub.upstream import UpstreamCall
from gapless.instants import format_instant
from gapless.protocol.fresh import Fresh
from gapless.protocol.messages import DateRange, Param, ProviderRequest, SearchEntities, Ticker
from gapless.providers.registry import Registry
from gapless.providers.yahoo import YahooProvider
from gapless.providers.yahoo_sessions import request_range
from gapless.simulator.market import Market
from gapless.simulator.quirks import Quirks
from gapless.simulator.server import YahooSimulator
from gapless.store.base import Change, Snapshot
from gapless.store.sql import SqlStore
from gapless.store.sqlite import open_store
from support.history import Bounds
from support.stores import store_of
from support.wire import PATIENCE_S


class WorldClock:
    """The hub's and the simulator's time; sleeping moves it on without waiting."""

    def __init__(self, now_s: float) -> None:
        self.now_s = now_s

    def __call__(self) -> float:
        return self.now_s

    def now_ms(self) -> int:
        return round(self.now_s * 1000)

    def monotonic(self) -> float:
        return self.now_s

    async def sleep(self, seconds: float) -> None:
        # Whole milliseconds, for the hub knows no others.
        self.now_s = round(self.now_s + seconds, 3)
        await asyncio.sleep(0)


@dataclass(frozen=True, slots=True)
class Kept:
    """An interval as a change left it: when it was planned and stored, what it says."""

    interval: Interval
    planned: int
    stored: int
    coverage: tuple[Coverage, ...]
    times: tuple[int, ...]


@dataclass(slots=True)
class Ledger:
    """What the hub stored of each series, in order."""

    kept: dict[SeriesKey, list[Kept]] = field(default_factory=dict)
    version: dict[SeriesKey, int] = field(default_factory=dict)
    _noted: asyncio.Event = field(default_factory=asyncio.Event)

    def note(self, change: Change, version: int, now: int) -> None:
        """Write down the change that led to this version of its series."""
        key = change.key
        self.version[key] = version
        for one in change.replacements:
            self.kept.setdefault(key, []).append(
                Kept(
                    one.interval,
                    change.at,
                    now,
                    one.coverage,
                    tuple(one.run.times),
                )
            )
        self._noted.set()
        self._noted = asyncio.Event()

    async def reach(self, key: SeriesKey, version: int) -> None:
        """Wait until the change that led to this version is written down.

        Whoever reads the database sees a change from its commit on, which may be before the word
        of it has come back from the thread that made it. Nothing later is written down by then:
        that takes another way to the thread and back.
        """
        while self.version.get(key, 0) < version:
            await self._noted.wait()

    def last(self, key: SeriesKey, time: int) -> Kept | None:
        """Return what was last stored over an instant."""
        for kept in reversed(self.kept.get(key, [])):
            if kept.interval.start <= time < kept.interval.end:
                return kept
        return None


class LedgerStore:
    """The real store, with each change that it made written down."""

    def __init__(self, store: SqlStore, ledger: Ledger, clock: WorldClock) -> None:
        self._store = store
        self._ledger = ledger
        self._clock = clock

    def __getattr__(self, name: str) -> Any:
        return getattr(self._store, name)

    async def apply(self, change: Change) -> Snapshot:
        snapshot = await self._store.apply(change)
        self._ledger.note(change, snapshot.state.version, self._clock.now_ms())
        return snapshot

    async def runs(self, numbers: Sequence[int]) -> Mapping[int, Run]:
        return await self._store.runs(numbers)


class World:
    """One hub, one upstream, one clock; `ahead_s`: by how much upstream's is ahead of it."""

    def __init__(
        self,
        market: Market,
        start_s: float,
        folder: Path,
        template: Path,
        quirks: Quirks | None = None,
        alternate_edges: bool = False,
    ) -> None:
        self.market = market
        self.clock = WorldClock(start_s)
        self.ahead_s = 0.0
        self.sim = YahooSimulator(
            market, clock=self.upstream_s, quirks=quirks, alternate_edges=alternate_edges
        )
        self.ledger = Ledger()
        self.asked: list[UpstreamCall] = []
        self.wanted: dict[Bounds, tuple[int, int]] = {}
        self.folder = folder
        self.template = template
        self.path = folder / "world.db"
        self.hub: Hub

    def upstream_s(self) -> float:
        """Return the instant that it is upstream, UTC seconds."""
        return self.clock.now_s + self.ahead_s

    async def open(self) -> None:
        await self.sim.__aenter__()
        await asyncio.to_thread(shutil.copyfile, self.template, self.path)
        self.hub = await self._hub(self.path, self.ledger)

    async def close(self) -> None:
        if hasattr(self, "hub"):
            await self._shut(self.hub)
        await self.sim.__aexit__(None, None, None)

    async def restart(self) -> None:
        """End the hub and begin another on the same database."""
        await self._shut(self.hub)
        self.hub = await self._hub(self.path, self.ledger)

    async def fresh(self, request: ProviderRequest) -> Answer:
        """Return what a hub on an empty database answers now."""
        path = self.folder / "fresh.db"
        await asyncio.to_thread(shutil.copyfile, self.template, path)
        hub = await self._hub(path, Ledger(), watched=False)
        try:
            answer = await hub.answer(hub.question(request))
            assert isinstance(answer, Answer)
            return answer
        finally:
            await self._shut(hub)
            await asyncio.to_thread(path.unlink)

    async def _hub(self, path: Path, ledger: Ledger, watched: bool = True) -> Hub:
        store = await asyncio.to_thread(open_store, path)
        urls = self.sim.base_urls
        settings = YahooSettings(
            base_url=urls[0],
            fallback_url=urls[1] if len(urls) > 1 else None,
            rate=1000.0,
            burst=1000,
            timeout_s=PATIENCE_S,
        )
        provider = YahooProvider(settings, monotonic=self.clock.monotonic)
        return Hub(
            LedgerStore(store, ledger, self.clock),
            Registry([provider]),
            self.clock,
            Settings(),
            observe=self._observed if watched else lambda asked: None,
            seed=0,
        )

    def _observed(self, asked: UpstreamCall) -> None:
        """Write down a request, and under which bounds upstream has seen it."""
        self.asked.append(asked)
        ticker, interval = asked.key.ticker, asked.key.param("interval", "1d")
        what = self.market.instrument(ticker)
        for zone in (None, None if what is None else ZoneInfo(what.tz)):
            bounds = request_range(interval, asked.interval, zone)
            self.wanted[ticker, interval, *bounds] = asked.interval

    async def _shut(self, hub: Hub) -> None:
        await hub.close()
        await store_of(hub).close()


def request(
    ticker: str, interval: str, start_ms: int, end_ms: int, fresh: Fresh | None = None
) -> ProviderRequest:
    """Return the range search that asks the Yahoo provider for this, as fresh as a word says."""
    return ProviderRequest(
        "yahoo_finance",
        SearchEntities(
            (
                Ticker(ticker),
                DateRange(format_instant(start_ms), format_instant(end_ms)),
                Param("interval", interval),
            )
        ),
        fresh=fresh,
    )
