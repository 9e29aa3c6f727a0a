"""Coverage against a list with one cell an instant."""

from __future__ import annotations

from itertools import pairwise

from hypothesis import given
from hypothesis import strategies as st
from msgspec.structs import replace

from gapless.domain.coverage import Coverage, Mark, changed, cut, gone, insert, written
from gapless.domain.intervals import Interval
from gapless.domain.spans import Spans
from support.series import EMPTY, HELD, OUT, filled

SIZE = 40

rows = st.builds(
    Coverage,
    start=st.just(0),
    end=st.just(0),
    outcome=st.sampled_from([HELD, HELD, EMPTY, OUT]),
    fetched_at=st.integers(0, 5),
    refresh_after=st.sampled_from([None, None, 99]),
    mark=st.sampled_from([None, None, Mark.UNVERIFIED]),
    changed_at=st.sampled_from([None, None, 7]),
)
placed = st.builds(
    lambda row, span: replace(row, start=span.start, end=span.end), rows, filled(SIZE)
)
steps = st.lists(st.one_of(placed, filled(SIZE)), max_size=12)


def at_cell(rows: list[Coverage], at: int) -> Coverage | None:
    """Return the one row over an instant."""
    found = [row for row in rows if row.start <= at < row.end]
    assert len(found) <= 1
    return found[0] if found else None


def told(done: list[Coverage | Interval], revises: bool = True) -> list[Coverage]:
    """Return what is known after all that was said and forgotten."""
    known: list[Coverage] = []
    for commit, step in enumerate(done):
        if isinstance(step, Coverage):
            known = insert(known, [replace(step, commit=commit)], revises)
        else:
            known = cut(known, [step])
    return known


@given(steps, st.booleans())
def test_rows_say_what_was_said_last(done: list[Coverage | Interval], revises: bool) -> None:
    """Rows stay disjoint, sorted and as few as can be, cover exactly what was said, never newer."""
    known: list[Coverage] = []
    cells: list[Coverage | None] = [None] * SIZE
    for commit, step in enumerate(done):
        if isinstance(step, Coverage):
            said = replace(step, commit=commit)
            known = insert(known, [said], revises)
            cells[step.start : step.end] = [said] * (step.end - step.start)
        else:
            known = cut(known, [step])
            cells[step.start : step.end] = [None] * (step.end - step.start)
    assert all(row.start < row.end for row in known)
    assert all(one.end <= two.start and not one.joins(two, revises) for one, two in pairwise(known))
    for at, cell in enumerate(cells):
        found = [row for row in known if row.start <= at < row.end]
        if cell is None:
            assert found == []
            continue
        [row] = found
        assert (row.outcome, row.refresh_after, row.mark, row.changed_at) == (
            cell.outcome,
            cell.refresh_after,
            cell.mark,
            cell.changed_at,
        )
        assert row.fetched_at <= cell.fetched_at
        assert row.commit >= cell.commit
        if revises:
            assert (row.fetched_at, row.commit) == (cell.fetched_at, cell.commit)
    for row in known:
        said_here = [cell for cell in cells[row.start : row.end] if cell is not None]
        assert row.final or row.fetched_at == min(cell.fetched_at for cell in said_here)


@given(steps, filled(SIZE), filled(SIZE), st.booleans())
def test_what_was_written_tells_what_has_changed(
    done: list[Coverage | Interval], planned: Interval, touched: Interval, revises: bool
) -> None:
    """A commit, or a deletion of what is known, shows wherever it touches (stitching rule 7)."""
    known = told(done, revises)
    before = written(Spans(known), planned)
    assert sum(part.end - part.start for part in before) == sum(
        row.interval.intersection(planned).length for row in known
    )
    there = bool(written(Spans(known), planned.intersection(touched)))
    assert (written(Spans(cut(known, [touched])), planned) != before) is there
    later = insert(known, [Coverage(*touched, HELD, 9, 99, commit=len(done))], revises)
    assert (written(Spans(later), planned) != before) is planned.overlaps(touched)


@given(steps, st.lists(placed, max_size=3), st.lists(filled(SIZE), max_size=4))
def test_what_was_changed_is_told_apart(
    before: list[Coverage | Interval], new: list[Coverage], where: list[Interval]
) -> None:
    """New rows say of each instant that it was changed now, or when it was last, or never."""
    known, rows = told(before), told([*new])
    result = changed(rows, Spans(known), where, at=8)
    assert all(one.end <= two.start for one, two in pairwise(result))
    for at in range(SIZE):
        row, found, earlier = at_cell(rows, at), at_cell(result, at), at_cell(known, at)
        if row is None or found is None:
            assert row is found is None
            continue
        now = any(part.start <= at < part.end for part in where)
        said = 8 if now else None if earlier is None else earlier.changed_at
        assert replace(row, start=0, end=0, changed_at=said) == replace(found, start=0, end=0)


@given(steps, st.lists(filled(SIZE), max_size=3))
def test_what_is_gone_is_out_of_reach(
    before: list[Coverage | Interval], where: list[Interval]
) -> None:
    """What was held there is, and final; what was empty stays so, and nothing else is told."""
    known = told(before)
    result = known
    for part in where:
        result = gone(result, part, at=9, commit=99)
    assert all(one.end <= two.start for one, two in pairwise(result))
    for at in range(SIZE):
        earlier, found = at_cell(known, at), at_cell(result, at)
        over = any(part.start <= at < part.end for part in where)
        if earlier is None or earlier.outcome is EMPTY or not over:
            assert (found is None) is (earlier is None)
            assert found is None or found.outcome is (earlier and earlier.outcome)
            continue
        assert found is not None
        assert (found.outcome, found.fetched_at, found.commit) == (OUT, 9, 99)
        assert found.final
        assert (found.mark, found.changed_at) == (earlier.mark, earlier.changed_at)
