"""Reading Yahoo's chart format: what is a chart, what is none, and where its rows belong."""

from __future__ import annotations

import json
from copy import deepcopy
from datetime import UTC, datetime
from typing import Any

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from gapless.domain.intervals import Interval
from gapless.providers.base import BadValues, Record
from gapless.providers.yahoo_chart import Bar, Chart, NoChart, NoJson, Refusal, read
from gapless.providers.yahoo_facts import remember
from gapless.providers.yahoo_rows import bad_values, check_answers, records

EVER = Interval(-(10**15), 10**15)


def at(text: str) -> int:
    """Return Unix seconds of an ISO time in UTC."""
    return int(datetime.fromisoformat(text).replace(tzinfo=UTC).timestamp())


def period(start: str, end: str) -> dict[str, Any]:
    """Return a trading period as upstream writes it."""
    return {"timezone": "EDT", "gmtoffset": -14400, "start": at(start), "end": at(end)}


def answer(
    rows: list[tuple[Any, ...]],
    *,
    interval: str = "1d",
    columns: dict[str, Any] | None = None,
    **meta: Any,
) -> dict[str, Any]:
    """Return an answer with rows of time, open, high, low, close and volume."""
    stamps, *prices = [list(column) for column in zip(*rows, strict=True)] or [[]] * 6
    names = ("open", "high", "low", "close", "volume")
    indicators: dict[str, Any] = {
        "quote": [{**dict(zip(names, prices, strict=True)), **(columns or {})}]
    }
    if interval in ("1d", "1wk", "1mo", "3mo"):
        indicators["adjclose"] = [{"adjclose": list(prices[3])}]
    given = {
        "symbol": "ABC",
        "dataGranularity": interval,
        "exchangeTimezoneName": "America/New_York",
        "instrumentType": "EQUITY",
        **meta,
    }
    return {
        "chart": {
            "result": [{"meta": given, "timestamp": stamps, "indicators": indicators}],
            "error": None,
        }
    }


def placed(body: dict[str, Any], interval: str = "1d", asked: Interval = EVER) -> list[Record]:
    """Return the records that are read from an answer."""
    chart = read(json.dumps(body).encode(), "ABC", interval)
    assert isinstance(chart, Chart)
    return records(chart, interval, asked, remember(chart.meta, {}))


def row(time: str, price: float | None = 10.0, volume: int | None = 100) -> tuple[Any, ...]:
    """Return a row whose prices are all the same."""
    return (at(time), price, price, price, price, volume)


def stamps(found: list[Record]) -> list[int]:
    """Return the records' times in Unix seconds."""
    assert all(record.time == record.row.timestamp * 1000 for record in found)
    return [record.row.timestamp for record in found]


def result_of(body: dict[str, Any]) -> dict[str, Any]:
    """Return the one result of an answer, to be changed."""
    found: dict[str, Any] = body["chart"]["result"][0]
    return found


BROKEN = {
    "no JSON": b"<html>",
    "empty": b"",
    "a number": b"3",
    "no chart": b'{"spark":{}}',
    "null": b'{"chart":{"result":null,"error":null}}',
    "no result": b'{"chart":{"result":[],"error":null}}',
    "no meta": b'{"chart":{"result":[{"indicators":{}}],"error":null}}',
    "deep": b'{"chart":' + b"[" * 200_000,
    "endless digits": b'{"chart":{"result":[{"timestamp":[' + b"9" * 5000 + b"]}]}}",
}


@pytest.mark.parametrize("body", BROKEN.values(), ids=BROKEN.keys())
def test_what_is_no_chart_is_refused(body: bytes) -> None:
    """A body of any other shape raises, whatever is wrong with it."""
    with pytest.raises(NoChart):
        read(body, "ABC", "1d")


