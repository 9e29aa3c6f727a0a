"""Whatever is fetched, refreshed, forgotten, pruned and read anew, in whatever order it comes.

What is stored of each day is always what was asked for last: never an older copy over a newer
one, and nothing that was forgotten since.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Mapping
from dataclasses import dataclass, field
from itertools import pairwise
from pathlib import Path
from typing import Any, Literal, NamedTuple

import pytest
from hypothesis import HealthCheck, example, given, note, settings
from hypothesis import strategies as st

from gapless.domain.intervals import ALWAYS, Interval
from gapless.errors import GaplessError
from gapless.hub.answers import Answer
from gapless.instants import DAY_MS
from support.editions import Editions, day, days
from support.extent import share
from support.steps import Steps, steps

SIZE = 30
MOST = share(50, of=1_000)
# Coverage of an age apart by more than a week is not joined, so each tick is an age of its own.
TICK_S = 8 * 86_400

What = Literal[
    "ask",
    "refresh",
    "release",
    "answer",
    "hurry",
    "refuse",
    "delete",
    "forget",
    "prune",
    "reload",
    "revise",
    "tick",
]


class Act(NamedTuple):
    """Something that is done: to days `[first, end)`, or to one of what waits."""

    what: What
    first: int
    end: int


# Before the end of what is held at first, across it, and behind it: where tasks meet.
LANDMARKS = [(0, 15), (8, 15), (10, 14), (12, 15), (13, 18), (15, 17), (15, 25), (20, 30), (0, 30)]
anywhere = st.tuples(st.integers(0, SIZE - 1), st.integers(1, SIZE)).map(
    lambda pair: (pair[0], min(SIZE, pair[0] + pair[1]))
)
spans = st.one_of(st.sampled_from(LANDMARKS), anywhere)
# How often each is done, beside the others.
SHARES: Mapping[What, int] = {
    "ask": 4,
    "refresh": 3,
    "release": 4,
    "answer": 2,
    "hurry": 3,
    "refuse": 1,
    "delete": 2,
    "forget": 1,
    "prune": 1,
    "reload": 1,
    "revise": 4,
    "tick": 1,
}
weighted = [what for what, share in SHARES.items() for _ in range(share)]
acts = st.lists(
    st.builds(lambda what, span: Act(what, *span), st.sampled_from(weighted), spans),
    min_size=4,
    max_size=30,
).map(lambda later: [Act("ask", 0, SIZE // 2), Act("answer", 0, 0), *later])


@dataclass(slots=True)
class History:
    """One series from its first request on, and what may be stored of it.

    `least`: the number that what is stored of a day must have at least, by day: whatever was
    asked for before is out of date.
    """

    world: Steps
    ticker: str
    least: dict[int, int] = field(default_factory=lambda: dict.fromkeys(range(SIZE), 0))
    refreshing: list[tuple[int, Act, asyncio.Task[Any]]] = field(default_factory=list)
    asking: list[asyncio.Task[Any]] = field(default_factory=list)

    async def do(self, act: Act) -> None:
        """Do something, and look at what it came to."""
        upstream, hub = self.world.upstream, self.world.hub
        key = self.world.key(self.ticker)
        match act.what:
            case "ask":
                asking = self.world.ask(self.ticker, act.first, act.end)
                self.asking.append(asyncio.ensure_future(asking))
            case "refresh":
                number = upstream.number()
                refreshing = self.world.refresh(self.ticker, act.first, act.end)
                self.refreshing.append((number, act, asyncio.ensure_future(refreshing)))
            case "release" if upstream.waiting:
                upstream.release(upstream.waiting[act.first % len(upstream.waiting)])
            case "answer":
                await self.answered(0)
            case "hurry":
                # All but the slowest, which has waited longest.
                await self.answered(1)
            case "refuse" if upstream.waiting:
                upstream.refuse(upstream.waiting[act.first % len(upstream.waiting)])
            case "delete":
                self.forgotten(range(act.first, act.end))
                await self.world.administration.delete(key, days(act.first, act.end))
            case "forget":
                self.forgotten(range(SIZE))
                await self.world.administration.delete(key)
            case "prune":
                await self.prune(self.world.clock.now_ms() - act.first % 3 * TICK_S * 1000)
            case "reload":
                hub.memory.forget(upstream.info.name)
            case "revise":
                upstream.revise(self.ticker, act.first, act.end)
            case "tick":
                self.world.clock.advance(TICK_S)
        await self.world.settled()
        await self.check()

    async def answered(self, slow: int) -> None:
        """Let upstream answer all that comes, but for so many of those that have waited longest."""
        upstream = self.world.upstream
        await self.world.settled()
        while len(upstream.waiting) > slow:
            upstream.release(upstream.waiting[-1])
            await self.world.settled()

    def forgotten(self, gone: range) -> None:
        """Note that days are forgotten now: what was asked for before may not come back."""
        number = self.world.upstream.number()
        for one in gone:
            self.least[one] = number

    async def prune(self, before: int) -> None:
        """Forget what is old; what is as old by then is gone, and the rest is as it was."""
        entry = await self.world.hub.holdings.directory(self.world.key(self.ticker), ALWAYS)
        old = [row.interval for row in entry.state.coverage if row.fetched_at < before]
        await self.world.hub.prune(before)
        for interval in old:
            self.forgotten(range(*edges(interval)))

    async def check(self) -> None:
        """Hold what is stored, and what memory shows, against what was asked for last."""
        self.refreshed()
        stored = await self.world.stored(self.ticker)
        assert set(stored) == await self.world.known(self.ticker), "each known day has its record"
        for one, row in stored.items():
            assert row["asked"] >= self.least[one], f"day {one} is of {row['asked']}"
            self.least[one] = row["asked"]
        key = self.world.key(self.ticker)
        entry = await self.world.hub.holdings.load(key, days(0, SIZE))
        held = {
            day(time): run.run.row(at)
            for run in entry.runs.values()
            for at, time in enumerate(run.run.times)
        }
        assert held == stored, "memory shows what is stored"
        commits = [change.commit for change in self.world.changes]
        assert all(one < two for one, two in pairwise(commits))
        mine = [change for change in self.world.changes if change.key == key]
        if mine:
            assert entry.state.version == (0 if mine[-1].gone else mine[-1].commit)

    def refreshed(self) -> None:
        """Note what has been fetched anew by now: no copy from before may stand there again."""
        for number, act, task in [one for one in self.refreshing if one[2].done()]:
            self.refreshing.remove((number, act, task))
            answer = outcome(task)
            if isinstance(answer, Answer) and answer.state == "ready":
                for one in range(act.first, act.end):
                    self.least[one] = max(self.least[one], number)

    async def end(self) -> None:
        """Let upstream answer until nobody waits, and look once more."""
        upstream = self.world.upstream
        while upstream.waiting or self.refreshing or not all(one.done() for one in self.asking):
            await self.answered(0)
            await self.check()
        for task in self.asking:
            outcome(task)
        assert self.world.hub.leases.of(self.world.key(self.ticker)) == ()
        await self.world.administration.delete(self.world.key(self.ticker))


def edges(interval: Interval) -> tuple[int, int]:
    """Return the days that an interval has the records of."""
    return day(interval.start + DAY_MS - 1), day(interval.end + DAY_MS - 1)


def outcome(task: asyncio.Task[Any]) -> object:
    """Return what a request came to; it may have been refused, but nothing else may go wrong."""
    error = task.exception()
    if error is None:
        return task.result()
    assert isinstance(error, GaplessError), error
    assert error.code == "provider_request_failed", error
    return error


@pytest.fixture(params=[False, True], ids=["steady", "revising"])
async def world(request: pytest.FixtureRequest, tmp_path: Path) -> AsyncIterator[Steps]:
    """Return a hub that all histories are played on, each of a series of its own."""
    async with steps(tmp_path, Editions(revises=request.param)) as one:
        yield one


@settings(
    max_examples=MOST,
    suppress_health_check=[HealthCheck.too_slow, HealthCheck.function_scoped_fixture],
)
# Forgotten by its age beside an answer that is under way.
@example(
    [
        Act("ask", 0, SIZE // 2),
        Act("answer", 0, 0),
        Act("refresh", 0, SIZE // 2),
        Act("tick", 0, 0),
        Act("prune", 0, 0),
    ]
)
@given(acts)
async def test_what_is_stored_is_what_was_asked_for_last(world: Steps, done: list[Act]) -> None:
    """Any history of a series."""
    history = History(world, f"T{world.upstream.number()}")
    for act in done:
        note(f"{world.upstream.count}: {act}, {world.upstream.waiting} wait")
        await history.do(act)
    await history.end()
