"""Room on a full disk: what is kept for it, and how a transaction gets it.

A SQLite database in WAL mode takes room even for what makes room: changed pages go into the log
first, and the log is emptied only into a file that may have to grow for it. So some room is kept
in a file beside the database, and no transaction is let in whose pages would find none when the
log is emptied; see docs/decisions/0008-room-on-a-full-disk.md.
"""

from __future__ import annotations

import os
import sqlite3
import stat
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any, Final, TypeVar

from sqlalchemy import Connection, Engine, text

from gapless.errors import DiskFull
from gapless.store.statement import Statement

T = TypeVar("T")

# An eighth of the database, within these bounds, and no more than an eighth of its disk.
_LEAST: Final = 2 << 20
_MOST: Final = 16 << 20
_SHARE: Final = 8
_STEP: Final = 64 << 10
# By so many pages the file may grow for what makes room or lets somebody in to make some.
_SLACK_PAGES: Final = 64
_NO_LIMIT: Final = (1 << 32) - 2
# Changed pages that SQLite keeps in memory until a transaction ends; sqlite.py sets it.
CACHE_BYTES: Final = 16_000 << 10
# How long SQLite waits for others' locks, seconds.
BUSY_S: Final = 5
# What a reserve begins with: a file of that name may be somebody else's.
_MARK: Final = b"gapless reserve\n"


