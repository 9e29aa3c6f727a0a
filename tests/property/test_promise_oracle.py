"""The oracle of the promise asks no more than can be had, whatever upstream does."""

from __future__ import annotations

from datetime import UTC, date, datetime

import pytest
from hypothesis import Phase, event, given, settings
from hypothesis import strategies as st

from gapless.simulator.happenings import (
    Absent,
    Cut,
    Delisted,
    Dividend,
    Happening,
    MissingRow,
    NullRow,
    Odd,
    Restatement,
    Split,
)
from gapless.simulator.instruments import coin, currency_pair, equity, fund
from gapless.simulator.market import Market
from gapless.simulator.prices import RandomWalk
from support.extent import EXTENT, SOAK, share
from support.promise import Promise
from support.reference import Reference, changed
from support.told import Told

HOUR, DAY = 3600, 86_400
MARKET = Market(
    [
        equity("AAA", first_trade=date(2024, 1, 2), holidays=frozenset({date(2025, 4, 18)})),
        equity("BHP.AX", tz="Australia/Sydney", hours=(10 * HOUR, 16 * HOUR)),
        currency_pair("EURUSD=X"),
        coin("BTC-USD"),
        fund("VFIAX"),
    ],
    prices=RandomWalk(7),
    edge_lags_s=(0.0, 600.0),
)
EVENING = int(datetime(2025, 3, 12, 22, 0, tzinfo=UTC).timestamp())


def _midnight(day: date) -> float:
    return datetime(day.year, day.month, day.day, tzinfo=UTC).timestamp()


def anything(symbol: str, start_s: int, end_s: int) -> st.SearchStrategy[Happening]:
    """Return anything that may happen to a symbol, from one instant until another."""
    instants = st.integers(start_s // HOUR, end_s // HOUR).map(lambda hours: float(hours * HOUR))
    shown = st.tuples(instants, instants).map(sorted)
    days = st.integers(-40, 30).map(
        lambda days: date.fromordinal(date(2025, 3, 12).toordinal() + days)
    )
    stamps = st.tuples(days, days).map(lambda both: sorted(_midnight(one) for one in both))
    return st.one_of(
        st.builds(lambda day, s: Split(symbol, day, 3, 2, seen_s=s), days, instants),
        st.builds(
            lambda day, s: Split(symbol, day, 2, seen_s=s[0], gone_s=s[1], mistaken=True),
            days,
            shown,
        ),
        st.builds(lambda day, s: Dividend(symbol, day, 0.7, seen_s=s), days, instants),
        st.builds(lambda day, s: Restatement(symbol, day, s, close=1.01), days, instants),
        st.builds(lambda day, s: NullRow(symbol, day, from_s=s[0], heals_s=s[1]), days, shown),
        st.builds(lambda day, s: MissingRow(symbol, day, from_s=s[0], heals_s=s[1]), days, shown),
        st.builds(lambda span, s: Absent(symbol, span[0], span[1], s[0], s[1]), stamps, shown),
        st.builds(lambda s: Absent(symbol, from_s=s[0], heals_s=s[1]), shown),
        st.builds(
            lambda rows, keeps, s: Cut(symbol, rows, keeps, s[0], s[1]),
            st.integers(1, 60),
            st.sampled_from(["first", "last"]),
            shown,
        ),
        st.builds(lambda s: Delisted(symbol, s[0], s[1]), shown),
        st.builds(
            lambda word, s: Odd(symbol, s[0], s[1], stamps=word),
            st.sampled_from(["outside", "one", "reversed"]),
            shown,
        ),
        st.builds(lambda s: Odd(symbol, s[0], s[1], values=(("close", b'"n/a"'),)), shown),
        st.builds(lambda s: Odd(symbol, s[0], s[1], lacks=frozenset({"open"})), shown),
    )


# Making a failure small takes minutes, which a run that only wants to know has not.
@settings(
    max_examples=share(20, of=60, soak=20_000),
    deadline=None,
    phases=[Phase.generate],
    # The same histories each time, as those that hold the hub; soaking draws others.
    derandomize=EXTENT != SOAK,
)
@given(data=st.data())
def test_an_honest_cache_passes_whatever_happens(data: st.DataObject) -> None:
    """Weeks of anything at all, from either host; and no value of a ready answer may be another."""
    symbol = data.draw(st.sampled_from(["AAA", "BHP.AX", "EURUSD=X", "BTC-USD", "VFIAX"]))
    interval = data.draw(st.sampled_from(["1d", "1d", "1h", "15m"]))
    market = MARKET.fresh()
    happenings = data.draw(st.lists(anything(symbol, EVENING, EVENING + 30 * DAY), max_size=6))
    for one in happenings:
        market.add(one, delays_s=data.draw(st.sampled_from([None, {1: 2.0 * DAY}])))
    cache = Reference(market, symbol, interval)
    promise = Promise(market, cache.log)
    now = EVENING
    for _ in range(data.draw(st.integers(2, 9))):
        begin = EVENING - data.draw(st.sampled_from([12, 40])) * DAY
        told = cache.ask(begin, now, now, data.draw(st.integers(0, 1)))
        promise.check(told)
        event(told.state)
        if told.state == "ready" and told.records:
            stamp = data.draw(st.sampled_from(list(told.records)))
            for wrong in (_one_value_off(told, stamp), _one_record_more(told, stamp)):
                with pytest.raises(AssertionError, match=r"point [1245]"):
                    promise.check(wrong)
        now += data.draw(st.sampled_from([600, HOUR, 7 * HOUR, DAY, 3 * DAY, 9 * DAY]))


def _one_value_off(told: Told, stamp: int) -> Told:
    columns = told.records[stamp]
    wrong = (1.0, *columns[1:]) if columns[0] is None else (columns[0] * 1.0002, *columns[1:])
    return changed(told, {**told.records, stamp: wrong})


def _one_record_more(told: Told, stamp: int) -> Told:
    return changed(told, {**told.records, stamp + 1000: told.records[stamp]})
