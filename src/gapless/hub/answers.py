"""What a range search answers: slices of what is held, and a true word on how they came.

Stitching rules 12 to 16. Composing is pure: the series in memory, the plan and what went wrong
are its arguments.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass, replace
from enum import StrEnum

from gapless.domain.blocks import etag
from gapless.domain.coverage import Coverage, Mark, Outcome, within
from gapless.domain.intervals import Interval, intersect, subtract, union
from gapless.domain.planning import Plan, fresh_until
from gapless.domain.series import SeriesKey
from gapless.errors import GaplessError, OutOfWindow
from gapless.hub.hot import HotRun, HotSeries

_ON_AN_OLD_BASIS = "held on a basis from before a split or dividend; it could not be fetched anew"
_ON_ANOTHER_BASIS = (
    "held on another basis than the rest, which could not be fetched anew; the two are not mixed"
)


class State(StrEnum):
    """How good an answer is (stitching rule 15)."""

    READY = "ready"
    PARTIAL = "partial"
    STALE = "stale"


@dataclass(frozen=True, slots=True)
class Slice:
    """The records `[i, j)` of a run."""

    run: HotRun
    i: int
    j: int


@dataclass(frozen=True, slots=True)
class Reason:
    """Why a range is missing, stale or not as upstream would serve it."""

    interval: Interval
    reason: str
    message: str


@dataclass(frozen=True, slots=True)
class Failure:
    """A range that could not be fetched, and why."""

    interval: Interval
    error: GaplessError


@dataclass(frozen=True, slots=True)
class Answer:
    """One stitched entity. Instants are milliseconds UTC.

    `cached`, `fetched` and `missing` partition `asked`. One that is not `loaded` has no slices: its
    `total` of records is to be read from the blocks of its `generation`. `refresh_after` `None`:
    all of it is final. `fresh_until`: until when the very same would be answered; `None`: until
    the series changes.
    """

    key: SeriesKey
    asked: Interval
    slices: tuple[Slice, ...]
    state: State
    cached: tuple[Interval, ...]
    fetched: tuple[Interval, ...]
    missing: tuple[Interval, ...]
    why: tuple[Reason, ...]
    requests: int
    fetched_at: int
    updated_at: int
    refresh_after: int | None
    last_error: str
    fresh_until: int | None
    entry: HotSeries
    generation: int
    loaded: bool = True
    total: int = 0

    @property
    def version(self) -> str:
        """A text that is another one where records of the two do not fit each other.

        That is where the series stands on another basis, or was forgotten and fetched again.
        """
        return f"{self.entry.state.created:x}-{self.generation:x}"

    @property
    def count(self) -> int:
        """How many records are in its slices."""
        return sum(part.j - part.i for part in self.slices)

    @property
    def size(self) -> int:
        """How many bytes the text of its records has."""
        return sum(
            part.run.run.offsets[part.j] - part.run.run.offsets[part.i] for part in self.slices
        )

    @property
    def etag(self) -> str:
        """16 hex digits over the records (stitching rule 18)."""
        return etag(sum(part.run.run.sum(part.i, part.j) for part in self.slices))

    @property
    def brought(self) -> int:
        """How many of its records were fetched for it."""
        if not self.fetched:
            return 0
        bounds = [
            (part.run.run.bounds(span), part) for part in self.slices for span in self.fetched
        ]
        return sum(max(0, min(j, part.j) - max(i, part.i)) for (i, j), part in bounds)

    def text(self) -> bytes:
        """Return the records as a JSON array."""
        parts = [part.run.run.joined(part.i, part.j) for part in self.slices]
        return b"[" + b",".join(parts) + b"]"


def compose(
    entry: HotSeries,
    plan: Plan,
    now: int,
    *,
    fetched: Sequence[Interval] = (),
    failures: Sequence[Failure] = (),
    unverified: GaplessError | None = None,
    requests: int = 0,
    loaded: bool = True,
) -> Answer:
    """Put an answer together from what is held; raise the failure where nothing of it is.

    Unless it is `loaded` it has no slices. `plan` is the last one: what gaps it has left could
    not be filled. `fetched` was brought by tasks meanwhile. `unverified` is why the basis could
    not be checked.
    """
    asked = plan.asked
    state = entry.state
    generation = state.generation
    rows = within(state.coverage, asked)
    known = list(plan.cached)
    why: list[Reason] = []
    stale: list[Interval] = []
    if not plan.complete:
        generation, known, stale = _best_generation(rows, plan, state.generation)
    missing = [] if plan.cached == (asked,) else subtract([asked], known)
    # What no ticker has is no answer about this one.
    if missing and missing == subtract([asked], plan.beyond):
        raise _sole_failure(plan, failures)
    why.extend(_explained(missing, failures, plan, _ON_ANOTHER_BASIS))
    why.extend(_explained(stale, failures, plan, _ON_AN_OLD_BASIS))
    rows = [row for row in rows if row.generation == generation]
    why.extend(_marks(rows, asked))
    if unverified is not None:
        why.append(Reason(asked, unverified.reason or unverified.code, _unverified(unverified)))
    if fetched:
        brought = intersect(subtract(intersect(fetched, [asked]), missing), known)
        cached = tuple(subtract(subtract([asked], brought), missing))
    else:
        brought = []
        cached = (asked,) if plan.cached == (asked,) else tuple(subtract([asked], missing))
    last_error = failures[0].error.message if failures else ""
    if unverified is not None:
        last_error = unverified.message
    until = fresh_until(asked, state.coverage, generation)
    return Answer(
        key=state.key,
        asked=asked,
        slices=_slices(entry, asked, generation) if loaded else (),
        state=_state(missing, bool(stale) or unverified is not None),
        cached=cached,
        fetched=tuple(brought),
        missing=tuple(missing),
        why=tuple(sorted(why, key=lambda one: one.interval)),
        requests=requests,
        fetched_at=min((row.fetched_at for row in rows), default=now),
        updated_at=max((row.fetched_at for row in rows), default=now),
        refresh_after=until,
        last_error=last_error,
        fresh_until=until,
        entry=entry,
        generation=generation,
        loaded=loaded,
    )


def not_renewed(answer: Answer, failures: Sequence[Failure]) -> Answer:
    """Say of an answer, all of which was to be fetched anew, what could not be."""
    why = [
        Reason(part, failure.error.reason or failure.error.code, failure.error.message)
        for failure in failures
        for part in subtract(intersect([answer.asked], [failure.interval]), answer.missing)
    ]
    if not why:
        return answer
    state = State.PARTIAL if answer.missing else State.STALE
    return replace(answer, state=state, why=(*answer.why, *why))


def _best_generation(
    rows: Sequence[Coverage], plan: Plan, current: int
) -> tuple[int, list[Interval], list[Interval]]:
    """Choose the one generation that answers most (rule 13), the current one where it can.

    Returns it, what it knows of the asked range, and which of that is stale.
    """
    ours = [row.interval for row in rows if row.generation == current and _has_data(row)]
    best = current
    stale = intersect(plan.gaps, ours)
    known = union(plan.cached, stale)
    for generation in sorted({row.generation for row in rows}, reverse=True):
        if generation == current:
            continue
        held = intersect(
            [row.interval for row in rows if row.generation == generation and _has_data(row)],
            [plan.asked],
        )
        if _length(held) > _length(known):
            best, known, stale = generation, held, held
    return best, known, stale


def _has_data(row: Coverage) -> bool:
    return row.outcome is not Outcome.OUT_OF_WINDOW


def _length(intervals: Iterable[Interval]) -> int:
    return sum(interval.length for interval in intervals)


def _sole_failure(plan: Plan, failures: Sequence[Failure]) -> GaplessError:
    """Return the error of an answer of which nothing is there."""
    if failures:
        return failures[0].error.again()
    return OutOfWindow(
        "upstream no longer serves any of the asked range, and none of it is held; "
        "ask for a later one, or for a longer interval"
    )


def _explained(
    parts: Iterable[Interval], failures: Sequence[Failure], plan: Plan, otherwise: str
) -> list[Reason]:
    """Return the reasons of what is missing or stale, range by range.

    `otherwise` is said of what has not failed by itself.
    """
    result: list[Reason] = []
    for part in parts:
        left = [part]
        for failure in failures:
            for hit in intersect(left, [failure.interval]):
                error = failure.error
                result.append(Reason(hit, error.reason or error.code, error.message))
            left = subtract(left, [failure.interval])
        for hit in intersect(left, plan.unserved):
            result.append(Reason(hit, "out_of_window", "upstream no longer serves that far back"))
        for hit in subtract(left, plan.unserved):
            result.append(Reason(hit, "upstream_unavailable", otherwise))
    return result


def _marks(rows: Iterable[Coverage], asked: Interval) -> list[Reason]:
    """Return what is to be said of records that upstream no longer serves (rule 12)."""
    result: list[Reason] = []
    for row in rows:
        if row.mark is Mark.RESCALED:
            message = "no longer served upstream; put on today's basis by the ratio of its change"
        elif row.mark is Mark.UNVERIFIED:
            message = "no longer served upstream; nothing was held that tells its basis"
        else:
            continue
        result.append(Reason(row.interval.intersection(asked), row.mark.value, message))
    return result


def _unverified(error: GaplessError) -> str:
    return f"whether a split or dividend changed the past could not be checked: {error.message}"


def _state(missing: Sequence[Interval], stale: bool) -> State:
    if missing:
        return State.PARTIAL
    return State.STALE if stale else State.READY


def _slices(entry: HotSeries, asked: Interval, generation: int) -> tuple[Slice, ...]:
    result: list[Slice] = []
    for block in entry.state.blocks:
        if block.generation == generation and block.interval.overlaps(asked):
            assert block.number is not None
            run = entry.runs[block.number]
            i, j = run.run.bounds(asked)
            if i < j:
                result.append(Slice(run, i, j))
    return tuple(result)
