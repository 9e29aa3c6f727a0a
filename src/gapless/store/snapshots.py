"""Reading in SQL: a series with its coverage and blocks, runs, what is stored in figures.

Every function reads in the transaction of its connection, which is one snapshot.
"""

from __future__ import annotations

from bisect import bisect_left
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Any

from sqlalchemy import (
    ColumnElement,
    Connection,
    LargeBinary,
    Table,
    and_,
    bindparam,
    case,
    cast,
    exists,
    func,
    literal,
    literal_column,
    select,
)

from gapless.domain.believing import Doubt
from gapless.domain.blocks import Block, Run
from gapless.domain.coverage import Coverage
from gapless.domain.intervals import ALWAYS, Interval
from gapless.domain.series import SeriesKey
from gapless.domain.spans import Spans
from gapless.store import rows, schema
from gapless.store.base import Figures, SeriesState, Snapshot
from gapless.store.statement import Statement

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


def _edge(table: Table, bound: str, *, before: bool) -> ColumnElement[Any]:
    """Return where the neighbours begin that are read beside an interval of a series."""
    at, series = table.c.start_ms, table.c.series
    beyond = at < bindparam(bound) if before else at >= bindparam(bound)
    found = (
        select(at)
        .where(series == _s.number, beyond)
        .order_by(at.desc() if before else at)
        .limit(1)
        .offset(bindparam("margin"))
        .correlate(schema.series)
    )
    far = ALWAYS.start if before else ALWAYS.end
    return func.coalesce(found.scalar_subquery(), literal(far))


def _about(table: Table) -> ColumnElement[bool]:
    """Return the condition that rows lie over an interval of a series, or beside it."""
    return and_(
        table.c.series == _s.number,
        table.c.start_ms >= _edge(table, "start", before=True),
        table.c.start_ms <= _edge(table, "end", before=False),
    )


