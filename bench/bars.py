"""A provider of one-minute bars without end, made by arithmetic: a plugin of the benchmark.

It needs polars and nothing of gapless, as a stranger's plugin does; what it returns can be told
from the ticker and the minute alone, so that every answer can be checked.
"""

from __future__ import annotations

from datetime import datetime

import polars as pl

MINUTE_S = 60
PACE = 1_000_000
"""Calls a second, and at once: what they cost is measured, not how the hub holds them back."""
START_S = 1_577_836_800
"""2020-01-01, from which on there are bars."""


def bars(ticker: str, start_s: int, end_s: int) -> pl.DataFrame:
    """The bars of whole minutes in `[start_s, end_s)`, Unix seconds; each ticker has others.

    A column of times, five of prices with four decimals, and one of whole numbers.
    """
    first, last = -(-start_s // MINUTE_S), -(-end_s // MINUTE_S)
    number = sum(ticker.encode())
    minute = pl.int_range(first, last, eager=True)
    base = 100 + number % 50 + 20 * (minute / 1440).sin()
    close = base + (minute * 31 % 97 - 48) / 100
    return pl.DataFrame(
        {
            "timestamp": minute * MINUTE_S,
            "open": base.round(4),
            "high": (base + (minute * 7919 % 997) / 1000).round(4),
            "low": (base - (minute * 104_729 % 991) / 1000).round(4),
            "close": close.round(4),
            "adjclose": (close * 0.97).round(4),
            "volume": minute * (48_271 + number) % 1_000_003,
        }
    )


class Provider:
    """The plugin."""

    def describe(self) -> dict[str, object]:
        """What it says of itself."""
        return {
            "name": "bars",
            "title": "One-minute bars made by arithmetic",
            "columns": ["open", "high", "low", "close", "adjclose", "volume"],
            "bar": "1m",
            "data_start": START_S,
            "rate": PACE,
            "burst": PACE,
        }

    def fetch(self, ticker: str, start: datetime, end: datetime) -> pl.DataFrame:
        """The bars of a range as a frame."""
        return bars(ticker, int(start.timestamp()), int(end.timestamp()))
