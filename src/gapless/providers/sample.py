"""The bundled sample: real daily prices without a network, for demos, tests and first steps.

Apart from its data, which lies in `sample_data/` with its source and terms.
"""

from __future__ import annotations

import asyncio
from bisect import bisect_left
from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any, NamedTuple

import msgspec

from gapless.config.settings import SampleSettings
from gapless.domain.intervals import Interval
from gapless.domain.series import SeriesKey
from gapless.errors import InvalidQuery, UnknownTicker, UpstreamUnavailable
from gapless.providers.base import (
    DAY_MS,
    DueMoments,
    Fetched,
    Pace,
    Param,
    ProviderInfo,
    Record,
    Traits,
    canonical_params,
)

TICKERS = ("AAPL", "FB", "GOOG", "IBM", "MSFT")
PRICES = Path(__file__).with_name("sample_data") / "prices.parquet"

INFO = ProviderInfo(
    name="sample",
    title="Bundled sample: daily prices of five stocks, 2000-03-01 to 2013-03-01",
    params=(Param("interval", default="1d", choices=("1d",), help="length of a bar"),),
    columns=("open", "high", "low", "close", "adjclose", "volume"),
    pace=Pace(SampleSettings().rate, SampleSettings().burst),
    data_start=951_868_800_000,  # 2000-03-01T00:00Z
    data_end=1_362_182_400_000,  # 2013-03-02T00:00Z: the last record is of the day before
)


class Bar(msgspec.Struct, frozen=True, gc=False):
    """A day of a stock, spelled as Yahoo's: prices and volume adjusted for every split.

    `timestamp` is midnight UTC of the day in Unix seconds; prices are US dollars with at most
    six decimals; `adjclose` is adjusted for dividends too.
    """

    timestamp: int
    open: float
    high: float
    low: float
    close: float
    adjclose: float
    volume: int


_TRAITS = Traits(bar=DAY_MS)


class History(NamedTuple):
    """All records of a ticker, oldest first, and their times, milliseconds UTC, to bisect."""

    times: list[int]
    records: list[Record]


class SampleProvider:
    """Serves the bundled file as if it were far away: the hub asks, paces and counts as ever.

    Nothing is read before the first fetch; then everything is, once, in a worker thread.
    """

    def __init__(self, settings: SampleSettings | None = None, path: Path = PRICES) -> None:
        settings = settings or SampleSettings()
        self._path = path
        self._info = replace(INFO, pace=Pace(settings.rate, settings.burst))
        self._loading = asyncio.Lock()
        self._histories: Mapping[str, History] | None = None

    @property
    def info(self) -> ProviderInfo:
        """What it declares: five tickers' days, none of which is ever revised."""
        return self._info

    def key(self, ticker: str, params: Mapping[str, str]) -> SeriesKey:
        """Return the key with the ticker in capitals; raise `InvalidQuery` for a bad one.

        Whether there is such a ticker is for `fetch` to say, as with any upstream.
        """
        canonical = ticker.strip().upper()
        if not canonical or not canonical.isprintable():
            raise InvalidQuery(f"sample: {ticker!r} is no ticker; {_offer()}")
        return SeriesKey.of(INFO.name, canonical, canonical_params(INFO, params))

    def traits(self, key: SeriesKey) -> Traits:
        """Return a day a bar, and no limit on how far or how much one request may ask."""
        return _TRAITS

    async def fetch(
        self, key: SeriesKey, interval: Interval, now_ms: int, meta: Mapping[str, Any]
    ) -> Fetched:
        """Return the records in `interval`, all final; none where the stock did not trade yet.

        Raises `UnknownTicker` for all but the five tickers, and `UpstreamUnavailable` if the
        bundled file cannot be read.
        """
        if key.ticker not in TICKERS:
            raise UnknownTicker(f"sample has no ticker {key.ticker!r}; {_offer()}")
        histories = await self._load()
        history = histories[key.ticker]
        first = bisect_left(history.times, interval.start)
        behind = bisect_left(history.times, interval.end, lo=first)
        return Fetched(history.records[first:behind])

    def due_moments(self, meta: Mapping[str, Any], now_ms: int) -> DueMoments:
        """Return every 24 hours: it has no sessions, and never revises."""
        return DueMoments.daily(now_ms)

    async def aclose(self) -> None:
        """Do nothing: there is no connection."""

    async def _load(self) -> Mapping[str, History]:
        if self._histories is None:
            async with self._loading:
                if self._histories is None:
                    self._histories = await asyncio.to_thread(read_histories, self._path)
        return self._histories


def read_histories(path: Path) -> dict[str, History]:
    """Read the Parquet file that `scripts/make_sample_data.py` writes; it blocks.

    Raises `UpstreamUnavailable` if the file is missing or damaged.
    """
    # Importing polars takes longer than everything else here; a hub without the sample need not.
    import polars as pl

    columns = ["ticker", *Bar.__struct_fields__]
    try:
        table = pl.read_parquet(path, columns=columns)
        result = {ticker: History([], []) for ticker in TICKERS}
        for ticker, *values in table.iter_rows():
            bar = Bar(*values)
            history = result[ticker]
            history.times.append(bar.timestamp * 1000)
            history.records.append(Record(history.times[-1], bar))
    except (OSError, pl.exceptions.PolarsError, KeyError) as error:
        raise UpstreamUnavailable(
            f"sample: its data file {path.name} cannot be read ({error}); install gapless again"
        ) from error
    return result


def _offer() -> str:
    return f"it has {', '.join(TICKERS[:-1])} and {TICKERS[-1]}"
