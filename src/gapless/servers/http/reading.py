"""The records of a large answer, a few blocks at a time: bounded memory however long it is.

Apart from the memory tier, which such an answer would empty of everything else.
"""

from __future__ import annotations

from collections.abc import AsyncGenerator, Sequence
from dataclasses import dataclass

from gapless.domain.blocks import Block, Run
from gapless.domain.intervals import Interval, covers, intersect
from gapless.errors import Overloaded
from gapless.hub.answers import Answer
from gapless.hub.holdings import Holdings
from gapless.store.base import SeriesState

# How often an answer may be overtaken before it is given up.
_MOST_READS = 50


@dataclass(frozen=True, slots=True)
class Piece:
    """Consecutive runs, each with the number of the block whose whole run it is, if it is."""

    runs: tuple[Run, ...]
    numbers: tuple[int | None, ...]


@dataclass(frozen=True, slots=True)
class Page:
    """The first records of an answer: how many, in which range; `more`: whether others follow."""

    count: int
    interval: Interval
    more: bool


class Reader:
    """Reads an answer that came without its slices from the store."""

    def __init__(self, holdings: Holdings, answer: Answer, piece_records: int) -> None:
        self._holdings = holdings
        self._piece_records = piece_records
        self._answer = answer

    async def page(self, limit: int) -> Page:
        """Return the page of the first `limit` records; the runs at its ends are read for it."""
        asked = self._answer.asked
        count = 0
        for block in self._blocks(self._answer.entry.state, asked):
            inside = block.count
            if not asked.contains(Interval(block.first, block.last + 1)):
                inside = _within(await self._run(block), asked)
            if count + inside > limit:
                run = (await self._run(block)).cut(asked)
                return Page(limit, Interval(asked.start, run.times[limit - count]), True)
            count += inside
        return Page(count, asked, False)

    async def pieces(self, interval: Interval) -> AsyncGenerator[Piece, None]:
        """Yield the records of `interval` in order, a piece at a time.

        A series that is laid out anew meanwhile is read on from where this was. Raises
        `Overloaded` where it is not of the same basis, or not as complete, any more: no answer
        that has begun may go on then.
        """
        state = self._answer.entry.state
        at = interval.start
        overtaken = 0
        while at < interval.end:
            rest = Interval(at, interval.end)
            chosen = _piece(self._blocks(state, rest), self._piece_records)
            if not chosen:
                return
            numbers = tuple(block.number for block in chosen if block.number is not None)
            found = await self._holdings.store.runs(numbers)
            if len(found) < len(numbers):
                overtaken += 1
                if overtaken > _MOST_READS:
                    raise Overloaded(f"{self._answer.key.text} changes faster than it can be read")
                state = await self._anew(rest)
                continue
            pairs = [
                (run, number if run is found[number] else None)
                for number in numbers
                if len(run := found[number].cut(rest))
            ]
            if pairs:
                yield Piece(*zip(*pairs, strict=True))
            at = chosen[-1].end

    async def _anew(self, rest: Interval) -> SeriesState:
        """Return the series as it is by now, if the rest of the answer is still there."""
        answer = self._answer
        # What memory shows of it may be what was just overtaken.
        self._holdings.hot.drop(answer.key)
        state = (await self._holdings.load(answer.key)).state
        held = [row.interval for row in state.coverage if row.generation == answer.generation]
        wanted = intersect([*answer.cached, *answer.fetched], [rest])
        known = intersect([row.interval for row in answer.entry.state.coverage], wanted)
        if not all(covers(held, part) for part in known):
            raise Overloaded(
                f"{answer.key.text} was changed while it was read, and what is left of it is no "
                "longer on the same basis; ask again"
            )
        return state

    def _blocks(self, state: SeriesState, interval: Interval) -> Sequence[Block]:
        return [
            block
            for block in state.blocks
            if block.generation == self._answer.generation and block.interval.overlaps(interval)
        ]

    async def _run(self, block: Block) -> Run:
        assert block.number is not None
        found = await self._holdings.store.runs([block.number])
        if block.number not in found:
            raise Overloaded(
                f"{self._answer.key.text} was changed while it was read; ask again", retry_after_s=1
            )
        return found[block.number]


def _piece(blocks: Sequence[Block], most: int) -> list[Block]:
    """Return the blocks that are read at once: some, and not too many records."""
    chosen: list[Block] = []
    records = 0
    for block in blocks:
        if chosen and records + block.count > most:
            break
        chosen.append(block)
        records += block.count
    return chosen


def _within(run: Run, interval: Interval) -> int:
    i, j = run.bounds(interval)
    return j - i
