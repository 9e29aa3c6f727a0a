"""Every format against the records themselves, for any values and any cutting into batches."""

from __future__ import annotations

from collections.abc import Sequence
from itertools import pairwise
from typing import Any

import msgspec
import polars as pl
import pyarrow as pa  # has no types
from hypothesis import given
from hypothesis import strategies as st
from polars.testing import assert_frame_equal

from gapless.domain.blocks import Run, encode
from gapless.protocol.columns import Kind, Schema, frame_types, merge
from gapless.servers.http import writers
from gapless.servers.http.formats import Format, NotAcceptable, negotiate
from gapless.servers.http.frames import frame_of, schema_of, whole_frame
from gapless.servers.http.writers import Writer, writer_for
from support.documents import exact

texts = st.text(st.characters(exclude_categories=["Cs"]), max_size=8) | st.sampled_from(
    ["", "null", "},{", "a,b", 'q"', "\r\n", "\\", "1", "true", "\x00"]
)
integers = st.integers(-(2**63), 2**63 - 1)
floats = st.floats(allow_nan=False, allow_infinity=False)
nested: st.SearchStrategy[Any] = st.recursive(
    st.none() | st.booleans() | integers | floats | texts,
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(texts, inner, max_size=3),
    max_leaves=5,
)
anything = nested | st.integers(2**63, 2**64 - 1)
NAMES = ["timestamp", "a", "b", "close", 'q"\\', "é", ""]
mixed = st.lists(st.dictionaries(st.sampled_from(NAMES), anything, max_size=5), max_size=12)
cuts = st.lists(st.integers(0, 12), max_size=4)

Rows = list[dict[str, Any]]


@st.composite
def tables(draw: st.DrawFn) -> Rows:
    """Draw records whose columns have a kind each, as those of most series have."""
    sorts: list[st.SearchStrategy[Any]] = [integers, floats, st.booleans(), texts]
    columns = {
        name: draw(st.sampled_from(sorts)) | st.none()
        for name in draw(st.lists(st.sampled_from(NAMES), unique=True, max_size=5))
    }
    record = st.fixed_dictionaries({"t": integers}, optional=columns)
    return draw(st.lists(record, max_size=12))


def runs_of(rows: Rows, edges: Sequence[int]) -> list[Run]:
    """Return rows as runs that end at the edges; some may be empty."""
    stops = [0, *sorted(min(edge, len(rows)) for edge in edges), len(rows)]
    return [
        Run.of((time, encode(rows[time])) for time in range(start, end))
        for start, end in pairwise(stops)
    ]


def document(writer: Writer, batches: Sequence[Sequence[Run]]) -> bytes:
    """Return what a writer writes for batches of runs."""
    return b"".join([writer.head(), *map(writer.batch, batches), writer.tail()])


def kind_of(values: Sequence[Any]) -> Kind:
    """Return the kind of a column by the words of its definition."""
    sorts = {type(value) for value in values if value is not None}
    if not sorts:
        return Kind.NULL
    if sorts <= {int, float}:
        whole = all(isinstance(v, int) and -(2**63) <= v < 2**63 for v in values if v is not None)
        return Kind.INT if whole else Kind.FLOAT
    return {frozenset({bool}): Kind.BOOL, frozenset({str}): Kind.TEXT}.get(
        frozenset(sorts), Kind.JSON
    )


def model(rows: Rows) -> tuple[Schema, list[tuple[Any, ...]]]:
    """Return the schema and the values of a frame, found by the plainest means."""
    names = list(dict.fromkeys(name for row in rows for name in row))
    columns: list[list[Any]] = []
    kinds: list[Kind] = []
    for name in names:
        values = [row.get(name) for row in rows]
        kind = kind_of(values)
        kinds.append(kind)
        if kind is Kind.FLOAT:
            values = [None if value is None else float(value) for value in values]
        elif kind is Kind.JSON:
            values = [None if value is None else encode(value).decode() for value in values]
        columns.append(values)
    schema = Schema(tuple(zip(names, kinds, strict=True)))
    return schema, list(zip(*columns, strict=True))


@given(mixed | tables(), cuts)
def test_the_schema_is_that_of_all_records(rows: Rows, edges: list[int]) -> None:
    """However the records are cut, kinds and order are those of all of them together."""
    runs = runs_of(rows, edges)
    expected, _ = model(rows)
    assert schema_of(runs) == expected
    merged = Schema()
    for run in runs:
        merged = merge(merged, schema_of([run]))
    assert merged == expected


