"""What is kept for a full disk, and what a transaction is given of it."""

from __future__ import annotations

import asyncio
import os
from pathlib import Path

import pytest

from gapless.domain.intervals import Interval
from gapless.errors import DiskFull
from gapless.store.room import Reserve
from gapless.store.sql import SqlStore
from gapless.store.sqlite import check, open_read_only, open_store
from support.series import KEY, change, fill

MIB = 1 << 20
ALL = Interval(0, 10**15)


def database(folder: Path, size: int = 4_096) -> Path:
    """Make a file of this size, as sparse as it may be."""
    path = folder / "hub.db"
    path.touch()
    os.truncate(path, size)
    return path


@pytest.mark.parametrize(
    ("size", "wanted"), [(4_096, 2 * MIB), (80 * MIB, 10 * MIB), (1 << 40, 16 * MIB)]
)
def test_the_reserve_grows_with_the_database(tmp_path: Path, size: int, wanted: int) -> None:
    """It is an eighth of the file within bounds, and takes the room that it says."""
    path = database(tmp_path, min(size, 1 << 33))
    reserve = Reserve(path)
    assert reserve.wanted() == wanted
    reserve.keep()
    assert reserve.kept() == wanted
    assert reserve.path.stat().st_blocks * 512 >= wanted
    assert reserve.path.stat().st_mode & 0o777 == 0o600
    reserve.give_up()
    assert reserve.kept() == reserve.path.stat().st_blocks == 0
    reserve.keep()
    assert reserve.kept() == wanted


def test_a_file_that_is_no_reserve_is_left_alone(tmp_path: Path) -> None:
    """Neither a file of somebody's own, nor a link to one, nor a pipe is touched, or waited for."""
    reserve = Reserve(database(tmp_path))
    mine = tmp_path / "mine"
    for content in (b"mine", b"mine" * MIB):
        for place in (reserve.path, mine):
            place.write_bytes(content)
            if place is mine:
                reserve.path.symlink_to(mine)
            reserve.keep()
            reserve.give_up()
            assert place.read_bytes() == content
            reserve.path.unlink()
    os.mkfifo(reserve.path)
    reserve.keep()
    reserve.give_up()
    assert reserve.path.is_fifo()


def test_a_reserve_that_is_not_as_it_was_is_no_error(tmp_path: Path) -> None:
    """One that is missing, too small, full of holes or no file is made good where it can be."""
    reserve = Reserve(database(tmp_path))
    reserve.give_up()
    for size in (0, 16, 5 * MIB):
        reserve.path.touch()
        if size:
            reserve.path.write_bytes(b"gapless reserve\n")
        os.truncate(reserve.path, size)
        reserve.keep()
        assert reserve.kept() >= 2 * MIB
        reserve.path.unlink()
    reserve.path.mkdir()
    reserve.keep()
    reserve.give_up()
    reserve.path.rmdir()
    mine = tmp_path / "mine"
    mine.write_text("mine")
    reserve.path.symlink_to(mine)
    reserve.keep()
    reserve.give_up()
    assert mine.read_text() == "mine"


async def test_a_database_is_the_same_with_and_without_its_reserve(tmp_path: Path) -> None:
    """It is made by whoever opens the file to write, and missed by nobody."""
    path = tmp_path / "hub.db"
    store = await asyncio.to_thread(open_store, path)
    before = await store.apply(change(fill(0, 1_000, [1, 2, 3])))
    await store.close()
    reserve = Reserve(path)
    assert await asyncio.to_thread(reserve.kept) == 2 * MIB
    reserve.path.unlink()
    assert await asyncio.to_thread(check, path) == []
    reader = await asyncio.to_thread(open_read_only, path)
    assert (await reader.read(KEY, ALL)).state == before.state
    await reader.close()
    assert not reserve.path.exists()
    store = await asyncio.to_thread(open_store, path)
    assert await asyncio.to_thread(reserve.kept) == 2 * MIB
    await store.close()


def limit(store: SqlStore, pages: int) -> None:
    """Let the file have so many pages more than it has, by SQLite's own limit."""
    with store._writer.begin() as connection:
        now = connection.exec_driver_sql("PRAGMA page_count").scalar_one()
        connection.exec_driver_sql(f"PRAGMA max_page_count = {now + pages}")


async def test_what_was_freed_is_used(tmp_path: Path) -> None:
    """A change that finds no room is made as soon as enough is forgotten; nothing is kept back."""
    path = tmp_path / "hub.db"
    store = await asyncio.to_thread(open_store, path)
    other = change(fill(0, 10**6, range(4_000), 3.0), key=KEY.of("sample", "IBM", {}))
    await store.apply(other)
    await store.apply(change(fill(0, 10**6, range(100))))
    before = await store.read(KEY, ALL)
    await asyncio.to_thread(limit, store, 0)
    with pytest.raises(DiskFull, match="Make room on its disk, or in it"):
        await store.apply(change(fill(0, 10**6, range(3_000))))
    assert await store.read(KEY, ALL) == before
    assert await asyncio.to_thread(Reserve(path).kept) == 2 * MIB
    # What a refused change was held to is no limit of others'.
    third = change(fill(0, 10**6, range(500)), key=KEY.of("sample", "MSFT", {}))
    await store.apply(third)
    await asyncio.to_thread(limit, store, 0)
    assert (await store.delete(other.key)).records == 4_000
    made = await store.apply(change(fill(0, 10**6, range(3_000))))
    assert sum(block.count for block in made.state.blocks) == 3_000
    await store.close()
    assert await asyncio.to_thread(check, path) == []
