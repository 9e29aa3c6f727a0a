"""Turns: one party after the other, nobody is passed over, and whoever leaves leaves nothing."""

from __future__ import annotations

import asyncio
import threading
from collections.abc import Hashable

import pytest

from gapless.turns import FairShares, FairTurns, in_turns
from support.wire import PATIENCE_S


class Crowd:
    """Tasks that take turns, the names of those who had theirs in order, and a way to end each."""

    def __init__(self, turns: FairTurns) -> None:
        self.turns = turns
        self.order: list[str] = []
        self._ends: dict[str, asyncio.Event] = {}
        self._tasks: dict[str, asyncio.Task[None]] = {}

    async def come(self, name: str, weight: int = 1, party: Hashable | None = None) -> None:
        """Have one come that keeps its turn until it is told to go; its party is its first letter.

        Returns when everything has run that can.
        """
        self._ends[name] = asyncio.Event()
        who = name[0] if party is None else party
        self._tasks[name] = asyncio.create_task(self._stay(name, who, weight))
        await settled()

    async def go(self, name: str) -> None:
        """Have one go that has its turn."""
        self._ends[name].set()
        await self._tasks.pop(name)
        await settled()

    async def give_up(self, name: str) -> None:
        """Cancel one, whether it waits or has its turn."""
        task = self._tasks.pop(name)
        task.cancel()
        with pytest.raises(asyncio.CancelledError):
            await task
        await settled()

    async def all_go(self) -> None:
        """Have all go, as they have their turns; nothing is left then."""
        async with asyncio.timeout(PATIENCE_S):
            while self._tasks:
                name = next(name for name in self.order if name in self._tasks)
                await self.go(name)
        assert self.turns.left == self.turns.places
        assert self.turns.waiting == 0
        assert not any(self.turns.taken_by(party) for party in "abcdefgh")

    async def _stay(self, name: str, party: Hashable, weight: int) -> None:
        async with self.turns.turn(party, weight):
            self.order.append(name)
            await self._ends[name].wait()


async def settled() -> None:
    """Let everything run that can."""
    for _ in range(5):
        await asyncio.sleep(0)


async def test_parties_have_their_turns_one_after_the_other() -> None:
    """However long one's queue is; within a party the first to come is served first."""
    crowd = Crowd(FairTurns(2))
    for name in ("a0", "a1", "a2", "a3", "a4", "b0", "b1", "c0"):
        await crowd.come(name)
    assert crowd.order == ["a0", "a1"]
    assert (crowd.turns.waiting, crowd.turns.waiting_of("a"), crowd.turns.left) == (6, 3, 0)
    await crowd.all_go()
    assert crowd.order == ["a0", "a1", "a2", "b0", "c0", "a3", "b1", "a4"]


async def test_who_comes_back_comes_last() -> None:
    """One who has had its turn and wants another one has it after all others' next."""
    crowd = Crowd(FairTurns(1))
    for name in ("a0", "b0", "c0"):
        await crowd.come(name)
    await crowd.go("a0")
    await crowd.come("a1")
    await crowd.come("b1")
    await crowd.all_go()
    assert crowd.order == ["a0", "b0", "c0", "a1", "b1"]


async def test_what_is_heavy_is_not_overtaken() -> None:
    """Places that come free are kept for the one whose turn it is until they are enough."""
    crowd = Crowd(FairTurns(10))
    for name, weight in (("a0", 4), ("b0", 4), ("c0", 8), ("d0", 1), ("c1", 1)):
        await crowd.come(name, weight)
    assert crowd.order == ["a0", "b0"]
    await crowd.go("a0")
    assert crowd.order == ["a0", "b0"]
    await crowd.go("b0")
    assert crowd.order == ["a0", "b0", "c0", "d0", "c1"]
    await crowd.all_go()


async def test_one_that_is_heavier_than_all_has_all() -> None:
    """It waits until everything is free, and has its turn."""
    crowd = Crowd(FairTurns(10))
    await crowd.come("a0", 3)
    await crowd.come("b0", 5_000)
    assert crowd.order == ["a0"]
    await crowd.go("a0")
    assert (crowd.order, crowd.turns.taken_by("b")) == (["a0", "b0"], 10)
    await crowd.all_go()


