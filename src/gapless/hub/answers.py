"""What a range search answers: slices of what is held, and a true word on how they came.

Stitching rules 12 to 16. Composing is pure: the series in memory, the plan and what went wrong
are its arguments.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from enum import StrEnum
from typing import Any, NamedTuple

from msgspec import Struct

from gapless.domain.believing import Doubt, Suspicion
from gapless.domain.blocks import etag
from gapless.domain.coverage import Coverage, Mark
from gapless.domain.intervals import Interval, intersect, subtract, union
from gapless.domain.planning import Plan, fresh_until
from gapless.domain.series import SeriesKey
from gapless.errors import GaplessError, OutOfWindow
from gapless.hub.course import Course, Failure, not_believed
from gapless.hub.series import HotRun, Series

_IN_DOUBT = {
    Suspicion.LOSS: "upstream answered without records that are held, which is not believed yet",
    Suspicion.EMPTY: "upstream answered that there is nothing, which is not believed yet",
    Suspicion.UNKNOWN: "upstream answered that it knows no such ticker, which is not believed yet",
}
_NOT_ANEW = "due to be fetched again; it could not be, or was due again as soon as it came"
_CLIPPED = (
    "left out of a range back from now: upstream does not serve that far back, or only just, so "
    "that it is not asked"
)


class State(StrEnum):
    """How good an answer is (stitching rule 15)."""

    READY = "ready"
    PARTIAL = "partial"
    STALE = "stale"


class Slice(NamedTuple):
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


class Answer(Struct, frozen=True):
    """One stitched entity. Instants are milliseconds UTC.

    `cached`, `fetched` and `missing` partition `asked`. One that is not `loaded` has no slices: its
    `count` of records is to be read from the blocks. `refresh_after` `None`: all of it is final.
    `fresh_until`: until when the very same would be answered; `None`: until the series changes.
    `changed_at`: when a record of it that was final then was last changed, withdrawn or added by
    upstream; `None`: never yet. `derived`: its records are made of those that are held, and its
    slices are all there is of them.
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
    series: Series
    loaded: bool = True
    count: int = 0
    changed_at: int | None = None
    derived: bool = False

    @property
    def version(self) -> str:
        """A text that is another one where records of the two do not fit each other.

        That is where upstream has changed the past of the series, or it was forgotten and fetched
        again.
        """
        return f"{self.series.state.created:x}-{self.series.state.changed:x}"

    @property
    def facts(self) -> Mapping[str, Any]:
        """What was known of its ticker beside its records when it was put together."""
        return self.series.state.ticker.facts

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
    def unready(self) -> Sequence[HotRun]:
        """The runs in it of which no escaped form is made yet."""
        return [run for run, _, _ in self.slices if not run.ready]

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


def _no_longer(state: State, fetched_at: int, due: int | None) -> int | None:
    return due


def compose(
    series: Series,
    plan: Plan,
    now: int,
    course: Course | None = None,
    *,
    doubts: Sequence[Doubt] | None = None,
    total: int | None = None,
    until: Callable[[State, int, int | None], int | None] = _no_longer,
) -> Answer:
    """Put an answer together from what is held; raise the failure where nothing of it is.

    `plan` is the last one: what gaps it has left could not be filled. `course` is what has happened
    for it; `None`: nothing has. `doubts` are of the series that it is fetched by; `None`: its own.
    `total`: it has so many records, and no slices. `until` tells of a state, of when the oldest of
    it was fetched and of when the first of it is due, until when the same words have the same
    answer.
    """
    asked, state = plan.asked, series.state
    rows = state.coverage.over(asked)
    if len(rows) == 1:
        # The common case by far: all of it was fetched together.
        row = rows[0]
        oldest = newest = row.fetched_at
        due, changed_at, marked = row.refresh_after, row.changed_at, row.mark is not None
    else:
        times = [row.fetched_at for row in rows]
        oldest, newest = min(times, default=now), max(times, default=now)
        due = fresh_until(asked, state.coverage)
        changes = (row.changed_at for row in rows if row.changed_at is not None)
        changed_at, marked = max(changes, default=None), any(row.mark for row in rows)
    story = _PLAIN
    in_doubt = state.doubts if doubts is None else doubts
    if course is not None or in_doubt or marked or not plan.plain:
        story = _told(plan, rows, course or Course(), in_doubt)
    count, slices = (total, ()) if total is not None else _slices(series, asked)
    return Answer(
        state.key,
        asked,
        slices,
        story.state,
        (asked,) if story.cached is None else story.cached,
        story.fetched,
        story.missing,
        story.why,
        story.requests,
        oldest,
        newest,
        due,
        story.last_error,
        until(story.state, oldest, due),
        series,
        total is None,
        count,
        changed_at,
    )


