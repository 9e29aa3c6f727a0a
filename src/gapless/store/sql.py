"""The store in SQL, one text for every database: reads in snapshots, changes in transactions.

The engines are synchronous and run in threads, for that is several times faster than an
asynchronous driver: one writer thread, a few readers beside it.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Iterable, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import astuple, replace
from typing import Any, TypeVar

import msgspec
from sqlalchemy import (
    Connection,
    Engine,
    LargeBinary,
    and_,
    bindparam,
    case,
    cast,
    delete,
    func,
    insert,
    select,
    update,
)
from sqlalchemy.exc import DBAPIError

from gapless.domain import coverage as known
from gapless.domain.blocks import EMPTY, Block, Run, relayout
from gapless.domain.coverage import Coverage
from gapless.domain.intervals import Interval, covers
from gapless.domain.series import SeriesKey, span_text
from gapless.errors import GaplessError
from gapless.store import listing, rows, schema
from gapless.store.base import (
    Change,
    EntityFilter,
    Figures,
    RememberedPlugin,
    Removal,
    Replacement,
    SeriesState,
    SeriesSummary,
    Snapshot,
    StoredEntity,
    Superseded,
)
from gapless.store.sql_accounts import SqlAccounts

T = TypeVar("T")
# What the driver raises: by its own tree, and where its words about a damaged file are no UTF-8.
Foreign = DBAPIError | UnicodeDecodeError
FOREIGN = (DBAPIError, UnicodeDecodeError)
Translate = Callable[[Foreign], GaplessError]
# The execution option of a transaction that must not be lost once it is acknowledged.
DURABLE = "gapless_durable"

_READERS = 2

_s, _c, _e = schema.series.c, schema.coverage.c, schema.entities.c

_BLOCK_COLUMNS = (
    _e.number,
    _e.start_ms,
    _e.end_ms,
    _e.generation,
    _e.final,
    _e.records,
    _e.first_ms,
    _e.last_ms,
    _e.etag,
)

# A block's text as bytes: it is ASCII, and as text the driver would decode it first.
_TEXT = cast(_e.data, LargeBinary)

# A statement costs about 100 µs whatever it finds, so a series is read in two: itself with its
# coverage (without any: one row of nulls), and its blocks with the runs that are wanted.
_SELECT_SERIES = (
    select(schema.series, *rows.COVERAGE_COLUMNS)
    .select_from(schema.series.outerjoin(schema.coverage))
    .where(
        _s.provider == bindparam("provider"),
        _s.ticker == bindparam("ticker"),
        _s.params == bindparam("params"),
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
_SELECT_COVERAGE = (
    select(*rows.COVERAGE_COLUMNS).where(_c.series == bindparam("series")).order_by(_c.start_ms)
)
_SELECT_RUNS = select(_e.number, _e.offsets, _TEXT.label("text")).where(
    _e.number.in_(bindparam("numbers", expanding=True))
)
_COUNT_COMMIT = (
    update(schema.commits)
    .values(number=schema.commits.c.number + 1)
    .returning(schema.commits.c.number)
)
# No block ends before it, so nothing is loaded.
_NOTHING = Interval(1 << 62, 1 << 62)


class SqlStore:
    """A store on two SQLAlchemy engines: one that writes, one that only reads."""

    def __init__(
        self, writer: Engine, reader: Engine, translate: Translate, block_records: int = 2_000
    ) -> None:
        self._writer = writer
        self._reader = reader
        self._translate = translate
        self._block_records = block_records
        # Whoever was told of a new token or password may rely on it after a power failure too.
        self._durable_writer = writer.execution_options(**{DURABLE: True})
        self.accounts = SqlAccounts(self._reading, self._writing_durably, self._writing)
        self._write_thread = ThreadPoolExecutor(1, "gapless-writer")
        self._read_threads = ThreadPoolExecutor(_READERS, "gapless-reader")

    async def warm(self) -> SeriesKey | None:
        """Compile the statements of a read and open its connection, so that no request has to.

        Returns any series there is, to rehearse with.
        """
        return await self._reading(_warm)

    async def read(self, key: SeriesKey, load: Interval | None = None) -> Snapshot:
        """Return the series and the runs of the blocks that overlap `load`."""
        return await self._reading(lambda connection: _snapshot(connection, key, load))

    async def runs(self, numbers: Sequence[int]) -> Mapping[int, Run]:
        """Return runs by block number; a block that is gone is left out."""
        return await self._reading(lambda connection: _runs(connection, numbers))

    async def apply(self, change: Change) -> Snapshot:
        """Make a change in one transaction; see `Store.apply`."""
        return await self._writing(
            lambda connection: _apply(connection, change, self._block_records)
        )

    async def entities(
        self, wanted: EntityFilter, limit: int, offset: int = 0, max_bytes: int | None = None
    ) -> Sequence[StoredEntity]:
        """Return stored entities ordered by id; at least one, if there is one."""
        return await self._reading(
            lambda connection: listing.find(connection, wanted, limit, offset, max_bytes)
        )

    async def save_entities(self, entities: Iterable[StoredEntity]) -> None:
        """Store entities as they are; raise `InvalidQuery` where an id is another's."""
        values = [
            dict(zip(StoredEntity.__dataclass_fields__, astuple(entity), strict=True))
            for entity in entities
        ]
        if values:
            await self._writing(lambda connection: listing.save(connection, values))

    async def all_series(self, provider: str | None = None) -> Sequence[SeriesState]:
        """Return every series by its key."""
        return await self._reading(lambda connection: _all_series(connection, provider))

    async def summaries(
        self, provider: str | None, after: SeriesKey | None, limit: int
    ) -> Sequence[SeriesSummary]:
        """Return at most `limit` series that follow `after`, in an order of the store's own."""
        return await self._reading(
            lambda connection: listing.summaries(connection, provider, after, limit)
        )

    async def delete(self, key: SeriesKey, interval: Interval | None = None) -> Removal:
        """Forget a range of a series (`None`: all of it)."""
        return await self._writing(
            lambda connection: _delete(connection, key, interval, self._block_records)
        )

    async def aged(self, before: int) -> Sequence[SeriesKey]:
        """Return the series of which something was fetched before that instant."""
        return await self._reading(lambda connection: listing.aged(connection, before))

    async def prune(self, key: SeriesKey, before: int) -> Removal:
        """Forget what of a series was fetched before that instant; all of it: the series, too."""
        return await self._writing(
            lambda connection: _prune(connection, key, before, self._block_records)
        )

    async def plugins(self) -> Sequence[RememberedPlugin]:
        """Return the remembered plugins by name."""
        return await self._reading(listing.plugins)

    async def save_plugin(self, plugin: RememberedPlugin) -> None:
        """Remember a plugin; one of the same name is replaced."""
        await self._writing(lambda connection: listing.save_plugin(connection, plugin))

    async def forget_plugin(self, name: str) -> bool:
        """Forget a plugin; return whether it was remembered."""
        return await self._writing(lambda connection: listing.forget_plugin(connection, name))

    async def figures(self) -> Figures:
        """Count what is stored."""
        return await self._reading(_figures)

    async def close(self) -> None:
        """Let what is being written finish, then let go of the database."""
        await asyncio.to_thread(self._shut)

    def _shut(self) -> None:
        self._write_thread.shutdown()
        self._read_threads.shutdown()
        self._reader.dispose()
        self._writer.dispose()

    async def _reading(self, work: Callable[[Connection], T]) -> T:
        return await self._run(self._read_threads, self._reader, work)

    async def _writing(self, work: Callable[[Connection], T]) -> T:
        return await self._run(self._write_thread, self._writer, work)

    async def _writing_durably(self, work: Callable[[Connection], T]) -> T:
        return await self._run(self._write_thread, self._durable_writer, work)

    async def _run(
        self, threads: ThreadPoolExecutor, engine: Engine, work: Callable[[Connection], T]
    ) -> T:
        def go() -> T:
            try:
                with engine.begin() as connection:
                    return work(connection)
            except FOREIGN as error:
                raise self._translate(error) from error

        return await asyncio.get_running_loop().run_in_executor(threads, go)


