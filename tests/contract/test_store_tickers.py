"""What every store does for a ticker: its facts, its actions, and what makes all of it due."""

from __future__ import annotations

from dataclasses import replace

import pytest

from gapless.domain.series import SeriesKey
from gapless.store.base import News, Store, Superseded, TickerState
from support.series import KEY, change, fill

SIBLING = SeriesKey(KEY.provider, KEY.ticker, (("interval", "1h"),))
ACTIONS = SeriesKey(KEY.provider, KEY.ticker, (("data", "actions"),))


async def test_facts_are_of_the_ticker(store: Store) -> None:
    """Whichever series tells them, all have them; what is not told stays, what is older is not."""
    first = News(told=100, facts={"zone": "A", "name": None, "session": {"open": "9"}})
    made = await store.apply(change(fill(0, 10, []), news=first))
    assert made.state.ticker == TickerState(dict(first.facts or {}), 100, 1)
    assert made.siblings == ()
    second = News(told=200, facts={"zone": None, "name": "N", "session": {"open": None}})
    made = await store.apply(change(fill(0, 10, []), key=SIBLING, news=second))
    facts = {"zone": "A", "name": "N", "session": {"open": "9"}}
    assert made.state.ticker == TickerState(facts, 200, 2)
    assert made.siblings == (KEY,)
    late = News(told=150, facts={"zone": "B", "name": "M", "session": {"open": "8"}})
    made = await store.apply(change(fill(10, 20, []), news=late))
    assert (made.state.ticker, made.siblings) == (TickerState(facts, 200, 2), ())
    same = News(told=300, facts=facts)
    made = await store.apply(change(fill(10, 20, []), news=same))
    assert (made.state.ticker, made.siblings) == (TickerState(facts, 300, 2), ())
    for key in (KEY, SIBLING, ACTIONS):
        assert (await store.read(key)).state.ticker == TickerState(facts, 300, 2)
    other = SeriesKey(KEY.provider, "MSFT")
    assert (await store.read(other)).state.ticker == TickerState()
    # What is known of a ticker outlives its series.
    await store.delete(KEY)
    await store.delete(SIBLING)
    assert (await store.apply(change(fill(0, 10, [])))).state.ticker.facts == facts


async def test_actions_are_changed_with_the_bars(store: Store) -> None:
    """In one transaction: where either cannot be stored, neither is."""
    actions = change(fill(0, 100, [50]), key=ACTIONS, revises=True)
    made = await store.apply(change(fill(0, 100, [10]), news=News(1, actions=actions)))
    assert made.actions is not None
    assert made.actions.state == (await store.read(ACTIONS)).state
    assert made.actions.state.version > made.state.version
    planned = replace(fill(0, 100, []), planned=())
    stale = change(planned, key=ACTIONS, revises=True)
    with pytest.raises(Superseded):
        await store.apply(change(fill(100, 200, [110]), news=News(1, actions=stale)))
    assert [state.key for state in await store.all_series()] == [KEY, ACTIONS]
    assert (await store.read(KEY)).state == made.state


async def test_all_of_a_ticker_becomes_due_at_once(store: Store) -> None:
    """Its series, its actions and what is fetched of it later for the first time; no other's."""
    other = SeriesKey(KEY.provider, "MSFT")
    for key in (KEY, SIBLING, ACTIONS, other):
        await store.apply(change(fill(0, 100, [10]), key=key, revises=True))
    made = await store.apply(change(fill(100, 200, [110]), revises=True, news=News(1, due=True)))
    assert made.state.due_before == made.state.version == 5
    assert set(made.siblings) == {SIBLING, ACTIONS}
    due = {
        key: [row.commit < snapshot.state.due_before for row in snapshot.state.coverage]
        for key in (KEY, SIBLING, ACTIONS, other)
        for snapshot in [await store.read(key)]
    }
    assert due == {KEY: [True, False], SIBLING: [True], ACTIONS: [True], other: [False]}
    made = await store.apply(change(fill(0, 100, [20]), key=SIBLING, revises=True))
    assert made.state.due_before == 5 < made.state.coverage[0].commit


async def test_what_was_planned_before_more_became_due_is_not_stored(store: Store) -> None:
    """By the series itself, or by another one of its ticker: what came may be as old."""
    await store.apply(change(fill(0, 100, [10])))
    await store.apply(change(fill(200, 300, [210]), planned_due=0))
    await store.apply(change(fill(0, 100, [10]), key=SIBLING, news=News(1, due=True)))
    with pytest.raises(Superseded, match="became due"):
        await store.apply(change(fill(100, 200, [110]), planned_due=0))
    made = await store.apply(change(fill(100, 200, [110]), planned_due=3))
    assert made.state.due_before == 3
