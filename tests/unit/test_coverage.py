"""Coverage: what is cut, what is joined, and when it is due."""

from __future__ import annotations

from dataclasses import replace

import pytest

from gapless.domain.coverage import Coverage, Mark, cut, insert, within
from gapless.domain.intervals import Interval
from support.series import EMPTY, HELD, OUT, cover

NOW = 10_000_000

CUT: list[tuple[str, Interval, list[tuple[int, int]]]] = [
    ("beside", Interval(20, 30), [(0, 20), (30, 40)]),
    ("the middle of one", Interval(5, 8), [(0, 5), (8, 20), (30, 40)]),
    ("over both", Interval(10, 35), [(0, 10), (35, 40)]),
    ("all", Interval(-5, 99), []),
    ("nothing", Interval(7, 7), [(0, 20), (30, 40)]),
]


@pytest.mark.parametrize(("name", "interval", "left"), CUT)
def test_cut(name: str, interval: Interval, left: list[tuple[int, int]]) -> None:
    """A row over the edge of what is cut keeps its rest and its age."""
    rows = [cover(0, 20, fetched_at=7), cover(30, 40, fetched_at=9)]
    result = cut(rows, interval)
    assert [(row.start, row.end) for row in result] == left, name
    assert all(row.fetched_at == (7 if row.start < 30 else 9) for row in result)


def test_joined_rows_keep_the_older_fetched_at() -> None:
    """No instant is claimed to be fresher than it is."""
    assert insert([cover(0, 10, fetched_at=5)], [cover(10, 20, fetched_at=9)]) == [
        cover(0, 20, fetched_at=5)
    ]
    assert insert([cover(10, 20, fetched_at=5)], [cover(0, 10, fetched_at=9)]) == [
        cover(0, 20, fetched_at=5)
    ]
    rows = [cover(0, 10, fetched_at=9), cover(20, 30, fetched_at=5)]
    assert insert(rows, [cover(10, 20, fetched_at=7)]) == [cover(0, 30, fetched_at=5)]


UNLIKE = [
    ("a gap between", cover(11, 20)),
    ("another outcome", cover(10, 20, EMPTY)),
    ("another generation", cover(10, 20, generation=1)),
    ("provisional", cover(10, 20, refresh_after=NOW)),
    ("marked", cover(10, 20, mark=Mark.RESCALED)),
]


@pytest.mark.parametrize(("name", "row"), UNLIKE)
def test_unlike_rows_stay_apart(name: str, row: Coverage) -> None:
    """Only what touches, is final and alike in all but age becomes one."""
    assert insert([cover(0, 10)], [row]) == [cover(0, 10), row], name


def test_fresh_rows_replace_what_was_said_before() -> None:
    """What is inserted wins over what it overlaps, of whatever kind that was."""
    rows = [cover(0, 10, OUT), cover(10, 20, generation=0), cover(20, 30, refresh_after=NOW)]
    fresh = cover(5, 25, EMPTY, generation=1)
    assert insert(rows, [fresh]) == [
        cover(0, 5, OUT),
        fresh,
        replace(rows[2], start=25),
    ]


def test_a_cut_tail_no_longer_reaches_the_present() -> None:
    """Only a provisional row that ended at the present is a tail, within the floored second."""
    tail = cover(0, NOW - 999, fetched_at=NOW, refresh_after=NOW + 60_000)
    assert tail.reaches_present
    assert not tail.final
    assert not replace(tail, refresh_after=None).reaches_present
    [rest] = cut([tail], Interval(NOW - 5_000, NOW))
    assert not rest.reaches_present


def test_due() -> None:
    """Provisional coverage is due from its instant on, final coverage never."""
    row = cover(0, 10, refresh_after=NOW)
    assert not row.due(NOW - 1)
    assert row.due(NOW)
    assert not cover(0, 10).due(NOW * 9)


def test_within_returns_rows_whole() -> None:
    """Rows that overlap what is asked are returned as they are, those that touch are not."""
    rows = [cover(0, 10), cover(10, 20, HELD, generation=1), cover(20, 30)]
    assert within(rows, Interval(10, 20)) == [rows[1]]
    assert within(rows, Interval(9, 21)) == rows
