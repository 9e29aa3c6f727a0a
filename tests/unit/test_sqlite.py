"""A SQLite file under a store: its lock, a full disk, damage."""

from __future__ import annotations

import asyncio
import random
import sqlite3
import subprocess
import sys
from contextlib import closing
from pathlib import Path

import pytest
from sqlalchemy import event
from sqlalchemy.exc import OperationalError

from gapless.domain.intervals import Interval
from gapless.errors import (
    DatabaseDamaged,
    DatabaseInUse,
    DiskFull,
    GaplessError,
    Overloaded,
    StoreError,
)
from gapless.store.base import EntityFilter
from gapless.store.sql import SqlStore
from gapless.store.sqlite import FileLock, check, open_read_only, open_store, translate
from support.series import KEY, change, fill, text
from support.stores import ALL, held

HOLDER = """
import sys
from pathlib import Path
from gapless.store.sqlite import FileLock
lock = FileLock(Path(sys.argv[1]))
lock.acquire("process 4711, gapless 0.1.0")
print("held", flush=True)
sys.stdin.read()
"""


def test_a_lock_keeps_another_process_out(tmp_path: Path) -> None:
    """A database that another hub has open is refused, naming it, until that hub is gone."""
    path = tmp_path / "hub.db"
    with subprocess.Popen(
        [sys.executable, "-c", HOLDER, str(path)], stdin=subprocess.PIPE, stdout=subprocess.PIPE
    ) as holder:
        assert holder.stdout is not None
        assert holder.stdout.readline() == b"held\n"
        lock = FileLock(path)
        with pytest.raises(DatabaseInUse, match=r"hub\.db is open .*process 4711, gapless 0\.1\.0"):
            lock.acquire("us")
        holder.kill()
        holder.wait()
        lock.acquire("us")
        assert lock.path.read_text() == "us"
        lock.release()
        lock.release()


def test_a_lock_that_cannot_be_made_is_named(tmp_path: Path) -> None:
    """A folder that is not there is said to be the matter."""
    with pytest.raises(StoreError, match="check its folder"):
        FileLock(tmp_path / "nowhere" / "hub.db").acquire("us")


def bound(store: SqlStore, extra_pages: int) -> None:
    """Leave room in the file for so many more pages, as a full disk would; 0: hardly any."""

    @event.listens_for(store._writer, "begin")
    def limit(connection: object) -> None:
        execute = connection.exec_driver_sql  # type: ignore[attr-defined]
        pages = execute("PRAGMA page_count").scalar()
        execute(f"PRAGMA max_page_count = {pages + extra_pages}")


@pytest.mark.parametrize("pages", [0, 1, 2, 5, 20])
async def test_a_full_disk(tmp_path: Path, pages: int) -> None:
    """A write without room is refused whole, reads go on, and writes again once there is room."""
    path = tmp_path / "hub.db"
    store = await asyncio.to_thread(open_store, path)
    await store.apply(change(fill(0, 1_000, [1, 2, 3])))
    before = await store.read(KEY, ALL)
    bound(store, pages)
    for _ in range(2):
        with pytest.raises(DiskFull, match=r"no room to write to .*hub\.db"):
            await store.apply(change(fill(500, 9_000, range(1_000, 9_000))))
        assert await store.read(KEY, ALL) == before
    bound(store, 100_000)
    made = await store.apply(change(fill(500, 9_000, range(1_000, 9_000))))
    assert len(held(await store.read(KEY, ALL))) >= 8_000
    await store.close()
    assert await asyncio.to_thread(check, path) == []
    again = await asyncio.to_thread(open_read_only, path)
    assert (await again.read(KEY, ALL)).state == made.state
    await again.close()


async def test_reading_alone_changes_nothing(tmp_path: Path) -> None:
    """A store that is opened to read shows what is stored, and refuses to write."""
    path = tmp_path / "hub.db"
    store = await asyncio.to_thread(open_store, path)
    await store.apply(change(fill(0, 1_000, [1])))
    reader = await asyncio.to_thread(open_read_only, path)
    assert held(await reader.read(KEY, ALL)) == {1: text(1)}
    with pytest.raises(StoreError):
        await reader.apply(change(fill(0, 1_000, [2])))
    await reader.close()
    await store.close()


async def test_health(tmp_path: Path) -> None:
    """A sound file has nothing wrong; what belongs to nothing is told."""
    path = tmp_path / "hub.db"
    store = await asyncio.to_thread(open_store, path)
    await store.apply(change(fill(0, 1_000, [1])))
    await store.close()
    assert await asyncio.to_thread(check, path) == []
    connection = sqlite3.connect(path)
    connection.execute("DELETE FROM series")
    connection.commit()
    connection.close()
    told = await asyncio.to_thread(check, path)
    assert sorted(line.split()[0] for line in told) == ["coverage", "entities"]


SEED = 20_261_123
MUTATIONS = 60


