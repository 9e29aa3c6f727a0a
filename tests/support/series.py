"""Runs, coverage, changes and strategies in few words, for the tests of domain and store."""

from __future__ import annotations

from collections.abc import Iterable, Mapping

from hypothesis import strategies as st

from gapless.domain.believing import Doubt
from gapless.domain.blocks import Run, encode
from gapless.domain.coverage import Coverage, Mark, Outcome
from gapless.domain.intervals import Interval
from gapless.domain.series import SeriesKey
from gapless.store.base import Change, Gone, News, Replacement, StoredEntity

KEY = SeriesKey("sample", "AAPL")
HELD, EMPTY, OUT = Outcome.HELD, Outcome.EMPTY, Outcome.OUT_OF_WINDOW


def text(time: int, value: float = 1.5) -> bytes:
    """Return a record's JSON text."""
    return encode({"timestamp": time, "close": value, "note": 'a "quoted" é'})


def run(times: Iterable[int], value: float = 1.5) -> Run:
    """Return a run with a record at each time."""
    return Run.of((time, text(time, value)) for time in times)


def cover(
    start: int,
    end: int,
    outcome: Outcome = HELD,
    fetched_at: int = 1_000_000,
    refresh_after: int | None = None,
    mark: Mark | None = None,
    commit: int = 0,
) -> Coverage:
    """Return coverage that says `held` and final unless told otherwise."""
    return Coverage(start, end, outcome, fetched_at, refresh_after, mark, commit)


def fill(
    start: int,
    end: int,
    times: Iterable[int],
    value: float = 1.5,
    at: int = 1_000_000,
    refresh_after: int | None = None,
) -> Replacement:
    """Return the replacement that a fetch of `[start, end)` makes."""
    records = run(times, value)
    outcome = HELD if len(records) else EMPTY
    return Replacement(
        Interval(start, end), records, (Coverage(start, end, outcome, at, refresh_after),)
    )


def change(
    *replacements: Replacement,
    key: SeriesKey = KEY,
    revises: bool = False,
    due_before: int = 0,
    restates: bool = False,
    gone: Gone | None = None,
    answered: tuple[Interval, ...] = (),
    doubts: tuple[Doubt, ...] = (),
    meta: Mapping[str, object] | None = None,
    at: int = 1_000_000,
    planned_due: int | None = None,
    news: News | None = None,
) -> Change:
    """Return a change of `KEY` unless told otherwise."""
    return Change(
        key=key,
        replacements=replacements,
        revises=revises,
        due_before=due_before,
        restates=restates,
        gone=gone or Gone(),
        answered=answered,
        doubts=doubts,
        meta=meta,
        at=at,
        planned_due=planned_due,
        news=news,
    )


def entity(name: str, source: str = "notes", tags: str = "[]", **more: str) -> StoredEntity:
    """Return an entity as a stranger would save it."""
    values = {
        "data": "[]",
        "etag": "0" * 16,
        "fetched_at": "2025-01-01T00:00:00Z",
        "refresh_after": "",
        "state": "ready",
        "last_error": "",
        "updated_at": "2025-01-01T00:00:00Z",
        **more,
    }
    return StoredEntity(id=name, source=source, tags=tags, **values)


def intervals(most: int = 60) -> st.SearchStrategy[Interval]:
    """Return a strategy for intervals within `[0, most]`; some are empty."""
    ends = st.integers(0, most)
    return st.builds(lambda a, b: Interval(min(a, b), max(a, b)), ends, ends)


def filled(most: int = 60) -> st.SearchStrategy[Interval]:
    """Return a strategy for intervals within `[0, most]` that are not empty."""
    return st.builds(
        lambda start, length: Interval(start, min(most, start + length)),
        st.integers(0, most - 1),
        st.integers(1, most),
    )
