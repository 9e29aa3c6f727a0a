"""What an answer tells of its ticker beside the bars: facts, and actions held against the stored.

The rules of stitching 11, 12 and 21. Pure, and apart from the filling, which stores it.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from math import isclose

from msgspec import structs

from gapless.domain.actions import differing, merged, ratio_since, run_of
from gapless.domain.adjusting import rescaled
from gapless.domain.blocks import EMPTY, Run
from gapless.domain.comparing import Basis
from gapless.domain.coverage import Coverage, Mark, Outcome, Written, changed, written
from gapless.domain.intervals import ALWAYS, Interval, covers, intersect, subtract
from gapless.hub.judging import Came, known
from gapless.hub.series import Series
from gapless.instants import DAY_MS
from gapless.providers.base import Traits
from gapless.store.base import Change, Gone, News, Replacement

# So much of the latest time need not be covered: a day still trading is not asked for each time.
_RECENT_MS = 7 * DAY_MS

Part = tuple[Interval, Came]


@dataclass(frozen=True, slots=True)
class Rescaling:
    """A part of a row of coverage that stands on another basis than upstream, by named splits.

    `was` is the row as it is, `becomes` the part as it will be; prices are divided by `ratio`.
    """

    was: Coverage
    becomes: Coverage
    ratio: float

    @property
    def interval(self) -> Interval:
        """What is rescaled."""
        return self.becomes.interval

    def replacement(self, held: Run, basis: Basis, planned: tuple[Written, ...]) -> Replacement:
        """Return what is held there as it is after the splits, on the condition of `planned`."""
        run = rescaled(held, self.ratio, basis)
        return Replacement(self.interval, run, (self.becomes,), planned)


class NamedActions:
    """What answers name of a ticker's actions, beside what is stored of them.

    `stored` is the series of actions with its runs in memory; `parts` are where each answer is
    stored. `kept`: whose bars are lost and kept; the actions that are held there are, too. What was
    asked for later than an answer is not replaced by it.
    """

    def __init__(
        self,
        came: Sequence[Came],
        parts: Sequence[Part],
        kept: Sequence[Interval],
        stored: Series,
        traits: Traits,
    ) -> None:
        self._came = came
        self._stored = stored
        self._rows = stored.state.coverage
        held = [row.interval for row in self._rows if row.outcome is not Outcome.EMPTY]
        self._kept = intersect(kept, held) if traits.all_actions else []
        where = [*parts, *((part, one) for one in came for part in intersect(kept, [one.interval]))]
        self._held = stored.held(ALWAYS)
        # Where an answer names all actions, and which.
        self._whole: list[tuple[Interval, Run, Came]] = []
        self._named = EMPTY
        self._other: list[Interval] = []
        for one in came:
            if one.brought.actions is None:
                continue
            run = run_of(one.brought.actions)
            own = [part for part, by in where if by is one] if traits.all_actions else []
            own = subtract(own, self._kept)
            later = [row.interval for row in self._rows if row.fetched_at > one.sent]
            whole = subtract(own, later)
            earlier = [row.interval for row in self._rows if row.fetched_at <= one.sent]
            self._whole += [(part, run.cut(part), one) for part in whole]
            self._other += differing(self._held, run, earlier, whole)
            self._named = merged(self._named, run)
        self._known = merged(self._held, self._named)

    def rescalings(
        self, rows: Sequence[Coverage], beyond: Sequence[Interval]
    ) -> Iterator[Rescaling]:
        """Yield what of a series is not served any more and stands on another basis.

        `beyond` is what is not served. What is marked as unverified, or is believed to be lost, of
        which upstream might have more to say, stays as it is (stitching rule 12).
        """
        for row in rows:
            if not row.final or row.outcome is not Outcome.HELD or row.mark is Mark.UNVERIFIED:
                continue
            parts = intersect([row.interval], beyond)
            ratio = self._ratio_of(row) if parts else None
            before = row.ratio or 1.0
            if ratio is None or isclose(ratio, before):
                continue
            mark, told = (None, None) if ratio == 1.0 else (Mark.RESCALED, ratio)
            at = self._came[-1].sent
            for part in parts:
                fresh = structs.replace(
                    row, start=part.start, end=part.end, mark=mark, ratio=told, changed_at=at
                )
                yield Rescaling(row, fresh, ratio / before)

    def _ratio_of(self, row: Coverage) -> float | None:
        """Return new shares for one old by the splits since a row was fetched; `None`: not known.

        What is told otherwise than it is stored is believed when it is told again. What a row was
        rescaled by is not undone where the split is merely not known any more.
        """
        wanted = ratio_since(self._known, row.fetched_at)
        if self._other or wanted is None:
            return None
        if row.ratio is not None:
            stored = ratio_since(self._held, row.fetched_at)
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
        replacements = [self._replacement(*one) for one in self._whole]
        singles = [*self._other, *(self._unknown_splits() if splits else ())]
        for instant in subtract(singles, [part for part, _, _ in self._whole]):
            replacements.append(self._single(instant, latest))
        metas = [one.brought.meta for one in self._came if one.brought.meta is not None]
        change = Change(
            key,
            tuple(replacements),
            revises=True,
            restates=bool(self._other),
            gone=Gone(tuple(self._kept), latest.sent),
            meta=metas[0] if metas else None,
            at=at,
        )
        return replace(
            facts_of(self._came),
            actions=change if replacements or self._kept else None,
            due=bool(self._other),
        )

    def _unknown_splits(self) -> Iterator[Interval]:
        for at, time in enumerate(self._named.times):
            if self._named.row(at)["split"] and time not in self._held.times:
                yield Interval(time, time + 1)

    def _replacement(self, part: Interval, run: Run, one: Came) -> Replacement:
        rows = known(part, run, one)
        here = intersect(self._other, [part])
        return Replacement(
            part,
            run,
            tuple(changed(rows, self._rows, here, one.sent)),
            written(self._rows, part),
        )

    def _single(self, instant: Interval, one: Came) -> Replacement:
        """Return one action that is named by an answer which need not name all."""
        fresh = Coverage(*instant, Outcome.HELD, one.sent, changed_at=one.sent)
        run = self._known.cut(instant)
        return Replacement(instant, run, (fresh,), written(self._rows, instant))


def facts_of(came: Sequence[Came]) -> News:
    """Return the facts that the latest of answers tells which tells any."""
    for one in reversed(came):
        if one.brought.facts is not None:
            return News(one.sent, one.brought.facts)
    return News(came[-1].sent)
