"""The simulated endpoint answers as the recorded one does, quirk by quirk."""

from __future__ import annotations

import json
from collections.abc import Iterator
from dataclasses import replace
from datetime import UTC, date, datetime
from pathlib import Path
from typing import Any

import pytest

from gapless.simulator.chart import Answer, Query, answer, parse
from gapless.simulator.happenings import Dividend, NullRow, Split
from gapless.simulator.instruments import coin, currency_pair, equity
from gapless.simulator.market import Market
from gapless.simulator.prices import RandomWalk
from gapless.simulator.quirks import Quirks
from gapless.simulator.view import aggregate

RECORDED = Path(__file__).resolve().parents[3] / "shared" / "data" / "yahoo"
WALK = RandomWalk(5)
MARKET = Market(
    [
        equity("AAPL", first_trade=date(1980, 12, 12)),
        currency_pair("EURUSD=X"),
        coin("BTC-USD"),
        equity("LATE", first_trade=date(2026, 11, 2)),
    ],
    prices=WALK,
)
DAY = 86_400
PLAIN = Quirks.none()


def at(text: str) -> int:
    """Return the UTC seconds of an ISO instant."""
    return int(datetime.fromisoformat(text).replace(tzinfo=UTC).timestamp())


NOW = at("2026-11-18T17:10:30")
"""A Wednesday, the New York session open."""
OPENED = at("2026-11-18T14:30")
CLOSED = at("2026-11-18T21:00")


def ask(
    symbol: str = "AAPL",
    *,
    quirks: Quirks = PLAIN,
    now: float = NOW,
    market: Market = MARKET,
    **given: object,
) -> tuple[int, Any]:
    """Return status and decoded body of one request."""
    query = parse(f"/v8/finance/chart/{symbol}?" + "&".join(f"{k}={v}" for k, v in given.items()))
    found = query if isinstance(query, Answer) else answer(market, quirks, query, now)
    return found.status, json.loads(found.body)


def result(symbol: str = "AAPL", **given: Any) -> Any:
    """Return the one result of a request that succeeds."""
    status, body = ask(symbol, **given)
    assert status == 200, body
    assert body["chart"]["error"] is None
    return body["chart"]["result"][0]


def stamps(**given: Any) -> list[int]:
    """Return the timestamps of a request that succeeds."""
    found: list[int] = result(**given).get("timestamp", [])
    return found


# Bounds


def test_lower_bound_is_inclusive_and_the_upper_by_switch() -> None:
    """1d: both ends come back; intraday: not the upper one; either can be switched."""
    first, last = at("2026-11-09T14:30"), at("2026-11-12T14:30")
    daily: dict[str, Any] = {"period1": first, "period2": last, "interval": "1d"}
    assert len(stamps(**daily)) == 4
    assert len(stamps(**daily, quirks=replace(PLAIN, period2_inclusive_daily=False))) == 3
    hourly: dict[str, Any] = {"period1": first, "period2": first + 7200, "interval": "1h"}
    assert stamps(**hourly) == [first, first + 3600]
    open_end = replace(PLAIN, period2_inclusive_intraday=True)
    assert stamps(**hourly, quirks=open_end) == [first, first + 3600, first + 7200]


def test_weeks_begin_on_the_weekday_of_period1() -> None:
    """A Wednesday's period1 gives Wednesday weeks; Monday's gives the true ones."""
    wednesday, monday = at("2026-10-07T04:00"), at("2026-10-05T04:00")
    end = at("2026-11-01T00:00")
    query: dict[str, Any] = {"period2": end, "interval": "1wk"}
    anchored = stamps(period1=wednesday, quirks=Quirks(), **query)
    assert {datetime.fromtimestamp(t, UTC).weekday() for t in anchored} == {2}
    assert stamps(period1=monday, quirks=Quirks(), **query) == [
        bar.t for bar in MARKET.bars("AAPL", "1wk", monday, end, NOW)
    ]


def test_a_period_cut_by_the_request_is_a_cut_bar() -> None:
    """Only days inside [period1, period2] are in a month's bar."""
    start, end = at("2026-09-15T00:00"), at("2026-10-10T00:00")
    found = result(period1=start, period2=end, interval="1mo")
    days = MARKET.bars("AAPL", "1d", start, end, NOW)
    assert found["timestamp"] == [at("2026-09-01T04:00"), at("2026-10-01T04:00")]
    september = aggregate(0, [bar for bar in days if bar.t < at("2026-10-01T04:00")])
    assert found["indicators"]["quote"][0]["volume"][0] == september.volume


