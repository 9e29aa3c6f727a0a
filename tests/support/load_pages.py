"""The load of clients over HTTP, and of those who keep house: a script (see `support.load`)."""

from __future__ import annotations

import asyncio
import io
import json
import random
import time
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any
from urllib.parse import quote

import httpx
import msgspec
import polars as pl

from gapless.client.control import Control
from support.load import (
    CHANGED,
    Bar,
    Load,
    Stretch,
    Visit,
    Wrong,
    bars_of,
    in_words,
    play,
    reply_of,
    some_isle,
    some_long,
    some_new,
    some_revised,
)
from support.wire import PATIENCE_S, line_of

# An answer of more records is sent in pieces, and broken off if its series is forgotten meanwhile.
IN_ONE_PIECE = 50_000
TRIES = 10
# What was fetched so long ago is forgotten, however often it is asked for.
OLD_S = 20.0
HOUSE_S = 3.0


def framed(stretch: Stretch, frame: pl.DataFrame) -> None:
    """Hold a frame to the arithmetic; a range without bars has no columns to look at."""
    if frame.is_empty():
        stretch.check([], {}, {})
        return
    frame = frame.select("timestamp", "value", "high", "volume")
    stretch.check(frame["timestamp"].to_list(), frame.row(0, named=True), frame.row(-1, named=True))


def checked_json(stretch: Stretch, body: bytes) -> None:
    """Check an array of records."""
    stretch.check_bars(bars_of(body))


def checked_ndjson(stretch: Stretch, body: bytes) -> None:
    """Check a record a line."""
    stretch.check_bars(msgspec.json.Decoder(Bar).decode_lines(body))


def checked_csv(stretch: Stretch, body: bytes) -> None:
    """Check a table as text."""
    framed(stretch, pl.read_csv(io.BytesIO(body), schema_overrides={"value": pl.Float64}))


def checked_arrow(stretch: Stretch, body: bytes) -> None:
    """Check an Arrow stream."""
    framed(stretch, pl.read_ipc_stream(io.BytesIO(body)))


def checked_parquet(stretch: Stretch, body: bytes) -> None:
    """Check a Parquet file."""
    framed(stretch, pl.read_parquet(io.BytesIO(body)))


FORMATS: Mapping[str, Callable[[Stretch, bytes], None]] = {
    "json": checked_json,
    "ndjson": checked_ndjson,
    "csv": checked_csv,
    "arrow": checked_arrow,
    "parquet": checked_parquet,
}


def client(load: Load) -> httpx.AsyncClient:
    """Return a client of the hub's HTTP."""
    return httpx.AsyncClient(base_url=load.site.http, timeout=PATIENCE_S)


def address(stretch: Stretch, rng: random.Random, format: str) -> str:
    """Return where the records of a range are, its bounds in words of their own."""
    bounds = (quote(in_words(rng, one)) for one in (stretch.start, stretch.end))
    start, end = bounds
    more = "".join(f"&{name}={value}" for name, value in stretch.params.items())
    return f"/v1/data/{stretch.provider}/{stretch.ticker}.{format}?start={start}&end={end}{more}"


async def got(http: httpx.AsyncClient, target: str, **told: Any) -> httpx.Response:
    """Return what is at an address; it must be there."""
    answer = await http.get(target, **told)
    if answer.is_error:
        raise Wrong(f"{answer.status_code} {answer.text[:500]} at {target}")
    return answer


async def small(load: Load, rng: random.Random) -> None:
    """Get small ranges in each format, some of them twice in the very same words."""
    async with client(load) as http:
        for _ in range(25):
            stretch = rng.choice((some_long, some_long, some_long, _newcomer))(rng, 1, 2_000)
            format = rng.choice(sorted(FORMATS))
            target = address(stretch, rng, format)
            for _ in range(rng.choice((1, 1, 2))):
                zipped = rng.choice(("gzip", "identity"))
                answer = await got(http, target, headers={"Accept-Encoding": zipped})
                FORMATS[format](stretch, answer.content)
                load.count(f"HTTP: {format}, small")


def _newcomer(rng: random.Random, _: int, __: int) -> Stretch:
    return rng.choice((some_new, some_isle, some_revised))(rng)


async def large(load: Load, rng: random.Random) -> None:
    """Get a hundred thousand records in each format, in pieces and with entity tags."""
    async with client(load) as http:
        for format in rng.sample(sorted(FORMATS), 3):
            stretch = some_long(rng, IN_ONE_PIECE - 20_000, 200_000)
            target = address(stretch, rng, format)
            body = await whole(load, http, stretch, target)
            await asyncio.to_thread(FORMATS[format], stretch, body)
            load.count(f"HTTP: {format}, large")