def test_malformed_charts_are_refused() -> None:
    """Wrong symbol, granularity, lengths, types and times never become records."""
    good = [row("2026-06-16T13:30"), row("2026-06-17T13:30")]
    cases: list[tuple[dict[str, Any], str]] = [
        (answer(good, symbol="XYZ"), "it is of 'XYZ'"),
        (answer(good, dataGranularity="1wk"), "its bars are of '1wk'"),
        (answer(good, columns={"close": [1.0]}), "not all of 2 rows"),
        (answer(good, columns={"volume": [1, 2, 3]}), "not all of 2 rows"),
        (answer(good, columns={"open": None}), "times without open$"),
        (answer(good, columns={"low": None, "volume": None}), "times without low, volume$"),
        (answer(good, columns={"open": 7}), "int"),
        (answer(good, symbol=None), "null"),
        (answer(good * 3), "3 times"),
    ]
    for stamp, says in (("2026", "str"), (1.5, "float"), (1 << 50, "out of all bounds")):
        body = answer(good)
        result_of(body)["timestamp"] = [stamp, stamp]
        cases.append((body, says))
    body = answer(good)
    del result_of(body)["timestamp"]
    cases.append((body, "prices without times"))
    days = [row(f"2026-06-{day:02}T13:30") for day in (9, 8, 7, 6, 5)]
    cases.append((answer(days), "out of order"))
    body = answer(good)
    result_of(body)["indicators"]["adjclose"] = [{"adjclose": [1.0]}]
    cases.append((body, "not all of 2 rows"))
    forms: list[Any] = [[{}], [], None, [None]]
    for without in forms:
        body = answer(good)
        result_of(body)["indicators"]["adjclose"] = without
        cases.append((body, "times without adjclose"))
    body = answer(good)
    body["chart"]["result"] *= 2
    cases.append((body, "2 results"))
    for body, says in cases:
        with pytest.raises(NoChart, match=says):
            read(json.dumps(body).encode(), "ABC", "1d")


def test_upstreams_errors_come_in_two_envelopes() -> None:
    """The chart's own error and the one other endpoints send are both read."""
    for name in ("chart", "finance"):
        body = {name: {"result": None, "error": {"code": "Not Found", "description": "gone"}}}
        assert read(json.dumps(body).encode(), "ABC", "1d") == Refusal("Not Found", "gone")


def test_an_hour_may_be_called_60m() -> None:
    """Upstream answers 60m with 1h; both are an hour."""
    for spelling in ("60m", "1h"):
        body = answer([row("2026-06-16T13:30")], interval="1h", dataGranularity=spelling)
        assert isinstance(read(json.dumps(body).encode(), "ABC", "1h"), Chart)


@pytest.mark.parametrize(
    "token",
    [
        *("NaN", "Infinity", "-Infinity", "1e999", "9" * 400, '"Infinity"', '"NaN"', '"9.5"'),
        *("true", "[]", "{}"),
    ],
)
@pytest.mark.parametrize("column", ["adjclose", "close", "volume"])
def test_what_is_no_number_becomes_null(column: str, token: str) -> None:
    """However it is written, the column says null there, the rest is as it was, and it is told."""
    body = answer([row("2026-06-16T13:30", 9.5), row("2026-06-17T13:30", 10.5)])
    indicators = result_of(body)["indicators"]
    (indicators["adjclose"] if column == "adjclose" else indicators["quote"])[0][column][1] = "@"
    text = json.dumps(body).replace('"@"', token).encode()
    chart = read(text, "ABC", "1d")
    assert isinstance(chart, Chart)
    first, second = chart.rows
    assert msgspec.structs.astuple(first) == (at("2026-06-16T13:30"), *[9.5] * 5, 100)
    assert getattr(second, column) is None
    assert msgspec.structs.astuple(second).count(None) == 1
    found = records(chart, "1d", EVER, remember(chart.meta, {}))
    assert bad_values(chart, "1d", found) == (1, (at("2026-06-17T13:30") * 1000,))


