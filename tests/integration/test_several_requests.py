"""A range that takes several requests, some of whose answers lack rows: one plan, one past.

Each piece is stored as it comes, so that the next one can be compared with it; what it lacks is
decided when all have come (stitching rules 6, 11 and 13).
"""

from __future__ import annotations

from datetime import date
from pathlib import Path
from typing import Any

import pytest

from gapless.simulator.faults import server_error
from gapless.simulator.happenings import Absent, MissingRow, Split
from gapless.simulator.instruments import equity
from support.scenes import reasons, scene, seconds, told

ASKED = ("2025-02-17", "2025-03-08", "1m")
# At this pace the second piece is asked two seconds after the first.
SLOW: dict[str, Any] = {"rate": 0.5, "burst": 1}


@pytest.mark.parametrize("lacking", [(), ("2025-02-18T15:00",), ("2025-02-21T20:59",)])
async def test_a_split_between_two_pieces_shows_though_a_bar_is_lacking(
    tmp_path: Path, lacking: tuple[str, ...]
) -> None:
    """All minutes are from one side of it, whichever bar of the first piece was withdrawn."""
    async with scene(tmp_path, "2025-03-10T22:00", **SLOW) as world:
        await world.ask(*ASKED)
        morning = seconds("2025-03-11T10:00")
        for time in lacking:
            stamp = int(seconds(time))
            world.market.add(MissingRow("AAA", stamp_s=stamp, from_s=morning))
        registered = seconds("2025-03-11T16:00:01")
        world.market.add(Split("AAA", date(2025, 3, 11), 2, seen_s=registered))
        world.at("2025-03-11T16:00")
        answer = await world.ask(*ASKED)
        assert (answer.state, answer.why) == ("ready", ())
        assert told(answer) == world.truth(*ASKED)


async def test_a_split_between_two_pieces_shows_after_holidays(tmp_path: Path) -> None:
    """A first fetch that begins with days without trade is compared piece by piece as well."""
    holidays = frozenset(date(2025, 2, day) for day in (17, 18, 19))
    async with scene(tmp_path, "2025-03-11T16:00", **SLOW) as world:
        world.market.enlist(equity("AAA", first_trade=date(2023, 1, 3), holidays=holidays))
        registered = seconds("2025-03-11T16:00:01")
        world.market.add(Split("AAA", date(2025, 3, 11), 2, seen_s=registered))
        answer = await world.ask(*ASKED)
        assert (answer.state, told(answer)) == ("ready", world.truth(*ASKED))


@pytest.mark.parametrize("count", [1, 2, 3])
async def test_bars_lost_where_two_pieces_meet_are_counted_once(tmp_path: Path, count: int) -> None:
    """Two go at once, three are in doubt: those that both pieces should have had, too."""
    async with scene(tmp_path, "2025-03-10T22:00") as world:
        held = told(await world.ask(*ASKED))
        await world.anew(*ASKED)
        world.wait(60)
        # Where the second piece begins, the first one ended.
        meeting = [one["timestamp"] for one in held if one["timestamp"] < seconds("2025-02-22")]
        for stamp in meeting[-count:]:
            world.market.add(MissingRow("AAA", stamp_s=stamp, from_s=world.clock.now_s))
        answer = await world.anew(*ASKED)
        if count < 3:
            assert (answer.state, told(answer)) == ("ready", world.truth(*ASKED))
        else:
            assert (answer.state, told(answer)) == ("stale", held)
            assert {reason for _, reason in reasons(answer)} == {"unconfirmed_loss"}


@pytest.mark.parametrize("lacking", [(), ("2025-02-18T15:00",)])
async def test_a_piece_that_failed_leaves_what_came_before_it(
    tmp_path: Path, lacking: tuple[str, ...]
) -> None:
    """What the others brought is not asked for again; what they lack is, for it was not decided."""
    async with scene(tmp_path, "2025-03-10T22:00") as world:
        await world.ask(*ASKED)
        world.at("2025-03-11T16:00")
        for time in lacking:
            world.market.add(MissingRow("AAA", stamp_s=int(seconds(time))))
        third = seconds("2025-03-01")
        world.sim.faults.fail_always(
            server_error(502), when=lambda query: (query.period2 or 0) > third
        )
        answer = await world.ask(*ASKED)
        assert answer.state == "stale"
        undecided = {f"{time}..{time[:-1]}1" for time in lacking}
        missing = {"2025-02-28T20:59..2025-03-08", *undecided}
        assert {span for span, _ in reasons(answer)} == missing
        world.sim.faults.clear()
        world.wait(3600)
        answer = await world.ask(*ASKED)
        assert len(world.upstream) == 2 + len(lacking)
        assert (answer.state, told(answer)) == ("ready", world.truth(*ASKED))