def test_plain_answers_are_the_markets_bars() -> None:
    """Without quirks, rows are the truth, whatever the interval."""
    for interval, days in (("1m", 5), ("90m", 20), ("60m", 20), ("4h", 20), ("1d", 90)):
        start = NOW - days * DAY
        found = result(period1=start, period2=NOW + DAY, interval=interval)
        true = MARKET.bars("AAPL", interval, start, NOW, NOW)
        quote = found["indicators"]["quote"][0]
        assert found["timestamp"] == [bar.t for bar in true]
        assert quote["close"] == [bar.close for bar in true]
        assert quote["volume"] == [bar.volume for bar in true]
        if interval == "1d":
            assert found["indicators"]["adjclose"][0]["adjclose"] == [b.adjclose for b in true]
        else:
            assert "adjclose" not in found["indicators"]


@pytest.mark.parametrize("name", ["1d", "5d", "1mo", "6mo", "1y", "ytd", "max"])
def test_ranges(name: str) -> None:
    """A range ends now and reaches back as far as its name says."""
    found = result(range=name, interval="1d")
    count = {"1d": 1, "5d": 5, "1mo": 23, "6mo": 132, "1y": 262, "ytd": 230}
    assert found["meta"]["range"] == name
    assert found["timestamp"][-1] == OPENED
    if name == "max":
        assert found["timestamp"][0] == found["meta"]["firstTradeDate"]
    else:
        assert abs(len(found["timestamp"]) - count[name]) <= 2


# Errors


def test_error_bodies() -> None:
    """Each error has the status and the exact words of the endpoint."""
    bad = {
        (404, "Not Found", "No data found, symbol may be delisted"): ask("NOPE", range="1mo"),
        (
            400,
            "Bad Request",
            "Data doesn't exist for startDate = 1577836800, endDate = 1578009600",
        ): ask("LATE", period1=1577836800, period2=1578009600),
        (
            400,
            "Bad Request",
            (
                "Invalid input - interval=45m is not supported. Valid intervals: [1m, 2m, 5m, 15m, "
                "30m, 60m, 90m, 1h, 4h, 1d, 5d, 1wk, 1mo, 3mo]"
            ),
        ): ask(interval="45m"),
        (
            400,
            "Bad Request",
            (
                "Invalid input - start date cannot be after end date. "
                "startDate = 1562170150, endDate = 1556816400"
            ),
        ): ask(period1=1562170150, period2=1556816400),
        (
            422,
            "Unprocessable Entity",
            (
                "1h data not available for startTime=1664582400 and endTime=1705276800. "
                "The requested range must be within the last 730 days."
            ),
        ): ask(interval="60m", period1=1664582400, period2=1705276800),
        (
            422,
            "Unprocessable Entity",
            (
                f"1m data not available for startTime={NOW - 9 * DAY} and endTime={NOW}. "
                "Only 8 days worth of 1m granularity data are allowed to be fetched per request."
            ),
        ): ask(interval="1m", period1=NOW - 9 * DAY, period2=NOW),
    }
    for (status, code, description), (got, body) in bad.items():
        assert got == status
        assert body == {
            "chart": {"result": None, "error": {"code": code, "description": description}}
        }
    assert ask(period1="soon", period2=NOW)[0] == 400
    assert ask(range="7y")[0] == 400


@pytest.mark.parametrize(
    ("interval", "days"), [("1m", 30), ("2m", 60), ("30m", 60), ("90m", 60), ("1h", 730)]
)
def test_lookback_windows(interval: str, days: int) -> None:
    """A request inside the window is served, one that straddles its limit gets 422."""
    edge = NOW - days * DAY
    assert ask(interval=interval, period1=edge, period2=edge + DAY)[0] == 200
    assert ask(interval=interval, period1=edge - 1, period2=edge + DAY)[0] == 422
    shorter = replace(PLAIN, lookback_days={interval: days - 1})
    assert ask(interval=interval, period1=edge, period2=edge + DAY, quirks=shorter)[0] == 422


