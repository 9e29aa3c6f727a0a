"""The oracle of the promise: an honest cache passes, and who breaks a clause is caught."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from datetime import UTC, date, datetime

import pytest

from gapless.simulator.happenings import (
    Absent,
    Delisted,
    Dividend,
    Happening,
    Restatement,
    Split,
)
from gapless.simulator.instruments import coin, currency_pair, equity, fund
from gapless.simulator.market import Market
from gapless.simulator.prices import RandomWalk
from support.liars import (
    Backdating,
    Confident,
    Credulous,
    Destructive,
    Discreet,
    Evasive,
    Forgetful,
    Guessing,
    Hasty,
    Inventive,
    Lazy,
    Mixing,
    Overdue,
    Overnight,
    Patching,
    Rounding,
    Sealing,
    Stubborn,
    Trusting,
    Unbending,
    Weekly,
)
from support.promise import Promise
from support.reference import Reference, changed
from support.told import Facts, Span, Why

HOUR, DAY = 3600, 86_400
MARKET = Market(
    [
        equity("AAA", first_trade=date(2024, 1, 2), holidays=frozenset({date(2025, 4, 18)})),
        equity("BHP.AX", tz="Australia/Sydney", hours=(10 * HOUR, 16 * HOUR)),
        currency_pair("EURUSD=X"),
        coin("BTC-USD"),
        fund("VFIAX"),
    ],
    prices=RandomWalk(7),
    edge_lags_s=(0.0, 600.0),
)


def at(text: str) -> int:
    """Return the UTC seconds of an ISO instant."""
    return int(datetime.fromisoformat(text).replace(tzinfo=UTC).timestamp())


BEGIN = at("2025-01-06T00:00")
EVENING = at("2025-03-12T22:00")
"""A Wednesday, two hours after the close in New York, in summer time."""

Play = Callable[[type[Reference]], str]
"""Plays a history to a kind of cache and returns the first letters of the answers' states.

