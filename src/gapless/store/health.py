"""Whether a database says what was written to it: its step, its lock, every block of it.

SQLite's own check sees pages; here it is what they hold. Apart from the store, because it must
read what the store refuses to, name every fault and change nothing.
"""

from __future__ import annotations

import fcntl
import os
import sqlite3
import sys
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from itertools import pairwise
from pathlib import Path
from typing import Any
from urllib.parse import quote

import msgspec
import xxhash
from sqlalchemy import Connection, Engine, NullPool, create_engine, event, func, select
from sqlalchemy.exc import DBAPIError

from gapless.domain.blocks import Block, Run, etag
from gapless.domain.coverage import Coverage
from gapless.domain.intervals import Interval, covers, union
from gapless.domain.series import span_text
from gapless.domain.spans import Spans
from gapless.errors import StoreError
from gapless.instants import format_instant
from gapless.store import rows, schema, snapshots
from gapless.store.database import Progress
from gapless.store.migration import HEAD, examine
from gapless.store.sqlite import translate

_s, _c, _e = schema.series.c, schema.coverage.c, schema.entities.c
_d = schema.doubts.c
_MOST_TEXT = 200


def step_of(path: Path) -> str | None:
    """Return the step of a database file that is there; `None`: it is empty.

    Raises `DatabaseNewer`, `DatabaseDamaged` or `StoreError`, each naming the file.
    """
    with _reading(path) as engine, engine.connect() as connection:
        return examine(connection, str(path))


def lock_holder(database: Path) -> str | None:
    """Return who has a database open to write, as its lock file tells; `None`: nobody."""
    lock = database.with_name(database.name + ".lock")
    try:
        descriptor = os.open(lock, os.O_RDONLY | os.O_CLOEXEC)
    except OSError:
        return None
    try:
        fcntl.flock(descriptor, fcntl.LOCK_SH | fcntl.LOCK_NB)
    except BlockingIOError:
        held_by = os.pread(descriptor, _MOST_TEXT, 0).decode("utf-8", "replace").strip()
        return held_by or "unknown process"
    finally:
        os.close(descriptor)
    return None


def inspect(path: Path, progress: Progress = lambda done, total: None) -> list[str]:
    """Return what is wrong with what a database holds, a sentence each; none: all of it is sound.

    Reads every record. Each series is seen as one snapshot, so a hub may go on beside it.
    `progress` is told the blocks done and how many there are. Raises `StoreError` for a file
    that is not of this version.
    """
    findings: list[str] = []
    with _reading(path) as engine:
        with engine.connect() as connection:
            if examine(connection, str(path)) != HEAD:
                raise StoreError(
                    f"{path} is older than this gapless; bring it up to date with: "
                    f"gapless db upgrade --db {path}"
                )
            numbers = connection.execute(select(_s.number).order_by(_s.number)).scalars().all()
            blocks = select(func.count()).select_from(schema.entities).where(_e.series.is_not(None))
            total = connection.execute(blocks).scalar_one()
        done = 0
        progress(done, total)
        for number in numbers:
            with engine.connect() as connection:
                for found in _series_findings(connection, number):
                    if found is None:
                        done += 1
                        progress(min(done, total), total)
                    else:
                        findings.append(found)
    return findings


def coverage_findings(name: str, version: int, coverage: Sequence[Coverage]) -> Iterator[str]:
    """Yield what is wrong with the coverage of a series, which ascends by start."""
    for row in coverage:
        if row.interval.empty:
            yield f"{name}: its coverage of {_span(row.interval)} is empty"
        if row.commit > version:
            # It would count as fetched after whatever makes the past of the series due.
            yield (
                f"{name}: its coverage of {_span(row.interval)} is of commit {row.commit}, but the "
                f"series is only at {version}"
            )
    for one, next in pairwise(coverage):
        if next.start < one.end:
            yield (
                f"{name}: its coverage of {_span(one.interval)} and {_span(next.interval)} overlap"
            )


def layout_findings(
    name: str, coverage: Sequence[Coverage], blocks: Sequence[Block]
) -> Iterator[str]:
    """Yield what is wrong with where the blocks of a series lie; they ascend by start."""
    for one, next in pairwise(blocks):
        if next.start < one.end:
            yield (
                f"{name}: blocks {one.number} ({_span(one.interval)}) and "
                f"{next.number} ({_span(next.interval)}) overlap"
            )
    known = union(row.interval for row in coverage)
    for block in blocks:
        if block.interval.empty:
            yield f"{name}: block {block.number} ({_span(block.interval)}) spans nothing"
        elif not covers(known, block.interval):
            yield (
                f"{name}: block {block.number} ({_span(block.interval)}) holds records where "
                "nothing is covered"
            )


