"""An upstream that may answer one ticker anything at all, through real sockets and a real store.

Its answer is cut at every byte, its types are swapped, its rows repeated and shuffled, and its
facts contradict themselves. Then the series fails, or a value is null; what is held stays, no bar
is told that never was, and another ticker is answered as ever.
"""

from __future__ import annotations

import asyncio
import json
import random
from contextlib import suppress
from copy import deepcopy
from pathlib import Path
from typing import Any
from urllib.request import urlopen

import pytest

from gapless.errors import ProviderError
from gapless.hub.answers import Answer
from gapless.simulator.faults import Fault, of
from support.history import COLUMNS
from support.scenes import Scene, scene, told
from support.stores import store_of

HELD = ("2025-05-01", "2025-05-17")
NOW = "2025-06-10T22:00"
SEEDS, ANSWERS = 4, 40
# No price and no volume of this market.
JUNK: tuple[Any, ...] = (
    None,
    True,
    "",
    "n/a",
    "12.5",
    [],
    {},
    [[]],
    {"start": 1, "end": 0},
    -1,
    0,
    777_777.5,
    1 << 70,
    -1e308,
    "America",
)
OF_JUNK = {float(one) for one in JUNK if type(one) in (int, float)}
FACTS: tuple[dict[str, Any], ...] = (
    {"exchangeTimezoneName": "Mars/Olympus"},
    {"exchangeTimezoneName": "Asia/Tokyo", "gmtoffset": -18_000},
    {"firstTradeDate": 4_000_000_000},
    {"regularMarketTime": 4_000_000_000},
    {"regularMarketTime": 1, "firstTradeDate": -(1 << 60)},
    {"currentTradingPeriod": {"regular": {"start": 1_749_600_000, "end": 1_749_500_000}}},
    {"currentTradingPeriod": {"regular": {"start": 0, "end": 4_000_000_000}}},
    {"currentTradingPeriod": None, "currency": None, "instrumentType": 7},
    {"symbol": "NEW"},
    {"symbol": None},
    {"dataGranularity": "1wk"},
)


async def test_an_answer_that_is_cut_at_any_byte(tmp_path: Path) -> None:
    """None of them is a chart; what is held is told, and said to be unchecked."""
    async with scene(tmp_path, NOW) as world:
        held = told(await world.ask(*HELD))
        body = await right(world, "1d")
        for length in range(0, len(body), 7):
            answer = await answered(world, body[:length], "1d")
            assert not isinstance(answer, Answer) or answer.state != "ready", length
            assert await stored(world, "1d") == held
        await healed(world, held, "1d")


@pytest.mark.parametrize("interval", ["1d", "30m"])
@pytest.mark.parametrize("seed", range(SEEDS))
async def test_an_answer_of_swapped_types_and_shuffled_rows(
    tmp_path: Path, seed: int, interval: str
) -> None:
    """What is told of each bar was told of that very one, or is null."""
    dice = random.Random(seed)
    believed = 0
    async with scene(tmp_path, NOW) as world:
        held = told(await world.ask(*HELD, interval))
        body = json.loads(await right(world, interval))
        for number in range(ANSWERS):
            spoilt = deepcopy(body)
            for _ in range(dice.randint(1, 2)):
                dice.choice((swap, shuffle, repeat, contradict))(spoilt, dice)
            text = json.dumps(spoilt).encode()
            if dice.random() < 0.1:
                # Another digit, and where one number ends, nobody could tell.
                at = dice.choice([at for at, byte in enumerate(text) if byte in b'{}[]":aelst'])
                text = text[:at] + bytes([dice.choice(b'{}[]":x \x00\xff')]) + text[at + 1 :]
            answer = await answered(world, text, interval)
            believed += isinstance(answer, Answer) and answer.state == "ready"
            await kept(world, held, interval, f"seed {seed}, number {number}: {text!r}")
        await healed(world, held, interval)
    assert 0 < believed < ANSWERS


async def right(world: Scene, interval: str) -> bytes:
    """Return upstream's answer for what is held, with a day to either side."""
    await world.anew(*HELD, interval)
    url = world.sim.base_url + world.sim.requests[-1].target
    body: bytes = await asyncio.to_thread(lambda: urlopen(url).read())
    return body


