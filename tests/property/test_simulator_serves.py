"""What the simulated market says that it serves is what its answers hold."""

from __future__ import annotations

from datetime import date

from hypothesis import given, settings
from hypothesis import strategies as st

from gapless.simulator.happenings import (
    Absent,
    Correction,
    Cut,
    Delisted,
    Dividend,
    Happening,
    Restatement,
    Split,
)
from support.charts import (
    DAY,
    HOUR,
    NOW,
    START,
    ask,
    market,
    rows,
    values,
)

STAMPS = st.integers(START // HOUR, NOW // HOUR).map(lambda hours: float(hours * HOUR))
SPANS = st.tuples(STAMPS, STAMPS).map(sorted)
INTERVALS = st.sampled_from(["1d", "1h", "15m", "1wk"])
DAYS = st.integers(0, 20).map(lambda back: date.fromordinal(date(2026, 11, 20).toordinal() - back))


def something(symbol: str) -> st.SearchStrategy[Happening]:
    """Return anything that may happen and leaves an answer an answer to its question."""
    named = st.sampled_from([None, frozenset({"1d"}), frozenset({"1h", "15m"})])
    return st.one_of(
        st.builds(
            lambda span, shown, which: Absent(symbol, span[0], span[1], shown[0], shown[1], which),
            SPANS,
            SPANS,
            named,
        ),
        st.builds(
            lambda shown, which: Absent(symbol, from_s=shown[0], heals_s=shown[1], intervals=which),
            SPANS,
            named,
        ),
        st.builds(
            lambda n, keeps, shown: Cut(symbol, n, keeps, shown[0], shown[1]),
            st.integers(1, 9),
            st.sampled_from(["first", "last"]),
            SPANS,
        ),
        st.builds(
            lambda which, t, shown: Correction(
                symbol, which, int(t), shown[0], shown[1], close=1.5, open=None
            ),
            INTERVALS,
            STAMPS,
            SPANS,
        ),
        st.builds(lambda day, t: Split(symbol, day, 3, 2, seen_s=t), DAYS, STAMPS),
        st.builds(lambda day, t: Dividend(symbol, day, 0.4, seen_s=t), DAYS, STAMPS),
        st.builds(lambda day, t: Restatement(symbol, day, t, high=1.1), DAYS, STAMPS),
        st.builds(lambda shown: Delisted(symbol, *shown), SPANS),
    )


@settings(max_examples=150, deadline=None)
@given(data=st.data())
def test_a_plain_answer_holds_what_the_market_says_is_served(data: st.DataObject) -> None:
    """For any window, instant and edge, whatever happens; and nothing changes between turns."""
    symbol = data.draw(st.sampled_from(["AAPL", "BTC-USD", "ALL.AX", "VFIAX"]))
    world = market(*data.draw(st.lists(something(symbol), max_size=5)))
    interval, edge = data.draw(INTERVALS), data.draw(st.integers(0, 1))
    start, now = data.draw(SPANS)
    if interval == "1wk":
        # A period of which the question holds only a part is cut, and then no true bar.
        start = world.calendar(symbol).midnight(date(2026, 10, 19).toordinal())
    now += HOUR
    served = world.served(symbol, interval, start, now, now, edge)
    status, body = ask(
        world,
        symbol,
        now=now,
        edge=edge,
        period1=int(start),
        period2=int(now) - 1,
        interval=interval,
    )
    if status == 404:
        assert served == []
        return
    assert status == 200
    assert rows(body["chart"]["result"][0]) == {bar.t: values(bar) for bar in served}
    past = now - 3 * DAY
    over = past - 8 * DAY
    turns = [turn for turn in world.turns(symbol, past, now) if past < turn < now]
    for turn in [*turns, now]:
        then = world.served(symbol, interval, start, over, turn - 1e-3, edge)
        before = max((one for one in [past, *turns] if one < turn), default=past)
        assert then == world.served(symbol, interval, start, over, before, edge)
