"""The simulated market is one consistent world: parts add up, adjustment is exact."""

from __future__ import annotations

from datetime import UTC, date, datetime
from fractions import Fraction
from itertools import pairwise

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from gapless.errors import InvalidQuery, NotFound, Unsupported
from gapless.simulator.book import Bar, float32
from gapless.simulator.happenings import Dividend, MissingRow, NullRow, Restatement, Split
from gapless.simulator.instruments import coin, currency_pair, equity
from gapless.simulator.market import Market
from gapless.simulator.prices import GivenSeries, RandomWalk, Row
from gapless.simulator.view import INTRADAY, aggregate

WALK = RandomWalk(3)
INSTRUMENTS = [
    equity("AAPL"),
    equity("BHP.AX", tz="Australia/Sydney", hours=(36_000, 57_600), currency="AUD"),
    currency_pair("EURUSD=X"),
    coin("BTC-USD"),
]
MARKET = Market(INSTRUMENTS, prices=WALK)
DAY = 86_400


def at(text: str) -> float:
    """Return the UTC seconds of `YYYY-MM-DDTHH:MM`."""
    return datetime.fromisoformat(text).replace(tzinfo=UTC).timestamp()


def market() -> Market:
    """Return a market of four kinds of instruments to which nothing has happened."""
    return MARKET.fresh()


def whole(bar: Bar) -> tuple[float | int | None, ...]:
    """Return what parts and whole have in common."""
    return bar.open, bar.high, bar.low, bar.close, bar.volume


@settings(max_examples=60, deadline=None)
@given(
    symbol=st.sampled_from([one.symbol for one in INSTRUMENTS]),
    interval=st.sampled_from(sorted(INTRADAY)),
    minute=st.integers(0, 14 * 24 * 60),
)
def test_a_daily_bar_is_the_sum_of_its_parts(symbol: str, interval: str, minute: int) -> None:
    """At any instant, forming or final, a day's intraday bars aggregate to its daily bar."""
    now = at("2026-03-01T00:00") + minute * 60 + 7
    days = MARKET.bars(symbol, "1d", now - 5 * DAY, now, now)
    parts = MARKET.bars(symbol, interval, days[0].t, now, now)
    starts = [day.t for day in days] + [int(now) + 1]
    for day, following in zip(days, starts[1:], strict=True):
        inside = [bar for bar in parts if day.t <= bar.t < following]
        assert whole(aggregate(day.t, inside)) == whole(day)


@pytest.mark.parametrize("interval", ["1wk", "1mo", "3mo"])
@pytest.mark.parametrize("symbol", [one.symbol for one in INSTRUMENTS])
def test_a_period_is_the_sum_of_its_days(symbol: str, interval: str) -> None:
    """Weeks, months and quarters aggregate their daily bars, the forming one included."""
    now = at("2026-11-18T17:10")
    start = at("2025-12-31T12:00")
    periods = MARKET.bars(symbol, interval, start, now, now)
    days = MARKET.bars(symbol, "1d", periods[0].t, now, now)
    ends = [bar.t for bar in periods[1:]] + [int(now)]
    for period, end in zip(periods, ends, strict=True):
        inside = [bar for bar in days if period.t <= bar.t < end]
        assert aggregate(period.t, inside) == period


@pytest.mark.parametrize(
    ("symbol", "interval", "when", "stamp"),
    [
        ("AAPL", "1d", "2026-07-01T12:00", "2026-07-01T13:30"),
        ("AAPL", "1d", "2026-12-01T12:00", "2026-12-01T14:30"),
        ("EURUSD=X", "1d", "2026-06-30T20:00", "2026-06-30T23:00"),
        ("BHP.AX", "1d", "2026-12-01T20:00", "2026-12-01T23:00"),
        ("BTC-USD", "1d", "2026-12-01T00:00", "2026-12-01T00:00"),
        ("AAPL", "1wk", "2026-07-06T00:00", "2026-07-06T04:00"),
        ("AAPL", "1mo", "2026-12-01T00:00", "2026-12-01T05:00"),
        ("AAPL", "3mo", "2026-10-01T00:00", "2026-10-01T04:00"),
    ],
)
def test_stamps(symbol: str, interval: str, when: str, stamp: str) -> None:
    """Days are stamped at the local open or midnight, longer bars at local midnight."""
    now = at("2027-01-10T00:00")
    assert MARKET.bars(symbol, interval, at(when), now, now)[0].t == at(stamp)


