"""Bare dates are days of the ticker's exchange, on every way to a range; instants stay instants."""

from __future__ import annotations

from datetime import date, datetime
from pathlib import Path
from zoneinfo import ZoneInfo

import pytest

from gapless.hub.answers import Answer
from gapless.protocol.messages import (
    DateRange,
    Fresh,
    Param,
    ProviderRequest,
    SearchEntities,
    Ticker,
)
from gapless.simulator.instruments import Instrument, currency_pair, equity
from gapless.simulator.quirks import Quirks
from gapless.zones import midnight_ms
from support.scenes import Scene, ms, scene, told

BERLIN = equity("EUDE", tz="Europe/Berlin", hours=(32_400, 63_000), first_trade=date(2023, 1, 3))
SYDNEY = equity("AUST", tz="Australia/Sydney", hours=(36_000, 57_600), first_trade=date(2023, 1, 3))
POUNDS = currency_pair("GBPUSD=X", first_trade=date(2023, 1, 3))


def by_dates(
    ticker: str, start: str, end: str, interval: str = "1d", fresh: Fresh | None = None
) -> ProviderRequest:
    """Return the request for a range by its words."""
    query = (Ticker(ticker), DateRange(start, end), Param("interval", interval))
    return ProviderRequest("yahoo_finance", SearchEntities(query), fresh=fresh)


async def ask(world: Scene, request: ProviderRequest) -> Answer:
    """Ask, after forgetting what was asked upstream before."""
    world.asked.clear()
    answer = await world.hub.answer(world.hub.question(request))
    assert isinstance(answer, Answer)
    return answer


def days(answer: Answer, zone: str) -> list[str]:
    """Return the local dates of an answer's records."""
    where = ZoneInfo(zone)
    stamps = [one["timestamp"] for one in told(answer)]
    return [datetime.fromtimestamp(stamp, where).date().isoformat() for stamp in stamps]


@pytest.mark.parametrize(
    ("listed", "interval", "start", "end", "expected"),
    [
        (BERLIN, "1mo", "2024-01-01", "2025-01-01", [f"2024-{n:02}-01" for n in range(1, 13)]),
        (BERLIN, "1mo", "2024-04-01", "2024-05-01", ["2024-04-01"]),
        (SYDNEY, "1d", "2024-01-15", "2024-01-16", ["2024-01-15"]),
        (POUNDS, "1d", "2024-06-17", "2024-06-18", ["2024-06-17"]),
    ],
    ids=["a year of months", "a month", "a day in Sydney", "a day of a currency"],
)
async def test_days_and_months_are_those_of_the_exchange(
    tmp_path: Path, listed: Instrument, interval: str, start: str, end: str, expected: list[str]
) -> None:
    """Cold, held, and after a restart, in one request; and by instants as they are written."""
    async with scene(tmp_path, "2025-03-10T22:00") as world:
        world.market.enlist(listed)
        request = by_dates(listed.symbol, start, end, interval)
        for requests in (1, 0, 0):
            answer = await ask(world, request)
            assert (answer.state, answer.why) == ("ready", ())
            assert days(answer, listed.tz) == expected
            assert len(world.asked) == requests
            zone = ZoneInfo(listed.tz)
            assert answer.asked.start == midnight_ms(date.fromisoformat(start), zone)
            assert answer.asked.end == midnight_ms(date.fromisoformat(end), zone)
            held = world.hub.held(world.hub.question(request))
            assert held is None or told(held) == told(answer)
            await world.restart()
        utc = by_dates(listed.symbol, f"{start}T00:00:00Z", f"{end}T00:00:00Z", interval)
        assert (await ask(world, utc)).asked.start == ms(start)


@pytest.mark.parametrize("start", ["", "1900-01-01", "1900-01-01T00:00:00Z"])
async def test_all_there_is_is_no_more_than_upstream_gives(tmp_path: Path, start: str) -> None:
    """Of over a hundred years upstream gives no days at all: 99 are asked for, once."""
    async with scene(tmp_path, "2025-03-10T22:00", quirks=Quirks(day_span_years=100)) as world:
        for requests in (1, 0):
            answer = await ask(world, by_dates("AAA", start, "2025-03-01"))
            assert (answer.state, answer.why, len(world.asked)) == ("ready", (), requests)
            assert told(answer) == world.truth("2023-01-01", "2025-03-01")
