"""An upstream whose records say which request brought them, and that answers when it is told to.

A real provider of a real hub; no mock of anything. What is stored can so be told from what was
asked for: each record has the number of its request and the edition that it is of.
"""

from __future__ import annotations

import asyncio
from collections import defaultdict
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from gapless.domain.comparing import Basis
from gapless.domain.intervals import Interval
from gapless.domain.series import SeriesKey
from gapless.errors import UpstreamRejected
from gapless.instants import DAY_MS
from gapless.providers.base import DueMoments, Fetched, Pace, ProviderInfo, Record, Traits

# 2020-01-01, a Wednesday; all that is asked lies behind this hub's present.
START_MS = 1_577_836_800_000
BASIS = Basis(prices=("open", "close"), adjusted=None, volume=None)


def days(first: int, end: int) -> Interval:
    """Return the days `[first, end)`, counted from the beginning of the data."""
    return Interval(START_MS + first * DAY_MS, START_MS + end * DAY_MS)


def day(time_ms: int) -> int:
    """Return which day an instant is."""
    return (time_ms - START_MS) // DAY_MS


@dataclass(slots=True, eq=False)
class Call:
    """A request that has reached upstream; what it brings was settled when it came."""

    number: int
    ticker: str
    interval: Interval
    rows: list[Record]
    answer: asyncio.Future[None] = field(repr=False)


class Editions:
    """A record a day, of the edition that `revise` has brought its day to.

    Requests wait until `release` or `refuse`; while `open` is set they do not.
    """

    def __init__(self, name: str = "editions", *, revises: bool = True) -> None:
        self.open = False
        self.count = 0
        self.waiting: list[Call] = []
        self._editions: dict[str, dict[int, int]] = defaultdict(lambda: defaultdict(int))
        self._info = ProviderInfo(
            name=name,
            title="Records that say where they are from",
            params=(),
            columns=("open", "close", "asked"),
            pace=Pace(rate=100_000, burst=100_000),
            data_start=START_MS,
            revises=revises,
            basis=BASIS if revises else None,
        )

    @property
    def info(self) -> ProviderInfo:
        return self._info

    def key(self, ticker: str, params: Mapping[str, str]) -> SeriesKey:
        return SeriesKey.of(self._info.name, ticker, params)

    def traits(self, key: SeriesKey) -> Traits:
        return Traits(bar=DAY_MS)

    def number(self) -> int:
        """Count something that happens, a request or another thing; return its number."""
        self.count += 1
        return self.count

    def revise(self, ticker: str, first: int, end: int) -> None:
        """Let upstream say something else of the days `[first, end)` from now on."""
        for one in range(first, end):
            self._editions[ticker][one] += 1

    def edition(self, ticker: str, one: int) -> int:
        """Return which edition of a day upstream serves now."""
        return self._editions[ticker][one]

    async def fetch(
        self, key: SeriesKey, interval: Interval, now_ms: int, meta: Mapping[str, Any]
    ) -> Fetched:
        number = self.number()
        first = day(interval.start + DAY_MS - 1)
        end = day(interval.end + DAY_MS - 1)
        rows = [self._row(key.ticker, one, number) for one in range(first, end)]
        call = Call(number, key.ticker, interval, rows, asyncio.get_running_loop().create_future())
        if not self.open:
            self.waiting.append(call)
            await call.answer
        return Fetched(call.rows)

    def due_moments(self, meta: Mapping[str, Any], now_ms: int) -> DueMoments:
        return DueMoments.daily(now_ms)

    def release(self, call: Call) -> None:
        """Let a request have what was settled when it came."""
        self.waiting.remove(call)
        call.answer.set_result(None)

    def refuse(self, call: Call) -> None:
        """Let a request fail."""
        self.waiting.remove(call)
        call.answer.set_exception(UpstreamRejected("not now"))

    async def aclose(self) -> None:
        """Let go of whoever still waits."""
        while self.waiting:
            self.release(self.waiting[0])

    def _row(self, ticker: str, one: int, number: int) -> Record:
        time = days(one, one).start
        values = {"open": 100, "close": 100 + self.edition(ticker, one), "asked": number}
        return Record(time, {"timestamp": time // 1000, **values})