def test_an_answer_that_says_what_is_held_counts_as_served() -> None:
    """200 and `Data doesn't exist` are served; other errors are not."""
    said = {}
    for target in ("AAPL?range=1mo", "LATE?period1=0&period2=9", "NOPE?range=1mo", "AAPL?range=x"):
        query = parse("/v8/finance/chart/" + target)
        assert isinstance(query, Query)
        said[target[:4] + target[-1]] = answer(MARKET, PLAIN, query, NOW).served
    assert said == {"AAPLo": True, "LATE9": True, "NOPEo": False, "AAPLx": False}
    assert isinstance(parse("/v7/other"), Answer)


# Quirks


def test_live_daily_row_has_its_own_stamp_until_it_settles() -> None:
    """While the session is open: now; after the close: a second past it; later: the open."""
    live = Quirks()
    for now, stamp in (
        (NOW, NOW),
        (CLOSED + 3600, CLOSED + 1),
        (CLOSED + 20 * 3600, OPENED),
    ):
        rows = stamps(period1=OPENED - 5 * DAY, period2=OPENED, now=now, quirks=live)
        assert rows[-1] == stamp
        assert len(rows) == 4
    until_before = stamps(period1=OPENED - 5 * DAY, period2=OPENED - 1, quirks=live)
    assert until_before[-1] == OPENED - DAY


def test_live_row_twice() -> None:
    """The duplicate on the session's stamp lags in volume; the last one is true."""
    found = result(range="5d", quirks=Quirks(live_duplicate=True))
    assert found["timestamp"][-2:] == [OPENED, NOW]
    volume = found["indicators"]["quote"][0]["volume"]
    assert volume[-2] < volume[-1]
    assert volume[-1] == MARKET.bars("AAPL", "1d", OPENED, NOW, NOW)[0].volume


def test_live_row_outside_the_asked_range() -> None:
    """Up to 20 h past period2, or before period1 as on a Saturday, if switched on."""
    past: dict[str, Any] = {"period1": OPENED - 5 * DAY, "period2": OPENED - 3600}
    assert stamps(**past, quirks=Quirks())[-1] < OPENED
    assert stamps(**past, quirks=Quirks(live_past_period2=True))[-1] == NOW
    past["period2"] = NOW - 20 * 3600 - 1
    assert stamps(**past, quirks=Quirks(live_past_period2=True))[-1] < OPENED
    saturday = at("2026-11-21T10:00")
    before: dict[str, Any] = {
        "period1": at("2026-11-21T00:00"),
        "period2": saturday,
        "now": saturday,
    }
    assert stamps(**before, quirks=Quirks()) == []
    friday = at("2026-11-20T21:00:01")
    assert stamps(**before, quirks=Quirks(live_before_period1=True)) == [friday]


def test_intraday_live_row_is_a_snapshot_that_stays() -> None:
    """O = H = L = C, volume 0, beside the forming bar; at the close's stamp afterwards."""
    for now, stamp in ((NOW, NOW), (CLOSED + 3600, CLOSED)):
        found = result(
            period1=OPENED, period2=CLOSED + DAY, interval="1m", now=now, quirks=Quirks()
        )
        quote = found["indicators"]["quote"][0]
        assert found["timestamp"][-1] == stamp
        assert len({quote[name][-1] for name in ("open", "high", "low", "close")}) == 1
        assert quote["close"][-1] == quote["close"][-2]
        assert quote["volume"][-1] == 0


@pytest.mark.parametrize("interval", ["1wk", "1mo", "3mo"])
def test_live_row_beside_a_period(interval: str) -> None:
    """The period's own bar leaves the live day out or already holds it."""
    start = at("2026-07-06T04:00") if interval == "1wk" else at("2026-07-01T04:00")
    truth = MARKET.bars("AAPL", interval, start, NOW, NOW)
    today = MARKET.bars("AAPL", "1d", OPENED, NOW, NOW)[0]
    query: dict[str, Any] = {"period1": start, "period2": NOW, "interval": interval}
    volume = {}
    for mode in ("left_out", "included"):
        found = result(**query, quirks=Quirks(live_in_period=mode))
        assert found["timestamp"] == [*(bar.t for bar in truth), NOW]
        volume[mode] = found["indicators"]["quote"][0]["volume"]
        assert volume[mode][-1] == today.volume
    assert volume["included"][-2] == truth[-1].volume
    assert volume["left_out"][-2] == (truth[-1].volume or 0) - (today.volume or 0)


