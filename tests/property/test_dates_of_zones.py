"""Bare dates give the bars of exactly those local dates, from Auckland to Honolulu.

Over a year with both changes of the clock: days, weeks and months, cold, held and stitched.
"""

from __future__ import annotations

import asyncio
import tempfile
from datetime import UTC, date, datetime, timedelta
from pathlib import Path
from zoneinfo import ZoneInfo

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from gapless.hub.answers import Answer
from gapless.protocol.messages import (
    DateRange,
    Param,
    ProviderRequest,
    SearchEntities,
    Ticker,
)
from gapless.simulator.instruments import Instrument, equity
from support.scenes import Scene, scene, told

ZONES = (
    "Pacific/Auckland",
    "Australia/Sydney",
    "Asia/Tokyo",
    "Asia/Kolkata",
    "Europe/Berlin",
    "America/Sao_Paulo",
    "America/New_York",
    "Pacific/Honolulu",
)
FIRST, NOW = date(2024, 1, 1), "2025-03-10T22:00"
DAYS = (date(2025, 2, 1) - FIRST).days


def listed(zone: str) -> Instrument:
    """Return a share that trades there from ten to four."""
    return equity("HERE", tz=zone, hours=(36_000, 57_600), first_trade=date(2023, 1, 3))


def bounds(interval: str, day: date) -> tuple[date, date]:
    """Return the first day of the day, week or month of a date, and of the next one."""
    if interval == "1wk":
        monday = day - timedelta(days=day.weekday())
        return monday, monday + timedelta(days=7)
    if interval == "1mo":
        return day.replace(day=1), (day.replace(day=1) + timedelta(days=31)).replace(day=1)
    return day, day + timedelta(days=1)


async def ask(world: Scene, interval: str, start: date, end: date) -> Answer:
    """Ask for a range by bare dates."""
    query = (
        Ticker("HERE"),
        DateRange(start.isoformat(), end.isoformat()),
        Param("interval", interval),
    )
    answer = await world.hub.answer(ProviderRequest("yahoo_finance", SearchEntities(query)))
    assert isinstance(answer, Answer)
    return answer


@pytest.mark.property
@settings(deadline=None, max_examples=16)
@given(
    zone=st.sampled_from(ZONES),
    interval=st.sampled_from(["1d", "1wk", "1mo"]),
    asked=st.lists(st.tuples(st.integers(0, DAYS), st.integers(1, 40)), min_size=2, max_size=6),
)
def test_dates_are_those_of_the_exchange(
    zone: str, interval: str, asked: list[tuple[int, int]]
) -> None:
    """Whatever was asked before, each range has the bars of its local dates, and no others."""

    async def play() -> None:
        with tempfile.TemporaryDirectory() as folder:
            async with scene(Path(folder), NOW) as world:
                world.market.enlist(listed(zone))
                end_s = datetime(2025, 3, 1, tzinfo=UTC).timestamp()
                true = world.market.bars("HERE", interval, 0, end_s, world.clock.now_s)
                where = ZoneInfo(zone)
                dates = {datetime.fromtimestamp(bar.t, where).date(): bar.t for bar in true}
                for offset, count in asked:
                    start, end = bounds(interval, FIRST + timedelta(days=offset))
                    _, end = bounds(
                        interval, max(end - timedelta(days=1), start + timedelta(days=count))
                    )
                    answer = await ask(world, interval, start, end)
                    assert (answer.state, answer.why) == ("ready", ())
                    expected = [at for day, at in sorted(dates.items()) if start <= day < end]
                    assert [one["timestamp"] for one in told(answer)] == expected
                    again = await ask(world, interval, start, end)
                    assert (again.requests, told(again)) == (0, told(answer))

    asyncio.run(play())
