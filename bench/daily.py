"""A provider of daily bars of any ticker, made by arithmetic: a plugin of the benchmark.

Its days are those on which New York traded from 2003 on, taken from the bundled sample, because
a rival looks up in a calendar which days there must be. What it returns can be told from the
ticker and the day alone, so that every answer can be checked.
"""

from __future__ import annotations

from datetime import datetime
from pathlib import Path

import polars as pl

ROWS = 2_500
SAMPLE = Path(__file__).resolve().parent.parent / "src/gapless/providers/sample_data/prices.parquet"
FIRST_S = 1_041_379_200
"""2003-01-01, from which on there are bars."""
DAY_S = 86_400


def traded_days() -> pl.Series:
    """The first 2,500 days of trading from 2003 on: midnights in UTC, Unix seconds."""
    days = (
        pl.scan_parquet(SAMPLE)
        .filter(pl.col("ticker") == "IBM", pl.col("timestamp") >= FIRST_S)
        .select(pl.col("timestamp").cast(pl.Int64))
        .sort("timestamp")
        .head(ROWS)
        .collect()
        .to_series()
    )
    assert days.len() == ROWS
    return days


def bars(ticker: str, days: pl.Series) -> pl.DataFrame:
    """The bars of these days; each ticker has others, none has splits or dividends."""
    number = sum(position * byte for position, byte in enumerate(ticker.encode(), 1))
    day = days // DAY_S
    base = 50 + number % 200 + 20 * (day / 250).sin()
    close = base + ((day * 31 + number) % 97 - 48) / 100
    return pl.DataFrame(
        {
            "timestamp": days,
            "open": base.round(4),
            "high": (base + 1 + (day * 7919 % 997) / 1000).round(4),
            "low": (base - 1 - (day * 104_729 % 991) / 1000).round(4),
            "close": close.round(4),
            "adjclose": close.round(4),
            "volume": 1 + day * (48_271 + number) % 1_000_003,
        }
    )


class Provider:
    """The plugin."""

    def __init__(self) -> None:
        self._days = traded_days()

    def describe(self) -> dict[str, object]:
        """What it says of itself."""
        return {
            "name": "daily",
            "title": "Daily bars made by arithmetic",
            "columns": ["open", "high", "low", "close", "adjclose", "volume"],
            "bar": "1d",
            "data_start": FIRST_S,
            "data_end": int(self._days[-1]) + DAY_S,
        }

    def fetch(self, ticker: str, start: datetime, end: datetime) -> pl.DataFrame:
        """The bars of a range as a frame."""
        inside = self._days.is_between(start.timestamp(), end.timestamp(), closed="left")
        return bars(ticker, self._days.filter(inside))
