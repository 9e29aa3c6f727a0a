"""Answers as a person sees them: no number cut, no escape let through, no gap hidden."""

from __future__ import annotations

import io
from collections.abc import Iterable
from typing import Any

import polars as pl
import pytest
from hypothesis import given
from hypothesis import strategies as st
from rich.cells import cell_len
from rich.console import Console, RenderableType

from gapless.errors import InvalidQuery
from gapless.shell.charts import BLOCKS, PLAIN, Canvas
from gapless.shell.rendering import (
    chart_view,
    coverage_view,
    help_view,
    plan_view,
    result_view,
    results_view,
    table_view,
    vertical_view,
)
from support.answers import result_of

DAY0 = 1_735_689_600  # 2025-01-01
EVIL = "\x1b[2J"
FROM, TO = "2025-01-01T00:00:00Z", "2025-01-11T00:00:00Z"
TAGS = ("ticker=AAPL", f"from={FROM}", f"to={TO}")
BARS = [
    {"timestamp": DAY0 + 86_400 * i, "open": 1.5 + i, "high": 3.0 + i, "low": 1.0, "close": 2.0,
     "adjclose": 2.0, "volume": 1_234_567_890}
    for i in range(10)
]  # fmt: skip


def printed(parts: RenderableType | Iterable[RenderableType], width: int = 80) -> str:
    """Return what a terminal of that width gets, without colours."""
    stream = io.StringIO()
    console = Console(file=stream, width=width, highlight=False, markup=False, emoji=False)
    single = hasattr(parts, "__rich_console__") or isinstance(parts, str)
    for part in [parts] if single else parts:  # type: ignore[union-attr]  # one, or several
        console.print(part)
    return stream.getvalue()


def is_clean(text: str) -> bool:
    """Whether nothing in a text moves a terminal's cursor, but for new lines."""
    return all(line.isprintable() for line in text.split("\n"))


def frame_of(**columns: list[Any]) -> pl.DataFrame:
    """Return a frame of these columns."""
    return pl.DataFrame(columns)


def instants(*seconds: float) -> pl.Series:
    """Return a column of instants in UTC."""
    micros = pl.Series("timestamp", [round(one * 1e6) for one in seconds])
    return micros.cast(pl.Datetime("us", "UTC"))


texts = st.text(max_size=80) | st.sampled_from([EVIL, "漢字" * 40, "a\nb", "", "x" * 200])
columns = st.dictionaries(
    st.text(max_size=12) | st.sampled_from([EVIL, "\\x1b[2J", "漢" * 20, "timestamp"]),
    st.sampled_from(["text", "int", "float"]),
    min_size=1,
    max_size=9,
)


@given(columns, st.lists(texts, min_size=1, max_size=3), st.integers(20, 120), st.booleans())
def test_tables_are_never_wider_than_the_terminal(
    kinds: dict[str, str], values: list[str], width: int, blocks: bool
) -> None:
    """Columns go and texts are cut until all fits; what is printed moves no cursor."""
    made: dict[str, list[Any]] = {"text": values, "int": [10**11], "float": [1e6 / 3]}
    frame = pl.DataFrame(
        {name: (made[kind] * len(values))[: len(values)] for name, kind in kinds.items()}
    )
    text = table_view(frame, width, blocks).plain
    assert max(map(cell_len, text.split("\n"))) <= width
    assert is_clean(text)


@pytest.mark.parametrize("width", [20, 30, 40, 60, 80, 100, 200])
def test_numbers_are_whole_or_not_there(width: int) -> None:
    """A narrow terminal has fewer columns, and each of them with all its digits."""
    shown = table_view(result_of(BARS).to_polars(), width, blocks=True).plain
    known = {
        "timestamp",
        "2025-01-01",
        "1,234,567,890",
        "…",
        "1.5000",
        "3.0000",
        "1.0000",
        "2.0000",
    }
    first = [cell.strip() for cell in shown.split("\n")[3].strip("│").split("┆")]
    assert {*first} <= known
    assert "2025-01-01" in first
    assert ("…" in first) == (width < 79)


def test_texts_are_cut_before_numbers_are() -> None:
    """A few long texts leave room for the numbers beside them."""
    frame = frame_of(name=["x" * 100], note=["y" * 100], close=[1_234_567.891])
    shown = table_view(frame, 60, blocks=False).plain
    assert "1,234,567.8910" in shown
    assert "xxxx..." in shown
    assert "yyyy..." in shown


