"""What the clock of an answer shows, and which of two clocks counts."""

from __future__ import annotations

import pytest

from gapless.providers.base import Clocks
from gapless.providers.yahoo_chart import Bar, Chart, ChartMeta
from gapless.providers.yahoo_replies import Reply, upstream_now

# 2026-11-20T12:00:00Z.
NOW = 1_795_176_000
MINUTE_MS = 60_000


def chart(*stamps: int, last_trade: int | None = None) -> Chart:
    """Return an answer with rows of these times."""
    meta = ChartMeta("ABC", "1d", regular_market_time=last_trade)
    rows = [Bar(stamp, 1.0, 1.0, 1.0, 1.0, 1.0, 1) for stamp in stamps]
    return Chart(meta, rows, max(stamps))


SENT = "Fri, 20 Nov 2026 12:00:00 GMT"
OLD = chart(NOW - 86_400, NOW - 3_600, last_trade=NOW - 60)


@pytest.mark.parametrize(
    ("date", "age", "answer", "expected"),
    [
        (SENT, None, OLD, NOW),
        (SENT, "90", OLD, NOW + 90),
        (SENT, "soon", OLD, NOW),
        (SENT, None, None, NOW),
        # What upstream names lies past its own word.
        (SENT, None, chart(NOW + 5, NOW - 10), NOW + 5),
        (SENT, None, chart(NOW - 10, last_trade=NOW + 7), NOW + 7),
        # Without its word the stamps of a past range tell nothing, those of the future do.
        (None, None, OLD, None),
        ("yesterday", None, OLD, None),
        ("Fri, 99 Nov 2026 12:00:00 GMT", None, OLD, None),
        (None, None, chart(NOW - 10, NOW + 86_400), NOW + 86_400),
        (None, None, None, None),
    ],
)
def test_what_upstreams_clock_shows(
    date: str | None, age: str | None, answer: Chart | None, expected: int | None
) -> None:
    """The latest of its `Date` and age, the newest stamp, and the time of the last trade."""
    told = {"date": date, "age": age}
    headers = {name: value for name, value in told.items() if value is not None}
    reply = Reply("host", 200, b"", headers)
    found = upstream_now(reply, answer, NOW * 1000)
    assert found == (None if expected is None else expected * 1000)


@pytest.mark.parametrize(
    ("upstream", "earlier", "due_from"),
    [
        (None, 0, 0),
        (0, 0, 0),
        (-MINUTE_MS, -MINUTE_MS, 0),
        (-5 * MINUTE_MS, -5 * MINUTE_MS, 0),
        (-6 * MINUTE_MS, -6 * MINUTE_MS, -6 * MINUTE_MS),
        (6 * MINUTE_MS, 0, 0),
    ],
)
def test_the_earlier_clock_counts(upstream: int | None, earlier: int, due_from: int) -> None:
    """Due moments go by the own clock as long as the two are of one world."""
    now = NOW * 1000
    told = None if upstream is None else now + upstream
    assert Clocks.of(now, told) == (now + earlier, now + due_from)
