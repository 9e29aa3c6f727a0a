"""Facts and actions: kept with what brought them, and what follows where upstream names others.

Scenes for the stitching rules 11, 12 and 21. Actions are a series of their own that comes with the
answers of daily bars: it is never asked for by itself.
"""

from __future__ import annotations

from dataclasses import replace
from datetime import date
from pathlib import Path
from typing import Any

import pytest

from gapless.errors import InvalidQuery, ProviderError
from gapless.simulator.happenings import Absent, CapitalGain, Dividend, Split
from support.scenes import Scene, parts, reasons, scene, seconds, told
from support.stores import store_of

SPRING = ("2025-01-02", "2025-06-02")
DIVIDEND = Dividend("AAA", date(2025, 3, 14), 0.5)
SPLIT = Split("AAA", date(2025, 4, 15), 4, 1)
GAIN = CapitalGain("AAA", date(2025, 3, 14), 0.2)
OPEN = {14: 1_741_959_000, 15: 1_744_723_800}


def action(day: int, **amounts: float) -> dict[str, Any]:
    """Return the record of an ex-date: the 14th of March or the 15th of April."""
    kinds: dict[str, float | None] = {"dividend": None, "split": None, "capital_gain": None}
    return {"timestamp": OPEN[day], **kinds, **amounts}


PAID = action(14, dividend=0.5 / 4, capital_gain=0.2 / 4)
DIVIDED = action(15, split=4.0)


async def zone(world: Scene) -> object:
    """Return the zone that is known of AAA."""
    provider = world.hub.registry.get("yahoo_finance")
    snapshot = await store_of(world.hub).read(provider.key("AAA", {"interval": "1mo"}))
    return snapshot.state.ticker.facts.get("zone")


async def test_actions_come_with_daily_bars(tmp_path: Path) -> None:
    """What was asked for as prices answers for actions too, without a request, and a restart on."""
    async with scene(tmp_path, "2025-06-02T12:00") as world:
        for one in (DIVIDEND, SPLIT, GAIN):
            world.market.add(one)
        await world.ask(*SPRING)
        for _ in range(2):
            answer = await world.actions(*SPRING)
            assert (told(answer), answer.state, world.upstream) == ([PAID, DIVIDED], "ready", [])
            assert parts(answer) == {"cached": ["2025-01-02..2025-06-02"]}
            answer = await world.actions("2025-03-20", "2025-04-20")
            assert (told(answer), world.upstream) == ([DIVIDED], [])
            await world.restart()
        assert await zone(world) == "America/New_York"


async def test_who_asks_for_actions_has_the_prices_fetched(tmp_path: Path) -> None:
    """They come with them in one request, which is as wide as one for prices; both are held."""
    async with scene(tmp_path, "2025-06-02T12:00") as world:
        for one in (DIVIDEND, SPLIT):
            world.market.add(one)
        answer = await world.actions(*SPRING)
        assert world.upstream == ["gap 2025-01-02..2025-06-02"]
        assert told(answer) == [action(14, dividend=0.5 / 4), DIVIDED]
        assert parts(answer) == {"fetched": ["2025-01-02..2025-06-02"]}
        assert told(await world.ask(*SPRING)) == world.truth(*SPRING)
        assert world.upstream == []
        # Of a month without any there are none, and that is known.
        assert told(await world.actions("2024-02-01", "2024-03-01")) == []
        assert world.upstream == ["gap 2024-02-01..2025-01-03T14:30"]
        assert told(await world.actions("2024-02-01", "2025-06-02"))[1:] == [DIVIDED]
        assert world.upstream == []


async def test_bars_of_minutes_tell_no_actions_of_a_range(tmp_path: Path) -> None:
    """Their answers name those of some days: what is asked of actions is not known by that."""
    async with scene(tmp_path, "2025-06-02T12:00") as world:
        world.market.add(SPLIT)
        await world.ask("2025-04-10", "2025-04-20", "1h")
        assert await zone(world) == "America/New_York"
        assert told(await world.actions("2025-04-10", "2025-04-20")) == [DIVIDED]
        assert world.upstream == ["gap 2025-04-10..2025-04-20"]


