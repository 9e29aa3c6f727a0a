"""What an answer of upstream says of what is held: is it another past, are records lost?

The rules of stitching 6 and 11. Pure, and apart from the filling, which acts on it.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, replace
from typing import Any

from gapless.domain.believing import (
    MOST_LOST,
    Lacking,
    Sent,
    Verdict,
    judge,
    telling,
    weekdays,
    without_rows,
)
from gapless.domain.blocks import Run
from gapless.domain.comparing import Basis, pairs
from gapless.domain.coverage import CLOCKS_APART_MS, Ageing, Coverage, Outcome
from gapless.domain.intervals import Interval, hull, intersect, subtract, union
from gapless.hub.beside import finals
from gapless.hub.brought import Brought
from gapless.hub.series import Series

_FIRST = -(1 << 62)


@dataclass(frozen=True, slots=True)
class Came:
    """What a request for an interval brought that was sent at an instant, milliseconds UTC."""

    interval: Interval
    brought: Brought
    sent: int

    @property
    def clocks(self) -> Sent:
        """When it was sent, by the hub's clock and by upstream's, if that is another one."""
        own, other = self.brought.sent, self.brought.upstream_now
        if other is None or abs(other - own) <= CLOCKS_APART_MS:
            return Sent.at(self.sent)
        return Sent(own, min(own, other), max(own, other))

    def parts(self, records: int, cuts: Iterable[int] = ()) -> Iterator[Came]:
        """Yield it in parts of so many records at the most, which together are the interval.

        At the instants `cuts` another one begins, too.
        """
        run, (first, end) = self.brought.run, self.interval
        edges = {run.times[at] for at in range(records, len(run), records)}
        edges.update(at for at in cuts if first < at < end)
        starts = [first, *sorted(edges)]
        ends = [*starts[1:], self.interval.end]
        for start, end in zip(starts, ends, strict=True):
            part = Interval(start, end)
            brought = self.brought if len(starts) == 1 else self.brought.cut(part)
            yield Came(part, brought, self.sent)


@dataclass(frozen=True, slots=True)
class Said:
    """What answers say of what is held.

    `restated`: the price of a fresh, final bar is another one. `differs`: that of any final bar.
    `changes`: where final records are other ones, were withdrawn or added (stitching rule 14).
    `compared`: there was a fresh one to compare. `lost`: final bars that they lack, or bring
    without prices, those that follow one another in one run. `empty`: where they have no rows, and
    nothing was known. `kept`: where they still lack what is believed to be lost, and is kept.
    `part`: there is more to come of what was asked.
    """

    restated: bool = False
    differs: bool = False
    changes: tuple[Interval, ...] = ()
    compared: bool = False
    lost: tuple[Sequence[Interval], ...] = ()
    empty: tuple[Interval, ...] = ()
    kept: tuple[Interval, ...] = ()
    part: bool = False

    def also(self, other: Said) -> Said:
        """Return what this and another answer say together."""
        return Said(
            self.restated or other.restated,
            self.differs or other.differs,
            (*self.changes, *other.changes),
            self.compared or other.compared,
            (*self.lost, *other.lost),
            tuple(union(self.empty, other.empty)),
            (*self.kept, *other.kept),
        )

    @property
    def unsure(self) -> list[Interval]:
        """What is to be counted together with what the rest of a plan brings (stitching rule 6).

        The night before a range's first session is no day without rows.
        """
        empty = telling(self.empty)
        return union([*map(hull, self.lost), *(empty if weekdays(empty) > 1 else ())])

    def of(self, parts: Sequence[Interval]) -> Said:
        """Return what of it is said of some parts: no other bars are lost, and nothing is empty."""
        lost = ([bar for bar in run if intersect([bar], parts)] for run in self.lost)
        return replace(
            self,
            changes=tuple(intersect(self.changes, parts)),
            lost=tuple(run for run in lost if run),
            empty=tuple(intersect(self.empty, parts)),
            kept=tuple(intersect(self.kept, parts)),
        )

    def verdict(
        self, entry: Series, came: Sequence[Came], asked: Sequence[Interval], bar: int
    ) -> Verdict:
        """Return what of it is believed, by what was said before; `bar` as for `said`.

        `asked`: what of the answers it is about.
        """
        # A part that differs is not decided with the rest, so that any loss in it is doubted.
        most = 0 if self.part and self.differs else MOST_LOST
        lacking = Lacking(self.lost, self.empty, bar, asked, most)
        verdict = judge(lacking, entry.state.doubts, came[-1].clocks)
        # A long bar reaches over what is known of its series; only what is held can be kept.
        parts = [*verdict.lost_for_good, *self.kept]
        rows = entry.state.coverage.over(hull(parts)) if parts else ()
        held = [row.interval for row in rows if row.outcome is not Outcome.EMPTY]
        for_good = intersect(parts, held)
        return replace(verdict, lost_for_good=tuple(for_good))


def said(entry: Series, came: Came, basis: Basis, ageing: Ageing, bar: int) -> Said:
    """Compare an answer with what is held, whose runs over its interval are in memory.

    `bar` is the nominal length of one, milliseconds.
    """
    interval, run = came.interval, came.brought.run
    final, fresh = finals(entry, [interval]), finals(entry, [interval], ageing)
    held = entry.held(interval)
    restated = differs = False
    lost: list[list[Interval]] = []
    changes: list[Interval] = []
    last = last_lost = -2
    for at, mine, copy in pairs(held, run, final):
        time = held.times[at]
        here = Interval(time, min(time + bar, interval.end))
        whole = basis.whole(mine)
        moved = _moved(time, held, run, bar, basis) if whole and copy is None else None
        told = copy or moved
        if whole and told is not None and basis.whole(told):
            if basis.differ(mine, told):
                differs = True
                restated = restated or any(part.start <= time < part.end for part in fresh)
            elif moved is None:
                continue
        elif whole:
            if last_lost != at - 1:
                lost.append([])
            lost[-1].append(here)
            last_lost = at
        elif told is None or not basis.whole(told):
            continue
        # Bars that follow one another are one change, whatever lies between them.
        if last == at - 1 and changes:
            changes[-1] = Interval(changes[-1].start, here.end)
        else:
            changes.append(here)
        last = at
    for part in final:
        (i, j), (k, m) = held.bounds(part), run.bounds(part)
        if (j - i, held.sum(i, j)) != (m - k, run.sum(k, m)):
            before = set(held.times[i:j])
            changes += [Interval(at, at + 1) for at in run.times[k:m] if at not in before]
    return Said(
        restated,
        differs,
        tuple(union(changes)),
        any(i < j for i, j in map(held.bounds, fresh)),
        tuple(lost),
        tuple(_unexplained(entry, came, bar)),
        tuple(_still_lost(entry, came, basis, bar)),
    )


def _moved(time: int, held: Run, run: Run, bar: int, basis: Basis) -> dict[str, Any] | None:
    """Return a bar that is lacking as it came under another stamp, half a bar away at the most.

    An exchange may open at another hour, and a ticker be listed in another zone, which is told of
    the past as well.
    """
    near = Interval(time - bar // 2 + 1, time + bar // 2 + 1)
    (i, j), (k, m) = run.bounds(near), held.bounds(near)
    known = held.times[k:m]
    others = (run.row(at) for at in range(i, j) if run.times[at] not in known)
    return next((row for row in others if basis.whole(row)), None)


def gone_quiet(came: Sequence[Came]) -> bool:
    """Whether answers have no rows at all, which the next one may explain."""
    return not any(len(one.brought.run) for one in came)


def known(part: Interval, run: Run, came: Came) -> Iterator[Coverage]:
    """Yield what is known of a part, of which a run came: final, but for what may still change."""
    sent, at = came.sent, part.start
    for span in came.brought.provisional:
        start, end = max(span.start, part.start), min(span.end, part.end)
        if start >= end:
            continue
        if at < start:
            yield _row(at, start, run, sent, None)
        yield _row(start, end, run, sent, span.refresh_after)
        at = end
    if at < part.end:
        yield _row(at, part.end, run, sent, None)


def _still_lost(entry: Series, came: Came, basis: Basis, bar: int) -> list[Interval]:
    """Return where an answer does not bring back what is believed to be lost.

    Such bars that follow one another are one stretch, whatever lies between them.
    """
    rows = entry.state.coverage.over(came.interval)
    parts = [row.interval for row in rows if row.outcome is Outcome.OUT_OF_WINDOW]
    gone = intersect(parts, [came.interval])
    if not gone:
        return []
    held, run = entry.held(came.interval), came.brought.run
    brought = {
        run.times[at]
        for part in gone
        for at in range(*run.bounds(part))
        if basis.whole(run.row(at))
    }
    found: list[Interval] = []
    last = -2
    for part in gone:
        for at in range(*held.bounds(part)):
            time = held.times[at]
            if time in brought:
                continue
            follows = last == at - 1
            start = found.pop().start if follows else time
            found.append(Interval(start, min(time + bar, came.interval.end)))
            last = at
    return found


def _unexplained(entry: Series, came: Came, bar: int) -> list[Interval]:
    """Return where an answer has no rows, nothing was known, and upstream did not say why.

    Before the first trade there are none. Of a ticker of which nothing was ever told nobody can
    know better than upstream that there are none.
    """
    facts = came.brought.facts or entry.state.ticker.facts
    if not facts:
        return []
    known = [row.interval for row in entry.state.coverage.over(came.interval)]
    first = facts.get("first_trade")
    if isinstance(first, int):
        known.append(Interval(_FIRST, first * 1000))
    return subtract(without_rows(came.interval, came.brought.run.times, bar), known)


def _row(start: int, end: int, run: Run, sent: int, refresh_after: int | None) -> Coverage:
    i, j = run.bounds(Interval(start, end))
    outcome = Outcome.HELD if j > i else Outcome.EMPTY
    return Coverage(start, end, outcome, sent, refresh_after)
