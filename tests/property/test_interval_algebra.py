"""Interval arithmetic against another library's, on small numbers where everything touches."""

from __future__ import annotations

from collections.abc import Iterable
from itertools import pairwise

import portion
from hypothesis import given
from hypothesis import strategies as st

from gapless.domain.intervals import Interval, covers, intersect, join, subtract, union
from support.series import intervals

sets = st.lists(intervals(), max_size=8)


def oracle(one: Iterable[Interval]) -> portion.Interval:
    """Return the same set as `portion` has it."""
    result = portion.empty()
    for interval in one:
        result |= portion.closedopen(*interval)
    return result


def ours(one: portion.Interval) -> list[Interval]:
    """Return `portion`'s set as ours, in normal form."""
    return [Interval(part.lower, part.upper) for part in one if not part.empty]


@given(sets, sets)
def test_union(left: list[Interval], right: list[Interval]) -> None:
    """A union holds what either side holds, sorted and joined where they touch."""
    assert union(left, right) == ours(oracle(left) | oracle(right))


@given(sets, sets)
def test_subtract(left: list[Interval], right: list[Interval]) -> None:
    """A difference holds what only the left side holds."""
    assert subtract(left, right) == ours(oracle(left) - oracle(right))


@given(sets, sets)
def test_intersect(left: list[Interval], right: list[Interval]) -> None:
    """An intersection holds what both sides hold."""
    assert intersect(left, right) == ours(oracle(left) & oracle(right))


@given(sets, intervals())
def test_covers(left: list[Interval], asked: Interval) -> None:
    """A set covers a range exactly if it contains it."""
    assert covers(left, asked) == (portion.closedopen(*asked) in oracle(left))


@given(sets, st.integers(0, 10))
def test_join(left: list[Interval], distance: int) -> None:
    """Joining adds the holes of at most the distance, and nothing else."""
    joined = join(left, distance)
    holes = [Interval(one.end, two.start) for one, two in pairwise(union(left))]
    small = [hole for hole in holes if hole.length <= distance]
    assert joined == union(left, small)


@given(intervals(), intervals())
def test_one_interval_with_another(left: Interval, right: Interval) -> None:
    """Overlap, containment and intersection of two intervals agree with the sets they are."""
    one, two = oracle([left]), oracle([right])
    assert left.overlaps(right) == one.overlaps(two)
    assert left.intersection(right).empty == (one & two).empty
    assert left.length == len(range(*left))
    if not right.empty:
        assert left.contains(right) == (two in one)
