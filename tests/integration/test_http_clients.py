"""What people use: curl, polars, pandas, pyarrow and DuckDB read the same frames over HTTP."""

from __future__ import annotations

import asyncio
import importlib.util
import io
import json
import shutil
import subprocess
from collections.abc import Callable
from pathlib import Path
from typing import Any

import duckdb
import httpx
import pandas as pd
import polars as pl
import pyarrow as pa
import pyarrow.csv
import pyarrow.ipc
import pyarrow.parquet
import pytest

from gapless.providers.sample import SampleProvider
from support.people import api_token, person
from support.web import Web, undated, web
from support.wire import PATIENCE_S

PATH = "/v1/data/sample/AAPL.{}?start=2005-01-01&end=2011-01-01"

Rows = list[dict[str, Any]]


def fetched(url: str) -> io.BytesIO:
    """Return the body of an answer."""
    return io.BytesIO(httpx.get(url, timeout=PATIENCE_S).raise_for_status().content)


def with_duckdb(url: str, function: str) -> Rows:
    """Return what DuckDB reads from a URL, by its own HTTP client."""
    spec = importlib.util.find_spec("duckdb_extension_httpfs")
    if spec is None or spec.origin is None:
        pytest.skip("duckdb-extension-httpfs is only there on Linux on x86-64")
    (extension,) = Path(spec.origin).parent.glob("extensions/*/httpfs.duckdb_extension")
    with duckdb.connect() as connection:
        connection.execute(f"LOAD '{extension}'")
        found = connection.execute(f"SELECT * FROM {function}('{url}')")
        names = [column[0] for column in found.description]
        return [dict(zip(names, row, strict=True)) for row in found.fetchall()]


def with_pandas(frame: pd.DataFrame) -> Rows:
    """Return the rows of a pandas frame as plain values."""
    return pl.from_pandas(frame).to_dicts()


READERS: dict[str, tuple[str, Callable[[str], Rows]]] = {
    "polars csv": ("csv", lambda url: pl.read_csv(url).to_dicts()),
    "polars parquet": ("parquet", lambda url: pl.read_parquet(fetched(url)).to_dicts()),
    "polars parquet, by URL": ("parquet", lambda url: pl.read_parquet(url).to_dicts()),
    "polars arrow": ("arrow", lambda url: pl.read_ipc_stream(fetched(url)).to_dicts()),
    "polars ndjson": ("ndjson", lambda url: pl.read_ndjson(fetched(url)).to_dicts()),
    "polars json": ("json", lambda url: pl.read_json(fetched(url)).to_dicts()),
    "pandas csv": ("csv", lambda url: with_pandas(pd.read_csv(url))),
    "pandas json": (
        "json",
        lambda url: with_pandas(pd.read_json(url, precise_float=True, dtype=False)),
    ),
    "pandas parquet": ("parquet", lambda url: with_pandas(pd.read_parquet(fetched(url)))),
    "pyarrow csv": ("csv", lambda url: pyarrow.csv.read_csv(fetched(url)).to_pylist()),
    "pyarrow arrow": (
        "arrow",
        lambda url: pyarrow.ipc.open_stream(fetched(url)).read_all().to_pylist(),
    ),
    "pyarrow parquet": (
        "parquet",
        lambda url: pyarrow.parquet.read_table(fetched(url)).to_pylist(),
    ),
    "duckdb csv": ("csv", lambda url: with_duckdb(url, "read_csv")),
    "duckdb parquet": ("parquet", lambda url: with_duckdb(url, "read_parquet")),
    "duckdb ndjson": ("ndjson", lambda url: with_duckdb(url, "read_json")),
}


@pytest.mark.share(4)
@pytest.mark.parametrize("reader", READERS)
async def test_every_reader_has_the_same_frame(tmp_path: Path, reader: str) -> None:
    """Row for row and bit for bit what the JSON says, whoever reads it."""
    suffix, read = READERS[reader]
    async with web(tmp_path, SampleProvider()) as opened:
        truth: Rows = (await opened.get(PATH.format("json"))).json()
        rows = await asyncio.to_thread(read, opened.url + PATH.format(suffix))
    assert len(rows) == 1511
    assert undated(suffix, rows) == truth


async def curl(opened: Web, *arguments: str) -> bytes:
    """Run curl on a URL of the hub and return what it prints."""
    program = shutil.which("curl")
    if program is None:
        pytest.skip("curl is not installed: apt-get install curl")
    path = arguments[-1]
    process = await asyncio.create_subprocess_exec(
        *(program, "--silent", "--show-error", "--fail-with-body", "--max-time", "20"),
        *(*arguments[:-1], opened.url + path),
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
    )
    out, _ = await process.communicate()
    assert process.returncode == 0, out
    return out


async def test_curl_gets_each_format(tmp_path: Path) -> None:
    """By its ending and by `Accept`, pressed or not, and a page by its link."""
    async with web(tmp_path, SampleProvider()) as opened:
        truth = json.loads(await curl(opened, PATH.format("json")))
        assert len(truth) == 1511
        csv = await curl(opened, PATH.format("csv"))
        assert csv.splitlines()[0] == b"timestamp,date,open,high,low,close,adjclose,volume"
        assert await curl(opened, "--compressed", PATH.format("csv")) == csv
        plain = PATH.replace(".{}", "")
        lines = await curl(opened, "-H", "accept: application/x-ndjson", plain)
        assert [json.loads(line) for line in lines.splitlines()] == truth
        arrow = await curl(opened, PATH.format("arrow"))
        table = pa.ipc.open_stream(arrow).read_all()
        assert undated("arrow", table.to_pylist()) == truth
        parquet = await curl(opened, PATH.format("parquet"))
        rows = pl.read_parquet(io.BytesIO(parquet)).to_dicts()
        assert undated("parquet", rows) == truth
        head = await curl(
            opened, "-D", "-", "-o", str(tmp_path / "page"), PATH.format("csv") + "&limit=5"
        )
        assert b"link: </v1/data/sample/AAPL.csv?" in head
        assert len((tmp_path / "page").read_bytes().splitlines()) == 6
        asked = await curl(
            opened,
            *("-H", "content-type: application/json", "-d", '{"query": {"type": "ProviderList"}}'),
            "/v1/query",
        )
        assert json.loads(asked)["result"] == ["sample"]


async def test_pandas_shows_a_token(tmp_path: Path) -> None:
    """As docs/authentication.md has it: what it calls storage options are headers."""
    async with web(tmp_path, SampleProvider(), auth=True) as opened:
        one = await person(opened.authority, "fetch")
        token = await api_token(opened.authority, one.email)
        url = opened.url + PATH.format("parquet")
        shown = {"Authorization": f"Bearer {token}"}
        frame = await asyncio.to_thread(pd.read_parquet, url, storage_options=shown)
        assert len(frame) > 1_000
        written = (Path(__file__).parents[2] / "docs" / "authentication.md").read_text("utf-8")
        assert 'read_parquet(url, storage_options={"Authorization": "Bearer ' in written
