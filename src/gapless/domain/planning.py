"""From what is asked and what is known to what must be fetched: pure, the hour an argument."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass, replace

from gapless.domain.coverage import Coverage, Outcome
from gapless.domain.intervals import Interval, intersect, join, subtract, union


@dataclass(frozen=True, slots=True)
class Reach:
    """What a provider can serve of a series now, milliseconds UTC.

    Outside of `[data_start, data_end)` nothing exists; before `served_from` upstream no longer
    answers.
    """

    data_start: int
    data_end: int
    served_from: int


@dataclass(frozen=True, slots=True)
class Plan:
    """How an asked range is answered. `cached`, `gaps`, `unserved` and `rescale` partition it.

    `beyond` is the part of `cached` where the provider has nothing, whatever the ticker.

    `cached`: known and fresh. `gaps`: to be fetched. `unserved`: neither held nor served any
    more. `rescale`: held on an older basis and not served any more (stitching rule 12).
    """

    asked: Interval
    cached: tuple[Interval, ...]
    gaps: tuple[Interval, ...]
    unserved: tuple[Interval, ...] = ()
    rescale: tuple[Interval, ...] = ()
    beyond: tuple[Interval, ...] = ()

    @property
    def complete(self) -> bool:
        """Whether all of it is answered from the store as it is."""
        return not (self.gaps or self.unserved or self.rescale)


def tail(coverage: Sequence[Coverage], generation: int, now: int) -> Interval | None:
    """Return what counts as covered after a provisional tail that is not due (stitching rule 3)."""
    latest = max((row for row in coverage if row.generation == generation), key=_end, default=None)
    if latest is None or not latest.reaches_present or latest.due(now) or latest.end >= now:
        return None
    return Interval(latest.end, now)


def plan(
    asked: Interval,
    coverage: Sequence[Coverage],
    generation: int,
    reach: Reach,
    now: int,
    join_distance: int = 0,
) -> Plan:
    """Decide what of `asked` is answered from the store and what is fetched (stitching rule 5).

    `asked` must not end after `now`. What is joined across a short held stretch is fetched again,
    so it is no longer counted as cached.
    """
    if reach.data_start <= asked.start < asked.end <= reach.data_end:
        for row in coverage:
            if row.start <= asked.start and asked.end <= row.end:
                if _holds(row, generation):
                    # The common case by far, told without any arithmetic.
                    return Plan(asked, (asked,), ())
                break
    exists = [Interval(reach.data_start, reach.data_end)]
    served = [Interval(max(reach.served_from, reach.data_start), reach.data_end)]
    fresh: list[Interval] = []
    older: list[Interval] = []
    due: list[Interval] = []
    for row in coverage:
        if row.outcome is Outcome.OUT_OF_WINDOW or not row.interval.overlaps(asked):
            continue
        if row.generation != generation:
            older.append(row.interval)
        elif row.due(now):
            due.append(row.interval)
        else:
            fresh.append(row.interval)
    after = tail(coverage, generation, now)
    if after is not None:
        fresh.append(after)
    # What is due but not served any more is as good as it will ever get.
    fresh.extend(subtract(due, served))
    beyond = subtract([asked], exists)
    known = union(fresh, beyond)
    lacking = subtract([asked], known)
    gaps = intersect(join(intersect(lacking, served), join_distance), [asked])
    lost = subtract(lacking, served)
    rescale = intersect(lost, older)
    return Plan(
        asked=asked,
        cached=tuple(subtract(intersect([asked], known), gaps)),
        gaps=tuple(gaps),
        unserved=tuple(subtract(subtract(lost, rescale), gaps)),
        rescale=tuple(rescale),
        beyond=tuple(beyond),
    )


def everything(plan: Plan, reach: Reach, but: Iterable[Interval] = ()) -> Plan:
    """Return the plan with all that upstream serves of its range to be fetched, held or not.

    What is held of `but` is not: it has been fetched anew already.
    """
    served = Interval(max(reach.served_from, reach.data_start), reach.data_end)
    gaps = union(subtract(intersect([plan.asked], [served]), but), plan.gaps)
    cached = tuple(subtract(plan.cached, gaps))
    rescale = tuple(subtract(plan.rescale, gaps))
    return replace(plan, cached=cached, gaps=tuple(gaps), rescale=rescale)


def fresh_until(asked: Interval, coverage: Sequence[Coverage], generation: int) -> int | None:
    """Return until when a full hit on `asked` stays one; `None`: for good."""
    due = [
        row.refresh_after
        for row in coverage
        if row.refresh_after is not None
        and row.generation == generation
        and row.start < asked.end
        and (asked.start < row.end or row.reaches_present)
    ]
    return min(due, default=None)


def _holds(row: Coverage, generation: int) -> bool:
    """Whether what the row says is final and of today's basis."""
    return row.final and row.generation == generation and row.outcome is not Outcome.OUT_OF_WINDOW


def _end(row: Coverage) -> int:
    return row.end
