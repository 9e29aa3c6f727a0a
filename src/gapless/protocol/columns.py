"""Records as columns: which there are, of what kind, and the values of each.

Records are texts here: JSON objects joined by commas, without brackets. Apart from who has them,
because the hub's bulk formats and a client's frames must come out alike. Everything here blocks.
"""

from __future__ import annotations

import sys
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from datetime import UTC, date
from enum import StrEnum
from functools import cached_property, lru_cache
from itertools import chain
from operator import attrgetter
from typing import TYPE_CHECKING, Annotated, Any, Final, TypeAlias

import msgspec

from gapless.errors import InvalidQuery
from gapless.zones import local_date, zone_named

if TYPE_CHECKING:
    import polars as pl


class Kind(StrEnum):
    """What the values of a column are; each may also be null or missing.

    `NULL`: nothing else. `INT`: within 64 bits. `FLOAT`: also integers, where one value is a float
    or beyond 64 bits (the nearest float stands for those that have none of their own). `TEXT`:
    strings. `JSON`: anything else, nested values and mixtures, each as its JSON text. `DATE`: days
    that are made of the records' times; no record has such a value by itself.
    """

    NULL = "null"
    BOOL = "bool"
    INT = "int"
    FLOAT = "float"
    TEXT = "text"
    JSON = "json"
    DATE = "date"

    def joined(self, other: Kind) -> Kind:
        """Return the narrowest kind that takes the values of both."""
        if self is other or other is Kind.NULL:
            return self
        if self is Kind.NULL:
            return other
        return Kind.FLOAT if {self, other} == _NUMBERS else Kind.JSON


DATE: Final = "date"
"""The column of the days of bars of a day or longer."""

_TIME = "timestamp"
_NUMBERS = {Kind.INT, Kind.FLOAT}
_LEAST, _MOST = -(2**63), 2**63 - 1
_TYPES: Mapping[Kind, Any] = {
    Kind.NULL: None,
    Kind.BOOL: bool | None,
    Kind.INT: Annotated[int, msgspec.Meta(ge=_LEAST, le=_MOST)] | None,
    Kind.FLOAT: float | None,
    Kind.TEXT: str | None,
    Kind.JSON: msgspec.Raw,
}
_NULL = msgspec.Raw(b"null")
_Decoder: TypeAlias = msgspec.json.Decoder[Any]


@dataclass(frozen=True, slots=True)
class Schema:
    """The columns of an answer as (name, kind), in the order in which they were first met.

    `declared` are those that the provider says there may be, whether a record has them or not.
    `dates` is the time zone in which the records have dates, a name of the tz database; `None`:
    they have none, being of less than a day.
    """

    columns: tuple[tuple[str, Kind], ...] = ()
    declared: tuple[str, ...] = ()
    dates: str | None = None

    @property
    def names(self) -> tuple[str, ...]:
        """The names of the columns, in order."""
        return tuple(name for name, _ in self.columns)

    def select(self, columns: Sequence[str] | None = None) -> Schema:
        """Return the schema of these columns, in this order; `None`: of all there are.

        Where no record has a column, all there are is what is declared. A declared column that
        no record has is null throughout. Where the records have dates, there is a column of them
        behind `timestamp`, unless a record has one of that name. Where nothing is known, neither by
        a record nor by the provider, any name is taken: an empty answer is no error.

        Raises `InvalidQuery` for a column that is not there, or is named twice, or for none.
        """
        own = dict(self.columns)
        kinds = self._dated(own | {name: Kind.NULL for name in self.declared if name not in own})
        if columns is None:
            there = self._dated(own) if own else kinds
            return replace(self, columns=tuple(there.items()))
        if not columns:
            raise InvalidQuery("name at least one column, or leave `columns` out for all")
        seen: set[str] = set()
        for name in columns:
            if kinds and name not in kinds:
                raise InvalidQuery(
                    f"there is no column {name[:80]!r}; there are {', '.join(kinds)}"
                )
            if name in seen:
                raise InvalidQuery(f"column {name[:80]!r} is named twice; name it once")
            seen.add(name)
        chosen = tuple((name, kinds.get(name, Kind.NULL)) for name in columns)
        return replace(self, columns=chosen)

    @property
    def stored(self) -> tuple[tuple[str, Kind], ...]:
        """The columns that are read from the records: without dates, but with what they are of."""
        found = tuple((name, kind) for name, kind in self.columns if kind is not Kind.DATE)
        if len(found) < len(self.columns) and all(name != _TIME for name, _ in found):
            return (*found, (_TIME, Kind.FLOAT))
        return found

    def _dated(self, kinds: Mapping[str, Kind]) -> Mapping[str, Kind]:
        """Return columns with that of dates behind the times, where the records have dates."""
        if self.dates is None or DATE in kinds or DATE in self.declared:
            return kinds
        if kinds.get(_TIME) not in (Kind.INT, Kind.FLOAT, Kind.NULL):
            return kinds
        dated: dict[str, Kind] = {}
        for name, kind in kinds.items():
            dated[name] = kind
            if name == _TIME:
                dated[DATE] = Kind.DATE
        return dated


