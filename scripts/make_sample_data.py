"""Make the bundled sample's Parquet file from the bokeh-sampledata wheel.

Apart from the package because it runs once, by hand, and what it reads is not a dependency:

    pip download bokeh-sampledata==2026.1 --no-deps -d /tmp/bokeh
    python scripts/make_sample_data.py /tmp/bokeh/bokeh_sampledata-2026.1-py3-none-any.whl

It stops without writing if the source is another one than SOURCE.md describes, or if the
adjusted closes show a cliff where they should not.
"""

from __future__ import annotations

import argparse
import csv
import gzip
import hashlib
import io
import sys
import zipfile
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, date, datetime
from decimal import ROUND_HALF_EVEN, Decimal
from itertools import pairwise
from pathlib import Path

import polars as pl

TARGET = Path(__file__).parents[1] / "src/gapless/providers/sample_data/prices.parquet"
MEMBER = "_data/stocks.csv.gz"

# The unpacked CSV of release 2026.1. The package once carried Yahoo Finance exports of the same
# tickers, which are not under SOURCE.md's terms: a file that is not this one is refused.
CSV_SHA256 = "e73fe05d106b7da1abe8f947264c514afd02cef5c9db4864b9437c84d6bd6069"

# A division leaves endless digits, and so did the source's own adjusting; six decimals are finer
# than the four the exchange prices have, and keep a record's text short and stable.
PLACES = Decimal("0.000001")

# How far adjclose / close may move in a day: a quarterly dividend is well inside.
DAILY_DRIFT = Decimal("0.02")
# Where it must not move at all: a day whose split has been divided out.
SPLIT_DRIFT = Decimal("0.0001")


@dataclass(frozen=True, slots=True)
class Split:
    """`ratio` new shares for one old, from the morning of `day` on."""

    day: date
    ratio: int


# All up to the source's snapshot, hence also those after the last record.
SPLITS: Mapping[str, tuple[Split, ...]] = {
    "AAPL": (
        Split(date(2000, 6, 21), 2),
        Split(date(2005, 2, 28), 2),
        Split(date(2014, 6, 9), 7),
    ),
    "FB": (),
    "GOOG": (Split(date(2014, 4, 3), 2),),
    "IBM": (),
    "MSFT": (Split(date(2003, 2, 18), 2),),
}

# Dividends too large for DAILY_DRIFT: Microsoft paid 3 dollars a share, once.
LARGE_DIVIDENDS = frozenset({("MSFT", date(2004, 11, 15))})


@dataclass(frozen=True, slots=True)
class Raw:
    """One line of the source: prices and volume as they were on the day, adjclose adjusted."""

    day: date
    open: Decimal
    high: Decimal
    low: Decimal
    close: Decimal
    volume: int
    adjclose: Decimal


class SourceRefused(Exception):
    """The source is not what the sample is made from; the message says in which way."""


def source_bytes(source: Path) -> bytes:
    """Return the gzipped CSV from a wheel, or from the folder it was unpacked or installed to."""
    if source.is_dir():
        found = sorted(source.rglob(MEMBER))
        if not found:
            raise SourceRefused(f"no {MEMBER} below {source}; bokeh-sampledata 2026.1 has one")
        return found[0].read_bytes()
    with zipfile.ZipFile(source) as wheel:
        names = [name for name in wheel.namelist() if name.endswith(MEMBER)]
        if not names:
            raise SourceRefused(f"no {MEMBER} in {source}; bokeh-sampledata 2026.1 has one")
        return wheel.read(names[0])


def read_source(source: Path) -> dict[str, list[Raw]]:
    """Return the lines by ticker, as the source has them, oldest first."""
    text = gzip.decompress(source_bytes(source))
    digest = hashlib.sha256(text).hexdigest()
    if digest != CSV_SHA256:
        raise SourceRefused(
            f"the CSV's SHA-256 is {digest}, not {CSV_SHA256}: "
            "check its origin and terms before making a sample of it"
        )
    result: dict[str, list[Raw]] = {ticker: [] for ticker in SPLITS}
    for line in csv.DictReader(io.StringIO(text.decode("ascii"))):
        result[line["Ticker"]].append(
            Raw(
                day=date.fromisoformat(line["Date"]),
                open=Decimal(line["Open"]),
                high=Decimal(line["High"]),
                low=Decimal(line["Low"]),
                close=Decimal(line["Close"]),
                volume=int(line["Volume"]),
                adjclose=Decimal(line["Adj Close"]),
            )
        )
    return result


