"""Records into the bytes of a format, batch by batch.

Apart from sending, so that a document is a function of its records: head, batches and tail,
joined, are one valid document however the records are cut into batches.
"""

from __future__ import annotations

import io
from collections.abc import Iterable, Sequence
from typing import TYPE_CHECKING, Any, Protocol

import msgspec

from gapless.domain.blocks import Run
from gapless.errors import InternalError
from gapless.protocol.columns import Kind, Schema, Shape, framed
from gapless.servers.http.formats import Format

if TYPE_CHECKING:
    import polars as pl

# As many rows as other writers of Parquet put together: enough to press well, few enough to skip.
_ROW_GROUP = 122_880
# How a stream of Arrow messages begins each of them, and ends.
_CONTINUATION = b"\xff\xff\xff\xff"
_END = _CONTINUATION + b"\0\0\0\0"
_QUOTED = frozenset('",\r\n')

_encode = msgspec.json.Encoder()


class Writer(Protocol):
    """Writes one document: `head` once, `batch` any number of times in order, `tail` once.

    Each returns the bytes that come next, possibly none. A writer belongs to one document, and
    is used by one thread at a time.
    """

    def head(self) -> bytes:
        """Return what comes before the records."""

    def batch(self, runs: Sequence[Run]) -> bytes:
        """Return the records of these runs, which follow those of earlier batches."""

    def tail(self) -> bytes:
        """Return what comes after the records."""

    def close(self) -> None:
        """Let go of what is gathered; also half-way, and more than once."""


def needs_schema(format: Format, columns: Sequence[str] | None) -> bool:
    """Whether the schema of all records has to be known before the first one is written."""
    return format.columnar or columns is not None


def writer_for(
    format: Format, schema: Schema | None = None, columns: Sequence[str] | None = None
) -> Writer:
    """Return what writes records in a format.

    `schema` is that of all records that will come, and may be `None` only where `needs_schema`
    says so; `columns` chooses among its columns and gives their order.

    Raises `InvalidQuery` as `Schema.select` does.
    """
    if schema is None:
        if needs_schema(format, columns):
            raise InternalError(f"the columns of an answer as {format} were not looked at")
        return NdjsonWriter() if format is Format.NDJSON else JsonWriter()
    if columns is None and not format.columnar:
        return NdjsonWriter() if format is Format.NDJSON else JsonWriter()
    shape = Shape(schema.select(columns))
    match format:
        case Format.JSON:
            return JsonWriter(shape)
        case Format.NDJSON:
            return NdjsonWriter(shape)
        case Format.CSV:
            return CsvWriter(shape)
        case Format.ARROW:
            return ArrowWriter(shape)
        case Format.PARQUET:
            return ParquetWriter(shape)


class _Bare:
    """The parts that a format need not have: something before, after, or kept for later."""

    def head(self) -> bytes:
        """Return nothing."""
        return b""

    def tail(self) -> bytes:
        """Return nothing."""
        return b""

    def close(self) -> None:
        """Do nothing: there is nothing to let go of."""


class JsonWriter(_Bare):
    """Writes one array. Without a shape the records are joined as they are, unparsed."""

    def __init__(self, shape: Shape | None = None) -> None:
        self._shape = shape
        self._before = b""

    def head(self) -> bytes:
        """Return the bracket that opens the array."""
        return b"["

    def batch(self, runs: Sequence[Run]) -> bytes:
        """Return the records, joined by commas."""
        texts = [self._text(run) for run in runs if len(run)]
        if not texts:
            return b""
        before, self._before = self._before, b","
        return before + b",".join(texts)

    def tail(self) -> bytes:
        """Return the bracket that closes the array."""
        return b"]"

    def _text(self, run: Run) -> bytes:
        if self._shape is None:
            return run.text
        return _encode.encode(self._shape.rows(run.text))[1:-1]


class NdjsonWriter(_Bare):
    """Writes a record a line. Without a shape the records are written as they are, unparsed."""

    def __init__(self, shape: Shape | None = None) -> None:
        self._shape = shape

    def batch(self, runs: Sequence[Run]) -> bytes:
        """Return the records, a line each."""
        return b"".join([self._lines(run) for run in runs if len(run)])

    def _lines(self, run: Run) -> bytes:
        if self._shape is not None:
            return _encode.encode_lines(self._shape.rows(run.text))
        # Only the commas between records are told by the offsets: a text may have `},{` in it.
        lines = bytearray(run.text)
        for offset in run.offsets[1 : len(run)]:
            lines[offset - 1] = 0x0A
        lines += b"\n"
        return bytes(lines)