An answer that breaks the promise raises.
"""


class Stage:
    """A market in which things happen, one cache, and the oracle that listens."""

    def __init__(
        self,
        kind: type[Reference],
        *happenings: Happening,
        symbol: str = "AAA",
        interval: str = "1d",
    ) -> None:
        market = MARKET.fresh()
        market.add(*happenings)
        self.cache = kind(market, symbol, interval)
        self.promise = Promise(market, self.cache.log)
        self.states = ""

    def ask(self, at_s: int, start_s: int = BEGIN) -> None:
        """Ask for what was from an instant until now, and hold the answer to the promise."""
        told = self.cache.ask(start_s, at_s, at_s)
        self.states += told.state[0]
        self.promise.check(told)


# The histories


def a_plain_week(kind: type[Reference]) -> str:
    """Every evening, and once while the session is open."""
    stage = Stage(kind)
    for days in range(7):
        stage.ask(EVENING + days * DAY)
        stage.ask(EVENING + days * DAY + 18 * HOUR)
    return stage.states


def a_session_and_two_days_later(kind: type[Reference]) -> str:
    """Once while the session is open, and not again before its bar is final."""
    stage = Stage(kind)
    stage.ask(EVENING - 4 * HOUR)
    stage.ask(EVENING + 2 * DAY)
    return stage.states


def a_fund_in_the_evening(kind: type[Reference]) -> str:
    """An hour after the close, when the value has come out, and on the day after."""
    stage = Stage(kind, symbol="VFIAX")
    for minutes in (-60, 150, 1440):
        stage.ask(EVENING + 60 * minutes)
    return stage.states


def a_bar_is_revised(kind: type[Reference]) -> str:
    """A middle bar gets another close two days later; asked before and long after."""
    stage = Stage(kind, Restatement("AAA", date(2025, 2, 14), EVENING + DAY, close=1.01))
    for days in (0, 2, 5, 9):
        stage.ask(EVENING + days * DAY)
    return stage.states


def minutes_pass(kind: type[Reference]) -> str:
    """Quarters of an hour, asked every few minutes of a session."""
    stage = Stage(kind, interval="15m")
    opened = at("2025-03-12T13:30")
    for minutes in (100, 107, 113, 121, 128, 160):
        stage.ask(opened + minutes * 60, opened - DAY)
    return stage.states


def a_split_within_the_session(kind: type[Reference]) -> str:
    """Registered at noon, two days late; asked an hour before and an hour after."""
    noon = at("2025-03-12T16:00")
    stage = Stage(kind, Split("AAA", date(2025, 3, 10), 10, seen_s=noon))
    for hours in (-1, 1, 30):
        stage.ask(noon + hours * HOUR)
    return stage.states


def a_dividend_within_the_session(kind: type[Reference]) -> str:
    """Registered at noon, two days late."""
    noon = at("2025-03-12T16:00")
    stage = Stage(kind, Dividend("AAA", date(2025, 3, 10), 0.5, seen_s=noon))
    for hours in (-1, 1, 30):
        stage.ask(noon + hours * HOUR)
    return stage.states


def bars_leave_the_window(kind: type[Reference]) -> str:
    """Quarters of an hour held for longer than upstream serves them, and a split in between."""
    stage = Stage(kind, Split("AAA", date(2025, 3, 31), 2), interval="15m")
    start = EVENING - 20 * DAY
    for days in (0, 15, 45, 60):
        stage.ask(EVENING + days * DAY, start)
    return stage.states


def nothing_for_an_hour(kind: type[Reference]) -> str:
    """The first answer for a year is empty, and the next ones are not."""
    stage = Stage(kind, Absent("AAA", from_s=EVENING, heals_s=EVENING + HOUR))
    for hours in (0, 2, 48):
        stage.ask(EVENING + hours * HOUR)
    return stage.states


def five_bars_are_gone_for_days(kind: type[Reference]) -> str:
    """Held before, lacking for three days, back again."""
    week = at("2025-02-10T00:00"), at("2025-02-15T00:00")
    gone = Absent("AAA", *week, from_s=EVENING + HOUR, heals_s=EVENING + 3 * DAY)
    stage = Stage(kind, gone)
    for hours in (0, 2, 4, 20, 28, 76):
        stage.ask(EVENING + hours * HOUR)
    return stage.states


def a_month_is_gone_for_weeks(kind: type[Reference]) -> str:
    """More than may be deleted, whoever says it."""
    month = at("2025-02-01T00:00"), at("2025-03-01T00:00")
    stage = Stage(kind, Absent("AAA", *month, from_s=EVENING + HOUR))
    for hours in (0, 2, 28, 52, 200):
        stage.ask(EVENING + hours * HOUR)
    return stage.states


def the_ticker_is_unknown_for_a_day(kind: type[Reference]) -> str:
    """404 for a day, and an answer again."""
    stage = Stage(kind, Delisted("AAA", EVENING + HOUR, EVENING + DAY))
    for hours in (0, 2, 26):
        stage.ask(EVENING + hours * HOUR)
    return stage.states


HISTORIES: list[tuple[Play, str]] = [
    (a_plain_week, "r" * 14),
    (a_session_and_two_days_later, "rr"),
    (a_fund_in_the_evening, "rrr"),
    (a_bar_is_revised, "rrrr"),
    (minutes_pass, "rrrrrr"),
    (a_split_within_the_session, "rrr"),
    (a_dividend_within_the_session, "rrr"),
    (bars_leave_the_window, "rrrr"),
    (nothing_for_an_hour, "srr"),
    (five_bars_are_gone_for_days, "rssrrr"),
    (a_month_is_gone_for_weeks, "rsrrr"),
    (the_ticker_is_unknown_for_a_day, "rsr"),
]


LIARS: list[tuple[type[Reference], Play, int, str]] = [
    (Stubborn, a_bar_is_revised, 1, "was not served since"),
    (Weekly, a_bar_is_revised, 1, "was not served since"),
    (Forgetful, a_plain_week, 1, "is missing"),
    (Inventive, a_plain_week, 1, "was not served since"),
    (Rounding, a_plain_week, 1, "was not served since"),
    (Hasty, a_plain_week, 1, "is final from"),
    (Sealing, a_session_and_two_days_later, 1, "was not served since"),
    (Mixing, minutes_pass, 2, "at one moment"),
    (Backdating, minutes_pass, 2, "at one moment"),
    (Overdue, minutes_pass, 2, "was due at"),
    (Lazy, a_plain_week, 2, "not before"),
    (Overnight, a_fund_in_the_evening, 2, "not before"),
    (Patching, a_split_within_the_session, 3, "as after"),
    (Patching, a_dividend_within_the_session, 3, "as after"),
    (Guessing, bars_leave_the_window, 4, "not as it was served last"),
    (Discreet, bars_leave_the_window, 4, "is rescaled, and not marked"),
    (Unbending, bars_leave_the_window, 3, "as after"),
    (Discreet, a_month_is_gone_for_weeks, 4, "is believed lost, and not marked"),
    (Credulous, nothing_for_an_hour, 5, "was empty at"),
    (Credulous, five_bars_are_gone_for_days, 5, "was lost at"),
    (Confident, five_bars_are_gone_for_days, 5, "was lost at"),
    (Evasive, a_plain_week, 5, "is unverified"),
    (Destructive, a_month_is_gone_for_weeks, 5, "too much"),
    (Trusting, the_ticker_is_unknown_for_a_day, 2, "at one moment"),
]


@pytest.mark.parametrize(
    ("history", "states"), HISTORIES, ids=[history.__name__ for history, _ in HISTORIES]
)
def test_an_honest_cache_passes(history: Play, states: str) -> None:
    """It keeps the promise in every history, and is ready but where something is in doubt."""
    assert history(Reference) == states


@pytest.mark.parametrize(
    ("liar", "history", "point", "words"),
    LIARS,
    ids=[f"{liar.__name__}-{history.__name__}" for liar, history, _, _ in LIARS],
)
def test_who_breaks_a_clause_is_caught(
    liar: type[Reference], history: Play, point: int, words: str
) -> None:
    """The error says which point it was, and of which bar."""
    with pytest.raises(AssertionError, match=rf"point {point}: \w+ \w+ 2025-.*{words}"):
        history(liar)


def test_what_is_stale_promises_nothing() -> None:
    """And what is partial promises what it does not lack and does not doubt."""
    stage = Stage(Reference)
    told = stage.cache.ask(BEGIN, EVENING, EVENING)
    bad = changed(told, dict.fromkeys(told.records, (1.0,) * 6))
    with pytest.raises(AssertionError, match="point 1"):
        stage.promise.check(bad)
    stage.promise.check(replace(bad, state="stale"))
    since = list(told.records)[20]
    missing = [Span(told.asked.start, since)]
    for answer in (told, bad):
        rest = {s: one for s, one in answer.records.items() if s >= since}
        half = replace(changed(answer, rest), state="partial", missing=missing)
        if answer is told:
            stage.promise.check(half)
        else:
            with pytest.raises(AssertionError, match="point 1"):
                stage.promise.check(half)
    with pytest.raises(AssertionError, match="is told, and not asked or missing"):
        stage.promise.check(replace(told, state="partial", missing=missing))
    doubted = [Why("check_pending", *told.asked)]
    stage.promise.check(replace(bad, state="partial", missing=missing, why=doubted))


@pytest.mark.parametrize(
    ("symbol", "now", "due"),
    [
        ("AAA", "2025-03-12T22:00", "2025-03-12T13:45"),
        ("AAA", "2025-03-12T13:44", "2025-03-11T13:45"),
        ("AAA", "2025-03-09T12:00", "2025-03-07T14:45"),
        ("AAA", "2025-04-19T12:00", "2025-04-17T13:45"),
        ("BHP.AX", "2025-03-12T22:00", "2025-03-11T23:15"),
        ("BHP.AX", "2025-03-12T23:15", "2025-03-12T23:15"),
        ("EURUSD=X", "2025-06-15T12:00", "2025-06-12T23:15"),
        ("BTC-USD", "2025-06-15T12:00", "2025-06-15T00:15"),
    ],
)
def test_due_is_the_latest_opening_and_a_quarter_of_an_hour(
    symbol: str, now: str, due: str
) -> None:
    """By the exchange's own clock; without facts it is a day ago."""
    instrument = MARKET.instrument(symbol)
    assert instrument is not None
    assert Facts.of(instrument).due_ms(at(now) * 1000) == at(due) * 1000