def test_no_bars() -> None:
    """A weekend has no timestamp and an empty quote; adjclose is absent or empty."""
    weekend: dict[str, Any] = {"period1": at("2026-11-14T00:00"), "period2": at("2026-11-16T00:00")}
    found = result(**weekend)
    assert "timestamp" not in found
    assert found["indicators"] == {"quote": [{}], "adjclose": [{}]}
    absent = result(**weekend, quirks=replace(PLAIN, no_bars="adjclose_absent"))
    assert absent["indicators"] == {"quote": [{}]}
    assert result(**weekend, interval="1h")["indicators"] == {"quote": [{}]}


def test_null_rows_are_null_in_every_column() -> None:
    """A whole null row has a stamp and nothing else."""
    market = Market([equity("AAPL")], prices=WALK)
    market.add(NullRow("AAPL", date(2026, 11, 17)))
    found = result(range="5d", market=market)
    columns = {**found["indicators"]["quote"][0], **found["indicators"]["adjclose"][0]}
    assert {name: values[-2] for name, values in columns.items()} == dict.fromkeys(columns)


def test_pre_and_post_rows_come_asked_or_unasked() -> None:
    """They have no volume; trading periods then name all three parts only if asked."""
    query: dict[str, Any] = {"period1": OPENED - DAY, "period2": OPENED, "interval": "30m"}
    assert len(stamps(**query)) == 13
    unasked = result(**query, quirks=replace(PLAIN, pre_post_unasked=True))
    asked = result(**query, includePrePost="true")
    assert len(asked["timestamp"]) > 13
    assert isinstance(unasked["meta"]["tradingPeriods"], list)
    assert asked["meta"]["tradingPeriods"].keys() == {"pre", "post", "regular"}
    outside = [
        volume
        for t, volume in zip(
            asked["timestamp"], asked["indicators"]["quote"][0]["volume"], strict=True
        )
        if not OPENED - DAY <= t < CLOSED - DAY
    ]
    assert set(outside) == {0}


def test_first_bar_without_volume() -> None:
    """Only the session's first bar loses its volume."""
    found = result(
        period1=OPENED - DAY,
        period2=OPENED,
        interval="15m",
        quirks=replace(PLAIN, first_bar_volume_zero=True),
    )
    volume = found["indicators"]["quote"][0]["volume"]
    assert volume[0] == 0
    assert all(volume[1:])


@pytest.mark.parametrize("token", [b"Infinity", b"1e999"])
def test_infinite_adjclose_and_zero_low(token: bytes) -> None:
    """The token is written as it is, JSON or not; the low is 0.0."""
    day = date(2026, 11, 17)
    quirks = replace(
        PLAIN,
        infinite_adjclose_on=frozenset({day}),
        zero_low_on=frozenset({day}),
        infinity_token=token,
    )
    query = parse("/v8/finance/chart/AAPL?range=5d")
    assert isinstance(query, Query)
    body = answer(MARKET, quirks, query, NOW).body
    assert body.count(token) == 1
    indicators = json.loads(body)["chart"]["result"][0]["indicators"]
    assert indicators["adjclose"][0]["adjclose"][-2] == float("inf")
    assert indicators["quote"][0]["low"][-2] == 0.0


def test_meta_fields_null_or_absent() -> None:
    """Any field can be taken away."""
    quirks = replace(
        PLAIN, null_meta=frozenset({"currency"}), absent_meta=frozenset({"chartPreviousClose"})
    )
    meta = result(range="5d", quirks=quirks)["meta"]
    assert meta["currency"] is None
    assert "chartPreviousClose" not in meta


def test_all_quirks_at_once_still_make_an_answer() -> None:
    """`Quirks.all()` works for every interval."""
    for interval in ("1m", "30m", "60m", "4h", "1d", "1wk", "1mo", "3mo"):
        found = result(range="5d", interval=interval, quirks=Quirks.all())
        assert found["timestamp"][-1] == NOW
        assert found["meta"]["dataGranularity"] == interval.replace("60m", "1h")


# Events