def factor(splits: Iterable[Split], day: date) -> int:
    """Return what a price of `day` is divided by: the product of all later splits."""
    result = 1
    for split in splits:
        if day < split.day:
            result *= split.ratio
    return result


def check_splits(ticker: str, rows: Sequence[Raw], splits: Sequence[Split]) -> None:
    """Refuse splits that do not fit the source's own adjusted closes.

    Raw, adjclose / close must jump by the ratio on each split's day; adjusted, it must not move
    on that day, and on no other by more than a dividend.
    """
    ratios = {split.day: split.ratio for split in splits}
    days = {row.day for row in rows}
    for split in splits:
        if rows[0].day < split.day <= rows[-1].day and split.day not in days:
            raise SourceRefused(f"{ticker}: no record on {split.day}, the day of a split")
    for before, after in pairwise(rows):
        if after.day <= before.day:
            raise SourceRefused(f"{ticker}: {after.day} does not come after {before.day}")
        raw = (after.adjclose / after.close) / (before.adjclose / before.close)
        adjusted = raw * factor(splits, after.day) / factor(splits, before.day)
        limit = SPLIT_DRIFT if after.day in ratios else DAILY_DRIFT
        if abs(adjusted - 1) > limit and (ticker, after.day) not in LARGE_DIVIDENDS:
            raise SourceRefused(
                f"{ticker}: a cliff on {after.day}: adjclose / close moves by {adjusted:.6f}"
            )
        if after.day in ratios and abs(raw / ratios[after.day] - 1) > SPLIT_DRIFT:
            raise SourceRefused(f"{ticker}: the source knows no split on {after.day}")


def records(
    ticker: str, rows: Iterable[Raw], splits: Sequence[Split]
) -> Iterator[tuple[object, ...]]:
    """Yield one tuple a record, in the order of the Parquet file's columns."""
    for row in rows:
        by = factor(splits, row.day)
        midnight = datetime(row.day.year, row.day.month, row.day.day, tzinfo=UTC)
        prices = (price / by for price in (row.open, row.high, row.low, row.close))
        yield (
            ticker,
            int(midnight.timestamp()),
            *(_rounded(price) for price in prices),
            _rounded(row.adjclose),
            row.volume * by,
        )


def _rounded(price: Decimal) -> float:
    return float(price.quantize(PLACES, ROUND_HALF_EVEN))


def summary(table: pl.DataFrame) -> str:
    """Return one line a ticker: how many records, from when to when, and adjclose / close."""
    lines = []
    for ticker in SPLITS:
        own = table.filter(pl.col("ticker") == ticker)
        first, last = (datetime.fromtimestamp(own["timestamp"][at], UTC).date() for at in (0, -1))
        ratio = own["adjclose"] / own["close"]
        lines.append(
            f"{ticker:5} {own.height:5} records  {first} to {last}  "
            f"adjclose/close {ratio[0]:.6f} to {ratio[-1]:.6f}"
        )
    return "\n".join(lines)


def main(arguments: Sequence[str] | None = None) -> int:
    """Write the Parquet file and say what is in it."""
    parser = argparse.ArgumentParser(description="Make the bundled sample's Parquet file.")
    parser.add_argument("source", type=Path, help="the wheel, or the folder it is unpacked in")
    parser.add_argument("--out", type=Path, default=TARGET, help="default: in the package")
    options = parser.parse_args(arguments)
    try:
        by_ticker = read_source(options.source)
        for ticker, rows in by_ticker.items():
            check_splits(ticker, rows, SPLITS[ticker])
    except (SourceRefused, OSError, zipfile.BadZipFile) as refused:
        print(f"make_sample_data: {refused}", file=sys.stderr)
        return 1
    table = pl.DataFrame(
        [
            record
            for ticker, rows in by_ticker.items()
            for record in records(ticker, rows, SPLITS[ticker])
        ],
        schema={
            "ticker": pl.String,
            "timestamp": pl.Int64,
            "open": pl.Float64,
            "high": pl.Float64,
            "low": pl.Float64,
            "close": pl.Float64,
            "adjclose": pl.Float64,
            "volume": pl.Int64,
        },
        orient="row",
    )
    table.write_parquet(options.out, compression="zstd", compression_level=19, statistics=False)
    written = options.out.read_bytes()
    print(summary(table))
    print(f"{options.out.name}: {len(written):,} bytes, polars {pl.__version__}")
    print(f"SHA-256 {hashlib.sha256(written).hexdigest()}")
    return 0


if __name__ == "__main__":
    sys.exit(main())