@pytest.mark.parametrize(
    ("seconds", "expected"),
    [
        ((DAY0, DAY0 + 86_400), ["2025-01-01", "2025-01-02"]),
        ((DAY0, DAY0 + 3_600), ["2025-01-01 00:00", "2025-01-01 01:00"]),
        ((DAY0, DAY0 + 1), ["2025-01-01 00:00:00", "2025-01-01 00:00:01"]),
        ((DAY0, DAY0 + 0.25), ["2025-01-01 00:00:00", "2025-01-01 00:00:00.250"]),
    ],
)
def test_instants_are_days_where_all_are_midnights(
    seconds: tuple[float, ...], expected: list[str]
) -> None:
    """A time is shown as finely as one of them needs it."""
    frame = pl.DataFrame([instants(*seconds), pl.Series("n", range(len(seconds)))])
    shown = table_view(frame, 80, blocks=False).plain.split("\n")
    assert [row.split("|")[1].strip() for row in shown[3:5]] == pytest.approx(expected)
    lines = vertical_view(frame).plain.split("\n")
    assert [line.split("timestamp  ")[1] for line in lines if "timestamp" in line] == expected


@pytest.mark.parametrize(
    ("values", "shown"),
    [
        ([1.5, 1234.5], ["1.5000", "1,234.5000"]),
        ([0.00012345, 2.0], ["0.00012345", "2.0000"]),
        ([1.2345e-9, 0.0, None], ["1.2345e-09", "0.0000", "null"]),
        ([1e300, -2.5], ["1e+300", "-2.5000"]),
        ([None, 2.0], ["null", "2.0000"]),
    ],
)
def test_tiny_and_huge_numbers_keep_their_digits(
    values: list[float | None], shown: list[str]
) -> None:
    """What four decimals would wipe out is shown as it is."""
    text = table_view(frame_of(x=values), 80, blocks=False).plain
    assert [row.strip("| ") for row in text.split("\n")[3:-1]] == shown


def test_escapes_in_data_are_spelled_out() -> None:
    """Neither a value nor the name of a column rewrites the screen, in no view."""
    records = [
        {"timestamp": DAY0, f"a{EVIL}": f"b{EVIL}", "n": [EVIL, {"k": EVIL}], "a\\x1b[2J": 1}
    ]
    result = result_of(
        records,
        {"cached": [[FROM, TO]], "why": [
            {"from": FROM, "to": TO, "reason": "x", "message": f"why{EVIL}"}
        ]},
        (f"ticker=T{EVIL}", f"from={FROM}", f"to={TO}"),
        id=f"id{EVIL}",
        source=f"source{EVIL}",
        state=f"state{EVIL}",
        last_error=f"error{EVIL}",
    )  # fmt: skip
    spelled = "\\x1b[2J"
    for vertical in (False, True):
        view = result_view(result, 10, 300, vertical=vertical, blocks=True)
        text = printed(view, 300)
        assert is_clean(text)
        for word in ("id", "source", "T", "error", "why", "a", "b", "state"):
            assert f"{word}{spelled}" in text
    assert is_clean(printed(results_view([result, result])))
    assert spelled in printed(results_view([result, result]))
    raw = result_of({"text": EVIL})
    assert is_clean(printed(result_view(raw, 10, 80, vertical=False, blocks=True)))


def test_columns_that_look_alike_are_both_shown() -> None:
    """A name with an escape and one that spells it are two columns."""
    shown = table_view(frame_of(**{EVIL: [1], "\\x1b[2J": [2]}), 80, blocks=False).plain
    assert shown.split("\n")[1].replace(" ", "") == "|\\x1b[2J|\\x1b[2J'|"


def test_records_are_shown_vertically() -> None:
    """A line for each value, names to the right, values whole."""
    frame = frame_of(a=[1.25, None], longer=["x\ny", "漢"])
    assert vertical_view(frame).plain.split("\n") == [
        "— 1 ——————",
        "     a  1.25",
        "longer  x\\ny",
        "— 2 ——————",
        "     a  None",
        "longer  漢",
    ]


STITCH = {
    "cached": [[FROM, "2025-01-04T00:00:00Z"]],
    "fetched": [["2025-01-04T00:00:00Z", "2025-01-06T00:00:00Z"]],
    "missing": [["2025-01-06T00:00:00Z", TO]],
    "why": [
        {"from": "2025-01-06T00:00:00Z", "to": TO, "reason": "rate_limited", "message": "too often"}
    ],
    "upstream_requests": 1,
    "state": "partial",
}