def test_null_is_no_bad_value() -> None:
    """A row that upstream has yet to fill is told as no other is."""
    body = answer([row("2026-06-16T13:30"), row("2026-06-17T13:30", None, None)])
    chart = read(json.dumps(body).encode(), "ABC", "1d")
    assert isinstance(chart, Chart)
    assert bad_values(chart, "1d", records(chart, "1d", EVER, {})) is None


def test_bad_values_are_told_by_the_records_they_are_in() -> None:
    """A live row's by its session's stamp, a month's by its first midnight, a snapshot's not."""

    def told(body: dict[str, Any], interval: str) -> BadValues | None:
        chart = read(json.dumps(body).encode(), "ABC", interval)
        assert isinstance(chart, Chart)
        found = records(chart, interval, EVER, remember(chart.meta, {}))
        return bad_values(chart, interval, found)

    live = at("2026-06-17T20:00:01")
    current = {"regular": period("2026-06-17T13:30", "2026-06-17T20:00")}
    rows = [row("2026-06-16T13:30"), ("2026-06-17T20:00:01", 1.0, 1.0, 1.0, 1.0, 1 << 63)]
    rows[1] = (live, *rows[1][1:])
    body = answer(rows, regularMarketTime=live, currentTradingPeriod=current)
    assert told(body, "1d") == (1, (at("2026-06-17T13:30") * 1000,))
    months = [row(f"2026-{month:02}-01T05:00", 1.0, 1 << 70) for month in range(1, 10)]
    total, times = told(answer(months, interval="1mo"), "1mo") or (0, ())
    assert (total, len(times)) == (9, 5)
    assert times[:2] == (at("2026-01-01T05:00") * 1000, at("2026-02-01T05:00") * 1000)
    minutes = [row("2026-06-17T19:30", 12.0, 5), (live, 12.0, "x", 12.0, 12.0, 0)]
    assert told(answer(minutes, interval="30m", regularMarketTime=live), "30m") is None


def test_times_that_cannot_be_are_not_known() -> None:
    """A session that ends before it begins, trades in no time, zones that are none: all null."""
    good = [row("2026-06-16T13:30"), row("2026-06-17T13:30")]
    backwards = {"regular": period("2026-06-17T20:00", "2026-06-17T13:30")}
    endless = {"regular": {"start": 1 << 60, "end": 1 << 61}}
    for facts in (
        {"regularMarketTime": "now"},
        {"regularMarketTime": 1 << 60},
        {"currentTradingPeriod": backwards},
        {"currentTradingPeriod": endless},
        {"currentTradingPeriod": [[]], "instrumentType": 7, "currency": {}},
        {"exchangeTimezoneName": "Mars/Olympus"},
        {"exchangeTimezoneName": 5},
        {"tradingPeriods": [[[[[[[[backwards]]]]]]], backwards, {"regular": [endless]}]},
    ):
        assert placed(answer(good, **facts)) == placed(answer(good))
        body = answer(good, **facts)
        chart = read(json.dumps(body).encode(), "ABC", "1d")
        assert isinstance(chart, Chart)
        assert "open_s" not in remember(chart.meta, {})


def test_an_answer_is_of_the_time_that_was_asked_for() -> None:
    """Rows that lie all outside are no answer; a live row, or one beside it, may lie anywhere."""
    asked = (at("2026-06-01T00:00"), at("2026-06-10T00:00"))
    june = [row(f"2026-06-{day:02}T13:30") for day in (2, 3, 4)]
    march = [row(f"2026-03-{day:02}T13:30") for day in (2, 3, 4)]
    live = row("2026-06-17T20:00:01")

    def check(rows: list[tuple[Any, ...]], interval: str = "1d") -> None:
        body = answer(rows, interval=interval, regularMarketTime=live[0])
        chart = read(json.dumps(body).encode(), "ABC", interval)
        assert isinstance(chart, Chart)
        check_answers(chart, interval, asked)

    for rows in ([], june, [*march, *june], [live], [march[0], live], [march[0]], [*june, live]):
        check(rows)
    # A bar around what was asked counts as asked.
    check([row("2026-05-31T00:00"), row("2026-03-04T13:30"), row("2026-03-05T13:30")])
    for rows in (march, [*march, live], march[:2], [row("2026-06-12T13:30"), *march]):
        with pytest.raises(NoChart, match="none of its"):
            check(rows)
    check([row("2026-05-04T04:00"), row("2026-05-25T04:00")], "1wk")
    with pytest.raises(NoChart):
        check([row("2026-05-04T04:00"), row("2026-05-18T04:00")], "1wk")


