"""Actions that upstream tells late, wrongly, in part or not at all, and what is kept of the rest.

Scenes for the stitching rules 6, 11, 12 and 21 under an upstream, and people, as they are.
"""

from __future__ import annotations

import asyncio
from dataclasses import replace
from datetime import date
from pathlib import Path

import pytest

from gapless.domain.intervals import Interval
from gapless.errors import OutOfWindow
from gapless.hub.answers import Answer
from gapless.simulator.faults import hang
from gapless.simulator.happenings import Absent, CapitalGain, Delisted, Dividend, Odd, Split
from support.scenes import Scene, ms, reasons, scene, seconds, told
from support.stores import store_of

SPLIT = Split("AAA", date(2025, 8, 5), 4, 1, seen_s=seconds("2025-08-05T13:30"))
SPRING = ("2025-01-02", "2025-05-30")
# Held, and out of reach by September.
EARLY = ("2025-05-05", "2025-05-10", "15m")
RECENT = ("2025-08-04", "2025-08-07", "15m")
SEPTEMBER = "2025-09-10T15:00"


async def closes(world: Scene) -> list[float]:
    """Return the closes of what is out of reach."""
    return [row["close"] for row in told(await world.ask(*EARLY))]


async def facts(world: Scene) -> dict[str, object]:
    """Return what is known of AAA."""
    key = world.hub.registry.get("yahoo_finance").key("AAA", {})
    return dict((await store_of(world.hub).read(key)).state.ticker.facts)


@pytest.mark.parametrize("how", ["delete", "prune"])
async def test_what_is_forgotten_meanwhile_is_not_rescaled(tmp_path: Path, how: str) -> None:
    """The answer that names the split was under way: nothing is claimed of what is gone."""
    async with scene(tmp_path, "2025-06-02T12:00") as world:
        world.market.add(SPLIT)
        await world.ask(*EARLY)
        world.at(SEPTEMBER)
        await world.ask("2025-09-09", "2025-09-09T18:00", "15m")
        world.sim.faults.fail_next(hang())
        asking = asyncio.create_task(world.ask(*RECENT))
        await world.sim.reach(lambda: any(one.fault for one in world.sim.requests))
        key = world.hub.registry.get("yahoo_finance").key("AAA", {"interval": "15m"})
        if how == "delete":
            await world.hub.holdings.delete(key, Interval(ms("2025-05-01"), ms("2025-05-20")))
        else:
            await world.hub.holdings.prune(ms("2025-07-01"))
        world.sim.release()
        assert told(await asking) == world.truth(*RECENT)
        with pytest.raises(OutOfWindow):
            await world.ask(*EARLY)


async def test_what_is_believed_lost_is_not_rescaled(tmp_path: Path) -> None:
    """When it was served last is not when it was asked for last; it may come back, and it does."""
    gone = Absent(
        "AAA",
        from_s=seconds("2025-06-03T14:00"),
        end_s=seconds("2025-03-01"),
        heals_s=seconds("2025-08-20"),
    )
    async with scene(tmp_path, "2025-06-02T12:00") as world:
        world.market.add(gone, replace(SPLIT, ex_date=date(2025, 7, 7), seen_s=None))
        before = told(await world.ask("2025-01-02", "2025-02-01"))
        await world.ask(*SPRING)
        for day in ("06-03", "06-04", "07-08", "07-25", "08-15"):
            world.at(f"2025-{day}T15:00")
            answer = await world.ask("2025-01-02", "2025-02-01")
            assert told(answer) == before, day
        assert {reason for _, reason in reasons(answer)} == {"unverified"}
        world.at("2025-08-25T15:00")
        assert told(await world.ask(*SPRING)) == world.truth(*SPRING)


