"""Charts: how bars are merged, where they stand, what is written beside and below them."""

from __future__ import annotations

import math
from itertools import pairwise

import pytest
from hypothesis import given
from hypothesis import strategies as st
from rich.text import Text

from gapless.protocol.times import parse_instant
from gapless.shell.charts import BLOCKS, PLAIN, Bar, Canvas, Marks, Note, candles, line, merged

DAY = 86_400
START = parse_instant("2025-01-01", now_ms=0) // 1_000
ROOMY = 40  # the labels of any number fit beside a chart of this width

numbers = st.floats(-1e12, 1e12) | st.floats(allow_nan=False, allow_infinity=False)


@st.composite
def bars(draw: st.DrawFn) -> Bar:
    """Draw a bar whose high and low are such."""
    values = sorted(draw(st.lists(numbers, min_size=4, max_size=4)))
    first, last = draw(st.permutations(values[1:3]))
    return Bar(first, values[3], values[0], last)


def days(count: int) -> list[float]:
    """Return so many days from the start on."""
    return [float(START + DAY * i) for i in range(count)]


def rows(chart: Text) -> list[str]:
    """Return the rows with bars, from the top, without what is beside them."""
    lines = chart.plain.split("\n")[:-2]
    edge = max(lines[-1].find(mark) for mark in "┤|")
    return [line[edge + 1 :] for line in lines]


def labels(chart: Text) -> list[float]:
    """Return the numbers beside the rows, from the bottom."""
    beside = [line.partition(" ┤") for line in chart.plain.split("\n")]
    return [float(text.replace(",", "")) for text, edge, _ in reversed(beside) if edge]


@given(st.lists(bars(), max_size=60), st.integers(1, 50))
def test_merged_bars_keep_the_extremes(given_bars: list[Bar], width: int) -> None:
    """However many bars share a column, no extreme is lost, nor either end."""
    found = merged(given_bars, width)
    assert len(found) == min(width, len(given_bars))
    if found:
        assert max(bar.high for bar in found) == max(bar.high for bar in given_bars)
        assert min(bar.low for bar in found) == min(bar.low for bar in given_bars)
        assert (found[0].open, found[-1].close) == (given_bars[0].open, given_bars[-1].close)


def test_merged_bars_share_evenly() -> None:
    """Ten bars in four columns are two and three, in order."""
    ten = [Bar(i, i + 0.5, i - 0.5, i + 0.25) for i in range(10)]
    assert merged(ten, 4) == [
        Bar(0, 1.5, -0.5, 1.25),
        Bar(2, 4.5, 1.5, 4.25),
        Bar(5, 6.5, 4.5, 6.25),
        Bar(7, 9.5, 6.5, 9.25),
    ]
    assert merged(ten, 10) == ten


@given(
    st.lists(bars(), min_size=1, max_size=80),
    st.integers(ROOMY, 100),
    st.integers(1, 24),
    st.sampled_from([BLOCKS, PLAIN]),
)
def test_candles_fit_and_reach_top_and_bottom(
    drawn: list[Bar], width: int, height: int, marks: Marks
) -> None:
    """No line is wider than the width, and the extremes are in the outermost rows."""
    chart = candles(drawn, days(len(drawn)), Canvas(width, height, marks))
    assert max(map(len, chart.plain.split("\n"))) <= width
    found = rows(chart)
    assert len(found) == max(2, height)
    if max(bar.high for bar in drawn) > min(bar.low for bar in drawn):
        assert found[0].strip()
        assert found[-1].strip()
    assert (marks is BLOCKS) or chart.plain.isascii()


@given(
    st.lists(numbers, min_size=1, max_size=80),
    st.integers(ROOMY, 100),
    st.integers(1, 24),
    st.sampled_from([BLOCKS, PLAIN]),
)
def test_lines_fit_and_hang_together(
    values: list[float], width: int, height: int, marks: Marks
) -> None:
    """Every column has a stroke, one begins where the last ended, and the extremes are reached."""
    chart = line(values, days(len(values)), Canvas(width, height, marks))
    assert max(map(len, chart.plain.split("\n"))) <= width
    found = rows(chart)
    columns = ["".join(cells) for cells in zip(*found, strict=True)]
    assert all(column.strip() for column in columns)
    spans = [{at for at, cell in enumerate(column) if cell != " "} for column in columns]
    assert all(one & other for one, other in pairwise(spans))
    if max(values) > min(values):
        assert found[0].strip()
        assert found[-1].strip()
    assert (marks is BLOCKS) or chart.plain.isascii()


@given(st.lists(numbers.filter(lambda one: abs(one) < 1e300), min_size=1), st.integers(2, 24))
def test_labels_ascend(values: list[float], height: int) -> None:
    """Higher rows have higher labels, the lowest row the least value."""
    found = labels(line(values, days(len(values)), Canvas(60, height, BLOCKS)))
    assert found == sorted(found)
    near = (max(values) - min(values)) / 100 + 1e-5
    assert found[0] == pytest.approx(min(values), rel=4e-3, abs=near)


@pytest.mark.parametrize(
    ("low", "high", "first", "last"),
    [
        (100.0, 200.0, "100", "200"),
        (1.0, 2.0, "1.00", "2.00"),
        (0.001, 0.002, "0.00100", "0.00200"),
        (1e-9, 2e-9, "1e-09", "2e-09"),
        (0.0, 5e12, "0", "5,000,000,000,000"),
        (0.0, 5e18, "0", "5e+18"),
        (-1.5e308, 1.5e308, "-1.5e+308", "1.5e+308"),
        (185.25, 185.25, "185.25", "185.25"),
        (0.00123, 0.00123, "0.00123", "0.00123"),
        (0.0, 0.0, "0.00", "0.00"),
        (12_345.0, 12_345.0, "12,345", "12,345"),
    ],
)
def test_labels_have_as_many_digits_as_they_need(
    low: float, high: float, first: str, last: str
) -> None:
    """Neighbours differ, tiny numbers keep their digits, huge ones are not written out."""
    lines = line([low, high], days(2), Canvas(60, 9, BLOCKS)).plain.split("\n")
    assert lines[8].split(" ┤")[0].strip() == first
    assert lines[0].split(" ┤")[0].strip() == last


