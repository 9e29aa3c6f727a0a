"""An upstream that is wrong for a while: what is believed of it, and how often it is asked.

Scenes for stitching rule 6. Sessions of AAA are 14:30 to 21:00 UTC in winter.
"""

from __future__ import annotations

from pathlib import Path

from gapless.simulator.happenings import Absent, Odd
from support.scenes import reasons, scene, seconds, told


async def test_what_is_believed_lost_stays_held_session_after_session(tmp_path: Path) -> None:
    """A month that upstream lacks for a week is kept and marked, and asked for once a session."""
    async with scene(tmp_path, "2025-03-10T22:00") as world:
        start, end = "2025-01-06", "2025-02-03"
        held = told(await world.ask("2024-12-02", "2025-03-08"))
        world.market.add(
            Absent("AAA", seconds(start), seconds(end), world.clock.now_s, seconds("2025-03-17"))
        )
        world.at("2025-03-11T16:00")
        answer = await world.ask("2024-12-02", "2025-03-08")
        assert (answer.state, told(answer)) == ("stale", held)
        assert {reason for _, reason in reasons(answer)} == {"unconfirmed_loss"}
        world.at("2025-03-11T23:00")
        for day in (11, 12, 13, 14):
            world.at(f"2025-03-{day}T23:00")
            for asked in (1, 0):
                answer = await world.ask("2024-12-02", "2025-03-08")
                assert (answer.state, told(answer)) == ("ready", held)
                assert {reason for _, reason in reasons(answer)} == {"unverified"}
                assert len(world.upstream) == asked
        world.at("2025-03-17T16:00")
        answer = await world.ask("2024-12-02", "2025-03-08")
        assert (answer.state, answer.why, told(answer)) == ("ready", (), held)


async def test_a_live_row_that_comes_twice_is_one(tmp_path: Path) -> None:
    """Each row comes twice, that of today as well, which is told on its session's stamp."""
    async with scene(tmp_path, "2025-03-10T18:00") as world:
        world.market.add(Odd("AAA", repeats=2))
        answer = await world.ask("2025-03-03")
        assert (answer.state, answer.why) == ("ready", ())
        assert told(answer) == world.truth("2025-03-03")