def test_events_are_keyed_by_the_bars_stamp() -> None:
    """1d: the session's; 1mo: the month's; `date` inside is the ex-date; only kinds asked for."""
    market = Market([equity("AAPL")], prices=WALK)
    market.add(Split("AAPL", date(2026, 8, 31), 4), Dividend("AAPL", date(2026, 8, 10), 0.8))
    split, dividend = at("2026-08-31T13:30"), at("2026-08-10T13:30")
    query: dict[str, Any] = {"period1": at("2026-08-01T00:00"), "period2": NOW, "market": market}
    daily = result(**query, events="div,splits,capitalGains")["events"]
    assert daily["splits"] == {
        str(split): {
            "date": split,
            "numerator": 4.0,
            "denominator": 1.0,
            "splitRatio": "4:1",
        }
    }
    assert daily["dividends"] == {str(dividend): {"amount": 0.2, "date": dividend}}
    monthly = result(**query, events="div|split|earn", interval="1mo")["events"]
    assert list(monthly["splits"]) == [str(at("2026-08-01T04:00"))]
    assert monthly["splits"].popitem()[1]["date"] == split
    assert list(result(**query, events="div")["events"]) == ["dividends"]
    assert "events" not in result(**query)


# Against the recordings


def recordings() -> Iterator[tuple[str, str, Any]]:
    """Yield name, interval and decoded body of each recorded 200."""
    for path in sorted(RECORDED.glob("*.json")):
        raw = json.loads(path.read_bytes())
        body = raw
        if "response" in raw:
            response = raw["response"]
            body = response.get("bodyJson") or json.loads(response["body"])
        if body["chart"]["result"]:
            yield path.name, body["chart"]["result"][0]["meta"]["dataGranularity"], body


def shape(value: Any) -> Any:
    """Return the types of a JSON value, with whole and broken numbers alike."""
    if isinstance(value, dict):
        return {name: shape(inner) for name, inner in value.items()}
    if isinstance(value, list):
        return [shape(value[0])] if value else []
    return "number" if type(value) in (int, float) else type(value).__name__


NOT_SIMULATED = {"fiftyTwoWeekHigh", "fiftyTwoWeekLow"}


@pytest.mark.skipif(not RECORDED.is_dir(), reason=f"no recorded responses at ../shared: {RECORDED}")
def test_shapes_match_the_recordings() -> None:
    """Each recorded 200 has the structure of our answer to the same interval."""
    seen = 0
    for name, interval, body in recordings():
        recorded = body["chart"]["result"][0]
        extended = isinstance(recorded["meta"].get("tradingPeriods"), dict)
        ours = result(
            range="5d", interval=interval, events="div,splits", includePrePost=str(extended)
        )
        theirs, mine = shape(recorded["meta"]), shape(ours["meta"])
        assert theirs.keys() - NOT_SIMULATED <= mine.keys() | {"previousClose"}, name
        for field in theirs.keys() & mine.keys():
            if theirs[field] != "NoneType":
                assert mine[field] == theirs[field], f"{name}: {field}"
        assert body["chart"]["error"] is None
        assert ours["indicators"].keys() == recorded["indicators"].keys()
        if "timestamp" in recorded:
            quote = recorded["indicators"]["quote"][0]
            assert ours["indicators"]["quote"][0].keys() == quote.keys()
        else:
            empty = result(period1=at("2026-11-14T00:00"), period2=at("2026-11-15T00:00"))
            assert empty["indicators"] == recorded["indicators"]
            assert "timestamp" not in empty
        seen += 1
    assert seen >= 10


@pytest.mark.skipif(not RECORDED.is_dir(), reason=f"no recorded responses at ../shared: {RECORDED}")
@pytest.mark.parametrize(
    ("name", "symbol"), [("13_SI_404_delisted_rec2024-09", "SI"), ("14_BEKE_400_before", "LATE")]
)
def test_error_shapes_match_the_recordings(name: str, symbol: str) -> None:
    """The recorded 404 and 400 are ours to the letter, status included."""
    path = next(RECORDED.glob(name + "*"))
    response = json.loads(path.read_bytes())["response"]
    body = response.get("bodyJson") or json.loads(response["body"])
    assert ask(symbol, period1=1577836800, period2=1578009600) == (response["status"], body)
