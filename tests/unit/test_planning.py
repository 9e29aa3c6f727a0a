"""Planning in tables: what is asked and known, what of it is fetched."""

from __future__ import annotations

from dataclasses import dataclass

import pytest

from gapless.domain.coverage import Coverage
from gapless.domain.intervals import Interval, subtract
from gapless.domain.planning import Plan, Reach, fresh_until, plan, tail
from support.series import EMPTY, OUT, cover

NOW = 1_000_000
SECOND = 1_000
ALL = Reach(data_start=0, data_end=NOW, served_from=0)
WINDOW = Reach(data_start=0, data_end=NOW, served_from=500)


@dataclass(frozen=True)
class Case:
    name: str
    asked: tuple[int, int]
    known: list[Coverage]
    cached: list[tuple[int, int]]
    gaps: list[tuple[int, int]]
    unserved: tuple[tuple[int, int], ...] = ()
    rescale: tuple[tuple[int, int], ...] = ()
    reach: Reach = ALL
    join: int = 0


def final(*spans: tuple[int, int], generation: int = 1) -> list[Coverage]:
    """Return final coverage of the generation that the cases are planned under."""
    return [cover(*span, generation=generation) for span in spans]


def tailed(due_in: int) -> list[Coverage]:
    """Return a provisional tail that ended two seconds ago, at the present as it was then."""
    end = NOW - 2 * SECOND
    return [cover(0, end, fetched_at=end, refresh_after=NOW + due_in, generation=1)]


CASES = [
    Case("nothing asked", (5, 5), [], [], []),
    Case("nothing known", (0, 100), [], [], [(0, 100)]),
    Case("all known", (0, 100), final((0, 200)), [(0, 100)], []),
    Case("a hole", (0, 100), final((0, 30), (60, 200)), [(0, 30), (60, 100)], [(30, 60)]),
    Case("known to be empty", (0, 10), [cover(0, 10, EMPTY, generation=1)], [(0, 10)], []),
    Case(
        "due is fetched again",
        (0, 100),
        [*final((0, 50)), cover(50, 80, refresh_after=NOW, generation=1)],
        [(0, 50)],
        [(50, 100)],
    ),
    Case(
        "provisional, not due, no tail",
        (0, 100),
        [cover(50, 80, refresh_after=NOW + 1, fetched_at=NOW, generation=1)],
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
    Case(
        "a tail of an older generation says nothing",
        (0, NOW),
        [cover(0, NOW - 1, fetched_at=NOW, refresh_after=NOW + 1, generation=0)],
        [],
        [(0, NOW)],
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
        "known to be out of window is not known",
        (400, 600),
        [cover(400, 600, OUT, generation=1)],
        [],
        [(500, 600)],
        ((400, 500),),
        reach=WINDOW,
    ),
    Case(
        "due, but served no more",
        (400, 600),
        [cover(400, 600, refresh_after=NOW, generation=1)],
        [(400, 500)],
        [(500, 600)],
        reach=WINDOW,
    ),
    Case(
        "older generation: fetched, or rescaled where that is too late",
        (300, 600),
        final((350, 550), generation=0),
        [],
        [(500, 600)],
        ((300, 350),),
        ((350, 500),),
        reach=WINDOW,
    ),
    Case("short of the distance", (0, 100), final((40, 50)), [], [(0, 100)], join=10),
    Case(
        "beyond the distance",
        (0, 100),
        final((40, 51)),
        [(40, 51)],
        [(0, 40), (51, 100)],
        join=10,
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


@pytest.mark.parametrize("case", CASES, ids=lambda case: case.name)
def test_plan(case: Case) -> None:
    """A plan says of each part of what is asked where it comes from (stitching rule 5)."""
    assert plan(Interval(*case.asked), case.known, 1, case.reach, NOW, case.join) == Plan(
        asked=Interval(*case.asked),
        cached=tuple(Interval(*span) for span in case.cached),
        gaps=tuple(Interval(*span) for span in case.gaps),
        unserved=tuple(Interval(*span) for span in case.unserved),
        rescale=tuple(Interval(*span) for span in case.rescale),
        beyond=tuple(
            subtract(
                [Interval(*case.asked)], [Interval(case.reach.data_start, case.reach.data_end)]
            )
        ),
    )


def test_the_tail_ends_at_now() -> None:
    """A tail reaches from the end of what was fetched to now, and is none once now is before it."""
    known = tailed(1)
    assert tail(known, 1, NOW) == Interval(NOW - 2 * SECOND, NOW)
    assert tail(known, 1, NOW - 2 * SECOND) is None
    assert tail([*known, *final((NOW - SECOND, NOW))], 1, NOW) is None
    assert tail([], 1, NOW) is None


def test_fresh_until() -> None:
    """A full hit stays one until the first thing it rests on is due, the tail included."""
    known = [*final((0, 100)), cover(100, 200, refresh_after=900, generation=1)]
    assert fresh_until(Interval(0, 100), known, 1) is None
    assert fresh_until(Interval(0, 101), known, 1) == 900
    assert fresh_until(Interval(0, 101), known, 2) is None
    assert fresh_until(Interval(NOW - 1, NOW), tailed(77), 1) == NOW + 77
