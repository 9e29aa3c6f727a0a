"""A hub that has the provider of bars.py in its own process: the yardstick of a plugin's.

`python inside.py --db FILE --tcp HOST:PORT --http HOST:PORT`. It does what a careful provider of
a hub's own would: the frame is made into a run in a thread, by the very functions that a plugin's
process has for it, so that what differs is the process.
"""

from __future__ import annotations

import argparse
import asyncio
from collections.abc import AsyncIterator, Mapping
from contextlib import asynccontextmanager
from typing import Any

import uvloop
from gapless.app import RunningHub, running_hub, tune_malloc, tune_threads
from gapless.cli.serve import serve_until_signal
from gapless.config import Settings
from gapless.domain.blocks import Run
from gapless.domain.intervals import Interval
from gapless.domain.series import SeriesKey
from gapless.observability import configure_logging
from gapless.providers.base import DueMoments, Fetched, Pace, ProviderInfo, Traits
from gapless.providers.plugins.records import RecordSink

from bars import MINUTE_S, PACE, START_S, bars

MOST_BYTES = 256 << 20


class InsideBars:
    """The bars as a provider among those that are built in."""

    @property
    def info(self) -> ProviderInfo:
        """What it declares; the same as the plugin."""
        return ProviderInfo(
            name="bars",
            title="One-minute bars made by arithmetic",
            params=(),
            columns=("open", "high", "low", "close", "adjclose", "volume"),
            pace=Pace(PACE, PACE),
            data_start=START_S * 1000,
        )

    def key(self, ticker: str, params: Mapping[str, str]) -> SeriesKey:
        """The key; any ticker will do."""
        return SeriesKey.of("bars", ticker, params)

    def traits(self, key: SeriesKey) -> Traits:
        """A minute a bar."""
        return Traits(bar=MINUTE_S * 1000)

    async def fetch(
        self, key: SeriesKey, interval: Interval, now_ms: int, meta: Mapping[str, Any]
    ) -> Fetched:
        """The bars of `interval`, made in a thread."""
        return Fetched(ready=await asyncio.to_thread(_run, key.ticker, interval))

    def session_closed(self, meta: Mapping[str, Any], since_ms: int, until_ms: int) -> bool:
        """Never: nothing is revised."""
        return False

    def due_moments(self, meta: Mapping[str, Any], now_ms: int) -> DueMoments:
        """Every 24 hours, as where no sessions are known."""
        return DueMoments.daily(now_ms)

    async def aclose(self) -> None:
        """There is nothing to let go of."""


def _run(ticker: str, interval: Interval) -> Run:
    sink = RecordSink("timestamp", interval.start, interval.end, MOST_BYTES)
    sink.take(bars(ticker, interval.start // 1000, interval.end // 1000))
    return sink.run()


@asynccontextmanager
async def with_bars(settings: Settings) -> AsyncIterator[RunningHub]:
    """Run a hub with one provider more."""
    async with running_hub(settings) as running:
        running.hub.registry.put(InsideBars())
        yield running


def main() -> None:
    """Run the hub until a signal ends it."""
    parser = argparse.ArgumentParser(description=__doc__)
    for flag in ("--db", "--tcp", "--http"):
        parser.add_argument(flag, required=True)
    asked = parser.parse_args()
    settings = Settings(db=asked.db, tcp=asked.tcp, http=asked.http)
    configure_logging(settings.log.level, settings.log.format)
    tune_malloc()
    tune_threads()
    uvloop.run(serve_until_signal(settings, with_bars))


if __name__ == "__main__":
    main()
