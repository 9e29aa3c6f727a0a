"""Many histories as one frame: the yearly return of each ticker.

gapless serve
python examples/client/many.py
"""

from __future__ import annotations

import polars as pl

import gapless


def returns(hub: gapless.Client, tickers: list[str]) -> pl.DataFrame:
    """Return what each ticker gained in each year, as a fraction."""
    bars = hub.search_many("sample", tickers, "2003-01-01", "2013-01-01")
    return (
        bars.group_by("ticker", pl.col("timestamp").dt.year().alias("year"), maintain_order=True)
        .agg((pl.col("adjclose").last() / pl.col("adjclose").first() - 1).alias("gain"))
        .pivot("ticker", index="year", values="gain")
    )


if __name__ == "__main__":
    with gapless.connect() as hub:
        print(returns(hub, ["AAPL", "MSFT", "IBM"]))
