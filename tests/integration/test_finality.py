"""Finality along days: which hour has a bar fetched again, and which answers from what is held.

Scenes for stitching rule 3. Sessions of AAA are 13:30 to 20:00 UTC in summer; 11 June 2025 is a
Wednesday. A daily bar is final 24 hours after its session's close.
"""

from __future__ import annotations

import asyncio
from pathlib import Path

import pytest

from gapless.hub.answers import Answer
from gapless.hub.entities import Listing
from gapless.instants import format_instant
from gapless.protocol.messages import GetEntity, ProviderRequest
from gapless.simulator.faults import server_error
from gapless.simulator.quirks import Quirks
from support.scenes import Scene, ms, parts, said, scene, told

START = "2025-06-02"
PRE_OPEN = "2025-06-11T13:00"


async def held_until(world: Scene, due: str, interval: str = "1d", start: str = START) -> None:
    """Ask up to now a second before `due`: all is held; and at `due`: it is not any more."""
    world.at(due)
    world.wait(-1)
    answer = await world.ask(start, interval=interval)
    assert world.upstream == []
    assert answer.state == "ready"
    assert answer.refresh_after == ms(due), said(answer.refresh_after or 0)
    assert [*parts(answer)] == ["cached"], "the tail covers up to now"
    world.at(due)


async def all_true(world: Scene, interval: str = "1d", start: str = START) -> None:
    """Ask up to now and hold the answer against upstream."""
    answer = await world.ask(start, interval=interval)
    assert answer.state == "ready"
    assert told(answer) == world.truth(start, interval=interval)


@pytest.mark.parametrize("quirks", [Quirks(), Quirks(live_duplicate=True, live_past_period2=True)])
async def test_a_day_of_a_forming_bar(tmp_path: Path, quirks: Quirks) -> None:
    """From before the open until the next day's: each time it is due, exactly one request."""
    async with scene(tmp_path, PRE_OPEN, quirks=quirks) as world:
        await all_true(world)
        assert world.upstream == ["gap 2025-06-02..2025-06-11T13:00"]

        # The next thing that can happen is the open. All that is final is taken along, up to ten.
        await held_until(world, "2025-06-11T13:30")
        world.wait(60)
        await all_true(world)
        assert world.upstream == ["gap 2025-06-02T13:30..2025-06-11T13:31"]

        # A quarter of an hour later all that is held is due, and the forming bar comes with it.
        world.at("2025-06-11T13:44:59")
        await world.ask(START)
        assert world.upstream == []
        world.wait(1)
        await all_true(world)
        assert world.upstream == ["gap 2025-06-02..2025-06-11T13:45"]

        # While the session is open, a quarter of an hour at a time.
        await held_until(world, "2025-06-11T14:00")
        await all_true(world)
        assert world.upstream == ["gap 2025-06-02T13:30..2025-06-11T14:00"]

        # Nobody asked for hours: that alone makes no request.
        world.at("2025-06-11T19:59")
        await all_true(world)
        assert world.upstream == ["gap 2025-06-02T13:30..2025-06-11T19:59"]

        # Late trades come in for half an hour; Tuesday has become final at the close.
        await held_until(world, "2025-06-11T20:14")
        await all_true(world)
        assert world.upstream == ["gap 2025-06-02T13:30..2025-06-11T20:14"]
        await held_until(world, "2025-06-11T20:29")
        await all_true(world)
        assert world.upstream == ["gap 2025-06-02T13:30..2025-06-11T20:29"]
        await held_until(world, "2025-06-11T20:44")
        await all_true(world)
        assert world.upstream == ["gap 2025-06-02T13:30..2025-06-11T20:44"]

        # Then nothing before the next open.
        await held_until(world, "2025-06-12T13:30")
        world.wait(1)
        await all_true(world)
        assert world.upstream == ["gap 2025-06-02T13:30..2025-06-12T13:30:01"]