def test_bounds_are_half_open_and_nothing_lies_ahead() -> None:
    """A bar is in `[start, end)` by its stamp, and not there before its stamp is past."""
    opened = at("2026-07-01T13:30")
    assert [bar.t for bar in MARKET.bars("AAPL", "1d", opened, opened + 1, opened + 60)] == [opened]
    assert MARKET.bars("AAPL", "1d", opened - DAY + 1, opened, opened + 60) == []
    assert MARKET.bars("AAPL", "1d", opened, opened + DAY, opened) == []


def test_the_forming_bar_moves_and_then_stands() -> None:
    """Volume grows and the range widens while the session is open; then nothing changes."""
    opened = int(at("2026-07-01T13:30"))
    seen = [
        MARKET.bars("AAPL", "1d", opened, opened + 1, opened + 600 * n)[0] for n in range(1, 40)
    ]
    for one, later in pairwise(seen):
        assert (one.volume or 0) < (later.volume or 0)
        assert (one.high or 0) <= (later.high or 0)
    done = MARKET.bars("AAPL", "1d", opened, opened + 1, opened + 390 * 60)
    assert done == MARKET.bars("AAPL", "1d", opened, opened + 1, opened + 400 * DAY)


def test_equal_seeds_make_equal_markets() -> None:
    """The walk depends on seed and symbol alone."""
    now = at("2026-07-01T20:30")
    args = ("AAPL", "1d", now - 9 * DAY, now, now)
    assert Market(INSTRUMENTS, prices=RandomWalk(3)).bars(*args) == MARKET.bars(*args)
    assert Market(INSTRUMENTS, prices=RandomWalk(4)).bars(*args) != MARKET.bars(*args)


def test_a_split_rewrites_everything_before_it() -> None:
    """20:1 as in AMZN's: from its instant on, earlier prices are / 20 and volumes x 20."""
    world = market()
    world.add(Split("AAPL", date(2026, 6, 8), 20))
    ex = at("2026-06-08T13:30")
    before = world.bars("AAPL", "1d", ex - 30 * DAY, ex, ex - 1)
    after = world.bars("AAPL", "1d", ex - 30 * DAY, ex, ex)
    assert len(before) == len(after) > 15
    for old, new in zip(before, after, strict=True):
        assert new.close == pytest.approx((old.close or 0) / 20, rel=1e-6)
        assert new.volume == (old.volume or 0) * 20
        assert new.adjclose == pytest.approx((old.adjclose or 0) / 20, rel=1e-6)
    joined = world.bars("AAPL", "1d", ex - 5 * DAY, ex + 5 * DAY, ex + 9 * DAY)
    closes = [bar.close for bar in joined if bar.close is not None]
    assert max(closes) / min(closes) < 1.5


def test_a_split_that_upstream_shows_late_leaves_a_cliff() -> None:
    """Between ex-date and `seen_s` new rows are in new shares and old rows in old ones."""
    world = market()
    ex = at("2026-06-08T13:30")
    world.add(Split("AAPL", date(2026, 6, 8), 3, 2, seen_s=ex + 3 * DAY))
    cliff = world.bars("AAPL", "1d", ex - 5 * DAY, ex + DAY, ex + 2 * DAY)
    mended = world.bars("AAPL", "1d", ex - 5 * DAY, ex + DAY, ex + 3 * DAY)
    assert cliff[-1] == mended[-1]
    assert cliff[0].close == pytest.approx(mended[0].close and mended[0].close * 1.5, rel=1e-6)


def test_intraday_follows_splits_exactly() -> None:
    """After an uneven split the minutes still add up to the day."""
    world = market()
    world.add(Split("AAPL", date(2026, 6, 8), 3, 2))
    now = at("2026-06-20T00:00")
    day = world.bars("AAPL", "1d", at("2026-06-02T00:00"), at("2026-06-03T00:00"), now)[0]
    parts = world.bars("AAPL", "5m", at("2026-06-02T00:00"), at("2026-06-03T00:00"), now)
    assert whole(aggregate(day.t, parts)) == whole(day)
    assert all(bar.adjclose is None for bar in parts)


