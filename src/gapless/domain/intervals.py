"""Half-open intervals of integer milliseconds, and the arithmetic of sets of them.

A *set* here is a sequence of intervals; what the functions return is always normal: sorted, not
empty, neither overlapping nor touching.
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import NamedTuple


class Interval(NamedTuple):
    """`[start, end)`, milliseconds UTC (stitching rule 1)."""

    start: int
    end: int

    @property
    def empty(self) -> bool:
        """Whether no instant lies in it."""
        return self.start >= self.end

    @property
    def length(self) -> int:
        """Milliseconds from start to end, never negative."""
        return max(0, self.end - self.start)

    def overlaps(self, other: Interval) -> bool:
        """Whether the two share an instant."""
        return max(self.start, other.start) < min(self.end, other.end)

    def contains(self, other: Interval) -> bool:
        """Whether every instant of `other` lies in this one."""
        return self.start <= other.start and other.end <= self.end

    def intersection(self, other: Interval) -> Interval:
        """Return what the two share; it may be empty."""
        return Interval(max(self.start, other.start), min(self.end, other.end))


ALWAYS = Interval(-(1 << 62), 1 << 62)
"""All time: no instant that anything here is asked for lies outside of it."""


def union(*sets: Iterable[Interval]) -> list[Interval]:
    """Return the instants that lie in any of the sets."""
    ordered = [interval for one in sets for interval in one if interval[0] < interval[1]]
    if len(ordered) < 2:
        return ordered
    ordered.sort()
    result: list[Interval] = []
    for interval in ordered:
        if result and interval.start <= result[-1].end:
            if interval.end > result[-1].end:
                result[-1] = Interval(result[-1].start, interval.end)
        else:
            result.append(interval)
    return result


def subtract(left: Iterable[Interval], right: Iterable[Interval]) -> list[Interval]:
    """Return the instants of `left` that do not lie in `right`."""
    ours = union(left)
    holes = union(right) if ours else []
    if not holes:
        return ours
    result: list[Interval] = []
    at = 0
    for interval in ours:
        start = interval.start
        while at < len(holes) and holes[at].end <= start:
            at += 1
        probe = at
        while probe < len(holes) and holes[probe].start < interval.end:
            hole = holes[probe]
            if hole.start > start:
                result.append(Interval(start, hole.start))
            start = max(start, hole.end)
            probe += 1
        if start < interval.end:
            result.append(Interval(start, interval.end))
    return result


def intersect(left: Iterable[Interval], right: Iterable[Interval]) -> list[Interval]:
    """Return the instants that lie in both sets."""
    ours = union(left)
    theirs = union(right) if ours else []
    result: list[Interval] = []
    i = j = 0
    while i < len(ours) and j < len(theirs):
        shared = ours[i].intersection(theirs[j])
        if not shared.empty:
            result.append(shared)
        if ours[i].end <= theirs[j].end:
            i += 1
        else:
            j += 1
    return result


def join(intervals: Iterable[Interval], distance: int) -> list[Interval]:
    """Return the set with neighbours at most `distance` milliseconds apart made one."""
    result: list[Interval] = []
    for interval in union(intervals):
        if result and interval.start - result[-1].end <= distance:
            result[-1] = Interval(result[-1].start, interval.end)
        else:
            result.append(interval)
    return result


def covers(intervals: Iterable[Interval], asked: Interval) -> bool:
    """Whether every instant of `asked` lies in the set."""
    return not subtract([asked], intervals)


def hull(intervals: Iterable[Interval]) -> Interval:
    """Return the shortest interval that contains them all; there must be one at least."""
    ends = list(intervals)
    return Interval(min(one.start for one in ends), max(one.end for one in ends))
