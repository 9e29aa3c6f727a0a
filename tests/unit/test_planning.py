"""Planning in tables: what is asked and known, what of it is fetched."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass

import pytest

from gapless.domain.believing import Doubt, Suspicion
from gapless.domain.coverage import CLOCKS_APART_MS, Ageing, Coverage
from gapless.domain.intervals import ALWAYS, Interval, subtract
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
from support.series import EMPTY, OUT, cover

NOW = 1_000_000
SECOND = 1_000
ALL = Reach(data_start=0, data_end=NOW, served_from=0)
WINDOW = Reach(data_start=0, data_end=NOW, served_from=500)
# Due last at 900,000; all that was written by a commit before the fifth is due as well.
SESSION = Ageing(since=900_000, until=NOW + CLOCKS_APART_MS, commit=5)


@dataclass(frozen=True)
class Case:
    name: str
    asked: tuple[int, int]
    known: list[Coverage]
    cached: list[tuple[int, int]]
    gaps: list[tuple[int, int]]
    unserved: tuple[tuple[int, int], ...] = ()
    aged: tuple[tuple[int, int], ...] = ()
    unverified: tuple[tuple[int, int], ...] = ()
    reach: Reach = ALL
    doubted: tuple[tuple[int, int], ...] = ()
    ageing: Ageing | None = None
    doubts: tuple[Doubt, ...] = ()
    joining: Joining | None = None


def final(*spans: tuple[int, int]) -> list[Coverage]:
    """Return final coverage that was fetched by the fifth commit, just now."""
    return [cover(*span, commit=5) for span in spans]


def old(*spans: tuple[int, int]) -> list[Coverage]:
    """Return final coverage that was fetched before the latest session began."""
    return [cover(*span, fetched_at=800_000, commit=5) for span in spans]


def doubt(start: int, end: int, next_try: int) -> Doubt:
    """Return the doubt about an emptiness that is not believed yet."""
    return Doubt(start, end, Suspicion.EMPTY, since=0, next_try=next_try)


def tailed(due_in: int) -> list[Coverage]:
    """Return a provisional tail that ended two seconds ago, at the present as it was then."""
    end = NOW - 2 * SECOND
    return [cover(0, end, fetched_at=end, refresh_after=NOW + due_in)]


CASES = [
    Case("nothing asked", (5, 5), [], [], []),
    Case("nothing known", (0, 100), [], [], [(0, 100)]),
    Case("all known", (0, 100), final((0, 200)), [(0, 100)], []),
    Case("a hole", (0, 100), final((0, 30), (60, 200)), [(0, 30), (60, 100)], [(30, 60)]),
    Case("known to be empty", (0, 10), [cover(0, 10, EMPTY)], [(0, 10)], []),
    Case(
        "due is fetched again",
        (0, 100),
        [*final((0, 50)), cover(50, 80, refresh_after=NOW)],
        [(0, 50)],
        [(50, 100)],
    ),
    Case(
        "provisional, not due, no tail",
        (0, 100),
        [cover(50, 80, refresh_after=NOW + 1, fetched_at=NOW)],
        [(50, 80)],
        [(0, 50), (80, 100)],
    ),
    Case("a fresh tail covers to now", (0, NOW), tailed(1), [(0, NOW)], []),
    Case("a due tail is fetched with what follows", (0, NOW), tailed(0), [], [(0, NOW)]),
    Case("only what follows a fresh tail", (NOW - 500, NOW), tailed(1), [(NOW - 500, NOW)], []),
    Case(
        "a final end is no tail",
        (0, NOW),
        final((0, NOW - 2 * SECOND)),
        [(0, NOW - 2 * SECOND)],
        [(NOW - 2 * SECOND, NOW)],
    ),
    Case("out of window", (400, 600), [], [], [(500, 600)], ((400, 500),), reach=WINDOW),
    Case(
        "what left the window counts while held",
        (400, 600),
        final((400, 450)),
        [(400, 450)],
        [(500, 600)],
        ((450, 500),),
        reach=WINDOW,
    ),
    Case(
        "what is believed lost is kept as it is held",
        (400, 600),
        [cover(400, 600, OUT, commit=5)],
        [(400, 600)],
        [],
        unverified=((400, 600),),
        reach=WINDOW,
        ageing=SESSION,
    ),
    Case(
        "what is believed lost is asked for once a session",
        (400, 600),
        [cover(400, 600, OUT, fetched_at=800_000, commit=5)],
        [(400, 600)],
        [],
        aged=((500, 600),),
        unverified=((400, 600),),
        reach=WINDOW,
        ageing=SESSION,
    ),
    Case(
        "what is in doubt is not asked for before its time",
        (0, 100),
        final((0, 40)),
        [(0, 40)],
        [(60, 100)],
        doubted=((40, 60),),
        doubts=(doubt(30, 60, NOW + 1),),
        ageing=SESSION,
    ),
    Case(
        "then it is",
        (0, 100),
        final((0, 40)),
        [(0, 40)],
        [(40, 100)],
        doubts=(doubt(30, 60, NOW),),
        ageing=SESSION,
    ),
    Case(
        "what is held and in doubt is not fetched again before its time",
        (0, 100),
        old((0, 100)),
        [(0, 100)],
        [],
        aged=((0, 30), (60, 100)),
        doubts=(doubt(30, 60, NOW + 1),),
        ageing=SESSION,
    ),
    Case(
        "what is in doubt and served no more is not asked for at all",
        (400, 600),
        [],
        [],
        [(550, 600)],
        ((400, 500),),
        doubted=((500, 550),),
        reach=WINDOW,
        doubts=(doubt(450, 550, NOW + 1),),
        ageing=SESSION,
    ),
    Case(
        "a doubt between two gaps that are joined is asked for with them",
        (0, 100),
        final((0, 10)),
        [(0, 10)],
        [(10, 100)],
        doubts=(doubt(40, 60, NOW + 1),),
        joining=Joining(20),
        ageing=SESSION,
    ),
    Case(
        "due, but served no more",
        (400, 600),
        [cover(400, 600, refresh_after=NOW)],
        [(400, 500)],
        [(500, 600)],
        reach=WINDOW,
    ),
    Case(
        "fresh is what was fetched since the session began",
        (0, 100),
        final((0, 100)),
        [(0, 100)],
        [],
        ageing=SESSION,
    ),
    Case(
        "what was fetched before it is held, and fetched again",
        (0, 100),
        [*old((0, 60)), *final((60, 200))],
        [(0, 100)],
        [],
        aged=((0, 60),),
        ageing=SESSION,
    ),
    Case(
        "what an earlier commit wrote is fetched again",
        (0, 100),
        [cover(0, 200, commit=4)],
        [(0, 100)],
        [],
        aged=((0, 100),),
        ageing=SESSION,
    ),
    Case(
        "emptiness ages as what is held does",
        (0, 100),
        [cover(0, 100, EMPTY, fetched_at=800_000, commit=5)],
        [(0, 100)],
        [],
        aged=((0, 100),),
        ageing=SESSION,
    ),
    Case(
        "what was fetched by a clock far ahead is fetched again",
        (0, 100),
        [cover(0, 100, fetched_at=NOW + CLOCKS_APART_MS + 1, commit=5)],
        [(0, 100)],
        [],
        aged=((0, 100),),
        ageing=SESSION,
    ),
    Case(
        "what ages with a gap beside it",
        (0, 100),
        [*old((0, 40)), *final((60, 80))],
        [(0, 40), (60, 80)],
        [(40, 60), (80, 100)],
        aged=((0, 40),),
        ageing=SESSION,
    ),
    Case(
        "a tail that is not due may be older than the session",
        (NOW - 500, NOW),
        [cover(0, NOW - 100, fetched_at=NOW - 100, refresh_after=NOW + 1, commit=4)],
        [(NOW - 500, NOW)],
        [],
        aged=((NOW - 500, NOW),),
        ageing=SESSION,
    ),
    Case(
        "what is due is a gap, however old",
        (0, 100),
        [cover(0, 100, fetched_at=800_000, refresh_after=NOW, commit=5)],
        [],
        [(0, 100)],
        ageing=SESSION,
    ),
    Case(
        "what is not served any more is not fetched again",
        (400, 600),
        old((400, 600)),
        [(400, 600)],
        [],
        aged=((500, 600),),
        unverified=((400, 500),),
        reach=WINDOW,
        ageing=SESSION,
    ),
    Case(
        "due, old, and served no more",
        (400, 600),
        [cover(400, 600, fetched_at=800_000, refresh_after=NOW, commit=5)],
        [(400, 500)],
        [(500, 600)],
        unverified=((400, 500),),
        reach=WINDOW,
        ageing=SESSION,
    ),
    Case(
        "what is not fresh is joined over as well",
        (0, 100),
        old((40, 50)),
        [],
        [(0, 100)],
        joining=Joining(10),
        ageing=SESSION,
    ),
    Case("short of the distance", (0, 100), final((40, 50)), [], [(0, 100)], joining=Joining(10)),
    Case(
        "beyond the distance",
        (0, 100),
        final((40, 51)),
        [(40, 51)],
        [(0, 40), (51, 100)],
        joining=Joining(10),
    ),
    Case(
        "of too many gaps the nearest are joined",
        (0, 100),
        final((10, 30), (40, 45), (60, 90)),
        [(10, 30), (60, 90)],
        [(0, 10), (30, 60), (90, 100)],
        joining=Joining(0, 3),
    ),
    Case("never joined beyond what is asked", (0, 50), final((40, 60)), [(40, 50)], [(0, 40)]),
    Case(
        "before the first and after the last datum nothing exists",
        (0, 100),
        [],
        [(0, 20), (80, 100)],
        [(20, 80)],
        reach=Reach(20, 80, 0),
    ),
    Case("wholly before", (0, 10), [], [(0, 10)], [], reach=Reach(20, 80, 0)),
]


def intervals(spans: Iterable[tuple[int, int]]) -> tuple[Interval, ...]:
    """Return spans as intervals."""
    return tuple(Interval(*span) for span in spans)


@pytest.mark.parametrize("case", CASES, ids=lambda case: case.name)
def test_plan(case: Case) -> None:
    """A plan says of each part of what is asked where it comes from (rules 5, 9 and 12)."""
    asked = Interval(*case.asked)
    known = Known(Spans(case.known), case.ageing, case.doubts)
    assert plan(asked, known, case.reach, NOW, case.joining) == Plan(
        asked=asked,
        cached=intervals(case.cached),
        gaps=intervals(case.gaps),
        unserved=intervals(case.unserved),
        doubted=intervals(case.doubted),
        aged=intervals(case.aged),
        unverified=intervals(case.unverified),
        beyond=tuple(subtract([asked], [Interval(case.reach.data_start, case.reach.data_end)])),
    )


def test_what_a_plan_still_needs() -> None:
    """A plan is complete without gaps, and fresh if nothing is to be fetched again either."""
    asked = Interval(0, 100)
    full = plan(asked, Known(Spans(final((0, 100))), SESSION), ALL, NOW)
    aging = plan(asked, Known(Spans(old((0, 100))), SESSION), ALL, NOW)
    lacking = plan(asked, Known(Spans(final((0, 90))), SESSION), ALL, NOW)
    unserved = plan(asked, Known(Spans(), SESSION), WINDOW, NOW)
    doubted = plan(asked, Known(Spans(), SESSION, (doubt(0, 100, NOW + 1),)), ALL, NOW)
    plans = (full, aging, lacking, unserved, doubted)
    assert [one.complete for one in plans] == [True, True, False, False, False]
    assert [one.fresh for one in plans] == [True, False, False, True, True]


def test_a_plan_renewed_fetches_all_that_is_served() -> None:
    """A refresh takes fresh and final as due, but for what it has fetched already."""
    wanted = plan(Interval(400, 600), Known(Spans(final((400, 600))), SESSION), WINDOW, NOW)
    assert wanted.aged == ()
    assert renewed(wanted, WINDOW).aged == intervals([(500, 600)])
    again = renewed(wanted, WINDOW, intervals([(520, 540), (590, 700)]))
    assert again.aged == intervals([(500, 520), (540, 590)])
    assert (again.cached, again.gaps) == (wanted.cached, wanted.gaps)


def test_a_plan_renewed_waits_for_no_doubt() -> None:
    """What is in doubt is asked for at once, where it is served, and once (stitching rule 6)."""
    doubts = (doubt(400, 550, NOW + 1),)
    wanted = plan(Interval(400, 600), Known(Spans(final((550, 600))), SESSION, doubts), WINDOW, NOW)
    assert (wanted.gaps, wanted.doubted) == ((), intervals([(500, 550)]))
    again = renewed(wanted, WINDOW)
    assert (again.gaps, again.doubted) == (intervals([(500, 550)]), ())
    assert again.unserved == intervals([(400, 500)])
    over = renewed(wanted, WINDOW, intervals([(500, 600)]))
    assert (over.gaps, over.doubted, over.aged) == ((), intervals([(500, 550)]), ())


def test_what_is_worth_being_taken_along() -> None:
    """All that is served, and due or not fresh, but what is in doubt; else nothing."""
    known = [
        *old((400, 600)),
        cover(600, 610, OUT, fetched_at=800_000, commit=5),
        *old((610, 620)),
        *final((620, 640)),
        cover(640, 650, refresh_after=NOW, commit=5),
        cover(650, 660, refresh_after=NOW + 1, commit=5),
    ]
    ageing = Known(Spans(known), SESSION, (doubt(610, 620, NOW + 1), doubt(500, 510, NOW)))
    assert worth_taking_along(ageing, WINDOW, ALWAYS, NOW) == list(
        intervals([(500, 610), (640, 650)])
    )
    assert worth_taking_along(Known(Spans(known)), WINDOW, ALWAYS, NOW) == []


WIDE: list[tuple[str, tuple[int, int], list[tuple[int, int]], int | None, tuple[int, int]]] = [
    ("nothing along", (40, 50), [], 30, (40, 50)),
    ("all of it, however far", (40, 50), [(0, 1), (900, 999)], None, (0, 999)),
    ("what fits", (40, 50), [(30, 35), (55, 60)], 30, (30, 60)),
    ("the nearest first", (40, 50), [(20, 25), (52, 55)], 20, (40, 55)),
    ("the nearest though another would fit", (40, 50), [(30, 32), (51, 65)], 25, (40, 65)),
    ("a part of what lies beside", (40, 50), [(0, 40)], 30, (20, 50)),
    ("a part of what follows", (40, 50), [(50, 99)], 30, (40, 70)),
    ("a part of what is near", (40, 50), [(0, 35)], 30, (20, 50)),
    ("nothing of what is out of reach", (40, 50), [(0, 15), (75, 99)], 30, (40, 50)),
    ("what surrounds it, as far as it goes", (40, 50), [(0, 99)], 30, (20, 50)),
    ("as wide as the span already", (40, 50), [(0, 99)], 10, (40, 50)),
    ("wider than the span", (0, 100), [(-10, 90)], 50, (0, 100)),
]


@pytest.mark.parametrize(
    ("name", "core", "others", "span", "wide"), WIDE, ids=[case[0] for case in WIDE]
)
def test_as_wide_as_one_request(
    name: str,
    core: tuple[int, int],
    others: list[tuple[int, int]],
    span: int | None,
    wide: tuple[int, int],
) -> None:
    """A request takes along what is nearest, as far as it spans (stitching rule 9)."""
    assert as_wide(Interval(*core), intervals(others), span) == Interval(*wide), name


def test_the_tail_ends_at_now() -> None:
    """A tail reaches from the end of what was fetched to now, and is none once now is before it."""
    known = Spans(tailed(1))
    assert tail(known, NOW) == Interval(NOW - 2 * SECOND, NOW)
    assert tail(known, NOW - 2 * SECOND) is None
    assert tail(Spans([*known, *final((NOW - SECOND, NOW))]), NOW) is None
    assert tail(Spans(), NOW) is None


def test_fresh_until() -> None:
    """A full hit stays one until the first thing it rests on is due, the tail included."""
    known = Spans([*final((0, 100)), cover(100, 200, refresh_after=900)])
    assert fresh_until(Interval(0, 100), known) is None
    assert fresh_until(Interval(0, 101), known) == 900
    assert fresh_until(Interval(NOW - 1, NOW), Spans(tailed(77))) == NOW + 77
