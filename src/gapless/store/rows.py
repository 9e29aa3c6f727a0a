"""Rows of the tables to the domain's terms and back."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import replace
from itertools import pairwise
from typing import Any

import msgspec

from gapless.domain.believing import Doubt, Suspicion
from gapless.domain.blocks import Block, NewBlock, Run, etag
from gapless.domain.coverage import Coverage, Mark, Outcome
from gapless.domain.intervals import Interval
from gapless.domain.series import SeriesKey, span_text, tags_text
from gapless.domain.spans import Spans
from gapless.errors import DatabaseDamaged
from gapless.instants import format_instant
from gapless.store import schema
from gapless.store.base import SeriesState, StoredEntity, TickerState
from gapless.store.base import sortable as sortable

# Named so that they can stand beside those of `series` in one row.
COVERAGE_COLUMNS = tuple(column.label(f"coverage_{column.name}") for column in schema.coverage.c)
TICKER_COLUMNS = tuple(column.label(f"ticker_{column.name}") for column in schema.tickers.c)


def coverage_of(row: Any) -> Coverage:
    """Return the coverage that a row of `coverage` says; its columns are named `coverage_…`."""
    return Coverage(
        row.coverage_start_ms,
        row.coverage_end_ms,
        Outcome(row.coverage_outcome),
        row.coverage_fetched_at_ms,
        row.coverage_refresh_after_ms,
        Mark(row.coverage_mark) if row.coverage_mark is not None else None,
        row.coverage_commit_number,
        row.coverage_changed_at_ms,
        row.coverage_ratio,
    )


def coverages_of(found: Sequence[Any]) -> list[Coverage]:
    """Return the coverage of a series; raise `ValueError` where it is none that was written."""
    result = [coverage_of(row) for row in found]
    _check([row.interval for row in result])
    return result


def coverage_values(number: int, coverage: Coverage) -> dict[str, Any]:
    """Return the row of `coverage` for a series' number."""
    return {
        "series": number,
        "start_ms": coverage.start,
        "end_ms": coverage.end,
        "outcome": coverage.outcome.value,
        "fetched_at_ms": coverage.fetched_at,
        "refresh_after_ms": coverage.refresh_after,
        "mark": coverage.mark.value if coverage.mark is not None else None,
        "commit_number": coverage.commit,
        "changed_at_ms": coverage.changed_at,
        "ratio": coverage.ratio,
    }


def doubt_of(row: Any) -> Doubt:
    """Return the doubt that a row of `doubts` says."""
    return Doubt(
        row.start_ms,
        row.end_ms,
        Suspicion(row.suspicion),
        row.since_ms,
        row.next_try_ms,
        row.tries,
    )


def doubt_values(number: int, doubt: Doubt) -> dict[str, Any]:
    """Return the row of `doubts` for a series' number."""
    return {
        "series": number,
        "start_ms": doubt.start,
        "end_ms": doubt.end,
        "suspicion": doubt.suspicion.value,
        "since_ms": doubt.since,
        "next_try_ms": doubt.next_try,
        "tries": doubt.tries,
    }


def block_of(row: Any) -> Block:
    """Return the block that a row of `entities` holds."""
    return Block(
        row.start_ms,
        row.end_ms,
        bool(row.final),
        row.records,
        row.first_ms,
        row.last_ms,
        row.number,
        int(row.etag, 16),
    )


def blocks_of(found: Sequence[Any]) -> list[Block]:
    """Return the blocks of a series; raise `ValueError` where they are none that were written."""
    result = [block_of(row) for row in found]
    _check([block.interval for block in result])
    for block in result:
        if not block.start <= block.first <= block.last < block.end:
            raise ValueError(f"block {block.number} holds records beyond its interval")
    return result