def _warm(connection: Connection) -> SeriesKey | None:
    _snapshot(connection, SeriesKey("", ""), None)
    _blocks(connection, -1, _NOTHING)
    _runs(connection, [-1])
    found = connection.execute(select(schema.series).limit(1)).one_or_none()
    if found is None:
        return None
    with rows.decoding(f"series {found.number}"):
        return rows.key_of(found.provider, found.ticker, found.params)


def _state(connection: Connection, key: SeriesKey) -> SeriesState:
    return _snapshot(connection, key, None).state


def _snapshot(connection: Connection, key: SeriesKey, load: Interval | None) -> Snapshot:
    found = connection.execute(
        _SELECT_SERIES,
        {"provider": key.provider, "ticker": key.ticker, "params": rows.params_text(key)},
    ).all()
    if not found:
        return Snapshot(SeriesState(key), {})
    series = found[0]
    blocks = _blocks(connection, series.number, load or _NOTHING)
    with rows.decoding(f"series {series.number}"):
        spans = [row for row in found if row.coverage_start_ms is not None]
        state = rows.series_of(series, rows.coverages_of(spans), rows.blocks_of(blocks))
    return Snapshot(
        state,
        {
            row.number: rows.run_of(row.number, row.text, row.offsets)
            for row in blocks
            if row.text is not None
        },
    )


