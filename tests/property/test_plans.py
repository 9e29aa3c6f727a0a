"""Plans: they partition what is asked, and carrying them out leaves nothing to do."""

from __future__ import annotations

from dataclasses import dataclass, replace

from hypothesis import given
from hypothesis import strategies as st
from msgspec import structs

from gapless.domain.believing import Doubt, Suspicion, unasked
from gapless.domain.coverage import Ageing, Coverage, insert
from gapless.domain.intervals import ALWAYS, Interval, covers, hull, intersect, subtract, union
from gapless.domain.planning import (
    Joining,
    Known,
    Plan,
    Reach,
    as_wide,
    fresh_until,
    plan,
    renewed,
    tail,
    worth_taking_along,
)
from gapless.domain.spans import Spans
from support.series import EMPTY, HELD, OUT, filled, intervals

SIZE = 60

_row = st.builds(
    lambda span, row: structs.replace(row, start=span.start, end=span.end),
    filled(SIZE),
    st.builds(
        Coverage,
        start=st.just(0),
        end=st.just(0),
        outcome=st.sampled_from([HELD, HELD, EMPTY, OUT]),
        fetched_at=st.sampled_from([0, 50, 10_000]),
        refresh_after=st.sampled_from([None, 30, 90]),
        commit=st.integers(0, 3),
    ),
)


@dataclass(frozen=True)
class Question:
    """What is asked, what is known, what is served, when, and what is joined."""

    asked: Interval
    known: Known
    reach: Reach
    now: int
    joining: Joining | None

    @property
    def waiting(self) -> list[Interval]:
        """What is in doubt and not asked for yet."""
        return union(unasked(self.known.doubts, self.now))

    def fresh(self, row: Coverage) -> bool:
        """Whether a row needs not be fetched again."""
        return self.known.ageing is None or self.known.ageing.fresh(row)

    def plan(self) -> Plan:
        """Return the plan for it."""
        return plan(self.asked, self.known, self.reach, self.now, self.joining)


@st.composite
def questions(draw: st.DrawFn) -> Question:
    """Draw a question to a series that ages, or does not."""
    known: list[Coverage] = []
    for row in draw(st.lists(_row, max_size=6)):
        known = insert(known, [row], revises=draw(st.booleans()))
    now = draw(st.integers(40, SIZE))
    start = draw(st.integers(0, 20))
    since = st.sampled_from([0, 1, 51, 10_001])
    until = st.sampled_from([SIZE - 10, 9_999, 20_000])
    doubts = st.builds(
        lambda span, next_try: Doubt(span.start, span.end, Suspicion.EMPTY, 0, next_try),
        filled(SIZE),
        st.sampled_from([30, 90]),
    )
    return Question(
        draw(filled(now)),
        Known(
            Spans(known),
            draw(st.none() | st.builds(Ageing, since, until, st.integers(0, 3))),
            draw(st.just([]) | st.lists(doubts, max_size=2)),
        ),
        Reach(start, draw(st.integers(start, now)), draw(st.integers(0, 40))),
        now,
        draw(st.none() | st.builds(Joining, st.sampled_from([0, 0, 1, 5]), st.integers(1, 4))),
    )


def row_at(question: Question, at: int) -> Coverage | None:
    """Return what is known of an instant, as far as it is told by a row or by a fresh tail."""
    after = tail(question.known.coverage, question.now)
    for row in question.known.coverage:
        if row.start <= at < row.end:
            return row
        if after is not None and row.end == after.start and after.start <= at < after.end:
            return row
    return None


@given(questions())
def test_the_parts_partition_what_is_asked(question: Question) -> None:
    """Cached, gaps, unserved and doubted are disjoint and together what was asked."""
    wanted = question.plan()
    parts = [wanted.cached, wanted.gaps, wanted.unserved, wanted.doubted]
    assert union(*parts) == [question.asked]
    for i, one in enumerate(parts):
        assert list(one) == union(one)
        for other in parts[i + 1 :]:
            assert intersect(one, other) == []
    served = [question.reach.served]
    assert subtract(wanted.gaps, served) == []
    assert intersect(wanted.unserved, served) == []
    assert subtract(wanted.doubted, served) == []
    assert subtract(wanted.doubted, question.waiting) == []


@given(questions())
def test_what_ages_is_cached(question: Question) -> None:
    """What is aged is cached and served, what is unverified served no more, or believed lost."""
    wanted = question.plan()
    served = [question.reach.served]
    for part in (wanted.aged, wanted.unverified):
        assert list(part) == union(part)
        assert subtract(part, wanted.cached) == []
    assert subtract(wanted.aged, served) == []
    assert intersect(wanted.aged, question.waiting) == []
    gone = [row.interval for row in question.known.coverage if row.outcome is OUT]
    assert subtract(intersect(wanted.unverified, served), gone) == []
    assert question.known.ageing is not None or not wanted.aged


@given(questions())
def test_each_part_is_what_it_says(question: Question) -> None:
    """What is cached rests on coverage, what of it is not fresh is said so, gaps on none or due."""
    wanted = question.plan()
    exists = Interval(question.reach.data_start, question.reach.data_end)
    apart = question.joining is None
    for at in range(*question.asked):
        cell = Interval(at, at + 1)
        row = row_at(question, at)
        if covers(wanted.cached, cell):
            assert row is not None or not exists.contains(cell)
            old = row is not None and not question.fresh(row)
            served = question.reach.served.contains(cell)
            waits = covers(question.waiting, cell)
            assert covers(wanted.aged, cell) is (old and served and not waits)
            gone = row is not None and row.outcome is OUT and row.start <= at < row.end
            assert covers(wanted.unverified, cell) is (gone or (old and not served))
        if covers(wanted.gaps, cell) and apart:
            assert row is None or row.due(question.now)
            assert not covers(question.waiting, cell)
        if covers(wanted.unserved, cell):
            assert row is None
        assert covers(wanted.beyond, cell) is not exists.contains(cell)


