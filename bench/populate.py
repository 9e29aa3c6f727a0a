"""Many small series in a store, written straight into its SQLite file while no hub has it open.

Apart, because it is the one piece of the benchmark that knows the store's tables.
"""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

from processes import NotMeasured

PROVIDER, TEMPLATE = "sample", "FB"
CHUNK = 5_000


def populate(db: Path, count: int) -> None:
    """Store `count` copies of the series of TEMPLATE, each under a ticker of its own.

    The copies have the template's coverage and blocks. Raises NotMeasured where the schema cannot
    be imported or the template is not in the file.
    """
    try:
        from gapless.store import schema
        from sqlalchemy import create_engine, func, insert, inspect, select
    except ImportError as error:
        raise NotMeasured(f"The store's schema cannot be imported ({error}).") from error
    engine = create_engine(f"sqlite:///{db}")
    try:
        if not inspect(engine).has_table(schema.series.name):
            raise NotMeasured(f"The hub has left no table of series in {db.name}.")
        with engine.begin() as connection:
            one = select(schema.series).where(
                schema.series.c.provider == PROVIDER, schema.series.c.ticker == TEMPLATE
            )
            found = connection.execute(one).mappings().first()
            if found is None:
                raise NotMeasured(f"{PROVIDER}:{TEMPLATE} is not in the store: nothing to copy.")
            template = dict(found)
            number: int = template["number"]
            children = {
                table: [
                    dict(row)
                    for row in connection.execute(
                        select(table).where(table.c.series == number)
                    ).mappings()
                ]
                for table in (schema.coverage, schema.entities)
            }
            for row in children[schema.entities]:
                del row["number"]  # the database counts
            last = connection.execute(select(func.max(schema.series.c.number))).scalar_one()
            for numbers in _chunks(last + 1, count):
                rows = [template | {"number": n, "ticker": _ticker(n)} for n in numbers]
                connection.execute(insert(schema.series), rows)
                for table, originals in children.items():
                    copies = [_copy(row, n) for n in numbers for row in originals]
                    if copies:
                        connection.execute(insert(table), copies)
    finally:
        engine.dispose()


def _chunks(first: int, count: int) -> Iterator[range]:
    for start in range(first, first + count, CHUNK):
        yield range(start, min(start + CHUNK, first + count))


def _ticker(number: int) -> str:
    return f"SMALL{number:06d}"


def _copy(row: dict[str, Any], number: int) -> dict[str, Any]:
    copied = row | {"series": number}
    if "id" in row:
        ticker = _ticker(number)
        copied["id"] = row["id"].replace(f":{TEMPLATE}", f":{ticker}", 1)
        copied["tags"] = row["tags"].replace(f'"ticker={TEMPLATE}"', f'"ticker={ticker}"')
    return copied
