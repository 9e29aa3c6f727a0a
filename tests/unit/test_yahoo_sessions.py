"""Trading hours, the range of a request, and the finality of bars, as pure functions."""

from __future__ import annotations

from datetime import UTC, date, datetime, timedelta
from typing import Any
from zoneinfo import ZoneInfo

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from gapless.domain.intervals import Interval
from gapless.providers.base import DAY_MS, Provisional, Record
from gapless.providers.yahoo_chart import Bar
from gapless.providers.yahoo_sessions import (
    BAR_MS,
    HOUR_MS,
    PERIODS,
    Awaited,
    Hours,
    aligned,
    awaited_session,
    due_moments,
    final_until,
    period_first,
    period_next,
    provisional,
    request_range,
)

NEW_YORK = {"tz": "America/New_York", "kind": "EQUITY", "open_s": 34_200, "close_s": 57_600}
HALF_DAY = {**NEW_YORK, "close_s": 13 * 3600}
RIYADH = {"tz": "Asia/Riyadh", "kind": "EQUITY", "open_s": 36_000, "close_s": 54_000}
COIN = {"tz": "UTC", "kind": "CRYPTOCURRENCY", "open_s": 0, "close_s": 86_400}
POUND = {"tz": "Europe/London", "kind": "CURRENCY", "open_s": 0, "close_s": 86_400}
DAILY, INTRADAY = 900_000, 60_000


def at(text: str) -> int:
    """Return milliseconds of an ISO time in UTC."""
    return int(datetime.fromisoformat(text).replace(tzinfo=UTC).timestamp()) * 1000


