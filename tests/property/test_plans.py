"""Plans: they partition what is asked, and carrying them out leaves nothing to do."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from gapless.domain.coverage import Coverage, Outcome, insert
from gapless.domain.intervals import Interval, covers, intersect, subtract, union
from gapless.domain.planning import Plan, Reach, fresh_until, plan
from support.series import EMPTY, HELD, OUT, filled

SIZE = 60
GENERATION = 1

_row = st.builds(
    lambda span, outcome, fetched_at, refresh_after, generation: Coverage(
        span.start, span.end, outcome, fetched_at, refresh_after, generation
    ),
    filled(SIZE),
    st.sampled_from([HELD, HELD, EMPTY, OUT]),
    st.sampled_from([0, 10_000]),
    st.sampled_from([None, 30, 90]),
    st.sampled_from([0, 1, 1]),
)


@st.composite
def questions(
    draw: st.DrawFn,
) -> tuple[Interval, list[Coverage], Reach, int, int]:
    """Draw what is asked, what is known, what is served, now, and the join distance."""
    known: list[Coverage] = []
    for row in draw(st.lists(_row, max_size=6)):
        known = insert(known, [row])
    now = draw(st.integers(40, SIZE))
    asked = draw(filled(now))
    start = draw(st.integers(0, 20))
    reach = Reach(start, draw(st.integers(start, now)), draw(st.integers(0, 40)))
    return asked, known, reach, now, draw(st.sampled_from([0, 0, 1, 5]))


def parts(wanted: Plan) -> list[tuple[Interval, ...]]:
    """Return the four parts of a plan."""
    return [wanted.cached, wanted.gaps, wanted.unserved, wanted.rescale]


@given(questions())
def test_the_parts_partition_what_is_asked(
    question: tuple[Interval, list[Coverage], Reach, int, int],
) -> None:
    """Cached, gaps, unserved and rescale are disjoint and together what was asked."""
    asked, known, reach, now, distance = question
    wanted = plan(asked, known, GENERATION, reach, now, distance)
    every = parts(wanted)
    assert union(*every) == [asked]
    for i, one in enumerate(every):
        assert list(one) == union(one)
        for other in every[i + 1 :]:
            assert intersect(one, other) == []
    served = [Interval(max(reach.served_from, reach.data_start), reach.data_end)]
    assert subtract(wanted.gaps, served) == []
    assert intersect([*wanted.unserved, *wanted.rescale], served) == []


@given(questions())
def test_each_part_is_what_it_says(
    question: tuple[Interval, list[Coverage], Reach, int, int],
) -> None:
    """What is cached rests on fresh coverage of this generation, what is rescaled on an older."""
    asked, known, reach, now, distance = question
    wanted = plan(asked, known, GENERATION, reach, now, distance)
    spoken = [row for row in known if row.outcome is not Outcome.OUT_OF_WINDOW]
    current = [row for row in spoken if row.generation == GENERATION]
    exists = Interval(reach.data_start, reach.data_end)
    ends = [row for row in known if row.generation == GENERATION]
    last = max(ends, key=lambda row: row.end, default=None)
    for at in range(asked.start, asked.end):
        cell = Interval(at, at + 1)
        row = next((one for one in current if one.start <= at < one.end), None)
        if covers(wanted.cached, cell):
            beyond = not exists.contains(cell)
            after = (
                last is not None
                and last.end <= at
                and last.refresh_after is not None
                and now < last.refresh_after
            )
            assert row is not None or beyond or after
        if covers(wanted.rescale, cell):
            assert any(one.generation == 0 and one.start <= at < one.end for one in spoken)
        if covers(wanted.gaps, cell) and distance == 0:
            assert row is None or row.due(now)


@given(questions())
def test_carrying_a_plan_out_leaves_no_gap(
    question: tuple[Interval, list[Coverage], Reach, int, int],
) -> None:
    """Once its gaps are held and fresh, the same question is answered without upstream."""
    asked, known, reach, now, distance = question
    wanted = plan(asked, known, GENERATION, reach, now, distance)
    for gap in wanted.gaps:
        known = insert(known, [Coverage(*gap, HELD, now, None, GENERATION)])
    again = plan(asked, known, GENERATION, reach, now, distance)
    assert again.gaps == ()
    assert union(again.cached) == union(wanted.cached, wanted.gaps)
    assert (again.unserved, again.rescale) == (wanted.unserved, wanted.rescale)


@given(questions())
def test_a_hit_lasts_as_long_as_it_is_said_to(
    question: tuple[Interval, list[Coverage], Reach, int, int],
) -> None:
    """A full hit stays one up to the instant before `fresh_until`."""
    asked, known, reach, now, _ = question
    if plan(asked, known, GENERATION, reach, now).cached != (asked,):
        return
    until = fresh_until(asked, known, GENERATION)
    last = SIZE * 2 if until is None else until - 1
    if last > now:
        assert plan(asked, known, GENERATION, reach, last).cached == (asked,)