async def test_damage_is_refused_or_harmless(tmp_path: Path) -> None:
    """A file with damaged bytes works right or is refused: no wrong answer, no foreign error."""
    path = tmp_path / "hub.db"
    store = await asyncio.to_thread(open_store, path, 200)
    for start in range(0, 3_000_000, 500_000):
        await store.apply(
            change(fill(start, start + 500_000, range(start, start + 500_000, 2_500), start))
        )
    truth = await store.read(KEY, ALL)
    shown = await store.entities(EntityFilter(), 100)
    await store.close()
    sound = path.read_bytes()
    chance = random.Random(SEED)
    refused = unnamed = 0
    for number in range(MUTATIONS):
        damaged = bytearray(sound)
        # Half of them in the first pages, where the file's structure is.
        reach = len(damaged) if number % 2 else 32_768
        hits = [chance.randrange(reach) for _ in range(chance.choice([1, 1, 4, 64]))]
        for at in hits:
            damaged[at] = chance.randrange(256)
        file = tmp_path / f"damaged-{number}.db"
        file.write_bytes(damaged)
        print(f"seed {SEED}, file {number}, bytes {hits}")  # noqa: T201  # shown on failure
        try:
            store = await asyncio.to_thread(open_store, file, 200)
        except StoreError as error:
            refused += 1
            unnamed += str(file) not in error.message
            continue
        try:
            found = await store.read(KEY, ALL)
            assert held(found).items() <= held(truth).items()
            if found.state.coverage == truth.state.coverage:
                assert held(found) == held(truth)
            for one in await store.entities(EntityFilter(), 100):
                assert one.data in {entity.data for entity in shown}
            await store.apply(change(fill(0, 100_000, [7])))
            now = held(await store.read(KEY, ALL))
            assert {time: now[time] for time in now if time < 100_000} == {7: text(7)}
        except StoreError:
            refused += 1
        finally:
            await store.close()
    assert unnamed == 0
    assert 0 < refused < MUTATIONS


async def test_damage_behind_the_first_row_is_damage_too(tmp_path: Path) -> None:
    """A statement may fail where its rows are fetched, not where it is begun."""
    path = tmp_path / "hub.db"
    store = await asyncio.to_thread(open_store, path)
    await store.apply(change(fill(0, 10_000_000, range(0, 10_000_000, 1_000))))
    await store.close()
    with closing(sqlite3.connect(path)) as plain:
        (size,) = plain.execute("PRAGMA page_size").fetchone()
        pages = plain.execute(
            "SELECT pageno FROM dbstat WHERE name = 'entities' AND pagetype = 'overflow' "
            "ORDER BY path"
        ).fetchall()
    sound = path.read_bytes()
    damaged = bytearray(sound)
    for (page,) in pages[len(pages) // 2 :]:
        damaged[(page - 1) * size : page * size] = b"\xff" * size
    path.write_bytes(damaged)
    store = await asyncio.to_thread(open_store, path)
    try:
        with pytest.raises(DatabaseDamaged):
            await store.read(KEY, Interval(0, 10_000_000))
    finally:
        await store.close()


WORDS: list[tuple[int, type[GaplessError]]] = [
    (sqlite3.SQLITE_FULL, DiskFull),
    (sqlite3.SQLITE_IOERR_WRITE, DiskFull),
    (sqlite3.SQLITE_CORRUPT, DatabaseDamaged),
    (sqlite3.SQLITE_NOTADB, DatabaseDamaged),
    (sqlite3.SQLITE_BUSY_SNAPSHOT, Overloaded),
    (sqlite3.SQLITE_LOCKED, Overloaded),
    (sqlite3.SQLITE_CANTOPEN, StoreError),
    (sqlite3.SQLITE_READONLY, StoreError),
    (sqlite3.SQLITE_ERROR, StoreError),
]


@pytest.mark.parametrize(("code", "expected"), WORDS)
def test_the_drivers_errors_are_translated(code: int, expected: type[GaplessError]) -> None:
    """Each of the driver's errors becomes one of ours that names the file."""
    cause = sqlite3.OperationalError("it went wrong")
    cause.sqlite_errorcode = code
    error = translate(Path("/data/hub.db"), OperationalError("SELECT 1", {}, cause))
    assert type(error) is expected
    assert "/data/hub.db" in error.message


async def test_a_writer_elsewhere_is_waited_for(tmp_path: Path) -> None:
    """A lock that another holds for a moment is waited for, not answered with an error."""
    path = tmp_path / "hub.db"
    store = await asyncio.to_thread(open_store, path)
    other = sqlite3.connect(path, isolation_level=None, check_same_thread=False)
    other.execute("BEGIN IMMEDIATE")
    writing = asyncio.ensure_future(store.apply(change(fill(0, 10, [1]))))
    assert held(await store.read(KEY, ALL)) == {}
    other.execute("COMMIT")
    await writing
    assert held(await store.read(KEY, ALL)) == {1: text(1)}
    other.close()
    await store.close()
