"""Runs against parsed JSON, and the layout of blocks against a dict."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from itertools import pairwise
from typing import Any

import msgspec
import pytest
import xxhash
from hypothesis import given
from hypothesis import strategies as st

from gapless.domain.blocks import EMPTY, Block, Run, encode, etag, relayout
from gapless.domain.coverage import Coverage, cut, insert
from gapless.domain.intervals import Interval, covers
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
    """One replacement: rows of coverage that tile parts of an interval, and records in it."""

    interval: Interval
    coverage: tuple[Coverage, ...]
    times: tuple[int, ...]
    generation: int


@st.composite
def steps(draw: st.DrawFn) -> Step:
    """Draw a replacement as fetches, deletions and forgetful fetches make them."""
    interval = draw(filled(SIZE))
    generation = draw(st.sampled_from([0, 0, 0, 1]))
    edges = sorted({*interval, *draw(st.lists(st.integers(*interval), max_size=2))})
    rows = tuple(
        Coverage(start, end, outcome, 0, draw(st.sampled_from([None, None, 99])), generation)
        for start, end in pairwise(edges)
        if (outcome := draw(st.sampled_from([HELD, HELD, HELD, NOTHING, OUT, None]))) is not None
    )
    spoken = [time for row in rows if row.outcome is HELD for time in range(row.start, row.end)]
    times = draw(st.sets(st.sampled_from(spoken), max_size=20)) if spoken else set()
    return Step(interval, rows, tuple(sorted(times)), generation)


def check(blocks: Sequence[Block], stored: dict[int, Run], known: list[Coverage]) -> None:
    """Hold the blocks against what is known: the promises of stitching rule 17."""
    assert all(one.end <= two.start for one, two in pairwise(blocks))
    for block in blocks:
        assert block.number is not None
        run = stored[block.number]
        assert block.count == len(run) > 0
        assert (block.first, block.last) == (run.times[0], run.times[-1])
        assert block.start <= block.first
        assert block.last < block.end
        alike = [
            row.interval
            for row in known
            if row.generation == block.generation
            and row.final == block.final
            and row.outcome is not OUT
        ]
        assert covers(alike, block.interval)


@given(st.lists(steps(), max_size=10), st.integers(1, 12))
def test_layout_against_a_dict(done: list[Step], limit: int) -> None:
    """After each replacement the blocks hold what a dict holds, apart where they must be."""
    model: dict[int, tuple[bytes, int]] = {}
    known: list[Coverage] = []
    blocks: list[Block] = []
    stored: dict[int, Run] = {}
    number = 0
    for count, step in enumerate(done):
        interval = step.interval
        known = insert(cut(known, interval), step.coverage)
        fresh = Run.of((time, text(time, float(count))) for time in step.times)
        made = relayout(blocks, known, interval, fresh, lambda one: stored[one.number or 0], limit)
        assert len(set(made.removed)) == len(made.removed)
        blocks = [one for one in blocks if one not in made.removed]
        for piece in made.added:
            number += 1
            assert len(piece.run) <= limit
            blocks.append(replace(piece.block(), number=number))
            stored[number] = piece.run
        blocks.sort(key=lambda one: one.start)
        model = {t: said for t, said in model.items() if not interval.start <= t < interval.end}
        model |= {time: (record, step.generation) for time, record in fresh.records()}
        held = {
            time: (record, block.generation)
            for block in blocks
            for time, record in stored[block.number or 0].records()
        }
        assert held == model
        check(blocks, stored, known)


def test_a_run_of_nothing_lays_nothing() -> None:
    """Replacing nothing by nothing changes nothing."""
    made = relayout([], [], Interval(0, 9), EMPTY, lambda one: EMPTY, 10)
    assert (made.removed, made.added) == ((), ())