# Of more records no runs are read unasked: whoever reads on knows by then how many there are.
_MOST_LOADED = 20_000
# A statement costs about 100 µs whatever it finds, so a series is read in two: itself with its
# ticker and coverage (nulls where there is none), and its blocks with the runs that are wanted.
_ONE_ROW = select(literal_column("1").label("one")).subquery("one_row")
_SELECT_SERIES = Statement(
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
        .outerjoin(schema.coverage, _about(schema.coverage))
        .outerjoin(
            schema.tickers,
            and_(_t.provider == bindparam("provider"), _t.ticker == bindparam("ticker")),
        )
    )
    .order_by(_c.start_ms)
)
# How many records there are over what is to be loaded: many are not, but asked for by their blocks.
_inner = schema.entities.alias("inner_blocks")
_before = schema.entities.alias("block_before")
_total = (
    select(func.coalesce(func.sum(_inner.c.records), 0))
    .where(
        _inner.c.series == bindparam("series"),
        _inner.c.start_ms < bindparam("load_end"),
        _inner.c.start_ms
        >= func.coalesce(
            select(func.max(_before.c.start_ms))
            .where(
                _before.c.series == bindparam("series"),
                _before.c.start_ms <= bindparam("load_start"),
            )
            .scalar_subquery(),
            literal(ALWAYS.start),
        ),
    )
    .scalar_subquery()
)
_WANTED = and_(
    _e.start_ms < bindparam("load_end"),
    _e.end_ms > bindparam("load_start"),
    _total <= bindparam("most_loaded"),
)
_SELECT_BLOCKS = Statement(
    select(
        *_BLOCK_COLUMNS,
        case((_WANTED, _e.offsets)).label("offsets"),
        case((_WANTED, _TEXT)).label("text"),
    )
    .select_from(schema.series.join(schema.entities, _about(schema.entities)))
    .where(_s.number == bindparam("series"))
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
_SELECT_RUN = Statement(
    select(_e.number, _e.offsets, _TEXT.label("text")).where(_e.number == bindparam("number"))
)
# So many runs are read one by one.
_FEW = 16
# Overlaps no block, so that no run is loaded.
_NOTHING = Interval(ALWAYS.end, ALWAYS.end)
# So much is read on either side of what is asked for: hardly any series is longer, and what is
# asked for next lies near more often than not.
_BESIDE = 8
# What a database's integer holds.
_ANY_NUMBER = (1 << 63) - 1


@dataclass(frozen=True, slots=True)
class _Part:
    """What is read of a series: all over an interval, and so many neighbours on either side.

    With the runs over `load`, unless they have more than `most_loaded` records.
    """

    interval: Interval
    load: Interval = _NOTHING
    beside: int = _BESIDE
    most_loaded: int = _MOST_LOADED


def warm(connection: Connection) -> SeriesKey | None:
    """Compile the statements of a read; return any series there is."""
    whole(connection, SeriesKey("", ""))
    _blocks(connection, -1, _Part(ALWAYS))
    runs(connection, [-1])
    found = connection.execute(select(schema.series).limit(1)).one_or_none()
    if found is None:
        return None
    with rows.decoding(f"series {found.number}"):
        return rows.key_of(found.provider, found.ticker, found.params)


def whole(connection: Connection, key: SeriesKey) -> Snapshot:
    """Return a series without runs."""
    return directory(connection, key, ALWAYS)


def directory(
    connection: Connection, key: SeriesKey, interval: Interval, beside: int = _BESIDE
) -> Snapshot:
    """Return a series over an interval without runs, and so many of its neighbours beside it."""
    return _read(connection, key, _Part(interval, beside=beside))


def read(
    connection: Connection, key: SeriesKey, interval: Interval, about: Interval | None = None
) -> Snapshot:
    """Return a series over an interval with its runs there, unless they are many.

    Over one `about` it, its runs over the interval come with it however many they are.
    """
    if about is None:
        return _read(connection, key, _Part(interval, interval))
    return _read(connection, key, _Part(about, interval, most_loaded=_ANY_NUMBER))


def _read(connection: Connection, key: SeriesKey, part: _Part) -> Snapshot:
    found = _SELECT_SERIES.all(
        connection,
        provider=key.provider,
        ticker=key.ticker,
        params=rows.params_text(key),
        start=part.interval.start,
        end=part.interval.end,
        margin=part.beside,
    )
    series = found[0]
    if series.number is None:
        with rows.decoding(f"what is known of {key.ticker}"):
            ticker = rows.ticker_of(series)
        return Snapshot(SeriesState(key, due_before=ticker.due_before, ticker=ticker), {})
    blocks = _blocks(connection, series.number, part)
    with rows.decoding(f"series {series.number}"):
        covered = [row for row in found if row.coverage_start_ms is not None]
        spans = rows.coverages_of(covered)
        state = rows.series_of(
            series,
            Spans(spans, _known(spans, part)),
            Spans(laid := rows.blocks_of(blocks), _known(laid, part)),
            _doubts(connection, series) if series.doubted else [],
        )
    return Snapshot(
        state,
        {
            row.number: rows.run_of(row.number, row.text, row.offsets)
            for row in blocks
            if row.text is not None
        },
        state.version,
    )


def _known(found: Sequence[Block] | Sequence[Coverage], part: _Part) -> tuple[Interval]:
    """Return where what was found of a series is all there is."""
    interval, beside = part.interval, part.beside
    starts = [one.start for one in found]
    left = bisect_left(starts, interval.start)
    right = len(found) - bisect_left(starts, interval.end)
    return (
        Interval(
            starts[0] if left > beside else ALWAYS.start,
            found[-1].end if right > beside else ALWAYS.end,
        ),
    )


def siblings(connection: Connection, key: SeriesKey) -> tuple[SeriesKey, ...]:
    """Return the stored series of a ticker but one."""
    found = connection.execute(_SELECT_SIBLINGS, {"provider": key.provider, "ticker": key.ticker})
    keys = [rows.key_of(row.provider, row.ticker, row.params) for row in found]
    return tuple(one for one in keys if one != key)


def _blocks(connection: Connection, number: int, part: _Part) -> Sequence[Any]:
    return _SELECT_BLOCKS.all(
        connection,
        series=number,
        start=part.interval.start,
        end=part.interval.end,
        margin=part.beside,
        load_start=part.load.start,
        load_end=part.load.end,
        most_loaded=part.most_loaded,
    )


def _doubts(connection: Connection, series: Any) -> list[Doubt]:
    found = connection.execute(_SELECT_DOUBTS, {"series": series.number})
    return sorted(rows.doubt_of(row) for row in found)


def _full(connection: Connection, row: Any) -> SeriesState:
    spans = connection.execute(_SELECT_COVERAGE, {"series": row.number}).all()
    blocks = _blocks(connection, row.number, _Part(ALWAYS))
    with rows.decoding(f"series {row.number}"):
        doubts = _doubts(connection, row)
        return rows.series_of(
            row, Spans(rows.coverages_of(spans)), Spans(rows.blocks_of(blocks)), doubts
        )


def runs(connection: Connection, numbers: Sequence[int]) -> dict[int, Run]:
    """Return runs by block number; a block that is gone is left out."""
    if len(numbers) > _FEW:
        found: Iterable[Any] = connection.execute(_SELECT_RUNS, {"numbers": list(numbers)})
    else:
        found = [row for number in numbers for row in _SELECT_RUN.all(connection, number=number)]
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
