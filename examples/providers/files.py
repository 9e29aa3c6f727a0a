r"""A folder of CSV, Excel and Parquet files as a provider of histories.

Each file is a series, and its name without the ending is the ticker: `prices/AAPL.csv` is `AAPL`.
It needs a column of times called timestamp, date, time or datetime (capitals do not matter): dates,
RFC 3339 or ISO 8601 texts, or Unix seconds; without an offset it is UTC. All other columns are
taken as they are, but for days in `date` beside a `timestamp`, which tables of the hub have. For a
workbook the parameter `sheet` names the sheet; without it, the first.

The folder is PRICES_FOLDER of the hub's environment, or else `prices` beside this file. Excel files
need `pip install fastexcel`. Load it into a running hub, and ask:

    curl -X POST http://127.0.0.1:7070/plugins/load -H 'Content-Type: application/json' \
      -d "{\"file\": \"$PWD/examples/providers/files.py\"}"
    gapless query 'provider files search ticker=AAPL date=2010-01-01..2011-01-01'

Rows may be appended at any time: the last thirty days are read again whenever they are asked for.
What is older is read once; after correcting it, let the hub forget the series, and it is read anew.
A ticker that was asked for before there was its file stays unknown for a quarter of an hour, or
until this provider is loaded again.
The way back, from the hub into files, is `export.py`; with it there is something to begin with:

    python examples/providers/export.py sample AAPL 2010-01-01 2011-01-01 \
      examples/providers/prices/AAPL.xlsx
"""

from __future__ import annotations

import os
from datetime import datetime
from pathlib import Path
from typing import Any

import polars as pl

ENDINGS = (".parquet", ".csv", ".xlsx")
YEARS = (-62_135_596_800, 253_402_300_799)  # 1 to 9999, in Unix seconds
TIMES = ("timestamp", "date", "time", "datetime")
# Years first: 01/02/2024 is one day here and another one there.
YEAR_FIRST = r"^\d{4}-\d{2}-\d{2}"


class UnknownTicker(Exception):
    """There is no file of that name; `reason` is what makes it one of the hub's own errors."""

    reason = "unknown_ticker"


class UnusableFile(Exception):
    """The file is there, and is no history; the message says what is wrong with it."""

    reason = "upstream_rejected"


class Provider:
    """The ranged contract: `describe` says what there is, `fetch` returns a part of a series."""

    def __init__(self) -> None:
        self.folder = Path(os.environ.get("PRICES_FOLDER") or Path(__file__).with_name("prices"))

    def describe(self) -> dict[str, Any]:
        """Say what this provider is; the hub asks once, when it loads it."""
        return {
            "name": "files",
            "title": "CSV, Excel and Parquet files of a folder",
            "params": [
                {"name": "sheet", "default": "", "help": "sheet of a workbook; the first if empty"}
            ],
            "final_after": "30d",
            "refresh_after": 1,
            "data_start": "0001-01-01",
        }

    def fetch(self, ticker: str, start: datetime, end: datetime, *, sheet: str) -> pl.DataFrame:
        """Return the rows of `[start, end)`, with their times as `timestamp`."""
        path = self.find(ticker)
        rows, schema = scan(path, sheet)
        candidates = [name for name in schema if name.lower() in TIMES]
        if not candidates:
            raise UnusableFile(
                f"{path.name} has no column of times: expected one of {', '.join(TIMES)}, "
                f"found {', '.join(schema) or 'none'}"
            )
        column = min(candidates, key=lambda name: TIMES.index(name.lower()))
        left = {column, *days_beside(rows, schema, column)}
        others = [pl.col(name) for name in schema if name not in left]
        timed = rows.select(instant(column, schema[column], path).alias("timestamp"), *others)
        part = timed.filter(pl.col("timestamp").is_between(start, end, closed="left"))
        try:
            found, untimed = pl.collect_all(
                [
                    part.sort("timestamp", maintain_order=True),
                    timed.select(pl.col("timestamp").is_null().sum()),
                ]
            )
        except pl.exceptions.PolarsError as error:
            raise UnusableFile(f"{path.name} cannot be read: {first_line(error)}") from error
        if untimed.item():
            # Leaving them out would be an answer that is short, and does not say so.
            raise UnusableFile(
                f"{path.name}: {column} holds no time in {untimed.item():,} of its rows; "
                "write dates as 2024-12-31, instants as 2024-12-31T23:59:59Z or in Unix seconds"
            )
        return found

    def find(self, ticker: str) -> Path:
        """Return the file of a ticker; of several endings Parquet is read before CSV and Excel.

        Names are looked up in the folder's list, so that no ticker leads out of the folder.
        """
        if not self.folder.is_dir():
            raise UnusableFile(
                f"there is no folder {self.folder}; make it, or name another one in PRICES_FOLDER"
            )
        files = [
            path
            for path in self.folder.iterdir()
            if path.suffix.lower() in ENDINGS
            and not path.name.startswith((".", "~$"))  # what Excel and others put beside
            and path.is_file()
        ]
        found = [path for path in files if path.stem == ticker]
        if not found:
            known = ", ".join(sorted({path.stem for path in files})[:20])
            raise UnknownTicker(
                f"no file of {self.folder} is called {ticker}{'|'.join(ENDINGS)}; "
                f"there are: {known or 'none'}"
            )
        return min(found, key=lambda path: ENDINGS.index(path.suffix.lower()))