@pytest.mark.parametrize(
    ("session", "live", "told"),
    [
        ((10.0, 99), (11.0, 100), (11.0, 100)),
        ((None, 99), (11.0, 100), (11.0, 100)),
        ((10.0, 99), (None, 100), (10.0, 99)),
        ((None, 99), (None, 100), (None, 100)),
    ],
    ids=["both", "the live one", "the session's", "neither"],
)
def test_of_a_live_day_that_comes_twice_the_latest_with_prices_counts(
    session: tuple[float | None, int],
    live: tuple[float | None, int],
    told: tuple[float | None, int],
) -> None:
    """On the session's stamp, however often and in whatever order they come."""
    both = [row("2026-06-17T13:30", *session), row("2026-06-17T17:00:01", *live)]
    period_now = {"regular": period("2026-06-17T13:30", "2026-06-17T20:00")}
    for rows in (both, [*both, both[1]]):
        body = answer(
            [row("2026-06-16T13:30"), *rows],
            regularMarketTime=at("2026-06-17T17:00:01"),
            currentTradingPeriod=period_now,
        )
        found = placed(body)
        assert stamps(found) == [at("2026-06-16T13:30"), at("2026-06-17T13:30")]
        assert (found[-1].row.close, found[-1].row.volume) == told


def test_an_answer_that_is_cut_anywhere_is_none() -> None:
    """Whatever byte is the last, it is no JSON; and nothing but `NoChart` is raised."""
    body = json.dumps(answer([row("2026-06-16T13:30"), row("2026-06-17T13:30")])).encode()
    for length in range(len(body)):
        with pytest.raises(NoJson):
            read(body[:length], "ABC", "1d")


JUNK = st.one_of(
    st.none(),
    st.booleans(),
    st.integers(-(1 << 70), 1 << 70),
    st.floats(),
    st.text(max_size=5),
    st.just([]),
    st.just({}),
    st.lists(st.integers(), max_size=3),
    st.just("America"),
    st.just({"start": 1, "end": 0}),
)


@given(st.data(), st.sampled_from(["1d", "30m", "1wk"]))
def test_no_nonsense_becomes_a_bar(data: st.DataObject, interval: str) -> None:
    """Types swapped anywhere, rows repeated and shuffled: what gets through was in the answer."""
    days = [row(f"2026-06-{day}T13:30", float(day), day) for day in (12, 15, 16, 17)]
    periods = [[period("2026-06-17T13:30", "2026-06-17T20:00")]]
    body = answer(
        data.draw(st.one_of(st.just(days), st.lists(st.sampled_from(days), max_size=9))),
        interval=interval,
        regularMarketTime=at("2026-06-17T13:50"),
        tradingPeriods=periods,
        currentTradingPeriod={"regular": periods[0][0]},
    )
    for _ in range(data.draw(st.integers(0, 3))):
        put_somewhere(data, body)
    text = json.dumps(body).encode()
    try:
        chart = read(text, "ABC", interval)
    except NoChart:
        return
    if isinstance(chart, Refusal):
        return
    found = records(chart, interval, EVER, remember(chart.meta, {}))
    assert [record.time for record in found] == sorted({record.time for record in found})
    values = {msgspec.structs.astuple(one)[1:] for one in chart.rows}
    bars = {msgspec.structs.astuple(record.row)[1:] for record in found}
    if interval == "1wk":
        # The latest row of a week may be two in one.
        columns = [set(column) for column in zip(*values, strict=True)]
        assert all(value in columns[at] for bar in bars for at, value in enumerate(bar))
    else:
        assert bars <= values
    told = bad_values(chart, interval, found)
    assert told is None or set(told.times) <= {record.time for record in found}


