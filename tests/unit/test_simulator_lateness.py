"""The simulated upstream is late, absent and wrong for a while, as the switches say."""

from __future__ import annotations

from datetime import date
from typing import Literal

import pytest

from gapless.simulator.happenings import (
    Absent,
    CapitalGain,
    Correction,
    Cut,
    Delisted,
    Dividend,
    MissingRow,
    Restatement,
    Split,
)
from gapless.simulator.quirks import Quirks
from support.charts import (
    DAY,
    HOUR,
    MARKET,
    NOW,
    PLAIN,
    START,
    ask,
    at,
    market,
    result,
    rows,
    values,
)

# Actions


@pytest.mark.parametrize("interval", ["1d", "1h", "1wk"])
def test_an_action_that_is_not_registered_shows_nowhere(interval: str) -> None:
    """Registered two days after its ex-date, a split is named and worked in from then on."""
    ex, seen = at("2026-11-10T14:30"), at("2026-11-12T13:30")
    world = market(Split("AAPL", date(2026, 11, 10), 10, seen_s=seen))
    before = result(world, interval=interval, now=seen - 1)
    after = result(world, interval=interval, now=seen)
    assert "events" not in before
    assert [one["date"] for one in after["events"]["splits"].values()] == [ex]
    old, new = rows(before), rows(after)
    for stamp in old:
        if stamp < ex - 7 * DAY:
            assert new[stamp][3] == pytest.approx(old[stamp][3] / 10, rel=1e-6)
            assert new[stamp][4] == old[stamp][4] * 10
        elif stamp >= ex:
            assert interval == "1wk" or new[stamp] == old[stamp]


def test_an_action_may_be_registered_before_its_ex_date() -> None:
    """Prices are on the new basis at once; whether it is named ahead is a switch."""
    ex, seen = at("2026-11-16T14:30"), at("2026-11-16T08:00")
    world = market(Split("AAPL", date(2026, 11, 16), 4, seen_s=seen))
    now = seen + HOUR
    plain = result(world, now=now, period2=ex + DAY)
    ahead = result(world, now=now, period2=ex + DAY, quirks=Quirks(events_ahead=True))
    assert max(rows(plain)) < ex
    assert "events" not in plain
    assert list(ahead["events"]["splits"]) == [str(ex)]
    true = MARKET.bars("AAPL", "1d", START, ex, now)[-1]
    assert rows(plain)[true.t][3] == pytest.approx((true.close or 0) / 4, rel=1e-6)


def test_an_action_is_corrected_and_withdrawn() -> None:
    """A wrong ratio gives way to the right one; a mistaken split leaves no trace when gone."""
    day, ex = date(2026, 11, 10), at("2026-11-10T14:30")
    wrong, right = at("2026-11-10T14:30"), at("2026-11-11T12:00")
    world = market(
        Split("AAPL", day, 2, gone_s=right, mistaken=True),
        Split("AAPL", day, 20, seen_s=right),
        Dividend("MSFT", day, 1.0, gone_s=right),
        Dividend("MSFT", day, 2.0, seen_s=right),
    )
    ratios = [
        next(iter(result(world, now=now)["events"]["splits"].values()))["splitRatio"]
        for now in (wrong + 60, right)
    ]
    assert ratios == ["2:1", "20:1"]
    amounts = [
        next(iter(result(world, "MSFT", now=now)["events"]["dividends"].values()))["amount"]
        for now in (wrong + 60, right)
    ]
    assert amounts == [1.0, 2.0]
    closes = [values(bar)[3] for bar in world.bars("AAPL", "1d", START, ex + DAY, right)]
    assert max(closes) / min(closes) < 1.5
    gone = market(Split("AAPL", day, 2, gone_s=right, mistaken=True))
    assert gone.bars("AAPL", "1d", START, right, right) == MARKET.bars(
        "AAPL", "1d", START, right, right
    )


def test_several_small_dividends_add_up() -> None:
    """Nine of one cent each move adjclose by less than 1e-4 each and by more together."""
    days = [date(2025, month, 10) for month in range(1, 10)]
    world = market(*(Dividend("AAPL", day, 0.01) for day in days))
    start, end = at("2025-01-02T00:00"), at("2026-01-01T00:00")
    first = world.bars("AAPL", "1d", start, end, end)[0]
    true = MARKET.bars("AAPL", "1d", start, end, end)[0]
    each = [0.01 / (bar.close or 0) for bar in MARKET.bars("AAPL", "1d", start, end, end)]
    assert max(each) < 1e-4
    moved = 1 - (first.adjclose or 0) / (true.adjclose or 0)
    assert 9 * min(each) * 0.99 < moved < 9 * max(each) * 1.01
    found = result(world, period1=start, period2=end)
    assert len(found["events"]["dividends"]) == 9


