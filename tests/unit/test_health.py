"""The check of a database: what is sound passes, and every kind of damage is named."""

from __future__ import annotations

import asyncio
import re
import sqlite3
from collections.abc import Iterator
from pathlib import Path

import pytest

from gapless.domain.believing import Doubt, Suspicion
from gapless.errors import DatabaseDamaged, StoreError
from gapless.store import health
from gapless.store.migration import HEAD
from gapless.store.sqlite import FileLock, open_store
from support.series import change, fill


@pytest.fixture
def database(tmp_path: Path) -> Path:
    """Return a database of three blocks of a series, one of them due, and a doubt."""
    path = tmp_path / "hub.db"

    store = open_store(path, block_records=4)

    async def prepare() -> None:
        await store.apply(change(fill(1_000, 2_000, [1_100, 1_200, 1_900]), at=5_000))
        doubts = (Doubt(5_000, 6_000, Suspicion.EMPTY, since=1, next_try=2),)
        await store.apply(
            change(fill(3_000, 4_000, range(3_000, 3_060, 10)), due_before=2, doubts=doubts)
        )
        await store.close()

    asyncio.run(prepare())
    return path


def spoil(path: Path, *statements: str) -> list[str]:
    """Change the file behind the store's back, and return what is found."""
    with sqlite3.connect(path) as connection:
        for statement in statements:
            connection.execute(statement)
    connection.close()
    return health.inspect(path)


def test_a_sound_database_has_no_findings(database: Path) -> None:
    """Every block is read, and its progress told."""
    told: list[tuple[int, int]] = []
    assert health.inspect(database, lambda done, total: told.append((done, total))) == []
    assert told == [(0, 3), (1, 3), (2, 3), (3, 3)]
    assert health.step_of(database) == HEAD


def damages() -> Iterator[tuple[str, str]]:
    """Yield what is done to the file, and what is found."""
    first = "WHERE start_ms = 1000 AND id LIKE '%:AAPL:%'"
    yield f"UPDATE entities SET data = replace(data, '1.5', '1.6') {first}", "is not what was stor"
    yield f"UPDATE entities SET data = '{{}}' {first}", "is no JSON array"
    yield f"UPDATE entities SET data = '' {first}", "is no JSON array"
    yield f"UPDATE entities SET data = CAST(x'5bff5d' AS TEXT) {first}", "cannot be read"
    yield f"UPDATE entities SET offsets = x'00' {first}", "cut short"
    yield f"UPDATE entities SET offsets = NULL {first}", "cannot be read"
    yield f"UPDATE entities SET etag = '0000000000000000' {first}", "its etag is 0000000000000000"
    yield f"UPDATE entities SET records = 2 {first}", "has 3 records where 2 are counted"
    yield f"UPDATE entities SET first_ms = 1101 {first}", "does not begin and end with"
    yield f"UPDATE entities SET id = 'x' {first}", "goes by another's id"
    yield f"UPDATE entities SET end_ms = 1500 {first}", "has records outside of what it spans"
    yield f"UPDATE entities SET start_ms = NULL {first}", "a number of it is none"
    yield f"UPDATE entities SET end_ms = 3500 {first}", "overlap"
    yield f"UPDATE entities SET end_ms = 2500 {first}", "nothing is covered"
    yield "UPDATE coverage SET end_ms = 3500 WHERE start_ms = 1000", "coverage of .* overlap"
    yield "UPDATE coverage SET end_ms = 1000 WHERE start_ms = 1000", "coverage of .* is empty"
    yield "UPDATE coverage SET commit_number = 9 WHERE start_ms = 1000", "is of commit 9, .* at 2"
    yield "UPDATE coverage SET commit_number = 'x' WHERE start_ms = 1000", "a row of its coverage"
    yield "UPDATE series SET due_before = 'x'", "its row cannot be read: a number of it is none"
    yield "UPDATE series SET version = 'x'", "its row cannot be read: a number of it is none"
    yield "UPDATE doubts SET suspicion = 'x'", "what is in doubt of it cannot be read"
    yield "UPDATE doubts SET tries = 'x'", "what is in doubt of it cannot be read"
    yield "UPDATE coverage SET outcome = 'lost' WHERE start_ms = 1000", "a row of its coverage"
    yield "UPDATE coverage SET end_ms = 'x' WHERE start_ms = 1000", "a row of its coverage"
    yield "DELETE FROM coverage", "nothing is covered"
    yield "UPDATE series SET meta = 'x'", "its row cannot be read"
    yield "UPDATE series SET params = 'x'", "series 1: its row cannot be read"


@pytest.mark.parametrize(("statement", "expected"), list(damages()))
def test_damage_is_found(database: Path, statement: str, expected: str) -> None:
    """Whatever says something that was never written is named, and nothing stops the check."""
    findings = spoil(database, statement)
    assert findings
    assert any(re.search(expected, found) for found in findings), findings


def test_a_run_that_was_written_wrong_is_found(database: Path) -> None:
    """Hashes and records are held against the text, not only the checksum against the bytes."""
    from gapless.domain.blocks import Block, Run
    from support.series import run, text

    block = Block(0, 100, True, 2, 10, 20, 1)

    def findings(wrong: Run) -> list[str]:
        found = health.block_findings(
            "sample:AAPL", block, f"[{wrong.text.decode()}]", wrong.index(), "0" * 16
        )
        return list(found)

    right = run([10, 20])
    assert "its etag is" in findings(right)[0]
    unhashed = Run(right.text, right.times, right.offsets, [0, 1, 2])
    assert "hash of record 0" in findings(unhashed)[0]
    assert "is no JSON object" in findings(Run.of([(10, b"[1]"), (20, b"{}")]))[0]
    assert "do not ascend" in findings(Run.of([(20, text(20)), (10, text(10))]))[0]
    short = Run(right.text, right.times, [0, 5, 9], right.hashes)
    assert "index does not fit its text" in findings(short)[0]
    assert list(health.block_findings("s", block, "[]", Run.of(()).index(), "0" * 16)) == [
        "s: block 1 (1970-01-01T00:00:00Z..1970-01-01T00:00:00.100Z) has 0 records where 2 are "
        "counted"
    ]


def test_what_is_no_database_of_ours_is_refused(tmp_path: Path) -> None:
    """A missing, foreign or empty file is said to be so, and left alone."""
    with pytest.raises(StoreError, match="there is no database"):
        health.inspect(tmp_path / "hub.db")
    foreign = tmp_path / "foreign.db"
    foreign.write_bytes(b"no database at all, but long enough to be taken for one" * 100)
    with pytest.raises(DatabaseDamaged, match=r"foreign\.db is damaged"):
        health.inspect(foreign)
    empty = tmp_path / "empty.db"
    empty.touch()
    assert health.step_of(empty) is None
    with pytest.raises(StoreError, match="gapless db upgrade --db"):
        health.inspect(empty)
    assert empty.read_bytes() == b""


def test_the_holder_of_a_lock_is_told(tmp_path: Path) -> None:
    """Who has a database open is known without disturbing it; after its end nobody has."""
    path = tmp_path / "hub.db"
    assert health.lock_holder(path) is None
    lock = FileLock(path)
    lock.acquire("process 4711")
    assert health.lock_holder(path) == "process 4711"
    lock.release()
    assert health.lock_holder(path) is None