def _blocks(connection: Connection, number: int, load: Interval) -> Sequence[Any]:
    return connection.execute(
        _SELECT_BLOCKS, {"series": number, "load_start": load.start, "load_end": load.end}
    ).all()


def _full(connection: Connection, row: Any) -> SeriesState:
    spans = connection.execute(_SELECT_COVERAGE, {"series": row.number}).all()
    blocks = _blocks(connection, row.number, _NOTHING)
    with rows.decoding(f"series {row.number}"):
        return rows.series_of(row, rows.coverages_of(spans), rows.blocks_of(blocks))


def _runs(connection: Connection, numbers: Sequence[int]) -> dict[int, Run]:
    if not numbers:
        return {}
    found = connection.execute(_SELECT_RUNS, {"numbers": list(numbers)})
    return {row.number: rows.run_of(row.number, row.text, row.offsets) for row in found}


def _apply(connection: Connection, change: Change, limit: int) -> Snapshot:
    state = _state(connection, change.key)
    if state.generation != change.generation:
        raise Superseded(f"{change.key.text} is at generation {state.generation} by now")
    for replacement in change.replacements:
        now_there = known.written(state.coverage, replacement.interval)
        if replacement.planned is not None and replacement.planned != now_there:
            raise Superseded(f"{change.key.text} was written to since this was planned")
    replaced = [replacement.interval for replacement in change.replacements]
    if change.unheld and any(
        block.generation == state.generation and not covers(replaced, block.interval)
        for block in state.blocks
    ):
        raise Superseded(f"{change.key.text} holds records by now")
    generation = state.generation
    bases = state.bases
    if change.basis_change is not None:
        generation += 1
        bases = (*bases, (generation, change.basis_change))
    state = replace(
        state,
        generation=generation,
        version=_next_commit(connection),
        bases=bases,
        basis_checked_at=(
            change.compared_at if change.compared_at is not None else state.basis_checked_at
        ),
        meta=dict(change.meta) if change.meta is not None else state.meta,
        created=change.at if state.number is None else state.created,
    )
    state = _write_series(connection, state)
    fresh: dict[int, Run] = {}
    for replacement in change.replacements:
        state, added = _replace(connection, state, replacement, change.at, limit)
        fresh.update(added)
    if change.unverified_until is not None:
        marked = known.unverified(
            state.coverage, state.generation, change.unverified_until, state.version
        )
        assert state.number is not None
        _write_coverage(connection, state.number, state.coverage, marked)
        state = replace(state, coverage=tuple(marked))
    held = {block.number for block in state.blocks}
    return Snapshot(state, {number: run for number, run in fresh.items() if number in held})


def _next_commit(connection: Connection) -> int:
    """Count a commit to a series; return its number."""
    number: int = connection.execute(_COUNT_COMMIT).scalar_one()
    return number


def _write_series(connection: Connection, state: SeriesState) -> SeriesState:
    values = {
        "generation": state.generation,
        "version": state.version,
        "basis_checked_at_ms": state.basis_checked_at,
        "bases": rows.bases_text(state.bases),
        "meta": msgspec.json.encode(state.meta).decode(),
    }
    if state.number is not None:
        connection.execute(update(schema.series).where(_s.number == state.number).values(values))
        return state
    connection.execute(
        insert(schema.series).values(
            number=state.version,
            provider=state.key.provider,
            ticker=state.key.ticker,
            params=rows.params_text(state.key),
            created_ms=state.created,
            **values,
        )
    )
    return replace(state, number=state.version)