@given(questions())
def test_carrying_a_plan_out_leaves_nothing_to_do(question: Question) -> None:
    """Once its gaps and what had aged are fetched, the same is answered without upstream."""
    wanted = question.plan()
    coverage, ageing = list(question.known.coverage), question.known.ageing
    at = question.now
    if ageing is not None:
        ageing = replace(ageing, since=min(ageing.since, at), until=max(ageing.until, at))
    for gap in (*wanted.gaps, *wanted.aged):
        coverage = insert(coverage, [Coverage(*gap, HELD, at, None, commit=9)], ageing is not None)
    known = Known(Spans(coverage), ageing, question.known.doubts)
    again = replace(question, known=known).plan()
    assert (again.gaps, again.fresh) == ((), True)
    assert union(again.cached) == union(wanted.cached, wanted.gaps)
    assert (again.unserved, again.doubted) == (wanted.unserved, wanted.doubted)


@given(questions())
def test_a_hit_lasts_as_long_as_it_is_said_to(question: Question) -> None:
    """A full hit stays one up to the instant before `fresh_until`."""
    question = replace(question, joining=None)
    if question.plan().cached != (question.asked,):
        return
    until = fresh_until(question.asked, question.known.coverage)
    last = SIZE * 2 if until is None else until - 1
    if last > question.now:
        assert replace(question, now=last).plan().cached == (question.asked,)


@given(questions())
def test_what_is_taken_along_is_worth_it(question: Question) -> None:
    """It is served and due or not fresh, all of it, and holds all that was asked of its kind."""
    found = worth_taking_along(question.known, question.reach, ALWAYS, question.now)
    if question.known.ageing is None:
        assert found == []
        return
    assert found == union(found)
    for at in range(SIZE):
        rows = question.known.coverage
        row = next((one for one in rows if one.start <= at < one.end), None)
        old = (
            row is not None
            and (row.due(question.now) or not question.fresh(row))
            and question.reach.served.contains(Interval(at, at + 1))
            and not covers(question.waiting, Interval(at, at + 1))
        )
        assert covers(found, Interval(at, at + 1)) is old
    after = tail(question.known.coverage, question.now)
    aging = subtract(question.plan().aged, [after] if after is not None else [])
    assert subtract(aging, found) == []


@given(questions())
def test_a_refresh_fetches_all_that_is_served(question: Question) -> None:
    """Renewed, a plan leaves nothing of what is served to what is held or to a later time."""
    question = replace(question, joining=None)
    wanted = renewed(question.plan(), question.reach)
    served = intersect([question.asked], [question.reach.served])
    assert union(wanted.gaps, wanted.aged) == served
    assert intersect(wanted.gaps, wanted.aged) == []
    assert wanted.doubted == ()


@given(st.lists(filled(SIZE), max_size=12), st.integers(0, 9), st.integers(1, 6))
def test_no_more_gaps_than_are_fetched_apart(
    spans: list[Interval], distance: int, most: int
) -> None:
    """All gaps are covered by at most so many, and only the nearest to each other are joined."""
    gaps = union(spans)
    joined = Joining(distance, most).joined(gaps)
    assert len(joined) <= most
    assert subtract(gaps, joined) == []
    assert list(joined) == union(joined)
    between = subtract(joined, gaps)
    apart = subtract([hull(joined)], joined) if joined else []
    widest = max((one.length for one in between), default=0)
    assert all(one.length >= max(widest, distance) for one in apart)
    if len(gaps) <= most:
        assert widest <= distance
    elif widest > distance:
        # One joined less would have been one too many.
        assert len(subtract(joined, [one for one in between if one.length == widest])) > most


def apart(one: Interval, other: Interval) -> int:
    """Return how much time lies between two intervals."""
    return max(one.start - other.end, other.start - one.end, 0)


@given(filled(SIZE), st.lists(intervals(SIZE), max_size=6), st.none() | st.integers(1, SIZE))
def test_a_request_is_as_wide_as_it_may_be(
    core: Interval, others: list[Interval], span: int | None
) -> None:
    """It holds the core, is no longer than its span, and takes along the nearest that fit."""
    others = [one for one in others if not one.empty]
    wide = as_wide(core, others, span)
    assert wide.contains(core)
    assert span is None or wide.length <= max(span, core.length)
    # Nothing is asked for beyond what is wanted.
    assert wide.start == core.start or any(one.start <= wide.start < one.end for one in others)
    assert wide.end == core.end or any(one.start < wide.end <= one.end for one in others)
    near = [core]
    for one in sorted(others, key=lambda other: apart(other, core)):
        near.append(one)
        if span is not None and hull(near).length > span:
            break
        assert wide.contains(one)
    for one in others:
        # What was left out does not fit, not even in part where it lies next to what is asked.
        left = subtract([one], [wide])
        beside = any(part.end == wide.start or part.start == wide.end for part in left)
        assert not left or (span is not None and hull([wide, one]).length > span)
        assert not beside or (span is not None and wide.length >= span)
