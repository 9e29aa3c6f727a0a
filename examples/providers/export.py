"""Write a series of a running hub into a CSV, Excel or Parquet file that `files.py` reads again.

    python examples/providers/export.py sample AAPL 2010-01-01 2011-01-01 AAPL.xlsx
    python examples/providers/export.py yahoo_finance MSFT 2024-01-01 now MSFT.csv -p interval=1wk

The hub fetches what it lacks, and either the whole range is written or nothing is. Times become
instants in UTC. Excel keeps 15 digits of a number, the others keep them all; a CSV file does not
tell texts from numbers. Excel files need `pip install xlsxwriter`. If the hub wants a token, it is
taken from GAPLESS_TOKEN in the environment.
"""

from __future__ import annotations

import argparse
import io
import json
import os
import sys
from collections.abc import Iterator, Mapping, Sequence
from contextlib import suppress
from http.client import HTTPException
from pathlib import Path
from urllib.error import HTTPError
from urllib.parse import quote, urlencode
from urllib.request import Request, urlopen

import polars as pl

HUB = "http://127.0.0.1:7070"
ENDINGS = (".csv", ".xlsx", ".parquet")
TIMEOUT_S = 120
EXCEL_ROWS = 1_048_575


class ExportError(Exception):
    """The export cannot be made; the message says why."""


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the command; return its exit code."""
    parser = argparse.ArgumentParser(description="Write a series of a running hub into a file.")
    parser.add_argument("provider")
    parser.add_argument("ticker")
    parser.add_argument("start", help="a date, or an RFC 3339 instant")
    parser.add_argument("end", help="the first instant that is not part of it any more, or now")
    parser.add_argument("file", type=Path, help=f"ends in {', '.join(ENDINGS)}")
    parser.add_argument("--http", default=HUB, help=f"where the hub is; {HUB} if left out")
    parser.add_argument(
        "-p", "--param", action="append", default=[], metavar="NAME=VALUE", help="may be repeated"
    )
    asked = parser.parse_args(arguments)
    wanted = {"start": asked.start, "end": asked.end}
    try:
        for pair in asked.param:
            name, equals, value = pair.partition("=")
            if not equals:
                raise ExportError(f"-p {pair}: write NAME=VALUE")
            wanted[name] = value
        check(asked.file)
        frame = series(asked.http, asked.provider, asked.ticker, wanted)
        write(frame, asked.file)
    except ExportError as error:
        sys.stderr.write(f"{error}\n")
        return 1
    sys.stderr.write(f"{asked.file}: {len(frame):,} records\n")
    return 0


def series(hub: str, provider: str, ticker: str, wanted: Mapping[str, str]) -> pl.DataFrame:
    """Return a series as a frame, its `timestamp` as instants in UTC.

    `wanted` has `start`, `end` and the provider's parameters. What cannot be had whole is an error
    (`strict`), for a file does not tell what is missing in it.
    """
    path = f"{hub.rstrip('/')}/v1/data/{quote(provider, safe='')}/{quote(ticker, safe='')}.arrow"
    pages = list(_pages(path, {**wanted, "strict": "true"}))
    # A column may be whole numbers on one page and have fractions on the next.
    frame = pl.concat(pages, how="diagonal_relaxed") if len(pages) > 1 else pages[0]
    if "timestamp" not in frame.columns:
        return frame
    seconds = pl.col("timestamp")
    return frame.with_columns(
        (seconds * 1000).round().cast(pl.Int64).cast(pl.Datetime("ms", "UTC"))
    )


def _pages(path: str, wanted: Mapping[str, str]) -> Iterator[pl.DataFrame]:
    token = os.environ.get("GAPLESS_TOKEN")
    headers = {"Authorization": f"Bearer {token}"} if token else {}
    cursor: str | None = None
    while True:
        query = urlencode({**wanted, **({"cursor": cursor} if cursor else {})})
        try:
            with urlopen(Request(f"{path}?{query}", headers=headers), timeout=TIMEOUT_S) as answer:
                cursor = answer.headers.get("gapless-next")
                page = answer.read()
        except HTTPError as error:
            raise ExportError(f"the hub refuses: {_said(error)}") from error
        except (OSError, HTTPException, ValueError) as error:
            raise ExportError(f"no hub answers at {path}: {error}") from error
        yield pl.read_ipc_stream(page)
        if cursor is None:
            return


def check(file: Path) -> None:
    """Refuse an ending that no file is written with, before anything is asked for."""
    if file.suffix.lower() not in ENDINGS:
        raise ExportError(f"{file}: the file's ending must be one of {', '.join(ENDINGS)}")


def write(frame: pl.DataFrame, file: Path) -> None:
    """Write a frame by the file's ending; the file is there whole or not at all."""
    check(file)
    ending = file.suffix.lower()
    if ending == ".xlsx" and len(frame) > EXCEL_ROWS:
        raise ExportError(
            f"{len(frame):,} records are more than the {EXCEL_ROWS:,} that a sheet holds; "
            "choose a shorter range, or .csv or .parquet"
        )
    body = io.BytesIO()
    if ending == ".csv":
        frame.write_csv(body, datetime_format="%Y-%m-%dT%H:%M:%S%.fZ")
    elif ending == ".parquet":
        frame.write_parquet(body)
    else:
        # Excel has no time zones: what is written there is UTC.
        plain = frame.with_columns(pl.selectors.datetime().dt.replace_time_zone(None))
        plain.write_excel(body, autofit=True)
    part = file.with_name(f".{file.name}.part")
    try:
        file.parent.mkdir(parents=True, exist_ok=True)
        part.write_bytes(body.getbuffer())
        part.replace(file)
    except OSError as error:
        with suppress(OSError):
            part.unlink(missing_ok=True)
        raise ExportError(f"{file} cannot be written: {error.strerror or error}") from error


def _said(error: HTTPError) -> str:
    """Return what an error answer of the hub says: a problem document's message."""
    try:
        return str(json.loads(error.read())["message"])
    except (ValueError, KeyError, TypeError, OSError, HTTPException):
        return f"{error.code} {error.reason}"


if __name__ == "__main__":
    sys.exit(main())