async def answered(world: Scene, body: bytes, interval: str) -> Answer | ProviderError:
    """Ask for what is held while upstream answers so for its ticker; return what is said."""
    world.wait(3600)
    fault = Fault("any", body=body, content_type="application/json")
    world.sim.faults.fail_always(fault, when=of("AAA"))
    try:
        answer: Answer | ProviderError = await world.anew(*HELD, interval)
    except ProviderError as error:
        answer = error
    said = [answer.reason] if isinstance(answer, ProviderError) else [r.reason for r in answer.why]
    assert "internal_error" not in said
    # Another ticker has no part in it.
    beside = await world.ask("2025-06-03", "2025-06-06", ticker="NEW")
    assert (beside.state, len(told(beside))) == ("ready", 3)
    world.sim.faults.clear()
    return answer


async def kept(world: Scene, held: list[dict[str, Any]], interval: str, what: str) -> None:
    """Each held bar is there, and its values are its own, null, or the junk that was told."""
    found = await stored(world, interval)
    assert [one["timestamp"] for one in found] == [one["timestamp"] for one in held], what
    for one, was in zip(found, held, strict=True):
        for name in COLUMNS:
            value = one[name]
            assert value is None or value == was[name] or value in OF_JUNK, (what, one, was)
    provider = world.hub.registry.get("yahoo_finance")
    ticker = (
        await store_of(world.hub).read(provider.key("AAA", {"interval": interval}))
    ).state.ticker
    assert ticker.facts["zone"] in ("America/New_York", "Asia/Tokyo"), what
    assert ticker.facts["first_trade"] <= world.clock.now_s, what


async def stored(world: Scene, interval: str) -> list[dict[str, Any]]:
    """Return the held records of the range, without asking upstream."""
    return told(await world.held(*HELD, interval))


async def healed(world: Scene, held: list[dict[str, Any]], interval: str) -> None:
    """As soon as upstream answers well, so does the hub."""
    world.wait(86_400)
    answer = await world.anew(*HELD, interval)
    assert (answer.state, told(answer)) == ("ready", held)


# What is done to an answer


def swap(body: dict[str, Any], dice: random.Random) -> None:
    """Put junk in the place of something, however deep, but of no time."""
    value: Any = body
    while True:
        keys = list(value) if isinstance(value, dict) else list(range(len(value)))
        if not keys:
            return
        key = dice.choice(keys)
        inside = value[key]
        if not isinstance(inside, dict | list) or dice.random() < 0.15:
            if key != "timestamp" and not (type(inside) is int and inside > 1_000_000_000):
                value[key] = deepcopy(dice.choice(JUNK))
            return
        value = inside


def shuffle(body: dict[str, Any], dice: random.Random) -> None:
    """Put the rows in another order."""
    order = list(range(len(_columns(body)[0])))
    dice.shuffle(order)
    for column in _columns(body):
        column[:] = [column[at] for at in order if at < len(column)]


def repeat(body: dict[str, Any], dice: random.Random) -> None:
    """Have some rows come once more, beside themselves or at the end."""
    at, end = dice.randrange(len(_columns(body)[0])), dice.random() < 0.5
    for column in _columns(body):
        if at < len(column):
            column.insert(len(column) if end else at, column[at])


def contradict(body: dict[str, Any], dice: random.Random) -> None:
    """Tell of the ticker what cannot be."""
    with suppress(AttributeError, IndexError, KeyError, TypeError):
        body["chart"]["result"][0]["meta"].update(dice.choice(FACTS))


def _columns(body: dict[str, Any]) -> list[list[Any]]:
    """Return all columns that are still some; one without rows where there are none."""
    try:
        result = body["chart"]["result"][0]
        sets = [*result["indicators"]["quote"], *result["indicators"]["adjclose"]]
        columns = [result["timestamp"], *(column for one in sets for column in one.values())]
        return columns if all(isinstance(one, list) and one for one in columns) else [[0]]
    except (AttributeError, IndexError, KeyError, TypeError):
        return [[0]]
