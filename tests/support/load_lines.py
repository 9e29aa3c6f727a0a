"""The load of clients over TCP, well behaved and not: a script (see `support.load`)."""

from __future__ import annotations

import asyncio
import random
import time
from collections.abc import Mapping
from contextlib import suppress
from typing import Any

from gapless.domain.intervals import Interval
from gapless.instants import format_instant
from support.load import (
    CHANGED,
    DAY_S,
    FORMS,
    ISLES,
    PLUGINS,
    Load,
    Reply,
    Stretch,
    Visit,
    Wrong,
    bars_of,
    entities_of,
    in_words,
    play,
    reply_of,
    some_isle,
    some_long,
    some_new,
    some_revised,
)
from support.oracle import SampleOracle
from support.wire import Wire, connect, line_of, records, request, search

ORACLE = SampleOracle()
SAMPLE_FROM_S, SAMPLE_DAYS = 946_684_800, 4_700
MALFORMED: Mapping[bytes, str] = {
    b"\n\nnonsense\n": "invalid_json",
    b"[1, 2, 3]\n": "invalid_json",
    b'{"query": {"type": "ProviderList"\n': "invalid_json",
    b"\xff\xfe\xfd\n": "invalid_json",
    b"{}\n": "invalid_envelope",
    b'{"request_id": 1, "request_id": 2, "query": {"type": "Ping"}}\n': "invalid_envelope",
    b'{"query": {"type": "Nothing"}}\n': "invalid_envelope",
    b'{"query": {"type": "ProviderRequest", "payload": 7}}\n': "invalid_envelope",
}


async def asked(wire: Wire, query: dict[str, Any], **envelope: Any) -> Reply:
    """Return the answer to a query."""
    await wire.send(line_of(query, **envelope))
    return reply_of(await wire.line())


def broken_off(load: Load, line: bytes | bytearray) -> bool:
    """Whether a long answer has no end, or none was begun, for its series was forgotten."""
    broken = CHANGED.encode() in line[-2_000:] or (len(line) > 0 and not line.endswith(b"\n"))
    if broken:
        load.count("TCP: an answer broken off, its series forgotten meanwhile")
    return broken


async def refused(wire: Wire, query: dict[str, Any], code: str, reason: str | None = None) -> None:
    """See that a query is answered with an error, and with which."""
    error = (await asked(wire, query)).error
    if error is None or (error.code, error.reason) != (code, reason):
        raise Wrong(f"{error} where {code} {reason} was due, to {query}")


async def held_words(load: Load, rng: random.Random) -> None:
    """Ask for ranges that are held, one at a time, each in words that were never asked before."""
    async with await connect(load.site.port) as wire:
        for _ in range(40):
            stretch = some_long(rng, 1, rng.choice((50, 500, 3_000)))
            how = rng.choice(({}, {"data_as": "array"}, {"fresh": "held"}, {"facts": True}))
            stretch.check_reply(await asked(wire, stretch.query(rng), **how))
            load.count("TCP: one range in new words")


async def pipelined(load: Load, rng: random.Random) -> None:
    """Send many requests without waiting; their answers come in order, or in any if asked to."""
    async with await connect(load.site.port) as wire:
        for _ in range(5):
            ordered = rng.random() < 0.7
            some = [
                rng.choice((some_isle, some_new, some_revised))(rng)
                if rng.random() < 0.1
                else some_long(rng, 1, 400)
                for _ in range(rng.randint(2, 64))
            ]
            lines = [
                line_of(stretch.query(rng), request_id=i, ordered=ordered)
                for i, stretch in enumerate(some)
            ]
            wire.write(b"".join(lines))
            came = []
            for _ in some:
                reply = reply_of(await wire.line())
                some[reply.request_id].check_reply(reply)
                came.append(reply.request_id)
            if (came if ordered else sorted(came)) != list(range(len(some))):
                raise Wrong(f"answers came as {came}")
            load.count(f"TCP: pipelined, {'in order' if ordered else 'in any order'}", len(some))


async def isles(load: Load, rng: random.Random) -> None:
    """Ask for single bars all over a history, and now and then for a range over many of them."""
    async with await connect(load.site.port) as wire:
        for _ in range(60):
            stretch = some_isle(rng, most=rng.choice((1, 1, 1, 3)))
            stretch.check_reply(await asked(wire, stretch.query(rng)))
            load.count("TCP: a gap of few bars")
        stretch = some_isle(rng, most=20_000)
        stretch.check_reply(await asked(wire, stretch.query(rng)))
        load.count("TCP: a range over islands")