def days_beside(rows: pl.LazyFrame, schema: pl.Schema, column: str) -> list[str]:
    """Return `date` where it is the days of the timestamps, which tables of the hub have."""
    if column.lower() != "timestamp" or "date" not in schema:
        return []
    days = pl.col("date").cast(pl.String).str.contains(YEAR_FIRST).all()
    return ["date"] if rows.select(days).collect().item() else []


def scan(path: Path, sheet: str) -> tuple[pl.LazyFrame, pl.Schema]:
    """Open a file by its ending, and return its columns too; little is read of it yet."""
    ending = path.suffix.lower()
    if sheet and ending != ".xlsx":
        raise UnusableFile(f"{path.name} has no sheets; leave out sheet={sheet}")
    try:
        if ending == ".parquet":
            rows = pl.scan_parquet(path)
        elif ending == ".csv":
            # All of it decides the types: what is whole for a year may have a fraction later.
            table = pl.scan_csv(path, infer_schema_length=None)
            rows = table.filter(~pl.all_horizontal(pl.all().is_null()))  # blank lines
        else:
            rows = pl.read_excel(path, sheet_name=sheet or None, raise_if_empty=False).lazy()
        return rows, rows.collect_schema()
    except Exception as error:  # the Excel reader's errors have no common class
        raise UnusableFile(f"{path.name} cannot be read: {first_line(error)}") from error


def instant(column: str, kind: pl.DataType, path: Path) -> pl.Expr:
    """Return a column of times as instants in UTC."""
    times = pl.col(column)
    if kind.is_numeric():
        # Milliseconds become null here, and are refused with the rest that has no time.
        seconds = pl.when(times.is_between(*YEARS)).then(times)
        return (seconds * 1000).round().cast(pl.Int64).cast(pl.Datetime("ms", "UTC"))
    if kind == pl.String:
        # What is no such text becomes null here, and is refused with the rest that has no time.
        return (
            pl.when(times.str.contains(YEAR_FIRST))
            .then(times)
            .str.to_datetime(time_unit="ms", time_zone="UTC")
        )
    if kind == pl.Date:
        return times.cast(pl.Datetime("ms")).dt.replace_time_zone("UTC")
    if isinstance(kind, pl.Datetime):
        aware = times if kind.time_zone else times.dt.replace_time_zone("UTC")
        return aware.dt.convert_time_zone("UTC").dt.cast_time_unit("ms")
    raise UnusableFile(f"{path.name}: {column} holds {kind}, which are no times")


def first_line(error: BaseException) -> str:
    """Return the first line of an error's text: what follows is a trace of its library's."""
    return (str(error).splitlines() or [type(error).__name__])[0]