async def test_bars_lost_on_both_sides_of_a_night_are_decided_once(tmp_path: Path) -> None:
    """What one piece stored between two lost bars of the next one is no reason to begin anew."""
    async with scene(tmp_path, "2025-03-10T22:00") as world:
        asked = ("2025-02-18", "2025-03-08", "1m")
        await world.ask(*asked)
        world.at("2025-03-10T23:00")
        for time in ("02-18T14:30", "02-24T20:59", "02-25T14:30", "02-27T15:00"):
            world.market.add(MissingRow("AAA", stamp_s=int(seconds(f"2025-{time}"))))
        assert (await world.anew(*asked)).state == "stale"
        world.at("2025-03-11T05:30")
        answer = await world.ask(*asked)
        assert len(world.upstream) == 2
        assert (answer.state, told(answer)) == ("ready", world.truth(*asked))


@pytest.mark.parametrize("fails", [False, True])
async def test_what_was_lost_together_does_not_go_week_by_week(tmp_path: Path, fails: bool) -> None:
    """Three weeks of minutes, believed to be lost by a part of them: all of them are kept."""
    async with scene(tmp_path, "2025-03-10T22:00") as world:
        held = told(await world.ask(*ASKED))
        world.market.add(Absent("AAA", from_s=world.clock.now_s, heals_s=seconds("2025-03-12")))
        world.at("2025-03-11T15:00")
        assert (await world.ask(*ASKED)).state == "stale"
        world.at("2025-03-11T21:30")
        if fails:
            second = seconds("2025-02-25")
            world.sim.faults.fail_always(
                server_error(502), when=lambda query: (query.period2 or 0) > second
            )
            await world.ask(*ASKED)
        else:
            for start, end in (("02-17", "02-22"), ("02-24", "03-01"), ("03-03", "03-08")):
                await world.anew(f"2025-{start}", f"2025-{end}", "1m")
        assert told(await world.held(*ASKED)) == held


async def test_emptiness_is_not_counted_over_what_did_not_fail(tmp_path: Path) -> None:
    """Two weeks without rows, and a failure after them: that is not all that was asked for."""
    async with scene(tmp_path, "2025-06-30T20:00") as world:
        asked = ("2025-06-02", "2025-06-28", "1m")
        world.market.add(Absent("AAA", heals_s=seconds("2025-06-30T22:00")))
        third = seconds("2025-06-16T00:00:01")
        world.sim.faults.fail_always(
            server_error(502), when=lambda query: (query.period2 or 0) > third
        )
        await world.refused(*asked[:2], interval="1m")
        world.sim.faults.clear()
        world.wait(3700)
        assert (await world.refused(*asked[:2], interval="1m")).reason == "unconfirmed_empty"
        world.wait(10_800)
        answer = await world.ask(*asked)
        assert (answer.state, told(answer)) == ("ready", world.truth(*asked))


async def test_of_pieces_that_differ_more_than_two_lost_bars_are_in_doubt(tmp_path: Path) -> None:
    """Two are lost of each, with another price beside them: nothing of it is believed."""
    async with scene(tmp_path, "2025-03-10T22:00") as world:
        held = told(await world.ask(*ASKED))
        world.at("2025-03-11T16:00")
        for day in ("02-18", "02-19", "02-25", "02-26", "03-04", "03-05"):
            world.market.add(MissingRow("AAA", stamp_s=int(seconds(f"2025-{day}T16:00"))))
        world.market.add(Split("AAA", date(2025, 3, 11), 2, seen_s=seconds("2025-03-11T10:00")))
        answer = await world.ask(*ASKED)
        assert (answer.state, told(answer)) == ("stale", held)
        assert "unconfirmed_loss" in {reason for _, reason in reasons(answer)}


async def test_a_doubt_ends_where_nothing_is_served_any_more(tmp_path: Path) -> None:
    """Minutes that were in doubt when they left upstream's reach are unverified, as others are."""
    async with scene(tmp_path, "2025-03-10T22:00") as world:
        held = told(await world.ask("2025-02-17", "2025-02-22", "1m"))
        begin, heals = seconds("2025-03-11T15:00"), seconds("2025-03-11T16:30")
        world.market.add(Absent("AAA", from_s=begin, heals_s=heals))
        world.at("2025-03-11T16:00")
        assert (await world.ask("2025-02-17", "2025-02-22", "1m")).state == "stale"
        world.at("2025-05-20T16:00")
        answer = await world.ask("2025-02-17", "2025-02-22", "1m")
        assert (world.upstream, answer.state, told(answer)) == ([], "ready", held)
        assert {reason for _, reason in reasons(answer)} == {"unverified"}


async def test_a_split_shows_under_other_stamps(tmp_path: Path) -> None:
    """An exchange opens at another hour, and in the same session a split is registered."""
    async with scene(tmp_path, "2025-03-10T22:00") as world:
        await world.ask("2024-12-02", "2025-02-01")
        world.wait(600)
        opens = equity("AAA", first_trade=date(2023, 1, 3), hours=(36_000, 57_600))
        world.market.enlist(opens)
        registered = seconds("2025-03-10T22:05")
        world.market.add(Split("AAA", date(2025, 3, 11), 2, seen_s=registered))
        answer = await world.ask("2024-12-02", "2025-03-08")
        assert answer.state == "ready"
        assert told(answer) == world.truth("2024-12-02", "2025-03-08")
