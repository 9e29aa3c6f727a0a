"""The store in SQL, one text for every database: reads in snapshots, changes in transactions.

The engines are synchronous and run in threads, for that is several times faster than an
asynchronous driver: one writer thread, a few readers beside it.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import astuple
from functools import partial
from typing import TypeVar

from sqlalchemy import (
    Connection,
    Engine,
)
from sqlalchemy.exc import DBAPIError

from gapless.config.settings import CacheSettings
from gapless.domain.blocks import Run
from gapless.domain.intervals import Interval
from gapless.domain.series import SeriesKey
from gapless.errors import GaplessError
from gapless.store import changes, listing, snapshots
from gapless.store.base import (
    Change,
    EntityFilter,
    Figures,
    RememberedPlugin,
    Removal,
    SeriesState,
    SeriesSummary,
    Snapshot,
    StoredEntity,
)
from gapless.store.room import Room
from gapless.store.sql_accounts import SqlAccounts
from gapless.threads import Threads
from gapless.turns import FairTurns, in_turns

T = TypeVar("T")
# What the driver raises: by its own tree, and where its words about a damaged file are no UTF-8.
Foreign = DBAPIError | UnicodeDecodeError
FOREIGN = (DBAPIError, UnicodeDecodeError)
Translate = Callable[[Foreign], GaplessError]
# The execution option of a transaction that must not be lost once it is acknowledged.
DURABLE = "gapless_durable"

_READERS = 2


class SqlStore:
    """A store on two SQLAlchemy engines: one that writes, one that only reads."""

    def __init__(
        self,
        writer: Engine,
        reader: Engine,
        translate: Translate,
        block_records: int = CacheSettings().block_records,
        room: Room | None = None,
    ) -> None:
        self._writer = writer
        self._reader = reader
        self._translate = translate
        self._block_records = block_records
        self._room = room
        # Whoever was told of a new token or password may rely on it after a power failure too.
        self._durable_writer = writer.execution_options(**{DURABLE: True})
        self.accounts = SqlAccounts(self._reading, self._writing_durably, self._writing)
        self._write_thread = Threads("writer", 1)
        self._read_threads = Threads("reader", _READERS)
        # Neither is a queue in which one party's thousand changes or searches go before others.
        self._write_turns = FairTurns(1)
        self._read_turns = FairTurns(_READERS)
        # What may look through all that is stored leaves a reader to what is quick.
        self._search_turns = FairTurns(_READERS - 1)

    async def warm(self) -> SeriesKey | None:
        """Compile the statements of a read and open its connection, so that no request has to.

        Returns any series there is, to rehearse with.
        """
        return await self._reading(snapshots.warm)

    async def read(
        self, key: SeriesKey, load: Interval | None = None, about: Interval | None = None
    ) -> Snapshot:
        """Return the series over `load` with its runs there; `None`: all of it, without any."""
        if load is None:
            return await self._reading(lambda connection: snapshots.whole(connection, key))
        return await self._reading(lambda connection: snapshots.read(connection, key, load, about))

    async def directory(self, key: SeriesKey, interval: Interval) -> Snapshot:
        """Return the series over an interval and a little about it, without any run."""
        return await self._reading(
            lambda connection: snapshots.directory(connection, key, interval)
        )

    async def runs(self, numbers: Sequence[int]) -> Mapping[int, Run]:
        """Return runs by block number; a block that is gone is left out."""
        return await self._reading(lambda connection: snapshots.runs(connection, numbers))

    async def apply(self, change: Change) -> Snapshot:
        """Make a change in one transaction; see `Store.apply`."""
        return await self._writing(
            lambda connection: changes.apply(connection, change, self._block_records)
        )

    async def entities(
        self, wanted: EntityFilter, limit: int, offset: int = 0, max_bytes: int | None = None
    ) -> Sequence[StoredEntity]:
        """Return stored entities ordered by id; at least one, if there is one."""
        reading = self._searching if wanted.ids is None else self._reading
        return await reading(
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
        return await self._searching(lambda connection: snapshots.all_series(connection, provider))

    async def summaries(
        self, provider: str | None, after: SeriesKey | None, limit: int
    ) -> Sequence[SeriesSummary]:
        """Return at most `limit` series that follow `after`, in an order of the store's own."""
        return await self._searching(
            lambda connection: listing.summaries(connection, provider, after, limit)
        )

    async def delete(self, key: SeriesKey, interval: Interval | None = None) -> Removal:
        """Forget a range of a series (`None`: all of it), in one step; see `Store.delete`."""
        return await self._writing(
            lambda connection: changes.forget(connection, key, interval, self._block_records),
            frees=True,
        )

    async def aged(self, before: int) -> Sequence[SeriesKey]:
        """Return the series of which something was fetched before that instant."""
        return await self._searching(lambda connection: listing.aged(connection, before))

    async def prune(self, key: SeriesKey, before: int) -> Removal:
        """Forget what was fetched before that instant, in one step; see `Store.prune`."""
        return await self._writing(
            lambda connection: changes.forget(connection, key, None, self._block_records, before),
            frees=True,
        )

    async def plugins(self) -> Sequence[RememberedPlugin]:
        """Return the remembered plugins by name."""
        return await self._reading(listing.plugins)

    async def save_plugin(self, plugin: RememberedPlugin) -> None:
        """Remember a plugin; one of the same name is replaced."""
        await self._writing(lambda connection: listing.save_plugin(connection, plugin))

    async def forget_plugin(self, name: str) -> bool:
        """Forget a plugin; return whether it was remembered."""
        return await self._writing(
            lambda connection: listing.forget_plugin(connection, name), frees=True
        )

    async def figures(self) -> Figures:
        """Count what is stored."""
        return await self._searching(snapshots.figures)

    async def close(self) -> None:
        """Let what is being written finish, then let go of the database."""
        await asyncio.to_thread(self._shut)

    def _shut(self) -> None:
        self._write_thread.shutdown()
        self._read_threads.shutdown()
        self._reader.dispose()
        self._writer.dispose()

    async def _reading(self, work: Callable[[Connection], T], *turns: FairTurns) -> T:
        job = partial(self._transacted, self._reader, work)
        return await in_turns(self._read_threads, job, *turns, self._read_turns)

    async def _searching(self, work: Callable[[Connection], T]) -> T:
        """Read what may take as long as there is much stored."""
        return await self._reading(work, self._search_turns)

    async def _writing(self, work: Callable[[Connection], T], *, frees: bool = False) -> T:
        job = partial(self._written, self._writer, work, frees)
        return await in_turns(self._write_thread, job, self._write_turns)

    async def _writing_durably(self, work: Callable[[Connection], T]) -> T:
        # Whoever is to make room has to be let in.
        job = partial(self._written, self._durable_writer, work, frees=True)
        return await in_turns(self._write_thread, job, self._write_turns)

    def _written(self, engine: Engine, work: Callable[[Connection], T], frees: bool) -> T:
        """Make a change; where the disk is full, again as there is room for it.

        `frees`: it makes room, or lets somebody in to make some.
        """
        room = self._room
        if room is None:
            return self._transacted(engine, work)

        def checked(connection: Connection) -> T:
            result = work(connection)
            room.check(connection)
            return result

        return room.within(lambda: self._transacted(engine, checked), grows=frees)

    def _transacted(self, engine: Engine, work: Callable[[Connection], T]) -> T:
        try:
            with engine.begin() as connection:
                return work(connection)
        except FOREIGN as error:
            raise self._translate(error) from error
