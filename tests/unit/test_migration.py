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

from gapless.domain.blocks import etag
from gapless.domain.coverage import Ageing, Mark
from gapless.domain.intervals import Interval
from gapless.domain.planning import Known, Reach, plan
from gapless.domain.series import SeriesKey, span_text
from gapless.errors import DatabaseDamaged, DatabaseNewer, StoreError
from gapless.store import health, migrations, schema
from gapless.store.base import SeriesState
from gapless.store.migration import HEAD, _config, examine, upgrade
from gapless.store.sqlite import check, open_read_only, open_store
from support.series import KEY, change, entity, fill, run, text
from support.stores import held


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


OLD_BLOCKS = {
    # Of the first basis, of the second one, and the tail.
    (0, 100): (0, True, run([10, 60], 4.0)),
    (100, 200): (1, True, run([110, 160], 2.0)),
    (200, 250): (1, False, run([210], 2.0)),
}


def of_step_0004(path: Path) -> None:
    """Make a database as a hub left it whose series were judged by single bars.

    One series was split once: what was held before 100 is of the older basis, with a weekend in it
    of which nothing is held. Of another nothing was ever changed. A stranger saved an entity.
    """
    engine = create_engine(f"sqlite:///{path}")
    with engine.begin() as connection:
        config = _config()
        config.attributes["connection"] = connection
        alembic.command.upgrade(config, "0004")

        def add(table: str, **values: object) -> None:
            names = ", ".join(values)
            marks = ", ".join("?" * len(values))
            connection.exec_driver_sql(
                f"INSERT INTO {table} ({names}) VALUES ({marks})", tuple(values.values())
            )

        usual = {"provider": "sample", "params": "{}", "meta": '{"tz":"UTC"}', "created_ms": 77}
        bases = '[[1,{"price":0.5}]]'
        for number, ticker, generation, more in ((3, "AAPL", 1, bases), (5, "MSFT", 0, "[]")):
            add(
                "series",
                **usual,
                number=number,
                ticker=ticker,
                generation=generation,
                version=6,
                bases=more,
                basis_checked_at_ms=4_000,
            )
        rows = (
            (3, 0, 70, "held", 1_000, None, 0, "rescaled", 4),
            (3, 70, 80, "empty", 1_000, None, 0, None, 4),
            (3, 80, 100, "held", 1_000, None, 0, None, 4),
            (3, 100, 200, "held", 3_000, None, 1, None, 6),
            (3, 200, 250, "held", 3_000, 9_000, 1, None, 6),
            (5, 0, 100, "held", 2_000, None, 0, None, 5),
        )
        for series, start, end, outcome, fetched, due, generation, mark, commit in rows:
            add(
                "coverage",
                series=series,
                start_ms=start,
                end_ms=end,
                outcome=outcome,
                fetched_at_ms=fetched,
                refresh_after_ms=due,
                generation=generation,
                mark=mark,
                commit_number=commit,
            )
        shown = {"state": "ready", "last_error": "", "updated_at": "then", "tags": "[]"}
        for (start, end), (generation, final, one) in OLD_BLOCKS.items():
            add(
                "entities",
                **shown,
                id=f"sample:AAPL:{span_text(Interval(start, end))}",
                source="sample",
                series=3,
                start_ms=start,
                end_ms=end,
                generation=generation,
                final=final,
                records=len(one),
                first_ms=one.times[0],
                last_ms=one.times[-1],
                etag=etag(one.sum(0, len(one))),
                fetched_at="1970-01-01T00:00:01Z",
                refresh_after="",
                offsets=one.index(),
                data=f"[{one.text.decode()}]",
            )
        saved = entity("mine", tags="[]")
        add(
            "entities",
            **shown,
            id=saved.id,
            source=saved.source,
            etag=saved.etag,
            fetched_at=saved.fetched_at,
            refresh_after=saved.refresh_after,
            data=saved.data,
        )
        connection.exec_driver_sql("UPDATE commits SET number = 6")
    engine.dispose()


def stored(path: Path) -> list[tuple[Any, ...]]:
    """Return what is stored of entities, byte for byte, but for the generation."""
    columns = (
        "number, id, source, series, start_ms, end_ms, final, records, first_ms, last_ms, etag, "
        "fetched_at, refresh_after, state, last_error, updated_at, tags, offsets, data"
    )
    with sqlite3.connect(path) as connection:
        found = connection.execute(f"SELECT {columns} FROM entities ORDER BY number").fetchall()
    connection.close()
    return found


def test_what_is_on_an_older_basis_is_due_and_marked(tmp_path: Path) -> None:
    """After the step that does away with generations; nothing that is held is lost or changed."""
    path = tmp_path / "hub.db"
    of_step_0004(path)
    before = stored(path)

    async def use() -> tuple[SeriesState, SeriesState]:
        store = await asyncio.to_thread(open_store, path)
        split = await store.read(SeriesKey("sample", "AAPL"), Interval(0, 250))
        steady = await store.read(SeriesKey("sample", "MSFT"))
        assert held(split) == {
            time: record for _, _, one in OLD_BLOCKS.values() for time, record in one.records()
        }
        await store.close()
        return split.state, steady.state

    split, steady = asyncio.run(use())
    assert stored(path) == before
    assert health.inspect(path) == []
    assert [(row.interval, row.mark) for row in split.coverage] == [
        (Interval(0, 70), Mark.UNVERIFIED),
        (Interval(70, 80), None),
        (Interval(80, 100), Mark.UNVERIFIED),
        (Interval(100, 200), None),
        (Interval(200, 250), None),
    ]
    assert [row.fetched_at for row in split.coverage] == [1_000, 1_000, 1_000, 3_000, 3_000]
    assert split.coverage[4].refresh_after == 9_000
    assert {one.created for one in (split, steady)} == {77}
    assert {one.version for one in (split, steady)} == {6}
    # Fresh is what was fetched lately, but what is of the older basis.
    known = Known(split.coverage, Ageing(since=0, until=10_000, commit=split.due_before))
    wanted = plan(Interval(0, 250), known, Reach(0, 10_000, 0), 5_000)
    assert wanted.cached == (Interval(0, 250),)
    assert wanted.aged == (Interval(0, 70), Interval(80, 100))
    beyond = plan(Interval(0, 250), known, Reach(0, 10_000, 90), 5_000)
    assert (beyond.aged, beyond.unverified) == (
        (Interval(90, 100),),
        (Interval(0, 70), Interval(80, 90)),
    )
    known = Known(steady.coverage, Ageing(since=0, until=10_000, commit=steady.due_before))
    assert plan(Interval(0, 100), known, Reach(0, 10_000, 0), 5_000).fresh


def test_what_was_on_an_older_basis_is_replaced(tmp_path: Path) -> None:
    """What is fetched again is fresh, unmarked, and beside it all stays as it was."""
    path = tmp_path / "hub.db"
    of_step_0004(path)

    async def use() -> None:
        store = await asyncio.to_thread(open_store, path)
        before = await store.read(KEY, Interval(0, 250))
        known = before.state.coverage[3:]
        made = await store.apply(
            change(fill(0, 100, [10, 60], 2.0, at=4_000), revises=True, at=4_000)
        )
        assert made.state.version == 7
        [row] = made.state.coverage[:1]
        assert (row.interval, row.mark, row.commit) == (Interval(0, 100), None, 7)
        assert made.state.coverage[1:] == known
        after = await store.read(KEY, Interval(0, 250))
        assert held(after) == {time: text(time, 2.0) for time in (10, 60, 110, 160, 210)}
        await store.close()

    asyncio.run(use())
    assert health.inspect(path) == []


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