class _Story(Struct, frozen=True):
    """How an answer came; `cached` `None`: all of it was held."""

    state: State = State.READY
    cached: tuple[Interval, ...] | None = None
    fetched: tuple[Interval, ...] = ()
    missing: tuple[Interval, ...] = ()
    why: tuple[Reason, ...] = ()
    requests: int = 0
    last_error: str = ""


# All of it is held, fresh, and as upstream said it: the common case by far.
_PLAIN = _Story()


def _told(
    plan: Plan, rows: Sequence[Coverage], course: Course, in_doubt: Sequence[Doubt]
) -> _Story:
    """Return how an answer came, and why it is not as it should be."""
    asked, failures, unchecked = plan.asked, course.failures, course.unchecked
    # What is due and could not be fetched again is answered as it is held.
    due = intersect([*plan.gaps, *plan.doubted], (row.interval for row in rows))
    missing = subtract([asked], union(plan.cached, due))
    # What no ticker has is no answer about this one.
    if missing and missing == subtract([asked], plan.beyond):
        raise _sole_failure(plan, failures)
    why: list[Reason] = []
    if plan.clipped is not None:
        why.append(Reason(plan.clipped, "margin", _CLIPPED))
    why.extend(_explained(missing, failures, plan))
    why.extend(_explained(due, failures, plan))
    if unchecked is not None:
        reason = unchecked.reason or unchecked.code
        why.extend(Reason(part, reason, _not_checked(unchecked)) for part in plan.aged)
    why.extend(_marks(rows, plan))
    doubted = [
        Reason(part, doubt.suspicion.reason, _IN_DOUBT[doubt.suspicion])
        for doubt in in_doubt
        # Where nobody can ask for it any more it is unverified for good.
        for part in subtract(intersect([asked], [doubt.interval]), plan.unverified)
    ]
    why.extend(doubted)
    why.extend(
        Reason(Interval(time, time + 1), "bad_value", _not_numbers(bad.total))
        for bad in course.bad_values
        for time in bad.times
        if asked.start <= time < asked.end
    )
    brought = subtract(intersect(intersect(course.fetched, course.gaps), [asked]), missing)
    last_error = failures[0].error.message if failures else ""
    if unchecked is not None and plan.aged and not failures:
        last_error = unchecked.message
    return _Story(
        _state(missing, bool(due or plan.aged or doubted)),
        tuple(subtract(subtract([asked], brought), missing)),
        tuple(brought),
        tuple(missing),
        tuple(sorted(why, key=lambda one: one.interval)),
        course.requests,
        last_error,
    )


def _sole_failure(plan: Plan, failures: Sequence[Failure]) -> GaplessError:
    """Return the error of an answer of which nothing is there."""
    if failures:
        return failures[0].error.again()
    if plan.doubted:
        return not_believed()
    return OutOfWindow(
        "upstream no longer serves any of the asked range, and none of it is held; "
        "ask for a later one, or for a longer interval"
    )


def _explained(parts: Iterable[Interval], failures: Sequence[Failure], plan: Plan) -> list[Reason]:
    """Return the reasons of what is missing or stale, range by range."""
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
        # What is in doubt has a reason of its own.
        for hit in subtract(left, [*plan.unserved, *plan.doubted]):
            result.append(Reason(hit, "upstream_unavailable", _NOT_ANEW))
    return result


def _marks(rows: Sequence[Coverage], plan: Plan) -> list[Reason]:
    """Return what is to be said of records that upstream no longer serves (rule 12)."""
    if not plan.unverified and all(row.mark is None for row in rows):
        return []
    message = "no longer served upstream; whether it has changed since it was fetched is not known"
    marked = {
        mark: intersect([plan.asked], (row.interval for row in rows if row.mark is mark))
        for mark in Mark
    }
    rescaled = marked[Mark.RESCALED]
    unverified = subtract(union(plan.unverified, marked[Mark.UNVERIFIED]), rescaled)
    found = [Reason(part, Mark.UNVERIFIED.value, message) for part in unverified]
    what = "no longer served upstream; put on today's basis by the splits that it has named since"
    return [*found, *(Reason(part, Mark.RESCALED.value, what) for part in rescaled)]


def _not_numbers(total: int) -> str:
    return (
        "upstream sent a value here that is no number it can be, and that is null; "
        f"{total:,} records of what was fetched have such values"
    )


def _not_checked(error: GaplessError) -> str:
    return f"due to be fetched again, which was not done: {error.message}"


def _state(missing: Sequence[Interval], stale: bool) -> State:
    if missing:
        return State.PARTIAL
    return State.STALE if stale else State.READY


def _slices(series: Series, asked: Interval) -> tuple[int, tuple[Slice, ...]]:
    """Return how many records there are, and where."""
    count = 0
    result: list[Slice] = []
    for block in series.state.blocks.over(asked):
        assert block.number is not None
        hot = series.runs[block.number]
        i, j = hot.run.bounds(asked)
        if i < j:
            result.append(Slice(hot, i, j))
            count += j - i
    return count, tuple(result)
