"""That every reader reads the same out of every format."""

from __future__ import annotations

import io
import json
import subprocess
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import duckdb
import msgspec
import pandas as pd  # has no types
import polars as pl
import pyarrow as pa  # has no types
import pyarrow.csv  # has no types
import pyarrow.parquet  # has no types
import pytest
from polars.testing import assert_frame_equal

from gapless.domain.blocks import Run, encode
from gapless.errors import InternalError
from gapless.protocol.columns import Schema
from gapless.servers.http.formats import Format
from gapless.servers.http.frames import frame_of, schema_of
from gapless.servers.http.writers import writer_for
from support.documents import BARS, EXPECTED, NAMES, Row, exact, halves, run_of, written


def read_all(columns: Sequence[str] | None = None) -> dict[str, Any]:
    """Return what polars reads out of every format."""
    text = {format: written(format, halves(BARS), columns) for format in Format}
    return {
        "json": pl.read_json(text[Format.JSON], infer_schema_length=None),
        "ndjson": pl.read_ndjson(text[Format.NDJSON], infer_schema_length=None),
        "csv": pl.read_csv(text[Format.CSV]),
        "arrow": pl.read_ipc_stream(text[Format.ARROW]),
        "parquet": pl.read_parquet(text[Format.PARQUET]),
    }


def test_polars_reads_the_same_out_of_every_format() -> None:
    """One frame comes out of JSON, lines, CSV, Arrow and Parquet, to the last bit."""
    frame = frame_of(halves(BARS), schema_of(halves(BARS)))
    assert exact(frame.rows()) == EXPECTED
    for name, read in read_all().items():
        assert_frame_equal(read, frame, check_exact=True)
        assert exact(read.rows()) == EXPECTED, name


def test_pandas_reads_the_same() -> None:
    """Pandas finds the values that were there, and nothing where there was nothing."""
    frames = {
        "json": pd.read_json(io.BytesIO(written(Format.JSON, halves(BARS))), precise_float=True),
        "ndjson": pd.read_json(
            io.BytesIO(written(Format.NDJSON, halves(BARS))), lines=True, precise_float=True
        ),
        "csv": pd.read_csv(io.BytesIO(written(Format.CSV, halves(BARS)))),
        "arrow": pa.ipc.open_stream(written(Format.ARROW, halves(BARS))).read_pandas(),
        "parquet": pd.read_parquet(io.BytesIO(written(Format.PARQUET, halves(BARS)))),
    }
    for name, frame in frames.items():
        assert list(frame.columns) == NAMES, name
        # pandas reads no timestamps as numbers out of JSON; and a column of integers with a
        # hole is one of floats.
        if "json" not in name:
            assert frame["timestamp"].tolist() == [row["timestamp"] for row in BARS], name
        for column, value in (("open", 0.1 + 0.2), ("note", "},{"), ("volume", -1)):
            assert frame[column].iloc[3] == value, (name, column)
        for column in ("open", "volume", "note", "final"):
            holes = [row.get(column) is None for row in BARS]
            assert frame[column].isna().tolist() == holes, (name, column)


def test_pyarrow_reads_the_same() -> None:
    """Pyarrow reads the stream to its end as one table, and the file as the same one."""
    stream = io.BytesIO(written(Format.ARROW, halves(BARS)))
    with pa.ipc.open_stream(stream) as reader:
        batches = list(reader)
    assert [batch.num_rows for batch in batches] == [3, 3]
    assert stream.read() == b""
    table = pa.Table.from_batches(batches)
    table.validate(full=True)
    assert exact([tuple(row.values()) for row in table.to_pylist()]) == EXPECTED
    parquet = pa.parquet.read_table(io.BytesIO(written(Format.PARQUET, halves(BARS))))
    assert parquet.to_pylist() == table.to_pylist()
    read = pa.csv.read_csv(
        io.BytesIO(written(Format.CSV, halves(BARS))),
        parse_options=pa.csv.ParseOptions(newlines_in_values=True),
        convert_options=pa.csv.ConvertOptions(
            strings_can_be_null=True, quoted_strings_can_be_null=False
        ),
    )
    assert read.to_pylist() == table.to_pylist()


