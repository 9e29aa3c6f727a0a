"""The arithmetic of half-open intervals, in tables."""

from __future__ import annotations

import pytest

from gapless.domain.intervals import Interval, covers, intersect, join, subtract, union

Set = list[tuple[int, int]]


def of(pairs: Set) -> list[Interval]:
    """Return pairs as intervals."""
    return [Interval(*pair) for pair in pairs]


UNION: list[tuple[str, Set, Set]] = [
    ("nothing", [], []),
    ("empty ones vanish", [(3, 3), (5, 4)], []),
    ("touching ones join", [(1, 2), (2, 3)], [(1, 3)]),
    ("a gap of one stays", [(1, 2), (3, 4)], [(1, 2), (3, 4)]),
    ("out of order", [(5, 6), (1, 2)], [(1, 2), (5, 6)]),
    ("one within another", [(1, 9), (3, 4)], [(1, 9)]),
    ("before the epoch", [(-5, -1), (-1, 2)], [(-5, 2)]),
]


@pytest.mark.parametrize(("name", "given", "expected"), UNION, ids=[row[0] for row in UNION])
def test_union(name: str, given: Set, expected: Set) -> None:
    """A union is sorted, disjoint and joined where intervals touch."""
    assert union(of(given)) == of(expected)


SUBTRACT: list[tuple[str, Set, Set, Set]] = [
    ("nothing from something", [(1, 5)], [], [(1, 5)]),
    ("something from nothing", [], [(1, 5)], []),
    ("the same", [(1, 5)], [(1, 5)], []),
    ("the middle", [(1, 9)], [(3, 5)], [(1, 3), (5, 9)]),
    ("the head", [(1, 9)], [(0, 3)], [(3, 9)]),
    ("the tail", [(1, 9)], [(7, 12)], [(1, 7)]),
    ("beside", [(1, 3)], [(3, 5)], [(1, 3)]),
    ("one hole over two", [(1, 4), (6, 9)], [(3, 7)], [(1, 3), (7, 9)]),
    ("many holes in one", [(0, 10)], [(1, 2), (3, 4), (9, 10)], [(0, 1), (2, 3), (4, 9)]),
    ("an empty hole", [(0, 10)], [(5, 5)], [(0, 10)]),
]


@pytest.mark.parametrize(("name", "left", "right", "expected"), SUBTRACT)
def test_subtract(name: str, left: Set, right: Set, expected: Set) -> None:
    """A difference keeps both sides of a hole, and nothing of length zero."""
    assert subtract(of(left), of(right)) == of(expected), name


INTERSECT: list[tuple[str, Set, Set, Set]] = [
    ("apart", [(1, 2)], [(3, 4)], []),
    ("touching", [(1, 3)], [(3, 4)], []),
    ("overlapping", [(1, 4)], [(3, 9)], [(3, 4)]),
    ("two in one", [(0, 10)], [(1, 2), (4, 5)], [(1, 2), (4, 5)]),
]


@pytest.mark.parametrize(("name", "left", "right", "expected"), INTERSECT)
def test_intersect(name: str, left: Set, right: Set, expected: Set) -> None:
    """An intersection is the same from either side."""
    assert intersect(of(left), of(right)) == of(expected), name
    assert intersect(of(right), of(left)) == of(expected), name


JOIN: list[tuple[str, Set, int, Set]] = [
    ("distance zero joins what touches", [(1, 2), (2, 3), (4, 5)], 0, [(1, 3), (4, 5)]),
    ("exactly the distance", [(1, 2), (5, 6)], 3, [(1, 6)]),
    ("one more than the distance", [(1, 2), (6, 7)], 3, [(1, 2), (6, 7)]),
    ("in a chain", [(0, 1), (2, 3), (4, 5)], 1, [(0, 5)]),
]


@pytest.mark.parametrize(("name", "given", "distance", "expected"), JOIN)
def test_join(name: str, given: Set, distance: int, expected: Set) -> None:
    """Neighbours at most the distance apart become one."""
    assert join(of(given), distance) == of(expected), name


def test_an_empty_interval_shares_nothing() -> None:
    """An empty interval overlaps nothing, not even what surrounds it, and is always covered."""
    assert not Interval(5, 5).overlaps(Interval(0, 10))
    assert not Interval(0, 10).overlaps(Interval(5, 5))
    assert Interval(7, 3).empty
    assert Interval(7, 3).length == 0
    assert covers([], Interval(5, 5))
