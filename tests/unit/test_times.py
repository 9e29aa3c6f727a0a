"""Bounds as text and back."""

from __future__ import annotations

import contextlib
from datetime import UTC, datetime, timedelta
from zoneinfo import ZoneInfo

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from gapless.errors import InvalidQuery
from gapless.instants import format_instant
from gapless.protocol.times import is_local, parse_instant, parse_range

NOW = 1_757_030_400_789
FLOORED = 1_757_030_400_000
DAY = 86_400_000
EPOCH = datetime(1970, 1, 1, tzinfo=UTC)


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("2025-09-05T00:00:00Z", 1_757_030_400_000),
        ("2025-09-05t00:00:00z", 1_757_030_400_000),
        ("2025-09-05T02:00:00+02:00", 1_757_030_400_000),
        ("2025-09-04T19:30:00-04:30", 1_757_030_400_000),
        ("2025-09-05T00:00:00.1Z", 1_757_030_400_100),
        ("2025-09-05T00:00:00.123999Z", 1_757_030_400_123),
        ("2025-09-04T23:59:60Z", 1_757_030_400_000),
        ("2025-09-05", 1_757_030_400_000),
        ("1969-12-31T23:59:59.500Z", -500),
        ("0001-01-01", -62_135_596_800_000),
        ("9999-12-31T23:59:59.999Z", 253_402_300_799_999),
        ("now", FLOORED),
        ("NOW", FLOORED),
        ("-30d", FLOORED - 30 * DAY),
        ("-12h", FLOORED - DAY // 2),
        ("-90m", FLOORED - 90 * 60_000),
        ("-2w", FLOORED - 14 * DAY),
        ("-45s", FLOORED - 45_000),
    ],
)
def test_instants_are_read(text: str, expected: int) -> None:
    """Each documented form of a bound gives its instant."""
    assert parse_instant(text, now_ms=NOW) == expected


@pytest.mark.parametrize(
    "text",
    [
        "",
        " now",
        "yesterday",
        "30d",
        "+30d",
        "-30",
        "-d",
        "-1.5d",
        "-30q",
        "-1.5y",
        "-99999y",
        "max",
        "-1d12h",
        "1757030400",
        "2025-9-5",
        "2025-09-05 00:00:00Z",
        "2025-09-05T00:00:00",
        "2025-09-05T00:00Z",
        "2025-09-05T24:00:00Z",
        "2025-09-05T00:60:00Z",
        "2025-09-05T00:00:00+24:00",
        "2025-09-05T00:00:00.Z",
        "2025-13-01",
        "2025-02-29",
        "0000-01-01",
        "10000-01-01",
        "0001-01-01T00:00:00+00:01",
        "9999-12-31T23:59:59-00:01",
        "-999999999999w",
        "-" + "9" * 5000 + "d",
        "٢٠٢٥-٠٩-٠٥",
        "2025-09-05\n",
    ],
)
def test_anything_else_is_refused(text: str) -> None:
    """What is no bound is an InvalidQuery that names the bound, never another exception."""
    with pytest.raises(InvalidQuery, match=r"^start "):
        parse_instant(text, now_ms=NOW, what="start")


@pytest.mark.parametrize(
    "text", ["2021-01-01T09:30", "2021-01-01 09:30:00", "2021-01-01t09:30:00.25"]
)
def test_a_time_without_a_zone_is_told_to_need_one(text: str) -> None:
    """Whose time of day it is meant to be is not guessed."""
    with pytest.raises(InvalidQuery, match="has no time zone; end it with Z for UTC"):
        parse_instant(text, now_ms=0)


@given(st.text(max_size=40))
@example("2025-09-05T00:00:00+99:99")
def test_no_text_raises_anything_but_invalid_query(text: str) -> None:
    """Any text is an instant or an InvalidQuery."""
    with contextlib.suppress(InvalidQuery):
        parse_instant(text, now_ms=NOW)


@given(st.integers(-62_135_596_800_000, 253_402_300_799_999))
def test_formatting_is_the_inverse_of_parsing(ms: int) -> None:
    """Every instant in range is written in a way that reads as the same instant."""
    text = format_instant(ms)
    assert parse_instant(text, now_ms=0) == ms
    assert datetime.fromisoformat(text) == EPOCH + timedelta(milliseconds=ms)


