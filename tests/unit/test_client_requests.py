"""What Python callers ask for, as queries of the wire."""

from __future__ import annotations

from datetime import UTC, date, datetime, timedelta, timezone
from typing import Any

import numpy as np
import pandas as pd
import pytest

from gapless.client import requests
from gapless.errors import InvalidQuery
from gapless.protocol.messages import GetReport, ProviderList, ProviderRequest


def filters(query: dict[str, Any]) -> list[dict[str, Any]]:
    """Return the filters of a search."""
    found: list[dict[str, Any]] = query["payload"]["request"]["SearchEntities"]["query"]
    return found


def test_a_range_of_a_ticker() -> None:
    """The ticker, the range where there is one, and a filter for each parameter that is given."""
    params: dict[str, requests.ParamValue | None] = {
        "interval": "1h",
        "adjusted": True,
        "depth": 3,
        "factor": 0.5,
        "none": None,
    }
    query = requests.range_search("p", "A", "2021-01-01", None, params)
    assert query == {
        "type": "ProviderRequest",
        "payload": {
            "provider": "p",
            "request": {
                "SearchEntities": {
                    "query": [
                        {"Ticker": "A"},
                        {"DateRange": {"start": "2021-01-01", "end": ""}},
                        {"Param": {"name": "interval", "value": "1h"}},
                        {"Param": {"name": "adjusted", "value": "true"}},
                        {"Param": {"name": "depth", "value": "3"}},
                        {"Param": {"name": "factor", "value": "0.5"}},
                    ],
                    "limit": None,
                }
            },
        },
    }
    assert filters(requests.range_search("p", "A", None, None, {})) == [{"Ticker": "A"}]


@pytest.mark.parametrize(
    ("value", "expected"),
    [
        (np.datetime64("2021-01-01"), "2021-01-01"),
        (np.datetime64("2021-01-01", "ns"), "2021-01-01"),
        (np.datetime64("2021-01"), "2021-01-01"),
        (pd.Timestamp("2021-01-01"), "2021-01-01"),
        (pd.Timestamp("2021-01-01T09:30", tz="UTC"), "2021-01-01T09:30:00Z"),
    ],
)
def test_days_of_numpy_and_pandas(value: Any, expected: str) -> None:
    """They are days like any other."""
    assert requests.bound(value, "start") == expected


@pytest.mark.parametrize(
    ("value", "says"),
    [
        (pd.NaT, "start=NaT is no time"),
        (np.datetime64("NaT"), "start='NaT' is no day or time"),
        (np.datetime64("2021-01-01T09:30", "ns"), "start=.* has no time zone"),
    ],
)
def test_what_is_no_time(value: Any, says: str) -> None:
    """It is refused by its name, whoever made it."""
    with pytest.raises(InvalidQuery, match=says):
        requests.bound(value, "start")


@pytest.mark.parametrize("value", [[], {}, b"x", float("nan"), float("inf"), object()])
def test_a_parameter_is_a_text_a_number_or_a_truth_value(value: Any) -> None:
    """Anything else is refused by its name."""
    with pytest.raises(InvalidQuery, match="interval="):
        requests.range_search("p", "A", None, None, {"interval": value})


@pytest.mark.parametrize(("provider", "ticker"), [("", "A"), (None, "A"), ("p", ""), ("p", 7)])
def test_names_are_texts(provider: Any, ticker: Any) -> None:
    """What is empty or no text is refused before it is sent."""
    with pytest.raises(InvalidQuery, match="expected a"):
        requests.range_search(provider, ticker, None, None, {})


@pytest.mark.parametrize(
    ("value", "expected"),
    [
        (None, ""),
        ("-30d", "-30d"),
        (date(2021, 2, 3), "2021-02-03"),
        (datetime(2021, 2, 3), "2021-02-03"),  # noqa: DTZ001
        (datetime(2021, 2, 3, 4, 5, 6, tzinfo=UTC), "2021-02-03T04:05:06Z"),
        (datetime(2021, 2, 3, tzinfo=timezone(timedelta(hours=-5))), "2021-02-03T05:00:00Z"),
        (datetime(2021, 2, 3, 4, 5, 6, 7_000, tzinfo=UTC), "2021-02-03T04:05:06.007000Z"),
        (pd.Timestamp("2021-02-03 04:05", tz="UTC"), "2021-02-03T04:05:00Z"),
        (pd.Timestamp("2021-02-03"), "2021-02-03"),
    ],
)
def test_bounds(value: Any, expected: str) -> None:
    """Texts as they are, dates, and instants in UTC."""
    assert requests.bound(value, "start") == expected


@pytest.mark.parametrize("value", [7, 1.5, True, b"2021", datetime(2021, 2, 3, 4, 5)])  # noqa: DTZ001
def test_what_is_no_bound(value: Any) -> None:
    """It is refused by the name of the argument."""
    with pytest.raises(InvalidQuery, match="start="):
        requests.bound(value, "start")


def test_a_search_through_what_is_stored() -> None:
    """A filter for each thing that is said, and at least one."""
    query = requests.stored_search(
        "p",
        requests.Stored("i", "s", "ready", ("a", "b"), "u", (date(2021, 1, 1), None)),
        7,
    )
    assert filters(query) == [
        {"ById": "i"},
        {"BySource": "s"},
        {"ByState": "ready"},
        {"ByUrl": "u"},
        {"ByTags": ["a", "b"]},
        {"ByUpdatedAtRange": {"start": "2021-01-01", "end": ""}},
    ]
    assert query["payload"]["request"]["SearchEntities"]["limit"] == 7


def test_lines_are_read_before_they_are_sent() -> None:
    """They become the query that they stand for, so that any hub can be asked."""
    query, parsed = requests.line_query("providers")
    assert (query, parsed) == ({"type": "ProviderList"}, ProviderList())
    query, parsed = requests.line_query("provider p search ticker=A date=2021-01-01..2021-02-01")
    assert query == requests.range_search("p", "A", "2021-01-01", "2021-02-01", {})
    query, parsed = requests.line_query("provider p report url=u")
    assert isinstance(parsed, ProviderRequest)
    assert parsed.request == GetReport("u")
    assert query["payload"]["request"] == {"GetReport": {"url": "u"}}
    with pytest.raises(InvalidQuery, match=r"\^"):
        requests.line_query("provider p serch ticker=A")


@pytest.mark.parametrize(
    ("line", "whole"),
    [
        ("sample all", "provider sample all"),
        ("provider sample all", "provider sample all"),
        ("PROVIDER sample all", "PROVIDER sample all"),
        ("  provider x", "  provider x"),
        ("", "provider "),
    ],
)
def test_a_line_may_begin_with_the_provider(line: str, whole: str) -> None:
    """As with the older client."""
    assert requests.provider_line(line) == whole
