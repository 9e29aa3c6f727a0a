"""The folder example: three formats, many spellings of time, and what it refuses."""

from __future__ import annotations

import importlib
from collections.abc import Callable
from datetime import UTC, date, datetime
from pathlib import Path
from typing import Any

import polars as pl
import pytest

from support.examples import FOLDER, example

files = example("files")
# It has no types.
xlsxwriter = importlib.import_module("xlsxwriter")

START = datetime(2024, 1, 2, tzinfo=UTC)
END = datetime(2024, 1, 4, tzinfo=UTC)
DAYS = [date(2024, 1, day) for day in (1, 2, 3, 4)]
PRICES = [1.5, 2.25, 3.0, 4.125]


@pytest.fixture
def provider(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Any:
    """Return the provider of an empty folder."""
    monkeypatch.setenv("PRICES_FOLDER", str(tmp_path))
    return files.Provider()


def fetch(provider: Any, ticker: str, sheet: str = "") -> pl.DataFrame:
    """Return the middle two of four days."""
    found = provider.fetch(ticker, START, END, sheet=sheet)
    assert isinstance(found, pl.DataFrame)
    return found


WRITERS: dict[str, Callable[[pl.DataFrame, Path], object]] = {
    ".csv": lambda frame, path: frame.write_csv(path),
    ".parquet": lambda frame, path: frame.write_parquet(path),
    ".xlsx": lambda frame, path: frame.write_excel(path),
}


@pytest.mark.parametrize("ending", list(WRITERS))
def test_each_format_is_read_by_range(provider: Any, tmp_path: Path, ending: str) -> None:
    """Rows of [start, end) come with their times as instants, the other columns as they are."""
    frame = pl.DataFrame({"Date": DAYS, "close": PRICES, "volume": [1, 2, 3, 4]})
    WRITERS[ending](frame, tmp_path / f"AAPL{ending}")
    assert fetch(provider, "AAPL").to_dicts() == [
        {"timestamp": datetime(2024, 1, 2, tzinfo=UTC), "close": 2.25, "volume": 2},
        {"timestamp": datetime(2024, 1, 3, tzinfo=UTC), "close": 3.0, "volume": 3},
    ]


@pytest.mark.parametrize(
    ("name", "times"),
    [
        ("timestamp", [1704067200, 1704153600, 1704240000, 1704326400]),
        ("time", [1704067200.0, 1704153600.0, 1704240000.0, 1704326400.0]),
        ("date", ["2024-01-01", "2024-01-02", "2024-01-03", "2024-01-04"]),
        ("DateTime", [f"2024-01-0{day}T02:00:00+02:00" for day in (1, 2, 3, 4)]),
        ("TIME", [f"2024-01-0{day} 00:00" for day in (1, 2, 3, 4)]),
        ("timestamp", [f"2024-01-0{day}T00:00:00.000Z" for day in (1, 2, 3, 4)]),
    ],
)
def test_times_are_understood(provider: Any, tmp_path: Path, name: str, times: list[Any]) -> None:
    """Seconds, dates and texts with or without an offset mean the same instants."""
    pl.DataFrame({"close": PRICES, name: times}).write_csv(tmp_path / "X.csv")
    found = fetch(provider, "X")
    assert found.columns == ["timestamp", "close"]
    assert found["timestamp"].to_list() == [START, datetime(2024, 1, 3, tzinfo=UTC)]


def test_of_two_columns_of_times_the_plainer_one_counts(provider: Any, tmp_path: Path) -> None:
    """`timestamp` goes before `date`, which stays a column like any other."""
    text = "date,timestamp\nsome,1704153600\nother,1704499200\n"
    (tmp_path / "X.csv").write_text(text, "utf-8")
    assert fetch(provider, "X").to_dicts() == [{"timestamp": START, "date": "some"}]


def test_instants_of_parquet_keep_their_zone(provider: Any, tmp_path: Path) -> None:
    """Aware instants are converted, naive ones are UTC, and milliseconds are kept."""
    moments = pl.Series([datetime(2024, 1, 2, 0, 0, 0, 5_000), datetime(2024, 1, 4)])  # noqa: DTZ001
    zoned = moments.dt.replace_time_zone("Europe/Berlin")
    for name, column in (("naive", moments), ("zoned", zoned)):
        pl.DataFrame({"time": column}).write_parquet(tmp_path / f"{name}.parquet")
    assert fetch(provider, "naive")["timestamp"].to_list() == [
        datetime(2024, 1, 2, 0, 0, 0, 5_000, tzinfo=UTC)
    ]
    assert fetch(provider, "zoned")["timestamp"].to_list() == [datetime(2024, 1, 3, 23, tzinfo=UTC)]


def test_a_column_that_is_whole_at_first_keeps_its_fractions(provider: Any, tmp_path: Path) -> None:
    """The types of a CSV file are decided by all of it, and blank lines are nothing."""
    rows = [f"2020-01-01T00:00:{n % 60:02d}Z,{n}\n" for n in range(500)]
    text = "time,close\n" + "".join(rows) + "\n2024-01-02,7.5\n\n"
    (tmp_path / "X.csv").write_text(text.replace("2024-01-02", "2024-01-02T00:00:00Z"), "utf-8")
    assert fetch(provider, "X")["close"].to_list() == [7.5]


def test_rows_come_in_order(provider: Any, tmp_path: Path) -> None:
    """A file may be in any order; of rows of one time the later comes last, and so wins."""
    text = "date,close\n2024-01-03,3\n2024-01-02,1\n2024-01-02,2\n"
    (tmp_path / "X.csv").write_text(text, "utf-8")
    assert fetch(provider, "X")["close"].to_list() == [1, 2, 3]


def test_a_sheet_can_be_chosen(provider: Any, tmp_path: Path) -> None:
    """A workbook's first sheet is read unless another is named."""
    with xlsxwriter.Workbook(tmp_path / "book.xlsx") as book:
        for sheet, price in (("first", 1.5), ("second", 2.5)):
            frame = pl.DataFrame({"date": [date(2024, 1, 2)], "close": [price]})
            frame.write_excel(book, worksheet=sheet)
    assert fetch(provider, "book")["close"].to_list() == [1.5]
    assert fetch(provider, "book", "second")["close"].to_list() == [2.5]
    with pytest.raises(files.UnusableFile, match="third"):
        fetch(provider, "book", "third")


def test_parquet_goes_before_csv(provider: Any, tmp_path: Path) -> None:
    """Of two files of one name the quicker is read."""
    frame = pl.DataFrame({"date": DAYS, "close": PRICES})
    frame.write_csv(tmp_path / "X.csv")
    frame.with_columns(close=pl.lit("parquet")).write_parquet(tmp_path / "X.parquet")
    assert fetch(provider, "X")["close"].to_list() == ["parquet", "parquet"]


@pytest.mark.parametrize(
    "ticker", ["Y", "~$Y", "../outside", "/etc/passwd", "x", "folder", "X.csv"]
)
def test_an_unknown_ticker_is_told_as_one(provider: Any, tmp_path: Path, ticker: str) -> None:
    """What is no file of the folder is unknown, wherever it leads; the known ones are listed."""
    for path in (tmp_path / "X.csv", tmp_path.parent / "outside.csv"):
        path.write_text("date,close\n2024-01-02,1\n", "utf-8")
    (tmp_path / "folder.csv").mkdir()
    (tmp_path / "~$Y.xlsx").touch()
    with pytest.raises(files.UnknownTicker, match=r"there are: X$") as caught:
        fetch(provider, ticker)
    assert caught.value.reason == "unknown_ticker"


@pytest.mark.parametrize(
    ("name", "content", "says"),
    [
        ("X.csv", b"day,close\n2024-01-02,1\n", "no column of times: .*found day, close"),
        ("X.csv", b"date,close\n02.01.2024,1\n", "no time in 1 of its rows"),
        ("X.csv", b"date,close\n2024-01-02,1\n,2\n", "no time in 1 of its rows"),
        ("X.csv", b"timestamp,close\n1704153600000,1\n", "no time in 1 of its rows"),
        ("X.csv", b"date,close\n2024-13-45,1\n", "cannot be read"),
        ("X.csv", b"date,close\ntrue,1\n", "date holds Boolean"),
        ("X.csv", b"date,close\n2024-01-02,1,2\n", "cannot be read"),
        ("X.csv", b"date,close\n2024-01-02,\xff\xfe\n", "cannot be read"),
        ("X.csv", b"", "cannot be read"),
        ("X.parquet", b"nothing of the kind", "cannot be read"),
        ("X.xlsx", b"nothing of the kind", "cannot be read"),
    ],
)
def test_a_file_that_is_no_history_is_refused(
    provider: Any, tmp_path: Path, name: str, content: bytes, says: str
) -> None:
    """The message names the file and what is wrong; nothing is left out quietly."""
    (tmp_path / name).write_bytes(content)
    with pytest.raises(files.UnusableFile, match=says) as caught:
        fetch(provider, "X")
    assert caught.value.reason == "upstream_rejected"
    assert name in str(caught.value)
    assert "\n" not in str(caught.value)


def test_sheets_belong_to_workbooks(provider: Any, tmp_path: Path) -> None:
    """A sheet of a CSV file is refused, not ignored: it would be a second series of the same."""
    (tmp_path / "X.csv").write_text("date,close\n2024-01-02,1\n", "utf-8")
    with pytest.raises(files.UnusableFile, match="has no sheets"):
        fetch(provider, "X", "first")


def test_a_missing_folder_is_named(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """Without the folder nothing is unknown: the message says how to name another."""
    monkeypatch.setenv("PRICES_FOLDER", str(tmp_path / "nowhere"))
    with pytest.raises(files.UnusableFile, match=r"nowhere.*PRICES_FOLDER"):
        fetch(files.Provider(), "X")


def test_the_folder_beside_it_is_the_default(monkeypatch: pytest.MonkeyPatch) -> None:
    """Without the variable it is `prices` beside the file."""
    monkeypatch.delenv("PRICES_FOLDER", raising=False)
    assert files.Provider().folder == FOLDER / "prices"
