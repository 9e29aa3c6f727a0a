"""Ranges back from now: months and years, this year, all there is, and whole look-backs."""

from __future__ import annotations

from datetime import date
from pathlib import Path

import pytest

from gapless.hub.answers import Answer
from gapless.protocol.language import parse_line
from gapless.protocol.messages import ProviderRequest
from gapless.simulator.instruments import equity
from support.scenes import Scene, parts, reasons, scene, told, why

SYDNEY = equity("AUST", tz="Australia/Sydney", hours=(36_000, 57_600), first_trade=date(2023, 1, 3))
CLIPPED = "does not serve that far back, or only just"


def said(world: Scene, words: str, ticker: str) -> ProviderRequest:
    """Return what a line of the query language asks for."""
    line = f"provider yahoo_finance search ticker={ticker} {words}"
    query = parse_line(line, now_ms=world.clock.now_ms())
    assert isinstance(query, ProviderRequest)
    return query


async def search(world: Scene, words: str, ticker: str = "AAA") -> Answer:
    """Ask in the query language, after forgetting what was asked upstream before."""
    world.asked.clear()
    answer = await world.hub.answer(world.hub.question(said(world, words, ticker)))
    assert isinstance(answer, Answer)
    return answer


@pytest.mark.parametrize(
    ("words", "begins"),
    [
        ("date=30d interval=1m", "2025-07-11T19:30"),
        ("interval=1m", "2025-07-11T19:30"),
        ("date=60d interval=15m", "2025-06-11T19:30"),
        ("date=730d interval=1h", "2023-08-11T19:30"),
        ("date=1mo interval=1m", "2025-07-11T19:30"),
        ("date=2y interval=1h", "2023-08-11T19:30"),
        ("date=max interval=15m", "2025-06-11T19:30"),
    ],
)
async def test_a_whole_look_back_asked_for_by_its_name_is_whole(
    tmp_path: Path, words: str, begins: str
) -> None:
    """The margin by which upstream's limit is kept is left out, and said (stitching rule 15)."""
    async with scene(tmp_path, "2025-08-10T18:30") as world:
        for requests in (True, False):
            answer = await search(world, words)
            assert answer.state == "ready"
            assert parts(answer) == {
                "fetched" if requests else "cached": [f"{begins}..2025-08-10T18:30"]
            }
            ((span, reason),) = reasons(answer)
            assert span.endswith(f"..{begins}")
            assert reason == "margin"
            assert CLIPPED in why(answer, span)
            assert bool(world.asked) is requests
        assert told(answer) == world.truth(begins, interval=words.rsplit("=")[-1])
        held = world.hub.held(world.hub.question(said(world, words, "AAA")))
        assert held is not None
        assert held.why == answer.why


@pytest.mark.parametrize(
    "words",
    [
        "date=45d interval=1m",
        "date=3mo interval=15m",
        "date=2025-07-11T18:30:00Z..now interval=1m",
        "date=2025-07-11.. interval=1m",
    ],
)
async def test_what_is_longer_or_absolute_is_partial(tmp_path: Path, words: str) -> None:
    """More than a look-back was asked for, or a moment that is named: a part of it is missing."""
    async with scene(tmp_path, "2025-08-10T18:30") as world:
        answer = await search(world, words)
        assert answer.state == "partial"
        assert {reason for _, reason in reasons(answer)} == {"out_of_window"}


async def test_what_is_held_before_the_look_back_is_told(tmp_path: Path) -> None:
    """All there is begins with what is held of it; what nobody has any more is between."""
    async with scene(tmp_path, "2025-06-10T18:30") as world:
        await world.ask("2025-06-03", "2025-06-05", "1m")
        world.at("2025-08-10T18:30")
        answer = await search(world, "date=max interval=1m")
        assert answer.state == "partial"
        assert parts(answer)["missing"] == ["2025-06-05..2025-07-11T19:30"]
        assert [reason for _, reason in reasons(answer)] == [
            "margin",
            "unverified",
            "out_of_window",
        ]
        assert answer.asked.start == told(answer)[0]["timestamp"] // 86_400 * 86_400_000


@pytest.mark.parametrize(
    ("words", "begins", "until"),
    [
        ("date=1mo", "2025-02-27T13:00", ""),
        ("date=3mo", "2024-12-30T13:00", ""),
        ("date=1y", "2024-03-30T13:00", ""),
        ("date=ytd", "2024-12-31T13:00", ""),
        ("date=-1y..-3mo", "2024-03-30T13:00", "2024-12-30T13:00"),
    ],
)
async def test_months_and_years_are_the_calendars_of_the_exchange(
    tmp_path: Path, words: str, begins: str, until: str
) -> None:
    """From the day of so many months ago on, where the ticker is traded: there it is the 31st."""
    async with scene(tmp_path, "2025-03-30T18:30") as world:
        world.market.enlist(SYDNEY)
        for requests in (1, 0):
            answer = await search(world, words, "AUST")
            assert (answer.state, answer.why, len(world.asked)) == ("ready", (), requests)
            assert told(answer) == world.truth(begins, until, ticker="AUST") != []
        assert parts(answer)["cached"][0].startswith(f"{begins}..")


async def test_all_there_is_is_whole(tmp_path: Path) -> None:
    """Days have no look-back, so that nothing is left out."""
    async with scene(tmp_path, "2025-03-10T22:00") as world:
        answer = await search(world, "date=max")
        assert (answer.state, answer.why) == ("ready", ())
        assert told(answer) == world.truth("2023-01-01")


async def test_what_is_held_within_the_margin_makes_no_hole(tmp_path: Path) -> None:
    """A look-back is whole, whatever was asked for a month ago."""
    async with scene(tmp_path, "2025-07-10T19:05") as world:
        await world.ask("2025-07-10T18:00", "2025-07-10T19:00", "1m")
        world.at("2025-08-09T18:45")
        answer = await search(world, "date=30d interval=1m")
        assert (answer.state, reasons(answer)) == (
            "ready",
            [("2025-07-10T18:45..2025-07-10T19:45", "margin")],
        )


@pytest.mark.parametrize(
    ("now", "words"),
    [
        ("2024-11-16T04:40", "date=1mo interval=1m"),
        ("2025-09-21T03:30", "date=2mo interval=15m"),
        ("2024-03-02T04:30", "date=2y interval=1h"),
    ],
)
async def test_the_longest_months_and_years_are_whole_look_backs(
    tmp_path: Path, now: str, words: str
) -> None:
    """Of 31 days and a day of 25 hours, in the last hour of a local day."""
    async with scene(tmp_path, now) as world:
        answer = await search(world, words)
        assert answer.state == "ready"
        assert [reason for _, reason in reasons(answer)] == ["margin"]


async def test_this_year_is_the_exchanges(tmp_path: Path) -> None:
    """On New Year's Eve there it is the next year in UTC."""
    async with scene(tmp_path, "2026-01-01T02:00") as world:
        whole = await search(world, "date=ytd..2026-01-01")
        assert told(whole) == told(await search(world, "date=ytd")) != []


async def test_a_month_that_has_just_ended_has_its_last_day(tmp_path: Path) -> None:
    """Upstream's live row stands beside the month's own for some hours after midnight."""
    async with scene(tmp_path, "2025-07-31T21:30") as world:
        for at in ("2025-07-31T21:30", "2025-08-01T05:00", "2025-08-01T12:00"):
            world.at(at)
            row = told(await world.anew("2025-07-01", interval="1mo"))[-1]
            (true,) = world.truth("2025-07-01", "2025-07-31", "1mo")
            for name in ("timestamp", "open", "high", "low", "close"):
                assert row[name] == true[name]