def put_somewhere(data: st.DataObject, value: Any) -> None:
    """Replace something in an answer, however deep, by something else."""
    while True:
        keys = sorted(value) if isinstance(value, dict) else range(len(value))
        if not keys:
            return
        key = data.draw(st.sampled_from(keys))
        if not isinstance(value[key], dict | list) or data.draw(st.booleans()):
            value[key] = deepcopy(data.draw(JUNK))
            return
        value = value[key]


def test_no_bars_in_every_form() -> None:
    """Without times there are no records, whatever of the columns is there."""
    forms: list[dict[str, Any]] = [
        {"quote": [{}], "adjclose": [{}]},
        {"quote": [{}]},
        {"quote": [{}], "adjclose": None},
        {"quote": []},
        {"quote": [None]},
        {},
    ]
    for form in forms:
        body = answer([row("2026-06-16T13:30")])
        result_of(body)["indicators"] = form
        result_of(body)["timestamp"] = None
        assert placed(body) == []
        result_of(body)["timestamp"] = []
        assert placed(body) == []


def test_volumes_are_whole_and_may_pass_32_bits() -> None:
    """A volume written as a float is made whole."""
    first, second = row("2026-06-16T13:30"), row("2026-06-17T13:30")
    body = answer([first, second], columns={"volume": [80000000000, 5e9]})
    assert [record.row.volume for record in placed(body)] == [80_000_000_000, 5_000_000_000]
    assert isinstance(placed(body)[1].row.volume, int)


def test_records_are_sorted_one_a_stamp_and_inside_the_range() -> None:
    """Of two rows on one stamp the later stays; the range is half open."""
    body = answer(
        [
            row("2026-06-17T13:30", 3.0),
            row("2026-06-15T13:30", 1.0),
            row("2026-06-16T13:30", 2.0),
            row("2026-06-16T13:30", 2.5),
        ]
    )
    asked = Interval(at("2026-06-15T13:30") * 1000, at("2026-06-17T13:30") * 1000)
    found = placed(body, asked=asked)
    assert stamps(found) == [at("2026-06-15T13:30"), at("2026-06-16T13:30")]
    assert [record.row.close for record in found] == [1.0, 2.5]


LIVE: dict[str, tuple[list[tuple[Any, ...]], list[tuple[str, float]]]] = {
    "alone": (
        [row("2026-06-16T13:30", 1.0), row("2026-06-17T20:00:01", 2.0)],
        [("2026-06-16T13:30", 1.0), ("2026-06-17T13:30", 2.0)],
    ),
    "beside its session's row": (
        [
            row("2026-06-16T13:30", 1.0),
            row("2026-06-17T13:30", 1.9),
            row("2026-06-17T20:00:01", 2.0),
        ],
        [("2026-06-16T13:30", 1.0), ("2026-06-17T13:30", 2.0)],
    ),
    "null beside its session's row": (
        [row("2026-06-17T13:30", 1.9), row("2026-06-17T20:00:01", None, None)],
        [("2026-06-17T13:30", 1.9)],
    ),
    "first": (
        [row("2026-06-17T20:00:01", 2.0), row("2026-06-16T13:30", 1.0)],
        [("2026-06-16T13:30", 1.0), ("2026-06-17T13:30", 2.0)],
    ),
    "the only row": ([row("2026-06-17T20:00:01", 2.0)], [("2026-06-17T13:30", 2.0)]),
    "settled": (
        [row("2026-06-16T13:30", 1.0), row("2026-06-17T13:30", 2.0)],
        [("2026-06-16T13:30", 1.0), ("2026-06-17T13:30", 2.0)],
    ),
}