def test_a_result_has_a_head_a_bar_and_its_rows() -> None:
    """What was held, fetched and missing is told before the records, and how many there are."""
    result = result_of(BARS, STITCH, TAGS, source="sample", state="partial", last_error="too often")
    lines = printed(result_view(result, 2, 46, vertical=False, blocks=False), 46).split("\n")
    assert "".join(lines[:2]).replace(" ", "") == (
        "okProviderRequestsampleAAPLfrom2025-01-01to2025-01-11partial"
    )
    bar = next(line for line in lines if line.startswith("2025-01-01 #"))
    left, middle, right = bar.split(" ")
    assert (left, right) == ("2025-01-01", "2025-01-11")
    assert middle.strip("#+.%") == ""
    assert middle.startswith("######")
    assert middle.endswith("." * 9)
    assert 3 <= middle.count("+") <= 5
    text = " ".join(" ".join(lines).split())
    assert "# cached + fetched . missing 1 upstream request" in text
    assert "2025-01-06..2025-01-11: too often" in text
    assert "10 rows, the first 2 shown; all of them: :export FILE, or :set rows N" in text
    assert max(map(len, lines)) <= 46


def test_the_head_tells_when_upstream_changed_what_was_final() -> None:
    """Where it is known, at the end of the head; what is no instant is left out."""
    for told, shown in (
        ("2026-06-11T13:30:00Z", "ready, changed upstream 2026-06-11 13:30\n"),
        (None, "ready\n"),
        (EVIL, "ready\n"),
    ):
        stitch = {"cached": [[FROM, TO]], "upstream_requests": 0, "changed_at": told}
        result = result_of(BARS, stitch, TAGS, source="sample")
        text = printed(result_view(result, 2, 120, vertical=False, blocks=False), 120)
        assert text.startswith("ok ProviderRequest sample AAPL from 2025-01-01 to 2025-01-11")
        assert shown in text


def test_a_result_without_records_says_so() -> None:
    """An empty history has its head and its bar, and no table."""
    stitch = {"cached": [[FROM, TO]], "upstream_requests": 0}
    text = printed(result_view(result_of([], stitch, TAGS), 10, 80, vertical=False, blocks=True))
    assert "no records" in text
    assert "█ cached  0 upstream requests" in text
    assert "rows" not in text


def test_several_results_are_a_row_each() -> None:
    """Ids, how many records, and the state; data that is none has no count."""
    results = [
        result_of(BARS, id="sample:A", updated_at=FROM),
        result_of({"a": 1}, id="other:B", state="stale"),
    ]
    lines = [line.split() for line in printed(results_view(results)).split("\n")]
    assert lines[:4] == [
        ["id", "records", "state", "updated"],
        ["sample:A", "10", "ready", "2025-01-01", "00:00"],
        ["other:B", "stale"],
        ["2", "rows"],
    ]


def row(start: str, end: str, **changed: Any) -> dict[str, Any]:
    """Return a row of coverage as HTTP tells it."""
    usual = {
        "start": f"2025-01-{start}T00:00:00Z",
        "end": f"2025-01-{end}T00:00:00Z",
        "outcome": "held",
        "fetched_at": TO,
        "refresh_after": None,
        "fresh": True,
        "mark": None,
    }
    return usual | changed


def test_coverage_is_a_bar_with_a_legend() -> None:
    """Each kind has its shade, and what nothing is known of is missing."""
    told = {
        "id": f"sample:AAPL{EVIL}",
        "version": 7,
        "records": 1_234,
        "next_due": TO,
        "coverage": [
            row("01", "03", outcome="out_of_window"),
            row("03", "05", fresh=False),
            row("05", "07"),
            row("08", "10", outcome="empty"),
            row("10", "11", refresh_after=TO),
        ],
    }
    lines = printed(coverage_view(told, 42, False), 42).rstrip("\n").split("\n")
    assert lines[0] == "sample:AAPL\\x1b[2J  1,234 records"
    assert lines[1] == "2025-01-01 xxxxoooo####..____~~ 2025-01-11"
    for entry in ("# held", "~ provisional", "_ empty", "o due", "x out of window"):
        assert entry in " ".join(lines[2:])