@pytest.mark.parametrize("turns", [FairTurns(10), FairShares(20)], ids=["turns", "shares"])
async def test_who_gives_up_leaves_nothing_behind(turns: FairTurns) -> None:
    """Cancelled while it waits, in its turn, or in the moment between, it keeps nobody waiting."""
    crowd = Crowd(turns)
    for name, weight in (("a0", 10), ("b0", 10), ("c0", 2), ("d0", 2)):
        await crowd.come(name, weight)
    await crowd.give_up("b0")
    await crowd.give_up("a0")
    assert crowd.order[0] == "a0"
    assert sorted(crowd.order) == ["a0", "c0", "d0"]
    await crowd.all_go()
    for early in (True, False):
        first = turns.turn("a", 10)
        await first.__aenter__()
        waiting = asyncio.ensure_future(turns.turn("b", 8).__aenter__())
        await settled()
        if early:
            waiting.cancel()
        await first.__aexit__(None, None, None)
        waiting.cancel()
        with pytest.raises(asyncio.CancelledError):
            await waiting
        assert turns.left == turns.places
    await crowd.all_go()


async def test_one_that_gives_up_lets_those_behind_it_go() -> None:
    """A heavy one that leaves its place at the head was all that kept the others waiting."""
    crowd = Crowd(FairTurns(10))
    for name, weight in (("a0", 4), ("b0", 8), ("c0", 2), ("d0", 2)):
        await crowd.come(name, weight)
    assert crowd.order == ["a0"]
    await crowd.give_up("b0")
    assert crowd.order == ["a0", "c0", "d0"]
    await crowd.all_go()


async def test_patience_ends() -> None:
    """Who waits for longer than it has patience is told so, and is gone."""
    turns = FairTurns(1)
    await turns.acquire("a")
    with pytest.raises(TimeoutError):
        async with turns.turn("b", patience=0.001):
            pytest.fail("it had a turn")
    assert turns.waiting == 0
    turns.release("a")
    async with turns.turn("b", patience=0.001):
        assert (turns.left, turns.taken_by("b")) == (0, 1)


async def test_nobody_has_more_than_is_left_to_others() -> None:
    """One alone has half; beside another one a third; there is always something for who comes."""
    crowd = Crowd(FairShares(120))
    for number in range(10):
        await crowd.come(f"a{number}", 10)
    assert crowd.turns.taken_by("a") == 60
    for number in range(10):
        await crowd.come(f"b{number}", 10)
    assert (crowd.turns.taken_by("b"), crowd.turns.left) == (30, 30)
    # What one of the first gives back is not theirs again while they have more than is left.
    await crowd.go("a0")
    assert (crowd.turns.taken_by("a"), crowd.turns.left) == (50, 40)
    await crowd.go("a1")
    assert (crowd.turns.taken_by("a"), crowd.turns.taken_by("b")) == (40, 40)
    await crowd.all_go()


async def test_what_is_heavy_leaves_room_and_is_passed() -> None:
    """One that wants much waits until much is left, and who wants little need not wait for it."""
    crowd = Crowd(FairShares(100))
    await crowd.come("a0", 40)
    await crowd.come("b0", 35)
    await crowd.come("c0", 30)
    await crowd.come("d0", 10)
    assert crowd.order == ["a0", "c0", "d0"]
    await crowd.go("a0")
    assert crowd.order == ["a0", "c0", "d0"]
    await crowd.go("d0")
    assert crowd.order == ["a0", "c0", "d0", "b0"]
    await crowd.all_go()
    # What is larger than any share has its turn when nobody else has anything.
    await crowd.come("a1", 10)
    await crowd.come("b1", 1_000)
    assert "b1" not in crowd.order
    await crowd.go("a1")
    assert crowd.turns.taken_by("b") == 50
    await crowd.all_go()


async def test_parties_may_go_by_any_name() -> None:
    """Whatever can be hashed: numbers, tuples, nothing at all."""
    turns = FairTurns(1)
    names: list[Hashable] = [None, 0, "", ("user", 3)]
    order: list[Hashable] = []

    async def work(party: Hashable) -> None:
        async with turns.turn(party):
            order.append(party)

    await turns.acquire("first")
    tasks = [asyncio.create_task(work(name)) for name in names for _ in range(2)]
    await settled()
    turns.release("first")
    await asyncio.gather(*tasks)
    assert order == names * 2


async def test_work_in_a_thread_keeps_its_turn_to_its_end() -> None:
    """Whoever has it done may leave before; the thread is at work all the same."""
    turns, begun, ended = FairTurns(1), threading.Event(), threading.Event()

    def work() -> None:
        begun.set()
        ended.wait(PATIENCE_S)

    leaving = asyncio.create_task(in_turns(None, work, turns))
    await asyncio.to_thread(begun.wait)
    leaving.cancel()
    with pytest.raises(asyncio.CancelledError):
        await leaving
    assert turns.left == 0
    after = asyncio.create_task(in_turns(None, lambda: "done", turns))
    ended.set()
    assert await after == "done"
    assert turns.left == 1
