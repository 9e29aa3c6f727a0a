"""An upstream that has nothing for a while, or answers what was not asked.

Rows come later than their session, or all at once an hour later, or on other days; and the hub's
own clock is days ahead. Sessions of AAA are 13:30 to 20:00 UTC in summer.
"""

from __future__ import annotations

from datetime import date
from pathlib import Path
from typing import Any, Literal

import pytest

from gapless.errors import ProviderError
from gapless.hub.answers import Answer
from gapless.simulator.happenings import Absent, MissingRow, Odd
from gapless.simulator.instruments import fund
from support.scenes import Scene, scene, seconds, told

HOUR_S, DAY_S = 3600, 86_400


async def test_an_hour_without_rows_is_no_history_without_bars(tmp_path: Path) -> None:
    """A share that trades since 2023 is answered for an hour as if it never had: not `ready`."""
    async with scene(tmp_path, "2025-03-10T15:00") as world:
        world.market.add(Absent("AAA", heals_s=seconds("2025-03-10T16:00")))
        for start, end in (("2024-01-01", "2025-01-01"), ("2025-02-08", "")):
            assert await answered(world, start, end) != "ready"
        for s in (HOUR_S, 2 * DAY_S, 60 * DAY_S):
            world.wait(s)
            for start, end in (("2024-01-01", "2025-01-01"), ("2025-02-08", "")):
                answer = await world.ask(start, end)
                assert (answer.state, told(answer)) == ("ready", world.truth(start, end))


async def test_a_row_that_comes_three_days_late(tmp_path: Path) -> None:
    """Tuesday's bar is there on Friday, when it is asked for every evening."""
    late = MissingRow("AAA", date(2026, 7, 28), heals_s=seconds("2026-07-31T12:00"))
    async with scene(tmp_path, "2026-07-27T21:00") as world:
        world.market.add(late)
        for day in ("27", "28", "29", "30", "31"):
            world.at(f"2026-07-{day}T21:00")
            answer = await world.ask("2026-06-01")
        assert (answer.state, told(answer)) == ("ready", world.truth("2026-06-01"))
        assert [one["timestamp"] for one in told(answer)][-4] == seconds("2026-07-28T13:30")
        world.at("2026-11-20T21:00")
        asked = ("2026-06-01", "2026-08-01")
        assert told(await world.ask(*asked)) == world.truth(*asked)


async def test_a_fund_whose_price_comes_in_the_evening(tmp_path: Path) -> None:
    """Published at 20:05, it is told at half past eight; Friday's on Saturday."""
    async with scene(tmp_path, "2025-06-11T21:00") as world:
        world.market.enlist(fund("FUND"))
        # Local time is four hours earlier.
        for time, there in (
            ("2025-06-11T21:00", False),
            ("2025-06-12T00:30", True),
            ("2025-06-12T03:00", True),
            ("2025-06-13T21:00", False),
            ("2025-06-14T15:00", True),
            ("2025-06-15T15:00", True),
        ):
            world.at(time)
            answer = await world.ask("2025-05-01", ticker="FUND")
            assert told(answer) == world.truth("2025-05-01", ticker="FUND")
            last = 11 if time < "2025-06-12T12" else 13
            opening = seconds(f"2025-06-{last}T13:30")
            assert (told(answer)[-1]["timestamp"] == opening) is there, time


@pytest.mark.parametrize("stamps", ["outside", "one", "reversed"])
async def test_rows_that_were_not_asked_for_are_no_answer(
    tmp_path: Path, stamps: Literal["outside", "one", "reversed"]
) -> None:
    """Stamped before the range, all alike, or backwards: the fetch fails, the gap stays open."""
    async with scene(tmp_path, "2025-06-11T21:00") as world:
        world.market.add(Odd("AAA", heals_s=seconds("2025-06-11T21:30"), stamps=stamps))
        assert await answered(world, "2025-04-01", "2025-06-01") != "ready"
        world.at("2025-06-11T22:00")
        answer = await world.ask("2025-04-01", "2025-06-01")
        assert (answer.state, told(answer)) == ("ready", world.truth("2025-04-01", "2025-06-01"))


async def test_a_clock_that_was_five_days_ahead_for_one_request(tmp_path: Path) -> None:
    """What upstream has not seen yet is not known to be empty: its clock counts."""
    async with scene(tmp_path, "2025-06-11T15:00") as world:
        ahead: dict[str, Any] = {"start": "2025-06-09", "interval": "15m"}
        world.clock.now_s += 5 * DAY_S
        world.ahead_s = -5 * DAY_S
        await world.ask(**ahead)
        world.clock.now_s -= 5 * DAY_S
        world.ahead_s = 0
        world.at("2025-06-17T15:00")
        answer = await world.ask("2025-06-13", "2025-06-14", "15m")
        assert (answer.state, len(told(answer))) == ("ready", 26)
        assert told(answer) == world.truth("2025-06-13", "2025-06-14", "15m")


async def answered(world: Scene, start: str, end: str) -> str:
    """Ask for a range; return the state of the answer, or the reason for which there is none."""
    try:
        answer: Answer = await world.ask(start, end)
    except ProviderError as error:
        return error.reason or error.code
    return answer.state
