"""A plugin of long histories, a record a minute; the ticker says in what form they are returned."""

from __future__ import annotations

from collections.abc import Iterator
from datetime import datetime
from typing import Any

import polars as pl

MINUTE_S = 60


def _frame(start: datetime, end: datetime) -> pl.DataFrame:
    first = -(-int(start.timestamp()) // MINUTE_S)
    minute = pl.int_range(first, -(-int(end.timestamp()) // MINUTE_S), eager=True)
    return pl.DataFrame({"timestamp": minute * MINUTE_S, "close": 100 + minute % 97 / 100})


def _pieces(frame: pl.DataFrame) -> Iterator[pl.DataFrame]:
    yield from frame.iter_slices(5_000)


class Provider:
    """Its tickers are LIST, FRAME, RECORDS (an iterator of them) and PIECES (one of frames)."""

    def describe(self) -> dict[str, object]:
        return {"name": "long", "columns": ["close"], "bar": "1m", "data_start": 1_577_836_800}

    def fetch(self, ticker: str, start: datetime, end: datetime) -> Any:
        frame = _frame(start, end)
        match ticker:
            case "LIST":
                return frame.to_dicts()
            case "RECORDS":
                return frame.iter_rows(named=True)
            case "PIECES":
                return _pieces(frame)
        return frame