def test_duckdb_reads_the_same(tmp_path: Path) -> None:
    """DuckDB reads text formats, Parquet and an Arrow table to the same rows."""
    with duckdb.connect() as database:
        for format in (Format.JSON, Format.NDJSON, Format.CSV, Format.PARQUET):
            path = tmp_path / f"bars{format.suffix}"
            path.write_bytes(written(format, halves(BARS)))
            rows = database.sql(f"select * from '{path}'").fetchall()
            assert exact(rows) == EXPECTED, format
        table = pa.ipc.open_stream(written(Format.ARROW, halves(BARS))).read_all()
        found = database.from_arrow(table)
        assert exact(found.fetchall()) == EXPECTED


def test_text_is_sent_as_it_is_stored() -> None:
    """Without columns the records' bytes are the stored ones, in JSON and in lines."""
    runs = halves(BARS)
    assert written(Format.JSON, runs) == b"[" + Run.concat(runs).text + b"]"
    assert written(Format.NDJSON, runs).split(b"\n") == [*map(encode, BARS), b""]


def test_csv_to_the_byte() -> None:
    """Fields are quoted where they have to be, floats are floats, null is not an empty text."""
    rows: list[Row] = [
        {"t": 1, "f": 1, "s": "", 'n,"': None, "j": [1, "a"]},
        {"t": 2, "f": 1e16, "s": None, 'n,"': None, "j": {"k": 'q"'}},
        {"t": 3, "f": 5e-324, "s": "a\rb", "b": True},
        {"t": 4, "f": -1.5, "s": " plain ", "b": False, "j": "null"},
    ]
    assert written(Format.CSV, [run_of(rows)]).decode() == (
        't,f,s,"n,""",j,b\n'
        '1,1.0,"",,"[1,""a""]",\n'
        '2,1e16,,,"{""k"":""q\\""""}",\n'
        '3,5e-324,"a\rb",,,true\n'
        '4,-1.5, plain ,,"""null""",false\n'
    )


def test_no_row_of_a_table_of_one_column_is_lost() -> None:
    """A null alone on its line is still a row for readers that pass over empty lines."""
    text = written(Format.CSV, halves(BARS), ["open"])
    assert text.decode() == 'open\n29.56\n30.0\n""\n0.30000000000000004\n1e300\n-0.0\n'
    assert len(pd.read_csv(io.BytesIO(text))) == len(BARS)
    assert pa.csv.read_csv(io.BytesIO(text)).num_rows == len(BARS)
    assert pl.read_csv(text).height == len(BARS)


def test_chosen_columns_in_every_format() -> None:
    """The columns that are asked for come in the order asked for, in every format."""
    columns = ["volume", "open", "timestamp"]
    frame = frame_of(halves(BARS), schema_of(halves(BARS)), columns)
    assert frame.columns == columns
    places = [NAMES.index(column) for column in columns]
    assert exact(frame.rows()) == [tuple(row[i] for i in places) for row in EXPECTED]
    for read in read_all(columns).values():
        assert_frame_equal(read, frame, check_exact=True)


@pytest.mark.parametrize("odd", ["x", 'a"b', "a\\b", "a\nb", "", "é"])
def test_chosen_columns_keep_the_texts_of_their_values(odd: str) -> None:
    """Numbers keep their digits, texts their escapes; what a record lacks is null."""
    rows: list[Row] = [{odd: 2**64 - 1, "t": 1}, {odd: "é\n", "t": 2}, {"t": 3}, {odd: [1e22]}]
    text = written(Format.NDJSON, [run_of(rows)], [odd, "t"])
    texts = ["18446744073709551615", '"\\u00e9\\n"', "null", "[1e22]"]
    expected = [
        f"{{{json.dumps(odd, ensure_ascii=False)}:{value},{json.dumps('t')}:{t}}}"
        for value, t in zip(texts, ["1", "2", "3", "null"], strict=True)
    ]
    assert text.decode() == "".join(f"{line}\n" for line in expected)
    assert written(Format.JSON, [run_of(rows)], [odd, "t"]).decode() == f"[{','.join(expected)}]"


# Nothing


