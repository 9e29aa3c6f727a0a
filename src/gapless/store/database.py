"""Databases: where a store lies, who has it, how it is opened; whichever kind it is.

The one place that knows which kinds there are. Everybody else opens what `database_at` returns.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from contextlib import AbstractContextManager
from dataclasses import dataclass
from pathlib import Path
from typing import Protocol

from gapless.store.accounts import AccountStore
from gapless.store.base import Store

Progress = Callable[[int, int], None]


class OpenStore(Store, Protocol):
    """A store with the users and tokens in it."""

    @property
    def accounts(self) -> AccountStore:
        """Its users and tokens."""
        ...


@dataclass(frozen=True, slots=True)
class EngineInfo:
    """The database engine that is used: its name and version.

    `caveat`: what this version can do wrong, after its number; `advice`: what to do about it.
    """

    name: str
    version: str
    caveat: str | None = None
    advice: str | None = None


class Database(Protocol):
    """A database that need not be there yet. Errors name it, and leave it as it was."""

    @property
    def latest(self) -> str:
        """The step that this version of gapless writes."""
        ...

    def engine(self) -> EngineInfo:
        """Return which engine opens it."""
        ...

    def exists(self) -> bool:
        """Whether it is there."""
        ...

    def owned(self, holder: str) -> AbstractContextManager[None]:
        """Have the right to open it to write, for as long as the block lasts.

        `holder` is how others are told who has it. Raises `DatabaseInUse` naming who has it
        already, and `StoreError`.
        """
        ...

    def owner(self) -> str | None:
        """Return who has the right to open it to write; `None`: nobody."""
        ...

    def open(self, block_records: int) -> OpenStore:
        """Open it to read and write, making it or bringing it up to date if need be.

        The caller owns it. Raises `DatabaseNewer`, `DatabaseDamaged` or `StoreError`.
        """
        ...

    def open_read_only(self) -> OpenStore:
        """Open it only to read, beside a running hub or without one.

        Raises what `open` raises, and `StoreError` where there is none or an older one.
        """
        ...

    def step(self) -> str | None:
        """Return the step that it is at; `None`: it is empty. Raises what `open` raises."""
        ...

    def check(self) -> Sequence[str]:
        """Return what the database itself finds wrong with it, a sentence each; none: sound."""
        ...

    def inspect(self, progress: Progress = lambda done, total: None) -> list[str]:
        """Return what is wrong with what it holds, a sentence each; none: all of it is sound.

        Reads every record. `progress` is told the blocks done and how many there are. Raises
        `StoreError` for one that is not of this version.
        """
        ...


def database_at(path: Path) -> Database:
    """Return the database that a path names."""
    # SQLAlchemy takes longer to import than all else, and most commands do without.
    from gapless.store.sqlite_file import SqliteFile

    return SqliteFile(path)