@pytest.mark.parametrize("name", LIVE)
@pytest.mark.parametrize("coming", ["2026-06-17", "2026-06-18"])
def test_the_live_day_stands_on_its_sessions_stamp(name: str, coming: str) -> None:
    """Wherever upstream puts the live row, it is the one row of its day."""
    rows, expected = LIVE[name]
    current = {"regular": period(f"{coming}T13:30", f"{coming}T20:00")}
    last_trades = [at("2026-06-17T20:00:01"), None]
    # Without the time of the last trade only the last row can be taken for the live one.
    for last_trade in last_trades[:1] if name == "first" else last_trades:
        body = answer(rows, regularMarketTime=last_trade, currentTradingPeriod=current)
        found = placed(body)
        assert stamps(found) == [at(time) for time, _ in expected]
        assert [record.row.close for record in found] == [close for _, close in expected]


def test_a_date_is_taken_in_the_zone_of_that_date() -> None:
    """Sydney opens at 23:00 or 0:00 UTC; the live row finds its day in both."""
    for day, opened in (("2026-01-15", "2026-01-14T23:00"), ("2026-06-17", "2026-06-17T00:00")):
        body = answer(
            [row(f"{day}T05:10:11", 2.0)],
            exchangeTimezoneName="Australia/Sydney",
            gmtoffset=39600,
            regularMarketTime=at(f"{day}T05:10:11"),
            currentTradingPeriod={"regular": period("2026-03-02T23:00", "2026-03-03T05:00")},
        )
        assert stamps(placed(body)) == [at(opened)]


def test_the_live_row_of_a_currency_goes_to_local_midnight() -> None:
    """London's summer midnight is 23:00 UTC of the day before."""
    body = answer(
        [row("2026-06-15T23:00", 1.0, 0), row("2026-06-17T15:00:03", 1.1, 0)],
        exchangeTimezoneName="Europe/London",
        instrumentType="CURRENCY",
        regularMarketTime=at("2026-06-17T15:00:03"),
        currentTradingPeriod={"regular": period("2026-06-16T23:00", "2026-06-17T22:59")},
    )
    assert stamps(placed(body)) == [at("2026-06-15T23:00"), at("2026-06-16T23:00")]


@pytest.mark.parametrize(
    "periods",
    [
        [[period("2026-06-17T13:30", "2026-06-17T20:00")]],
        {
            "pre": [[period("2026-06-17T08:00", "2026-06-17T13:30")]],
            "regular": [[period("2026-06-17T13:30", "2026-06-17T20:00")]],
            "post": [[period("2026-06-17T20:00", "2026-06-18T00:00")]],
        },
        [period("2026-06-17T13:30", "2026-06-17T20:00")],
        None,
        "nonsense",
        [[{"start": "?", "end": None}]],
    ],
    ids=["lists", "by name", "flat", "null", "text", "broken"],
)
def test_intraday_keeps_the_regular_session_without_the_snapshot(periods: Any) -> None:
    """Pre- and post-market and both forms of snapshot go, a flat bar on the grid stays."""
    body = answer(
        [
            row("2026-06-17T13:00", 9.0, 0),
            row("2026-06-17T13:30", 10.0, 0),
            row("2026-06-17T14:00", 11.0, 50),
            row("2026-06-17T14:30", None, None),
            row("2026-06-17T19:30", 12.0, 0),
            row("2026-06-17T20:00", 12.0, 0),
            row("2026-06-17T20:30", 12.5, 0),
            row("2026-06-17T19:52:10", 12.0, 0),
        ],
        interval="30m",
        regularMarketTime=at("2026-06-17T20:00:01"),
        tradingPeriods=periods,
        currentTradingPeriod={"regular": period("2026-06-18T13:30", "2026-06-18T20:00")},
    )
    found = placed(body, "30m")
    kept = ("13:30", "14:00", "14:30", "19:30")
    assert stamps(found) == [at(f"2026-06-17T{time}") for time in kept]
    assert {record.row.adjclose for record in found} == {None}