def _replace(
    connection: Connection, state: SeriesState, replacement: Replacement, at: int, limit: int
) -> tuple[SeriesState, dict[int, Run]]:
    """Replace one interval of a series: records, blocks and coverage (stitching rule 6)."""
    number = state.number
    assert number is not None
    interval = replacement.interval
    fresh = [
        replace(row, generation=state.generation, commit=state.version)
        for row in replacement.coverage
    ]
    coverage = known.insert(known.cut(state.coverage, interval), fresh)
    changes = relayout(
        state.blocks,
        coverage,
        interval,
        replacement.run,
        lambda block: _load(connection, block),
        limit,
    )
    _write_coverage(connection, number, state.coverage, coverage)
    gone = [block.number for block in changes.removed]
    if gone:
        connection.execute(delete(schema.entities).where(_e.number.in_(gone)))
    if changes.added:
        # An entity that was saved under the id of a block to come gives way to it.
        ids = [f"{state.key.text}:{span_text(piece.interval)}" for piece in changes.added]
        connection.execute(delete(schema.entities).where(_e.id.in_(ids), _e.series.is_(None)))
    added: dict[int, Run] = {}
    blocks = [block for block in state.blocks if block.number not in set(gone)]
    if changes.added:
        values = [
            rows.block_values(state.key, number, piece, coverage, at) for piece in changes.added
        ]
        numbers = connection.execute(
            insert(schema.entities).returning(_e.number, sort_by_parameter_order=True), values
        ).scalars()
        for piece, made in zip(changes.added, numbers, strict=True):
            blocks.append(replace(piece.block(), number=made))
            added[made] = piece.run
    blocks.sort(key=lambda block: block.start)
    return replace(state, coverage=tuple(coverage), blocks=tuple(blocks)), added


def _load(connection: Connection, block: Block) -> Run:
    assert block.number is not None
    return _runs(connection, [block.number])[block.number]


def _write_coverage(
    connection: Connection, number: int, before: Sequence[Coverage], after: Sequence[Coverage]
) -> None:
    """Write only the rows that differ."""
    old, new = set(before), set(after)
    gone = [row.start for row in old - new]
    if gone:
        connection.execute(
            delete(schema.coverage).where(_c.series == number, _c.start_ms.in_(gone))
        )
    come = [rows.coverage_values(number, row) for row in after if row not in old]
    if come:
        connection.execute(insert(schema.coverage), come)


def _all_series(connection: Connection, provider: str | None) -> list[SeriesState]:
    statement = select(schema.series)
    if provider is not None:
        statement = statement.where(_s.provider == provider)
    found = [_full(connection, row) for row in connection.execute(statement).all()]
    # Databases order text each in its own way.
    return sorted(found, key=lambda state: state.key)


def _delete(
    connection: Connection, key: SeriesKey, interval: Interval | None, limit: int
) -> Removal:
    state = _state(connection, key)
    if state.number is None:
        return Removal()
    if interval is None:
        return _remove(connection, state)
    if not known.within(state.coverage, interval):
        return Removal()
    return _forget(connection, state, [interval], limit)


def _prune(connection: Connection, key: SeriesKey, before: int, limit: int) -> Removal:
    state = _state(connection, key)
    old = [row.interval for row in state.coverage if row.fetched_at < before]
    if not old:
        return Removal()
    if len(old) == len(state.coverage):
        return _remove(connection, state)
    return _forget(connection, state, old, limit)


def _remove(connection: Connection, state: SeriesState) -> Removal:
    """Forget a series as a whole."""
    connection.execute(delete(schema.series).where(_s.number == state.number))
    return Removal(_records(state), _next_commit(connection), series=True)


def _forget(
    connection: Connection, state: SeriesState, intervals: Sequence[Interval], limit: int
) -> Removal:
    """Forget what is known of intervals; the series stays, for what is known of it beside."""
    before = _records(state)
    # What stays of a block that is cut is as old as it was.
    at = max(row.fetched_at for row in state.coverage)
    state = _write_series(connection, replace(state, version=_next_commit(connection)))
    for interval in intervals:
        state, _ = _replace(connection, state, Replacement(interval, EMPTY, ()), at, limit)
    return Removal(before - _records(state), state.version)


def _records(state: SeriesState) -> int:
    return sum(block.count for block in state.blocks)


def _figures(connection: Connection) -> Figures:
    series = connection.execute(select(func.count()).select_from(schema.series)).scalar_one()
    blocks, records, size = connection.execute(
        select(
            func.count(),
            func.coalesce(func.sum(_e.records), 0),
            func.coalesce(func.sum(func.length(_e.data)), 0),
        )
    ).one()
    return Figures(series, blocks, records, size)