@pytest.mark.parametrize("told", [{"id": "s:A", "records": 0, "coverage": []}, {"id": "s:A"}])
def test_no_coverage_is_told(told: dict[str, Any]) -> None:
    """A series that is not held is no error."""
    assert printed(coverage_view(told, 80, True)) == "s:A  0 records\nnothing is known of it\n"


def test_a_plan_lists_what_would_be_fetched() -> None:
    """Ranges, why, and what they cost at least."""
    told = {
        "id": "sample:AAPL",
        "cached": [],
        "gaps": [
            {"start": FROM, "end": "2025-01-04T00:00:00Z", "why": "not_held"},
            {"start": "2025-01-05T00:00:00Z", "end": "2025-01-06T00:00:00Z", "why": "not_fresh"},
            {"start": "2025-01-06T12:00:00Z", "end": TO, "why": "due"},
        ],
        "unserved": [],
        "doubted": [],
        "upstream_requests": 2,
        "next_due": TO,
    }
    assert [line.split() for line in printed(plan_view(told)).splitlines()] == [
        ["from", "to", "why"],
        ["2025-01-01", "2025-01-04", "not_held"],
        ["2025-01-05", "2025-01-06", "not_fresh"],
        ["2025-01-06T12:00:00Z", "2025-01-11", "due"],
        ["2", "upstream", "requests", "at", "least"],
    ]
    held = printed(plan_view({**told, "gaps": [], "upstream_requests": 0}))
    assert held == "nothing would be fetched: all of it is held and fresh\n"
    for lacking in ("unserved", "doubted"):
        told = {**told, "gaps": [], "unserved": [], lacking: [[FROM, TO]]}
        assert "is in doubt, or not served any more" in printed(plan_view(told))


def test_help_fits_the_terminal() -> None:
    """Each command is there, and no line is wider than 80 columns."""
    text = printed(help_view())
    assert ":plan QUERY" in text
    assert max(map(len, text.split("\n"))) <= 80


@pytest.mark.parametrize(
    ("frame", "column", "message"),
    [
        (frame_of(close=[]), None, "there are no records to draw"),
        (frame_of(a=["x"]), None, "there are no numbers to draw; columns with numbers: none"),
        (frame_of(a=["x"], b=[1], c=[2]), "a",
         "there are no numbers in a column 'a'; columns with numbers: b, c"),
        (frame_of(b=[1]), EVIL,
         "there are no numbers in a column '\\x1b[2J'; columns with numbers: b"),
        (frame_of(b=[1], timestamp=[2]), "timestamp",
         "there are no numbers in a column 'timestamp'; columns with numbers: b"),
        (pl.DataFrame({EVIL: [None]}, {EVIL: pl.Float64}), None, "all values of \\x1b[2J are null"),
        (frame_of(b=[float("nan"), float("inf")]), "b", "all values of b are null"),
    ],
)  # fmt: skip
def test_what_cannot_be_drawn_is_told(
    frame: pl.DataFrame, column: str | None, message: str
) -> None:
    """The error says what there is instead."""
    with pytest.raises(InvalidQuery) as raised:
        chart_view(frame, column, Canvas(80, 10, BLOCKS))
    assert raised.value.message == message


def test_prices_are_candles_and_a_column_is_a_line() -> None:
    """Without a column, prices are drawn; those that are not whole are left out."""
    frame = result_of([*BARS, {**BARS[0], "open": None}]).to_polars()
    chart = chart_view(frame, None, Canvas(80, 10, PLAIN)).plain
    assert "#" in chart
    assert chart.split("\n")[-2].count("-") == 10
    chart = chart_view(frame, "volume", Canvas(80, 10, PLAIN)).plain
    assert "*" * 11 in chart
    assert "1,234,567,890" in chart


def test_a_chart_without_instants_has_no_dates() -> None:
    """Whatever plugins hand out is drawn: no timestamps, null ones, prices that are texts."""
    assert "19" not in chart_view(frame_of(a=[1, 2]), None, Canvas(80, 10, PLAIN)).plain
    empty = pl.DataFrame({"timestamp": [None, None], "a": [1, 2]})
    empty = empty.cast({"timestamp": pl.Datetime("us", "UTC")})
    assert "19" not in chart_view(empty, "a", Canvas(80, 10, PLAIN)).plain
    odd = frame_of(open=["1"], high=["2"], low=["0"], close=["1"], a=[5])
    assert "*" in chart_view(odd, None, Canvas(80, 10, PLAIN)).plain
