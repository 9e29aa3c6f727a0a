"""The records of a large answer, a few blocks at a time: bounded memory however long it is.

Apart from the memory tier, which such an answer would empty of everything else.
"""

from __future__ import annotations

from collections.abc import AsyncGenerator, Sequence
from dataclasses import dataclass

from gapless.domain.blocks import Block, Run
from gapless.domain.intervals import Interval
from gapless.errors import Overloaded
from gapless.hub.answers import Answer
from gapless.hub.holdings import Holdings
from gapless.servers.window import WIDE, Window
from gapless.store.base import SeriesState

# How often an answer may be overtaken before it is given up.
_MOST_READS = 50
_MOST_BLOCKS = 500
_MASK = (1 << 64) - 1


@dataclass(frozen=True, slots=True)
class Portions:
    """In what portions answers come, by whichever door.

    `most_loaded`: an answer of more records is large, and not taken into memory as a whole.
    `piece_records`: how many of its records are read at once.
    """

    most_loaded: int = 50_000
    piece_records: int = 32_768


PORTIONS = Portions()


@dataclass(frozen=True, slots=True)
class Piece:
    """Consecutive runs, each with the number of the block whose whole run it is, if it is."""

    runs: tuple[Run, ...]
    numbers: tuple[int | None, ...]


@dataclass(frozen=True, slots=True)
class Page:
    """The first records of an answer: how many, in which range; `more`: whether others follow.

    `total` is the sum of their hashes (stitching rule 18).
    """

    count: int
    interval: Interval
    more: bool
    total: int


def first_page(answer: Answer, limit: int) -> Page:
    """Return the page of the first `limit` records of an answer that has its slices."""
    count = total = 0
    for part in answer.slices:
        inside = min(part.j - part.i, limit - count)
        total += part.run.run.sum(part.i, part.i + inside)
        count += inside
        if inside < part.j - part.i:
            end = part.run.run.times[part.i + inside]
            return Page(count, Interval(answer.asked.start, end), True, total & _MASK)
    return Page(count, answer.asked, False, total & _MASK)


class Reader:
    """Reads an answer that came without its slices from the store.

    `piece_records` are the most records of a piece, unless a single block has more.
    """

    def __init__(self, holdings: Holdings, answer: Answer, piece_records: int) -> None:
        self._holdings = holdings
        self._piece_records = piece_records
        self._answer = answer

    async def page(self, limit: int) -> Page:
        """Return the page of the first `limit` records; the runs at its ends are read for it."""
        asked = self._answer.asked
        count = total = 0
        for block in self._blocks(self._answer.series.state, asked):
            inside, hashes = await self._within(block, asked)
            if count + inside > limit:
                run = (await self._run(block)).cut(asked)
                end = run.times[limit - count]
                total += run.sum(0, limit - count)
                return Page(limit, Interval(asked.start, end), True, total & _MASK)
            count += inside
            total += hashes
        return Page(count, asked, False, total & _MASK)

    async def pieces(self, page: Page, window: Window = WIDE) -> AsyncGenerator[Piece, None]:
        """Yield the records of a page in order, a piece at a time, as large as the window is then.

        A series that is laid out anew meanwhile is read on from where this was. Raises
        `Overloaded` where what is left of it are not the very same records any more: an answer
        that has begun may not go on with others.
        """
        state = self._answer.series.state
        at, left = page.interval.start, page.total
        overtaken = records = size = 0
        while at < page.interval.end:
            rest = Interval(at, page.interval.end)
            chosen = self._choose(self._blocks(state, rest), window, records, size)
            if not chosen:
                return
            numbers = [block.number for block in chosen if block.number is not None]
            found = await self._holdings.runs(numbers)
            if len(found) < len(numbers):
                overtaken += 1
                if overtaken > _MOST_READS:
                    raise Overloaded(f"{self._answer.key.text} changes faster than it can be read")
                state = await self._anew(rest, left)
                continue
            pairs = [
                (run, number if run is found[number] else None)
                for number in numbers
                if len(run := found[number].cut(rest))
            ]
            left = (left - sum(run.sum(0, len(run)) for run, _ in pairs)) & _MASK
            records += sum(len(run) for run, _ in pairs)
            size += sum(len(run.text) for run, _ in pairs)
            at = chosen[-1].end
            del found
            if pairs:
                yield _handed_on(pairs)

    async def _anew(self, rest: Interval, left: int) -> SeriesState:
        """Return the series as it is by now, if what is left of the page is in it."""
        answer = self._answer
        # What memory shows of it may be what was just overtaken.
        state = (await self._holdings.anew(answer.key, rest)).state
        total = 0
        for block in self._blocks(state, rest):
            total += (await self._within(block, rest))[1]
        if total & _MASK != left:
            raise Overloaded(
                f"{answer.key.text} was changed while it was read, and what was sent of it would "
                "not fit what there is now; ask again"
            )
        return state

    def _blocks(self, state: SeriesState, interval: Interval) -> Sequence[Block]:
        return state.blocks.over(interval)

    def _choose(
        self, blocks: Sequence[Block], window: Window, records: int, size: int
    ) -> list[Block]:
        """Return the blocks that are read at once, by how large records have been so far."""
        most = self._piece_records
        # How large they are is not known before the first block is read.
        most = min(most, window.piece * records // size) if size else 0
        chosen: list[Block] = []
        count = 0
        for block in blocks[:_MOST_BLOCKS]:
            if chosen and count + block.count > most:
                break
            chosen.append(block)
            count += block.count
        return chosen

    async def _within(self, block: Block, interval: Interval) -> tuple[int, int]:
        """Return how many records of a block lie in an interval, and the sum of their hashes."""
        if interval.start <= block.first and block.last < interval.end:
            return block.count, block.sum
        run = await self._run(block)
        i, j = run.bounds(interval)
        return j - i, run.sum(i, j)

    async def _run(self, block: Block) -> Run:
        assert block.number is not None
        found = await self._holdings.runs([block.number])
        if block.number not in found:
            raise Overloaded(
                f"{self._answer.key.text} was changed while it was read; ask again", retry_after_s=1
            )
        return found[block.number]


def _handed_on(pairs: list[tuple[Run, int | None]]) -> Piece:
    """Return a piece, of which nothing is kept here."""
    runs, numbers = zip(*pairs, strict=True)
    pairs.clear()
    return Piece(runs, numbers)