def test_a_half_day_does_not_cut_the_days_before_it() -> None:
    """Where no periods are given, rows with volume after today's early close are kept."""
    body = answer(
        [row("2026-11-25T19:30", 12.0, 70), row("2026-11-27T17:30", 12.0, 70)],
        interval="30m",
        currentTradingPeriod={"regular": period("2026-11-27T14:30", "2026-11-27T18:00")},
    )
    assert len(placed(body, "30m")) == 2


RIYADH_DAYS = [period(f"2026-06-{day}T07:00", f"2026-06-{day}T12:00") for day in (16, 17)]


@pytest.mark.parametrize(
    ("rows", "last_trade", "kept"),
    [
        # 15:00 in Riyadh is when the session ends, and the auction's bar is stamped.
        (["16T11:00", "16T12:00", "17T11:00", "17T12:00"], "17T12:19:40", 4),
        (["16T11:00", "16T12:00", "17T11:00", "17T12:00", "17T12:19:40"], "17T12:19:40", 4),
        # While it is not over, and where the live row stands there, there is none yet.
        (["16T11:00", "16T12:00", "17T11:00", "17T12:00"], "17T12:00:01", 3),
        (["16T11:00", "16T12:00", "17T11:00"], None, 2),
        # The first row of the post-market is followed by others.
        (["16T11:00", "16T12:00", "16T13:00", "17T11:00"], "17T12:19:40", 2),
        (["16T11:00", "16T12:30", "17T11:00"], "17T12:19:40", 2),
    ],
)
def test_a_closing_auction_at_the_sessions_end_is_kept(
    rows: list[str], last_trade: str | None, kept: int
) -> None:
    """Its bar is stamped exactly at the end, has no volume, and comes once the session is over."""
    body = answer(
        [row(f"2026-06-{time}", 10.0, 0 if "12:" in time else 5) for time in rows],
        interval="1h",
        exchangeTimezoneName="Asia/Riyadh",
        regularMarketTime=None if last_trade is None else at(f"2026-06-{last_trade}"),
        tradingPeriods=[[one] for one in RIYADH_DAYS],
    )
    assert len(placed(body, "1h")) == kept


def test_a_session_beyond_midnight_is_kept_whole() -> None:
    """Rows after midnight belong to the session that began the evening before."""
    body = answer(
        [row("2026-06-17T03:30", 1.0, 5), row("2026-06-17T04:30", 2.0, 5)],
        interval="30m",
        tradingPeriods=[
            [period("2026-06-16T22:00", "2026-06-17T21:00")],
            [period("2026-06-17T22:00", "2026-06-18T21:00")],
        ],
    )
    assert len(placed(body, "30m")) == 2


def week(live_first: bool = False, **events: Any) -> dict[str, Any]:
    """Return weeks of which the second lasts, its live row beside it (yfinance#1070)."""
    rows = [
        (at("2022-06-12T22:00"), 20_000.0, 21_900.0, 19_800.0, 20_500.0, 10),
        (at("2022-06-19T22:00"), 20_600.0, 21_400.0, 20_100.0, 21_000.0, 20),
    ]
    live = (at("2022-06-24T15:00:24"), 20_900.0, 21_500.0, 20_050.0, 21_250.0, 7)
    body = answer(
        [live, *rows] if live_first else [*rows, live],
        interval="1wk",
        exchangeTimezoneName="Africa/Johannesburg",
        regularMarketTime=at("2022-06-24T15:00:24"),
    )
    body["chart"]["result"][0]["events"] = events
    return body


def prices(record: Record) -> tuple[float, ...]:
    """Return open, high, low, close, adjclose and volume."""
    bar = record.row
    return (bar.open, bar.high, bar.low, bar.close, bar.adjclose, bar.volume)


OWN = (20_600.0, 21_400.0, 20_100.0, 21_000.0, 21_000.0, 20)
SO_FAR = (20_600.0, 21_500.0, 20_050.0, 21_250.0, 21_250.0, 20)


