"""Reading in SQL: a series with its coverage and blocks, runs, what is stored in figures.

Every function reads in the transaction of its connection, which is one snapshot.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from sqlalchemy import (
    Connection,
    LargeBinary,
    and_,
    bindparam,
    case,
    cast,
    exists,
    func,
    literal_column,
    select,
)

from gapless.domain.believing import Doubt
from gapless.domain.blocks import Run
from gapless.domain.intervals import Interval
from gapless.domain.series import SeriesKey
from gapless.store import rows, schema
from gapless.store.base import Figures, SeriesState, Snapshot

_s, _c, _e = schema.series.c, schema.coverage.c, schema.entities.c
_d, _t = schema.doubts.c, schema.tickers.c

_BLOCK_COLUMNS = (
    _e.number,
    _e.start_ms,
    _e.end_ms,
    _e.final,
    _e.records,
    _e.first_ms,
    _e.last_ms,
    _e.etag,
)

# A block's text as bytes: it is ASCII, and as text the driver would decode it first.
_TEXT = cast(_e.data, LargeBinary)

# Hardly any series is in doubt, so that a statement of its own is spent only on those.
_DOUBTED = exists().where(_d.series == _s.number).correlate(schema.series).label("doubted")
_SELECT_DOUBTS = select(schema.doubts).where(_d.series == bindparam("series")).order_by(_d.start_ms)

_OF_TICKER = and_(_t.provider == _s.provider, _t.ticker == _s.ticker)
# Each series with what is known of its ticker.
SERIES = select(schema.series, *rows.TICKER_COLUMNS).select_from(
    schema.series.outerjoin(schema.tickers, _OF_TICKER)
)

# A statement costs about 100 µs whatever it finds, so a series is read in two: itself with its
# ticker and coverage (nulls where there is none), and its blocks with the runs that are wanted.
_ONE_ROW = select(literal_column("1").label("one")).subquery("one_row")
_SELECT_SERIES = (
    select(schema.series, _DOUBTED, *rows.TICKER_COLUMNS, *rows.COVERAGE_COLUMNS)
    .select_from(
        _ONE_ROW.outerjoin(
            schema.series,
            and_(
                _s.provider == bindparam("provider"),
                _s.ticker == bindparam("ticker"),
                _s.params == bindparam("params"),
            ),
        )
        .outerjoin(schema.coverage, _c.series == _s.number)
        .outerjoin(
            schema.tickers,
            and_(_t.provider == bindparam("provider"), _t.ticker == bindparam("ticker")),
        )
    )
    .order_by(_c.start_ms)
)
_WANTED = and_(_e.start_ms < bindparam("load_end"), _e.end_ms > bindparam("load_start"))
_SELECT_BLOCKS = (
    select(
        *_BLOCK_COLUMNS,
        case((_WANTED, _e.offsets)).label("offsets"),
        case((_WANTED, _TEXT)).label("text"),
    )
    .where(_e.series == bindparam("series"))
    .order_by(_e.start_ms)
)
_SELECT_SIBLINGS = select(_s.provider, _s.ticker, _s.params).where(
    _s.provider == bindparam("provider"), _s.ticker == bindparam("ticker")
)
_SELECT_COVERAGE = (
    select(*rows.COVERAGE_COLUMNS).where(_c.series == bindparam("series")).order_by(_c.start_ms)
)
_SELECT_RUNS = select(_e.number, _e.offsets, _TEXT.label("text")).where(
    _e.number.in_(bindparam("numbers", expanding=True))
)
# No block ends before it, so nothing is loaded.
_NOTHING = Interval(1 << 62, 1 << 62)


def warm(connection: Connection) -> SeriesKey | None:
    """Compile the statements of a read; return any series there is."""
    snapshot(connection, SeriesKey("", ""), None)
    _blocks(connection, -1, _NOTHING)
    runs(connection, [-1])
    found = connection.execute(select(schema.series).limit(1)).one_or_none()
    if found is None:
        return None
    with rows.decoding(f"series {found.number}"):
        return rows.key_of(found.provider, found.ticker, found.params)


def state_of(connection: Connection, key: SeriesKey) -> SeriesState:
    """Return a series without runs."""
    return snapshot(connection, key, None).state


def snapshot(connection: Connection, key: SeriesKey, load: Interval | None) -> Snapshot:
    """Return a series and the runs of the blocks that overlap `load`."""
    found = connection.execute(
        _SELECT_SERIES,
        {"provider": key.provider, "ticker": key.ticker, "params": rows.params_text(key)},
    ).all()
    series = found[0]
    if series.number is None:
        with rows.decoding(f"what is known of {key.ticker}"):
            ticker = rows.ticker_of(series)
        return Snapshot(SeriesState(key, due_before=ticker.due_before, ticker=ticker), {})
    blocks = _blocks(connection, series.number, load or _NOTHING)
    with rows.decoding(f"series {series.number}"):
        spans = [row for row in found if row.coverage_start_ms is not None]
        doubts = _doubts(connection, series) if series.doubted else []
        state = rows.series_of(series, rows.coverages_of(spans), rows.blocks_of(blocks), doubts)
    return Snapshot(
        state,
        {
            row.number: rows.run_of(row.number, row.text, row.offsets)
            for row in blocks
            if row.text is not None
        },
    )


def siblings(connection: Connection, key: SeriesKey) -> tuple[SeriesKey, ...]:
    """Return the stored series of a ticker but one."""
    found = connection.execute(_SELECT_SIBLINGS, {"provider": key.provider, "ticker": key.ticker})
    keys = [rows.key_of(row.provider, row.ticker, row.params) for row in found]
    return tuple(one for one in keys if one != key)


def _blocks(connection: Connection, number: int, load: Interval) -> Sequence[Any]:
    return connection.execute(
        _SELECT_BLOCKS, {"series": number, "load_start": load.start, "load_end": load.end}
    ).all()


def _doubts(connection: Connection, series: Any) -> list[Doubt]:
    found = connection.execute(_SELECT_DOUBTS, {"series": series.number})
    return sorted(rows.doubt_of(row) for row in found)


def _full(connection: Connection, row: Any) -> SeriesState:
    spans = connection.execute(_SELECT_COVERAGE, {"series": row.number}).all()
    blocks = _blocks(connection, row.number, _NOTHING)
    with rows.decoding(f"series {row.number}"):
        doubts = _doubts(connection, row)
        return rows.series_of(row, rows.coverages_of(spans), rows.blocks_of(blocks), doubts)


def runs(connection: Connection, numbers: Sequence[int]) -> dict[int, Run]:
    """Return runs by block number; a block that is gone is left out."""
    if not numbers:
        return {}
    found = connection.execute(_SELECT_RUNS, {"numbers": list(numbers)})
    return {row.number: rows.run_of(row.number, row.text, row.offsets) for row in found}


def all_series(connection: Connection, provider: str | None) -> list[SeriesState]:
    """Return every series by its key."""
    statement = SERIES
    if provider is not None:
        statement = statement.where(_s.provider == provider)
    found = [_full(connection, row) for row in connection.execute(statement).all()]
    # Databases order text each in its own way.
    return sorted(found, key=lambda state: state.key)


def figures(connection: Connection) -> Figures:
    """Count what is stored."""
    series = connection.execute(select(func.count()).select_from(schema.series)).scalar_one()
    blocks, records, size = connection.execute(
        select(
            func.count(),
            func.coalesce(func.sum(_e.records), 0),
            func.coalesce(func.sum(func.length(_e.data)), 0),
        )
    ).one()
    return Figures(series, blocks, records, size)