async def whole(load: Load, http: httpx.AsyncClient, stretch: Stretch, target: str) -> bytes:
    """Return a body; one that was broken off, for its series was forgotten, is asked for again."""
    for _ in range(TRIES):
        try:
            answer = await http.get(target)
            if answer.is_success:
                return answer.content
            if CHANGED not in answer.text:
                raise Wrong(f"{answer.status_code} {answer.text[:500]} at {target}")
        except httpx.RemoteProtocolError:
            if len(stretch.times) <= IN_ONE_PIECE:
                raise
        load.count("HTTP: an answer broken off, its series forgotten meanwhile")
    raise Wrong(f"broken off {TRIES} times: {target}")


async def paged(load: Load, rng: random.Random) -> None:
    """Get a range page by page; pages of what was forgotten meanwhile are refused."""
    stretch = some_long(rng, 5_000, 20_000)
    target: str | None = address(stretch, rng, "json") + "&limit=3000"
    bars: list[Bar] = []
    async with client(load) as http:
        while target is not None:
            answer = await http.get(target)
            if answer.is_error:
                if not any(one in answer.text for one in (CHANGED, "begin again without")):
                    raise Wrong(answer.text)
                load.count("HTTP: pages of what was forgotten meanwhile")
                return
            bars += bars_of(answer.content)
            load.count("HTTP: a page")
            target = answer.links.get("next", {}).get("url")
    stretch.check_bars(bars)


async def parts(load: Load, rng: random.Random) -> None:
    """Ask for the head of a body and for ranges of it, as those do who look into files."""
    async with client(load) as http:
        http.headers["Accept-Encoding"] = "identity"
        for _ in range(5):
            stretch = some_long(rng, 100, 5_000)
            target = address(stretch, rng, rng.choice(("parquet", "json")))
            head = await http.head(target)
            tag, size = head.headers.get("etag"), int(head.headers["content-length"])
            part = await got(http, target, headers={"Range": f"bytes=0-{size // 2 - 1}"})
            if part.status_code != 206 or len(part.content) != size // 2:
                raise Wrong(f"{part.status_code} with {len(part.content)} of {size} at {target}")
            again = await http.get(target, headers={"If-None-Match": tag or '"none"'})
            if tag and again.status_code != 304:
                raise Wrong(f"{again.status_code} though nothing has changed at {target}")
            load.count("HTTP: a head, a range of bytes, a tag", 3)


async def asked(load: Load, rng: random.Random) -> None:
    """Ask as over TCP, for plans, for coverage, for listings, and how the hub is."""
    async with client(load) as http:
        for _ in range(10):
            stretch = rng.choice((some_isle, some_new, some_revised))(rng)
            line = line_of(stretch.query(rng))
            answer = await http.post(
                "/v1/query", content=line, headers={"Content-Type": "application/json"}
            )
            stretch.check_reply(reply_of(answer.content.rstrip(b"\n") + b"\n"))
            load.count("HTTP: POST /v1/query")
            stretch = some_long(rng, 1, 100_000)
            plan = (await http.post("/v1/plan", json=body_of(stretch, rng))).raise_for_status()
            told = plan.json()
            if not (told["cached"] or told["gaps"]):
                raise Wrong(f"{told} of {stretch}")
            load.count("HTTP: POST /v1/plan")
            stretch = rng.choice((some_isle(rng), some_long(rng, 1, 1)))
            ticker = stretch.ticker
            target = f"/v1/coverage/{stretch.provider}/{ticker}?form={stretch.form}"
            coverage = await http.get(target)
            if coverage.status_code != 404:
                rows = coverage.raise_for_status().json()["coverage"]
                starts = [row["start"] for row in rows]
                if starts != sorted(set(starts)):
                    raise Wrong(f"coverage of {ticker} does not ascend")
            load.count("HTTP: coverage")
        for target in (
            f"/v1/series?limit=50&provider={rng.choice(('arithmetic', 'reloaded', 'revising'))}",
            f"/v1/entities?limit=20&offset={rng.randrange(30)}",
            f"/v1/entities?tags=ticker%3DNONE{rng.getrandbits(40):x}",
            "/v1/providers",
            "/providers",
            "/v1/plugins",
            "/metrics",
            "/readyz",
            "/healthz",
            "/openapi.json",
        ):
            await got(http, target)
            load.count(f"HTTP: {target.partition('?')[0]}")
        for target, status in (("/v1/data/nobody/X", 404), ("/v1/data/sample/AAPL?start=x", 400)):
            if (await http.get(target)).status_code != status:
                raise Wrong(target)
            load.count("HTTP: a request that is refused")