def block_findings(name: str, block: Block, text: str, index: bytes, tag: str) -> Iterator[str]:
    """Yield what is wrong with a block: `text` is its JSON array, `tag` its etag as stored."""
    where = f"{name}: block {block.number} ({_span(block.interval)})"
    try:
        if (text[:1], text[-1:]) != ("[", "]"):
            raise ValueError("its text is no JSON array")
        run = Run.load(text[1:-1].encode("ascii"), index)
    except (ValueError, TypeError) as error:
        yield f"{where} cannot be read: {error}"
        return
    count, times = len(run), list(run.times)
    if count != block.count:
        yield f"{where} has {count} records where {block.count} are counted"
    if not count:
        return
    if any(later <= earlier for earlier, later in pairwise(times)):
        yield f"{where}: its records do not ascend in time"
    if (times[0], times[-1]) != (block.first, block.last):
        yield f"{where} does not begin and end with the records that are noted"
    if not block.start <= min(times) <= max(times) < block.end:
        yield f"{where} has records outside of what it spans"
    offsets = list(run.offsets)
    if offsets[0] != 0 or offsets[-1] != len(run.text) + 1 or offsets != sorted(offsets):
        yield f"{where}: its index does not fit its text"
        return
    total = 0
    for i in range(count):
        record = run.record(i)
        total += xxhash.xxh3_64_intdigest(record)
        if etag(total) != etag(run.sum(0, i + 1)):
            yield f"{where}: the hash of record {i} does not fit its text"
            return
        try:
            msgspec.json.decode(record, type=dict[str, Any])
        except msgspec.DecodeError:
            yield f"{where}: record {i} is no JSON object"
            return
    if etag(total) != tag:
        yield f"{where}: its etag is {tag}, but its records give {etag(total)}"


def _series_findings(connection: Connection, number: int) -> Iterator[str | None]:
    """Yield what is wrong with a series, and `None` for each block that was read."""
    series = connection.execute(snapshots.SERIES.where(_s.number == number)).one_or_none()
    if series is None:
        return  # A hub beside us has forgotten it meanwhile.
    # As long as its row cannot be read, any commit may be one of its.
    name, version = f"series {number}", sys.maxsize
    try:
        name = rows.key_of(series.provider, series.ticker, series.params).text
        _whole(series.version, series.due_before, series.changed)
        if series.ticker_facts is not None:
            _whole(series.ticker_told_ms, series.ticker_version, series.ticker_due_before)
        rows.series_of(series, Spans(), Spans())
        version = series.version
    except (ValueError, TypeError) as error:
        yield f"{name}: its row cannot be read: {error}"
    coverage: list[Coverage] = []
    spans = select(*rows.COVERAGE_COLUMNS).where(_c.series == number).order_by(_c.start_ms)
    for row in connection.execute(spans).all():
        try:
            _whole(
                row.coverage_start_ms,
                row.coverage_end_ms,
                row.coverage_fetched_at_ms,
                row.coverage_commit_number,
            )
            coverage.append(rows.coverage_of(row))
        except ValueError as error:
            yield f"{name}: a row of its coverage cannot be read: {error}"
    yield from coverage_findings(name, version, coverage)
    for row in connection.execute(select(schema.doubts).where(_d.series == number)).all():
        try:
            _whole(row.start_ms, row.end_ms, row.since_ms, row.next_try_ms, row.tries)
            rows.doubt_of(row)
        except ValueError as error:
            yield f"{name}: what is in doubt of it cannot be read: {error}"
    blocks: list[Block] = []
    stored = select(schema.entities).where(_e.series == number).order_by(_e.start_ms)
    # One block at a time in memory, however long the history is.
    for row in connection.execution_options(yield_per=1).execute(stored):
        try:
            _whole(row.start_ms, row.end_ms, row.first_ms, row.last_ms)
            span = span_text(Interval(row.start_ms, row.end_ms))
        except (ValueError, OverflowError) as error:
            yield f"{name}: block {row.number} cannot be read: {error}"
        else:
            block = rows.block_of(row)
            blocks.append(block)
            yield from block_findings(name, block, row.data, row.offsets, row.etag)
            if row.id != f"{name}:{span}":
                yield f"{name}: block {block.number} goes by another's id, {row.id}"
        yield None
    yield from layout_findings(name, coverage, blocks)


def _whole(*values: object) -> None:
    """Refuse what are no whole numbers: SQLite takes anything for a number that it is given."""
    if not all(type(value) is int for value in values):
        raise ValueError("a number of it is none")


def _span(interval: Interval) -> str:
    try:
        return "..".join(format_instant(bound) for bound in interval)
    except OverflowError:
        return f"{interval.start}..{interval.end} ms"


@contextmanager
def _reading(path: Path) -> Iterator[Engine]:
    """Open a file so that nothing can change it; the driver's errors become ours."""
    if not path.exists():
        raise StoreError(f"there is no database at {path}; start a hub with --db {path} first")

    def connect() -> sqlite3.Connection:
        name = f"file:{quote(str(path.absolute()))}?mode=ro"
        connection = sqlite3.connect(name, uri=True, isolation_level=None)
        # Text that is no UTF-8 is a finding, not the end of the check.
        connection.text_factory = lambda text: text.decode("utf-8", "surrogateescape")
        return connection

    engine = create_engine("sqlite://", creator=connect, poolclass=NullPool)
    event.listen(engine, "begin", lambda connection: connection.exec_driver_sql("BEGIN"))
    try:
        yield engine
    except DBAPIError as error:
        raise translate(path, error) from error
    finally:
        engine.dispose()