class CsvWriter(_Bare):
    """Writes a header and a row a record, by RFC 4180 but that a line ends by a newline alone.

    Numbers are written as JSON writes them, whole floats with `.0`, so that reading gives equal
    ones; null is empty, an empty text `""`. In a table of one column null is `""` as well: most
    readers pass over empty lines, and there would be fewer rows than records.
    """

    def __init__(self, shape: Shape) -> None:
        self._shape = shape
        self._kinds = [kind for _, kind in shape.schema.columns]

    def head(self) -> bytes:
        """Return the names of the columns; nothing where there are none."""
        names = self._shape.schema.names
        return f"{','.join(map(_quoted, names))}\n".encode() if names else b""

    def batch(self, runs: Sequence[Run]) -> bytes:
        """Return the rows."""
        return b"".join([self._rows(run) for run in runs if len(run) and self._kinds])

    def _rows(self, run: Run) -> bytes:
        columns = [
            _fields(kind, values)
            for kind, values in zip(self._kinds, self._shape.values(run.text), strict=True)
        ]
        if len(columns) == 1:
            columns = [[field or '""' for field in columns[0]]]
        rows = "\n".join(map(",".join, zip(*columns, strict=True)))
        return f"{rows}\n".encode()


class ArrowWriter(_Bare):
    """Writes one Arrow IPC stream, in the oldest flavour, which every reader takes.

    A batch becomes a record batch. polars writes whole streams only: of each one its messages
    between the schema, the same for all, and the end are taken.
    """

    def __init__(self, shape: Shape) -> None:
        self._shape = shape
        stream = _stream(framed((), shape))
        if not stream.startswith(_CONTINUATION) or not stream.endswith(_END):
            raise InternalError("an Arrow stream is not laid out as it should be")
        size = int.from_bytes(stream[4:8], "little")
        self._schema = stream[: 8 + size]

    def head(self) -> bytes:
        """Return the message with the schema."""
        return self._schema

    def batch(self, runs: Sequence[Run]) -> bytes:
        """Return a message with the records; nothing for no records or no columns."""
        frame = framed([run.text for run in runs], self._shape)
        if frame.is_empty():
            return b""
        stream = _stream(frame)
        if not stream.startswith(self._schema) or not stream.endswith(_END):
            raise InternalError("an Arrow stream does not have the schema that it began with")
        return stream[len(self._schema) : -len(_END)]

    def tail(self) -> bytes:
        """Return the mark of the end."""
        return _END


class ParquetWriter(_Bare):
    """Writes a Parquet file: all of it comes with the tail.

    polars writes whole files only, so the batches are kept as frames until then: 8 bytes a
    number and the bytes of texts, about 56 MB for a million records of seven numbers, and as
    much again while the file is put together.
    """

    def __init__(self, shape: Shape) -> None:
        self._shape = shape
        self._frames: list[pl.DataFrame] = []

    def batch(self, runs: Sequence[Run]) -> bytes:
        """Keep the records; return nothing."""
        frame = framed([run.text for run in runs], self._shape)
        if not frame.is_empty():
            self._frames.append(frame)
        return b""

    def tail(self) -> bytes:
        """Return the file."""
        import polars as pl

        frames = self._frames or [framed((), self._shape)]
        self._frames = []
        return _parquet(pl.concat(frames, rechunk=False))

    def close(self) -> None:
        """Let go of the records."""
        self._frames = []


def document(format: Format, frame: pl.DataFrame) -> bytes:
    """Return a frame that has rows as a whole document of a columnar format."""
    return _parquet(frame) if format is Format.PARQUET else _stream(frame)


def _parquet(frame: pl.DataFrame) -> bytes:
    """Return a frame as a whole Parquet file."""
    buffer = io.BytesIO()
    frame.write_parquet(buffer, row_group_size=_ROW_GROUP)
    return buffer.getvalue()


def _stream(frame: pl.DataFrame) -> bytes:
    """Return a frame as a whole Arrow stream."""
    import polars as pl

    buffer = io.BytesIO()
    frame.write_ipc_stream(buffer, compat_level=pl.CompatLevel.oldest())
    return buffer.getvalue()


def _fields(kind: Kind, values: list[Any]) -> Iterable[str]:
    """Return the fields of a column that has at least one value."""
    if kind is Kind.DATE:
        return ["" if day is None else day.isoformat() for day in values]
    if kind in (Kind.TEXT, Kind.JSON):
        return ["" if text is None else _quoted(text) for text in values]
    texts = _encode.encode(values)[1:-1].replace(b"null", b"")
    return texts.decode("ascii").split(",")


def _quoted(text: str) -> str:
    """Return a text as a field of CSV, quoted where it has to be."""
    if text and _QUOTED.isdisjoint(text):
        return text
    return '"' + text.replace('"', '""') + '"'