def test_a_dividend_moves_only_adjclose_by_one_factor() -> None:
    """The factor is 1 - D / close of the day before the ex-date."""
    world = market()
    world.add(Dividend("AAPL", date(2026, 8, 10), 0.56))
    ex = at("2026-08-10T13:30")
    before = world.bars("AAPL", "1d", ex - 60 * DAY, ex, ex - 1)
    after = world.bars("AAPL", "1d", ex - 60 * DAY, ex, ex)
    last = before[-1].close
    assert last is not None
    for old, new in zip(before, after, strict=True):
        assert whole(old) == whole(new)
        assert old.adjclose is not None
        assert new.adjclose == pytest.approx(old.adjclose * (1 - 0.56 / last), rel=3e-7)
    assert world.bars("AAPL", "1d", ex, ex + 1, ex + DAY)[0].adjclose == pytest.approx(
        world.bars("AAPL", "1d", ex, ex + 1, ex + DAY)[0].close
    )


def test_a_dividend_factor_outlives_a_later_split() -> None:
    """The factor is in the shares of its day; the event's amount is shown in today's."""
    world = market()
    world.add(Dividend("AAPL", date(2026, 8, 10), 1.0))
    start, now = at("2026-07-01T00:00"), at("2026-08-11T00:00")
    before = world.bars("AAPL", "1d", start, now, now)[0]
    world.add(Split("AAPL", date(2026, 9, 1), 4))
    later = at("2026-09-02T00:00")
    after = world.bars("AAPL", "1d", start, now, later)[0]
    factor = (before.adjclose or 0) / (before.close or 1)
    assert factor < 1
    assert after.adjclose == pytest.approx(factor * (after.close or 0), rel=1e-6)
    assert [amount for _, what, amount in world.events("AAPL", later)] == [0.25, 0.0]
    assert [amount for _, what, amount in world.events("AAPL", now)] == [1.0]