def body_of(stretch: Stretch, rng: random.Random) -> dict[str, Any]:
    """Return a range as plans and refreshing take it."""
    return {
        "provider": stretch.provider,
        "ticker": stretch.ticker,
        "start": in_words(rng, stretch.start),
        "end": in_words(rng, stretch.end),
        "params": stretch.params,
    }


async def slow(load: Load, rng: random.Random) -> None:
    """Read a large answer slowly and steadily, to its end or until its series is forgotten."""
    stretch = some_long(rng, 60_000, 120_000)
    format = rng.choice(("json", "csv", "arrow"))
    received = bytearray()
    async with client(load) as http:
        try:
            async with http.stream("GET", address(stretch, rng, format)) as answer:
                if answer.is_error:
                    told = (await answer.aread()).decode()
                    if CHANGED not in told:
                        raise Wrong(f"{answer.status_code} {told} of {stretch}")
                    load.count("HTTP: an answer broken off, its series forgotten meanwhile")
                    return
                async for piece in answer.aiter_bytes(64 << 10):
                    received += piece
                    # Two megabytes a second, and when all is over as fast as it comes.
                    if load.goes_on:
                        await asyncio.sleep(0.03)
        except httpx.RemoteProtocolError:
            load.count("HTTP: an answer broken off, its series forgotten meanwhile")
            return
    await asyncio.to_thread(FORMATS[format], stretch, bytes(received))
    load.count("HTTP: a large answer that is read slowly")


async def hang_ups(load: Load, rng: random.Random) -> None:
    """Hang up while an answer is made, or in the middle of it."""
    stretch = some_long(rng, 1_000, 200_000)
    async with client(load) as http:
        target = address(stretch, rng, rng.choice(sorted(FORMATS)))
        try:
            async with asyncio.timeout(rng.uniform(0.01, 1)), http.stream("GET", target) as answer:
                async for _ in answer.aiter_raw(rng.randint(1, 200_000)):
                    break
        except (TimeoutError, httpx.RemoteProtocolError):
            pass
    load.count("HTTP: a client that hangs up")


# Keeping house


async def forgetting(load: Load, rng: random.Random) -> None:
    """Forget ranges of histories that everybody asks for, and refresh others."""
    async with client(load) as http:
        stretch = rng.choice((some_isle, _some_bar))(rng)
        bounds = {name: body_of(stretch, rng)[name] for name in ("start", "end")}
        target = f"/v1/series/{stretch.provider}/{stretch.ticker}"
        gone = await http.delete(target, params={**bounds, **stretch.params})
        if gone.status_code not in (200, 404):
            raise Wrong(f"{gone.status_code} {gone.text}")
        load.count("HTTP: a range that is forgotten")
        stretch = rng.choice((some_revised, _some_bar))(rng)
        anew = await http.post("/v1/refresh", json=body_of(stretch, rng))
        stitch = anew.raise_for_status().json()["stitch"]
        if stitch["missing"] or stitch["state"] != "ready":
            raise Wrong(f"{anew.text} of {stretch}")
        load.count("HTTP: POST /v1/refresh")


def _some_bar(rng: random.Random) -> Stretch:
    return some_long(rng, 1, 3)


async def keeping_house(load: Load, rng: random.Random) -> None:
    """Forget what is old, and load a plugin anew while others are asking it."""
    control = Control(Path(load.site.socket))
    before = int((time.time() - OLD_S) * 1_000)
    await asyncio.to_thread(control.prune, before)
    load.count("what is old is forgotten")
    async with client(load) as http:
        status = (await http.post("/v1/plugins/reloaded/reload")).raise_for_status()
        if json.loads(status.content)["name"] != "reloaded":
            raise Wrong(status.text)
        load.count("HTTP: a plugin is loaded anew")
    await asyncio.sleep(HOUSE_S)


VISITS: Mapping[Visit, int] = {
    small: 3,
    large: 2,
    paged: 1,
    parts: 1,
    asked: 1,
    slow: 3,
    hang_ups: 2,
    forgetting: 1,
    keeping_house: 1,
}

if __name__ == "__main__":
    play(VISITS)