def block_values(
    key: SeriesKey, number: int, piece: NewBlock, coverage: Spans[Coverage], at: int
) -> dict[str, Any]:
    """Return the row of `entities` for a piece of a series; `coverage` is the series' own."""
    block = piece.block()
    known = coverage.over(piece.interval)
    refresh = min(
        (row.refresh_after for row in known if row.refresh_after is not None), default=None
    )
    return {
        "id": f"{key.text}:{span_text(piece.interval)}",
        "source": key.provider,
        "series": number,
        "start_ms": block.start,
        "end_ms": block.end,
        "schema": 0,
        "final": block.final,
        "records": block.count,
        "first_ms": block.first,
        "last_ms": block.last,
        "etag": etag(piece.run.sum(0, len(piece.run))),
        "fetched_at": format_instant(min((row.fetched_at for row in known), default=at)),
        "refresh_after": "" if refresh is None else format_instant(refresh),
        "state": "ready",
        "last_error": "",
        "updated_at": sortable(at),
        "tags": tags_text(key, piece.interval),
        "offsets": piece.run.index(),
        "data": "[" + piece.run.text.decode("ascii") + "]",
    }


def entity_of(row: Any) -> StoredEntity:
    """Return the entity that a row of `entities` shows on the wire.

    How fresh a block is tells the coverage over it, as `known_at_ms` and `due_at_ms`: its own row
    is written when its records change, and not when they are found to be the same.
    """
    entity = StoredEntity(*(getattr(row, name) for name in StoredEntity.__dataclass_fields__))
    if row.known_at_ms is None:
        return entity
    return replace(
        entity,
        fetched_at=format_instant(row.known_at_ms),
        refresh_after="" if row.due_at_ms is None else format_instant(row.due_at_ms),
    )


def ticker_of(row: Any) -> TickerState:
    """Return what is known of a ticker; the row's columns are named `ticker_…`, null: nothing."""
    if row.ticker_facts is None:
        return TickerState()
    return TickerState(
        _meta(row.ticker_facts), row.ticker_told_ms, row.ticker_version, row.ticker_due_before
    )


def series_of(
    row: Any,
    coverage: Spans[Coverage],
    blocks: Spans[Block],
    doubts: Sequence[Doubt] = (),
) -> SeriesState:
    """Return the series that its row, with that of its ticker, coverage and blocks show."""
    ticker = ticker_of(row)
    return SeriesState(
        key=key_of(row.provider, row.ticker, row.params),
        number=row.number,
        version=row.version,
        due_before=max(row.due_before, ticker.due_before),
        changed=row.changed,
        meta=_meta(row.meta),
        coverage=coverage,
        blocks=blocks,
        doubts=tuple(doubts),
        created=row.created_ms,
        ticker=ticker,
    )


def key_of(provider: str, ticker: str, params: str) -> SeriesKey:
    """Return the key of a row of `series`, whose params are a JSON object."""
    return SeriesKey.of(provider, ticker, msgspec.json.decode(params, type=dict[str, str]))


def params_text(key: SeriesKey) -> str:
    """Return the params of a key as they are stored."""
    return msgspec.json.encode(dict(key.params)).decode()


def _check(intervals: Sequence[Interval]) -> None:
    """Refuse intervals that are empty or overlap: a gap would be hidden, a record told twice."""
    if any(interval.empty for interval in intervals) or any(
        later.start < earlier.end for earlier, later in pairwise(intervals)
    ):
        raise ValueError("its intervals are empty or overlap")


def _meta(text: str) -> Mapping[str, Any]:
    meta: dict[str, Any] = msgspec.json.decode(text)
    return meta


def run_of(number: int, text: bytes, offsets: bytes) -> Run:
    """Return the run of a block; raise `DatabaseDamaged` where its checksum does not fit."""
    with decoding(f"block {number}"):
        return Run.load(text[1:-1], offsets)


@contextmanager
def decoding(what: str) -> Iterator[None]:
    """Name what in the database says something that was never written to it."""
    try:
        yield
    except (ValueError, TypeError, AttributeError) as error:
        raise DatabaseDamaged(
            f"{what} of the database cannot be read: {error}; "
            "run 'gapless db check', then restore a copy of the file, or move it away and start "
            "anew: what it held is fetched again"
        ) from error
