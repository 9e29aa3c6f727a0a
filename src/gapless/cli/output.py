"""How an answer is printed: a table for people, the rest for programs.

Apart from asking, so that every format is a function of the answer.
"""

from __future__ import annotations

import csv
import io
from collections.abc import Iterator, Mapping, Sequence
from datetime import UTC, datetime
from typing import Any, Literal, TextIO

import msgspec

from gapless.errors import GaplessError
from gapless.observability import printable

Format = Literal["table", "json", "ndjson", "csv", "arrow", "parquet"]
BINARY: frozenset[Format] = frozenset({"arrow", "parquet"})
HEAD_ROWS = 20

_SUFFIXES: Mapping[str, Format] = {
    ".txt": "table",
    ".json": "json",
    ".ndjson": "ndjson",
    ".jsonl": "ndjson",
    ".csv": "csv",
    ".arrow": "arrow",
    ".arrows": "arrow",
    ".parquet": "parquet",
}


def format_of_suffix(suffix: str) -> Format | None:
    """Return the format that a file name's ending, such as `.csv`, asks for."""
    return _SUFFIXES.get(suffix.lower())


def rows_of(answer: Mapping[str, Any]) -> list[dict[str, Any]]:
    """Return an answer as flat rows: records where there are some, else what is listed.

    With more than one entity each row begins with `entity`, the id it belongs to. An entity
    whose data is no list of records is a row of its own.
    """
    result = answer.get("result")
    if not isinstance(result, list):
        return [] if result is None else [_row(result, "result")]
    entities = [item for item in result if _is_entity(item)]
    if len(entities) != len(result):
        return [_row(item, "provider") for item in result]
    if len(entities) == 1 and (records := _records(entities[0])) is not None:
        return records
    rows: list[dict[str, Any]] = []
    for entity in entities:
        records = _records(entity)
        if records is None:
            rows.append(entity)
        else:
            rows.extend({"entity": entity["id"], **record} for record in records)
    return rows


def render(answer: Mapping[str, Any], format: Format) -> bytes:
    """Return the answer in a format for programs; JSON on one line."""
    if format == "json":
        return msgspec.json.encode(answer) + b"\n"
    rows = rows_of(answer)
    if format == "ndjson":
        return msgspec.json.Encoder().encode_lines(rows)
    if format == "csv":
        return _csv(rows).encode()
    return _columnar(rows, format)


def print_table(answer: Mapping[str, Any], stream: TextIO) -> None:
    """Print the first rows for a person, then how many there are."""
    from rich.console import Console
    from rich.table import Table
    from rich.text import Text

    rows = rows_of(answer)
    columns = _columns(rows[:HEAD_ROWS])
    console = Console(file=stream, highlight=False)
    if rows:
        table = Table(box=None, pad_edge=False, header_style="bold")
        for column in columns:
            numeric = any(_is_number(column, row.get(column)) for row in rows[:HEAD_ROWS])
            table.add_column(Text(printable(column)), justify="right" if numeric else "left")
        for row in rows[:HEAD_ROWS]:
            table.add_row(*(Text(_cell(column, row.get(column))) for column in columns))
        console.print(table)
    left = len(rows) - HEAD_ROWS
    count = f"{len(rows):,} row{'' if len(rows) == 1 else 's'}"
    console.print(Text(f"{count}, {left:,} not shown" if left > 0 else count), style="dim")


def summaries(answer: Mapping[str, Any]) -> Iterator[str]:
    """Yield a line for each entity: its id, its state, and what was cached, fetched, missing."""
    result = answer.get("result")
    for entity in result if isinstance(result, list) else []:
        if not _is_entity(entity):
            continue
        parts = [f"{entity['id']}: {entity.get('state', '')}"]
        if (records := _records(entity)) is not None:
            parts.append(f"{len(records):,} record{'' if len(records) == 1 else 's'}")
        stitch = answer.get("stitch")
        if isinstance(stitch, dict):
            for name in ("cached", "fetched", "missing"):
                if spans := stitch.get(name):
                    parts.append(f"{name} {', '.join(_span(span) for span in spans)}")
            asked = stitch.get("upstream_requests", 0)
            parts.append(f"{asked} upstream request{'' if asked == 1 else 's'}")
        yield printable("; ".join(parts))