def test_rise_is_green_and_fall_is_red() -> None:
    """A close below the open is a fall; one that is the same is none."""
    three = [Bar(1, 4, 0, 3), Bar(3, 4, 0, 1), Bar(2, 4, 0, 2)]
    chart = candles(three, days(3), Canvas(40, 8, BLOCKS))
    styles: list[set[str]] = [set(), set(), set()]
    top = chart.plain.split("\n")[0]
    left, stride = len(top) - 3, len(top) + 1
    for span in chart.spans:
        column = span.start % stride - left
        if span.style in ("green", "red") and span.start < 8 * stride:
            styles[column].add(str(span.style))
    assert styles == [{"green"}, {"red"}, {"green"}]


@pytest.mark.parametrize(
    ("bar", "marks", "column"),
    [
        (Bar(0, 8, 0, 8), BLOCKS, "┃┃┃┃"),
        (Bar(2, 8, 0, 5.9), BLOCKS, "│┃┃│"),
        (Bar(3, 8, 0, 4), BLOCKS, "│┃┃│"),
        (Bar(4, 8, 0, 4), BLOCKS, "│┃││"),
        (Bar(2, 8, 0, 5.9), PLAIN, "|##|"),
    ],
)
def test_candles_have_bodies_and_wicks(bar: Bar, marks: Marks, column: str) -> None:
    """The body is from open to close, the wick from low to high; top first."""
    assert "".join(rows(candles([bar], days(1), Canvas(40, 4, marks)))) == column


@pytest.mark.parametrize(
    ("bar", "column"),
    [
        (Bar(5, 5, 4, 5), " ┃  "),
        (Bar(0, 0, 0, 0), "   ╻"),
        (Bar(1, 1, 1, 1), "   ╹"),
        (Bar(3.5, 3.5, 2.5, 3.5), "  ┃ "),
        (Bar(0, 2.5, 0, 0.5), "  ╷┃"),
    ],
)
def test_half_a_row_is_told_apart(bar: Bar, column: str) -> None:
    """Rows have an upper and a lower half; beside a bar over all of it, which sets the scale."""
    whole = Bar(0, 8, 0, 8)
    found = rows(candles([whole, bar], days(2), Canvas(40, 4, BLOCKS)))
    assert "".join(row[1] for row in found) == column


def test_flat_values_are_a_line_in_the_middle() -> None:
    """Without any span there is still something to see."""
    found = rows(line([5.0] * 10, days(10), Canvas(40, 9, PLAIN)))
    assert [row.strip() for row in found] == [""] * 4 + ["*" * 10] + [""] * 4
    assert all(
        row.strip() == ""
        for row in rows(candles([Bar(5, 5, 5, 5)], days(1), Canvas(40, 9, PLAIN)))[:4]
    )


@pytest.mark.parametrize(
    ("times", "count", "below"),
    [
        (days(30), 30, "2025-01-01          2025-01-30"),
        (days(12), 12, "2025-01-01"),
        (days(1), 1, "2025-01-01"),
        ([START + 3_600.0 * i for i in range(40)], 40, "2025-01-01              2025-01-02 15:00"),
        ([math.nan] * 30, 30, ""),
        ([1e300] * 30, 30, ""),
    ],
)
def test_dates_are_below(times: list[float], count: int, below: str) -> None:
    """The first and the last where both have room; where there are none, none is made up."""
    chart = line([float(i) for i in range(count)], times, Canvas(60, 8, PLAIN))
    floor, dates = chart.plain.split("\n")[-2:]
    assert dates.strip() == below
    assert floor.strip() == "+" + "-" * count
    assert not below or dates.index("2025") == floor.index("+") + 1


@pytest.mark.parametrize("width", range(1, 16))
def test_where_there_is_hardly_room_a_column_is_left(width: int) -> None:
    """A chart never fails for want of room; what it cannot do without it keeps."""
    values = [100.0, 200.0, 150.0]
    chart = line(values, days(3), Canvas(width, 4, PLAIN))
    beside = len("100 |")
    assert max(map(len, chart.plain.split("\n"))) <= max(width, beside + 1)
    assert len(rows(chart)[0]) == min(3, max(1, width - beside))


def test_notes_stand_below_their_bars() -> None:
    """Each letter is below the bar of its day; several that fall to one column are a star."""
    bars_of = [Bar(1.0, 2.0, 0.5, 1.5)] * 8
    notes = [
        Note(START + 2 * DAY + 60, "S", "split"),
        Note(START + 2 * DAY + 60, "D", "dividend"),
        Note(START + 5 * DAY, "D", "dividend"),
        Note(START - DAY, "G", "capital gain"),
    ]
    chart = candles(bars_of, days(8), Canvas(40, 6, PLAIN, notes=notes)).plain.split("\n")
    axis = chart[6].index("+")
    assert chart[7][axis + 1 :] == "  *  D"
    assert chart[-1].strip() == "* several of them  D dividend"
    chart = candles(bars_of, days(8), Canvas(40, 6, PLAIN, notes=notes[1:])).plain.split("\n")
    assert chart[7][axis + 1 :] == "  D  D"
    assert "split" not in candles(bars_of, days(8), Canvas(40, 6, PLAIN)).plain
