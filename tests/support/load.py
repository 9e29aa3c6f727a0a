"""Clients that do everything at once for a while: what they ask for, and what it must be.

A visit is what one client does from when it comes until it leaves. A script of visits is a process
of its own, in which so many of each kind follow one another until the time is over. Records are
those of `plugin_sources/arithmetic.py`, so that each is known without asking.
"""

from __future__ import annotations

import asyncio
import os
import random
import sys
import time
import traceback
import warnings
from collections import Counter
from collections.abc import Awaitable, Callable, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta, timezone
from typing import Any

import msgspec
from msgspec import Raw, Struct

from support.plugin_sources import arithmetic
from support.plugin_sources.arithmetic import HOUR_S, MINUTE_S
from support.wire import search

# Where the minutes of all tickers begin that are asked for.
FIRST_S = int(datetime(2015, 1, 1, tzinfo=UTC).timestamp())
DAY_S = 86_400
# Histories that everybody asks for, each in a form of its own; together more than is kept in
# memory.
LONG = {"LONG1": "frame", "LONG2": "iterator", "LONG3": "frame"}
LONG_BARS = 220_000
ISLES = ("ISLE1", "ISLE2", "ISLE3")
ISLES_BARS = 700_000
REVISED = ("REV1", "REV2", "REV3", "REV4")
FORMS = ("list", "frame", "iterator")
# Both are the same code; one of them is loaded anew all the time.
PLUGINS = ("arithmetic", "reloaded")
# What is said where a long answer cannot be read to its end, for its series was forgotten.
CHANGED = "was changed while it was read"
# How long a client is away at the most before it comes again.
PAUSE_S = 0.4


class Wrong(AssertionError):
    """An answer is not what it must be."""


class Bar(Struct, frozen=True):
    """A record as it is answered."""

    timestamp: int
    value: float
    high: float
    volume: int


class Told(Struct, frozen=True):
    """An entity of an answer; `data` is an array, or the text of one."""

    id: str
    source: str
    state: str
    data: Raw
    last_error: str | None = None


class Fault(Struct, frozen=True):
    """The error of an answer."""

    code: str
    message: str
    reason: str | None = None


class Reply(Struct, frozen=True):
    """An answer over TCP."""

    ok: bool
    request_id: Any
    result: Raw
    error: Fault | None


_REPLIES = msgspec.json.Decoder(Reply)
_BARS = msgspec.json.Decoder(list[Bar])
_ENTITIES = msgspec.json.Decoder(list[Told])


def reply_of(line: bytes | bytearray) -> Reply:
    """Read a line that must be an answer."""
    if not line.endswith(b"\n"):
        raise Wrong(f"the connection ended where an answer was due, after {line[:200]!r}")
    return _REPLIES.decode(line)


def entities_of(reply: Reply) -> list[Told]:
    """Return the entities of an answer."""
    if not reply.ok:
        raise Wrong(f"{reply.error}")
    return _ENTITIES.decode(reply.result)


def bars_of(data: bytes | Raw) -> list[Bar]:
    """Return the records of an entity, whichever way they came."""
    text = memoryview(data)
    return _BARS.decode(msgspec.json.decode(text, type=str) if text[0] == ord('"') else text)