@pytest.mark.parametrize("interval", ["1h", "1wk"])
async def test_an_action_that_another_interval_names_makes_all_due(
    tmp_path: Path, interval: str
) -> None:
    """It is written at once, and the daily bars of this very session are fetched again."""
    late = replace(DIVIDEND, amount=2.0, seen_s=seconds("2025-03-20T15:00"))
    week = ("2025-03-12", "2025-03-18")
    async with scene(tmp_path, "2025-03-20T14:30") as world:
        world.market.add(late)
        held = await world.ask(*week)
        assert told(await world.actions(*week)) == []
        world.at("2025-03-20T16:00")
        assert told(await world.ask(*week)) == told(held)
        assert world.upstream == [], "nothing is due yet that is known of"
        await world.ask(*week, interval)
        answer = await world.ask(*week)
        assert world.upstream == ["check 2025-03-12..2025-03-18"]
        assert told(answer) == world.truth(*week) != told(held)
        assert told(await world.actions(*week)) == [action(14, dividend=2.0)]
        assert world.upstream == []
        # Now it is known, and nothing follows from hearing it again.
        await world.ask("2025-03-11", "2025-03-18", interval)
        assert (await world.ask(*week)).requests == 0


async def test_what_is_not_named_any_more_is_gone(tmp_path: Path) -> None:
    """A split that upstream takes back: daily answers tell all that there are of their range."""
    mistaken = replace(
        SPLIT, mistaken=True, seen_s=seconds("2025-04-15T13:30"), gone_s=seconds("2025-04-16T12:00")
    )
    april = ("2025-04-01", "2025-04-16")
    async with scene(tmp_path, "2025-04-16T02:00") as world:
        world.market.add(mistaken)
        await world.ask(*april)
        assert told(await world.actions(*april)) == [DIVIDED]
        world.at("2025-04-16T14:30")
        answer = await world.ask(*april)
        assert told(answer) == world.truth(*april)
        assert told(await world.actions(*april)) == []
        assert world.upstream == []


async def test_bars_out_of_reach_are_rescaled_by_a_split_that_is_named(tmp_path: Path) -> None:
    """Only those that were fetched well before it; what was fetched near to it cannot be known."""
    split = replace(SPLIT, ex_date=date(2025, 8, 5), seen_s=seconds("2025-08-05T13:30"))
    early = ("2025-05-05", "2025-05-10", "15m")
    late = ("2025-06-16", "2025-06-20", "15m")
    async with scene(tmp_path, "2025-06-02T12:00") as world:
        world.market.add(split)
        before = told(await world.ask(*early))
        world.at("2025-08-01T12:00")
        near = told(await world.ask(*late))
        world.at("2025-09-10T15:00")
        assert told(await world.ask(*early)) == before
        recent = await world.ask("2025-08-04", "2025-08-07", "15m")
        assert reasons(recent) == []
        for _ in range(2):
            answer = await world.ask(*early)
            assert (world.upstream, answer.state) == ([], "ready")
            assert reasons(answer) == [("2025-05-05..2025-05-10", "rescaled")]
            assert [row["close"] for row in told(answer)] == [row["close"] / 4 for row in before]
            assert [row["volume"] for row in told(answer)] == [row["volume"] * 4 for row in before]
            assert answer.changed_at is not None
            # Once is enough, however often it is named.
            await world.ask("2025-08-01", "2025-08-08", "15m")
            await world.restart()
        answer = await world.ask(*late)
        assert told(answer) == near
        assert reasons(answer) == [("2025-06-16..2025-06-20", "unverified")]


async def test_actions_of_what_is_in_doubt_are_not_believed(tmp_path: Path) -> None:
    """An answer without rows tells of no actions either; it is not asked for again at once."""
    gone = Absent("AAA", heals_s=seconds("2025-06-02T13:00"))
    async with scene(tmp_path, "2025-06-02T12:10") as world:
        for one in (SPLIT, gone):
            world.market.add(one)
        for requests in (1, 0):
            with pytest.raises(ProviderError) as error:
                await world.actions(*SPRING)
            assert error.value.reason == "unconfirmed_empty"
            assert len(world.upstream) == requests
        world.at("2025-06-02T13:10")
        assert told(await world.actions(*SPRING)) == [DIVIDED]


async def test_actions_take_no_interval(tmp_path: Path) -> None:
    """Whoever asks for some is told so in a sentence; that of days is what they have."""
    async with scene(tmp_path, "2025-06-02T12:00") as world:
        provider = world.hub.registry.get("yahoo_finance")
        with pytest.raises(InvalidQuery, match="takes no interval but 1d"):
            provider.key("AAA", {"data": "actions", "interval": "1h"})
        both = provider.key("AAA", {"data": "actions", "interval": "1d"})
        assert both.text == "yahoo_finance:AAA?data=actions"
        with pytest.raises(InvalidQuery, match="prices, actions"):
            provider.key("AAA", {"data": "news"})
