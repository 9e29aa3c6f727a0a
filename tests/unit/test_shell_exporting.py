"""Results in files: every format read back, and what was there before if that cannot be."""

from __future__ import annotations

import json
import os
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import polars as pl
import pytest
from polars.testing import assert_frame_equal

from gapless.client.failures import UnexpectedAnswer
from gapless.errors import GaplessError, InvalidQuery
from gapless.shell.exporting import SUFFIXES, export
from support.answers import result_of

RECORDS: list[dict[str, Any]] = [
    {"timestamp": 1_735_776_000, "close": 1.5, "volume": 7, "note": 'a, "b"\nc', "up": True},
    {"timestamp": 1_735_862_400, "close": 1e-9, "volume": None, "note": "é", "up": False},
    {"timestamp": 1_735_948_800, "close": -3.0, "volume": 2**53, "note": "\x1b[2J", "up": None},
]
RESULT = result_of(RECORDS)
FRAME = RESULT.to_polars()


def read_back(path: Path) -> pl.DataFrame:
    """Return the frame in a file."""
    match path.suffix:
        case ".csv":
            return pl.read_csv(path, schema_overrides=FRAME.schema)
        case ".arrow":
            return pl.read_ipc_stream(path)
    return pl.read_parquet(path)


@pytest.mark.parametrize("suffix", [".csv", ".arrow", ".parquet", ".CSV"])
def test_tables_are_read_back_as_they_were(tmp_path: Path, suffix: str) -> None:
    """All of it is there, with its kinds, and nothing is left beside it."""
    path = tmp_path / f"out{suffix}"
    assert export(RESULT, path) == 3
    if suffix == ".CSV":
        path = path.rename(tmp_path / "out.csv")
    assert_frame_equal(read_back(path), FRAME)
    assert [*tmp_path.iterdir()] == [path]


def test_json_is_the_records_as_the_wire_has_them(tmp_path: Path) -> None:
    """One array, or one line for each record; instants in Unix seconds."""
    export(RESULT, tmp_path / "out.json")
    assert json.loads((tmp_path / "out.json").read_text()) == RECORDS
    export(RESULT, tmp_path / "out.ndjson")
    lines = (tmp_path / "out.ndjson").read_text().splitlines()
    assert [json.loads(line) for line in lines] == RECORDS


def test_instants_are_instants() -> None:
    """A frame's timestamps are in UTC, so that what is compared above is what is meant."""
    assert FRAME["timestamp"][0] == datetime(2025, 1, 2, tzinfo=UTC)


@pytest.mark.parametrize("suffix", SUFFIXES)
def test_no_records_are_a_file_too(tmp_path: Path, suffix: str) -> None:
    """An empty answer gives a file that can be read, not an error."""
    path = tmp_path / f"out{suffix}"
    assert export(result_of([]), path) == 0
    if suffix in (".arrow", ".parquet"):
        assert read_back(path).height == 0
    else:
        assert path.read_text().strip() in ("", "[]", "timestamp")


@pytest.mark.parametrize("name", ["out.xlsx", "out", ".csv", "out.csv.gz"])
def test_another_ending_is_refused(tmp_path: Path, name: str) -> None:
    """The error lists what there is; nothing is written."""
    with pytest.raises(InvalidQuery) as raised:
        export(RESULT, tmp_path / name)
    assert raised.value.message.endswith("Endings: .csv, .json, .ndjson, .arrow, .parquet")
    assert not [*tmp_path.iterdir()]


def test_a_file_is_replaced(tmp_path: Path) -> None:
    """What was there before is gone, all of it."""
    path = tmp_path / "out.csv"
    path.write_text("x" * 10_000)
    export(RESULT, path)
    assert_frame_equal(read_back(path), FRAME)


def test_a_folder_that_is_not_there_is_told(tmp_path: Path) -> None:
    """The error names the file and the reason."""
    path = tmp_path / "none" / "out.csv"
    with pytest.raises(GaplessError) as raised:
        export(RESULT, path)
    assert raised.value.message == f"{path} cannot be written: No such file or directory"


def test_what_cannot_be_written_leaves_the_old_file(tmp_path: Path) -> None:
    """A disk that is full takes nothing from what is there."""
    if not Path("/dev/full").exists():
        pytest.skip("this system has no device that is always full")
    path = tmp_path / "out.json"
    path.write_text("old")
    part_of(path).symlink_to("/dev/full")
    with pytest.raises(GaplessError, match=r"out\.json cannot be written: No space left on device"):
        export(RESULT, path)
    assert path.read_text() == "old"
    assert [*tmp_path.iterdir()] == [path]


def test_what_cannot_be_replaced_leaves_nothing_behind(tmp_path: Path) -> None:
    """A folder of that name stays, and no half of a file beside it."""
    path = tmp_path / "out.csv"
    path.mkdir()
    with pytest.raises(GaplessError, match=r"out\.csv cannot be written: Is a directory"):
        export(RESULT, path)
    assert [*tmp_path.iterdir()] == [path]


@pytest.mark.parametrize("name", ["a\x00.csv", "a\ud800.csv"])
def test_what_is_no_name_is_told(tmp_path: Path, name: str) -> None:
    """What no file can be called is an error like others, fit to be printed."""
    with pytest.raises(InvalidQuery) as raised:
        export(RESULT, tmp_path / name)
    assert "is no name of a file" in raised.value.message
    assert raised.value.message.isprintable()


def test_an_entity_without_records_is_told(tmp_path: Path) -> None:
    """Data that is no list of records has no columns; nothing is written."""
    with pytest.raises(UnexpectedAnswer):
        export(result_of({"a": "text"}), tmp_path / "out.csv")
    assert not [*tmp_path.iterdir()]


def part_of(path: Path) -> Path:
    """Return what a file is written to before it takes its place."""
    return path.with_name(f".{path.name}.{os.getpid()}.part")


def test_a_file_keeps_its_mode(tmp_path: Path) -> None:
    """Who may read what was there may read what is there now, and nobody else."""
    path = tmp_path / "a.csv"
    path.touch(0o600)
    export(RESULT, path)
    assert path.stat().st_mode & 0o777 == 0o600
    assert path.read_text()
