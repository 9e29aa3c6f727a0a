"""Changing a series in SQL: its records, blocks and coverage, each time under a new commit.

Every function works in the transaction of its connection, which is all or nothing.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

import msgspec
from msgspec import structs
from sqlalchemy import Connection, bindparam, delete, func, insert, select, update

from gapless.domain import coverage as known
from gapless.domain.believing import remaining
from gapless.domain.blocks import EMPTY, Block, Run, relayout
from gapless.domain.coverage import Coverage
from gapless.domain.facts import known_facts
from gapless.domain.intervals import ALWAYS, Interval, hull, union
from gapless.domain.series import SeriesKey
from gapless.domain.spans import Spans
from gapless.store import rows, schema, snapshots
from gapless.store.base import (
    Change,
    News,
    Removal,
    Replacement,
    SeriesState,
    Snapshot,
    Superseded,
    TickerState,
)
from gapless.store.statement import Statement

_s, _c, _e = schema.series.c, schema.coverage.c, schema.entities.c
_d, _t = schema.doubts.c, schema.tickers.c

# Of a change that touches no interval nothing is read but the series itself.
_NOWHERE = Interval(ALWAYS.end, ALWAYS.end)
# So many neighbours of what is changed are read: it may be joined with those next to it.
_NEIGHBOURS = 3

_COUNT_COMMIT = Statement(
    update(schema.commits)
    .values(number=schema.commits.c.number + 1)
    .returning(schema.commits.c.number)
)

_INSERT_TICKER = insert(schema.tickers).values(
    provider=bindparam("of_provider"), ticker=bindparam("of_ticker")
)
_UPDATE_TICKER = update(schema.tickers).where(
    _t.provider == bindparam("of_provider"), _t.ticker == bindparam("of_ticker")
)
_SERIES_COLUMNS = ("version", "due_before", "changed", "meta")
_INSERT_SERIES = Statement(
    insert(schema.series),
    ("number", "provider", "ticker", "params", "created_ms", *_SERIES_COLUMNS),
)
_UPDATE_SERIES = Statement(
    update(schema.series).where(_s.number == bindparam("of_number")), _SERIES_COLUMNS
)
_INSERT_COVERAGE = Statement(insert(schema.coverage), [column.name for column in _c])
_DELETE_COVERAGE = Statement(
    delete(schema.coverage).where(
        _c.series == bindparam("of_series"), _c.start_ms == bindparam("of_start")
    )
)
_INSERT_BLOCK = Statement(
    insert(schema.entities).returning(_e.number),
    [column.name for column in _e if column.name != "number"],
)
_DELETE_BLOCK = Statement(delete(schema.entities).where(_e.number == bindparam("of_number")))
_COUNT_COVERAGE = select(func.count()).where(_c.series == bindparam("of_series"))
_COUNT_RECORDS = select(func.coalesce(func.sum(_e.records), 0)).where(
    _e.series == bindparam("of_series")
)
# What one step of forgetting takes at the most: so many rows of coverage, over so many blocks.
_AT_ONCE = 100
_AGED = (
    select(_c.start_ms, _c.end_ms)
    .where(
        _c.series == bindparam("of_series"),
        _c.start_ms < bindparam("end"),
        _c.end_ms > bindparam("start"),
        _c.fetched_at_ms < bindparam("before"),
    )
    .order_by(_c.start_ms)
    .limit(_AT_ONCE)
)
_LAST_BLOCK = (
    select(_e.end_ms)
    .where(
        _e.series == bindparam("of_series"),
        _e.start_ms < bindparam("end"),
        _e.end_ms > bindparam("start"),
    )
    .order_by(_e.start_ms)
    .limit(1)
    .offset(_AT_ONCE - 1)
)
_DELETE_SAVED = Statement(
    delete(schema.entities).where(_e.id == bindparam("of_id"), _e.series.is_(None))
)


def apply(connection: Connection, change: Change, limit: int) -> Snapshot:
    """Make a change; see `Store.apply`. Blocks have `limit` records at the most.

    Of the series only what is touched is read and written, with the neighbours that it may join.
    """
    touched = [*(one.interval for one in change.replacements), *change.gone.intervals]
    over = hull(touched) if touched else _NOWHERE
    found = snapshots.directory(connection, change.key, over, _NEIGHBOURS)
    state = found.state
    _check(state, change)
    number = _next_commit(connection)
    ticker = state.ticker
    known_before = (ticker.version, ticker.due_before)
    if change.news is not None:
        ticker = _write_ticker(connection, state, change.news, number)
    state = replace(
        state,
        version=number,
        due_before=max(state.due_before, change.due_before, ticker.due_before),
        changed=number if change.restates else state.changed,
        meta=dict(change.meta) if change.meta is not None else state.meta,
        created=change.at if state.number is None else state.created,
        ticker=ticker,
    )
    state = _write_series(connection, state)
    fresh: dict[int, Run] = {}
    for replacement in change.replacements:
        state, added = _replace(connection, state, replacement, change, limit)
        fresh.update(added)
    coverage = state.coverage
    for interval in change.gone.intervals:
        rows_there = known.gone(coverage.touching(interval), interval, change.gone.at, number)
        coverage = coverage.replaced(interval, rows_there)
    state = replace(state, coverage=coverage)
    _write_coverage(connection, state, found.state.coverage)
    state = _write_doubts(connection, state, change)
    held = {block.number for block in state.blocks}
    runs = {number: run for number, run in fresh.items() if number in held}
    news = change.news
    actions = None
    if news is not None and news.actions is not None:
        actions = apply(connection, news.actions, limit)
    siblings: tuple[SeriesKey, ...] = ()
    if (ticker.version, ticker.due_before) != known_before:
        siblings = snapshots.siblings(connection, change.key)
    if actions is not None:
        siblings = tuple(one for one in siblings if one != actions.state.key)
    return Snapshot(state, runs, found.before, actions, siblings)


def forget(
    connection: Connection,
    key: SeriesKey,
    interval: Interval | None,
    limit: int,
    before: int | None = None,
) -> Removal:
    """Forget what of a range was fetched before an instant (`None`: all, whenever), in one step.

    See `Store.delete` and `Store.prune`.
    """
    state = snapshots.directory(connection, key, _NOWHERE, 0).state
    number = state.number
    if number is None:
        return Removal()
    over = ALWAYS if interval is None else interval
    old = _aged(connection, number, over, before)
    if not old:
        return _remove(connection, number) if interval is None and before is None else Removal()
    end = _reached(connection, number, old, over)
    known_rows = connection.execute(_COUNT_COVERAGE, {"of_series": number}).scalar_one()
    if interval is None and known_rows == len(old) and old[-1][1] <= end:
        return _remove(connection, number)
    parts = [
        part
        for start, stop in old
        if not (part := Interval(max(start, over.start), min(stop, end))).empty
    ]
    # Of what is forgotten whenever it was fetched, nothing is in doubt any more, either.
    answered = union(parts) if before is not None else [over]
    state = snapshots.directory(connection, key, hull(parts), _NEIGHBOURS).state
    removal = _forget(connection, state, union(parts), answered, limit)
    return replace(removal, more=bool(_aged(connection, number, over, before)))


def _remove(connection: Connection, number: int) -> Removal:
    """Forget a series as a whole."""
    records = connection.execute(_COUNT_RECORDS, {"of_series": number}).scalar_one()
    connection.execute(delete(schema.series).where(_s.number == number))
    return Removal(records, _next_commit(connection), series=True)


def _aged(
    connection: Connection, number: int, interval: Interval, before: int | None
) -> Sequence[tuple[int, int]]:
    """Return the first of what is known of an interval and was fetched before an instant."""
    found = connection.execute(
        _AGED,
        {
            "of_series": number,
            "start": interval.start,
            "end": interval.end,
            "before": ALWAYS.end if before is None else before,
        },
    )
    return [(row.start_ms, row.end_ms) for row in found]


def _reached(
    connection: Connection, number: int, rows_there: Sequence[tuple[int, int]], interval: Interval
) -> int:
    """Return how far one step goes that begins with these rows: over so many blocks at the most."""
    end = rows_there[-1][1] if len(rows_there) == _AT_ONCE else interval.end
    over = {"of_series": number, "start": max(rows_there[0][0], interval.start), "end": end}
    last = connection.execute(_LAST_BLOCK, over).scalar_one_or_none()
    return min(end, interval.end) if last is None else min(end, interval.end, last)


def _check(state: SeriesState, change: Change) -> None:
    """Raise `Superseded` where a series is not any more what a change was planned on."""
    for replacement in change.replacements:
        now_there = known.written(state.coverage, replacement.interval)
        if replacement.planned is not None and replacement.planned != now_there:
            raise Superseded(f"{change.key.text} was written to since this was planned")
    if change.planned_due is not None and change.planned_due != state.due_before:
        raise Superseded(f"what is held of {change.key.text} became due since this was planned")


def _next_commit(connection: Connection) -> int:
    """Count a commit to a series; return its number."""
    number: int = _COUNT_COMMIT.one(connection)
    return number


def _write_series(connection: Connection, state: SeriesState) -> SeriesState:
    values = {
        "version": state.version,
        "due_before": state.due_before,
        "changed": state.changed,
        "meta": msgspec.json.encode(state.meta).decode(),
    }
    if state.number is not None:
        _UPDATE_SERIES.run(connection, of_number=state.number, **values)
        return state
    _INSERT_SERIES.run(
        connection,
        number=state.version,
        provider=state.key.provider,
        ticker=state.key.ticker,
        params=rows.params_text(state.key),
        created_ms=state.created,
        **values,
    )
    return replace(state, number=state.version)


def _write_ticker(
    connection: Connection, state: SeriesState, news: News, number: int
) -> TickerState:
    """Write what an answer told of a ticker; what was asked earlier changes no facts."""
    key, before = state.key, state.ticker
    after = replace(before, due_before=number if news.due else before.due_before)
    if news.facts is not None and news.told >= before.told:
        facts = known_facts(before.facts, news.facts)
        version = before.version if facts == before.facts else number
        after = replace(after, facts=facts, told=news.told, version=version)
    if after == before:
        return before
    # Without a row nothing was known, and none is written of which nothing is.
    statement = _UPDATE_TICKER if before != TickerState() else _INSERT_TICKER
    connection.execute(
        statement,
        {
            "of_provider": key.provider,
            "of_ticker": key.ticker,
            "due_before": after.due_before,
            "told_ms": after.told,
            "version": after.version,
            "facts": msgspec.json.encode(after.facts).decode(),
        },
    )
    return after


def _replace(
    connection: Connection,
    state: SeriesState,
    replacement: Replacement,
    change: Change,
    limit: int,
) -> tuple[SeriesState, dict[int, Run]]:
    """Replace one interval of a series: records, blocks and coverage (stitching rule 6)."""
    number = state.number
    assert number is not None
    interval = replacement.interval
    fresh = [structs.replace(row, commit=state.version) for row in replacement.coverage]
    kept = known.cut(state.coverage.touching(interval), [interval])
    coverage = state.coverage.replaced(interval, known.insert(kept, fresh, change.revises))
    changes = relayout(
        state.blocks,
        coverage,
        interval,
        replacement.run,
        lambda blocks: _load(connection, blocks),
        limit,
    )
    gone = {block.number for block in changes.removed}
    for block_number in gone:
        _DELETE_BLOCK.run(connection, of_number=block_number)
    added: dict[int, Run] = {}
    blocks = [block for block in state.blocks if block.number not in gone]
    for piece in changes.added:
        values = rows.block_values(state.key, number, piece, coverage, change.at)
        # An entity that was saved under the id of a block to come gives way to it.
        _DELETE_SAVED.run(connection, of_id=values["id"])
        made: int = _INSERT_BLOCK.one(connection, **values)
        blocks.append(structs.replace(piece.block(), number=made))
        added[made] = piece.run
    blocks.sort(key=lambda block: block.start)
    laid = Spans(blocks, state.blocks.known) if gone or added else state.blocks
    return replace(state, coverage=coverage, blocks=laid), added


def _load(connection: Connection, blocks: Sequence[Block]) -> list[Run]:
    numbers = [block.number for block in blocks if block.number is not None]
    found = snapshots.runs(connection, numbers)
    return [found[number] for number in numbers]


def _write_coverage(connection: Connection, state: SeriesState, before: Spans[Coverage]) -> None:
    """Write only the rows that differ from those of before."""
    number = state.number
    assert number is not None
    old, new = set(before), set(state.coverage)
    for row in old - new:
        _DELETE_COVERAGE.run(connection, of_series=number, of_start=row.start)
    for row in state.coverage:
        if row not in old:
            _INSERT_COVERAGE.run(connection, **rows.coverage_values(number, row))


def _write_doubts(connection: Connection, state: SeriesState, change: Change) -> SeriesState:
    """End the doubts that were answered, and add the new ones."""
    doubts = tuple(remaining(state.doubts, change.answered, change.doubts))
    if doubts == state.doubts:
        return state
    assert state.number is not None
    connection.execute(delete(schema.doubts).where(_d.series == state.number))
    if doubts:
        values = [rows.doubt_values(state.number, doubt) for doubt in doubts]
        connection.execute(insert(schema.doubts), values)
    return replace(state, doubts=doubts)


def _forget(
    connection: Connection,
    state: SeriesState,
    intervals: Sequence[Interval],
    answered: Sequence[Interval],
    limit: int,
) -> Removal:
    """Forget what is known of intervals; the series stays, for what is known of it beside.

    What is in doubt over `answered` goes, too.
    """
    before = state
    # What stays of a block that is cut, and what is known beside, is as old as it was.
    at = max(row.fetched_at for row in state.coverage)
    forgetting = Change(state.key, (), revises=True, at=at)
    state = _write_series(connection, replace(state, version=_next_commit(connection)))
    for interval in intervals:
        replacement = Replacement(interval, EMPTY, ())
        state, _ = _replace(connection, state, replacement, forgetting, limit)
    _write_coverage(connection, state, before.coverage)
    state = _write_doubts(connection, state, replace(forgetting, answered=tuple(answered)))
    return Removal(_records(before) - _records(state), state.version)


def _records(state: SeriesState) -> int:
    """Count the records of what is told of a series."""
    return sum(block.count for block in state.blocks)
