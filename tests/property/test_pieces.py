"""However a range is cut into pieces, each instant that is held belongs to exactly one of them."""

from __future__ import annotations

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st
from msgspec import Raw

from gapless.client.lines import Answer
from gapless.client.pieces import Bounds, Part, Whole, cut_again
from gapless.client.results import EntityBox
from gapless.errors import TooLarge
from gapless.instants import format_instant

BASE = 1_600_000_000_123
# Milliseconds from there on, so few that all of them can be looked at.
INSTANTS = st.integers(0, 300)
SPANS = st.tuples(INSTANTS, INSTANTS).map(lambda pair: (min(pair), max(pair)))
COUNTS = st.integers(0, 10**6)
LIMITS = st.integers(1, 2_000)


def whole(asked: tuple[int, int], missing: list[tuple[int, int]], count: int) -> Whole:
    """Return an answer whose records were left out."""
    start, end = (format_instant(BASE + at) for at in asked)
    gaps = [[format_instant(BASE + at) for at in span] for span in missing]
    entity = EntityBox(
        f"p:A:{start}..{end}",
        "p",
        tags=Raw(msgspec.json.encode(["ticker=A", f"from={start}", f"to={end}", "side=a=b"])),
    )
    stitch = Raw(msgspec.json.encode({"missing": gaps}))
    return Whole.of(Part(Answer(True, stitch=stitch, records=count, version="1"), entity))


def instants(parts: list[Bounds]) -> list[int]:
    """Return the milliseconds of ranges, one after the other."""
    return [at - BASE for start, end in parts for at in range(start, end)]


@given(SPANS, st.lists(SPANS, max_size=4), COUNTS, LIMITS)
def test_pieces_cover_what_is_held(
    asked: tuple[int, int], missing: list[tuple[int, int]], count: int, most: int
) -> None:
    """In order, each instant once, and nothing of what is missing."""
    found = whole(asked, missing, count)
    parts = found.cut(most)
    gone = {at for start, end in missing for at in range(start, end)}
    assert instants(parts) == [at for at in range(*asked) if at not in gone]
    assert all(start < end for start, end in parts)
    assert dict(found.params) == {"side": "a=b"}


@given(SPANS, COUNTS, LIMITS)
def test_a_piece_that_is_too_large_becomes_smaller(
    span: tuple[int, int], count: int, most: int
) -> None:
    """Until it is a millisecond, which is said to be too much."""
    part = Bounds(BASE + span[0], BASE + span[1])
    if span[1] - span[0] < 2:
        with pytest.raises(TooLarge):
            cut_again(part, count, most)
        return
    parts = cut_again(part, count, most)
    assert len(parts) >= 2
    assert instants(parts) == list(range(*span))


@given(st.integers(-60_000_000_000_000, 250_000_000_000_000), st.integers(1, 10**9))
def test_bounds_are_told_to_the_millisecond(start: int, length: int) -> None:
    """The texts of a piece's bounds are those bounds."""
    one = Bounds(start, start + length)
    found = whole((start - BASE, start + length - BASE), [], 1)
    assert found.asked == one
    assert found.held == (one,)