def test_capital_gains_are_named_apart_and_adjusted_for() -> None:
    """They come back where they are asked for, and move adjclose as dividends do."""
    world = market(CapitalGain("VFIAX", date(2026, 11, 10), 1.5))
    found = result(world, "VFIAX")
    (gain,) = found["events"]["capitalGains"].values()
    assert gain == {"amount": 1.5, "date": at("2026-11-10T14:30")}
    assert "events" not in result(world, "VFIAX", events="div,splits")
    paid = market(Dividend("VFIAX", date(2026, 11, 10), 1.5))
    assert rows(found) == rows(result(paid, "VFIAX"))


# Rows that are not there


def test_a_stretch_is_absent_for_a_while() -> None:
    """Its rows and actions are not served, of the named intervals alone, until it heals."""
    start, end = at("2026-11-02T00:00"), at("2026-11-07T00:00")
    heals = at("2026-11-18T12:00")
    world = market(
        Absent("AAPL", start, end, heals_s=heals, intervals=frozenset({"1d", "1h"})),
        Dividend("AAPL", date(2026, 11, 4), 0.5),
        Dividend("AAPL", date(2026, 11, 11), 0.5),
    )
    torn, whole = result(world, now=heals - 1), result(world, now=heals)
    assert [t for t in rows(whole) if t not in rows(torn)] == [
        t for t in rows(whole) if start <= t < end
    ]
    assert len(torn["events"]["dividends"]) == 1
    assert len(whole["events"]["dividends"]) == 2
    assert not any(start <= t < end for t in rows(result(world, now=heals - 1, interval="60m")))
    assert any(start <= t < end for t in rows(result(world, now=heals - 1, interval="30m")))
    weeks = rows(result(world, now=heals - 1, interval="1wk"))
    assert weeks == rows(result(world, now=heals, interval="1wk", period2=heals - 1))


@pytest.mark.parametrize("interval", ["1d", "1h", "1wk"])
def test_a_whole_answer_is_empty_for_a_while(interval: str) -> None:
    """200 without `timestamp`, live row or actions, `quote: [{}]`, and meta as ever."""
    begins, heals = NOW - HOUR, NOW + HOUR
    world = market(
        Absent("AAPL", from_s=begins, heals_s=heals), Dividend("AAPL", date(2026, 11, 4), 0.5)
    )
    live = Quirks(weeks_from_period1=False)
    found = result(world, quirks=live, interval=interval)
    assert "timestamp" not in found
    assert "events" not in found
    assert found["indicators"]["quote"] == [{}]
    assert found["meta"]["regularMarketTime"] == at("2026-11-20T21:00:01")
    for now in (begins - 1, heals):
        assert rows(result(world, quirks=live, interval=interval, now=now))


def test_a_row_is_days_late() -> None:
    """No row for Tuesday until Friday noon, though `regularMarketTime` tells of its session."""
    heals = at("2026-11-20T12:00")
    world = market(MissingRow("AAPL", date(2026, 11, 17), heals_s=heals))
    evening = at("2026-11-17T22:00")
    found = result(world, now=evening, quirks=Quirks())
    assert max(rows(found)) < at("2026-11-17T00:00")
    assert found["meta"]["regularMarketTime"] == at("2026-11-17T21:00:01")
    assert at("2026-11-17T14:30") not in rows(result(world, now=heals - 1))
    assert at("2026-11-17T14:30") in rows(result(world, now=heals))


@pytest.mark.parametrize("live", [False, True])
def test_an_answer_is_cut_short_for_a_while(live: bool) -> None:
    """It keeps its first or last rows, with the actions that they reach."""
    heals = NOW + HOUR
    dividends = [Dividend("AAPL", date(2026, month, 4), 0.5) for month in (11, 10, 9)]
    quirks = Quirks(live_row=live)
    start = at("2026-09-01T00:00")
    whole = result(market(*dividends), quirks=quirks, period1=start)
    stamps = list(rows(whole).items())
    keeping: tuple[tuple[Literal["first", "last"], slice, str], ...] = (
        ("first", slice(0, 14), "2026-09-04T13:30"),
        ("last", slice(-14, None), "2026-11-04T14:30"),
    )
    for keeps, kept, ex in keeping:
        world = market(Cut("AAPL", 14, keeps, heals_s=heals), *dividends)
        found = result(world, quirks=quirks, period1=start)
        assert list(rows(found).items()) == stamps[kept]
        assert list(found["events"]["dividends"]) == [str(at(ex))]
        assert len(rows(result(world, now=heals))) > 14


@pytest.mark.parametrize("interval", ["1d", "1h", "1wk"])
def test_the_live_row_is_not_among_the_rows_of_an_answer_cut_short(interval: str) -> None:
    """It comes beside the last ones, and not where the end is cut off."""
    quirks, now = Quirks(live_in_period="included"), at("2026-11-18T18:00")
    whole = list(rows(result(market(), interval=interval, now=now, quirks=quirks)))
    own = [stamp for stamp in whole if stamp != now]
    last = Cut("AAPL", 4, "last", heals_s=NOW)
    first = Cut("AAPL", 4, "first", heals_s=NOW)
    # A live day takes the place of its row.
    kept = own[-3:] if interval == "1d" else own[-4:]
    cut = result(market(last), interval=interval, now=now, quirks=quirks)
    assert list(rows(cut)) == [*kept, now]
    cut = result(market(first), interval=interval, now=now, quirks=quirks)
    assert list(rows(cut)) == own[:4]