@dataclass(frozen=True, slots=True)
class Stretch:
    """A range of a history by arithmetic, half open, in milliseconds; a bar each `step` seconds."""

    provider: str
    ticker: str
    start: int
    end: int
    form: str | None = None
    step: int = MINUTE_S

    @property
    def times(self) -> range:
        """The times of its bars in Unix seconds."""
        first, last = (-(-bound // (self.step * 1_000)) for bound in (self.start, self.end))
        return range(first * self.step, last * self.step, self.step)

    @property
    def params(self) -> dict[str, str]:
        """What is asked for beside ticker and range."""
        return {} if self.form is None else {"form": self.form}

    def query(self, rng: random.Random) -> dict[str, Any]:
        """Return the query for it, its bounds in words of their own."""
        return search(
            self.provider,
            self.ticker,
            in_words(rng, self.start),
            in_words(rng, self.end),
            **self.params,
        )

    def check(self, times: Sequence[int], first: Any, last: Any) -> None:
        """Hold an answer to the arithmetic: times of all records, the first and the last one."""
        wanted = self.times
        if len(times) != len(wanted) or any(a != b for a, b in zip(times, wanted, strict=True)):
            raise Wrong(f"{len(times)} records of {self}, not {len(wanted)} ascending")
        for at, one in ((wanted[0], first), (wanted[-1], last)) if wanted else ():
            if one != arithmetic.bar(self.ticker, at):
                raise Wrong(f"{one} of {self}")

    def check_bars(self, bars: Sequence[Bar]) -> None:
        """Hold records to the arithmetic."""
        ends = [msgspec.structs.asdict(one) for one in (bars[0], bars[-1])] if bars else [{}, {}]
        self.check([one.timestamp for one in bars], *ends)

    def check_reply(self, reply: Reply) -> None:
        """Hold an answer over TCP to the arithmetic."""
        (entity,) = entities_of(reply)
        if entity.state != "ready":
            raise Wrong(f"{entity.id} is {entity.state}: {entity.last_error}")
        self.check_bars(bars_of(entity.data))


def in_words(rng: random.Random, instant: int) -> str:
    """Return an instant as one of the many texts that mean it."""
    zone = timezone(timedelta(minutes=rng.choice((0, 0, 60, 330, -300))))
    text = datetime.fromtimestamp(instant / 1_000, zone).isoformat(timespec="milliseconds")
    return text.replace("+00:00", "Z")


def some_long(rng: random.Random, least: int, most: int) -> Stretch:
    """Return a range of one of the histories that everybody asks for, of so many bars."""
    ticker = rng.choice(sorted(LONG))
    count = rng.randint(least, most)
    start = FIRST_S * 1_000 + rng.randrange(LONG_BARS - count) * 60_000 + rng.randrange(60_000)
    return Stretch(PLUGINS[0], ticker, start, start + count * 60_000, LONG[ticker])


def some_isle(rng: random.Random, most: int = 1) -> Stretch:
    """Return a bar, or a few, somewhere in a long history of which little is held."""
    start = (FIRST_S + rng.randrange(ISLES_BARS) * MINUTE_S) * 1_000
    end = start + rng.randint(1, most) * 60_000
    return Stretch(PLUGINS[1], rng.choice(ISLES), start, end, "list")


def some_new(rng: random.Random, most: int = 50) -> Stretch:
    """Return a range of a ticker that nobody has asked for before."""
    start = (FIRST_S + rng.randrange(ISLES_BARS) * MINUTE_S) * 1_000
    ticker = f"NEW{rng.getrandbits(60):x}"
    end = start + rng.randint(1, most) * 60_000
    return Stretch(PLUGINS[1], ticker, start, end, rng.choice(FORMS))


def some_revised(rng: random.Random) -> Stretch:
    """Return a range of a history that is checked again, up to the latest bar or not."""
    now = int(time.time()) // HOUR_S * HOUR_S
    end = now - rng.choice((0, 0, rng.randrange(2_000))) * HOUR_S
    start = end - rng.randint(1, 1_000) * HOUR_S
    return Stretch("revising", rng.choice(REVISED), start * 1_000, end * 1_000, None, HOUR_S)


class Site(Struct, frozen=True):
    """Where the hub is, what the visits are drawn by, and when they are over (`time.time`)."""

    port: int
    http: str
    socket: str
    seed: str
    until: float


@dataclass(slots=True)
class Load:
    """The visits of a process: whom they ask, and what they have counted."""

    site: Site
    counts: Counter[str] = field(default_factory=Counter)

    @property
    def goes_on(self) -> bool:
        """Whether the time is not over."""
        return time.time() < self.site.until

    def count(self, what: str, times: int = 1) -> None:
        """Count what was answered as it should be."""
        self.counts[what] += times

    async def repeat(self, visit: Visit, number: int) -> None:
        """Make one visit after the other until the time is over."""
        rng = random.Random(f"{self.site.seed} {visit.__name__} {number}")
        while self.goes_on:
            try:
                await visit(self, rng)
            except Exception as error:
                error.add_note(f"in {visit.__name__} {number} of seed {self.site.seed}")
                raise
            await asyncio.sleep(rng.uniform(0, PAUSE_S))


Visit = Callable[[Load, random.Random], Awaitable[None]]


async def _all(load: Load, visits: Mapping[Visit, int]) -> None:
    async with asyncio.TaskGroup() as group:
        for visit, count in visits.items():
            for number in range(count):
                group.create_task(load.repeat(visit, number))


def play(visits: Mapping[Visit, int]) -> None:
    """Be the process of a script: so many of each kind of visit at once; print what was counted."""
    # It is the hub that is to be busy, and its plugins, which stand back behind all others.
    os.nice(19)
    # That an answer is not ready is told as a warning.
    warnings.simplefilter("error")
    load = Load(msgspec.json.decode(sys.argv[1], type=Site))
    try:
        asyncio.run(_all(load, visits))
    except BaseException:
        traceback.print_exc()
        sys.exit(1)
    sys.stdout.buffer.write(msgspec.json.encode(load.counts))
