"""A small provider that tests hold up, let fail and ask what it was asked; no mock of anything.

Its records follow from ticker and time alone, so what an answer must hold is known beforehand.
"""

from __future__ import annotations

import asyncio
import zlib
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, NamedTuple

from gapless.domain.intervals import Interval
from gapless.domain.series import SeriesKey
from gapless.errors import InvalidQuery
from gapless.instants import format_instant
from gapless.protocol.times import parse_instant
from gapless.providers.base import (
    DAY_MS,
    DueMoments,
    Fetched,
    Pace,
    Param,
    ProviderInfo,
    Provisional,
    Record,
    Traits,
    canonical_params,
)

START_MS = parse_instant("2020-01-01", now_ms=0)


class Call(NamedTuple):
    """One request that reached the provider."""

    ticker: str
    interval: Interval


@dataclass(slots=True)
class Gate:
    """A ticker that is held up: `arrived` is set by the first request, which waits for `open`."""

    arrived: asyncio.Event = field(default_factory=asyncio.Event)
    open: asyncio.Event = field(default_factory=asyncio.Event)


class SteadyProvider:
    """A record every `step` ms since 2020; nothing is ever revised.

    `failures`: what is raised, by ticker or by where the asked interval begins. `padding`: letters
    that each record carries besides. `tail_ms`, `due_in_ms`: how much before now is provisional,
    and when that is due.
    """

    def __init__(
        self,
        name: str = "steady",
        *,
        step: int = DAY_MS,
        padding: int = 0,
        pace: Pace = Pace(rate=100_000, burst=100_000),  # noqa: B008  # frozen
        tail_ms: int = 0,
        due_in_ms: int = 60_000,
    ) -> None:
        self.step = step
        self.padding = "x" * padding
        self.tail_ms = tail_ms
        self.due_in_ms = due_in_ms
        self.calls: list[Call] = []
        self.failures: dict[str, Exception] = {}
        self.arrivals: asyncio.Queue[str] = asyncio.Queue()
        self._gates: dict[str, Gate] = {}
        self._info = ProviderInfo(
            name=name,
            title="A record at every step",
            params=(Param("side", default="left", choices=("left", "right")),),
            columns=("value", "note"),
            pace=pace,
            data_start=START_MS,
        )

    @property
    def info(self) -> ProviderInfo:
        return self._info

    def key(self, ticker: str, params: Mapping[str, str]) -> SeriesKey:
        if not ticker.strip():
            raise InvalidQuery(f"{self._info.name}: an empty ticker means nothing")
        return SeriesKey.of(
            self._info.name, ticker.strip().upper(), canonical_params(self._info, params)
        )

    def traits(self, key: SeriesKey) -> Traits:
        return Traits(bar=self.step)

    def hold(self, ticker: str) -> Gate:
        """Let requests for this ticker wait until the gate is opened."""
        return self._gates.setdefault(ticker, Gate())

    async def fetch(
        self, key: SeriesKey, interval: Interval, now_ms: int, meta: Mapping[str, Any]
    ) -> Fetched:
        self.calls.append(Call(key.ticker, interval))
        self.arrivals.put_nowait(key.ticker)
        gate = self._gates.get(key.ticker)
        if gate is not None:
            gate.arrived.set()
            await gate.open.wait()
        failure = self.failures.get(key.ticker) or self.failures.get(format_instant(interval.start))
        if failure is not None:
            raise failure
        since = max(interval.start, now_ms - self.tail_ms)
        tail = (
            (Provisional(since, interval.end, now_ms + self.due_in_ms),)
            if self.tail_ms and since < interval.end
            else ()
        )
        return Fetched(self.records(key.ticker, interval), tail)

    def due_moments(self, meta: Mapping[str, Any], now_ms: int) -> DueMoments:
        return DueMoments.daily(now_ms)

    async def aclose(self) -> None:
        """Let go of whoever still waits."""
        for gate in self._gates.values():
            gate.open.set()

    def records(self, ticker: str, interval: Interval) -> list[Record]:
        """Return the true records of a range."""
        first = -(-interval.start // self.step) * self.step
        return [
            Record(time, self._row(ticker, time)) for time in range(first, interval.end, self.step)
        ]

    def rows(self, ticker: str, start: str, end: str) -> list[dict[str, Any]]:
        """Return the true records of a range as an answer tells them."""
        bounds = (parse_instant(start, now_ms=0), parse_instant(end, now_ms=0))
        return [record.row for record in self.records(ticker, Interval(*bounds))]

    def asked(self, ticker: str) -> list[Interval]:
        """Return the intervals that this ticker was asked for, in order."""
        return [call.interval for call in self.calls if call.ticker == ticker]

    def _row(self, ticker: str, time: int) -> dict[str, Any]:
        value = zlib.crc32(f"{ticker}{time}".encode()) / 1000
        return {"timestamp": time // 1000, "value": value, "note": f'"{ticker}"{self.padding}'}