async def test_a_forming_bar_stays_as_it_was_until_it_is_due(tmp_path: Path) -> None:
    """What is not due is answered as it was fetched, and says until when."""
    async with scene(tmp_path, "2025-06-11T15:00") as world:
        before = await world.ask(START)
        assert told(before) == world.truth(START)
        world.wait(899)
        again = await world.ask(START)
        assert world.upstream == []
        assert told(again) == told(before) != world.truth(START)
        assert again.refresh_after == before.refresh_after == ms("2025-06-11T15:15")
        world.wait(1)
        # A full hit until a moment ago, by the same words.
        assert world.hub.held(world.hub.question(world.request(START))) is None
        await all_true(world)
        assert world.upstream == ["gap 2025-06-02T13:30..2025-06-11T15:15"]


async def test_a_weekend_is_asked_for_once(tmp_path: Path) -> None:
    """Friday is final on Saturday evening; after that nothing is due before Monday's open."""
    async with scene(tmp_path, "2025-06-13T21:00") as world:
        await all_true(world)
        await held_until(world, "2025-06-14T20:00")
        await all_true(world)
        assert world.upstream == ["gap 2025-06-02T13:30..2025-06-14T20:00"]
        for hour in ("2025-06-14T23:00", "2025-06-15T12:00", "2025-06-16T04:00"):
            world.at(hour)
            await all_true(world)
            assert world.upstream == []
        await held_until(world, "2025-06-16T13:30")
        world.wait(60)
        await all_true(world)
        assert world.upstream == ["gap 2025-06-02T13:30..2025-06-16T13:31"]


async def test_a_day_is_final_after_a_day(tmp_path: Path) -> None:
    """One day, asked until its bar stands for good; then it is asked for once a session alone."""
    async with scene(tmp_path, "2025-06-11T21:00") as world:
        day = ("2025-06-11", "2025-06-12")
        await world.ask(*day)
        assert world.upstream == ["gap 2025-06-11..2025-06-11T21:00"]
        world.at("2025-06-12T14:00")
        answer = await world.ask(*day)
        # What is before midnight in New York was final from the beginning, but is due as well.
        assert world.upstream == ["gap 2025-06-11..2025-06-12"]
        assert answer.refresh_after == ms("2025-06-12T14:15")
        world.at("2025-06-12T19:59:59")
        answer = await world.ask(*day)
        assert world.upstream == ["check 2025-06-11T04:00..2025-06-12"]
        assert answer.refresh_after == ms("2025-06-12T20:14:59")
        world.at("2025-06-12T20:15")
        answer = await world.ask(*day)
        assert world.upstream == ["check 2025-06-11T04:00..2025-06-12"]
        assert answer.refresh_after is None
        assert told(answer) == world.truth(*day)
        world.at("2025-06-13T13:00")
        await world.ask(*day)
        assert world.upstream == []
        # It is looked at again, once a session.
        world.at("2025-07-13T13:00")
        answer = await world.ask(*day)
        assert world.upstream == ["check 2025-06-11..2025-06-12"]
        assert parts(answer) == {"cached": ["2025-06-11..2025-06-12"]}


async def test_what_lies_ahead_is_neither_fetched_nor_missing(tmp_path: Path) -> None:
    """A range that ends in the future ends now."""
    async with scene(tmp_path, "2025-06-11T15:00") as world:
        answer = await world.ask(START, "2025-07-01")
        assert world.upstream == ["gap 2025-06-02..2025-06-11T15:00"]
        assert parts(answer) == {"fetched": ["2025-06-02..2025-06-11T15:00"]}
        world.wait(300)
        answer = await world.ask(START, "2025-07-01")
        assert parts(answer) == {"cached": ["2025-06-02..2025-06-11T15:05"]}
        answer = await world.ask("2025-06-20", "2025-07-01")
        assert (answer.state, told(answer), parts(answer)) == ("ready", [], {})


async def test_a_tail_covers_only_what_is_asked_up_to_now(tmp_path: Path) -> None:
    """A tail under another range's end is no tail: what came after it is a gap."""
    async with scene(tmp_path, "2025-06-11T15:00") as world:
        await world.ask(START, "2025-06-11")
        answer = await world.ask(START)
        # Tuesday is not final; what is before it tells of the past.
        assert world.upstream == ["gap 2025-06-02T13:30..2025-06-11T15:00"]
        assert told(answer) == world.truth(START)


