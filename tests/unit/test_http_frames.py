"""What the columns of records are, and which of them can be chosen."""

from __future__ import annotations

import csv
import io
from typing import Any

import polars as pl
import pytest
from polars.testing import assert_frame_equal

from gapless.domain.blocks import Run
from gapless.errors import InvalidQuery
from gapless.protocol.columns import Kind, Schema, merge
from gapless.servers.http.formats import Format
from gapless.servers.http.frames import frame_of, schema_of
from support.documents import BARS, BARS_KINDS, EXPECTED, NAMES, Row, exact, halves, run_of, written


@pytest.mark.parametrize(
    ("values", "kind", "held"),
    [
        ([None, None], Kind.NULL, [None, None]),
        ([None, 1], Kind.INT, [None, 1]),
        ([-(2**63), 2**63 - 1], Kind.INT, [-(2**63), 2**63 - 1]),
        ([1, 0.5], Kind.FLOAT, [1.0, 0.5]),
        ([1, 2**63], Kind.FLOAT, [1.0, float(2**63)]),
        ([2**64 - 1, 0.1], Kind.FLOAT, [float(2**64 - 1), 0.1]),
        ([True, None], Kind.BOOL, [True, None]),
        (["", "null"], Kind.TEXT, ["", "null"]),
        ([True, 1], Kind.JSON, ["true", "1"]),
        (["a", 1, None], Kind.JSON, ['"a"', "1", None]),
        ([0.5, "é"], Kind.JSON, ["0.5", '"\\u00e9"']),
        ([[1, None], None], Kind.JSON, ["[1,null]", None]),
        ([{"a": {}}, {}], Kind.JSON, ['{"a":{}}', "{}"]),
        ([1, 0.5, False], Kind.JSON, ["1", "0.5", "false"]),
    ],
)
def test_the_kind_of_a_column(values: list[Any], kind: Kind, held: list[Any]) -> None:
    """A column has the narrowest kind that takes all its values, and the frame holds them."""
    run = run_of([{"x": value} for value in values])
    schema = schema_of([run])
    assert schema == Schema((("x", kind),))
    frame = frame_of([run], schema)
    assert exact([frame["x"].to_list()]) == exact([held])


def test_an_integer_beyond_every_float_is_kept_as_text() -> None:
    """Where no float is near, the digits of an integer are kept, beside those of others."""
    digits = b"1" + b"0" * 400
    run = Run.of([(0, b'{"x":1.5}'), (1_000, b'{"x":' + digits + b"}")])
    schema = schema_of([run])
    assert schema.columns == (("x", Kind.JSON),)
    assert frame_of([run], schema)["x"].to_list() == ["1.5", digits.decode()]


def test_what_begins_as_an_integer_may_go_on_otherwise() -> None:
    """Every record counts, not the first ones: a late float, text or column is met."""
    rows: list[dict[str, Any]] = [{"t": i, "x": 1, "y": None} for i in range(5_000)]
    rows[4_321] = {"t": 4_321, "x": 1.5, "y": "late", "z": [0]}
    schema = schema_of([run_of(rows[i : i + 1_000], 1_000 * i) for i in range(0, 5_000, 1_000)])
    kinds = {"t": Kind.INT, "x": Kind.FLOAT, "y": Kind.TEXT, "z": Kind.JSON}
    assert dict(schema.columns) == kinds
    assert schema.names == ("t", "x", "y", "z")


@pytest.mark.parametrize("place", range(6))
@pytest.mark.parametrize(
    ("value", "kind"), [(2**63, Kind.FLOAT), (0.5, Kind.FLOAT), (True, Kind.JSON)]
)
def test_one_value_of_its_own_counts_wherever_it_is(place: int, value: Any, kind: Kind) -> None:
    """A single value decides the kind of a column, be it in the first record or any other."""
    rows: list[Row] = [{"x": value if i == place else i} for i in range(6)]
    assert schema_of([run_of(rows)]).columns == (("x", kind),)


def test_columns_come_in_the_order_of_the_records() -> None:
    """A column has its place by the first record that has it, whichever records are looked at."""
    rows: list[Row] = [{"t": 0}, {"t": 1, "x": 1}, {"t": 2}, {"t": 3}, {"t": 4, "y": 1, "x": 2}]
    assert schema_of([run_of(rows)]).names == ("t", "x", "y")


def test_merged_schemas_keep_their_order() -> None:
    """The columns of the first schema come first, then those only the second has."""
    a = Schema((("t", Kind.INT), ("x", Kind.NULL)), ("t", "d"))
    b = Schema((("x", Kind.TEXT), ("z", Kind.BOOL), ("t", Kind.FLOAT)), ("e", "d"))
    merged = merge(a, b)
    assert merged.columns == (("t", Kind.FLOAT), ("x", Kind.TEXT), ("z", Kind.BOOL))
    assert merged.declared == ("t", "d", "e")
    assert merge(Schema(), a) == a


def test_the_frame_of_bars() -> None:
    """Prices, volumes, notes and flags have the kinds they should, and keep their values."""
    schema = schema_of(halves(BARS))
    assert dict(schema.columns) == BARS_KINDS
    assert exact(frame_of(halves(BARS), schema).rows()) == EXPECTED


def test_names_of_every_sort_are_columns() -> None:
    """Names with quotes, backslashes and line ends are columns like others."""
    names = ['a"b', "a\\b", "a\nb", "", "é", " ", "a,b"]
    rows: list[Row] = [
        {name: i + k / 2 for k, name in enumerate(names)} | {"j": [i]} for i in range(3)
    ]
    schema = schema_of([run_of(rows)])
    assert schema.names == (*names, "j")
    assert {kind for _, kind in schema.columns[:-1]} == {Kind.FLOAT}
    frame = frame_of([run_of(rows)], schema)
    assert frame.rows() == [(*list(row.values())[:-1], f"[{i}]") for i, row in enumerate(rows)]
    text = written(Format.CSV, halves(rows)).decode()
    assert next(csv.reader(io.StringIO(text, newline=""))) == [*names, "j"]
    assert_frame_equal(pl.read_ipc_stream(written(Format.ARROW, halves(rows))), frame)
    assert_frame_equal(pl.read_parquet(written(Format.PARQUET, halves(rows))), frame)


@pytest.mark.parametrize(
    ("columns", "said"),
    [
        (["timestamp", "clse"], "there is no column 'clse'; there are timestamp, open, volume"),
        (["open", "open"], "column 'open' is named twice"),
        ([], "at least one column"),
    ],
)
@pytest.mark.parametrize("format", Format)
def test_columns_that_are_not_there_are_refused(
    format: Format, columns: list[str], said: str
) -> None:
    """A column that is not there is an error that names it and lists those there are."""
    with pytest.raises(InvalidQuery, match=said):
        written(format, halves(BARS), columns)


def test_a_declared_column_is_there_without_a_record_that_has_it() -> None:
    """A dividend may be asked for where none was paid; only then is it a column."""
    runs = halves(BARS)
    known = Schema(declared=(*NAMES, "dividend"))
    assert schema_of(runs, known).names == tuple(NAMES)
    text = written(Format.CSV, runs, ["timestamp", "dividend"], known)
    assert text.startswith(b"timestamp,dividend\n951868800,\n")
    with pytest.raises(InvalidQuery, match=r"there are timestamp, open, .*, dividend$"):
        schema_of(runs, known).select(["split"])
