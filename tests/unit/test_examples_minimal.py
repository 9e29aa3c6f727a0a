"""The daylight example: what it computes, and how it answers the hub's requests."""

from __future__ import annotations

import json
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest

from support.examples import example

minimal = example("minimal")
BERLIN = "52.52,13.40"


def days(place: str, start: str, end: str) -> list[dict[str, Any]]:
    """Return the records that a range search gets."""
    filters = [{"Ticker": place}, {"DateRange": {"start": start, "end": end}}]
    request = {"SearchEntities": {"query": filters, "limit": None}}
    (entity,) = minimal.Provider().fetch_entities(request)
    rows: list[dict[str, Any]] = json.loads(entity["data"])
    return rows


@pytest.mark.parametrize(
    ("place", "day", "sunrise", "sunset"),
    [
        (BERLIN, "2024-06-20", "2024-06-20T02:43:00Z", "2024-06-20T19:33:00Z"),
        (BERLIN, "2024-12-21", "2024-12-21T07:15:00Z", "2024-12-21T14:54:00Z"),
        ("40.71,-74.01", "2024-06-20", "2024-06-20T09:25:00Z", "2024-06-21T00:31:00Z"),
        ("-33.87,151.21", "2024-12-21", "2024-12-20T18:41:00Z", "2024-12-21T09:05:00Z"),
    ],
)
def test_the_sun_rises_and_sets_as_in_almanacs(
    place: str, day: str, sunrise: str, sunset: str
) -> None:
    """Published times are met within two minutes, east and west, north and south."""
    row = minimal.day_of(place, datetime.fromisoformat(day).replace(tzinfo=UTC))
    for name, published in (("sunrise", sunrise), ("sunset", sunset)):
        off = datetime.fromisoformat(row[name]) - datetime.fromisoformat(published)
        assert abs(off) <= timedelta(minutes=2), name
    length = datetime.fromisoformat(sunset) - datetime.fromisoformat(sunrise)
    assert row["hours"] == pytest.approx(length.total_seconds() / 3600, abs=0.05)


@pytest.mark.parametrize(("month", "hours"), [(6, 24.0), (12, 0.0)])
def test_polar_day_and_night(month: int, hours: float) -> None:
    """Where the sun does not cross the horizon there is no sunrise, and the hours still hold."""
    row = minimal.day_of("78.2,15.6", datetime(2024, month, 20, tzinfo=UTC))
    assert (row["hours"], row["sunrise"], row["sunset"]) == (hours, None, None)


@pytest.mark.parametrize(
    ("start", "end", "first", "count"),
    [
        ("2024-02-28T00:00:00Z", "2024-03-02T00:00:00Z", "2024-02-28", 3),
        ("2024-02-28T00:00:01Z", "2024-03-02T00:00:00Z", "2024-02-29", 2),
        ("2024-02-28T12:00:00Z", "2024-02-28T18:00:00Z", "", 0),
        ("2024-02-28T00:00:00Z", "2024-02-28T00:00:00.001Z", "2024-02-28", 1),
    ],
)
def test_ranges_are_half_open(start: str, end: str, first: str, count: int) -> None:
    """A day is part of a range if its midnight is."""
    rows = days(BERLIN, start, end)
    assert len(rows) == count
    if rows:
        midnight = datetime.fromisoformat(first).replace(tzinfo=UTC)
        assert rows[0]["timestamp"] == midnight.timestamp()


@pytest.mark.parametrize(
    "place", ["Berlin", "52.52", "1,2,3", "91,0", "0,181", "nan,0", "", "90,0"]
)
def test_what_is_no_place_is_an_unknown_ticker(place: str) -> None:
    """The error has the reason that the hub knows, and shows how a place is written."""
    with pytest.raises(minimal.UnknownPlace, match=r"latitude,longitude") as caught:
        days(place, "2024-01-01T00:00:00Z", "2024-01-02T00:00:00Z")
    assert caught.value.reason == "unknown_ticker"


def test_a_place_can_be_asked_for_by_id() -> None:
    """An id is a place, with or without the provider's name; the answer is today."""
    for id in (BERLIN, f"daylight:{BERLIN}"):
        (entity,) = minimal.Provider().fetch_entities({"GetEntity": {"id": id}})
        assert entity["id"] == f"daylight:{BERLIN}"
        (row,) = json.loads(entity["data"])
        assert abs(row["timestamp"] - datetime.now(UTC).timestamp()) < 2 * 86_400


def test_a_report_tells_the_extremes_of_the_year() -> None:
    """A geo: URI gets the shortest and the longest day."""
    (entity,) = minimal.Provider().fetch_entities({"GetReport": {"url": f"geo:{BERLIN}"}})
    shortest, longest = json.loads(entity["data"])
    assert datetime.fromtimestamp(shortest["timestamp"], UTC).month == 12
    assert datetime.fromtimestamp(longest["timestamp"], UTC).month == 6
    assert shortest["hours"] < 8 < 16 < longest["hours"]


def test_a_search_without_a_place_finds_nothing() -> None:
    """Filters that mean nothing here are no error."""
    request = {"SearchEntities": {"query": [{"ByState": "ready"}], "limit": None}}
    assert minimal.Provider().fetch_entities(request) == []