@pytest.mark.parametrize("known", [(), ("timestamp", "close")])
@pytest.mark.parametrize("columns", [None, ["close"]])
@pytest.mark.parametrize("runs", [[], [Run.of(())]])
def test_an_empty_answer(
    runs: list[Run], known: tuple[str, ...], columns: list[str] | None
) -> None:
    """No records are a valid document with the columns that are known."""
    names = columns or list(known)
    schema = Schema(declared=known)
    text = {format: written(format, runs, columns, schema) for format in Format}
    assert text[Format.JSON] == b"[]"
    assert text[Format.NDJSON] == b""
    assert text[Format.CSV] == (f"{','.join(names)}\n".encode() if names else b"")
    table = pa.ipc.open_stream(text[Format.ARROW]).read_all()
    assert (table.num_rows, table.column_names) == (0, names)
    parquet = pa.parquet.read_table(io.BytesIO(text[Format.PARQUET]))
    assert (parquet.num_rows, parquet.column_names) == (0, names)
    assert pl.read_ipc_stream(text[Format.ARROW]).columns == names
    assert pl.read_parquet(text[Format.PARQUET]).columns == names


def test_empty_and_full_frames_come_together() -> None:
    """The frame of an answer without records takes the types of one that has some."""
    runs = halves(BARS)
    empty = pl.read_ipc_stream(written(Format.ARROW, [], known=Schema(declared=tuple(NAMES))))
    full = pl.read_ipc_stream(written(Format.ARROW, runs))
    assert_frame_equal(pl.concat([empty, full], how="vertical_relaxed"), full)


def test_records_without_columns() -> None:
    """Records without a key are objects in JSON, and no columns elsewhere."""
    runs = [run_of([{}, {}])]
    assert written(Format.JSON, runs) == b"[{},{}]"
    assert written(Format.NDJSON, runs) == b"{}\n{}\n"
    assert written(Format.CSV, runs) == b""
    assert pa.ipc.open_stream(written(Format.ARROW, runs)).read_all().num_columns == 0
    assert pl.read_parquet(written(Format.PARQUET, runs)).width == 0


# Writers


def test_a_columnar_writer_without_a_schema_is_our_fault() -> None:
    """What was not looked at is not written as if it had been."""
    for format in Format:
        if format.columnar:
            with pytest.raises(InternalError, match="not looked at"):
                writer_for(format)
    with pytest.raises(InternalError, match="not looked at"):
        writer_for(Format.JSON, None, ["close"])


def test_records_of_another_schema_are_not_bent() -> None:
    """A value that does not fit the schema raises: nothing becomes null unsaid."""
    schema = schema_of([run_of([{"x": 1}])])
    for format in (Format.CSV, Format.ARROW, Format.PARQUET):
        with pytest.raises(msgspec.ValidationError):
            writer_for(format, schema).batch([run_of([{"x": 1.5}])])


def test_a_closed_parquet_writer_holds_nothing() -> None:
    """What was gathered is let go of when an answer is given up half-way."""
    writer = writer_for(Format.PARQUET, schema_of(halves(BARS)))
    assert writer.batch(halves(BARS)) == b""
    writer.close()
    writer.close()
    assert pl.read_parquet(writer.tail()).height == 0


def test_parquet_has_groups_of_rows() -> None:
    """A large file is cut into groups, so that readers may skip."""
    run = run_of([{"t": i} for i in range(50_000)])
    writer = writer_for(Format.PARQUET, schema_of([run]))
    for _ in range(3):
        writer.batch([run])
    file = pa.parquet.ParquetFile(io.BytesIO(writer.tail()))
    assert file.metadata.num_rows == 150_000
    assert file.metadata.num_row_groups > 1


def test_text_formats_do_without_polars() -> None:
    """JSON, lines and CSV are written without importing polars."""
    program = (
        "import sys\n"
        "from gapless.domain.blocks import Run\n"
        "from gapless.servers.http.formats import Format\n"
        "from gapless.servers.http.frames import schema_of\n"
        "from gapless.servers.http.writers import writer_for\n"
        "run = Run.of([(0, b'{\"t\":1}')])\n"
        "for format in (Format.JSON, Format.NDJSON, Format.CSV):\n"
        "    assert writer_for(format, schema_of([run]), ['t']).batch([run])\n"
        "sys.exit('polars' in sys.modules)\n"
    )
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, check=False)
    assert done.returncode == 0, done.stderr.decode()