def test_a_restated_day_shows_in_every_bar_that_contains_it() -> None:
    """From its instant on, and only there."""
    world = market()
    seen = at("2026-07-20T09:00")
    world.add(Restatement("AAPL", date(2026, 7, 9), seen, close=1.01, volume=2.0))
    start, end = at("2026-07-06T00:00"), at("2026-07-12T00:00")
    old = world.bars("AAPL", "1d", start, end, seen - 1)
    new = world.bars("AAPL", "1d", start, end, seen)
    changed = [n for n, (a, b) in enumerate(zip(old, new, strict=True)) if a != b]
    assert changed == [3]
    assert new[3].volume == (old[3].volume or 0) * 2
    assert new[3].close == pytest.approx((old[3].close or 0) * 1.01, rel=1e-6)
    weeks = [world.bars("AAPL", "1wk", start, end, when)[0] for when in (seen - 1, seen)]
    assert (weeks[1].volume or 0) - (weeks[0].volume or 0) == old[3].volume
    day = world.bars("AAPL", "30m", new[3].t, new[3].t + DAY // 2, seen)
    assert whole(aggregate(new[3].t, day)) == whole(new[3])


def test_null_and_missing_rows_heal() -> None:
    """Daily holes by day, intraday ones by stamp; a partly null row keeps its volume."""
    world = market()
    heals = at("2026-07-20T00:00")
    world.add(
        NullRow("AAPL", date(2026, 7, 7), heals_s=heals),
        NullRow("AAPL", date(2026, 7, 8), heals_s=heals, partly=True),
        MissingRow("AAPL", date(2026, 7, 9), from_s=heals - DAY, heals_s=heals),
        NullRow("AAPL", stamp_s=int(at("2026-07-10T15:15"))),
        MissingRow("AAPL", stamp_s=int(at("2026-07-10T15:17"))),
    )
    start, end = at("2026-07-06T00:00"), at("2026-07-11T00:00")
    good = MARKET.bars("AAPL", "1d", start, end, heals)
    assert world.bars("AAPL", "1d", start, end, heals) == good
    torn = world.bars("AAPL", "1d", start, end, heals - 1)
    assert torn == [
        good[0],
        Bar(good[1].t, None, None, None, None, None, None),
        Bar(good[2].t, None, None, None, None, good[2].volume, None),
        good[4],
    ]
    assert len(world.bars("AAPL", "1d", start, end, heals - DAY - 1)) == 5
    minutes = world.bars("AAPL", "1m", at("2026-07-10T15:14"), at("2026-07-10T15:19"), heals)
    assert [(int(bar.t - at("2026-07-10T15:14")) // 60, bar.close is None) for bar in minutes] == [
        (0, False),
        (1, True),
        (2, False),
        (4, False),
    ]


def test_edges_lag() -> None:
    """A lagging host shows the world as it was: no newer bars, no newer splits."""
    world = Market(INSTRUMENTS, prices=WALK, edge_lags_s=(0.0, 3600.0))
    ex = at("2026-06-08T13:30")
    world.add(Split("AAPL", date(2026, 6, 8), 2))
    args = ("AAPL", "1d", ex - 9 * DAY, ex + DAY)
    assert world.bars(*args, ex + 1800, edge=1) == world.bars(*args, ex - 1800)
    assert world.bars(*args, ex + 1800, edge=1) != world.bars(*args, ex + 1800)


def test_a_fresh_market_has_no_past() -> None:
    """It has the same prices and none of the happenings; what happens to it stays in it."""
    world = market()
    world.add(Split("AAPL", date(2026, 6, 8), 2))
    now = at("2026-07-01T00:00")
    args = ("AAPL", "1h", now - 60 * DAY, now, now)
    assert world.fresh().bars(*args) == MARKET.bars(*args) != world.bars(*args)


def test_a_series_handed_in_is_served_as_given() -> None:
    """Its days are the sessions; a split leaves its rows as printed unless told otherwise."""
    rows = {
        date(2020, 8, 28): Row(500.0, 510.0, 495.0, 499.0, 1_000),
        date(2020, 8, 31): Row(125.0, 131.0, 124.0, 129.0, 5_000),
    }
    world = Market([equity("AAPL")], series={"AAPL": GivenSeries(rows)})
    world.add(Split("AAPL", date(2020, 8, 31), 4))
    start, now = at("2020-08-01T00:00"), at("2020-09-05T00:00")
    assert [whole(bar) for bar in world.bars("AAPL", "1d", start, now, now)] == [
        (125.0, 127.5, 123.75, 124.75, 4_000),
        (125.0, 131.0, 124.0, 129.0, 5_000),
    ]
    assert len(world.bars("AAPL", "1m", start, now, now)) == 780
    world.enlist(equity("AAPL"), GivenSeries(rows, continuous=True))
    world.add(Split("AAPL", date(2020, 8, 31), 4))
    assert world.bars("AAPL", "1d", start, now, now)[1].close == 129.0 / 4
    with pytest.raises(InvalidQuery):
        GivenSeries({})


def test_single_precision_can_be_turned_off() -> None:
    """With it every price survives a round trip through 32 bits; without, few do."""
    now = at("2026-07-01T00:00")
    args = ("AAPL", "1d", now - 30 * DAY, now, now)
    assert all(bar.close == float32(bar.close or 0.0) for bar in MARKET.bars(*args))
    exact = Market(INSTRUMENTS, prices=WALK, float32=False).bars(*args)
    assert all(bar.close == round(bar.close or 0.0, 2) for bar in exact)


def test_unknown_symbols_and_intervals_are_refused() -> None:
    """By name, with errors of the one tree."""
    with pytest.raises(NotFound, match="NOPE"):
        MARKET.bars("NOPE", "1d", 0, 1, 2)
    with pytest.raises(NotFound):
        MARKET.add(Split("NOPE", date(2026, 1, 1), 2))
    with pytest.raises(Unsupported, match="5d"):
        MARKET.bars("AAPL", "5d", 0, 1, 2)
    world = market()
    world.delist("AAPL")
    assert world.instrument("AAPL") is None
    assert "AAPL" not in world.symbols


def test_ratio_of_a_split_is_exact() -> None:
    """Uneven splits lose nothing."""
    assert Split("AAPL", date(2026, 1, 1), 3, 2).ratio == Fraction(3, 2)
