"""Held bars beside what is fetched: how wide a request must be to tell whether the two fit.

Stitching rule 11. Pure, and apart from the filling, because it only looks at what is held.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from itertools import islice, takewhile

from gapless.domain.blocks import Block
from gapless.domain.comparing import Basis
from gapless.domain.coverage import Ageing, Coverage, Outcome
from gapless.domain.intervals import ALWAYS, Interval, hull, intersect, subtract, union
from gapless.domain.planning import Reach
from gapless.domain.spans import Spans
from gapless.hub.ranges import present
from gapless.hub.series import Series

# So many held bars on each side are taken along, and so near they must lie (stitching rule 11).
_MOST_BARS = 10
_FIRST, _LAST = ALWAYS


@dataclass(frozen=True, slots=True)
class Sight:
    """By what a held bar is chosen: what is served and fresh, how long a bar is, what it says.

    `span`: the longest range of one request, milliseconds; `None`: any. `taken`: what other tasks
    have a lease on.
    """

    reach: Reach
    bar: int
    span: int | None
    basis: Basis
    ageing: Ageing
    now: int
    taken: Sequence[Interval] = ()


@dataclass(frozen=True, slots=True)
class Beside:
    """What to ask for: a range with held bars in it, or one of them apart, if it lies too far."""

    wide: Interval
    bar: Interval | None = None


def edges(entry: Series, piece: Interval) -> list[Interval]:
    """Return instants whose runs must be in memory to choose the bars beside a piece."""
    before, after = _before(entry.state.blocks, piece), _after(entry.state.blocks, piece)
    instants = [block.last for block in (before,) if block is not None]
    instants += [block.first for block in (after,) if block is not None]
    return [Interval(at, at + 1) for at in instants]


def to_bar(entry: Series, piece: Interval, bar: int, after: bool) -> int:
    """Return how far the nearest held bar before a piece, or after it, reaches from it.

    Milliseconds; 0: there is none. Of a block that goes on into the piece, and is not in memory,
    the nearest bar is taken to lie at the edge.
    """
    block = (_after if after else _before)(entry.state.blocks, piece)
    if block is None:
        return 0
    held = None if block.number is None else entry.runs.get(block.number)
    i, j = (0, 0) if held is None else held.run.bounds(piece)
    if after:
        first = block.first if held is None else held.run.times[j]
        return max(first - piece.end, 0) + bar
    last = block.last if held is None else held.run.times[i - 1]
    return max(piece.start - last, bar)


def beside(entry: Series, piece: Interval, sight: Sight) -> Beside:
    """Return how a request for a piece is widened by held bars on either side of it.

    By up to ten where held ones lie next to it; else to the nearest one, if one request spans
    that; else that one is asked for by itself. Time that is covered and empty does not count. A
    side of which another task has what lies between is left to that, unless both are. Where a side
    has only bars that may still change, they are taken along, for they may be of another basis
    than what comes, and nothing else would tell.
    """
    blocks = entry.state.blocks
    left = _bars(entry, _before(blocks, piece), Interval(_FIRST, piece.start), sight)
    right = _bars(entry, _after(blocks, piece), Interval(piece.end, _LAST), sight)
    # Of each side the nearest first.
    both = [list(islice(one, _MOST_BARS)) for one in (left, right)]
    forming = [
        _forming(entry, piece, sight, after=after) for after in (False, True) if not both[after]
    ]
    sides = [bars for bars in both if bars]
    sides = [free for bars in sides if (free := _free(bars, piece, sight.taken))] or sides
    near = [bars for bars in sides if _apart(entry, bars[0], piece) <= _MOST_BARS * sight.bar]
    if not near and sides:
        near = [min(([bars[0]] for bars in sides), key=lambda bars: _apart(entry, bars[0], piece))]
    wide = piece
    for bars in near:
        for bar in reversed(bars):
            wider = Interval(min(wide.start, bar.start), max(wide.end, bar.end))
            if sight.span is None or wider.length <= max(sight.span, piece.length):
                wide = wider
                break
    compares = wide != piece or finals(entry, [piece], sight.ageing)
    apart = near[0][0] if near and not compares else None
    for part in filter(None, forming):
        whole = hull([wide, part])
        if sight.span is None or whole.length <= max(sight.span, piece.length):
            wide = whole
    return Beside(wide, apart)


def finals(
    entry: Series, within: Iterable[Interval], ageing: Ageing | None = None
) -> list[Interval]:
    """Return where what is held is final, and fresh if `ageing` tells what is."""
    parts = union(within)
    rows = (row for part in parts for row in entry.state.coverage.over(part))
    return intersect((row.interval for row in rows if _final(row, ageing)), parts)


def holds_final(entry: Series, within: Interval, ageing: Ageing) -> bool:
    """Whether anything that is held there is final and fresh."""
    return any(_final(row, ageing) for row in entry.state.coverage.over(within))


def _final(row: Coverage, ageing: Ageing | None) -> bool:
    return row.final and row.outcome is Outcome.HELD and (ageing is None or ageing.fresh(row))


def _before(blocks: Spans[Block], piece: Interval) -> Block | None:
    near = blocks.before(piece.start)
    return next((block for block in near if block.final and block.first < piece.start), None)


def _after(blocks: Spans[Block], piece: Interval) -> Block | None:
    near = blocks.after(piece.end)
    return next((block for block in near if block.final and block.last >= piece.end), None)


def _bars(entry: Series, block: Block | None, side: Interval, sight: Sight) -> Iterator[Interval]:
    """Yield the bars of a block on one side of a piece that can be compared, nearest first."""
    if block is None or block.number is None:
        return
    run = entry.runs[block.number].run
    usable = intersect([block.interval.intersection(side)], [sight.reach.served])
    parts = finals(entry, usable, sight.ageing)
    step = -1 if side.start == _FIRST else 1
    for part in parts[::step]:
        for at in range(*run.bounds(part))[::step]:
            if sight.basis.whole(run.row(at)):
                start = run.times[at]
                yield Interval(start, max(start + 1, min(start + sight.bar, sight.now)))


def _forming(entry: Series, piece: Interval, sight: Sight, *, after: bool) -> Interval | None:
    """Return the nearest held stretch on a side of a piece that may still change, in one.

    One that reaches the present goes on to it: it stays a tail. `None`: there is none near enough,
    what lies between has to be fetched again before anything is known, or another task has it.
    """
    coverage = entry.state.coverage
    held = False
    part: Interval | None = None
    for row in coverage.after(piece.end) if after else coverage.before(piece.start):
        beside = piece.end <= row.start if after else row.end <= piece.start
        if not beside or row.start < sight.reach.served.start:
            continue
        if row.final and sight.ageing.fresh(row):
            continue
        if row.final:
            if row.outcome is Outcome.HELD and not held:
                return None
            continue
        reaches = row is coverage.latest and row.reaches_present
        span = Interval(row.start, max(row.end, present(sight.now)) if reaches else row.end)
        if part is not None and part.start <= span.end and span.start <= part.end:
            part = hull([part, span])
        elif held:
            break
        else:
            part = span
        held = held or row.outcome is Outcome.HELD
    if not held or part is None:
        return None
    near = _apart(entry, part, piece) <= _MOST_BARS * sight.bar
    return part if near and _free([part], piece, sight.taken) else None


def _free(bars: Iterable[Interval], piece: Interval, taken: Sequence[Interval]) -> list[Interval]:
    """Return the bars, which go away from a piece, as far as nothing up to them is taken."""
    return list(
        takewhile(lambda bar: not any(hull([bar, piece]).overlaps(one) for one in taken), bars)
    )


def _apart(entry: Series, bar: Interval, piece: Interval) -> int:
    """Return how long the unknown time between a bar and a piece is."""
    between = Interval(min(bar.end, piece.end), max(bar.start, piece.start))
    known = [row.interval for row in entry.state.coverage.over(between)]
    return sum(one.length for one in subtract([between], known))
