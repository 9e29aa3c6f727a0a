"""What waits for clients: a budget of bytes, and bodies that are made as far as they are taken."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncGenerator
from contextlib import aclosing

import pytest
from hypothesis import given
from hypothesis import strategies as st

from gapless.servers.http.budget import ByteBudget
from gapless.servers.http.streaming import BodyPiece, BodyStream
from gapless.servers.window import FIRST_BYTES, LEAST_BYTES, MOST_BYTES, Window, next_size

MIB = 1 << 20


async def settled() -> None:
    """Let everything run that can."""
    for _ in range(5):
        await asyncio.sleep(0)


class Body:
    """A body of so many pieces, which notes how many of them were asked for."""

    def __init__(self, count: int, size: int = 10) -> None:
        self.count, self.size = count, size
        self.made = 0
        self.closed = False

    async def pieces(self) -> AsyncGenerator[BodyPiece, None]:
        """Yield the pieces."""
        try:
            for number in range(self.count):
                self.made += 1
                await asyncio.sleep(0)
                yield BodyPiece(b"x" * self.size, last=number == self.count - 1)
        finally:
            self.closed = True


async def test_a_party_leaves_as_much_to_others() -> None:
    """One whose answers wait for their readers has half of the budget, and others have theirs."""
    budget = ByteBudget(100)
    greedy, other = budget.of("greedy"), budget.of("other")
    for _ in range(5):
        await greedy.acquire(10)
    waiting = asyncio.create_task(greedy.wait(10))
    await settled()
    assert not waiting.done()
    async with other.hold(20):
        assert budget.held == 70
    await settled()
    assert not waiting.done()
    greedy.release(10)
    await waiting
    for _ in range(5):
        greedy.release(10)
    assert budget.held == 0


async def test_a_body_is_made_one_piece_ahead_of_who_keeps_up() -> None:
    """What waits, and what is read meanwhile, counts until the client has taken it."""
    budget, body, window = ByteBudget(64 * MIB), Body(5), Window()
    taken = 0
    async with aclosing(BodyStream(body.pieces(), window, budget.of("a")).pieces()) as pieces:
        async for piece in pieces:
            taken += 1
            await settled()
            assert body.made == min(taken + 1, 5)
            assert 2 * FIRST_BYTES <= budget.held <= 4 * MOST_BYTES
            assert piece.last == (taken == 5)
    assert (taken, budget.held, body.closed) == (5, 0, True)


async def test_nothing_is_made_ahead_of_who_is_slow() -> None:
    """It has one piece at a time, as small as they come, and no more of the budget than that."""
    budget, body, window = ByteBudget(64 * MIB), Body(5, 100_000), Window()
    now = [0.0]
    stream = BodyStream(body.pieces(), window, budget.of("a"), timer=lambda: now[0])
    taken = 0
    async with aclosing(stream.pieces()) as pieces:
        async for _ in pieces:
            taken += 1
            await settled()
            now[0] += 60.0
            if taken > 2:
                assert body.made == taken
                assert budget.held == 100_000
            if taken == 4:
                break
    assert (budget.held, body.closed) == (0, True)


@pytest.mark.parametrize("taken", [0, 1, 2])
async def test_a_body_that_is_left_gives_everything_back(taken: int) -> None:
    """Whoever leaves before the first piece, between two, or while one is made."""
    budget, body = ByteBudget(64 * MIB), Body(5)
    pieces = BodyStream(body.pieces(), Window(), budget.of("a")).pieces()
    for _ in range(taken):
        await anext(pieces)
    if taken:
        assert budget.held
    else:
        first = asyncio.ensure_future(anext(pieces))
        await asyncio.sleep(0)
        first.cancel()
        with pytest.raises(asyncio.CancelledError):
            await first
    await pieces.aclose()
    assert budget.held == 0


async def test_bodies_that_fill_the_budget_go_on_as_they_are_taken() -> None:
    """Many streams in a small budget all come to their ends: none waits for what it holds."""
    budget = ByteBudget(2 * MIB)
    bodies = [Body(20, size=100_000) for _ in range(30)]

    async def read(number: int) -> int:
        stream = BodyStream(bodies[number].pieces(), Window(), budget.of(number % 7))
        size = 0
        async with aclosing(stream.pieces()) as pieces:
            async for piece in pieces:
                await asyncio.sleep(0)
                size += len(piece.body)
        return size

    async with asyncio.timeout(60):
        sizes = await asyncio.gather(*(read(number) for number in range(30)))
    assert sizes == [2_000_000] * 30
    assert budget.held == 0


@given(size=st.integers(LEAST_BYTES, MOST_BYTES), seconds=st.floats(0, 1e6))
def test_pieces_are_what_is_taken_in_a_quarter_of_a_second(size: int, seconds: float) -> None:
    """As the latest was taken; never more than twice as large as that, and within the bounds."""
    then = next_size(size, seconds)
    assert LEAST_BYTES <= then <= min(2 * size, MOST_BYTES)
    if seconds <= 0.125:
        assert then == min(2 * size, MOST_BYTES)
    if seconds > 0.25:
        assert then < size or then == LEAST_BYTES


def test_a_window_follows_its_client() -> None:
    """It opens for one that reads fast, and closes for one that does not any more."""
    window, room = Window(), 64 * MIB
    assert window.choose(room, LEAST_BYTES) == 2 * FIRST_BYTES
    for _ in range(5):
        window.taken(0.001)
        window.choose(room, LEAST_BYTES)
    assert (window.piece, window.keeps_up, window.ahead) == (MOST_BYTES, True, True)
    window.taken(20.0)
    assert window.choose(room, LEAST_BYTES) == LEAST_BYTES
    assert (window.piece, window.keeps_up, window.ahead) == (LEAST_BYTES, False, False)
    assert window.choose(room, 300_000) == 300_000


def test_pieces_are_smaller_where_there_is_little_room() -> None:
    """They are what can be had at once, down to the least, which is waited for."""
    window = Window(MOST_BYTES)
    assert window.choose(8 * MIB, LEAST_BYTES) == 8 * MIB
    assert window.ahead
    assert window.choose(8 * MIB - 1, LEAST_BYTES) == 4 * MIB
    assert not window.ahead
    assert window.choose(MIB, LEAST_BYTES) == window.piece == MIB
    assert window.choose(0, 300_000) == window.piece == 300_000
