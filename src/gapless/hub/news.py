"""What an answer tells of its ticker beside the bars: facts, and actions held against the stored.

The rules of stitching 11, 12 and 21. Pure, and apart from the filling, which stores it.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import replace
from math import isclose

from gapless.domain.actions import differing, merged, ratio_since, rescaled, run_of
from gapless.domain.blocks import EMPTY, Run
from gapless.domain.comparing import Basis
from gapless.domain.coverage import Coverage, Mark, Outcome, changed, written
from gapless.domain.intervals import Interval, intersect, subtract
from gapless.domain.planning import Reach
from gapless.hub.beside import held_run
from gapless.hub.hot import HotSeries
from gapless.hub.judging import Came, known
from gapless.providers.base import Traits
from gapless.store.base import Change, News, Replacement

ALWAYS = Interval(-(1 << 62), 1 << 62)

Part = tuple[Interval, Came]


class Tidings:
    """What answers name of a ticker's actions, beside what is stored of them.

    `stored` is the series of actions with its runs in memory; `parts` are where each answer is
    stored. What was asked for later than an answer is not replaced by it.
    """

    def __init__(
        self, came: Sequence[Came], parts: Sequence[Part], stored: HotSeries, traits: Traits
    ) -> None:
        self._came = came
        self._stored = stored
        self._rows = stored.state.coverage
        self._whole = list(self._free(parts)) if traits.all_actions else []
        self.held = held_run(stored, ALWAYS)
        self.named = EMPTY
        self.other: list[Interval] = []
        for one in came:
            run = run_of(one.brought.actions or ())
            earlier = [row.interval for row in self._rows if row.fetched_at <= one.sent]
            whole = [part for part, by in self._whole if by is one]
            self.other += differing(self.held, run, earlier, whole)
            self.named = merged(self.named, run, ())

    def known(self) -> Run:
        """Return the actions as they are known by now."""
        return merged(self.held, self.named, self.other)

    def news(self, at: int, *, splits: bool) -> News:
        """Return what is to be stored of it, at an instant by the hub's clock.

        `splits`: those that are named are kept where actions are not covered, too, for by them
        something was rescaled, and is not to be again.
        """
        key, latest = self._stored.state.key, self._came[-1]
        replacements = [
            self._replacement(part, run_of(one.brought.actions or ()).cut(part), one)
            for part, one in self._whole
        ]
        singles = [*self.other, *(self._unknown_splits() if splits else ())]
        for instant in subtract(singles, [part for part, _ in self._whole]):
            replacements.append(self._single(instant, latest))
        metas = [one.brought.meta for one in self._came if one.brought.meta is not None]
        change = Change(
            key,
            tuple(replacements),
            revises=True,
            restates=bool(self.other),
            meta=metas[0] if metas else None,
            at=at,
        )
        return replace(
            facts_of(self._came),
            actions=change if replacements else None,
            due=bool(self.other),
        )

    def _unknown_splits(self) -> Iterator[Interval]:
        for at, time in enumerate(self.named.times):
            if self.named.row(at)["split"] and time not in self.held.times:
                yield Interval(time, time + 1)

    def _free(self, parts: Sequence[Part]) -> Iterator[Part]:
        """Yield where an answer names all actions, and nothing is stored that was asked later."""
        for part, one in parts:
            if one.brought.actions is not None:
                later = [row.interval for row in self._rows if row.fetched_at > one.sent]
                yield from ((free, one) for free in subtract([part], later))

    def _replacement(self, part: Interval, run: Run, one: Came) -> Replacement:
        rows = known(part, run, one)
        here = intersect(self.other, [part])
        return Replacement(
            part,
            run,
            tuple(changed(rows, self._rows, here, one.sent)),
            written(self._rows, part),
        )

    def _single(self, instant: Interval, one: Came) -> Replacement:
        """Return one action that is named by an answer of other bars, where they are covered."""
        fresh = Coverage(*instant, Outcome.HELD, one.sent, changed_at=one.sent)
        return Replacement(instant, self.named.cut(instant), (fresh,), written(self._rows, instant))


def facts_of(came: Sequence[Came]) -> News:
    """Return the facts that the latest of answers tells which tells any."""
    for one in reversed(came):
        if one.brought.facts is not None:
            return News(one.brought.sent, one.brought.facts)
    return News(came[-1].brought.sent)


def to_rescale(
    rows: Sequence[Coverage], reach: Reach, actions: Run
) -> Iterator[tuple[Coverage, float]]:
    """Yield what is not served any more and stands on another basis, by splits that are named.

    Each as a row of coverage as it will be, and by which ratio its records are to be rescaled.
    What is marked as unverified stays as it is (stitching rule 12).
    """
    beyond = [Interval(reach.data_start, reach.served_from)]
    for row in rows:
        if not row.final or row.outcome is Outcome.EMPTY or row.mark is Mark.UNVERIFIED:
            continue
        ratio = ratio_since(actions, row.fetched_at)
        before = row.ratio or 1.0
        if ratio is None or isclose(ratio, before):
            continue
        lost = row.outcome is Outcome.OUT_OF_WINDOW
        for part in [row.interval] if lost else intersect([row.interval], beyond):
            mark, told = (None, None) if ratio == 1.0 else (Mark.RESCALED, ratio)
            fresh = replace(row, start=part.start, end=part.end, mark=mark, ratio=told)
            yield fresh, ratio / before


def rescaling(entry: HotSeries, row: Coverage, ratio: float, basis: Basis, at: int) -> Replacement:
    """Return the records of a row, whose runs are in memory, as they are after a split."""
    run = rescaled(held_run(entry, row.interval), ratio, basis)
    planned = written(entry.state.coverage, row.interval)
    return Replacement(row.interval, run, (replace(row, changed_at=at),), planned)
