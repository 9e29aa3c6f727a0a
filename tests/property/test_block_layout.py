"""Runs against parsed JSON, and the layout of blocks against a dict."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from itertools import pairwise
from typing import Any

import msgspec
import pytest
import xxhash
from hypothesis import given
from hypothesis import strategies as st
from msgspec import structs

from gapless.domain.blocks import EMPTY, Block, Relayout, Run, encode, etag, relayout
from gapless.domain.coverage import Coverage, cut, insert
from gapless.domain.intervals import Interval, covers
from gapless.domain.spans import Spans
from support.series import EMPTY as NOTHING
from support.series import HELD, OUT, filled, intervals, text

SIZE = 60

values = st.one_of(
    st.none(),
    st.booleans(),
    st.integers(-(2**63), 2**63),
    st.floats(allow_nan=False, allow_infinity=False),
    st.text(st.characters(exclude_categories=["Cs"]), max_size=8),
)
records = st.dictionaries(st.sampled_from(["a", "b", 'q"', "é"]), values, max_size=4)
histories = st.dictionaries(st.integers(0, SIZE - 1), records, max_size=12)


def laid(history: dict[int, dict[str, Any]]) -> Run:
    """Return a history as a run."""
    return Run.of((time, encode(history[time])) for time in sorted(history))


def parsed(joined: bytes) -> Any:
    """Return what a slice says."""
    return msgspec.json.decode(b"[" + joined + b"]")


@given(histories, intervals(SIZE))
def test_a_slice_is_what_filtering_finds(
    history: dict[int, dict[str, Any]], interval: Interval
) -> None:
    """A slice of the bytes says what parsing all and filtering says, and so do its cuts."""
    whole = laid(history)
    expected = [history[time] for time in sorted(history) if interval.start <= time < interval.end]
    i, j = whole.bounds(interval)
    part = whole.cut(interval)
    assert parsed(whole.joined(i, j)) == expected
    assert parsed(part.text) == expected
    assert [row for _, row in part.records()] == [encode(row) for row in expected]
    assert whole.text.isascii()
    assert etag(whole.sum(i, j)) == etag(part.sum(0, len(part)))
    assert whole.sum(i, j) == sum(xxhash.xxh3_64_intdigest(encode(r)) for r in expected) % 2**64
    assert Run.of(part.records()).index() == part.index()


@given(histories, st.lists(st.integers(0, SIZE), max_size=4))
def test_runs_come_apart_and_together(history: dict[int, dict[str, Any]], edges: list[int]) -> None:
    """Cutting a run anywhere, storing and loading its parts, and joining them gives it back."""
    whole = laid(history)
    stops = [0, *sorted(edges), SIZE]
    parts = [whole.cut(Interval(*span)) for span in pairwise(stops)]
    loaded = [Run.load(part.text, part.index()) for part in parts]
    again = Run.concat(loaded)
    assert again == whole
    assert again.index() == whole.index()
    assert Run.load(again.text, again.index()).cut(Interval(3, 30)) == whole.cut(Interval(3, 30))


@given(histories, st.data())
def test_no_flipped_bit_goes_unseen(
    history: dict[int, dict[str, Any]], data: st.DataObject
) -> None:
    """A bit that flipped in what was stored of a run is refused, wherever it is."""
    whole = laid(history)
    stored = bytearray(whole.text + whole.index())
    at = data.draw(st.integers(0, len(stored) - 1))
    stored[at] ^= 1 << data.draw(st.integers(0, 7))
    size = len(whole.text)
    with pytest.raises(ValueError, match="block"):
        Run.load(bytes(stored[:size]), bytes(stored[size:]))


@dataclass(frozen=True)
class Step:
    """One replacement: rows of coverage that tile parts of an interval, and records in it.

    `edition` tells the texts of its records apart from those of another one.
    """

    interval: Interval
    coverage: tuple[Coverage, ...]
    times: tuple[int, ...]
    edition: int

    @property
    def run(self) -> Run:
        """Its records."""
        return Run.of((time, text(time, float(self.edition))) for time in self.times)


@st.composite
def steps(draw: st.DrawFn) -> Step:
    """Draw a replacement as fetches, deletions and forgetful fetches make them."""
    interval = draw(filled(SIZE))
    edges = sorted({*interval, *draw(st.lists(st.integers(*interval), max_size=2))})
    rows = tuple(
        Coverage(start, end, outcome, 0, draw(st.sampled_from([None, None, 99])))
        for start, end in pairwise(edges)
        if (outcome := draw(st.sampled_from([HELD, HELD, HELD, NOTHING, OUT, None]))) is not None
    )
    spoken = [time for row in rows if row.outcome is HELD for time in range(row.start, row.end)]
    # Often all there could be, so that the very same comes again.
    some = st.sets(st.sampled_from(spoken or [0]))
    times = sorted(draw(some | st.just(set(spoken)))) if spoken else []
    return Step(interval, rows, tuple(times), draw(st.sampled_from([0, 0, 0, 1])))


class Layout:
    """The blocks of a series as a store keeps them, changed step by step, and which were read."""

    def __init__(self, limit: int) -> None:
        self.limit = limit
        self.known: list[Coverage] = []
        self.blocks: list[Block] = []
        self.stored: dict[int, Run] = {}
        self.read: list[Block] = []

    def load(self, blocks: Sequence[Block]) -> list[Run]:
        """Return what is stored of some blocks."""
        self.read += blocks
        return [self.run(block) for block in blocks]

    def run(self, block: Block) -> Run:
        """Return the run of a block, for the test itself."""
        assert block.number is not None
        return self.stored[block.number]

    def replace(self, interval: Interval, coverage: Sequence[Coverage], fresh: Run) -> Relayout:
        """Replace an interval; return what that changed."""
        self.read = []
        self.known = insert(cut(self.known, [interval]), coverage)
        made = relayout(
            Spans(self.blocks), Spans(self.known), interval, fresh, self.load, self.limit
        )
        assert len(set(made.removed)) == len(made.removed)
        self.blocks = [one for one in self.blocks if one not in made.removed]
        for piece in made.added:
            assert len(piece.run) <= self.limit
            number = len(self.stored) + 1
            self.blocks.append(structs.replace(piece.block(), number=number))
            self.stored[number] = piece.run
        self.blocks.sort(key=lambda one: one.start)
        return made

    def held(self) -> dict[int, bytes]:
        """Return all records by their time."""
        return {time: record for one in self.blocks for time, record in self.run(one).records()}

    def check(self) -> None:
        """Hold the blocks against what is known: the promises of stitching rule 17."""
        assert all(one.end <= two.start for one, two in pairwise(self.blocks))
        for block in self.blocks:
            run = self.run(block)
            assert block.count == len(run) > 0
            assert (block.first, block.last) == (run.times[0], run.times[-1])
            assert block.sum == run.sum(0, len(run))
            assert block.start <= block.first
            assert block.last < block.end
            alike = [row.interval for row in self.known if row.final == block.final]
            assert covers(alike, block.interval)
            # What may still change is laid by when it is due.
            rows = [row for row in self.known if row.interval.overlaps(block.interval)]
            assert block.final or len(rows) == 1

    def same(self, block: Block, before: Mapping[int, bytes]) -> bool:
        """Whether all of a block is known as it was, and its records are the very same."""
        rows = [row for row in self.known if row.interval.overlaps(block.interval)]
        span = range(block.start, block.end)
        now = self.held()
        return (
            all(row.final is block.final for row in rows)
            and covers([row.interval for row in rows], block.interval)
            and (block.final or len(rows) == 1)
            and all(now.get(time) == before.get(time) for time in span)
        )


layouts = st.builds(Layout, st.integers(1, 12))


@given(st.lists(steps(), max_size=10), layouts)
def test_layout_against_a_dict(done: list[Step], layout: Layout) -> None:
    """After each replacement the blocks hold what a dict holds, apart where they must be."""
    model: dict[int, bytes] = {}
    for step in done:
        interval = step.interval
        layout.replace(interval, step.coverage, step.run)
        model = {t: said for t, said in model.items() if not interval.start <= t < interval.end}
        model |= dict(step.run.records())
        assert layout.held() == model
        layout.check()


@given(st.lists(steps(), max_size=10), layouts)
def test_only_blocks_that_change_are_written(done: list[Step], layout: Layout) -> None:
    """A block that says the same afterwards stays, unless it grows by a small neighbour."""
    for step in done:
        before = layout.held()
        made = layout.replace(step.interval, step.coverage, step.run)
        for block in made.removed:
            grown = [
                piece
                for piece in made.added
                if piece.interval.contains(block.interval) and len(piece.run) > block.count
            ]
            assert grown or not layout.same(block, before)
        for block in layout.read:
            assert block in made.removed or not step.interval.contains(block.interval)
            assert block in made.removed or step.interval.overlaps(block.interval)


@given(st.lists(steps(), min_size=1, max_size=10), layouts, st.data())
def test_the_very_same_again_writes_no_block(
    done: list[Step], layout: Layout, data: st.DataObject
) -> None:
    """What is held is fetched again, all of it or a part: only a provisional block is ever cut."""
    for step in done:
        layout.replace(step.interval, step.coverage, step.run)
    spans = [*(row.interval for row in layout.known), *(one.interval for one in layout.blocks)]
    ends = [edge for span in spans for edge in span]
    edge = st.one_of(st.integers(0, SIZE), st.sampled_from(ends)) if ends else st.integers(0, SIZE)
    span = Interval(*sorted((data.draw(edge), data.draw(edge))))
    again = [
        structs.replace(row, start=part.start, end=part.end, fetched_at=5, commit=7)
        for row in layout.known
        if not (part := row.interval.intersection(span)).empty
    ]
    held = layout.held()
    fresh = Run.of((t, held[t]) for t in sorted(held) if span.start <= t < span.end)
    made = layout.replace(span, again, fresh)
    assert layout.held() == held
    layout.check()
    for block in made.removed:
        assert not block.final
        assert block.interval.overlaps(span)
        assert not span.contains(block.interval)


@given(st.lists(steps(), min_size=1, max_size=10), layouts)
def test_a_step_done_twice_is_done(done: list[Step], layout: Layout) -> None:
    """Doing the last replacement again takes no block away and brings none."""
    for step in done:
        layout.replace(step.interval, step.coverage, step.run)
    made = layout.replace(done[-1].interval, done[-1].coverage, done[-1].run)
    assert (made.removed, made.added) == ((), ())


def test_a_run_of_nothing_lays_nothing() -> None:
    """Replacing nothing by nothing changes nothing."""
    made = relayout(Spans(), Spans(), Interval(0, 9), EMPTY, lambda some: [], 10)
    assert (made.removed, made.added) == ((), ())
