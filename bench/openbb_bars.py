"""A provider for OpenBB that has its bars in memory: what a warm provider could be at best.

OpenBB keeps no prices itself, and its own providers ask the network. This one is found by OpenBB
as any extension is, follows its standard model of daily prices and adds no step of its own. In
the environment: `BENCH_DAYS` and `BENCH_BARS`, the files, and `BENCH_TICKERS`, a number.
"""

from __future__ import annotations

import json
import os
from array import array
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from openbb_core.provider.abstract.fetcher import Fetcher
from openbb_core.provider.abstract.provider import Provider
from openbb_core.provider.standard_models.equity_historical import (
    EquityHistoricalData,
    EquityHistoricalQueryParams,
)

COLUMNS = ("open", "high", "low", "close", "volume")


def in_memory() -> dict[str, list[dict[str, Any]]]:
    """The records of each ticker, as a fetcher hands them over."""
    seconds = json.loads(Path(os.environ["BENCH_DAYS"]).read_text())
    days = [datetime.fromtimestamp(at, UTC).date() for at in seconds]
    found = {}
    with Path(os.environ["BENCH_BARS"]).open("rb") as file:
        for number in range(int(os.environ["BENCH_TICKERS"])):
            columns = []
            for _ in COLUMNS:
                values = array("d")
                values.fromfile(file, len(days))
                columns.append(values)
            found[f"T{number:05}"] = [
                {"date": day, **dict(zip(COLUMNS, row, strict=True))}
                for day, row in zip(days, zip(*columns, strict=True), strict=True)
            ]
    return found


RECORDS = in_memory()


class BarsQuery(EquityHistoricalQueryParams):  # type: ignore[misc]
    """The standard question."""


class BarsData(EquityHistoricalData):  # type: ignore[misc]
    """The standard record."""


class BarsFetcher(Fetcher[BarsQuery, list[BarsData]]):  # type: ignore[misc]
    """Hands over what is in memory."""

    require_credentials = False

    @staticmethod
    def transform_query(params: dict[str, Any]) -> BarsQuery:
        return BarsQuery(**params)

    @staticmethod
    def extract_data(query: BarsQuery, credentials: Any, **_: Any) -> list[dict[str, Any]]:
        first, last = query.start_date, query.end_date
        return [row for row in RECORDS[query.symbol] if first <= row["date"] <= last]

    @staticmethod
    def transform_data(query: BarsQuery, data: list[dict[str, Any]], **_: Any) -> list[BarsData]:
        return [BarsData.model_validate(row) for row in data]


provider = Provider(
    name="bench",
    description="Daily bars in memory",
    fetcher_dict={"EquityHistorical": BarsFetcher},
)
