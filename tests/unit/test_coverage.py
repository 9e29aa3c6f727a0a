"""Coverage: what is cut, what is joined, and when it is due."""

from __future__ import annotations

import pytest
from msgspec.structs import replace

from gapless.domain.coverage import (
    CLOCKS_APART_MS,
    Ageing,
    Coverage,
    Mark,
    cut,
    insert,
    written,
)
from gapless.domain.intervals import Interval
from gapless.domain.spans import Spans
from support.series import EMPTY, OUT, cover

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
    result = cut(rows, [interval])
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


def test_joined_rows_have_the_later_commit() -> None:
    """Nothing is claimed to be as a commit left it that a later one has written."""
    assert insert([cover(0, 10, commit=3)], [cover(10, 20, commit=7)]) == [cover(0, 20, commit=7)]
    assert insert([cover(10, 20, commit=3)], [cover(0, 10, commit=7)]) == [cover(0, 20, commit=7)]


def test_what_revises_is_joined_within_one_commit_alone() -> None:
    """What ages is told apart by when it was fetched, and by which commit (stitching rule 9)."""
    row = cover(0, 10, fetched_at=5, commit=3)
    same = cover(10, 20, fetched_at=5, commit=3)
    assert insert([row], [same], revises=True) == [cover(0, 20, fetched_at=5, commit=3)]
    for other in (replace(same, fetched_at=6), replace(same, commit=4)):
        assert insert([row], [other], revises=True) == [row, other]
        assert len(insert([row], [other])) == 1


def test_ages_that_are_weeks_apart_stay_apart() -> None:
    """What is forgotten by its age is not drawn along by what is more than a week older."""
    week = 7 * 86_400_000
    row = cover(0, 10, fetched_at=0)
    assert len(insert([row], [cover(10, 20, fetched_at=week)])) == 1
    assert len(insert([row], [cover(10, 20, fetched_at=week + 1)])) == 2


UNLIKE = [
    ("a gap between", cover(11, 20)),
    ("another outcome", cover(10, 20, EMPTY)),
    ("provisional", cover(10, 20, refresh_after=NOW)),
    ("marked", cover(10, 20, mark=Mark.UNVERIFIED)),
]


@pytest.mark.parametrize(("name", "row"), UNLIKE)
def test_unlike_rows_stay_apart(name: str, row: Coverage) -> None:
    """Only what touches, is final and alike in all but age becomes one."""
    assert insert([cover(0, 10)], [row]) == [cover(0, 10), row], name


def test_fresh_rows_replace_what_was_said_before() -> None:
    """What is inserted wins over what it overlaps, of whatever kind that was."""
    rows = [cover(0, 10, OUT), cover(10, 20), cover(20, 30, refresh_after=NOW)]
    fresh = cover(5, 25, EMPTY)
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
    [rest] = cut([tail], [Interval(NOW - 5_000, NOW)])
    assert not rest.reaches_present


def test_due() -> None:
    """Provisional coverage is due from its instant on, final coverage never."""
    row = cover(0, 10, refresh_after=NOW)
    assert not row.due(NOW - 1)
    assert row.due(NOW)
    assert not cover(0, 10).due(NOW * 9)


AGES: list[tuple[str, Coverage, bool]] = [
    ("at the moment itself", cover(0, 10, fetched_at=NOW - 100, commit=5), True),
    ("before it", cover(0, 10, fetched_at=NOW - 101, commit=5), False),
    ("by an earlier commit", cover(0, 10, fetched_at=NOW, commit=4), False),
    ("by a later one", cover(0, 10, fetched_at=NOW, commit=6), True),
    ("empty", cover(0, 10, EMPTY, fetched_at=NOW - 101, commit=5), False),
    ("provisional", cover(0, 10, fetched_at=NOW, refresh_after=NOW + 1, commit=5), True),
    ("by a clock a little ahead", cover(0, 10, fetched_at=NOW + CLOCKS_APART_MS, commit=5), True),
    ("by a clock far ahead", cover(0, 10, fetched_at=NOW + CLOCKS_APART_MS + 1, commit=5), False),
    ("an end far ahead", cover(0, NOW + CLOCKS_APART_MS + 1, fetched_at=NOW, commit=5), False),
]


@pytest.mark.parametrize(("name", "row", "fresh"), AGES, ids=[age[0] for age in AGES])
def test_what_is_fresh(name: str, row: Coverage, fresh: bool) -> None:
    """Fresh is what was fetched since the last moment due, by no clock ahead (rules 1 and 9)."""
    ageing = Ageing(since=NOW - 100, until=NOW + CLOCKS_APART_MS, commit=5)
    assert ageing.fresh(row) is fresh, name


def test_what_was_written_where() -> None:
    """Parts of one commit that touch are one, and only what overlaps is told, clipped."""
    rows = [
        cover(0, 10, commit=1),
        cover(10, 20, EMPTY, commit=1),
        cover(20, 30, commit=2),
        cover(40, 50, commit=2),
    ]
    assert written(Spans(rows), Interval(5, 45)) == ((5, 20, 1), (20, 30, 2), (40, 45, 2))
    assert written(Spans(rows), Interval(30, 40)) == ()
