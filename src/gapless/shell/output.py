"""How an answer is printed: a table for people, the rest for programs.

Apart from asking, so that every format is a function of the answer.
"""

from __future__ import annotations

import csv
import io
from collections.abc import Iterator, Mapping, Sequence
from datetime import UTC, date, datetime
from typing import Any, Literal, TextIO

import msgspec

from gapless.errors import GaplessError
from gapless.shell.wording import count_text, takes_blocks
from gapless.texts import printable
from gapless.zones import local_date, zone_named

Format = Literal["table", "json", "ndjson", "csv", "arrow", "parquet"]
BINARY: frozenset[Format] = frozenset({"arrow", "parquet"})
# A longer table shows this many rows of its beginning, and of its end.
EDGE_ROWS = 10
MOST_ROWS = 24
# Text is folded into no fewer columns of the terminal than this.
_LEAST_TEXT = 8

SUFFIXES: Mapping[str, Format] = {
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
    return SUFFIXES.get(suffix.lower())


def rows_of(answer: Mapping[str, Any]) -> list[dict[str, Any]]:
    """Return an answer as flat rows: records where there are some, else what is listed.

    With more than one entity each row begins with `entity`, the id it belongs to. An entity
    whose data is no list of records is a row of its own.
    """
    result = answer.get("result")
    if isinstance(result, dict):
        return [result]
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


def envelope(format: Format) -> Mapping[str, Any]:
    """Return what is asked beside a query whose answer is to be printed in a format.

    Tables tell the day of each record, for which its ticker's time zone is needed; JSON has what
    the hub says, and nothing else.
    """
    dated = {} if format in ("json", "ndjson") else {"facts": True}
    return {"data_as": "array", **dated}


def render(answer: Mapping[str, Any], format: Format) -> bytes:
    """Return the answer in a format for programs; JSON on one line."""
    if format == "json":
        return msgspec.json.encode(answer) + b"\n"
    rows = rows_of(answer)
    if format == "ndjson":
        return msgspec.json.Encoder().encode_lines(rows)
    rows = _dated(rows, answer)
    # A history without records is a table with nothing in it, which programs can read.
    none = ["timestamp", *(["date"] if answer.get("dates") else [])]
    columns = _columns(rows) or (none if isinstance(answer.get("stitch"), dict) else [])
    if format == "csv":
        return _csv(rows, columns).encode()
    return _columnar(rows, columns, format)


def print_table(answer: Mapping[str, Any], stream: TextIO, *, whole: bool = False) -> None:
    """Print the rows for a person, then how many there are.

    Unless it is to be `whole`, a long table has a hole in its middle, and several entities with
    records are a row each. A number is never cut short: a table too wide for its terminal is
    wrapped by that.
    """
    from rich.console import Console
    from rich.table import Table
    from rich.text import Text

    overview = [] if whole else _overview(answer)
    rows = overview or _dated(rows_of(answer), answer)
    if not overview and answer.get("dates"):
        # The day is what people read.
        rows = [{name: row[name] for name in row if name != "timestamp"} for row in rows]
    cut = not whole and len(rows) > MOST_ROWS
    shown = rows[:EDGE_ROWS] + rows[-EDGE_ROWS:] if cut else rows
    columns = _columns(shown)
    days = all(_is_day(row.get("timestamp")) for row in rows)
    console = Console(file=stream, highlight=False)
    if rows:
        table = Table(box=None, pad_edge=False, header_style="bold")
        needed = 0
        for column in columns:
            cells = [_cell(column, row.get(column), days) for row in shown]
            numeric = any(_is_number(column, row.get(column)) for row in shown)
            rigid = numeric or column == "timestamp"
            least = max(map(len, [printable(column), *cells])) if rigid else _LEAST_TEXT
            needed += least + 2
            table.add_column(
                Text(printable(column)),
                justify="right" if numeric else "left",
                no_wrap=rigid,
                min_width=least if rigid else None,
                overflow="fold",
            )
        for number, row in enumerate(shown):
            if cut and number == EDGE_ROWS:
                table.add_row("…" if takes_blocks(stream) else "...")
            table.add_row(*(Text(_cell(column, row.get(column), days)) for column in columns))
        console.width = max(console.width, needed)
        console.print(table)
    said = [count_text(len(rows), "row")]
    if overview:
        entities = "1 entity" if len(rows) == 1 else f"{len(rows):,} entities"
        said = [entities, size_of(answer)]
    if cut:
        said.append(f"{len(rows) - len(shown):,} not shown")
    hint = "; all of them: -O FILE" if cut or overview else ""
    console.print(Text(", ".join(said) + hint), style="dim")


def size_of(answer: Mapping[str, Any]) -> str:
    """Return how many records, or rows of another kind, an answer has, in words."""
    result = answer.get("result")
    items = result if isinstance(result, list) else []
    told = bool(items) and all(_is_entity(item) and _records(item) is not None for item in items)
    return count_text(len(rows_of(answer)), "record" if told else "row")


def summaries(answer: Mapping[str, Any]) -> Iterator[str]:
    """Yield a line for each entity: its id, its state, what was cached, fetched and missing.

    And when upstream last changed what was final, if it has. None where the table has a row for
    each.
    """
    if _overview(answer):
        return
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
            if changed := stitch.get("changed_at"):
                parts.append(f"changed upstream {str(changed).removesuffix('T00:00:00Z')}")
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
        elif _records(entity) == [] and isinstance(answer.get("stitch"), dict):
            yield printable(f"{entity['id']} has no records{_asked(answer)}")
    if answer.get("next_offset") is not None:
        yield f"there is more; go on with offset={answer['next_offset']}"


def _overview(answer: Mapping[str, Any]) -> list[dict[str, Any]]:
    """Return a row for each of several entities with records; nothing for other answers."""
    result = answer.get("result")
    if not isinstance(result, list) or len(result) < 2 or not all(map(_is_entity, result)):
        return []
    records = [_records(entity) for entity in result]
    if all(found is None for found in records):
        return []
    return [
        {
            "id": entity["id"],
            "records": None if found is None else len(found),
            "state": entity.get("state"),
        }
        for entity, found in zip(result, records, strict=True)
    ]


def _asked(answer: Mapping[str, Any]) -> str:
    """Return from when to when a whole answer reaches, in words."""
    spans = sorted(
        (str(span[0]), str(span[1]))
        for name in ("cached", "fetched")
        for span in answer["stitch"].get(name) or []
        if isinstance(span, list) and len(span) == 2
    )
    return f" in {_span([spans[0][0], max(end for _, end in spans)])}" if spans else ""


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


def _dated(rows: list[dict[str, Any]], answer: Mapping[str, Any]) -> list[dict[str, Any]]:
    """Return rows with the day of each behind its time, where the answer says that they have some.

    A record that has a `date` of its own keeps that.
    """
    zone = zone_named(answer.get("dates"))
    if zone is None:
        return rows
    dated: list[dict[str, Any]] = []
    for row in rows:
        if "timestamp" in row and "date" not in row:
            day = local_date(row["timestamp"], zone)
            row = {"timestamp": row["timestamp"], "date": day, **row}
        dated.append(row)
    return dated


def _csv(rows: Sequence[Mapping[str, Any]], columns: Sequence[str]) -> str:
    if not columns:
        return ""
    buffer = io.StringIO()
    writer = csv.writer(buffer, lineterminator="\n")
    writer.writerow(columns)
    writer.writerows([_field(row.get(column)) for column in columns] for row in rows)
    return buffer.getvalue()


def _columnar(rows: Sequence[Mapping[str, Any]], columns: Sequence[str], format: Format) -> bytes:
    import polars as pl

    buffer = io.BytesIO()
    try:
        empty = None if rows else dict.fromkeys(columns, pl.Int64)
        frame = pl.DataFrame(rows, empty, infer_schema_length=None, strict=False)
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
    if isinstance(value, date):
        return value.isoformat()
    if isinstance(value, bool | list | dict):
        return msgspec.json.encode(value).decode()
    return value


def _is_number(column: str, value: object) -> bool:
    return isinstance(value, int | float) and column != "timestamp"


def _is_day(value: object) -> bool:
    """Whether an instant begins a day; what is no instant does not speak against it."""
    return not isinstance(value, int | float) or value % 86_400 == 0


def _cell(column: str, value: object, days: bool) -> str:
    """Return a value as a person reads it; `days`: instants are told without their time."""
    if value is None:
        return ""
    if column == "timestamp" and isinstance(value, int | float):
        try:
            at = datetime.fromtimestamp(value, UTC)
        except (ValueError, OverflowError, OSError):
            return str(value)
        return f"{at:%Y-%m-%d}" if days else f"{at:%Y-%m-%d %H:%M}"
    if isinstance(value, float):
        # What four places would all but wipe out keeps four digits.
        tiny = 0 < abs(value) < 0.001
        return f"{value:.4g}" if tiny else f"{value:.4f}".rstrip("0").rstrip(".")
    if isinstance(value, date):
        return value.isoformat()
    text = value if isinstance(value, str) else msgspec.json.encode(value).decode()
    return printable(text)