def test_a_fraction_is_written_only_where_there_is_one() -> None:
    """Whole seconds carry no fraction, others three digits."""
    assert format_instant(1_757_030_400_000) == "2025-09-05T00:00:00Z"
    assert format_instant(1_757_030_400_020) == "2025-09-05T00:00:00.020Z"
    assert format_instant(-1) == "1969-12-31T23:59:59.999Z"


@pytest.mark.parametrize(
    ("start", "end", "expected"),
    [
        ("2025-09-01", "2025-09-05", (FLOORED - 4 * DAY, FLOORED, True)),
        ("", "2025-09-05", (None, FLOORED, False)),
        ("2025-09-01", "", (FLOORED - 4 * DAY, FLOORED, False)),
        ("", "", (None, FLOORED, False)),
        ("-1d", "now", (FLOORED - DAY, FLOORED, False)),
        ("2025-09-01", "-1d", (FLOORED - 4 * DAY, FLOORED - DAY, False)),
    ],
)
def test_ranges_are_read(start: str, end: str, expected: tuple[int | None, int, bool]) -> None:
    """Empty bounds are open, and a range is absolute only if both its bounds are (rule 1)."""
    assert parse_range(start, end, now_ms=NOW) == expected


@pytest.mark.parametrize(
    ("start", "end"),
    [("2025-09-05", "2025-09-05"), ("2025-09-06", "2025-09-05"), ("now", ""), ("2030-01-01", "")],
)
def test_an_empty_range_is_refused(start: str, end: str) -> None:
    """A range whose start is not before its end is an InvalidQuery that shows both bounds."""
    with pytest.raises(InvalidQuery) as caught:
        parse_range(start, end, now_ms=NOW)
    assert start in caught.value.message
    assert (end or "now") in caught.value.message


@pytest.mark.parametrize(
    ("text", "zone", "expected"),
    [
        ("-1mo", None, "2025-08-05T00:00:00Z"),
        ("-1MO", "Asia/Tokyo", "2025-08-04T15:00:00Z"),
        ("-1mo", "Pacific/Honolulu", "2025-08-04T10:00:00Z"),
        ("-1y", "America/New_York", "2024-09-04T04:00:00Z"),
        ("-7mo", "America/New_York", "2025-02-04T05:00:00Z"),
        ("-18mo", None, "2024-03-05T00:00:00Z"),
        ("-6mo", "Europe/Berlin", "2025-03-04T23:00:00Z"),
        ("ytd", None, "2025-01-01T00:00:00Z"),
        ("YTD", "Australia/Sydney", "2024-12-31T13:00:00Z"),
    ],
)
def test_months_and_years_go_by_the_calendar_of_a_zone(
    text: str, zone: str | None, expected: str
) -> None:
    """It is the 5th of September in Tokyo, and the 4th in America."""
    where = None if zone is None else ZoneInfo(zone)
    assert is_local(text)
    assert format_instant(parse_instant(text, now_ms=NOW, zone=where)) == expected


@pytest.mark.parametrize(
    ("now", "text", "expected"),
    [
        ("2025-03-31T12:00:00Z", "-1mo", "2025-02-28"),
        ("2024-03-31T12:00:00Z", "-1mo", "2024-02-29"),
        ("2024-02-29T12:00:00Z", "-1y", "2023-02-28"),
        ("2024-01-31T12:00:00Z", "-2mo", "2023-11-30"),
        ("2024-12-31T23:59:59Z", "-12mo", "2023-12-31"),
    ],
)
def test_a_day_that_a_month_has_not_is_its_last(now: str, text: str, expected: str) -> None:
    """A calendar month back from the 31st."""
    now_ms = parse_instant(now, now_ms=0)
    assert format_instant(parse_instant(text, now_ms=now_ms)) == f"{expected}T00:00:00Z"


@pytest.mark.parametrize("start", ["max", "MAX", ""])
def test_all_there_is_has_no_start(start: str) -> None:
    """It begins where the data do, and is no bound but a start."""
    assert parse_range(start, "", now_ms=NOW) == (None, FLOORED, False)
    with pytest.raises(InvalidQuery, match=r"^end `max`"):
        parse_range("", "max", now_ms=NOW)


def test_a_period_as_a_bound_is_told_how_it_is_written() -> None:
    """Who knows `date=1mo` writes `1mo..now`."""
    with pytest.raises(InvalidQuery, match=r"a time back is written `-1mo`$"):
        parse_range("1mo", "now", now_ms=NOW)
