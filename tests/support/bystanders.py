"""Whoever asks for little while somebody else asks for much, and what that costs the one.

What is compared was measured in the same test, alone and beside the other in turn, so that a busy
machine slows down both.
"""

from __future__ import annotations

import asyncio
import sys
import time
from collections.abc import Awaitable, Callable, Iterable, Sequence
from dataclasses import dataclass, field
from statistics import median
from typing import Any

from gapless.domain.blocks import Run, encode_all
from gapless.domain.coverage import Coverage, Outcome
from gapless.domain.intervals import Interval
from gapless.domain.series import SeriesKey
from gapless.hub.holdings import Holdings, SeriesChanged
from gapless.instants import format_instant
from gapless.store.base import Change, Replacement, Store
from support.providers import START_MS, SteadyProvider
from support.steady_hub import MINUTE_MS
from support.wire import PATIENCE_S, Wire, connect, line_of, search

# So often is asked alone in each round.
_ALONE = 40
_PIECE = 1 << 20
_AT_ONCE = 100

LENGTH = 10
"""So many minutes are asked for where nothing else is said."""

Act = Callable[[], Awaitable[object]]


@dataclass(slots=True)
class Round:
    """What answers took, in seconds: alone, and beside somebody else's work."""

    alone: list[float] = field(default_factory=list)
    beside: list[float] = field(default_factory=list)

    @property
    def ratio(self) -> float:
        """How many times as long as alone it takes beside the other, by medians."""
        return median(self.beside) / median(self.alone)

    @property
    def felt(self) -> float:
        """The same for whoever asks at any moment: an answer that takes long meets more of them."""
        return _at_any_moment(self.beside) / _at_any_moment(self.alone)

    def __str__(self) -> str:
        alone, beside, longest = median(self.alone), median(self.beside), max(self.beside)
        return (
            f"{alone * 1e3:.2f} ms alone, {beside * 1e3:.2f} ms beside ({self.ratio:.1f} times as "
            f"long, at any moment {self.felt:.1f}), the longest of {len(self.beside)} "
            f"{longest * 1e3:.0f} ms"
        )


def best(rounds: Sequence[Round]) -> float:
    """Return the least ratio of the rounds: what else the machine does does not last for all."""
    return min(one.ratio for one in rounds)


def least_felt(rounds: Sequence[Round]) -> float:
    """Return the least ratio at any moment; see `best`."""
    return min(one.felt for one in rounds)


def _at_any_moment(times: Sequence[float]) -> float:
    """Return the time by which half of the time goes that all of them take."""
    half, passed = sum(times) / 2, 0.0
    for one in sorted(times):
        passed += one
        if passed >= half:
            return one
    raise AssertionError("nothing was asked")


async def timed(ask: Act) -> float:
    """Ask; return the seconds that it took."""
    began = time.perf_counter()
    await ask()
    return time.perf_counter() - began


async def disturbed(ask: Act, works: Iterable[Act]) -> list[Round]:
    """Ask alone and beside each of some works in turn, again and again until it is done."""
    rounds = []
    for work in works:
        one = Round([await timed(ask) for _ in range(_ALONE)])
        under_way = asyncio.ensure_future(work())
        # It is to have begun.
        await asyncio.sleep(0)
        while not under_way.done():
            one.beside.append(await timed(ask))
        await under_way
        rounds.append(one)
    return rounds


async def drain(port: int, requests: Sequence[bytes]) -> list[int]:
    """Send lines on a connection of their own; return how many bytes each answer has.

    They are not looked at, so that whoever asks beside it does not wait for that.
    """
    sizes = [0]
    async with asyncio.timeout(PATIENCE_S), await connect(port) as wire:
        wire.write(b"".join(requests))
        while len(sizes) <= len(requests):
            piece = await wire.reader.read(_PIECE)
            assert piece, "the connection ended where an answer was due"
            first, *others = piece.split(b"\n")
            sizes[-1] += len(first)
            sizes += map(len, others)
    return sizes[:-1]


class Asking:
    """Ranges of a provider, asked on one connection; each answer is looked at."""

    def __init__(
        self,
        wire: Wire,
        ticker: str,
        envelope: dict[str, Any] | None = None,
        provider: str = "steady",
    ) -> None:
        self._wire = wire
        self._provider = provider
        self._ticker = ticker
        self._envelope = envelope or {}

    async def __call__(self, asked: Interval, state: str = "ready") -> dict[str, Any]:
        """Ask for a range; return the answer."""
        answer = await self._wire.ask(
            search(self._provider, self._ticker, *map(format_instant, asked)), **self._envelope
        )
        assert answer["ok"], answer
        assert answer["stitch"]["state"] == state, answer["stitch"]
        return answer


def asking_for(ticker: str, asked: Interval, *, provider: str = "steady", **envelope: Any) -> bytes:
    """Return the line that asks for a range of a provider."""
    return line_of(search(provider, ticker, *map(format_instant, asked)), **envelope)


def minute(number: int, length: int = LENGTH) -> Interval:
    """Return so many minutes from this one on."""
    start = START_MS + number * MINUTE_MS
    return Interval(start, start + length * MINUTE_MS)


async def stock(
    store: Store, steady: SteadyProvider, ticker: str, parts: Sequence[Interval], at: int = 1
) -> SeriesKey:
    """Put records into a store as a hub does that has fetched them; return their series.

    `at`: when they were fetched, milliseconds UTC.
    """
    key = steady.key(ticker, {})
    for i in range(0, len(parts), _AT_ONCE):
        some = parts[i : i + _AT_ONCE]
        made = await asyncio.to_thread(_replacements, steady, key.ticker, some, at)
        await store.apply(Change(key, made, at=at))
    return key


def _replacements(
    steady: SteadyProvider, ticker: str, parts: Sequence[Interval], at: int
) -> tuple[Replacement, ...]:
    return tuple(
        Replacement(part, _run(steady, ticker, part), (Coverage(*part, Outcome.HELD, at),))
        for part in parts
    )


def _run(steady: SteadyProvider, ticker: str, part: Interval) -> Run:
    records = steady.records(ticker, part)
    texts = encode_all([record.row for record in records])
    return Run.of_texts([record.time for record in records], texts)


class Commits:
    """The commits of a hub, in order."""

    def __init__(self, holdings: Holdings) -> None:
        self.seen: list[SeriesChanged] = []
        holdings.listeners.append(self.seen.append)

    async def others_during(self, ask: Act, ticker: str) -> int:
        """Ask; return how many commits to series of other tickers there were meanwhile."""
        before = len(self.seen)
        await ask()
        return sum(one.key.ticker != ticker for one in self.seen[before:])


def tell(record_property: Callable[[str, object], None], **figures: object) -> None:
    """Keep figures beside the test's outcome, and print them."""
    for name, figure in figures.items():
        record_property(name, str(figure))
        sys.stdout.write(f"{name}: {figure}\n")