NOTHING_KNOWN: Final = Schema()
"""The schema of records of which nothing is known."""


def merge(a: Schema, b: Schema) -> Schema:
    """Return the schema of the records of both; the columns of `a` come first."""
    kinds = dict(a.columns)
    for name, kind in b.columns:
        kinds[name] = kinds[name].joined(kind) if name in kinds else kind
    declared = tuple(dict.fromkeys((*a.declared, *b.declared)))
    return Schema(tuple(kinds.items()), declared, a.dates or b.dates)


class Shape:
    """Decodes records by a schema; what decodes is made once, on first use.

    Columns that the schema does not have are skipped, which costs less than decoding them.
    """

    def __init__(self, schema: Schema) -> None:
        self.schema = schema

    def fits(self, text: bytes) -> bool:
        """Whether every record has only columns of the schema, with values of their kinds.

        False where that cannot be told without looking at each value.
        """
        return self.read(text) is not None

    def read(self, text: bytes) -> list[Any] | None:
        """Return the records decoded, for `lists`; `None` where they do not fit."""
        if self._exact is None:
            return None
        try:
            rows: list[Any] = self._exact.decode(_array(text))
        except msgspec.ValidationError:
            return None
        return rows

    def lists(self, rows: list[Any]) -> list[list[Any]]:
        """Return the values of each column of records that were `read`; see `values`."""
        stored = [
            _plain(kind, list(map(attrgetter(f"c{i}"), rows)))
            for i, (_, kind) in enumerate(self.schema.stored)
        ]
        return self._whole(stored)

    def values(self, text: bytes) -> list[list[Any]]:
        """Return the values of each column, each a list with one for every record.

        What a record lacks is `None`; a `JSON` column has the JSON texts of its values, a `DATE`
        column dates.

        Raises `msgspec.ValidationError` where a value is not of its column's kind, that is,
        where the schema is not that of the records.
        """
        text = _array(text)
        if self._typed is not None:
            return self.lists(self._typed.decode(text))
        raw = _raw_rows(text)
        stored = [
            _plain(kind, _decoded(kind, [row.get(name, _NULL) for row in raw]))
            for name, kind in self.schema.stored
        ]
        return self._whole(stored)

    def rows(self, text: bytes) -> list[Any]:
        """Return the records with the schema's columns alone, for the encoder of msgspec.

        The texts of the values stay as they are, none is parsed; what a record lacks is null.
        """
        text = _array(text)
        names = self.schema.names
        if self._dates is not None:
            raw = _raw_rows(text)
            texts = [row.get(_TIME, _NULL) for row in raw]
            dates = self._dates(msgspec.json.decode(_array(b",".join(texts)), type=list[Any]))
            return [
                {name: date if name == DATE else row.get(name, _NULL) for name in names}
                for row, date in zip(raw, dates, strict=True)
            ]
        if self._raw is not None:
            rows: list[Any] = self._raw.decode(text)
            return rows
        return [{name: row.get(name, _NULL) for name in names} for row in _raw_rows(text)]

    def _whole(self, stored: list[list[Any]]) -> list[list[Any]]:
        """Return the values of all columns by those that are stored."""
        if self._dates is None:
            return stored
        values = {
            name: column for (name, _), column in zip(self.schema.stored, stored, strict=True)
        }
        values[DATE] = self._dates(values[_TIME])
        return [values[name] for name in self.schema.names]

    @cached_property
    def _dates(self) -> Callable[[Iterable[Any]], list[date | None]] | None:
        """What makes dates of times in Unix seconds; `None`: there is no column of them."""
        if all(kind is not Kind.DATE for _, kind in self.schema.columns):
            return None
        zone = zone_named(self.schema.dates)
        return lambda times: [local_date(at, zone or UTC) for at in times]

    @cached_property
    def _exact(self) -> _Decoder | None:
        return _decoder(self.schema.stored, _TYPES, exact=True)

    @cached_property
    def _typed(self) -> _Decoder | None:
        return _decoder(self.schema.stored, _TYPES)

    @cached_property
    def _raw(self) -> _Decoder | None:
        return _decoder(self.schema.columns, dict.fromkeys(Kind, msgspec.Raw))