class Reserve:
    """A file of no content beside a database, `FILE.reserve`, that takes up room.

    It is nobody's loss where it is missing or of another size: what can be had of it is kept. A
    file of that name that is not one is left alone.
    """

    def __init__(self, database: Path) -> None:
        self.path = database.with_name(database.name + ".reserve")
        self._database = database

    def wanted(self) -> int:
        """Return how many bytes should be kept; 0 where not even a step is left of a small disk."""
        disk = os.statvfs(self._database.parent)
        size = self._database.stat().st_size // _SHARE
        most = disk.f_blocks * disk.f_frsize // _SHARE
        return min(max(size, _LEAST), _MOST, most) // _STEP * _STEP

    def kept(self) -> int:
        """Return how many bytes are kept."""
        try:
            return min((found := self.path.lstat()).st_size, found.st_blocks * 512)
        except OSError:
            return 0

    @property
    def whole(self) -> bool:
        """Whether as much is kept as should be."""
        try:
            return self.kept() >= self.wanted()
        except OSError:
            return True

    def keep(self) -> None:
        """Keep as much as there is room for, up to what is wanted; a failure is no error."""
        with suppress(OSError):
            kept, wanted = self.kept(), self.wanted()
            if kept >= wanted:
                return
            descriptor = os.open(self.path, _OPENING | os.O_CREAT, 0o600)
            try:
                if not _is_reserve(descriptor):
                    return
                size = min(wanted, kept + _free(self.path))
                while size >= _STEP and not _allocated(descriptor, int(size) // _STEP * _STEP):
                    # Keeping account of it takes some, too.
                    size *= 0.9
            finally:
                os.close(descriptor)

    def give_up(self) -> None:
        """Let go of the room; without any nothing happens."""
        with suppress(OSError):
            descriptor = os.open(self.path, _OPENING)
            try:
                if _is_reserve(descriptor):
                    os.ftruncate(descriptor, 0)
            finally:
                os.close(descriptor)


_PAGES = Statement(text("PRAGMA page_count"))
_PAGE_SIZE = Statement(text("PRAGMA page_size"))


class Room:
    """Room for the transactions of one database: what they may take, and what is done about it.

    Used by whoever writes, one at a time.
    """

    def __init__(self, path: Path, writer: Engine, reserve: Reserve) -> None:
        self._path = path
        self._writer = writer
        self._reserve = reserve
        self._file = 0
        self._page = 0
        # The reserve was lent, and not all of it could be had again.
        self._owed = False

    def check(self, connection: Connection) -> None:
        """Raise `DiskFull` before a commit whose pages the file could not take from the log."""
        pages = _PAGES.one(connection)
        self._page = self._page or _PAGE_SIZE.one(connection)
        page = self._page
        try:
            size, free = self._path.stat().st_size, _free(self._path)
        except OSError:
            # Nothing is known of the disk; SQLite will tell.
            return
        growth = max(0, pages * page - size)
        # What has not gone into the log yet takes room there, too.
        if growth and growth + min(growth, CACHE_BYTES) > free:
            raise no_room(self._path, f"it would grow by {growth >> 10:,} KiB")
        if size > 2 * self._file:
            # The reserve grows with the database; it is seen to whenever that has doubled.
            self._file = size
            self._reserve.keep()

    def within(self, attempt: Callable[[], T], *, grows: bool) -> T:
        """Make a transaction, and where it finds no room again, with more of it each time.

        First with what the log gives back. Then with the reserve: unless it `grows`, by a little,
        it has to fit into the pages that the file has, so that the reserve comes back whole.
        """
        try:
            made = attempt()
        except DiskFull:
            self._empty_log()
        else:
            if self._owed:
                self._take_back()
            return made
        try:
            return attempt()
        except DiskFull:
            with self._lent(_SLACK_PAGES if grows else 0):
                return attempt()

    @contextmanager
    def _lent(self, growth: int) -> Iterator[None]:
        """Give the reserve up for the length of the block; the file grows by so many pages."""
        self._reserve.give_up()
        self._empty_log()
        try:
            self._pragma(f"max_page_count={self._pragma('page_count') + growth}")
            try:
                yield
            finally:
                self._pragma(f"max_page_count={_NO_LIMIT}")
        finally:
            self._empty_log()
            self._take_back()

    def _take_back(self) -> None:
        self._reserve.keep()
        self._owed = not self._reserve.whole

    def _empty_log(self) -> None:
        """Put what is in the log into the file, and give the log's room back; as far as it goes."""
        with suppress(DiskFull):
            # Whoever reads from outside, such as a copy being made, is not waited for.
            self._pragma("busy_timeout=0")
            try:
                self._pragma("wal_checkpoint(TRUNCATE)")
            finally:
                self._pragma(f"busy_timeout={BUSY_S * 1_000}")

    def _pragma(self, text: str) -> int:
        """Run a pragma outside of any transaction; return the first number that it tells."""
        raw = self._writer.raw_connection()
        try:
            cursor: Any = raw.cursor()
            try:
                (told, *_) = cursor.execute(f"PRAGMA {text}").fetchone()
                return int(told)
            except sqlite3.Error as error:
                raise no_room(self._path, str(error)) from error
            finally:
                cursor.close()
        finally:
            raw.close()


def no_room(path: Path, said: str) -> DiskFull:
    """Return the error of a write that found no room."""
    return DiskFull(
        f"no room to write to {path} ({said}); nothing was stored, reads go on. Make room on its "
        "disk, or in it (delete series, or: gapless cache prune), or ask for shorter ranges: what "
        "is stored takes its own size twice at first"
    )


# Neither a link nor a pipe of that name is followed or waited for.
_OPENING: Final = os.O_RDWR | os.O_CLOEXEC | os.O_NOFOLLOW | os.O_NONBLOCK


def _is_reserve(descriptor: int) -> bool:
    """Whether a file is a reserve, or nothing yet."""
    found = os.fstat(descriptor)
    if not stat.S_ISREG(found.st_mode):
        return False
    return not found.st_size or os.pread(descriptor, len(_MARK), 0) == _MARK


def _allocated(descriptor: int, size: int) -> bool:
    """Make a file so long, with room of its own; leave it empty where there is none."""
    try:
        os.ftruncate(descriptor, size)
        os.pwrite(descriptor, _MARK, 0)
        if hasattr(os, "posix_fallocate"):
            os.posix_fallocate(descriptor, 0, size)
        else:
            for at in range(_STEP, size, _STEP):
                os.pwrite(descriptor, bytes(_STEP), at)
    except OSError:
        os.ftruncate(descriptor, 0)
        return False
    return True


def _free(path: Path) -> float:
    """Return the bytes that may still be written beside a file; no bound where none is told."""
    disk = os.statvfs(path.parent)
    if not disk.f_blocks:
        return float("inf")
    return (disk.f_bfree if os.geteuid() == 0 else disk.f_bavail) * disk.f_frsize
