"""The load of Python programs with gapless's clients: a script (see `support.load`)."""

from __future__ import annotations

import asyncio
import random
from collections.abc import Mapping
from contextlib import suppress
from datetime import UTC, datetime
from itertools import pairwise
from typing import Any

import polars as pl

import gapless
from support.load import (
    CHANGED,
    FIRST_S,
    LONG,
    PLUGINS,
    Load,
    Stretch,
    Visit,
    Wrong,
    play,
    some_isle,
    some_long,
    some_new,
    some_revised,
)
from support.wire import PATIENCE_S


def bounds(stretch: Stretch) -> dict[str, Any]:
    """Return a range as the clients take it."""
    start, end = (datetime.fromtimestamp(one / 1_000, UTC) for one in (stretch.start, stretch.end))
    return {"start": start, "end": end, **stretch.params}


def checked(stretch: Stretch, result: gapless.Result) -> None:
    """Hold a result to the arithmetic, by its frame."""
    if result.state != "ready":
        raise Wrong(f"{result.id} is {result.state}: {result.last_error}")
    framed(stretch, result.to_polars())


def framed(stretch: Stretch, frame: pl.DataFrame) -> None:
    """Hold a frame to the arithmetic."""
    if frame.is_empty():
        stretch.check([], {}, {})
        return
    frame = frame.select(pl.col("timestamp").dt.epoch("s"), "value", "high", "volume")
    stretch.check(frame["timestamp"].to_list(), frame.row(0, named=True), frame.row(-1, named=True))


async def awaiting(load: Load, rng: random.Random) -> None:
    """Ask by the asynchronous client, many things at once."""
    address = f"127.0.0.1:{load.site.port}"
    async with gapless.AsyncClient(address, timeout=PATIENCE_S) as hub:
        for _ in range(3):
            some = [some_long(rng, 1, 8_000) for _ in range(8)]
            some += [some_isle(rng), some_new(rng), some_revised(rng)]
            asking = (hub.search(one.provider, one.ticker, **bounds(one)) for one in some)
            for stretch, result in zip(some, await asyncio.gather(*asking), strict=True):
                checked(stretch, result)
            load.count("AsyncClient: search", len(some))
            await held_of(load, hub, rng)
            wanted = [f"{one}{rng.randrange(20)}" for one in ("MANY1-", "MANY2-", "MANY3-")]
            await many(load, hub, sorted(set(wanted)), rng)


async def many(
    load: Load, hub: gapless.AsyncClient, tickers: list[str], rng: random.Random
) -> None:
    """Get some histories as one frame."""
    start = FIRST_S + rng.randrange(1_000) * 60
    bars = rng.choice((10, 1_000, 8_000))
    one = Stretch(PLUGINS[1], "", start * 1_000, (start + bars * 60) * 1_000, "frame")
    frame = await hub.search_many(one.provider, tickers, **bounds(one), progress=False)
    for ticker in tickers:
        stretch = Stretch(one.provider, ticker, one.start, one.end, one.form)
        framed(stretch, frame.filter(pl.col("ticker") == ticker))
    load.count("AsyncClient: search_many")


async def held_of(load: Load, hub: gapless.AsyncClient, rng: random.Random) -> None:
    """Ask what is held, and for plans."""
    ticker = rng.choice(sorted(LONG))
    with suppress(gapless.NotFound):
        coverage = await hub.coverage(PLUGINS[0], ticker, form=LONG[ticker])
        if any(a.end > b.start for a, b in pairwise(coverage.intervals)):
            raise Wrong(f"{coverage}")
    stretch = some_long(rng, 1, 100_000)
    plan = await hub.plan(stretch.provider, stretch.ticker, **bounds(stretch))
    if not (plan.cached or plan.gaps):
        raise Wrong(f"{plan}")
    load.count("AsyncClient: coverage, plan", 2)


async def blocking(load: Load, rng: random.Random) -> None:
    """Ask by the plain client, in a thread."""
    await asyncio.to_thread(_blocking, load, rng)


def _blocking(load: Load, rng: random.Random) -> None:
    with gapless.connect(f"127.0.0.1:{load.site.port}", timeout=PATIENCE_S) as hub:
        for _ in range(10):
            stretch = rng.choice((some_long, some_long, _newcomer))(rng, 1, 4_000)
            checked(stretch, hub.search(stretch.provider, stretch.ticker, **bounds(stretch)))
            load.count("Client: search")
        stretch = some_long(rng, 20_000, 60_000)
        try:
            checked(stretch, hub.search(stretch.provider, stretch.ticker, **bounds(stretch)))
            load.count("Client: search, long")
        except gapless.Overloaded as error:
            if CHANGED not in error.message:
                raise
            load.count("Client: search, long, its series forgotten meanwhile")
        if hub.find(PLUGINS[0], tags=[f"ticker=NONE{rng.getrandbits(40):x}"]):
            raise Wrong("there is what there is not")
        hub.entities(PLUGINS[1], limit=10)
        if "sample" not in hub.providers():
            raise Wrong("the sample is gone")
        load.count("Client: find, entities, providers", 3)
        stretch = some_isle(rng)
        hub.refresh(stretch.provider, stretch.ticker, **bounds(stretch))
        with suppress(gapless.NotFound):
            hub.forget(stretch.provider, stretch.ticker, **bounds(stretch))
        load.count("Client: refresh, forget", 2)


def _newcomer(rng: random.Random, _: int, __: int) -> Stretch:
    return rng.choice((some_new, some_isle, some_revised))(rng)


VISITS: Mapping[Visit, int] = {awaiting: 1, blocking: 2}

if __name__ == "__main__":
    play(VISITS)
