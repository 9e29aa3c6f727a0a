"""The spreadsheet example: sheets as entities, and the paths that it refuses."""

from __future__ import annotations

import importlib
import json
import math
import os
from datetime import UTC, date, datetime
from pathlib import Path
from typing import Any

import polars as pl
import pytest

from support.examples import example

spreadsheet = example("spreadsheet")
# It has no types.
xlsxwriter = importlib.import_module("xlsxwriter")


@pytest.fixture
def provider(monkeypatch: pytest.MonkeyPatch) -> Any:
    """Return the provider, free to read what it is told to."""
    monkeypatch.delenv("SPREADSHEET_FOLDER", raising=False)
    return spreadsheet.Provider()


@pytest.fixture
def book(tmp_path: Path) -> Path:
    """Return a workbook of two sheets."""
    path = tmp_path / "book of #1.xlsx"
    with xlsxwriter.Workbook(path) as workbook:
        frame = pl.DataFrame(
            {"name": ["Ä", None], "day": [date(2024, 1, 2)] * 2, "share": [0.25, 1.5], "n": [1, 2]}
        )
        frame.write_excel(workbook, worksheet="Positions")
        workbook.add_worksheet("Empty")
    return path


def search(provider: Any, *filters: dict[str, Any]) -> list[dict[str, Any]]:
    """Return what a search answers."""
    request = {"SearchEntities": {"query": list(filters), "limit": None}}
    found: list[dict[str, Any]] = provider.fetch_entities(request)
    return found


def test_each_sheet_is_an_entity(provider: Any, book: Path) -> None:
    """Rows come in order under the names of the first one, and an empty sheet is an empty array."""
    positions, empty = search(provider, {"ByUrl": str(book)})
    assert positions["id"] == f"spreadsheet:{book}#Positions"
    assert json.loads(positions["data"]) == [
        {"name": "Ä", "day": "2024-01-02", "share": 0.25, "n": 1},
        {"name": None, "day": "2024-01-02", "share": 1.5, "n": 2},
    ]
    assert json.loads(positions["tags"]) == [f"url={book}", "sheet=Positions", "rows=2"]
    assert json.loads(empty["data"]) == []


def test_all_ways_to_name_a_file_are_one(provider: Any, book: Path) -> None:
    """A search by url or id and a report find the same; an id finds its own sheet."""
    expected = search(provider, {"ByUrl": str(book)})
    assert search(provider, {"ById": str(book)}, {"ByState": "ready"}) == expected
    assert search(provider, {"ByUrl": f"file://{book}"}) == expected
    assert provider.fetch_entities({"GetReport": {"url": str(book)}}) == expected
    assert provider.fetch_entities({"GetEntity": {"id": str(book)}}) == expected[:1]
    for one in expected:
        assert provider.fetch_entities({"GetEntity": {"id": one["id"]}}) == [one]


def test_a_csv_file_is_one_entity(provider: Any, tmp_path: Path) -> None:
    """It is called by the file's stem, changed when the file was; what is no number is null."""
    path = tmp_path / "table.csv"
    pl.DataFrame({"a": [1.5, math.nan, math.inf]}).write_csv(path)
    os.utime(path, (1704067200, 1704067200))
    (entity,) = search(provider, {"ByUrl": str(path)})
    assert entity["id"] == f"spreadsheet:{path}#table"
    assert json.loads(entity["data"]) == [{"a": 1.5}, {"a": None}, {"a": None}]
    assert datetime.fromisoformat(entity["updated_at"]) == datetime(2024, 1, 1, tzinfo=UTC)


def test_an_empty_csv_file_has_no_rows(provider: Any, tmp_path: Path) -> None:
    """Nothing in it is no error."""
    path = tmp_path / "empty.csv"
    path.touch()
    (entity,) = search(provider, {"ByUrl": str(path)})
    assert json.loads(entity["data"]) == []


@pytest.mark.parametrize(
    ("name", "says"),
    [
        ("", "directory"),
        ("missing.csv", "there is no file"),
        ("missing.xlsx#Sheet", "there is no file"),
        ("notes.txt", r"no \.csv or \.xlsx file"),
        ("bad.xlsx", "cannot be read"),
        ("ragged.csv", "cannot be read"),
        ("good.csv#other", "has no sheet 'other'; it has: good"),
    ],
)
def test_what_cannot_be_read_is_refused(
    provider: Any, tmp_path: Path, name: str, says: str
) -> None:
    """The message names the path and what is wrong with it."""
    (tmp_path / "notes.txt").write_text("a,b\n", "utf-8")
    (tmp_path / "bad.xlsx").write_text("a,b\n", "utf-8")
    (tmp_path / "ragged.csv").write_text("a,b\n1,2,3\n", "utf-8")
    (tmp_path / "good.csv").write_text("a,b\n1,2\n", "utf-8")
    with pytest.raises(spreadsheet.Refused, match=says) as caught:
        search(provider, {"ByUrl": str(tmp_path / name)})
    assert caught.value.reason == "upstream_rejected"
    assert str(tmp_path) in str(caught.value)


@pytest.mark.parametrize(
    ("filters", "says"),
    [
        ([{"ByUrl": "positions.xlsx"}], "full path"),
        ([{"ByUrl": "https://example.com/a.csv"}], "full path"),
        ([{"ByState": "ready"}], "which file"),
        ([{"Ticker": "AAPL"}, {"DateRange": {"start": "", "end": ""}}], "no tickers"),
    ],
)
def test_a_search_names_a_full_path(
    provider: Any, filters: list[dict[str, Any]], says: str
) -> None:
    """Where the path is relative or missing, the message shows how it is given."""
    with pytest.raises(spreadsheet.Refused, match=says):
        search(provider, *filters)


def test_a_large_file_is_refused(
    provider: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Nothing of a file over the limit is read."""
    monkeypatch.setattr(spreadsheet, "LARGEST", 10)
    path = tmp_path / "large.csv"
    path.write_text("a\n" * 6, "utf-8")
    with pytest.raises(spreadsheet.Refused, match="12 bytes"):
        search(provider, {"ByUrl": str(path)})


def test_only_one_folder_is_read_where_one_is_named(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Neither dots nor links lead out of it."""
    inside = tmp_path / "inside"
    inside.mkdir()
    for path in (inside / "a.csv", tmp_path / "b.csv"):
        path.write_text("a\n1\n", "utf-8")
    (inside / "link.csv").symlink_to(tmp_path / "b.csv")
    monkeypatch.setenv("SPREADSHEET_FOLDER", str(inside))
    provider = spreadsheet.Provider()
    assert len(search(provider, {"ByUrl": str(inside / "a.csv")})) == 1
    for path in (tmp_path / "b.csv", inside / ".." / "b.csv", inside / "link.csv"):
        with pytest.raises(spreadsheet.Refused, match="not below"):
            search(provider, {"ByUrl": str(path)})
