"""Things in time, sorted and disjoint: what lies over an interval is a bisection and a slice.

Coverage and blocks are such things. Of a long series only a part of them may be known, so that
nothing costs more because there are more of them elsewhere.
"""

from __future__ import annotations

from bisect import bisect_left, bisect_right
from collections.abc import Iterable, Iterator, Sequence
from typing import Any, Generic, Protocol, TypeVar, overload

from gapless.domain.intervals import ALWAYS, Interval, union


class Span(Protocol):
    """What reaches from `start` to before `end`, milliseconds UTC."""

    @property
    def start(self) -> int:
        """The first instant."""
        ...

    @property
    def end(self) -> int:
        """The instant after the last one."""
        ...


T = TypeVar("T", bound=Span)


class Spans(Sequence[T], Generic[T]):
    """Spans that ascend and are disjoint, of which all are known within `known`.

    `known` is a normal set, and no span lies across an edge of it. It is never changed.
    """

    __slots__ = ("_ends", "_items", "_starts", "known")

    def __init__(
        self,
        items: Iterable[T] = (),
        known: Sequence[Interval] = (ALWAYS,),
        edges: tuple[list[int], list[int]] | None = None,
    ) -> None:
        self._items = list(items)
        if edges is None:
            edges = [one.start for one in self._items], [one.end for one in self._items]
        self._starts, self._ends = edges
        self.known = tuple(known)

    @overload
    def __getitem__(self, at: int) -> T: ...

    @overload
    def __getitem__(self, at: slice) -> Sequence[T]: ...

    def __getitem__(self, at: int | slice) -> T | Sequence[T]:
        return self._items[at]

    def __len__(self) -> int:
        return len(self._items)

    def __iter__(self) -> Iterator[T]:
        return iter(self._items)

    def __eq__(self, other: object) -> bool:
        if isinstance(other, Spans):
            return self._items == other._items and self.known == other.known
        return isinstance(other, Sequence) and self._items == list(other)

    __hash__ = None  # type: ignore[assignment]  # compared in tests, never a key

    def __repr__(self) -> str:
        return f"Spans({self._items!r}, known={self.known!r})"

    @property
    def whole(self) -> bool:
        """Whether there are no others."""
        return self.known == (ALWAYS,)

    @property
    def latest(self) -> T | None:
        """The last one there is; `None`: there is none, or it is not known which one it is."""
        return self._items[-1] if self._items and self.known[-1].end == ALWAYS.end else None

    def knows(self, interval: Interval) -> bool:
        """Whether all that lie over an interval are known."""
        known = self.known
        at = 0 if len(known) == 1 else bisect_right(known, interval.start, key=_start) - 1
        return bool(known) and known[at][0] <= interval[0] and interval[1] <= known[at][1]

    def bounds(self, interval: Interval) -> tuple[int, int]:
        """Return the indices `[i, j)` of those that overlap an interval that is not empty."""
        i = bisect_right(self._ends, interval.start)
        return i, bisect_left(self._starts, interval.end, i)

    def over(self, interval: Interval) -> Sequence[T]:
        """Return those that overlap an interval."""
        start, end = interval
        if start >= end:
            return ()
        i = bisect_right(self._ends, start)
        return self._items[i : bisect_left(self._starts, end, i)]

    def before(self, instant: int) -> Iterator[T]:
        """Yield those that begin before an instant, nearest first."""
        for at in range(bisect_left(self._starts, instant) - 1, -1, -1):
            yield self._items[at]

    def after(self, instant: int) -> Iterator[T]:
        """Yield those that end after an instant, nearest first."""
        for at in range(bisect_right(self._ends, instant), len(self._items)):
            yield self._items[at]

    def merged(self, other: Spans[T]) -> Spans[T]:
        """Return these, with all that another one knows in place of what is known there."""
        if other.whole:
            return other
        items, starts, ends = self._items[:], self._starts[:], self._ends[:]
        for part in other.known:
            i = bisect_right(ends, part.start)
            j = bisect_left(starts, part.end, i)
            k, m = other.bounds(part)
            items[i:j] = other._items[k:m]
            starts[i:j] = other._starts[k:m]
            ends[i:j] = other._ends[k:m]
        return Spans(items, union(self.known, other.known), (starts, ends))

    def replaced(self, interval: Interval, items: Sequence[T]) -> Spans[T]:
        """Return these with others in place of those that overlap an interval or touch it.

        The new ones lie within all of that together.
        """
        i = bisect_left(self._ends, interval.start)
        j = bisect_right(self._starts, interval.end, i)
        return Spans(
            [*self._items[:i], *items, *self._items[j:]],
            self.known,
            (
                [*self._starts[:i], *(one.start for one in items), *self._starts[j:]],
                [*self._ends[:i], *(one.end for one in items), *self._ends[j:]],
            ),
        )

    def touching(self, interval: Interval) -> Sequence[T]:
        """Return those that overlap an interval or touch it."""
        i = bisect_left(self._ends, interval.start)
        return self._items[i : bisect_right(self._starts, interval.end, i)]


def _start(interval: Any) -> int:
    start: int = interval[0]
    return start
