"""An upstream that is late: what it registers days after its date is answered once it is due.

Each of these was answered wrongly, and as `ready`, by a hub that looked at single bars. Sessions of
AAA are 13:30 to 20:00 UTC in summer and 14:30 to 21:00 in winter.
"""

from __future__ import annotations

from datetime import date, timedelta
from itertools import pairwise
from pathlib import Path
from typing import Any

import pytest

from gapless.simulator.happenings import Dividend, Restatement, Split
from support.scenes import Scene, scene, seconds, told


def weekdays(first: str, last: str) -> list[str]:
    """Return the days from Monday to Friday between two, both included."""
    start, end = date.fromisoformat(first), date.fromisoformat(last)
    days = (start + timedelta(days=one) for one in range((end - start).days + 1))
    return [day.isoformat() for day in days if day.weekday() < 5]


async def right(
    world: Scene, start: str, end: str = "", interval: str = "1d"
) -> list[dict[str, Any]]:
    """Ask, hold the answer against all that upstream serves, and return its records."""
    answer = await world.ask(start, end, interval)
    assert (answer.state, answer.why) == ("ready", ())
    found = told(answer)
    assert found == world.truth(start, end, interval)
    return found


async def test_a_split_that_is_registered_two_days_late(tmp_path: Path) -> None:
    """Asked every evening, the whole past is on the new basis from the day it is in the data."""
    async with scene(tmp_path, "2026-05-25T21:00") as world:
        late = seconds("2026-06-11T13:30")
        world.market.add(Split("AAA", date(2026, 6, 9), 10, seen_s=late))
        oldest: dict[str, float] = {}
        for day in weekdays("2026-05-25", "2026-06-26"):
            world.at(f"{day}T21:00")
            oldest[day] = (await right(world, "2025-06-01"))[0]["close"]
            assert len(world.upstream) == 1, "one request a session for all of it"
        assert oldest["2026-06-11"] == pytest.approx(oldest["2026-06-10"] / 10)


async def test_a_dividend_that_is_entered_three_days_late(tmp_path: Path) -> None:
    """Every adjclose before it follows, of a range that ended before its date as well."""
    async with scene(tmp_path, "2025-06-09T21:00") as world:
        late = seconds("2025-06-13T10:00")
        world.market.add(Dividend("AAA", date(2025, 6, 10), 1.5, seen_s=late))
        before = await right(world, "2025-01-02", "2025-06-01")
        for day in weekdays("2025-06-10", "2025-06-13"):
            world.at(f"{day}T21:00")
            await right(world, "2025-05-01")
        after = await right(world, "2025-01-02", "2025-06-01")
        assert world.upstream == [], "the evening's one request has brought it"
        assert after[0]["adjclose"] < before[0]["adjclose"]
        assert after[0]["close"] == before[0]["close"]


async def test_hourly_bars_of_a_split_that_is_entered_three_hours_late(tmp_path: Path) -> None:
    """The bars of before are right by the next session, though all that was new had agreed."""
    async with scene(tmp_path, "2025-06-09T21:00") as world:
        late = seconds("2025-06-10T16:30")
        world.market.add(Split("AAA", date(2025, 6, 10), 4, seen_s=late))
        await right(world, "2025-05-12", interval="1h")
        for time in ("14:45", "15:45", "16:15"):
            world.at(f"2025-06-10T{time}")
            await right(world, "2025-05-12", interval="1h")
        old = await right(world, "2025-05-12", "2025-06-01", "1h")
        world.at("2025-06-11T14:45")
        new = await right(world, "2025-05-12", interval="1h")
        assert new[0]["close"] == pytest.approx(old[0]["close"] / 4)


@pytest.mark.parametrize(
    ("start", "end"),
    [("2025-06-02", "2025-06-21"), ("2025-06-10", "2025-06-13"), ("2025-06-02", "")],
    ids=["whole", "part", "growing"],
)
async def test_a_bar_in_the_middle_that_is_corrected_days_later(
    tmp_path: Path, start: str, end: str
) -> None:
    """Its neighbours agree, so that nothing but having it again tells."""
    async with scene(tmp_path, "2025-06-23T21:00") as world:
        seen = seconds("2025-06-26T12:00")
        world.market.add(
            Restatement("AAA", date(2025, 6, 12), seen, close=1.01, volume=1.3, high=1.02)
        )
        await right(world, "2025-06-02", "2025-06-21")
        held = await right(world, "2025-06-10", "2025-06-13")
        for day in ("2025-06-26", "2025-07-10", "2025-11-20"):
            world.at(f"{day}T21:00")
            await right(world, start, end)
            assert len(world.upstream) == 1
        assert (await right(world, "2025-06-10", "2025-06-13"))[2]["close"] > held[2]["close"]


async def test_many_dividends_too_small_to_be_seen_one_by_one(tmp_path: Path) -> None:
    """Nine factors of less than the tolerance add up, and what came is what is stored."""
    async with scene(tmp_path, "2025-01-10T21:00") as world:
        close = world.truth("2025-01-09", "2025-01-10")[0]["close"]
        exes = [f"2025-{month:02}-12" for month in range(2, 11)]
        exes = [day if day in weekdays(day, day) else _monday_after(day) for day in exes]
        world.market.add(*(Dividend("AAA", date.fromisoformat(day), close * 5e-5) for day in exes))
        adjusted = [(await right(world, "2024-01-02", "2025-01-01"))[0]["adjclose"]]
        for day in exes:
            world.at(f"{day}T21:00")
            adjusted.append((await right(world, "2024-01-02", "2025-01-01"))[0]["adjclose"])
        steps = [1 - after / before for before, after in pairwise(adjusted)]
        assert all(0 < step < 1e-4 for step in steps)
        assert 1 - adjusted[-1] / adjusted[0] > 3e-4


def _monday_after(day: str) -> str:
    found = date.fromisoformat(day)
    return (found + timedelta(days=7 - found.weekday())).isoformat()


async def test_a_split_in_the_data_before_the_opening(tmp_path: Path) -> None:
    """Due a quarter of an hour after the opening, and not when the session has closed."""
    async with scene(tmp_path, "2025-06-06T21:30") as world:
        early = seconds("2025-06-09T08:00")
        world.market.add(Split("AAA", date(2025, 6, 9), 3, seen_s=early))
        held = await right(world, "2024-06-03", "2025-06-01")
        for hour, requests in (("14:00", 1), ("19:30", 0)):
            world.at(f"2025-06-09T{hour}")
            found = await right(world, "2024-06-03", "2025-06-01")
            assert len(world.upstream) == requests
            assert found[0]["close"] == pytest.approx(held[0]["close"] / 3)