def frame_of_text(
    text: bytes,
    few: Sequence[bytes] | None = None,
    known: Schema = NOTHING_KNOWN,
    columns: Sequence[str] | None = None,
) -> pl.DataFrame:
    """Return records whose schema is not known as a frame; see `framed`.

    What a few look like is checked while all are decoded; where that does not fit, every value is
    looked at. `few` are the first and some others, taken from the text where it is `None`.
    `known` has what is known of their schema before they are looked at, `columns` are those of
    `Schema.select`.

    Raises `InvalidQuery` as `Schema.select`, and `msgspec.ValidationError` for what are no objects.
    """
    if few is None:
        records = msgspec.json.decode(_array(text), type=list[msgspec.Raw])
        few = [bytes(records[i]) for i in (0, len(records) // 2, len(records) - 1) if records]
    seen = looked_at(b",".join(few))
    # Columns come from the first record alone: one that a later record begins has its place by
    # that record.
    rows = _shape(seen).read(text) if few and seen.names == looked_at(few[0]).names else None
    schema = seen if rows is not None or not few else looked_at(text)
    chosen = replace(known, columns=schema.columns).select(columns)
    if rows is not None and chosen.stored == seen.columns:
        return _frame(chosen, _shape(chosen).lists(rows))
    return framed([text] if few else (), _shape(chosen))


@lru_cache(maxsize=32)
def _shape(schema: Schema) -> Shape:
    """Return the shape of a schema; making its decoders takes longer than reading 252 records."""
    return Shape(schema)


def framed(texts: Iterable[bytes], shape: Shape) -> pl.DataFrame:
    """Return records as a frame of exactly the shape's schema, in one chunk.

    `BOOL`, `INT`, `FLOAT` become Boolean, Int64, Float64, and `TEXT` and `JSON` String. A column
    of nothing but nulls is Null: its type is not known, and Null gives way to any other when
    frames are put together, where a guess would not. `timestamp` stays the number it is, Unix
    seconds.

    Raises `msgspec.ValidationError` where the schema is not that of the records.
    """
    parts = [shape.values(text) for text in texts if text and shape.schema.columns]
    if len(parts) <= 1:
        return _frame(shape.schema, parts[0] if parts else [[] for _ in shape.schema.columns])
    # Put together as lists: frames of this size cost more to join than to make.
    return _frame(shape.schema, [list(chain(*lists)) for lists in zip(*parts, strict=True)])


def _frame(schema: Schema, columns: list[list[Any]]) -> pl.DataFrame:
    """Return the frame that has these values."""
    import polars as pl

    types = frame_types(schema).items()
    return pl.DataFrame(
        {
            name: pl.Series(values, dtype=dtype, strict=True)
            for (name, dtype), values in zip(types, columns, strict=True)
        }
    )


def frame_types(schema: Schema) -> dict[str, Any]:
    """Return the polars type of each column."""
    import polars as pl

    types = {
        Kind.NULL: pl.Null,
        Kind.BOOL: pl.Boolean,
        Kind.INT: pl.Int64,
        Kind.FLOAT: pl.Float64,
        Kind.TEXT: pl.String,
        Kind.JSON: pl.String,
        Kind.DATE: pl.Date,
    }
    return {name: types[kind] for name, kind in schema.columns}


def looked_at(text: bytes) -> Schema:
    """Return the schema of records, by looking at every value."""
    kinds: dict[str, Kind] = {}
    for row in msgspec.json.decode(_array(text), type=list[dict[str, Any]]):
        for name, value in row.items():
            kind = _kind(value)
            known = kinds.get(name)
            if known is not kind:
                kinds[name] = kind if known is None else known.joined(kind)
    return Schema(tuple(kinds.items()))


def _kind(value: object) -> Kind:
    # bool first: it is an int, too.
    if isinstance(value, bool):
        return Kind.BOOL
    if isinstance(value, float):
        return Kind.FLOAT
    if isinstance(value, int):
        if _LEAST <= value <= _MOST:
            return Kind.INT
        return Kind.FLOAT if abs(value) <= sys.float_info.max else Kind.JSON
    if isinstance(value, str):
        return Kind.TEXT
    return Kind.NULL if value is None else Kind.JSON


def _decoder(
    columns: Sequence[tuple[str, Kind]], types: Mapping[Kind, Any], *, exact: bool = False
) -> _Decoder | None:
    """Return what decodes records into objects with attributes `c0`, `c1` … for the columns.

    `exact`: a record with a further column is refused; else the column is skipped. `None`: a
    name has characters that the name of a struct's field cannot have.
    """
    fields = [
        (f"c{i}", types[kind], _NULL if types[kind] is msgspec.Raw else None)
        for i, (_, kind) in enumerate(columns)
    ]
    names = {f"c{i}": name for i, (name, _) in enumerate(columns)}
    try:
        # The rows are many, short-lived and without cycles: not the collector's business.
        row = msgspec.defstruct("Row", fields, rename=names, forbid_unknown_fields=exact, gc=False)
    except ValueError:
        return None
    return msgspec.json.Decoder(list[row])  # type: ignore[valid-type]


def _decoded(kind: Kind, texts: Iterable[msgspec.Raw]) -> list[Any]:
    """Return the values that the texts of a column say."""
    kinds: Any = list[_TYPES[kind]]  # type: ignore[valid-type]
    values: list[Any] = msgspec.json.decode(_array(b",".join(texts)), type=kinds)
    return values


def _plain(kind: Kind, values: list[Any]) -> list[Any]:
    """Return the values of a column, with JSON texts instead of undecoded ones."""
    if kind is not Kind.JSON:
        return values
    return [None if text == b"null" else text.decode() for text in map(bytes, values)]


def _raw_rows(text: bytes) -> list[dict[str, msgspec.Raw]]:
    return msgspec.json.decode(text, type=list[dict[str, msgspec.Raw]])


def _array(joined: bytes) -> bytes:
    return b"[%b]" % joined
