"""Ranges as bars of characters: what a cell shows, what never gets lost, what words say."""

from __future__ import annotations

import io

import pytest
from hypothesis import given
from hypothesis import strategies as st

from gapless.domain.intervals import Interval
from gapless.instants import DAY_MS
from gapless.shell import bars
from gapless.shell.bars import Shade, bar, cells, legend, ranged_bar
from gapless.shell.wording import (
    age_text,
    bounds_text,
    console_on,
    count_text,
    instant_text,
    size_text,
    takes_blocks,
)

SHADES = [bars.HELD, bars.PROVISIONAL, bars.EMPTY, bars.DUE, bars.OUT_OF_WINDOW]


def painted(parts: list[tuple[Shade, Interval]], whole: Interval, width: int) -> str:
    """Return the bar in ASCII."""
    return bar(cells(parts, whole, width), blocks=False).plain


@pytest.mark.parametrize(
    ("parts", "expected"),
    [
        ([], ".........."),
        ([(bars.HELD, Interval(0, 100))], "##########"),
        ([(bars.HELD, Interval(0, 50))], "#####....."),
        ([(bars.HELD, Interval(0, 50)), (bars.EMPTY, Interval(50, 100))], "#####_____"),
        ([(bars.HELD, Interval(0, 95)), (bars.PROVISIONAL, Interval(95, 100))], "#########~"),
        ([(bars.HELD, Interval(0, 51)), (bars.HELD, Interval(52, 100))], "#####%####"),
        ([(bars.HELD, Interval(31, 32))], "...%......"),
        ([(bars.DUE, Interval(0, 50)), (bars.OUT_OF_WINDOW, Interval(50, 100))], "oooooxxxxx"),
        ([(bars.DUE, Interval(0, 45)), (bars.OUT_OF_WINDOW, Interval(45, 100))], "oooo%xxxxx"),
        ([(bars.HELD, Interval(-50, 150))], "##########"),
        ([(bars.HELD, Interval(100, 200))], ".........."),
    ],
)
def test_cells_show_the_worst_of_what_lies_in_them(
    parts: list[tuple[Shade, Interval]], expected: str
) -> None:
    """Short gaps in much data and little data in long gaps both leave their mark."""
    assert painted(parts, Interval(0, 100), 10) == expected


@given(
    st.lists(st.tuples(st.sampled_from(SHADES), st.integers(1, 40)), max_size=20),
    st.integers(1, 60),
    st.integers(1, 30),
)
def test_no_gap_is_hidden_and_nothing_is_made_up(
    lengths: list[tuple[Shade, int]], rest: int, width: int
) -> None:
    """A cell is missing or partly so exactly where some instant of it is lacking."""
    parts: list[tuple[Shade, Interval]] = []
    at = 0
    for shade, length in lengths:
        parts.append((shade, Interval(at, at + length)))
        at += length
    whole = Interval(0, at + rest)
    found = cells(parts, whole, width)
    assert len(found) == width
    for i, shade in enumerate(found):
        here = Interval(whole.length * i // width, whole.length * (i + 1) // width)
        inside = {one for one, part in parts if part.overlaps(here)}
        if here.end > at and not here.empty:
            inside.add(bars.MISSING)
        if here.empty:
            continue
        lacking = {one for one in inside if one.lacking}
        if lacking and lacking != inside:
            assert shade is bars.PARTLY
        else:
            assert shade in inside


def test_an_empty_range_has_no_cells() -> None:
    """Nothing is painted where there is nothing."""
    assert cells([], Interval(5, 5), 10) == []


def test_a_bar_fills_the_width_it_is_given() -> None:
    """Both ends and the bar take the whole line, however the ends are written."""
    days = Interval(0, 400 * DAY_MS)
    line, shades = ranged_bar([(bars.HELD, days)], days, 80, blocks=True)
    assert line.plain == f"1970-01-01 {'█' * 58} 1971-02-05"
    assert shades == {bars.HELD}
    minutes = Interval(60_000, DAY_MS)
    line, shades = ranged_bar([], minutes, 80, blocks=False)
    assert line.plain == f"1970-01-01 00:01 {'.' * 46} 1970-01-02 00:00"
    assert shades == {bars.MISSING}


def test_a_narrow_terminal_still_gets_a_bar() -> None:
    """Ten cells are the least."""
    line, _ = ranged_bar([], Interval(0, DAY_MS), 12, blocks=False)
    assert line.plain.count(".") == 10


def test_a_legend_breaks_between_its_entries() -> None:
    """A character and its meaning stay on one line."""
    shades = [bars.HELD, bars.PROVISIONAL, bars.EMPTY, bars.MISSING]
    assert legend(shades, blocks=False).plain == "# held  ~ provisional  _ empty  . missing"
    assert legend(shades, blocks=False, width=24).plain == (
        "# held  ~ provisional\n_ empty  . missing"
    )


def test_every_shade_has_a_character_of_its_own() -> None:
    """What is drawn together can be told apart without colour."""
    for together in (
        [*SHADES, bars.MISSING, bars.PARTLY],
        [bars.CACHED, bars.FETCHED, bars.MISSING, bars.PARTLY],
    ):
        assert len({shade.block for shade in together}) == len(together)
        assert len({shade.plain for shade in together}) == len(together)
        assert all(shade.plain.isascii() for shade in together)


def test_nothing_is_coloured_when_piped() -> None:
    """What is no terminal gets the characters alone."""
    stream = io.StringIO()
    console_on(stream).print(bar([bars.HELD, bars.MISSING], blocks=True))
    assert stream.getvalue() == "█·\n"


@pytest.mark.parametrize(("encoding", "takes"), [("utf-8", True), ("ascii", False)])
def test_a_stream_says_whether_it_takes_more_than_ascii(encoding: str, takes: bool) -> None:
    """ASCII is what is left where block characters cannot be printed."""
    assert takes_blocks(io.TextIOWrapper(io.BytesIO(), encoding)) is takes


def test_words() -> None:
    """Sizes, ages, counts and instants read as people write them."""
    assert [size_text(size) for size in (0, 1023, 1536, 5 << 20, 3 << 40)] == [
        "0 bytes",
        "1023 bytes",
        "1.5 KiB",
        "5.0 MiB",
        "3.0 TiB",
    ]
    assert [age_text(ms) for ms in (-5, 90_000, 120_000, 7_200_000, 3 * DAY_MS)] == [
        "0 s",
        "90 s",
        "2 min",
        "2 h",
        "3 days",
    ]
    assert [count_text(n, "record") for n in (0, 1, 2_000)] == [
        "0 records",
        "1 record",
        "2,000 records",
    ]
    assert count_text(2, "series") == "2 series"
    assert instant_text(DAY_MS) == "1970-01-02 00:00"
    assert bounds_text(Interval(0, 100 * DAY_MS + 1)) == ("1970-01-01", "1970-04-11")