async def newcomers(load: Load, rng: random.Random) -> None:
    """Ask for tickers that nobody has asked for before, of which some are none."""
    async with await connect(load.site.port) as wire:
        for _ in range(20):
            stretch = some_new(rng)
            stretch.check_reply(await asked(wire, stretch.query(rng)))
            load.count("TCP: a ticker for the first time")
        none = f"NONE{rng.getrandbits(60):x}"
        query = search(PLUGINS[0], none, "2020-01-01", "2020-01-02")
        await refused(wire, query, "provider_request_failed", "unknown_ticker")
        load.count("TCP: an unknown ticker")


async def revised(load: Load, rng: random.Random) -> None:
    """Ask for what ages and is compared when it is fetched again."""
    async with await connect(load.site.port) as wire:
        for _ in range(20):
            stretch = some_revised(rng)
            stretch.check_reply(await asked(wire, stretch.query(rng)))
            load.count("TCP: a range that ages")


async def large(load: Load, rng: random.Random) -> None:
    """Ask for a hundred thousand records, as a text or as an array."""
    async with await connect(load.site.port) as wire:
        for _ in range(3):
            stretch = some_long(rng, 60_000, 200_000)
            how = rng.choice(("string", "array"))
            await wire.send(line_of(stretch.query(rng), data_as=how))
            line = await wire.line()
            if broken_off(load, line):
                return
            await asyncio.to_thread(stretch.check_reply, reply_of(line))
            load.count(f"TCP: 60,000 to 200,000 records, {how}")


async def cold(load: Load, rng: random.Random) -> None:
    """Ask for a long history that nobody has, once."""
    async with await connect(load.site.port) as wire:
        start = 1_000 * (1_100_000_000 + rng.randrange(10**8))
        bars = rng.randint(10_000, 40_000)
        ticker = f"COLD{rng.getrandbits(60):x}"
        stretch = Stretch(
            rng.choice(PLUGINS), ticker, start, start + bars * 60_000, rng.choice(FORMS)
        )
        reply = await asked(wire, stretch.query(rng), data_as="array")
        await asyncio.to_thread(stretch.check_reply, reply)
        load.count("TCP: a long history for the first time")
    # Others are to have their turn: this costs as much as all else.
    await asyncio.sleep(rng.uniform(1, 3))


async def sample(load: Load, rng: random.Random) -> None:
    """Ask for bundled prices, in the query language too."""
    async with await connect(load.site.port) as wire:
        for _ in range(20):
            ticker = rng.choice(ORACLE.tickers)
            first = SAMPLE_FROM_S + rng.randrange(SAMPLE_DAYS) * DAY_S
            span = Interval(first * 1_000, (first + rng.randint(1, 400) * DAY_S) * 1_000)
            start, end = map(format_instant, span)
            query = search("sample", ticker, start, end)
            if rng.random() < 0.5:
                line = f"provider sample search ticker={ticker} date={start}..{end}"
                query = {"type": "Line", "payload": {"line": line}}
            await wire.send(line_of(query))
            if records(await wire.answer()) != ORACLE.rows(ticker, span):
                raise Wrong(f"{ticker} {span}")
            load.count("TCP: the sample")


async def stored(load: Load, rng: random.Random) -> None:
    """List what is stored, search it for what is not there, get by id, ask for what is refused."""
    async with await connect(load.site.port) as wire:
        for _ in range(10):
            tags = [f"ticker=NONE{rng.getrandbits(40):x}"]
            query = request(PLUGINS[0], "SearchEntities", query=[{"ByTags": tags}], limit=None)
            if entities_of(await asked(wire, query)):
                raise Wrong(f"there is something with {tags}")
            load.count("TCP: tags that nothing has")
        of = rng.choice((*PLUGINS, "revising"))
        query = request(of, "GetAllEntities", limit=20, offset=rng.randrange(50))
        for entity in entities_of(await asked(wire, query)):
            if entity.source != of:
                raise Wrong(f"{entity.id} is none of {of}")
        load.count("TCP: a listing")
        # An id of nothing is a ticker, of which the last 30 days are meant.
        ticker = f"ID{rng.getrandbits(60):x}"
        (entity,) = entities_of(await asked(wire, request("revising", "GetEntity", id=ticker)))
        again = entities_of(await asked(wire, request("revising", "GetEntity", id=entity.id)))
        if len(bars_of(entity.data)) not in (720, 721) or again[0].source != "revising":
            raise Wrong(f"{entity.id}")
        load.count("TCP: an entity by its id", 2)
        await refused(wire, request(of, "GetReport", url="x"), "unsupported")
        await refused(wire, search("nobody", "X", "-1d"), "provider_not_found")
        await refused(wire, search(of, "X", "2020-01-02", "2020-01-01"), "invalid_query")
        await refused(wire, search(of, "X", "-1d", side="left"), "invalid_query")
        load.count("TCP: a request that is refused", 4)
        for query in ({"type": "Ping"}, {"type": "ProviderList"}):
            if not (await asked(wire, query)).ok:
                raise Wrong(f"{query}")
        load.count("TCP: a ping, a list of providers", 2)


