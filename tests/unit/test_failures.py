"""Whom a failure concerns, with time as an argument; and that what is remembered is bounded."""

from __future__ import annotations

import pytest

from gapless.domain.series import SeriesKey
from gapless.errors import (
    BadPluginReply,
    BadUpstreamReply,
    OutOfWindow,
    PluginCrashed,
    ProviderError,
    RateLimited,
    UnknownTicker,
    UpstreamRejected,
    UpstreamUnavailable,
    UpstreamUnreachable,
)
from gapless.hub.failures import Concern, SeriesFailures, concern_of

UNSURE = UpstreamUnavailable("HTTP 500")
MAD = BadUpstreamReply("nonsense")


def series(ticker: str, interval: str = "1d") -> SeriesKey:
    """Return the key of a series."""
    return SeriesKey("p", ticker, (("interval", interval),))


@pytest.mark.parametrize(
    ("error", "concern"),
    [
        (RateLimited("x"), Concern.UPSTREAM),
        (UpstreamUnreachable("x"), Concern.UPSTREAM),
        (UpstreamUnavailable("x"), Concern.UNSURE),
        (BadUpstreamReply("x"), Concern.SERIES),
        (UpstreamRejected("x"), Concern.NOBODY),
        (UnknownTicker("x"), Concern.NOBODY),
        (OutOfWindow("x"), Concern.NOBODY),
        (PluginCrashed("x"), Concern.NOBODY),
        (BadPluginReply("x"), Concern.NOBODY),
    ],
)
def test_whom_a_failure_concerns(error: ProviderError, concern: Concern) -> None:
    """No connection and too many requests concern all, what is no answer its series alone."""
    assert concern_of(error) is concern


def test_two_series_of_one_ticker_are_one_witness() -> None:
    """It takes two tickers to say something of upstream."""
    failures = SeriesFailures()
    for ticker in ("A", "B"):
        failures.answered(series(ticker))
    assert not failures.is_of_all(series("A"), UNSURE, known=False)
    assert not failures.is_of_all(series("A", "1h"), UNSURE, known=False)
    assert failures.is_of_all(series("B"), UNSURE, known=False)
    # From now on all that fail do so with upstream, until something is answered.
    assert failures.is_of_all(series("NEVER"), UNSURE, known=False)
    failures.upstream_answered()
    assert not failures.is_of_all(series("B"), UNSURE, known=False)


def test_what_turns_out_to_be_of_all_is_held_against_nobody() -> None:
    """Who was left alone for it is asked again as all others are; what was its own stays."""
    failures = SeriesFailures()
    failures.gave_up(series("ODD"), MAD, 0.0)
    failures.is_of_all(series("A"), UNSURE, known=True)
    assert failures.gave_up(series("A"), UNSURE, 0.0) == 60.0
    assert len(failures) == 2
    failures.is_of_all(series("B"), UNSURE, known=True)
    assert failures.gave_up(series("B"), UNSURE, 0.0) is None
    assert [one.key for one in failures.first(9)] == [series("ODD")]
    assert failures.refusal(series("A"), 1.0) is None


def test_a_pause_is_no_shorter_than_upstream_says() -> None:
    """It counts once, and does not lengthen the pauses after it."""
    failures = SeriesFailures()
    busy = UpstreamUnavailable("busy", retry_after_s=500.0)
    assert failures.gave_up(series("A"), busy, 0.0) == 500.0
    told = failures.refusal(series("A"), 100.0)
    assert told is not None
    assert (told.message, told.retry_after_s) == ("busy", 400.0)
    assert failures.refusal(series("A"), 500.0) is None
    assert failures.gave_up(series("A"), UNSURE, 500.0) == 120.0


def test_what_is_remembered_is_bounded() -> None:
    """The oldest goes, whatever fails or answers; and after a day nothing is told any more."""
    failures = SeriesFailures(most=10)
    for n in range(50):
        failures.answered(series(f"GOOD{n}"))
        failures.gave_up(series(f"BAD{n}"), MAD, 0.0)
        failures.is_of_all(series("GOOD49", str(n)), UNSURE, known=True)
    assert len(failures) == 10
    assert failures.first(2)[0].key == series("BAD49")
    # Too long ago to be one that has answered before.
    assert not failures.is_of_all(series("GOOD0"), UNSURE, known=False)
    failures.gave_up(series("LATER"), MAD, 100_000.0)
    assert len(failures) == 1
