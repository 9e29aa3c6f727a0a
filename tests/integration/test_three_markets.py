"""New York, London and Sydney over a year: their daily bars are joined on the column `date`."""

from __future__ import annotations

import io
from datetime import date, datetime
from pathlib import Path
from zoneinfo import ZoneInfo

import polars as pl
import pytest

from gapless.simulator.instruments import equity
from gapless.simulator.market import Market
from gapless.simulator.prices import RandomWalk
from support.asking import asking
from support.exchanges import Exchange, exchange

FIRST = date(2023, 1, 3)
MARKETS = {
    "AAPL": equity("AAPL", first_trade=FIRST),
    "VOD.L": equity(
        "VOD.L", tz="Europe/London", hours=(28_800, 59_400), currency="GBp", first_trade=FIRST
    ),
    "BHP.AX": equity(
        "BHP.AX",
        tz="Australia/Sydney",
        hours=(36_000, 57_600),
        currency="AUD",
        first_trade=FIRST,
    ),
}
YEAR = ("2024-01-01", "2025-01-01")


def traded(at: Exchange, ticker: str) -> set[date]:
    """Return the days of the year on which a share was traded, by its exchange's calendar."""
    zone = ZoneInfo(MARKETS[ticker].tz)
    bars = at.market.bars(ticker, "1d", 1_703_900_000, 1_735_800_000, at.clock.now_ms() / 1000)
    days = {datetime.fromtimestamp(bar.t, zone).date() for bar in bars}
    return {day for day in days if day.year == 2024}


def joined(frames: dict[str, pl.DataFrame]) -> pl.DataFrame:
    """Return the closes of several tickers, a row a day."""
    whole: pl.DataFrame | None = None
    for ticker, frame in frames.items():
        column = frame.select("date", pl.col("close").alias(ticker))
        whole = (
            column
            if whole is None
            else whole.join(column, on="date", how="full", coalesce=True, validate="1:1")
        )
    assert whole is not None
    return whole.sort("date")


@pytest.mark.parametrize("form", ["search", "search_many", "csv", "arrow", "parquet"])
async def test_three_markets_are_rows_of_one_day_each(tmp_path: Path, form: str) -> None:
    """Nulls are only where that exchange had a holiday, and each price is of that day."""
    market = Market(MARKETS.values(), prices=RandomWalk(5))
    async with (
        exchange(tmp_path, market, "2025-03-10T22:00:00Z") as at,
        asking("async", at.hub.tcp_port) as client,
    ):
        frames: dict[str, pl.DataFrame] = {}
        if form == "search_many":
            many = await client.search_many("yahoo_finance", list(MARKETS), *YEAR)
            frames = {one: many.filter(pl.col("ticker") == one) for one in MARKETS}
        for ticker in MARKETS:
            if form == "search":
                frames[ticker] = (await client.search("yahoo_finance", ticker, *YEAR)).to_polars()
            elif form != "search_many":
                path = f"/v1/data/yahoo_finance/{ticker}?start={YEAR[0]}&end={YEAR[1]}"
                body = io.BytesIO((await at.hub.get(f"{path}&format={form}")).content)
                read = {"arrow": pl.read_ipc_stream, "parquet": pl.read_parquet}.get(form)
                frame = pl.read_csv(body, try_parse_dates=True) if read is None else read(body)
                frames[ticker] = frame
        table = joined(frames)
        days = {ticker: traded(at, ticker) for ticker in MARKETS}
        assert table["date"].to_list() == sorted(set.union(*days.values()))
        assert table.schema["date"] == pl.Date
        for ticker, there in days.items():
            there_of = table.filter(pl.col(ticker).is_not_null())["date"].to_list()
            assert there_of == sorted(there)
            # Each close is that of its own day at its own exchange.
            zone = ZoneInfo(MARKETS[ticker].tz)
            bars = market.bars(ticker, "1d", 1_703_900_000, 1_735_800_000, at.clock.now_ms() / 1e3)
            close = {datetime.fromtimestamp(bar.t, zone).date(): bar.close for bar in bars}
            for day, price in table.select("date", ticker).iter_rows():
                assert price == (close[day] if day in there else None)
        facts = {one: await client.describe("yahoo_finance", one) for one in MARKETS}
        assert [one.currency for one in facts.values()] == ["USD", "GBp", "AUD"]
        assert [one.zone for one in facts.values()] == [one.tz for one in MARKETS.values()]