async def malformed(load: Load, rng: random.Random) -> None:
    """Send what is no request; each line is told so, and the connection is good for the next."""
    async with await connect(load.site.port) as wire:
        for line, code in rng.sample(sorted(MALFORMED.items()), len(MALFORMED)):
            await wire.send(line)
            error = reply_of(await wire.line()).error
            if error is None or error.code != code:
                raise Wrong(f"{error} to {line!r}")
            await wire.ping()
            load.count("TCP: a malformed line")
        wire.write(b'{"query": "' + b"x" * (1 << 20) + b'"}\n')
        error = reply_of(await wire.line()).error
        if error is None or error.code != "line_too_long":
            raise Wrong(f"{error} to a line that is too long")
        await wire.rest()
        load.count("TCP: a line that is too long")
    async with await connect(load.site.port) as wire:
        wire.write(b"GET / HTTP/1.1\r\nHost: localhost\r\n\r\n")
        if await wire.rest():
            raise Wrong("a browser was answered")
        load.count("TCP: a browser at the wrong door")


async def slow(load: Load, rng: random.Random) -> None:
    """Read large answers slowly and steadily: no reason to be closed."""
    async with await connect(load.site.port) as wire:
        some = [some_long(rng, 20_000, 60_000) for _ in range(2)]
        wire.write(b"".join(line_of(one.query(rng), data_as="array") for one in some))
        received, lines = bytearray(), 0
        while lines < len(some):
            piece = await wire.reader.read(64 << 10)
            if not piece:
                if not broken_off(load, received):
                    raise Wrong(f"a slow reader was closed after {len(received)} bytes")
                return
            received += piece
            lines += piece.count(b"\n")
            # Two megabytes a second, and when all is over as fast as it comes.
            if load.goes_on:
                await asyncio.sleep(0.03)
        for stretch, line in zip(some, received.splitlines(keepends=True), strict=True):
            if not broken_off(load, line):
                stretch.check_reply(reply_of(line))
                load.count("TCP: a large answer that is read slowly")


async def hang_ups(load: Load, rng: random.Random) -> None:
    """Hang up in the middle of a request, while it is worked on, or in the middle of its answer."""
    stretch = rng.choice((some_new, some_isle))(rng)
    if rng.random() < 0.6:
        stretch = some_long(rng, 1, 100_000)
    wire = await connect(load.site.port)
    async with wire:
        line = line_of(stretch.query(rng)) * rng.randint(1, 3)
        await wire.send(line[: rng.randint(1, len(line) - 1)] if rng.random() < 0.3 else line)
        if rng.random() < 0.5:
            with suppress(TimeoutError):
                async with asyncio.timeout(0.1):
                    await wire.reader.read(rng.randint(1, 200_000))
        if rng.random() < 0.5:
            wire.reset()
    load.count("TCP: a client that hangs up")


async def impatient(load: Load, rng: random.Random) -> None:
    """Come, ask who is there, and go: many connections, one after the other."""
    for _ in range(50):
        async with await connect(load.site.port) as wire:
            await wire.ping()
            load.count("TCP: a connection for one ping")
    line = f"provider {PLUGINS[0]} search ticker={rng.choice(ISLES)} date={{}}..{{}}"
    async with await connect(load.site.port) as wire:
        now = int(time.time()) * 1_000 - DAY_S * 1_000
        bounds = in_words(rng, now), in_words(rng, now + rng.randrange(10**6))
        query = {"type": "Line", "payload": {"line": line.format(*bounds)}}
        if not (await asked(wire, query)).ok:
            raise Wrong(f"{query}")
        load.count("TCP: a line of the query language")


VISITS: Mapping[Visit, int] = {
    held_words: 3,
    pipelined: 2,
    isles: 2,
    newcomers: 1,
    revised: 1,
    large: 2,
    cold: 1,
    sample: 1,
    stored: 1,
    malformed: 1,
    slow: 3,
    hang_ups: 2,
    impatient: 1,
}

if __name__ == "__main__":
    play(VISITS)
