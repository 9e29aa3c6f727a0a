"""What an answer tells of its ticker beside the bars: facts, and actions by ex-date."""

from __future__ import annotations

from datetime import UTC, datetime
from typing import Any
from zoneinfo import ZoneInfo

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from gapless.providers.yahoo_actions import actions
from gapless.providers.yahoo_chart import ChartMeta
from gapless.providers.yahoo_facts import facts

NEW_YORK = ZoneInfo("America/New_York")


def at(text: str) -> int:
    """Return Unix seconds of an ISO time in UTC."""
    return int(datetime.fromisoformat(text).replace(tzinfo=UTC).timestamp())


NOW = at("2026-06-17T15:00")
META: dict[str, Any] = {
    "symbol": "ABC",
    "dataGranularity": "1d",
    "currency": "GBp",
    "instrumentType": "EQUITY",
    "exchangeName": "LSE",
    "exchangeTimezoneName": "Europe/London",
    "longName": None,
    "shortName": "A  B C                 I",
    "firstTradeDate": at("1990-01-02T08:00"),
    "currentTradingPeriod": {
        "regular": {"start": at("2026-06-17T07:00"), "end": at("2026-06-17T15:30")}
    },
}
NOTHING = {
    "zone": None,
    "currency": None,
    "kind": None,
    "exchange": None,
    "name": None,
    "first_trade": None,
    "session": {"open": None, "close": None},
}


def told(**changes: Any) -> dict[str, Any]:
    """Return the facts of an answer that differs from the usual one."""
    return facts(msgspec.convert({**META, **changes}, ChartMeta), NOW * 1000)


def test_what_is_known_of_a_ticker() -> None:
    """Each as upstream has it: pence stay pence, and the session is on the exchange's clocks."""
    assert told() == {
        "zone": "Europe/London",
        "currency": "GBp",
        "kind": "EQUITY",
        "exchange": "LSE",
        "name": "A B C I",
        "first_trade": at("1990-01-02T08:00"),
        "session": {"open": "08:00", "close": "16:30"},
    }
    assert told(longName="Alpha plc")["name"] == "Alpha plc"
    whole_day = {"start": at("2026-06-16T23:00"), "end": at("2026-06-17T22:59")}
    assert told(currentTradingPeriod={"regular": whole_day})["session"] == {
        "open": "00:00",
        "close": "24:00",
    }


def test_what_is_not_told_or_cannot_be_is_null() -> None:
    """A zone that is none, a first trade that is to come, names that nobody can read."""
    bare = ChartMeta("ABC", "1d")
    assert facts(bare, NOW * 1000) == NOTHING
    nowhere = told(exchangeTimezoneName="No/Where")
    assert (nowhere["zone"], nowhere["session"]) == (None, {"open": None, "close": None})
    assert told(firstTradeDate=NOW + 1)["first_trade"] is None
    assert told(currency="X" * 99, instrumentType="\x00", exchangeName="")["currency"] is None
    assert told(currency="X" * 99, instrumentType="\x00", exchangeName="")["kind"] is None
    assert told(shortName="\x07", longName=" ")["name"] is None


EVENTS = {
    # For months the key is the bar's stamp; the ex-date is inside.
    "dividends": {
        str(at("2020-08-01T04:00")): {"amount": 0.82, "date": at("2020-08-07T13:30")},
        str(at("2020-11-01T04:00")): {"amount": 0.205, "date": at("2020-11-06T14:30")},
    },
    "splits": {
        str(at("2020-08-01T04:00")): {
            "date": at("2020-08-31T13:30"),
            "numerator": 4.0,
            "denominator": 1.0,
            "splitRatio": "4:1",
        },
        "1": {"date": at("2022-06-06T13:30"), "numerator": 1, "denominator": 20},
    },
    "capitalGains": {"2": {"amount": 3, "date": at("2020-11-06T14:30")}},
}


def test_actions_are_told_by_their_ex_date() -> None:
    """One record a day, in order, with what happened on it; a split is new shares for one old."""
    found = actions(EVENTS, NEW_YORK, NOW * 1000)
    assert [tuple(record.values()) for record in found] == [
        (at("2020-08-07T13:30"), 0.82, None, None),
        (at("2020-08-31T13:30"), None, 4.0, None),
        (at("2020-11-06T14:30"), 0.205, None, 3.0),
        (at("2022-06-06T13:30"), None, 0.05, None),
    ]
    assert all(list(record)[1:] == ["dividend", "split", "capital_gain"] for record in found)


DATE = at("2020-08-31T13:30")


@pytest.mark.parametrize(
    "event",
    [
        {"numerator": 4, "denominator": 0, "date": DATE},
        {"numerator": 1, "denominator": 1, "date": DATE},
        {"numerator": -4, "denominator": 1, "date": DATE},
        {"numerator": "4", "denominator": 1, "date": DATE},
        {"numerator": True, "denominator": 2, "date": DATE},
        {"numerator": 1 << 2000, "denominator": 1, "date": DATE},
        {"numerator": 1e300, "denominator": 1e-300, "date": DATE},
        {"numerator": 100_001, "denominator": 1, "date": DATE},
        {"numerator": 1, "denominator": 100_001, "date": DATE},
        {"numerator": 4, "denominator": 1},
        {"numerator": 4, "denominator": 1, "date": "2020-08-31"},
        {"numerator": 4, "denominator": 1, "date": 1 << 60},
        {"numerator": 4, "denominator": 1, "date": NOW + 30 * 86_400},
        None,
        [],
    ],
)
def test_an_action_that_makes_no_sense_is_left_out(event: Any) -> None:
    """The others of the same answer stay."""
    events = {**EVENTS, "splits": {"1": event}}
    found = actions(events, NEW_YORK, NOW * 1000)
    assert [record["split"] for record in found] == [None, None]


ANYTHING = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(),
    lambda some: st.lists(some, max_size=3) | st.dictionaries(st.text(), some, max_size=3),
    max_leaves=6,
)


@given(
    st.one_of(
        ANYTHING,
        st.fixed_dictionaries(
            {},
            optional={
                name: st.dictionaries(
                    st.text(),
                    ANYTHING
                    | st.fixed_dictionaries(
                        {"date": ANYTHING | st.integers(0, 2_000_000_000)},
                        optional={
                            "amount": ANYTHING,
                            "numerator": ANYTHING,
                            "denominator": ANYTHING,
                        },
                    ),
                    max_size=4,
                )
                | ANYTHING
                for name in ("dividends", "splits", "capitalGains")
            },
        ),
    )
)
def test_whatever_is_told_of_actions_is_right_or_left_out(events: Any) -> None:
    """One record a day, in order, each with something that is a number above zero."""
    found = actions(events, NEW_YORK, NOW * 1000)
    times = [record["timestamp"] for record in found]
    assert times == sorted(set(times))
    for record in found:
        values = [record[kind] for kind in ("dividend", "split", "capital_gain")]
        assert any(value is not None for value in values)
        assert all(value is None or 0 < value < float("inf") for value in values)