async def test_what_is_in_doubt_is_so_of_actions_too(tmp_path: Path) -> None:
    """An answer without rows that are held is not believed of the actions, nor asked for again."""
    gone = Absent("AAA", from_s=seconds("2025-06-03T14:00"), end_s=seconds("2025-06-01"))
    paid = Dividend("AAA", date(2025, 3, 14), 0.5)
    async with scene(tmp_path, "2025-06-02T12:00") as world:
        world.market.add(gone, paid)
        await world.ask(*SPRING)
        world.at("2025-06-03T14:30")
        for requests in (1, 0, 0):
            answer = await world.actions(*SPRING)
            assert (answer.state, answer.requests) == ("stale", requests)
            assert [row["dividend"] for row in told(answer)] == [0.5]
            assert {reason for _, reason in reasons(answer)} == {"unconfirmed_loss"}


async def test_an_ex_date_that_is_corrected_counts_once(tmp_path: Path) -> None:
    """Whoever names the new date first: bars out of reach are as after one split."""
    until = seconds("2025-09-10T20:00")
    moved = replace(SPLIT, ex_date=date(2025, 8, 6), seen_s=until)
    async with scene(tmp_path, "2025-06-02T12:00") as world:
        world.market.add(replace(SPLIT, gone_s=until, mistaken=True), moved)
        before = await closes(world)
        world.at(SEPTEMBER)
        for day in ("2025-09-10T15:00", "2025-09-11T15:00", "2025-09-12T15:00"):
            world.at(day)
            await world.ask("2025-07-20", "", "1d")
            await world.ask("2025-08-01", "2025-08-10", "15m")
            assert await closes(world) == [close / 4 for close in before]
            await world.ask("2025-08-01", "2025-08-10", "30m")


async def test_forgetting_actions_undoes_no_rescaling(tmp_path: Path) -> None:
    """What is not known any more was not taken back by upstream."""
    async with scene(tmp_path, "2025-06-02T12:00") as world:
        world.market.add(SPLIT)
        before = await closes(world)
        world.at(SEPTEMBER)
        await world.ask(*RECENT)
        assert await closes(world) == [close / 4 for close in before]
        actions = world.hub.registry.get("yahoo_finance").key("AAA", {"data": "actions"})
        await world.hub.holdings.delete(actions)
        world.at("2025-09-11T15:00")
        await world.ask("2025-09-01", "2025-09-10", "15m")
        await world.ask(*RECENT)
        assert await closes(world) == [close / 4 for close in before]


async def test_a_split_that_is_taken_back_is_undone(tmp_path: Path) -> None:
    """Daily bars tell so, as far as they are held from when it was fetched until now."""
    mistaken = replace(SPLIT, mistaken=True, gone_s=seconds("2025-09-10T20:00"))
    async with scene(tmp_path, "2025-06-02T12:00") as world:
        world.market.add(mistaken)
        before = await closes(world)
        world.at(SEPTEMBER)
        await world.ask("2025-06-01")
        await world.ask(*RECENT)
        assert await closes(world) == [close / 4 for close in before]
        world.at("2025-09-11T15:00")
        await world.ask("2025-06-01")
        await world.ask(*RECENT)
        assert await closes(world) == before


async def test_who_waits_is_not_charged_with_the_changes_of_others(tmp_path: Path) -> None:
    """A split seen by one request, by its price and by its name, fails nobody and is no cliff."""
    late = replace(SPLIT, ex_date=date(2025, 3, 19), seen_s=seconds("2025-03-20T15:00"))
    asked = [
        ("2025-01-02", "2025-03-20"),
        ("2024-06-03", "2024-06-20"),
        ("2024-10-03", "2024-10-20"),
    ]
    async with scene(tmp_path, "2025-03-20T14:30") as world:
        world.market.add(late)
        await world.ask("2025-03-03", "2025-03-20")
        await world.ask("2025-03-12", "2025-03-20", "1h")
        world.at("2025-03-20T15:10")
        answers = await asyncio.gather(
            *(world.hub.answer(world.hub.question(world.request(*one, "1h"))) for one in asked)
        )
        for span, answer in zip(asked, answers, strict=True):
            assert isinstance(answer, Answer)
            assert answer.state == "ready"
            assert told(answer) == world.truth(*span, "1h")


