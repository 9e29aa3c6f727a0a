"""A series in memory: as the store last showed it, with the runs that were asked for."""

from __future__ import annotations

from array import array
from collections.abc import Mapping
from itertools import accumulate, pairwise
from operator import add

from gapless.domain.blocks import Run
from gapless.domain.intervals import Interval
from gapless.protocol.messages import escape_text
from gapless.providers.base import DueMoments
from gapless.store.base import SeriesState

# What the objects around a run take, measured with tracemalloc.
_RUN_BYTES = 600
_SAMPLE_BYTES = 4_096


class HotRun:
    """A run in memory, with its pre-escaped form from its second use on.

    The wire shows records inside a JSON string; escaping a run once makes every later answer a
    slice (stitching rule 17).
    """

    __slots__ = ("_escaped", "_offsets", "_used", "run")

    def __init__(self, run: Run) -> None:
        self.run = run
        self._escaped: bytes | None = None
        self._offsets: array[int] | None = None
        self._used = False

    @property
    def size(self) -> int:
        """Bytes that it takes, about, with its escaped form, which may yet be made."""
        text = self.run.text
        # Records of one run are much alike, and all of them take a while to look through.
        sample = text[:_SAMPLE_BYTES]
        escapes = sample.count(b'"') + sample.count(b"\\")
        escapes = escapes * len(text) // (len(sample) or 1)
        return _RUN_BYTES + 2 * len(text) + escapes + 32 * len(self.run)

    @property
    def ready(self) -> bool:
        """Whether its escaped form is made."""
        return self._escaped is not None

    def prepare(self) -> None:
        """Make its escaped form, wherever that is called: nobody need wait for it later."""
        if self._escaped is None:
            self._prepare()

    def escaped(self, i: int, j: int) -> bytes:
        """Return the records `[i, j)` joined by commas, as they stand inside a JSON string."""
        if i >= j:
            return b""
        if self._escaped is None or self._offsets is None:
            if not self._used:
                self._used = True
                return escape_text(self.run.joined(i, j))
            self._prepare()
            assert self._escaped is not None and self._offsets is not None
        return self._escaped[self._offsets[i] : self._offsets[j] - 1]

    def _prepare(self) -> None:
        text, offsets = self.run.text, self.run.offsets
        edges = list(offsets)
        count = text.count
        shifts = [count(b'"', i, j) for i, j in pairwise(edges)]
        if b"\\" in text:
            backslashes = (count(b"\\", i, j) for i, j in pairwise(edges))
            shifts = list(map(add, shifts, backslashes))
        moved = map(add, edges, accumulate(shifts, initial=0))
        # In this order, for another thread may be reading.
        self._offsets = array("q", moved)
        self._escaped = escape_text(text)


class Validity:
    """Whether a series in memory is still what the store shows, and when it is due.

    An object of its own, so that what was made of a series can ask without keeping it in memory.
    `moments` are when it was due last and is due next, as of some instant.
    """

    __slots__ = ("current", "moments")

    def __init__(self, current: bool = True) -> None:
        self.current = current
        self.moments: tuple[int, DueMoments | None] = (0, None)


class Series:
    """A series, or as much of it as was asked for, as the store showed it at a version.

    `runs` are those that it was looked up with, by the numbers of their blocks: whoever has it has
    them, whatever memory lets go meanwhile.
    """

    __slots__ = ("runs", "state", "validity")

    def __init__(
        self, state: SeriesState, validity: Validity, runs: Mapping[int, HotRun] | None = None
    ) -> None:
        self.state = state
        self.validity = validity
        self.runs: Mapping[int, HotRun] = {} if runs is None else runs

    @property
    def current(self) -> bool:
        """Whether it is still what the store shows."""
        return self.validity.current

    def at(self) -> tuple[int, int, int, int]:
        """Return the commits it shows: what is planned by it holds for all that show the same.

        It may be another object meanwhile, where memory has let it go and read it again.
        """
        state = self.state
        return state.version, state.due_before, state.ticker.version, state.ticker.due_before

    def holds(self, interval: Interval) -> bool:
        """Whether it has all runs over an interval of which it knows the blocks."""
        return all(block.number in self.runs for block in self.state.blocks.over(interval))

    def held(self, interval: Interval) -> Run:
        """Return the records of an interval, whose runs it was looked up with."""
        return Run.concat(
            [
                self.runs[block.number].run.cut(interval)
                for block in self.state.blocks.over(interval)
                if block.number is not None
            ]
        )
