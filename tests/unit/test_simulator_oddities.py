"""Answers that are no answers to the question, and the markets that are unlike New York."""

from __future__ import annotations

import pytest

from gapless.simulator.happenings import (
    Odd,
)
from gapless.simulator.instruments import Kind
from gapless.simulator.quirks import Quirks
from support.charts import (
    DAY,
    HOUR,
    MARKET,
    NOW,
    ask,
    at,
    market,
    result,
    rows,
)

# Answers that are no answers


def test_one_symbol_is_answered_under_another_name() -> None:
    """Or under none, or with facts that contradict themselves; others are as ever."""
    odd = Odd(
        "AAPL",
        heals_s=NOW + HOUR,
        meta=(
            ("symbol", b'"MSFT"'),
            ("exchangeTimezoneName", b'"Mars/Olympus"'),
            ("currency", b"null"),
            ("firstTradeDate", b""),
        ),
    )
    world = market(odd)
    meta = result(world)["meta"]
    assert (meta["symbol"], meta["exchangeTimezoneName"]) == ("MSFT", "Mars/Olympus")
    assert meta["currency"] is None
    assert "firstTradeDate" not in meta
    assert result(world, "MSFT")["meta"]["currency"] == "USD"
    assert result(world, now=NOW + HOUR)["meta"]["symbol"] == "AAPL"


def test_one_symbol_has_values_and_columns_that_are_none() -> None:
    """A volume beyond 64 bits, a price that is a word, a column that is lacking."""
    world = market(
        Odd("AAPL", values=(("volume", b"9223372036854775808"), ("close", b'"n/a"'))),
        Odd("MSFT", lacks=frozenset({"open"})),
        Odd("BTC-USD", lacks=frozenset({"adjclose"})),
    )
    quote = result(world)["indicators"]["quote"][0]
    assert quote["volume"][0] == 2**63
    assert quote["close"][0] == "n/a"
    assert isinstance(quote["close"][1], float)
    lacking = result(world, "MSFT")["indicators"]["quote"][0]
    assert lacking.keys() == {"high", "low", "close", "volume"}
    assert "adjclose" not in result(world, "BTC-USD")["indicators"]


@pytest.mark.parametrize("interval", ["1d", "15m"])
def test_rows_are_no_answer_to_the_question(interval: str) -> None:
    """All outside the asked range, all on one stamp, or in the wrong order."""
    now = NOW
    start = now - 20 * DAY
    right = list(rows(result(MARKET.fresh(), interval=interval, period1=start)))
    outside = result(market(Odd("AAPL", stamps="outside")), interval=interval, period1=start)
    assert len(outside["timestamp"]) == len(right)
    assert max(outside["timestamp"]) < start - DAY
    one = result(market(Odd("AAPL", stamps="one")), interval=interval, period1=start)
    assert one["timestamp"] == [right[0]] * len(right)
    back = result(market(Odd("AAPL", stamps="reversed")), interval=interval, period1=start)
    assert back["timestamp"] == right[::-1]
    twice = result(market(Odd("AAPL", repeats=2)), interval=interval, period1=start)
    assert twice["timestamp"] == [stamp for stamp in right for _ in range(2)]


def test_more_than_a_century_of_days_is_refused_by_switch() -> None:
    """With the very words of the endpoint; months are not."""
    century = Quirks(day_span_years=100)
    start = -3_000_000_000
    status, body = ask(MARKET, quirks=century, period1=start)
    assert status == 422
    assert "Only 100 years worth of day granularity data" in body["chart"]["error"]["description"]
    assert ask(MARKET, quirks=century, period1=start, interval="1mo")[0] == 200
    assert ask(MARKET, quirks=century, period1=NOW - 99 * 365 * DAY)[0] == 200
    assert ask(MARKET, period1=start)[0] == 200


# Markets


def test_a_fund_publishes_in_the_evening() -> None:
    """The day's row, one price without volume, and `regularMarketTime` come at 20:05."""
    friday, published = at("2026-11-20T14:30"), at("2026-11-21T01:05")
    before = result(MARKET, "VFIAX", now=published - 1, quirks=Quirks())
    after = result(MARKET, "VFIAX", now=published, quirks=Quirks())
    settled = result(MARKET, "VFIAX", now=published + 2 * DAY)
    assert before["meta"]["instrumentType"] == Kind.MUTUALFUND
    assert before["meta"]["regularMarketTime"] == published - DAY
    assert after["meta"]["regularMarketTime"] == published
    assert max(rows(before)) < friday
    assert max(rows(after)) == published
    assert max(rows(settled)) == friday
    row = rows(settled)[friday]
    assert rows(after)[published] == row
    assert len({*row[:4]}) == 1
    assert row[4] == 0
    empty = result(MARKET, "VFIAX", interval="1h", quirks=Quirks())
    assert "timestamp" not in empty


def test_a_closing_auction_is_stamped_at_the_end_of_its_session() -> None:
    """Once the session is over, at the day's close and without volume; Sunday is a session."""
    sunday, closed = at("2026-11-15T07:00"), at("2026-11-15T12:00")
    hours = rows(result(MARKET, "2222.SR", interval="1h", period1=sunday, now=closed + HOUR))
    assert list(hours) == [sunday + n * HOUR for n in range(6)]
    day = rows(result(MARKET, "2222.SR", period1=sunday, now=closed + HOUR))[sunday]
    assert hours[closed] == (day[3], day[3], day[3], day[3], 0, None)
    assert closed not in rows(result(MARKET, "2222.SR", interval="1h", now=closed - 60))


def test_the_live_row_of_a_week_stays_over_the_weekend() -> None:
    """On Saturday the running week lacks Friday, which comes as a row of its own."""
    saturday, monday = at("2026-11-21T12:00"), at("2026-11-16T05:00")
    quirks = Quirks(live_settles_s=3.0 * DAY)
    found = rows(
        result(MARKET, interval="1wk", period1=monday - 7 * DAY, now=saturday, quirks=quirks)
    )
    assert list(found) == [monday - 7 * DAY, monday, at("2026-11-20T21:00:01")]
    days = rows(result(MARKET, period1=monday, now=saturday))
    friday, before = days.popitem()[1], list(days.values())
    assert found[monday][3] == before[-1][3]
    assert found[monday][4] == sum(row[4] for row in before)
    assert found[at("2026-11-20T21:00:01")] == friday


def test_half_days_end_early() -> None:
    """The day after Thanksgiving closes at 13:00, and says so."""
    now = at("2026-11-27T19:00")
    found = result(MARKET, interval="30m", period1=now - 12 * HOUR, now=now)
    assert max(rows(found)) == at("2026-11-27T17:30")
    assert found["meta"]["currentTradingPeriod"]["regular"]["end"] == at("2026-11-27T18:00")
    assert found["meta"]["regularMarketTime"] == at("2026-11-27T18:00:01")
