"""Migrations: the steps make the tables that the code reads, and nothing foreign is touched."""

from __future__ import annotations

import asyncio
import sqlite3
from pathlib import Path
from typing import Any

import alembic.command
import pytest
from alembic.autogenerate import compare_metadata
from alembic.runtime.migration import MigrationContext
from alembic.script import ScriptDirectory
from sqlalchemy import create_engine, inspect

from gapless.domain.series import SeriesKey
from gapless.errors import DatabaseDamaged, DatabaseNewer, StoreError
from gapless.store import migrations, schema
from gapless.store.migration import HEAD, _config, examine, upgrade
from gapless.store.sqlite import check, open_read_only, open_store
from support.series import change, fill


def shape(path: Path) -> dict[str, Any]:
    """Return the tables of a database, in words that two databases can be compared by."""
    engine = create_engine(f"sqlite:///{path}")
    with engine.connect() as connection:
        tables = inspect(connection)
        result = {
            name: {
                "columns": [
                    {key: str(value) for key, value in column.items()}
                    for column in tables.get_columns(name)
                ],
                "primary": tables.get_pk_constraint(name),
                "foreign": tables.get_foreign_keys(name),
                "unique": tables.get_unique_constraints(name),
                "indexes": tables.get_indexes(name),
            }
            for name in tables.get_table_names()
            if name != "alembic_version"
        }
        sequences = connection.exec_driver_sql(
            "SELECT name FROM sqlite_master WHERE sql LIKE '%AUTOINCREMENT%'"
        ).all()
    engine.dispose()
    return {**result, "counts by itself": sorted(row[0] for row in sequences)}


def tables(path: Path, *statements: str) -> bytes:
    """Make a database by hand; return its bytes."""
    connection = sqlite3.connect(path)
    for statement in statements:
        connection.execute(statement)
    connection.commit()
    connection.close()
    return path.read_bytes()


def test_migrations_and_schema_agree(tmp_path: Path) -> None:
    """The steps, run one after another, make what the schema says."""
    migrated, made = tmp_path / "migrated.db", tmp_path / "made.db"
    engine = create_engine(f"sqlite:///{migrated}")
    with engine.begin() as connection:
        assert upgrade(connection, "it") == (None, HEAD)
        assert upgrade(connection, "it") == (HEAD, HEAD)
        context = MigrationContext.configure(connection, opts={"compare_type": True})
        assert compare_metadata(context, schema.metadata) == []
    engine.dispose()
    engine = create_engine(f"sqlite:///{made}")
    schema.metadata.create_all(engine)
    engine.dispose()
    assert shape(migrated) == shape(made)


def test_head_is_the_last_step() -> None:
    """The step known without reading the files is the one they end with."""
    [folder] = migrations.__path__
    assert ScriptDirectory(folder).get_heads() == [HEAD]


def test_an_empty_file_becomes_a_database(tmp_path: Path) -> None:
    """A file of no bytes is as good as none."""
    path = tmp_path / "deep" / "folder" / "hub.db"
    path.parent.mkdir(parents=True)
    path.touch()
    asyncio.run(open_store(path).close())
    engine = create_engine(f"sqlite:///{path}")
    with engine.connect() as connection:
        assert examine(connection, "it") == HEAD
    engine.dispose()


def test_an_older_database_goes_on_counting_where_its_series_are(tmp_path: Path) -> None:
    """After the step that brings numbers of commits, none is one that a series had before."""
    path = tmp_path / "hub.db"
    engine = create_engine(f"sqlite:///{path}")
    with engine.begin() as connection:
        config = _config()
        config.attributes["connection"] = connection
        alembic.command.upgrade(config, "0003")
        for number, ticker, version in ((7, "AAPL", 3), (2, "MSFT", 5)):
            connection.exec_driver_sql(
                "INSERT INTO series (number, provider, ticker, params, generation, version, "
                f"bases, meta) VALUES ({number}, 'sample', '{ticker}', '{{}}', 0, {version}, "
                "'[]', '{}')"
            )
            connection.exec_driver_sql(
                "INSERT INTO coverage (series, start_ms, end_ms, outcome, fetched_at_ms, "
                f"generation) VALUES ({number}, 0, 100, 'empty', 5, 0)"
            )
    engine.dispose()

    async def use() -> None:
        store = await asyncio.to_thread(open_store, path)
        states = {state.key.ticker: state for state in await store.all_series()}
        commits = {ticker: state.coverage[0].commit for ticker, state in states.items()}
        assert commits == {"AAPL": 3, "MSFT": 5}
        assert (await store.apply(change(fill(200, 300, [250])))).state.version == 8
        new = SeriesKey("sample", "IBM")
        assert (await store.apply(change(fill(0, 1, [0]), key=new))).state.number == 9
        await store.close()

    asyncio.run(use())


REFUSED = [
    (
        "a newer gapless",
        DatabaseNewer,
        "newer gapless",
        [
            "CREATE TABLE alembic_version (version_num TEXT)",
            "INSERT INTO alembic_version VALUES ('9999')",
        ],
    ),
    (
        "another program's",
        DatabaseDamaged,
        "not those of gapless",
        ["CREATE TABLE birds (name TEXT)"],
    ),
    (
        "no step",
        DatabaseDamaged,
        "which version",
        ["CREATE TABLE alembic_version (version_num TEXT)"],
    ),
]


@pytest.mark.parametrize(("name", "error", "said", "statements"), REFUSED)
def test_a_database_that_is_not_ours_is_refused(
    tmp_path: Path, name: str, error: type[StoreError], said: str, statements: list[str]
) -> None:
    """It is refused by name, and not a byte of it changes."""
    path = tmp_path / "other.db"
    before = tables(path, *statements)
    for opening in (open_store, open_read_only):
        with pytest.raises(error, match=said) as caught:
            opening(path)
        assert str(path) in caught.value.message, name
    assert path.read_bytes() == before
    assert [file.name for file in tmp_path.iterdir()] == ["other.db"]


@pytest.mark.parametrize("content", [b"x", b"PK\x03\x04" * 100, b"SQLite format 2\x00" * 70])
def test_what_is_no_database_is_refused(tmp_path: Path, content: bytes) -> None:
    """A file of another kind is refused by name before SQLite gets to touch it."""
    path = tmp_path / "letter.txt"
    path.write_bytes(content)
    for opening in (open_store, open_read_only, check):
        with pytest.raises(DatabaseDamaged, match=r"letter\.txt"):
            opening(path)
    assert path.read_bytes() == content
    assert list(tmp_path.iterdir()) == [path]


def test_what_cannot_be_opened_is_named(tmp_path: Path) -> None:
    """A missing file, a folder, and a path through a file are refused with a word on what to do."""
    missing = tmp_path / "missing.db"
    for opening in (open_read_only, check):
        with pytest.raises(StoreError, match="there is no database"):
            opening(missing)
    assert not missing.exists()
    with pytest.raises(StoreError, match="cannot be read"):
        open_store(tmp_path)
    file = tmp_path / "file"
    file.touch()
    with pytest.raises(StoreError, match="cannot be made"):
        open_store(file / "hub.db")


def test_an_older_database_is_not_read_as_a_new_one(tmp_path: Path) -> None:
    """To read alone changes nothing, so a database without our tables is refused."""
    path = tmp_path / "hub.db"
    path.touch()
    with pytest.raises(StoreError, match="older than this gapless"):
        open_read_only(path)