def test_a_series_that_was_forgotten_is_not_missed() -> None:
    """Its bars are in doubt while it is held, and new ones afterwards."""
    week = at("2025-02-10T00:00"), at("2025-02-15T00:00")
    stage = Stage(Reference, Absent("AAA", *week, from_s=EVENING + HOUR))
    stage.ask(EVENING)
    lacking = stage.cache.ask(BEGIN, EVENING + 2 * HOUR, EVENING + 2 * HOUR)
    assert lacking.state == "stale"
    # What a hub would say that has nothing else.
    gone = {s: one for s, one in lacking.records.items() if not week[0] <= s // 1000 < week[1]}
    ready = replace(changed(lacking, gone), state="ready")
    with pytest.raises(AssertionError, match="point 5"):
        stage.promise.check(ready)
    stage.promise.forgotten(stage.cache.series, EVENING + 2 * HOUR)
    stage.promise.check(ready)


def test_clocks_may_differ_by_as_much_as_is_said() -> None:
    """A hub whose clock is minutes ahead says so in every instant; its content is not of then."""
    stage = Stage(Reference)
    open_s = EVENING - 4 * HOUR
    told = stage.cache.ask(BEGIN, open_s, open_s)
    ahead_ms = 200_000
    ahead = replace(
        told,
        t0=told.t0 + ahead_ms,
        t1=told.t1 + ahead_ms,
        coverage=[
            one._replace(
                fetched_at=one.fetched_at + ahead_ms,
                refresh_after=one.refresh_after and one.refresh_after + ahead_ms,
            )
            for one in told.coverage
        ],
    )
    Promise(stage.cache.market, stage.cache.log, drift_s=300.0).check(ahead)
    with pytest.raises(AssertionError, match="point 2"):
        stage.promise.check(ahead)