def warnings(answer: Mapping[str, Any]) -> Iterator[str]:
    """Yield a sentence for whatever makes an answer less than asked for."""
    result = answer.get("result")
    for entity in result if isinstance(result, list) else []:
        if not _is_entity(entity):
            continue
        because = f": {entity['last_error']}" if entity.get("last_error") else ""
        if entity.get("state") == "partial":
            yield printable(f"{entity['id']} is incomplete{because}{_missing(answer)}")
        elif entity.get("state") == "stale":
            yield printable(f"{entity['id']} may be out of date{because}")
    if answer.get("next_offset") is not None:
        yield f"there is more; go on with offset={answer['next_offset']}"


def _missing(answer: Mapping[str, Any]) -> str:
    stitch = answer.get("stitch")
    missing = stitch.get("missing") if isinstance(stitch, dict) else None
    return f"; missing: {', '.join(_span(span) for span in missing)}" if missing else ""


def _span(span: object) -> str:
    """Return `FROM..TO` of a pair, or of an object with `from` and `to`."""
    if isinstance(span, dict):
        span = [span.get("from"), span.get("to")]
    if not isinstance(span, list):
        return str(span)
    return "..".join(str(bound).removesuffix("T00:00:00Z") for bound in span)


def _is_entity(item: object) -> bool:
    return isinstance(item, dict) and "id" in item and "data" in item


def _records(entity: Mapping[str, Any]) -> list[dict[str, Any]] | None:
    data = entity["data"]
    if isinstance(data, str):
        try:
            data = msgspec.json.decode(data)
        except msgspec.DecodeError:
            return None
    if isinstance(data, list) and all(isinstance(record, dict) for record in data):
        return data
    return None


def _row(item: object, name: str) -> dict[str, Any]:
    return item if isinstance(item, dict) else {name: item}


def _columns(rows: Sequence[Mapping[str, Any]]) -> list[str]:
    """Return the keys of all rows in the order in which they are first met."""
    return list(dict.fromkeys(key for row in rows for key in row))


def _csv(rows: Sequence[Mapping[str, Any]]) -> str:
    if not rows:
        return ""
    buffer = io.StringIO()
    columns = _columns(rows)
    writer = csv.writer(buffer, lineterminator="\n")
    writer.writerow(columns)
    writer.writerows([_field(row.get(column)) for column in columns] for row in rows)
    return buffer.getvalue()


def _columnar(rows: Sequence[Mapping[str, Any]], format: Format) -> bytes:
    import polars as pl

    buffer = io.BytesIO()
    try:
        frame = pl.DataFrame(rows, infer_schema_length=None, strict=False)
        if format == "arrow":
            # The oldest flavour is what every reader takes.
            frame.write_ipc_stream(buffer, compat_level=pl.CompatLevel.oldest())
        else:
            frame.write_parquet(buffer)
    except (pl.exceptions.PolarsError, OverflowError, TypeError) as error:
        raise GaplessError(
            f"the records do not fit into columns ({error}); ask for -o ndjson"
        ) from error
    return buffer.getvalue()


def _field(value: object) -> object:
    if isinstance(value, bool | list | dict):
        return msgspec.json.encode(value).decode()
    return value


def _is_number(column: str, value: object) -> bool:
    return isinstance(value, int | float) and column != "timestamp"


def _cell(column: str, value: object) -> str:
    if value is None:
        return ""
    if column == "timestamp" and isinstance(value, int | float):
        try:
            return f"{datetime.fromtimestamp(value, UTC):%Y-%m-%d %H:%M}"
        except (ValueError, OverflowError, OSError):
            return str(value)
    text = value if isinstance(value, str) else msgspec.json.encode(value).decode()
    return printable(text)
