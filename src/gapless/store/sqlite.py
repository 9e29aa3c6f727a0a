"""A SQLite file as a store: its engines and settings, its lock, its health, its error words."""

from __future__ import annotations

import fcntl
import os
import sqlite3
from collections.abc import Sequence
from pathlib import Path
from typing import Any, Literal

import structlog
from sqlalchemy import URL, Connection, Engine, create_engine, event, text
from sqlalchemy.pool import QueuePool

from gapless.config.settings import CacheSettings
from gapless.errors import (
    DatabaseDamaged,
    DatabaseInUse,
    DiskFull,
    GaplessError,
    Overloaded,
    StoreError,
)
from gapless.store.migration import HEAD, examine, upgrade
from gapless.store.room import BUSY_S, CACHE_BYTES, Reserve, Room, no_room
from gapless.store.sql import DURABLE, FOREIGN, Foreign, SqlStore
from gapless.store.statement import Statement

_log = structlog.get_logger("gapless.store")

_BEGIN, _BEGIN_IMMEDIATE = Statement(text("BEGIN")), Statement(text("BEGIN IMMEDIATE"))


class FileLock:
    """The right to open a database file, held by one process at a time beside it.

    The lock is the kernel's, so it goes with the process however that ends; the file itself
    stays, and says who held it last.
    """

    def __init__(self, database: Path) -> None:
        self.path = database.with_name(database.name + ".lock")
        self._descriptor: int | None = None

    def acquire(self, holder: str) -> None:
        """Take the lock, or raise `DatabaseInUse` naming who holds it."""
        try:
            descriptor = os.open(self.path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
        except OSError as error:
            raise StoreError(
                f"{self.path} cannot be opened ({error.strerror}); check its folder and permissions"
            ) from error
        try:
            fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            held_by = os.pread(descriptor, 200, 0).decode("utf-8", "replace").strip()
            os.close(descriptor)
            raise DatabaseInUse(
                f"{self.path.with_suffix('')} is open in another hub ({held_by or 'unknown'}); "
                "stop that one, or name another file with --db"
            ) from None
        os.ftruncate(descriptor, 0)
        os.pwrite(descriptor, holder.encode(), 0)
        self._descriptor = descriptor

    def release(self) -> None:
        """Let the lock go; without one nothing happens."""
        if self._descriptor is not None:
            os.close(self._descriptor)
            self._descriptor = None


def open_store(path: Path, block_records: int = CacheSettings().block_records) -> SqlStore:
    """Open a database file to read and write, making it or bringing it up to date if need be.

    The caller holds its `FileLock`. Raises `DatabaseNewer`, `DatabaseDamaged` or `StoreError`,
    each naming the file, which is then left as it was.
    """
    try:
        path.parent.mkdir(parents=True, exist_ok=True, mode=0o700)
    except OSError as error:
        raise StoreError(f"{path.parent} cannot be made: {error.strerror}") from error
    _refuse_foreign(path)
    _make_private(path)
    reserve = Reserve(path)
    try:
        reader, writer = _engines(path)
    except DiskFull:
        # Even to open it takes some room.
        reserve.give_up()
        reader, writer = _engines(path)
    reserve.keep()
    room = Room(path, writer, reserve)
    return SqlStore(writer, reader, lambda error: translate(path, error), block_records, room)


def _engines(path: Path) -> tuple[Engine, Engine]:
    """Open a file to read and to write, and bring it up to date; raises what `open_store` does."""
    reader, writer = _engine(path, "read"), _engine(path, "write")
    try:
        # Even to connect the writer changes a foreign file: it turns its journal to WAL.
        if path.stat().st_size:
            with reader.begin() as connection:
                examine(connection, str(path))
        with writer.begin() as connection:
            before, after = upgrade(connection, str(path))
        if before not in (None, after):
            _log.info(
                "database upgraded; an older gapless does not open it any more",
                database=str(path),
                step=after,
                before=before,
            )
    except BaseException as error:
        reader.dispose()
        writer.dispose()
        if isinstance(error, FOREIGN):
            raise translate(path, error) from error
        raise
    return reader, writer


def open_read_only(path: Path) -> SqlStore:
    """Open a database file only to read, beside a running hub or without one.

    Raises what `open_store` raises, and `StoreError` where there is none or an older one.
    """
    _refuse_missing(path)
    _refuse_foreign(path)
    reader = _engine(path, "read")
    try:
        with reader.begin() as connection:
            found = examine(connection, str(path))
        if found != HEAD:
            raise StoreError(f"{path} is older than this gapless; start a hub with --db {path}")
    except BaseException as error:
        reader.dispose()
        if isinstance(error, FOREIGN):
            raise translate(path, error) from error
        raise
    return SqlStore(reader, reader, lambda error: translate(path, error))


def check(path: Path) -> Sequence[str]:
    """Return what SQLite itself finds wrong with the file, a sentence each; none: sound."""
    _refuse_missing(path)
    _refuse_foreign(path)
    engine = _engine(path, "read")
    try:
        with engine.begin() as connection:
            found = [str(row[0]) for row in connection.exec_driver_sql("PRAGMA integrity_check")]
            loose = connection.exec_driver_sql("PRAGMA foreign_key_check").all()
    except FOREIGN as error:
        raise translate(path, error) from error
    finally:
        engine.dispose()
    return [line for line in found if line != "ok"] + [
        f"{row[0]} row {row[1]} belongs to a series that is not there" for row in loose
    ]


def translate(path: Path, error: Foreign) -> GaplessError:
    """Return our error for one of the driver's, naming the file."""
    if isinstance(error, UnicodeDecodeError):
        return _damaged(path, "a name in it is no text")
    cause = error.orig
    said = str(cause)
    code = getattr(cause, "sqlite_errorcode", None)
    primary = code & 0xFF if isinstance(code, int) else None
    if primary == sqlite3.SQLITE_FULL:
        return no_room(path, said)
    if primary == sqlite3.SQLITE_IOERR:
        return DiskFull(f"reading or writing {path} failed ({said}); nothing was stored by it")
    if primary in (sqlite3.SQLITE_CORRUPT, sqlite3.SQLITE_NOTADB):
        return _damaged(path, said)
    if primary in (sqlite3.SQLITE_BUSY, sqlite3.SQLITE_LOCKED):
        return Overloaded(f"{path} is busy ({said}); try again", retry_after_s=1)
    if primary in (sqlite3.SQLITE_CANTOPEN, sqlite3.SQLITE_READONLY, sqlite3.SQLITE_PERM):
        return StoreError(f"{path} cannot be opened ({said}); check its folder and permissions")
    return StoreError(f"{path}: {said}")


def _damaged(path: Path, said: str) -> DatabaseDamaged:
    return DatabaseDamaged(
        f"{path} is damaged ({said}); it is left as it is. Restore a copy, or move it away "
        "and start anew: what it held is fetched again"
    )


def _make_private(path: Path) -> None:
    """Make the file, for its user alone: it holds hashes of passwords. SQLite's others follow it.

    One that is there stays as open as it is; who opened it to others may have meant it.
    """
    try:
        os.close(os.open(path, os.O_RDWR | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, 0o600))
    except FileExistsError:
        return
    except OSError as error:
        raise StoreError(
            f"{path} cannot be made ({error.strerror}); check its folder and permissions"
        ) from error


def _refuse_missing(path: Path) -> None:
    """Refuse a file that is not there, which SQLite would make."""
    if not path.exists():
        raise StoreError(f"there is no database at {path}; start a hub with --db {path} first")


def _refuse_foreign(path: Path) -> None:
    """Refuse a file that is no SQLite database before SQLite gets to touch it."""
    try:
        with path.open("rb") as file:
            head = file.read(16)
    except FileNotFoundError:
        return
    except OSError as error:
        raise StoreError(f"{path} cannot be read: {error.strerror}") from error
    if head and head != b"SQLite format 3\x00":
        raise DatabaseDamaged(
            f"{path} is no SQLite database, or its head is damaged; it is left as it is. "
            "Name another file with --db"
        )


def _engine(path: Path, role: Literal["write", "read"]) -> Engine:
    """Make an engine for one role.

    The driver's own transaction handling is off: it begins transactions late, and a read that
    turns into a write fails at once when another has written meanwhile.
    """
    writes = role == "write"
    engine = create_engine(
        # Not pasted into a URL: a path may well have a `?` or a `%` in it.
        URL.create("sqlite", database=str(path)),
        connect_args={"timeout": BUSY_S, "check_same_thread": False},
        poolclass=QueuePool,
        pool_size=1 if writes else 3,
        max_overflow=0,
    )

    @event.listens_for(engine, "connect")
    def prepare(connection: Any, record: object) -> None:
        connection.isolation_level = None
        cursor = connection.cursor()
        # Tags have a case, and the LIKE of other databases tells it.
        pragmas = [
            "foreign_keys=ON",
            f"cache_size=-{CACHE_BYTES >> 10}",
            "case_sensitive_like=ON",
        ]
        if writes:
            # Where SQLite is built to overwrite all that is deleted, a delete takes as much room
            # in the log as what it frees.
            pragmas += ["journal_mode=WAL", "synchronous=NORMAL", "secure_delete=FAST"]
        else:
            pragmas += ["query_only=ON"]
        for pragma in pragmas:
            cursor.execute(f"PRAGMA {pragma}")
        cursor.close()

    @event.listens_for(engine, "begin")
    def begin(connection: Connection) -> None:
        if writes:
            durable = bool(connection.get_execution_options().get(DURABLE))
            if durable is not connection.info.get(DURABLE, False):
                # It cannot be changed within a transaction.
                level = "FULL" if durable else "NORMAL"
                connection.exec_driver_sql(f"PRAGMA synchronous={level}")
                connection.info[DURABLE] = durable
        (_BEGIN_IMMEDIATE if writes else _BEGIN).run(connection)

    return engine