@pytest.mark.parametrize("live_first", [False, True])
def test_a_week_has_the_live_row_in_it(live_first: bool) -> None:
    """Its close is the latest, high and low the extremes of both, and volumes are not added."""
    found = placed(week(live_first), "1wk")
    assert stamps(found) == [at("2022-06-12T22:00"), at("2022-06-19T22:00")]
    assert prices(found[1]) == SO_FAR
    assert found[0].row.volume == 10


@pytest.mark.parametrize(
    ("day", "expected"), [("20", SO_FAR), ("21", OWN), ("24", OWN), ("13", SO_FAR)]
)
def test_an_action_within_the_week_leaves_the_live_row_out(
    day: str, expected: tuple[float, ...]
) -> None:
    """The one row may be of before it, and the other of after it."""
    paid = {"x": {"amount": 1.0, "date": at(f"2022-06-{day}T07:00")}}
    found = placed(week(dividends=paid), "1wk")
    assert prices(found[1]) == expected


def test_a_live_row_without_its_week_is_put_on_the_week() -> None:
    """On its first day a week may have no row of its own, or one without prices."""
    alone = answer([row("2026-06-15T13:50:09", 3.0, 7)], interval="1wk")
    assert stamps(placed(alone, "1wk")) == [at("2026-06-15T04:00")]
    rows = [row("2026-06-15T04:00", None, None), row("2026-06-15T13:50:09", 3.0, 7)]
    body = answer(rows, interval="1wk", regularMarketTime=at("2026-06-15T13:50:09"))
    (found,) = placed(body, "1wk")
    assert (found.time, found.row.close) == (at("2026-06-15T04:00") * 1000, 3.0)


def test_stamps_of_periods_are_made_local_midnight() -> None:
    """A bar stamped an hour off where the clocks changed belongs to its own month."""
    body = answer(
        [row("2026-03-31T22:00"), row("2026-05-01T13:30")],
        interval="1mo",
        exchangeTimezoneName="Europe/London",
    )
    assert stamps(placed(body, "1mo")) == [at("2026-03-31T23:00"), at("2026-04-30T23:00")]


def test_what_is_remembered_widens_and_survives_gaps() -> None:
    """Hours only grow, so that a half-day shortens nothing; absent fields keep what was known."""

    def meta_of(**meta: Any) -> dict[str, Any]:
        chart = read(json.dumps(answer([row("2026-06-17T13:30")], **meta)).encode(), "ABC", "1d")
        assert isinstance(chart, Chart)
        return remember(chart.meta, known)

    known: dict[str, Any] = {}
    half = {"regular": period("2026-11-27T14:30", "2026-11-27T18:00")}
    known = meta_of(currency="USD", currentTradingPeriod=half)
    assert known == {
        "symbol": "ABC",
        "currency": "USD",
        "kind": "EQUITY",
        "tz": "America/New_York",
        "open_s": 34_200,
        "close_s": 46_800,
        "last_open_s": 34_200,
        "last_close_s": 46_800,
    }
    whole = {"regular": period("2026-06-17T13:30", "2026-06-17T20:00")}
    assert meta_of(currentTradingPeriod=whole)["close_s"] == 57_600
    late = meta_of(currentTradingPeriod={"regular": period("2026-06-17T14:30", "2026-06-17T15:00")})
    assert (late["open_s"], late["close_s"]) == (34_200, 46_800)
    assert (late["last_open_s"], late["last_close_s"]) == (37_800, 39_600)
    assert meta_of(currentTradingPeriod=None)["close_s"] == 46_800
    assert meta_of(exchangeTimezoneName=None, instrumentType=None) == known
    assert meta_of(exchangeTimezoneName="No/Where") == known
    elsewhere = meta_of(exchangeTimezoneName="Asia/Tokyo")
    assert not {"open_s", "last_open_s"} & elsewhere.keys()


def test_bars_are_encoded_as_records_with_every_column() -> None:
    """A bar's own form is the record's JSON object: Unix seconds and six columns."""
    assert Bar.__struct_fields__ == (
        "timestamp",
        "open",
        "high",
        "low",
        "close",
        "adjclose",
        "volume",
    )
