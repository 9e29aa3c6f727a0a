"""What upstream no longer serves: never dropped, kept as it was told, and marked.

Scenes for the stitching rules 12 and 15. Bars of a quarter or half of an hour are served for 60
days, and an hour less is asked for.
"""

from __future__ import annotations

from datetime import date
from pathlib import Path

import pytest

from gapless.simulator.happenings import Restatement, Split
from support.scenes import REJECTED, parts, reasons, scene, seconds, told

SPLIT = Split("AAA", date(2025, 8, 5), 3)
GONE = ("2025-06-02", "2025-06-07", "15m")


async def test_a_bar_that_was_wrong_for_a_while_rescales_nothing(tmp_path: Path) -> None:
    """A correction of one bar is no basis: what is beyond the window stays as upstream told it."""
    async with scene(tmp_path, "2025-05-22T18:00") as world:
        wrong = Restatement("AAA", date(2025, 5, 21), seconds("2025-05-24T12:00"), close=1.003)
        world.market.add(wrong)
        held = await world.ask("2025-04-07", "2025-05-22", "30m")
        world.at("2025-06-12T15:00")
        answer = await world.ask("2025-04-07", "2025-05-22", "30m")
        assert world.upstream == ["check 2025-04-13T16:00..2025-05-22"]
        assert answer.state == "ready"
        assert reasons(answer) == [("2025-04-07..2025-04-13T16:00", "unverified")]
        assert parts(answer) == {"cached": ["2025-04-07..2025-05-22"]}
        kept = len(world.truth("2025-04-07", "2025-04-13T16:00", "30m"))
        assert told(answer)[:kept] == told(held)[:kept]
        served = world.truth("2025-04-13T16:00", "2025-05-22", "30m")
        assert told(answer)[kept:] == served != told(held)[kept:]


async def test_bars_that_nothing_can_vouch_for_are_kept_and_marked(tmp_path: Path) -> None:
    """No bar that is held is served any more, so that it cannot be known whether they changed."""
    async with scene(tmp_path, "2025-06-08T12:00") as world:
        world.market.add(SPLIT)
        held = await world.ask(*GONE)
        assert held.why == ()
        world.at("2025-08-15T12:00")
        answer = await world.ask("2025-08-11", "2025-08-13", "15m")
        assert world.upstream == ["gap 2025-08-11..2025-08-13"]
        assert (answer.state, answer.why) == ("ready", ())
        for _ in range(2):
            old = await world.ask(*GONE)
            assert world.upstream == []
            assert old.state == "ready"
            assert reasons(old) == [("2025-06-02..2025-06-07", "unverified")]
            assert parts(old) == {"cached": ["2025-06-02..2025-06-07"]}
            assert told(old) == told(held)


async def test_what_was_checked_in_this_session_is_not_marked_yet(tmp_path: Path) -> None:
    """It has left the window since, and is as it was served after the latest opening."""
    async with scene(tmp_path, "2025-08-04T14:00") as world:
        await world.ask("2025-06-05T15:30", "2025-06-07", "15m")
        world.at("2025-08-04T19:00")
        answer = await world.ask("2025-06-05T15:30", "2025-06-07", "15m")
        assert (answer.state, answer.why, answer.requests) == ("ready", (), 0)
        world.at("2025-08-05T14:00")
        answer = await world.ask("2025-06-05T15:30", "2025-06-07", "15m")
        assert reasons(answer) == [("2025-06-05T15:30..2025-06-06T15:00", "unverified")]


@pytest.mark.parametrize("fails", [False, True])
async def test_what_is_half_out_of_window_is_fetched_and_marked(
    tmp_path: Path, fails: bool
) -> None:
    """One stretch across the edge of the window: what is served is right, the rest not hidden."""
    async with scene(tmp_path, "2025-06-25T12:00") as world:
        world.market.add(SPLIT)
        asked = ("2025-06-02", "2025-06-21", "15m")
        held = await world.ask(*asked)
        world.at("2025-08-08T12:00")
        if fails:
            world.sim.faults.fail_always(
                REJECTED, when=lambda one: one.period2 == seconds("2025-06-21")
            )
            answer = await world.ask(*asked)
            assert answer.state == "stale"
            assert reasons(answer) == [
                ("2025-06-02..2025-06-09T13:00", "unverified"),
                ("2025-06-09T13:00..2025-06-21", "upstream_rejected"),
            ]
            assert told(answer) == told(held)
            world.sim.faults.clear()
            world.wait(60)
        answer = await world.ask(*asked)
        edge = "2025-06-09T13:01" if fails else "2025-06-09T13:00"
        assert world.upstream == [f"check {edge}..2025-06-21"]
        assert answer.state == "ready"
        assert reasons(answer) == [(f"2025-06-02..{edge}", "unverified")]
        assert parts(answer) == {"cached": ["2025-06-02..2025-06-21"]}
        kept = len(world.truth("2025-06-02", "2025-06-09T13:00", "15m"))
        assert told(answer)[:kept] == told(held)[:kept]
        assert told(answer)[kept:] == world.truth("2025-06-09T13:00", "2025-06-21", "15m")


async def test_a_range_partly_out_of_window_is_partial(tmp_path: Path) -> None:
    """What upstream still serves is fetched; what it does not is missing, with that reason."""
    async with scene(tmp_path, "2025-08-15T12:00") as world:
        answer = await world.ask("2025-06-02", "2025-06-21", "15m")
        assert world.upstream == ["gap 2025-06-16T13:00..2025-06-21"]
        assert answer.state == "partial"
        assert parts(answer) == {
            "fetched": ["2025-06-16T13:00..2025-06-21"],
            "missing": ["2025-06-02..2025-06-16T13:00"],
        }
        assert reasons(answer) == [("2025-06-02..2025-06-16T13:00", "out_of_window")]
        assert told(answer) == world.truth("2025-06-16T13:00", "2025-06-21", "15m")
        again = await world.ask("2025-06-02", "2025-06-21", "15m")
        assert world.upstream == []
        assert again.state == "partial"


async def test_a_range_wholly_out_of_window_is_an_error(tmp_path: Path) -> None:
    """Nothing is asked, for it is known that upstream would refuse."""
    async with scene(tmp_path, "2025-08-15T12:00") as world:
        error = await world.refused("2025-06-02", "2025-06-07", interval="15m")
        assert error.reason == "out_of_window"
        assert world.sim.requests == []
        assert await world.known("15m") == ()
