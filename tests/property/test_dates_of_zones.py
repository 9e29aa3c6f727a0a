"""Bare dates give the bars of exactly those local dates, from Auckland to Honolulu.

Over a year with both changes of the clock: each day, week and month, cold, held and stitched, over
TCP, HTTP and the client.
"""

from __future__ import annotations

import asyncio
import random
import tempfile
from collections.abc import Callable
from datetime import UTC, date, datetime, timedelta
from pathlib import Path
from typing import Any, NamedTuple
from zoneinfo import ZoneInfo

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from gapless.simulator.instruments import Instrument, equity
from gapless.simulator.market import Market
from gapless.simulator.prices import RandomWalk
from support.asking import Asker, asking
from support.exchanges import Exchange, exchange
from support.extent import share
from support.wire import Wire, connect

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
FIRST, NOW = date(2024, 1, 1), "2025-03-10T22:00:00Z"
YEAR = [FIRST + timedelta(days=n) for n in range(366)]
PRICES = RandomWalk(3)
DOORS = ("tcp", "http", "client")


class Range(NamedTuple):
    """Bars of an interval in `[start, end)`, which are days of the exchange."""

    interval: str
    start: date
    end: date


def listed(zone: str) -> Instrument:
    """Return a share that trades there from ten to four."""
    return equity("HERE", tz=zone, hours=(36_000, 57_600), first_trade=date(2023, 1, 3))


def period(interval: str, day: date) -> Range:
    """Return the day, week or month of a date."""
    if interval == "1wk":
        monday = day - timedelta(days=day.weekday())
        return Range(interval, monday, monday + timedelta(days=7))
    if interval == "1mo":
        first = day.replace(day=1)
        return Range(interval, first, (first + timedelta(days=31)).replace(day=1))
    return Range(interval, day, day + timedelta(days=1))


class Asking(NamedTuple):
    """One hub, and all ways to ask it."""

    at: Exchange
    wire: Wire
    client: Asker
    zone: ZoneInfo

    async def dates(self, door: str, asked: Range) -> list[date]:
        """Ask for a range by bare dates, and return the local dates of its bars."""
        bounds = {"start": asked.start.isoformat(), "end": asked.end.isoformat()}
        if door == "client":
            result = await self.client.search(
                "yahoo_finance", "HERE", asked.start, asked.end, interval=asked.interval
            )
            assert result.state == "ready"
            told: list[date] = result.to_polars()["date"].to_list()
            stamps = [record["timestamp"] for record in result.records]
            assert told == self._local(stamps)
            return told
        if door == "http":
            query = "&".join(f"{name}={value}" for name, value in bounds.items())
            path = f"/v1/data/yahoo_finance/HERE?{query}&interval={asked.interval}"
            reply = await self.at.hub.get(path)
            assert reply.headers["gapless-state"] == "ready"
            return self._local([record["timestamp"] for record in reply.json()])
        params = {"name": "interval", "value": asked.interval}
        filters = [{"Ticker": "HERE"}, {"DateRange": bounds}, {"Param": params}]
        search = {"SearchEntities": {"query": filters, "limit": None}}
        payload = {"provider": "yahoo_finance", "request": search}
        answer = await self.wire.ask(
            {"type": "ProviderRequest", "payload": payload}, data_as="array"
        )
        assert answer["stitch"]["state"] == "ready"
        return self._local([record["timestamp"] for record in answer["result"][0]["data"]])

    def _local(self, stamps: list[Any]) -> list[date]:
        return [datetime.fromtimestamp(stamp, self.zone).date() for stamp in stamps]


def play(zone: str, asked: list[Range], door: Callable[[], str]) -> None:
    """Ask one hub for ranges one after the other, each twice, and hold them against the market."""

    async def all_of_it(folder: Path) -> None:
        market = Market([listed(zone)], prices=PRICES)
        where = ZoneInfo(zone)
        async with (
            exchange(folder, market, NOW) as at,
            asking("async", at.hub.tcp_port) as client,
            await connect(at.hub.tcp_port) as wire,
        ):
            ways = Asking(at, wire, client, where)
            now_s = at.clock.now_ms() / 1000
            end_s = datetime(2025, 3, 1, tzinfo=UTC).timestamp()
            true = {
                interval: [
                    datetime.fromtimestamp(bar.t, where).date()
                    for bar in market.bars("HERE", interval, 0, end_s, now_s)
                ]
                for interval in {one.interval for one in asked}
            }
            for one in asked:
                expected = [day for day in true[one.interval] if one.start <= day < one.end]
                assert await ways.dates(door(), one) == expected, one
                requests = at.asked
                assert await ways.dates(door(), one) == expected, one
                assert at.asked == requests, f"{one} was asked for again"

    with tempfile.TemporaryDirectory() as folder:
        asyncio.run(all_of_it(Path(folder)))


@pytest.mark.timeout(0)
@pytest.mark.parametrize("zone", ZONES)
def test_each_day_week_and_month_is_that_of_the_exchange(zone: str) -> None:
    """In any order, so that most are stitched to others that are held."""
    every = {period(interval, day) for interval in ("1d", "1wk", "1mo") for day in YEAR}
    chance = random.Random(zone)
    asked = chance.sample(sorted(every), share(60, of=len(every)))
    play(zone, asked, lambda: chance.choice(DOORS))


@pytest.mark.property
@settings(deadline=None, max_examples=share(8, of=24))
@given(
    zone=st.sampled_from(ZONES),
    asked=st.lists(
        st.tuples(st.sampled_from(["1d", "1wk", "1mo"]), st.integers(0, 365), st.integers(0, 40)),
        min_size=2,
        max_size=6,
    ),
    data=st.data(),
)
def test_ranges_of_days_are_those_of_the_exchange(
    zone: str, asked: list[tuple[str, int, int]], data: st.DataObject
) -> None:
    """Whatever was asked before, each range has the bars of its local dates, and no others."""
    ranges = []
    for interval, offset, count in asked:
        first = period(interval, FIRST + timedelta(days=offset))
        last = period(interval, first.start + timedelta(days=count))
        ranges.append(Range(interval, first.start, last.end))
    play(zone, ranges, lambda: data.draw(st.sampled_from(DOORS)))