@given(mixed | tables(), cuts)
def test_a_frame_holds_the_values_to_the_last_bit(rows: Rows, edges: list[int]) -> None:
    """A frame has the types of its schema and the values of its records, nothing bent."""
    runs = runs_of(rows, edges)
    schema, values = model(rows)
    frame = frame_of(runs, schema)
    assert dict(frame.schema) == frame_types(schema)
    assert exact(frame.rows()) == exact(values)


@given(mixed | tables(), cuts, st.permutations(["a", "b", "declared"]))
def test_a_frame_that_is_decoded_once_is_the_same(
    rows: Rows, edges: list[int], declared: list[str]
) -> None:
    """As by the schema that is looked for first, with what the provider declares besides."""
    runs = runs_of(rows, edges)
    known = Schema(declared=("timestamp", *declared))
    expected = frame_of(runs, schema_of(runs, known))
    assert_frame_equal(whole_frame(runs, known), expected)
    if expected.width:
        chosen = expected.columns[::-2]
        found = whole_frame(runs, known, chosen)
        assert_frame_equal(found, frame_of(runs, schema_of(runs, known), chosen))


@given(mixed | tables(), cuts, st.data())
def test_any_batching_gives_one_document(rows: Rows, edges: list[int], data: st.DataObject) -> None:
    """Text formats come to the same bytes, the others to the same frame, columns chosen or not."""
    runs = runs_of(rows, edges)
    schema, _ = model(rows)
    whole = Run.concat(runs)
    columns = None
    choose = data.draw(st.booleans())
    if schema.columns and choose:
        columns = data.draw(st.lists(st.sampled_from(schema.names), min_size=1, unique=True))
    middle = data.draw(st.integers(0, len(runs)))
    frame = frame_of(runs, schema, columns)
    for format in Format:
        one = document(writer_for(format, schema, columns), [[whole]])
        several = document(writer_for(format, schema, columns), [[run] for run in runs])
        halves = document(writer_for(format, schema, columns), [runs[:middle], runs[middle:]])
        if format.is_text:
            assert one == several == halves
            continue
        read = pl.read_ipc_stream if format is Format.ARROW else pl.read_parquet
        bodies = [one, several, halves]
        if rows:
            # What small answers are made by, which decodes their records but once.
            bodies.append(writers.document(format, whole_frame(runs, columns=columns)))
        for body in bodies:
            assert_frame_equal(read(body), frame, check_exact=True)
        if format is Format.ARROW:
            pa.ipc.open_stream(several).read_all().validate(full=True)


@given(mixed | tables(), cuts, st.data())
def test_json_says_what_the_records_say(rows: Rows, edges: list[int], data: st.DataObject) -> None:
    """JSON and lines are the records, or the columns of them that are chosen."""
    runs = runs_of(rows, edges)
    schema, _ = model(rows)
    body = document(writer_for(Format.JSON), [runs])
    lines = document(writer_for(Format.NDJSON), [runs])
    assert msgspec.json.decode(body) == rows
    assert lines.split(b"\n") == [*map(encode, rows), b""]
    if schema.columns:
        columns = data.draw(st.permutations(schema.names))
        body = document(writer_for(Format.JSON, schema, columns), [runs])
        lines = document(writer_for(Format.NDJSON, schema, columns), [runs])
        expected = [{name: row.get(name) for name in columns} for row in rows]
        found = msgspec.json.decode(body)
        assert exact([tuple(row.items()) for row in found]) == exact(
            [tuple(row.items()) for row in expected]
        )
        assert [msgspec.json.decode(line) for line in lines.splitlines()] == found


@given(tables(), cuts)
def test_csv_is_read_back_as_it_was(rows: Rows, edges: list[int]) -> None:
    """With the types given, polars reads the very frame out of the CSV, zeros and nulls alike."""
    runs = runs_of(rows, edges)
    schema, values = model(rows)
    # Alone on its line null cannot be told from an empty text.
    if len(schema.columns) < 2:
        return
    body = document(writer_for(Format.CSV, schema), [runs])
    types = {
        name: pl.String if kind is Kind.NULL else frame_types(schema)[name]
        for name, kind in schema.columns
    }
    # polars does not undo the quoting of a name.
    read = pl.read_csv(body, schema=types, has_header=False, skip_lines=1)
    assert exact(read.rows()) == exact(values)


@given(
    st.text(max_size=60) | st.lists(st.sampled_from([*'*/;,=q. 01"\\', "text", "csv"])).map("".join)
)
def test_any_accept_header_is_answered(accept: str) -> None:
    """No header makes it fail otherwise than by saying that nothing can be accepted."""
    try:
        format = negotiate(accept)
    except NotAcceptable:
        return
    # Named by itself and first, it is welcome above all.
    assert negotiate(f"{format.media_type.partition(';')[0]}, {accept}") is format
