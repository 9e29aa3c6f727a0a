"""Histories made by arithmetic, in each of the forms that a provider may return.

What a bar must be is known without asking: see `support.load`.
"""

from __future__ import annotations

import asyncio
from collections.abc import Iterator
from datetime import datetime
from math import ceil
from typing import Any

import polars as pl

MINUTE_S = 60
HOUR_S = 3_600
# So many rows of a frame are one piece of an iterator.
PIECE = 10_000


class UnknownTicker(Exception):
    """There is no such ticker."""

    reason = "unknown_ticker"


def factor_of(ticker: str) -> int:
    """Return what makes a ticker's values its own."""
    return 1 + sum(ticker.encode())


def bar(ticker: str, at: int) -> dict[str, Any]:
    """Return the record of a ticker at a time in Unix seconds."""
    value = at // MINUTE_S * factor_of(ticker) % 10_007 / 8
    return {"timestamp": at, "value": value, "high": value + 0.25, "volume": at % 1_000_003}


def frame(ticker: str, times: range) -> pl.DataFrame:
    """Return the records of times in Unix seconds as a frame."""
    at = pl.int_range(times.start, times.stop, times.step, eager=True)
    value = at // MINUTE_S * factor_of(ticker) % 10_007 / 8
    return pl.DataFrame(
        {"timestamp": at, "value": value, "high": value + 0.25, "volume": at % 1_000_003}
    )


def times_in(start: datetime, end: datetime, step: int) -> range:
    """Return the times of the bars that begin in a range."""
    first, last = (ceil(bound.timestamp() / step) * step for bound in (start, end))
    return range(first, last, step)


def pieces(ticker: str, times: range) -> Iterator[pl.DataFrame]:
    """Yield the records of times as one frame after the other."""
    for at in range(0, len(times), PIECE):
        yield frame(ticker, times[at : at + PIECE])


class Provider:
    """A bar a minute; the past is final."""

    def name(self) -> str:
        return "arithmetic"

    def describe(self) -> dict[str, Any]:
        return {
            "title": "Bars by arithmetic",
            "params": {"form": {"default": "list", "choices": ["list", "frame", "iterator"]}},
            "columns": ["value", "high", "volume"],
            "data_start": "2000-01-01",
            "bar": "1m",
            "rate": 100_000,
            "burst": 100_000,
        }

    def fetch(self, ticker: str, start: datetime, end: datetime, form: str) -> Any:
        if ticker.startswith("NONE"):
            raise UnknownTicker(f"there is no {ticker}")
        times = times_in(start, end, MINUTE_S)
        if form == "list":
            return [bar(ticker, at) for at in times]
        return frame(ticker, times) if form == "frame" else pieces(ticker, times)


class Revising:
    """A bar an hour, and said to be revised: what is held is asked for again and compared."""

    def name(self) -> str:
        return "revising"

    def describe(self) -> dict[str, Any]:
        return {
            "title": "Bars by arithmetic that might be revised",
            "columns": ["value", "high", "volume"],
            "data_start": "2000-01-01",
            "bar": "1h",
            "final_after": "1d",
            "refresh_after": "5s",
            "revises": {"prices": ["value", "high"], "adjusted": None, "volume": "volume"},
            "rate": 100_000,
            "burst": 100_000,
        }

    async def fetch(self, ticker: str, start: datetime, end: datetime) -> list[dict[str, Any]]:
        await asyncio.sleep(0)
        return [bar(ticker, at) for at in times_in(start, end, HOUR_S)]
