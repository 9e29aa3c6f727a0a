"""From what is asked and what is known to what must be fetched: pure, the hour an argument."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from itertools import pairwise

from msgspec import Struct, structs

from gapless.domain.believing import Doubt, to_retry, unasked
from gapless.domain.coverage import Ageing, Coverage, Outcome
from gapless.domain.intervals import Interval, intersect, join, subtract, union
from gapless.domain.spans import Spans


class Reach(Struct, frozen=True):
    """What a provider can serve of a series now, milliseconds UTC.

    Outside of `[data_start, data_end)` nothing exists; before `served_from` upstream no longer
    answers.
    """

    data_start: int
    data_end: int
    served_from: int

    @property
    def served(self) -> Interval:
        """What upstream answers for."""
        return Interval(max(self.served_from, self.data_start), self.data_end)


@dataclass(frozen=True, slots=True)
class Joining:
    """Which gaps are fetched as one: those within `distance` milliseconds of each other.

    Beyond `most` gaps the nearest to each other are joined as well (stitching rule 5).
    """

    distance: int = 0
    most: int = 64

    def joined(self, gaps: Sequence[Interval]) -> list[Interval]:
        """Return the gaps, which ascend, joined where they are."""
        distance = self.distance
        if len(gaps) > self.most:
            apart = sorted(after.start - before.end for before, after in pairwise(gaps))
            distance = max(distance, apart[len(gaps) - self.most - 1])
        return join(gaps, distance)


class Plan(Struct, frozen=True):
    """How an asked range is answered. `cached`, `gaps`, `unserved` and `doubted` partition it.

    `cached`: known. `gaps`: to be fetched. `unserved`: neither held nor served any more. `doubted`:
    not held, and in doubt; it is asked for again, but not yet (rule 6). Parts of
    `cached` are `aged`: not fresh, to be fetched again (stitching rule 9); `unverified`: not fresh,
    and not served any more (rule 12); `beyond`: where the provider has nothing of any ticker.
    `clipped` is what was asked for before `asked`, and is not answered (rule 15); `None`: nothing.
    """

    asked: Interval
    cached: tuple[Interval, ...]
    gaps: tuple[Interval, ...]
    unserved: tuple[Interval, ...] = ()
    doubted: tuple[Interval, ...] = ()
    aged: tuple[Interval, ...] = ()
    unverified: tuple[Interval, ...] = ()
    beyond: tuple[Interval, ...] = ()
    clipped: Interval | None = None

    @property
    def complete(self) -> bool:
        """Whether all of it is answered from the store."""
        return not (self.gaps or self.unserved or self.doubted)

    @property
    def plain(self) -> bool:
        """Whether all of it is known, fresh and served, and there is nothing more to be said."""
        return self.cached == (self.asked,) and not (
            self.gaps or self.aged or self.unverified or self.beyond or self.clipped
        )

    @property
    def fresh(self) -> bool:
        """Whether nothing of it is to be fetched, or fetched again."""
        return not (self.gaps or self.aged)


def tail(coverage: Spans[Coverage], now: int) -> Interval | None:
    """Return what counts as covered after a provisional tail that is not due (stitching rule 3)."""
    latest = coverage.latest
    if latest is None or not latest.reaches_present or latest.due(now) or latest.end >= now:
        return None
    return Interval(latest.end, now)


class Known(Struct, frozen=True):
    """What is known of a series: its coverage, what of it is fresh, what is in doubt.

    Of the coverage at least what lies over the interval that is looked at. `ageing` `None`: it does
    not age.
    """

    coverage: Spans[Coverage]
    ageing: Ageing | None = None
    doubts: Sequence[Doubt] = ()


def plan(
    asked: Interval, known: Known, reach: Reach, now: int, joining: Joining | None = None
) -> Plan:
    """Decide what of `asked` is answered from the store and what is fetched (stitching rule 5).

    `asked` must not end after `now`. What is joined across a held stretch is fetched again, so it
    is no longer counted as cached. What is in doubt is not asked for before its next try.
    """
    coverage, ageing = known.coverage, known.ageing
    rows = coverage.over(asked)
    if (
        len(rows) == 1
        and not known.doubts
        and reach.data_start <= asked.start
        and asked.end <= reach.data_end
    ):
        row = rows[0]
        if (
            row.start <= asked.start
            and asked.end <= row.end
            and _holds(row)
            and (ageing is None or ageing.fresh(row))
        ):
            # The common case by far, told without any arithmetic.
            return Plan(asked, (asked,), ())
    exists = [Interval(reach.data_start, reach.data_end)]
    served = [reach.served]
    covered: list[Interval] = []
    gone: list[Interval] = []
    due: list[Interval] = []
    aged: list[Interval] = []
    after = tail(coverage, now)
    if after is not None and after.overlaps(asked) and after.start <= asked.start:
        # It tells of what is asked, and does not reach it by itself.
        rows = [coverage[-1]]
    for row in rows:
        part = row.interval
        if after is not None and row.end == after.start:
            part = Interval(row.start, after.end)
        if row.outcome is Outcome.OUT_OF_WINDOW:
            gone.append(row.interval)
        if ageing is not None and not ageing.fresh(row):
            aged.append(part)
        (due if row.due(now) else covered).append(part)
    if ageing is not None:
        aged.extend(to_retry(known.doubts, now))
    # What is due but not served any more is as good as it will ever get.
    covered.extend(subtract(due, served))
    beyond = subtract([asked], exists)
    held = union(covered, beyond)
    waiting = unasked(known.doubts, now)
    lacking = subtract([asked], held)
    doubted = intersect(intersect(lacking, served), waiting)
    lacking = subtract(lacking, doubted)
    gaps = intersect(lacking, served)
    if joining is not None:
        gaps = intersect(joining.joined(gaps), [asked])
    cached = subtract(intersect([asked], held), gaps)
    return Plan(
        asked=asked,
        cached=tuple(cached),
        gaps=tuple(gaps),
        unserved=tuple(subtract(subtract(lacking, served), gaps)),
        doubted=tuple(subtract(doubted, gaps)),
        aged=tuple(subtract(intersect(intersect(aged, served), cached), waiting)),
        unverified=tuple(intersect(union(subtract(aged, served), gone), cached)),
        beyond=tuple(beyond),
    )


def clipped(plan: Plan, latitude: int | None) -> Plan:
    """Return the plan without what is not served any more at its beginning (stitching rule 15).

    That is as much as `latitude` milliseconds before what is served, what is held there included;
    a plan that begins earlier stays as it is. `None`: all that is not served before what is held.
    """
    if not plan.unserved:
        return plan
    first, last = plan.unserved[0], plan.unserved[-1]
    edge = plan.asked.start
    if latitude is None:
        edge = first.end if first.start == edge else edge
    elif last.end - edge <= latitude:
        edge = last.end
    if not plan.asked.start < edge < plan.asked.end:
        return plan
    asked = Interval(edge, plan.asked.end)

    def within(parts: Sequence[Interval]) -> tuple[Interval, ...]:
        return tuple(intersect(parts, [asked]))

    return structs.replace(
        plan,
        asked=asked,
        cached=within(plan.cached),
        unserved=within(plan.unserved),
        aged=within(plan.aged),
        unverified=within(plan.unverified),
        beyond=within(plan.beyond),
        clipped=Interval(plan.asked.start, edge),
    )


def renewed(plan: Plan, reach: Reach, but: Iterable[Interval] = ()) -> Plan:
    """Return the plan with all that upstream serves of what is known to be fetched again.

    What lies in `but` is not: it has been fetched anew already. No doubt waits for its next try.
    """
    again = [*but]
    gaps = union(plan.gaps, subtract(plan.doubted, again))
    return structs.replace(
        plan,
        gaps=tuple(gaps),
        doubted=tuple(subtract(plan.doubted, gaps)),
        aged=tuple(subtract(intersect(plan.cached, [reach.served]), again)),
    )


def worth_taking_along(known: Known, reach: Reach, near: Interval, now: int) -> list[Interval]:
    """Return what is known `near` something and served, and is due or not fresh (rule 9)."""
    ageing = known.ageing
    if ageing is None:
        return []
    rows = known.coverage.over(near)
    old = [row.interval for row in rows if row.due(now) or not ageing.fresh(row)]
    old = union([*old, *to_retry(known.doubts, now)])
    return subtract(intersect(old, [reach.served]), unasked(known.doubts, now))


def as_wide(core: Interval, others: Iterable[Interval], span: int | None) -> Interval:
    """Return `core` widened over the others, nearest first, as far as one request may span.

    Milliseconds; `None`: as far as they reach (stitching rule 9).
    """
    start, end = core
    if span is not None and core.length >= span:
        return core
    for other in sorted(others, key=lambda one: _distance(one, core)):
        if span is None or max(end, other.end) - min(start, other.start) <= span:
            start, end = min(start, other.start), max(end, other.end)
            continue
        # As much of it as is next to what is asked anyway; what lies farther is not reached.
        if other.start < start < other.end + span - (end - start):
            start = max(other.start, end - span)
        if other.end > end > other.start - span + (end - start):
            end = min(other.end, start + span)
    return Interval(start, end)


def fresh_until(asked: Interval, coverage: Spans[Coverage]) -> int | None:
    """Return until when a full hit on `asked` stays one; `None`: for good, unless it ages."""
    due = [row.refresh_after for row in coverage.over(asked) if row.refresh_after is not None]
    latest = coverage.latest
    if latest is not None and latest.refresh_after is not None and latest.reaches_present:
        # A tail tells of what comes after it as well (stitching rule 3).
        due += [latest.refresh_after] if latest.end <= asked.start else []
    return min(due, default=None)


def _holds(row: Coverage) -> bool:
    return row.final and row.outcome is not Outcome.OUT_OF_WINDOW


def _distance(one: Interval, core: Interval) -> int:
    return max(one.start - core.end, core.start - one.end, 0)
