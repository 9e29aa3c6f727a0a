"""Stores of each kind, opened empty, and what is read from them in short."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from pathlib import Path

from gapless.domain.intervals import Interval
from gapless.hub.hub import Hub
from gapless.store.base import SeriesState, Snapshot, Store
from gapless.store.sqlite import open_store

ALL = Interval(-(10**15), 10**15)
# So few that a handful of records makes several blocks.
BLOCK_RECORDS = 6

Open = Callable[[Path], Store]


def _sqlite(path: Path) -> Store:
    return open_store(path, BLOCK_RECORDS)


KINDS: dict[str, Open] = {"sqlite": _sqlite}


@asynccontextmanager
async def opened(make: Open, folder: Path) -> AsyncIterator[Store]:
    """Open an empty store, and close it after."""
    store = await asyncio.to_thread(make, folder)
    try:
        yield store
    finally:
        await store.close()


def store_of(hub: Hub) -> Store:
    """Return the store of a hub, past the one door that the hub itself has to it."""
    return hub.holdings._store


def held(snapshot: Snapshot) -> dict[int, bytes]:
    """Return the records of a snapshot that holds all its runs."""
    return {
        time: record
        for block in snapshot.state.blocks
        for time, record in snapshot.runs[block.number or 0].records()
    }


def spans(state: SeriesState) -> list[tuple[int, int, str]]:
    """Return what is known, in short."""
    return [(row.start, row.end, row.outcome.value) for row in state.coverage]
