"""The export example apart from a hub: what it writes can be read again, and how it refuses."""

from __future__ import annotations

import socket
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import polars as pl
import pytest
from polars.testing import assert_frame_equal

from support.examples import example

export, files = example("export"), example("files")

FRAME = pl.DataFrame(
    {
        "timestamp": [
            datetime(2024, 1, 2, tzinfo=UTC),
            datetime(2024, 1, 2, 9, 30, 0, 250_000, tzinfo=UTC),
            datetime(2024, 1, 3, tzinfo=UTC),
        ],
        "close": [30.49, None, 1e-7],
        "volume": [123432400, 0, 2**40],
        "note": ['a "quoted", text', "=1+1", None],
        "open": [True, False, None],
    },
    schema_overrides={"timestamp": pl.Datetime("ms", "UTC")},
)


@pytest.mark.parametrize("ending", [".csv", ".xlsx", ".parquet", ".XLSX"])
def test_what_is_written_is_read_again(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, ending: str
) -> None:
    """Times, numbers, texts, booleans and nulls come back as they were; nothing else is left."""
    folder = tmp_path / "new" / "folder"
    export.write(FRAME, folder / f"X{ending}")
    assert [path.name for path in folder.iterdir()] == [f"X{ending}"]
    monkeypatch.setenv("PRICES_FOLDER", str(folder))
    bounds = (datetime(2024, 1, 1, tzinfo=UTC), datetime(2024, 2, 1, tzinfo=UTC))
    assert_frame_equal(files.Provider().fetch("X", *bounds, sheet=""), FRAME, check_exact=True)


@pytest.mark.parametrize("ending", [".csv", ".xlsx", ".parquet"])
def test_an_empty_series_is_an_empty_file(tmp_path: Path, ending: str) -> None:
    """Nothing to write is no error: the columns that are known are there."""
    export.write(FRAME.clear(), tmp_path / f"X{ending}")
    rows, schema = files.scan(tmp_path / f"X{ending}", "")
    assert schema.names() == FRAME.columns
    assert rows.collect().is_empty()


def run(capsys: pytest.CaptureFixture[str], *arguments: Any) -> tuple[int, str]:
    """Run the command; return its exit code and what it says."""
    code = export.main([str(argument) for argument in arguments])
    return code, capsys.readouterr().err


def test_an_unknown_ending_is_refused_before_anything_is_asked(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """The endings that there are stand in the message; no hub is needed to say so."""
    code, said = run(capsys, "sample", "AAPL", "2010-01-01", "now", tmp_path / "a.ods")
    assert code == 1
    assert ".csv, .xlsx, .parquet" in said


def test_a_parameter_without_a_value_is_refused(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """How it is written stands in the message."""
    code, said = run(capsys, "sample", "AAPL", "", "", tmp_path / "a.csv", "-p", "interval")
    assert (code, said) == (1, "-p interval: write NAME=VALUE\n")


def test_where_no_hub_answers_nothing_is_written(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    """The address stands in the message, and the file that was there is as it was."""
    monkeypatch.setenv("no_proxy", "127.0.0.1")
    file = tmp_path / "a.csv"
    file.write_text("as it was", "utf-8")
    with socket.socket() as taken:
        # Bound and not listening: nobody else can answer there either.
        taken.bind(("127.0.0.1", 0))
        hub = f"http://127.0.0.1:{taken.getsockname()[1]}"
        code, said = run(capsys, "sample", "AAPL", "2010-01-01", "now", file, "--http", hub)
    assert code == 1
    assert f"no hub answers at {hub}/v1/data/sample/AAPL.arrow" in said
    assert file.read_text("utf-8") == "as it was"


def test_a_sheet_has_so_many_rows(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """What Excel cannot hold is refused, and nothing is cut off."""
    monkeypatch.setattr(export, "EXCEL_ROWS", 2)
    with pytest.raises(export.ExportError, match="3 records are more than the 2"):
        export.write(FRAME, tmp_path / "a.xlsx")
    assert list(tmp_path.iterdir()) == []


def test_a_file_that_cannot_be_written_is_named(tmp_path: Path) -> None:
    """Where a file stands in the way of a folder, it is said."""
    (tmp_path / "taken").touch()
    with pytest.raises(export.ExportError, match=r"a\.csv cannot be written"):
        export.write(FRAME, tmp_path / "taken" / "a.csv")


def test_what_stands_in_the_way_stays(tmp_path: Path) -> None:
    """Where the name is that of a folder, nothing half-written is left beside it."""
    (tmp_path / "a.xlsx").mkdir()
    with pytest.raises(export.ExportError, match=r"a\.xlsx cannot be written"):
        export.write(FRAME, tmp_path / "a.xlsx")
    assert [path.name for path in tmp_path.iterdir()] == ["a.xlsx"]
