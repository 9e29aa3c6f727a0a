"""Which database file a command is about, and who has it: `--db`, the settings, the lock."""

from __future__ import annotations

import asyncio
import os
import shlex
import sys
from collections.abc import Awaitable, Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TypeVar

from cyclopts import Parameter

from gapless import __version__
from gapless.client.control import Control, NotListening
from gapless.config import Origins, Settings, database_path, default_db, load_settings
from gapless.errors import ConfigError, DiskFull, GaplessError, StoreError
from gapless.store.base import SeriesState
from gapless.store.database import OpenStore, database_at
from gapless.texts import printable

T = TypeVar("T")


@Parameter(name="*")
@dataclass(frozen=True, slots=True, kw_only=True)
class DatabaseFlags:
    """The flags of the commands that are about a database.

    Parameters
    ----------
    db
        Database file. Default: the one that "gapless serve" would use.
    config
        Settings file (TOML). Default: what `GAPLESS_CONFIG` names.
    """

    db: str | None = None
    config: Path | None = None

    def load(self) -> Settings:
        """Return the settings; raise `ConfigError`."""
        return self._load()[0]

    def path(self) -> Path:
        """Return the database file, which need not be there; raise `ConfigError`."""
        return database_path(self.load().db)

    def prepare_folder(self) -> None:
        """Make the default database's folder; raise `ConfigError` where another is missing."""
        prepare_folder(*self._load())

    def _load(self) -> tuple[Settings, Origins]:
        return load_settings({"db": self.db}, os.environ, self.config)


DEFAULT_DATABASE = DatabaseFlags()


def prepare_folder(settings: Settings, origins: Origins) -> None:
    """Make the default database's folder; elsewhere a missing folder may be a slip of the hand."""
    folder = database_path(settings.db).parent
    if origins["db"].kind == "default":
        try:
            folder.mkdir(mode=0o700, parents=True, exist_ok=True)
        except OSError as error:
            raise ConfigError(
                f"the folder {folder} for the database cannot be made ({error.strerror}); "
                "choose another place with --db"
            ) from error
    elif not folder.is_dir():
        raise ConfigError(f"there is no folder {folder} for the database; make it, or change --db")


def of_database(db: str) -> str:
    """Return the flag that names a database to a command, if it is another than the default."""
    return "" if db == default_db() else f" --db {shlex.quote(db)}"


def running(path: Path) -> Control | None:
    """Return the operator's door of the hub that has this database; `None`: no hub has it.

    Raises `GaplessError` where a hub has it and does not answer.
    """
    from gapless.servers.control import socket_path

    if not path.parent.is_dir():
        return None
    socket = socket_path(path)
    control = Control(socket)
    try:
        control.stats()
    except NotListening as error:
        holder = database_at(path).owner()
        if holder is None:
            return None
        raise GaplessError(
            f"a hub ({holder}) has {path} open, but does not answer at {socket}: it is starting, "
            "stopping or stuck; try again, or end it"
        ) from error
    return control


def read(path: Path, work: Callable[[OpenStore], Awaitable[T]]) -> T:
    """Open a database only to read, beside a hub or not, and return what `work` makes of it."""
    return asyncio.run(_closing(database_at(path).open_read_only(), work))


def write(
    path: Path,
    holder: str,
    block_records: int,
    work: Callable[[OpenStore], Awaitable[T]],
    *,
    make: bool = False,
) -> T:
    """Open a database that no hub has, as `holder`, and return what `work` makes of it.

    Brings it up to date first. Raises `StoreError` where there is none, unless it is to `make`
    one, and `DatabaseInUse` where a hub has it.
    """
    database = database_at(path)
    there = database.exists()
    if not there and not make:
        raise StoreError(f"there is no database at {path}; name another with --db")
    with database.owned(f"process {os.getpid()}, gapless {__version__}, {holder}"):
        store = database.open(block_records)
        if not there:
            print(f"made a new database {printable(str(path))}", file=sys.stderr)
        return asyncio.run(_closing(store, work))


def all_series(
    path: Path, holder: str, block_records: int, provider: str | None = None
) -> Sequence[SeriesState]:
    """Return the series that a database holds, for a command that is about to change it."""
    try:
        return read(path, lambda store: store.all_series(provider))
    except DiskFull:
        # Without a hub even reading takes some room, which there is for those who write.
        return write(path, holder, block_records, lambda store: store.all_series(provider))


async def _closing(store: OpenStore, work: Callable[[OpenStore], Awaitable[T]]) -> T:
    try:
        return await work(store)
    finally:
        await store.close()