def test_a_longer_bar_that_is_absent_has_no_live_row() -> None:
    """What trades come in belong to a period that is not served."""
    monday, now = at("2026-11-16T05:00"), at("2026-11-18T18:00")
    world = market(Absent("AAPL", monday, monday + 1, heals_s=NOW))
    assert max(rows(result(world, interval="1wk", now=now, quirks=Quirks()))) < monday


def test_a_symbol_is_unknown_for_a_while() -> None:
    """404, of it alone, and served again afterwards."""
    world = market(Delisted("AAPL", NOW - 1, NOW + HOUR))
    assert ask(world)[0] == 404
    assert ask(world, "MSFT")[0] == 200
    assert ask(world, now=NOW + HOUR)[0] == 200
    assert world.served("AAPL", "1d", START, NOW, NOW) == []


# Corrections


def test_one_intraday_bar_is_wrong_at_first() -> None:
    """A flat bar without volume, 0.3 % off until the weekend; no other bar shows it."""
    stamp, heals = at("2026-11-18T15:00"), at("2026-11-21T10:00")
    world = market(
        Correction("EURUSD=X", "1h", stamp, heals_s=heals, close=0.997, volume=0.0, flat=True)
    )
    wrong = rows(result(world, "EURUSD=X", interval="60m", now=heals - 1))
    right = rows(result(world, "EURUSD=X", interval="1h", now=heals))
    assert [t for t in wrong if wrong[t] != right[t]] == [stamp]
    row = wrong[stamp]
    assert len({*row[:4]}) == 1
    assert row[3] == pytest.approx(right[stamp][3] * 0.997, rel=1e-6)
    for interval in ("1d", "30m", "4h"):
        true = rows(result(MARKET, "EURUSD=X", interval=interval, now=heals - 1))
        assert rows(result(world, "EURUSD=X", interval=interval, now=heals - 1)) == true


def test_any_column_of_a_daily_bar_is_corrected() -> None:
    """Each by its factor or to null, from its instant on, the live row's too."""
    stamp, seen = at("2026-11-20T14:30"), NOW - HOUR
    world = market(
        Correction("AAPL", "1d", stamp, seen, close=1.01, volume=None, adjclose=1.02, open=None)
    )
    for quirks, served_at in ((PLAIN, stamp), (Quirks(), at("2026-11-20T21:00:01"))):
        old = rows(result(world, now=seen - 1, quirks=quirks))[served_at]
        new = rows(result(world, now=seen, quirks=quirks))[served_at]
        assert new == (
            None,
            old[1],
            old[2],
            pytest.approx(old[3] * 1.01, rel=1e-6),
            None,
            pytest.approx(old[5] * 1.02, rel=1e-6),
        )


# Hosts, and the history that a test asks for


def test_hosts_are_on_different_sides_of_one_change() -> None:
    """One host shows a split and a correction a day later, and its newest bars in time."""
    seen = at("2026-11-18T13:00")
    world = MARKET.fresh()
    stamp = at("2026-11-16T14:30")
    world.add(
        Split("AAPL", date(2026, 11, 17), 2, seen_s=seen),
        Correction("AAPL", "1d", stamp, seen, volume=2.0),
        delays_s={1: float(DAY)},
    )
    now = seen + 2 * HOUR
    first, second = (result(world, now=now, edge=edge) for edge in (0, 1))
    assert "events" in first
    assert "events" not in second
    assert max(rows(first)) == max(rows(second))
    assert rows(first)[stamp][3] == pytest.approx(rows(second)[stamp][3] / 2, rel=1e-6)
    assert rows(first)[stamp][4] == rows(second)[stamp][4] * 4
    later = seen + DAY + 600
    assert rows(result(world, now=later, edge=1)) == rows(result(world, now=later - 600))
    assert world.turns("AAPL", 0, 2**40) == [seen, seen + DAY + 600]


def test_turns_are_when_anything_shows_or_ceases() -> None:
    """Every instant once, at every edge, ascending and within the bounds, both included."""
    world = market(
        Absent("AAPL", from_s=100.0, heals_s=200.0),
        Cut("AAPL", 3, from_s=200.0),
        Restatement("AAPL", date(2026, 11, 17), 5_000.0, close=1.1),
        Absent("MSFT", from_s=300.0),
    )
    assert world.turns("AAPL", 100.0, 5_000.0) == [100.0, 200.0, 700.0, 800.0, 5_000.0]
    assert world.turns("AAPL", 5_000.5, 5_599.0) == []
