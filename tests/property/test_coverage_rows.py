"""Coverage against a list with one cell an instant."""

from __future__ import annotations

from itertools import pairwise

from hypothesis import given
from hypothesis import strategies as st

from gapless.domain.coverage import Coverage, cut, insert
from gapless.domain.intervals import Interval
from support.series import EMPTY, HELD, OUT, filled

SIZE = 40

rows = st.builds(
    lambda span, outcome, fetched_at, refresh_after, generation: Coverage(
        span.start, span.end, outcome, fetched_at, refresh_after, generation
    ),
    filled(SIZE),
    st.sampled_from([HELD, HELD, EMPTY, OUT]),
    st.integers(0, 5),
    st.sampled_from([None, None, 99]),
    st.integers(0, 1),
)
steps = st.lists(st.one_of(rows, filled(SIZE)), max_size=12)


@given(steps)
def test_rows_say_what_was_said_last(done: list[Coverage | Interval]) -> None:
    """Rows stay disjoint, sorted and as few as can be, cover exactly what was said, never newer."""
    known: list[Coverage] = []
    cells: list[Coverage | None] = [None] * SIZE
    for step in done:
        if isinstance(step, Coverage):
            known = insert(known, [step])
            cells[step.start : step.end] = [step] * (step.end - step.start)
        else:
            known = cut(known, step)
            cells[step.start : step.end] = [None] * (step.end - step.start)
    assert all(row.start < row.end for row in known)
    assert all(one.end <= two.start and not one.joins(two) for one, two in pairwise(known))
    for at, said in enumerate(cells):
        found = [row for row in known if row.start <= at < row.end]
        if said is None:
            assert found == []
            continue
        [row] = found
        assert (row.outcome, row.refresh_after, row.generation) == (
            said.outcome,
            said.refresh_after,
            said.generation,
        )
        assert row.fetched_at <= said.fetched_at
    for row in known:
        said_here = [cell.fetched_at for cell in cells[row.start : row.end] if cell is not None]
        assert row.final or row.fetched_at == min(said_here)
