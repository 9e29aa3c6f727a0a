"""How far upstream's clock is from the hub's own, and how often that is said."""

from __future__ import annotations

import pytest

from gapless.hub.skew import Skew

MINUTE_MS = 60_000


@pytest.mark.parametrize(
    ("upstream", "seconds", "apart"),
    [
        (None, None, False),
        (1_000, 0.0, False),
        (1_500, 0.0, False),
        (3_000, 1.0, False),
        (0, -1.0, False),
        (2_000 + 5 * MINUTE_MS, 300.0, False),
        (2_100 + 5 * MINUTE_MS, 300.1, True),
        (900 - 5 * MINUTE_MS, -300.1, True),
    ],
)
def test_the_way_between_is_no_difference(
    upstream: int | None, seconds: float | None, apart: bool
) -> None:
    """A clock that shows a time between asking and hearing is right; over five minutes is not."""
    skew = Skew()
    assert skew.heard(upstream, 1_000, 2_000, 0.0) is apart
    assert (skew.seconds, skew.apart) == (seconds, apart)


def test_it_is_said_once_a_minute() -> None:
    """However many answers show it; and an answer that tells no time changes nothing."""
    skew = Skew()
    said = [now for now in range(0, 200, 7) if skew.heard(0, 10**9, 10**9, float(now))]
    assert said == [0, 63, 126, 189]
    assert not skew.heard(None, 0, 0, 1_000.0)
    assert skew.apart
    assert not skew.heard(10**9, 10**9, 10**9, 1_000.0)
    assert (skew.seconds, skew.apart) == (0.0, False)
