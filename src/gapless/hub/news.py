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
from gapless.domain.intervals import Interval, covers, intersect, subtract
from gapless.hub.beside import held_run
from gapless.hub.hot import HotSeries
from gapless.hub.judging import Came, known
from gapless.instants import DAY_MS
from gapless.providers.base import Traits
from gapless.store.base import Change, News, Replacement

ALWAYS = Interval(-(1 << 62), 1 << 62)

# So much of the latest time need not be covered: a day still trading is not asked for each time.
_RECENT_MS = 7 * DAY_MS

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
            self.named = merged(self.named, run)

    def ratio_of(self, row: Coverage) -> float | None:
        """Return new shares for one old by the splits since a row was fetched; `None`: not known.

        What is told otherwise than it is stored is believed when it is told again. What a row was
        rescaled by is not undone where the split is merely not known any more.
        """
        wanted = ratio_since(merged(self.held, self.named), row.fetched_at)
        if self.other or wanted is None:
            return None
        if row.ratio is not None:
            stored = ratio_since(self.held, row.fetched_at)
            since = Interval(row.fetched_at, max(row.fetched_at, self._came[-1].sent - _RECENT_MS))
            all_known = covers([one.interval for one in self._rows], since)
            if not all_known and (stored is None or not isclose(stored, row.ratio)):
                return None
        return wanted

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
        run = merged(self.held.cut(instant), self.named.cut(instant))
        return Replacement(instant, run, (fresh,), written(self._rows, instant))


def facts_of(came: Sequence[Came]) -> News:
    """Return the facts that the latest of answers tells which tells any."""
    for one in reversed(came):
        if one.brought.facts is not None:
            return News(one.sent, one.brought.facts)
    return News(came[-1].sent)


def to_rescale(
    rows: Sequence[Coverage], beyond: Sequence[Interval], tidings: Tidings
) -> Iterator[tuple[Coverage, Coverage, float]]:
    """Yield what is not served any more and stands on another basis, by splits that are named.

    Each as a row of coverage as it is and as it will be, and by which ratio its records are to be
    rescaled. What is marked as unverified, or is believed to be lost, of which upstream might have
    more to say, stays as it is (stitching rule 12).
    """
    for row in rows:
        if not row.final or row.outcome is not Outcome.HELD or row.mark is Mark.UNVERIFIED:
            continue
        ratio = tidings.ratio_of(row)
        before = row.ratio or 1.0
        if ratio is None or isclose(ratio, before):
            continue
        mark, told = (None, None) if ratio == 1.0 else (Mark.RESCALED, ratio)
        for part in intersect([row.interval], beyond):
            fresh = replace(row, start=part.start, end=part.end, mark=mark, ratio=told)
            yield row, fresh, ratio / before


def rescaling(
    held: Run, row: Coverage, ratio: float, basis: Basis, planned: Sequence[Coverage], at: int
) -> Replacement:
    """Return the held records of a row as they are after a split, planned on that coverage."""
    run = rescaled(held, ratio, basis)
    fresh = replace(row, changed_at=at)
    return Replacement(row.interval, run, (fresh,), written(planned, row.interval))
