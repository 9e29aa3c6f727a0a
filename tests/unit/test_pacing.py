"""The bucket of turns, the back-off and the breaker, with time as an argument."""

from __future__ import annotations

import pytest

from gapless.hub.pacing import Breaker, Bucket, back_off


def test_a_bucket_spreads_turns_in_order() -> None:
    """The burst goes at once, then turns come at the rate, in the order they were asked for."""
    bucket = Bucket(rate=2.0, burst=3, now=100.0)
    assert [bucket.take(100.0) for _ in range(6)] == [0.0, 0.0, 0.0, 0.5, 1.0, 1.5]
    assert bucket.wait(100.0) == 2.0
    assert bucket.wait(101.0) == 1.0
    assert bucket.take(102.0) == 0.0


def test_a_bucket_fills_no_further_than_its_burst() -> None:
    """An idle year buys no more than one burst; a clock that stands still buys nothing."""
    bucket = Bucket(rate=2.0, burst=3, now=0.0)
    assert [bucket.take(1e9) for _ in range(4)] == [0.0, 0.0, 0.0, 0.5]
    assert bucket.take(1e9) == 1.0


def test_asking_how_long_takes_no_turn() -> None:
    """Looking at the queue leaves it as it is."""
    bucket = Bucket(rate=1.0, burst=1, now=0.0)
    assert [bucket.wait(0.0) for _ in range(3)] == [0.0, 0.0, 0.0]
    bucket.take(0.0)
    assert [bucket.wait(0.25) for _ in range(3)] == [0.75, 0.75, 0.75]


@pytest.mark.parametrize(
    ("attempt", "least", "most"),
    [(1, 0.25, 0.5), (2, 0.5, 1.0), (3, 1.0, 2.0), (5, 4.0, 8.0), (9, 4.0, 8.0), (500, 4.0, 8.0)],
)
def test_back_off_doubles_up_to_a_bound(attempt: int, least: float, most: float) -> None:
    """Each retry waits twice as long as the one before, up to a bound, spread over half of it."""
    assert back_off(attempt, 0.0) == least
    assert least < back_off(attempt, 0.5) < most
    assert back_off(attempt, 0.999_999) <= most


def breaker() -> Breaker:
    """Return a breaker that opens at the third failure, for 10 seconds, at most 40."""
    return Breaker(threshold=3, cooldown=10.0, most=40.0)


def test_failures_in_a_row_open_the_breaker() -> None:
    """It opens at the threshold, and a success in between starts the count anew."""
    one = breaker()
    one.failed(0.0)
    one.failed(0.0)
    one.succeeded()
    one.failed(0.0)
    one.failed(0.0)
    assert one.blocked_for(0.0) == 0.0
    one.failed(0.0)
    assert one.blocked_for(0.0) == 10.0
    assert one.blocked_for(9.0) == 1.0
    assert one.blocked_for(10.0) == 0.0


def opened() -> Breaker:
    """Return a breaker that opened at 0."""
    one = breaker()
    for _ in range(3):
        one.failed(0.0)
    return one


def test_one_caller_tries_for_all() -> None:
    """After the cooldown one passes, the others wait for its outcome; a success closes it."""
    one = opened()
    assert one.enter()
    assert one.blocked_for(10.0) > 0
    one.succeeded()
    assert one.blocked_for(10.0) == 0.0
    assert not one.enter()
    one.failed(11.0)
    assert one.blocked_for(11.0) == 0.0


def test_each_trial_that_fails_doubles_the_cooldown() -> None:
    """It stays open twice as long after each failed trial, up to its bound."""
    one, now, waits = opened(), 10.0, []
    for _ in range(4):
        one.enter()
        one.failed(now)
        waits.append(one.blocked_for(now))
        now += waits[-1]
    assert waits == [20.0, 40.0, 40.0, 40.0]
    one.enter()
    one.succeeded()
    for _ in range(3):
        one.failed(now)
    assert one.blocked_for(now) == 10.0


def test_a_trial_without_an_outcome_lets_the_next_one_through() -> None:
    """A trial whose caller went away does not keep it open for ever."""
    one = opened()
    one.enter()
    one.abandoned()
    assert one.blocked_for(10.0) == 0.0


def test_it_opens_at_once_when_told_to() -> None:
    """A wait that upstream asked for is believed, longer or shorter than its own, once."""
    one = breaker()
    one.failed(0.0, open_for=33.0)
    assert one.blocked_for(0.0) == 33.0
    one = breaker()
    one.failed(0.0, open_for=2.0)
    assert one.blocked_for(0.0) == 2.0
    one.enter()
    one.failed(2.0, open_for=2.0)
    assert one.blocked_for(2.0) == 4.0
    one.enter()
    one.failed(6.0, open_for=100.0)
    assert one.blocked_for(6.0) == 100.0


def test_no_wait_is_shorter_than_a_second() -> None:
    """Whoever asks for next to nothing would be asked all the time."""
    one = breaker()
    one.failed(0.0, open_for=0.001)
    assert one.blocked_for(0.0) == 1.0


def test_stragglers_do_not_lengthen_the_cooldown() -> None:
    """Of many requests under way when it opens, the failures count once, not as trials."""
    one = opened()
    for _ in range(20):
        one.failed(1.0)
    assert one.blocked_for(0.0) == 10.0
    one.failed(1.0, open_for=60.0)
    assert one.blocked_for(1.0) == 60.0
    one.enter()
    one.failed(61.0)
    assert one.blocked_for(61.0) == 20.0


def test_stragglers_do_not_close_it() -> None:
    """A success that was under way when it opened says nothing of now."""
    one = breaker()
    one.failed(0.0, open_for=60.0)
    one.succeeded()
    assert one.blocked_for(0.0) == 60.0
