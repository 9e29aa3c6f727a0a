"""Records as runs, and as the documents that a data answer is, for the tests of the formats."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from gapless.domain.blocks import Run, encode
from gapless.protocol.columns import NOTHING_KNOWN, Kind, Schema
from gapless.servers.http.formats import Format
from gapless.servers.http.frames import schema_of
from gapless.servers.http.writers import needs_schema, writer_for

Row = Mapping[str, Any]

BARS: list[Row] = [
    {"timestamp": 951868800, "open": 29.56, "volume": 123432400, "note": "a,b", "final": True},
    {"timestamp": 951955200, "open": 30, "volume": 2**53 + 1, "note": 'q"x\n', "final": False},
    {"timestamp": 952041600, "open": None, "volume": None, "note": "é∞ 日", "final": None},
    {"timestamp": 952300800, "open": 0.1 + 0.2, "volume": -1, "note": "},{", "final": True},
    {"timestamp": 952387200, "volume": 0, "open": 1e300, "final": True},
    {"timestamp": 952473600, "open": -0.0, "volume": 7, "note": "\\ \t'", "final": False},
]
NAMES = ["timestamp", "open", "volume", "note", "final"]
BARS_KINDS = dict(zip(NAMES, [Kind.INT, Kind.FLOAT, Kind.INT, Kind.TEXT, Kind.BOOL], strict=True))


def run_of(rows: Sequence[Row], start: int = 0) -> Run:
    """Return a run of rows, a second apart."""
    return Run.of((start + 1_000 * i, encode(row)) for i, row in enumerate(rows))


def written(
    format: Format,
    runs: Sequence[Run],
    columns: Sequence[str] | None = None,
    known: Schema = NOTHING_KNOWN,
) -> bytes:
    """Return the document of runs, a batch each."""
    schema = schema_of(runs, known) if needs_schema(format, columns) else None
    writer = writer_for(format, schema, columns)
    parts = [writer.head(), *(writer.batch([run]) for run in runs), writer.tail()]
    writer.close()
    return b"".join(parts)


def halves(rows: Sequence[Row]) -> list[Run]:
    """Return rows as two runs."""
    middle = len(rows) // 2
    return [run_of(rows[:middle]), run_of(rows[middle:], 1_000 * middle)]


def exact(rows: Sequence[Sequence[Any]]) -> list[tuple[str, ...]]:
    """Return rows in a form that tells 1 from 1.0 and True, and the zeros apart."""
    return [tuple(map(repr, row)) for row in rows]


# BARS as rows of a table.
EXPECTED = exact(
    [[None if row.get(n) is None else row[n] for n in NAMES] for row in BARS[:1]]
    + [[951955200, 30.0, 2**53 + 1, 'q"x\n', False], [952041600, None, None, "é∞ 日", None]]
    + [[row.get(n) for n in NAMES] for row in BARS[3:]]
)
