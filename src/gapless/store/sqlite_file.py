"""A SQLite file as a database: its lock, its opening and its checks under one roof."""

from __future__ import annotations

import sqlite3
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path

from gapless.errors import StoreError
from gapless.store import health, sqlite
from gapless.store.database import EngineInfo, Progress
from gapless.store.migration import HEAD
from gapless.store.sql import SqlStore

# https://www.sqlite.org/wal.html#walresetbug
_WAL_BUG = ((3, 7, 0), (3, 51, 2))


def engine_of(version: tuple[int, ...]) -> EngineInfo:
    """Return what to know of a version of SQLite: whether it has the WAL-reset bug."""
    text = ".".join(map(str, version))
    if not _WAL_BUG[0] <= version <= _WAL_BUG[1]:
        return EngineInfo("SQLite", text)
    return EngineInfo(
        "SQLite",
        text,
        "can damage a database that two connections write to or tidy up at the wrong "
        "moment (fixed in 3.51.3). A hub is safe: it has one connection that writes, and a "
        "lock keeps other hubs out",
        "let no other program write to the file while a hub runs on it",
    )


class SqliteFile:
    """A SQLite file, which one process at a time may write to; see `Database`."""

    latest = HEAD

    def __init__(self, path: Path) -> None:
        self._path = path

    def engine(self) -> EngineInfo:
        """Return the version of SQLite, and what to know of it."""
        return engine_of(sqlite3.sqlite_version_info)

    def exists(self) -> bool:
        """Whether it is there."""
        return self._path.exists()

    @contextmanager
    def owned(self, holder: str) -> Iterator[None]:
        """Have the right to open it to write; its folder is made, where there is none."""
        try:
            self._path.parent.mkdir(parents=True, exist_ok=True, mode=0o700)
        except OSError as error:
            raise StoreError(f"{self._path.parent} cannot be made: {error.strerror}") from error
        lock = sqlite.FileLock(self._path)
        lock.acquire(holder)
        try:
            yield
        finally:
            lock.release()

    def owner(self) -> str | None:
        """Return who has the right to open it to write; `None`: nobody."""
        return health.lock_holder(self._path)

    def open(self, block_records: int) -> SqlStore:
        """Open it to read and write, making it or bringing it up to date if need be."""
        return sqlite.open_store(self._path, block_records)

    def open_read_only(self) -> SqlStore:
        """Open it only to read, beside a running hub or without one."""
        return sqlite.open_read_only(self._path)

    def step(self) -> str | None:
        """Return the step that it is at; `None`: it is empty."""
        return health.step_of(self._path)

    def check(self) -> Sequence[str]:
        """Return what SQLite itself finds wrong with its pages, a sentence each; none: sound."""
        return sqlite.check(self._path)

    def inspect(self, progress: Progress = lambda done, total: None) -> list[str]:
        """Return what is wrong with what it holds, a sentence each; none: all of it is sound."""
        return health.inspect(self._path, progress)