def bar(time_ms: int, close: float | None = 1.0) -> Record:
    """Return a record whose prices are all `close`."""
    return Record(time_ms, Bar(time_ms // 1000, close, close, close, close, close, 0))


FINAL = [
    # Wednesday: the 16th is final from Wednesday's close on.
    ("1d", NEW_YORK, "2026-06-17T15:00", "2026-06-16T04:00"),
    ("1d", NEW_YORK, "2026-06-17T19:59:59", "2026-06-16T04:00"),
    ("1d", NEW_YORK, "2026-06-17T20:00", "2026-06-17T04:00"),
    # Friday is final from Saturday afternoon on; the weekend is settled once over.
    ("1d", NEW_YORK, "2026-06-20T19:59:59", "2026-06-19T04:00"),
    ("1d", NEW_YORK, "2026-06-20T20:00", "2026-06-20T04:00"),
    ("1d", NEW_YORK, "2026-06-21T12:00", "2026-06-21T04:00"),
    ("1d", NEW_YORK, "2026-06-22T12:00", "2026-06-22T04:00"),
    # Where a half-day alone has told the hours, the day before it may have been longer.
    ("1d", HALF_DAY, "2026-06-17T20:59:59", "2026-06-16T04:00"),
    ("1d", HALF_DAY, "2026-06-17T21:00", "2026-06-17T04:00"),
    # In Riyadh Sunday is a trading day, and each is as short.
    ("1d", RIYADH, "2026-06-22T15:59:59", "2026-06-20T21:00"),
    ("1d", RIYADH, "2026-06-22T16:00", "2026-06-21T21:00"),
    # Around the clock a day is final a day after it ended.
    ("1d", COIN, "2026-06-17T15:00", "2026-06-16T00:00"),
    ("1d", POUND, "2026-06-20T12:00", "2026-06-18T23:00"),
    # Nothing known: whole days of UTC, every day.
    ("1d", {}, "2026-06-17T15:00", "2026-06-16T00:00"),
    # Across the change of clocks in New York (Sunday 8 March).
    ("1d", NEW_YORK, "2026-03-09T13:00", "2026-03-09T04:00"),
    # A week is final a day after Friday's close, but not before it is over.
    ("1wk", NEW_YORK, "2026-06-21T12:00", "2026-06-15T04:00"),
    ("1wk", NEW_YORK, "2026-06-22T04:00", "2026-06-22T04:00"),
    # May ends on a Sunday, July on a Friday whose close settles on Saturday, the 1st.
    ("1mo", NEW_YORK, "2026-06-01T04:00", "2026-06-01T04:00"),
    ("1mo", NEW_YORK, "2026-08-01T19:59", "2026-07-01T04:00"),
    ("1mo", NEW_YORK, "2026-08-01T20:00", "2026-08-01T04:00"),
    ("3mo", NEW_YORK, "2026-07-01T19:59", "2026-04-01T04:00"),
    ("3mo", NEW_YORK, "2026-07-01T20:00", "2026-07-01T04:00"),
    # Intraday: half an hour after the bar's end.
    ("1m", NEW_YORK, "2026-06-17T15:00:00", "2026-06-17T14:30"),
    ("1m", NEW_YORK, "2026-06-17T15:00:59", "2026-06-17T14:30"),
    ("1h", NEW_YORK, "2026-06-17T16:00:00", "2026-06-17T14:31"),
]


@pytest.mark.parametrize(("name", "meta", "now", "expected"), FINAL)
def test_final_until(name: str, meta: dict[str, Any], now: str, expected: str) -> None:
    """Up to where bars are final, in each kind of market and at the edges of the rule."""
    assert final_until(name, Hours.of(meta), at(now)) == at(expected)


DUE = [
    # While a session may be open, and half an hour on: after the interval.
    ("1d", NEW_YORK, "2026-06-17T13:30", "2026-06-17T13:45"),
    ("1d", NEW_YORK, "2026-06-17T20:29", "2026-06-17T20:44"),
    # In the evening: the next open, though Wednesday's bar settles after that.
    ("1d", NEW_YORK, "2026-06-17T20:30", "2026-06-18T13:30"),
    # Friday night: the bar settles on Saturday, the market opens on Monday.
    ("1d", NEW_YORK, "2026-06-19T22:00", "2026-06-20T20:00"),
    # Sunday: nothing of the weekend can change before the next open.
    ("1d", NEW_YORK, "2026-06-21T12:00", "2026-06-22T13:30"),
    # Just before the open: never sooner than the interval.
    ("1d", NEW_YORK, "2026-06-22T13:29", "2026-06-22T13:44"),
    ("1d", COIN, "2026-06-20T12:00", "2026-06-20T12:15"),
    ("1m", NEW_YORK, "2026-06-17T15:00", "2026-06-17T15:01"),
    # The last minutes settle half an hour after the close; then the next open.
    ("1h", NEW_YORK, "2026-06-17T20:40", "2026-06-17T21:00"),
    ("1h", NEW_YORK, "2026-06-17T21:30", "2026-06-18T13:30"),
    ("1wk", NEW_YORK, "2026-06-17T22:00", "2026-06-18T13:30"),
    ("1wk", NEW_YORK, "2026-06-20T22:00", "2026-06-22T04:00"),
]


@pytest.mark.parametrize(("name", "meta", "now", "expected"), DUE)
def test_the_tail_is_due_when_it_can_have_changed(
    name: str, meta: dict[str, Any], now: str, expected: str
) -> None:
    """The tail reaches to the end of what was asked and says when to look again."""
    now_ms = at(now)
    asked = Interval(now_ms - 30 * DAY_MS, now_ms)
    records = [bar(at("2026-06-12T13:30")), bar(at("2026-06-15T04:00"))]
    records += [bar(at(f"2026-06-{day}T13:30")) for day in (15, 16, 17)]
    records += [bar(at("2026-06-17T19:30")), bar(at("2026-06-19T13:30"))]
    records = [record for record in records if record.time < now_ms]
    refresh = INTRADAY if name in ("1m", "1h") else DAILY
    (tail,) = provisional(name, asked, records, meta, now_ms, refresh)
    assert tail == Provisional(final_until(name, Hours.of(meta), now_ms), now_ms, at(expected))


def test_what_was_asked_long_ago_is_all_final() -> None:
    """A range that ends before the bound has nothing provisional."""
    asked = Interval(at("2026-05-01T00:00"), at("2026-06-01T00:00"))
    assert provisional("1d", asked, [], NEW_YORK, at("2026-06-17T15:00"), DAILY) == ()


def test_what_lies_past_upstreams_now_is_provisional() -> None:
    """A range up to the own clock, which is five days ahead: nothing of these days is final."""
    now_ms = at("2026-06-12T21:00")
    asked = Interval(at("2026-06-01T00:00"), at("2026-06-17T21:00"))
    (tail,) = provisional("1d", asked, [], NEW_YORK, now_ms, DAILY)
    assert tail == Provisional(at("2026-06-12T04:00"), asked.end, at("2026-06-15T13:30"))
    ahead = Interval(at("2026-06-15T00:00"), at("2026-06-16T00:00"))
    assert [span[:2] for span in provisional("1d", ahead, [], NEW_YORK, now_ms, DAILY)] == [ahead]
    # Due moments are reckoned from the own clock where the two are close enough.
    open_ms = at("2026-06-15T15:00")
    (tail,) = provisional("1d", asked, [], NEW_YORK, open_ms, DAILY, due_from=open_ms + 90_000)
    assert tail.refresh_after == open_ms + 90_000 + DAILY


NAV = {**NEW_YORK, "kind": "MUTUALFUND"}
# Friday 19 June is a holiday where the last trade was on Thursday.
AWAITED = [
    # Wednesday's close was at 20:00Z: due after as long as it is past, 15 min to 6 h.
    ("1d", NEW_YORK, "2026-06-17T20:05", "2026-06-17T20:00:01", ["16"], "2026-06-17T20:20"),
    ("1d", NEW_YORK, "2026-06-17T21:00", "2026-06-17T20:00:01", ["16"], "2026-06-17T22:00"),
    ("1d", NEW_YORK, "2026-06-18T01:00", "2026-06-17T20:00:01", ["16"], "2026-06-18T06:00"),
    ("1d", NEW_YORK, "2026-06-18T04:00", "2026-06-17T20:00:01", ["16"], "2026-06-18T10:00"),
    # A null row is none, and who does not tell of a last trade may have had one.
    ("1d", NEW_YORK, "2026-06-17T21:00", None, ["16", "17?"], "2026-06-17T22:00"),
    # Friday's bar is waited for all weekend, though it would be final on Saturday.
    ("1d", NEW_YORK, "2026-06-21T12:00", "2026-06-19T20:00:01", ["17", "18"], "2026-06-21T18:00"),
    # While the next session is open all is due soon, the awaited bar included.
    ("1d", NEW_YORK, "2026-06-18T15:00", "2026-06-18T15:00", ["16", "18"], "2026-06-18T15:15"),
    # A fund's last trade is that of its last price.
    ("1d", NAV, "2026-06-17T21:00", "2026-06-16T20:00:01", ["15", "16"], "2026-06-17T22:00"),
    ("1h", NEW_YORK, "2026-06-17T23:00", "2026-06-17T20:00:01", ["15", "16"], "2026-06-18T02:00"),
]


def awaited_at(
    name: str, meta: dict[str, Any], now: str, last_trade: str | None, days: list[str]
) -> tuple[Awaited | None, tuple[Provisional, ...]]:
    """Return what is awaited, and what is provisional for it, where these days have a bar."""
    now_ms = at(now)
    asked = Interval(at("2026-06-01T00:00"), now_ms)
    records = [bar(at(f"2026-06-{day[:2]}T13:30"), None if "?" in day else 1.0) for day in days]
    trade = None if last_trade is None else at(last_trade)
    found = awaited_session(name, asked, records, meta, now_ms, trade)
    refresh = INTRADAY if name == "1h" else DAILY
    return found, provisional(name, asked, records, meta, now_ms, refresh, awaited=found)


@pytest.mark.parametrize(("name", "meta", "now", "last_trade", "days", "due"), AWAITED)
def test_a_bar_that_is_late_is_looked_for_again(
    name: str, meta: dict[str, Any], now: str, last_trade: str | None, days: list[str], due: str
) -> None:
    """The last session's bar is provisional while it is awaited, and its tail due again."""
    found, spans = awaited_at(name, meta, now, last_trade, days)
    assert found is not None
    assert spans[-1].start <= found.start
    assert spans[-1][1:] == (at(now), at(due))


NOT_AWAITED = [
    # It is there.
    ("1d", NEW_YORK, "2026-06-17T21:00", "2026-06-17T20:00:01", ["16", "17"]),
    # A holiday: nothing was traded since the day before.
    ("1d", NEW_YORK, "2026-06-19T21:00", "2026-06-18T20:00:01", ["17", "18"]),
    ("1d", NEW_YORK, "2026-06-21T12:00", "2026-06-18T20:00:01", ["17", "18"]),
    # A currency's weekend.
    ("1d", {**POUND, "kind": "CURRENCY"}, "2026-06-21T12:00", None, ["17", "18", "19"]),
    # Five sessions without a bar: it is looked for by ageing alone.
    ("1d", NAV, "2026-06-17T21:00", "2026-06-10T20:00:01", ["09", "10"]),
    ("1d", NEW_YORK, "2026-06-17T21:00", None, ["09", "10"]),
    ("1d", NEW_YORK, "2026-06-17T21:00", None, []),
    # Nothing is known of its sessions.
    ("1d", {}, "2026-06-17T21:00", None, ["15"]),
    # The month has a bar.
    ("1mo", NEW_YORK, "2026-06-17T21:00", "2026-06-17T20:00:01", ["01"]),
]


@pytest.mark.parametrize(("name", "meta", "now", "last_trade", "days"), NOT_AWAITED)
def test_a_bar_that_will_not_come_is_not_looked_for(
    name: str, meta: dict[str, Any], now: str, last_trade: str | None, days: list[str]
) -> None:
    """Where there was no session, or no bar for long, all is as if none were awaited."""
    found, spans = awaited_at(name, meta, now, last_trade, days)
    assert found is None
    assert spans[-1].start == final_until(name, Hours.of(meta), at(now))


def test_four_sessions_without_a_bar_are_not_five() -> None:
    """The fifth is the last that a fund's price is waited for in vain."""
    for last, awaited in (("2026-06-11T20:00:01", True), ("2026-06-10T20:00:01", False)):
        found, _ = awaited_at("1d", NAV, "2026-06-17T21:00", last, ["09"])
        assert (found is not None) is awaited


def test_only_a_bar_that_was_asked_for_is_awaited() -> None:
    """A range that ends before the last session's stamp tells nothing of it."""
    asked = Interval(at("2026-06-01T00:00"), at("2026-06-17T13:30"))
    now_ms = at("2026-06-17T21:00")
    last = at("2026-06-17T20:00:01")
    assert awaited_session("1d", asked, [], NEW_YORK, now_ms, last) is None
    wider = Interval(asked.start, asked.end + 1)
    assert awaited_session("1d", wider, [], NEW_YORK, now_ms, last) is not None
    assert awaited_session("1h", wider, [], NEW_YORK, now_ms, last) is None


def test_recent_null_rows_are_provisional_by_themselves() -> None:
    """Each run of null rows of the last seven days is a span; older ones are final."""
    now_ms = at("2026-06-22T15:00")
    days = ["08", "11", "12", "15", "16", "17", "18", "22"]
    nulls = {"08", "11", "15", "17", "18", "22"}
    records = [bar(at(f"2026-06-{day}T13:30"), None if day in nulls else 1.0) for day in days]
    asked = Interval(at("2026-06-01T00:00"), now_ms)
    found = provisional("1d", asked, records, NEW_YORK, now_ms, DAILY, HOUR_MS)
    assert found == (
        Provisional(at("2026-06-17T13:30"), at("2026-06-19T13:30"), now_ms + HOUR_MS),
        Provisional(at("2026-06-22T04:00"), now_ms, now_ms + DAILY),
    )


def test_many_null_rows_are_one_span() -> None:
    """A ticker that hardly trades is asked for once when due, not once a minute of it."""
    now_ms = at("2026-06-17T20:00")
    start = at("2026-06-17T14:00")
    records = [bar(start + i * 60_000, None if i % 2 else 1.0) for i in range(200)]
    asked = Interval(start, now_ms)
    first, tail = provisional("1m", asked, records, NEW_YORK, now_ms, INTRADAY, HOUR_MS)
    assert (first.start, first.end) == (start + 60_000, start + 200 * 60_000)
    assert first.end <= tail.start


def test_requests_of_longer_bars_begin_on_their_first_day() -> None:
    """Weeks are asked from a Monday, months and quarters from a 1st, a period early, to the end."""
    asked = Interval(at("2026-06-10T08:00"), at("2026-06-17T15:00"))
    zone = ZoneInfo("America/New_York")

    def seconds(*times: str) -> tuple[int, ...]:
        return tuple(at(time) // 1000 for time in times)

    assert request_range("1wk", asked, zone) == seconds("2026-06-01T10:00", "2026-06-22T04:00")
    assert request_range("1mo", asked, zone) == seconds("2026-05-01T10:00", "2026-07-01T04:00")
    assert request_range("3mo", asked, zone) == seconds("2026-01-01T10:00", "2026-07-01T04:00")
    assert request_range("1wk", asked, None) == seconds("2026-06-01T10:00", "2026-06-22T12:00")
    assert request_range("1d", asked, zone) == (asked.start // 1000, asked.end // 1000)
    odd = Interval(asked.start + 1, asked.end + 1)
    assert request_range("1d", odd, None) == (asked.start // 1000, asked.end // 1000 + 1)
    far = ZoneInfo("Pacific/Kiritimati")
    assert not aligned("1wk", request_range("1wk", asked, None)[0], far)


ZONES = st.sampled_from(
    [
        "America/New_York",
        "America/Sao_Paulo",
        "America/Santiago",
        "Pacific/Honolulu",
        "Europe/London",
        "Africa/Cairo",
        "Asia/Riyadh",
        "Asia/Kolkata",
        "Asia/Tokyo",
        "Asia/Jerusalem",
        "Australia/Lord_Howe",
        "Pacific/Auckland",
        "Pacific/Kiritimati",
        "UTC",
    ]
)
NAMES = st.sampled_from(sorted(BAR_MS))
LONG_NAMES = st.sampled_from(sorted(PERIODS))
INSTANTS = st.integers(at("1995-01-01T00:00"), at("2035-01-01T00:00"))


@st.composite
def metas(draw: st.DrawFn) -> dict[str, Any]:
    """Return what may be known of a series, from nothing to everything."""
    opens = draw(st.integers(0, 86_399))
    known = {
        "tz": draw(ZONES),
        "kind": draw(st.sampled_from(["EQUITY", "CURRENCY", "CRYPTOCURRENCY", "INDEX"])),
        "open_s": opens,
        "close_s": draw(st.integers(opens + 1, 86_400)),
    }
    for name in draw(st.sets(st.sampled_from(sorted(known)), max_size=1)):
        del known[name]
    return known


@given(LONG_NAMES, ZONES, INSTANTS, st.integers(1, 400 * DAY_MS))
def test_every_whole_period_is_inside_its_request(
    name: str, zone_name: str, start: int, length: int
) -> None:
    """Each period stamped in the range is asked for as a whole, the zone known or not."""
    asked = Interval(start, start + length)
    hours = Hours(ZoneInfo(zone_name))
    for zone in (hours.zone, None):
        begin, end = request_range(name, asked, zone)
        if not aligned(name, begin, hours.zone):
            assert zone is None
            assert zone_name == "Pacific/Kiritimati"
            continue
        first = period_first(name, hours.day(asked.start))
        while hours.at(first) < asked.end:
            if hours.at(first) >= asked.start:
                assert begin * 1000 <= hours.at(first)
                assert hours.at(period_next(name, first)) <= end * 1000
            first = period_next(name, first)


@given(NAMES, metas(), INSTANTS, st.integers(0, 40 * DAY_MS))
@example("1d", NEW_YORK, at("2026-06-20T19:00"), 2 * HOUR_MS)
def test_finality_only_moves_forward(
    name: str, meta: dict[str, Any], now_ms: int, later: int
) -> None:
    """What was final stays so, and now is never final."""
    hours = Hours.of(meta)
    bound = final_until(name, hours, now_ms)
    assert bound <= now_ms
    assert bound <= final_until(name, hours, now_ms + later)


@given(metas(), INSTANTS, st.sampled_from(["1d", *sorted(PERIODS)]))
def test_no_day_that_can_change_is_final(meta: dict[str, Any], now_ms: int, name: str) -> None:
    """Every trading day whose close is less than a day ago lies in the provisional part."""
    hours = Hours.of(meta)
    bound = final_until(name, hours, now_ms)
    for back in range(6):
        day = hours.day(now_ms) - timedelta(days=back)
        settled = hours.closing(day) + DAY_MS <= now_ms if hours.trades(day) else back > 0
        if not settled or back == 0:
            assert bound <= hours.at(period_first(name, day))
            assert bound <= hours.opening(day)


@given(st.sampled_from(["1m", "30m", "1h", "90m", "4h"]), INSTANTS, st.integers(0, 600))
def test_no_minute_that_can_change_is_final(name: str, now_ms: int, minutes: int) -> None:
    """A bar on any minute that ended less than half an hour ago is provisional."""
    begin = now_ms // 60_000 * 60_000 - minutes * 60_000
    if begin + BAR_MS[name] + 1_800_000 > now_ms:
        assert final_until(name, Hours.of(NEW_YORK), now_ms) <= begin


@given(
    NAMES,
    metas(),
    INSTANTS,
    st.integers(0, 20 * DAY_MS),
    st.integers(1, 30 * DAY_MS),
    st.lists(st.tuples(st.integers(0, 30 * DAY_MS), st.booleans()), max_size=30),
)
def test_spans_are_in_order_apart_and_inside(
    name: str,
    meta: dict[str, Any],
    now_ms: int,
    ago: int,
    length: int,
    rows: list[tuple[int, bool]],
) -> None:
    """Whatever is asked: sorted, disjoint, not empty, inside, due later; null rows are covered."""
    asked = Interval(now_ms - ago - length, now_ms - ago)
    times = {asked.start + offset % length: null for offset, null in rows}
    records = [bar(time, None if times[time] else 1.0) for time in sorted(times)]
    refresh = DAILY if name == "1d" or name in PERIODS else INTRADAY
    spans = provisional(name, asked, records, meta, now_ms, refresh, HOUR_MS)
    at_ms = asked.start
    for span in spans:
        assert at_ms <= span.start < span.end <= asked.end
        assert span.refresh_after >= now_ms + min(refresh, HOUR_MS)
        at_ms = span.end
    bound = final_until(name, Hours.of(meta), now_ms)
    for record in records:
        covered = any(span.start <= record.time < span.end for span in spans)
        if record.time >= bound or (record.row.null and record.time > now_ms - 7 * DAY_MS):
            assert covered
    if bound < asked.end:
        assert spans[-1].end == asked.end


DUE_MOMENTS = [
    # A quarter of an hour after the opening, and not before.
    (NEW_YORK, "2026-06-17T13:44:59", "2026-06-16T13:45", "2026-06-17T13:45"),
    (NEW_YORK, "2026-06-17T13:45", "2026-06-17T13:45", "2026-06-18T13:45"),
    # Over the weekend, and over the change of clocks on Sunday 8 March.
    (NEW_YORK, "2026-03-08T12:00", "2026-03-06T14:45", "2026-03-09T13:45"),
    (RIYADH, "2026-06-19T12:00", "2026-06-18T07:15", "2026-06-21T07:15"),
    # By the opening told last, and not by the earliest ever told.
    (
        {**NEW_YORK, "last_open_s": 36_000},
        "2026-06-17T14:00",
        "2026-06-16T14:15",
        "2026-06-17T14:15",
    ),
    ({**NEW_YORK, "last_open_s": "?"}, "2026-06-17T14:00", "2026-06-17T13:45", "2026-06-18T13:45"),
    ({**NEW_YORK, "last_open_s": -1}, "2026-06-17T14:00", "2026-06-17T13:45", "2026-06-18T13:45"),
    # Around the clock: local midnight, whatever hours were told; currencies not on weekends.
    (COIN, "2026-06-20T12:00", "2026-06-20T00:15", "2026-06-21T00:15"),
    (
        {**COIN, "kind": "FUTURE", "tz": "America/New_York", "last_open_s": 64_800},
        "2026-06-20T12:00",
        "2026-06-20T04:15",
        "2026-06-21T04:15",
    ),
    (POUND, "2026-06-20T12:00", "2026-06-18T23:15", "2026-06-21T23:15"),
    # Nothing known of the zone: 24 hours, whatever else is known.
    ({}, "2026-06-17T15:00", "2026-06-16T15:00", "2026-06-18T15:00"),
    ({**NEW_YORK, "tz": "No/Where"}, "2026-06-17T15:00", "2026-06-16T15:00", "2026-06-18T15:00"),
    # A zone without hours: local midnight, on every day where the kind is not known.
    ({"tz": "Asia/Tokyo"}, "2026-06-20T15:14", "2026-06-19T15:15", "2026-06-20T15:15"),
]


@pytest.mark.parametrize(("meta", "now", "last", "coming"), DUE_MOMENTS)
def test_what_revises_is_due_after_each_opening(
    meta: dict[str, Any], now: str, last: str, coming: str
) -> None:
    """It is due a quarter of an hour after the latest opening, and then after the next one."""
    assert due_moments(meta, at(now))[:2] == (at(last), at(coming))


@given(metas(), INSTANTS, st.integers(0, 10 * DAY_MS))
def test_due_moments_enclose_now_and_leave_none_out(
    meta: dict[str, Any], now_ms: int, later: int
) -> None:
    """Each moment is the next one of those before it, and a series is due within a few days."""
    last, coming, _ = due_moments(meta, now_ms)
    assert last <= now_ms < coming <= now_ms + 4 * DAY_MS
    if "tz" in meta:
        assert due_moments(meta, coming - 1)[:2] == (last, coming)
        assert due_moments(meta, coming).last == coming
        assert due_moments(meta, now_ms + later).last >= last


def test_hours_of_nonsense_are_whole_days() -> None:
    """Fields that are absent or of the wrong kind make a day long, never short."""
    for meta in (
        {},
        {"tz": 3, "kind": [], "open_s": "9", "close_s": None},
        {"tz": "../etc/passwd"},
        {"tz": "America"},
        {"tz": "UTC", "kind": "EQUITY", "open_s": 50, "close_s": 40},
    ):
        hours = Hours.of(meta)
        assert (hours.zone.key, hours.open_s, hours.close_s) == ("UTC", 0, 86_400)


def test_a_day_without_midnight_begins_when_the_clocks_change() -> None:
    """Where summer time begins at midnight, the day begins at 01:00."""
    hours = Hours(ZoneInfo("America/Santiago"))
    begin = hours.at(date(2026, 9, 6))
    assert hours.day(begin) == date(2026, 9, 6)
    assert hours.day(begin - 1) == date(2026, 9, 5)