@pytest.mark.parametrize("interval", ["15m", "1h"])
async def test_an_intraday_bar_is_final_half_an_hour_after_it(
    tmp_path: Path, interval: str
) -> None:
    """Due each minute while the session is open; what is over for half an hour is not fetched."""
    # Ten bars that have been over for half an hour.
    first = {"15m": "2025-06-11T13:45", "1h": "2025-06-09T19:30"}[interval]
    async with scene(tmp_path, "2025-06-11T16:45") as world:
        await all_true(world, interval)
        await held_until(world, "2025-06-11T16:46", interval)
        await all_true(world, interval)
        assert world.upstream == [f"gap {first}..2025-06-11T16:46"]
        # After the close: once the last bars are final, and then not before the next open.
        world.at("2025-06-11T21:00")
        await all_true(world, interval)
        assert len(world.upstream) == 1
        await held_until(world, "2025-06-12T13:30", interval)


@pytest.mark.parametrize("interval", ["1wk", "1mo"])
async def test_a_longer_bar_is_final_when_its_period_is(tmp_path: Path, interval: str) -> None:
    """The bar of a period under way is provisional, the one before it is not once settled."""
    async with scene(
        tmp_path, "2025-06-11T15:00", quirks=Quirks(live_in_period="included")
    ) as world:
        await all_true(world, interval, "2025-01-01")
        await held_until(world, "2025-06-11T15:15", interval, "2025-01-01")
        await all_true(world, interval, "2025-01-01")
        assert len(world.upstream) == 1
        answer = await world.ask("2025-01-01", "2025-06-01", interval)
        assert world.upstream == []
        assert answer.refresh_after is None


async def test_a_view_of_what_is_due_is_stale(tmp_path: Path) -> None:
    """A view is told as it is held, and never passes for what a search would bring."""
    async with scene(tmp_path, "2025-06-11T15:00") as world:
        answer = await world.ask(START, "2025-06-11T15:00")
        id = f"{answer.key.text}:{format_instant(answer.asked.start)}"
        id += f"..{format_instant(answer.asked.end)}"
        by_id = ProviderRequest("yahoo_finance", GetEntity(id))
        for at, state in (("2025-06-11T15:10", "ready"), ("2025-06-12T15:00", "stale")):
            world.at(at)
            world.asked.clear()
            listing = await world.hub.answer(world.hub.question(by_id))
            assert isinstance(listing, Listing)
            (view,) = listing.entities
            assert isinstance(view, Answer)
            assert world.upstream == []
            assert (view.state, told(view)) == (state, told(answer))


async def test_a_tail_that_had_to_wait_is_a_tail(tmp_path: Path) -> None:
    """Two ask a cold series at once; the second waits, and what it then brings is up to now."""
    async with scene(tmp_path, "2025-06-11T15:00") as world:
        world.sim.faults.fail_next(server_error(502), 2)
        early, late = world.request("2024-01-01", "2024-06-01"), world.request(START)
        await asyncio.gather(
            world.hub.answer(world.hub.question(early)), world.hub.answer(world.hub.question(late))
        )
        world.wait(5)
        answer = await world.ask(START)
        assert world.upstream == []
        assert answer.state == "ready"


async def test_the_running_week_is_as_far_as_its_latest_trade(tmp_path: Path) -> None:
    """Upstream's week lacks Friday over the weekend, and Friday's live row lies beside it."""
    async with scene(tmp_path, "2025-06-06T20:45") as world:
        (whole,) = world.truth("2025-06-02", "2025-06-07", "1wk")
        days = world.truth("2025-06-02", "2025-06-07")
        for at in ("2025-06-06T20:45", "2025-06-07T12:00"):
            world.at(at)
            answer = await world.ask("2025-05-12", interval="1wk")
            week = told(answer)[-1]
            prices = ("timestamp", "open", "high", "low", "close", "adjclose")
            assert [week[name] for name in prices] == [whole[name] for name in prices]
            # Whether the day is in it cannot be told, so that nothing is added.
            assert week["volume"] == sum(day["volume"] for day in days[:-1])
        world.at("2025-06-09T13:00")
        answer = await world.ask("2025-05-12", interval="1wk")
        assert told(answer) == world.truth("2025-05-12", interval="1wk")