async def test_a_month_that_names_a_day_in_part_makes_nothing_due(tmp_path: Path) -> None:
    """It has one of each kind, whatever there was; days have all, and are believed."""
    happened = (
        Dividend("AAA", date(2025, 3, 14), 0.5),
        CapitalGain("AAA", date(2025, 3, 14), 0.2),
        Dividend("AAA", date(2025, 3, 28), 0.7),
    )
    async with scene(tmp_path, "2025-06-02T14:50") as world:
        world.market.add(*happened)
        for interval in ("1d", "1h", "1mo", "3mo"):
            await world.ask("2025-01-01", "2025-06-01", interval)
        for interval in ("1d", "1h", "1mo", "3mo", "1d"):
            await world.ask("2025-01-01", "2025-06-01", interval)
            assert world.upstream == [], interval
        amounts = [
            (row["dividend"], row["capital_gain"]) for row in told(await world.actions(*SPRING))
        ]
        assert amounts == [(0.5, 0.2), (0.7, None)]


async def test_before_the_first_trade_nothing_was_paid(tmp_path: Path) -> None:
    """That is known after one request, as it is of prices."""
    async with scene(tmp_path, "2025-06-02T12:00") as world:
        for requests in (1, 0):
            answer = await world.actions("2022-01-01", "2022-12-01")
            assert (answer.state, told(answer), answer.requests) == ("ready", [], requests)


async def test_actions_of_a_ticker_that_upstream_knows_no_more(tmp_path: Path) -> None:
    """They are kept, and marked, as the prices are; nobody is asked each time."""
    async with scene(tmp_path, "2025-06-02T12:00") as world:
        paid = Dividend("AAA", date(2025, 3, 14), 0.5)
        world.market.add(paid, Delisted("AAA", from_s=seconds("2025-06-03T14:00")))
        await world.ask(*SPRING)
        for day in ("2025-06-03T14:30", "2025-06-04T14:30"):
            world.at(day)
            await world.ask(*SPRING)
        for at in ("2025-06-05T02:00", "2025-06-05T08:00"):
            world.at(at)
            answer = await world.actions(*SPRING)
            assert (answer.state, len(told(answer)), world.upstream) == ("ready", 1, [])
            assert {reason for _, reason in reasons(answer)} == {"unverified"}


async def test_a_wrong_clock_does_not_freeze_the_facts(tmp_path: Path) -> None:
    """What was told by a clock that was years ahead is replaced by what is told next."""
    async with scene(tmp_path, "2025-06-02T12:00") as world:
        real = world.clock.now_s
        world.clock.now_s = seconds("2030-06-02T12:00")
        world.ahead_s = real - world.clock.now_s
        await world.ask("2025-05-01", "2025-05-20")
        world.clock.now_s, world.ahead_s = real, 0.0
        world.market.add(Odd("AAA", meta=(("longName", b'"Renamed Inc."'),), from_s=real))
        world.at("2025-06-03T15:00")
        await world.ask("2025-05-01", "2025-06-02")
        assert (await facts(world))["name"] == "Renamed Inc."


async def test_a_second_split_rescales_what_the_first_did_not(tmp_path: Path) -> None:
    """Each is applied once: what was divided by four is divided by two more."""
    async with scene(tmp_path, "2025-06-02T12:00") as world:
        world.market.add(SPLIT)
        before = [row["close"] for row in told(await world.ask(*EARLY))]
        world.at(SEPTEMBER)
        await world.ask(*RECENT)
        assert await closes(world) == pytest.approx([one / 4 for one in before])
        seen_s = seconds("2025-10-07T13:30")
        world.market.add(Split("AAA", date(2025, 10, 7), 2, 1, seen_s=seen_s))
        world.at("2025-10-15T15:00")
        await world.ask("2025-10-06", "2025-10-09", "15m")
        assert await closes(world) == pytest.approx([one / 8 for one in before])
