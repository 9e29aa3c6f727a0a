"""Who guesses has to wait; the time is an argument."""

from __future__ import annotations

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from gapless.auth.rate import Rate
from gapless.auth.throttle import Patience, Throttle

PATIENCE = Patience(free=3, first=1.0, most=60.0)


def test_a_few_failures_are_free_then_the_wait_doubles() -> None:
    """Up to a limit, from which on it stays the same."""
    throttle, now, waits = Throttle(PATIENCE), 1_000.0, []
    for _ in range(12):
        waits.append(throttle.wait("ann", now))
        now += waits[-1]
        throttle.failed("ann", now)
    assert waits == [0, 0, 0, 1, 2, 4, 8, 16, 32, 60, 60, 60]


def test_a_success_forgets_them() -> None:
    """And so does a long time without any."""
    throttle = Throttle(PATIENCE)
    for _ in range(4):
        throttle.failed("ann", 0.0)
    assert throttle.wait("ann", 0.0) > 0
    assert throttle.wait("bob", 0.0) == 0
    throttle.succeeded("ann")
    assert throttle.wait("ann", 0.0) == 0
    for _ in range(4):
        throttle.failed("ann", 0.0)
    throttle.failed("ann", 10_000.0)
    assert throttle.wait("ann", 10_000.0) == 0


def test_it_remembers_no_more_than_it_may() -> None:
    """The keys that failed last stay; none of any number costs more."""
    throttle = Throttle(PATIENCE, limit=10)
    for key in range(1_000):
        for _ in range(4):
            throttle.failed(key, 0.0)
    assert [key for key in range(1_000) if throttle.wait(key, 0.0)] == list(range(990, 1_000))


@pytest.mark.property
@given(
    rate=st.floats(0.5, 1_000),
    burst=st.integers(1, 50),
    gaps=st.lists(st.floats(0, 5), max_size=200),
)
# Two thirds of a second after 100 are rounded up.
@example(rate=1.5, burst=2, gaps=[0.0, 0.0])
@example(rate=93.0, burst=2, gaps=[0.0, 0.0])
def test_a_rate_is_kept_over_any_time(rate: float, burst: int, gaps: list[float]) -> None:
    """In no stretch of time are there more than its share and one burst."""
    now = [100.0]
    budget = Rate(rate, burst, lambda: now[0])
    taken: list[float] = []
    for gap in gaps:
        now[0] += gap
        if budget.take():
            taken.append(now[0])
            assert budget.wait() >= 0
        else:
            assert budget.wait() > 0
    for i, start in enumerate(taken):
        for j in range(i, len(taken)):
            most = burst + (taken[j] - start) * rate
            assert j - i + 1 <= most + 1 + 1e-6


def test_a_refused_request_takes_nothing() -> None:
    """Who waits as long as it is told to is let through."""
    now = [0.0]
    budget = Rate(2.0, 3, lambda: now[0])
    assert [budget.take() for _ in range(5)] == [True, True, True, False, False]
    now[0] += budget.wait()
    assert [budget.take(), budget.take()] == [True, False]
