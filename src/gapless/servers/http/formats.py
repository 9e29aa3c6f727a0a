"""The formats of an HTTP data answer, and which of them a request asks for.

Apart from writing them, so that the choice is a function of two strings.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from enum import StrEnum

from gapless.errors import InvalidQuery, RequestError


class Format(StrEnum):
    """How records are written; the value is what `?format=` says."""

    JSON = "json"
    NDJSON = "ndjson"
    CSV = "csv"
    ARROW = "arrow"
    PARQUET = "parquet"

    @property
    def media_type(self) -> str:
        """The `Content-Type` of an answer."""
        return _MEDIA_TYPES[self]

    @property
    def suffix(self) -> str:
        """How a file of this format ends, dot included."""
        return f".{self.value}"

    @property
    def is_text(self) -> bool:
        """Whether it is worth compressing on the way."""
        return self in (Format.JSON, Format.NDJSON, Format.CSV)

    @property
    def columnar(self) -> bool:
        """Whether it has columns, so that the schema of all records is needed to begin."""
        return self not in (Format.JSON, Format.NDJSON)


class NotAcceptable(RequestError):
    """None of the formats is among those that the Accept header allows (HTTP 406)."""

    code = "invalid_query"


_MEDIA_TYPES: Mapping[Format, str] = {
    Format.JSON: "application/json",
    Format.NDJSON: "application/x-ndjson",
    Format.CSV: "text/csv; charset=utf-8",
    Format.ARROW: "application/vnd.apache.arrow.stream",
    Format.PARQUET: "application/vnd.apache.parquet",
}
# The names by which an Accept header may ask for a format. The Arrow file format is not among
# them: only the stream can be written while it is being read.
_ACCEPTED: Mapping[Format, tuple[str, ...]] = {
    Format.JSON: ("application/json",),
    Format.NDJSON: ("application/x-ndjson", "application/ndjson", "application/jsonl"),
    Format.CSV: ("text/csv",),
    Format.ARROW: ("application/vnd.apache.arrow.stream",),
    Format.PARQUET: ("application/vnd.apache.parquet", "application/parquet"),
}
_ALIASES: Mapping[str, Format] = {
    "arrows": Format.ARROW,
    "ipc": Format.ARROW,
    "jsonl": Format.NDJSON,
}

_TOKEN = r"[!#$%&'+.^_`|~0-9a-z-]+"  # the grammar's word for a name
_RANGE = re.compile(rf"\*/\*|{_TOKEN}/(?:\*|{_TOKEN})")
_WEIGHT = re.compile(r"0(?:\.[0-9]{0,3})?|1(?:\.0{0,3})?")


def negotiate(accept: str | None, asked: str | None = None) -> Format:
    """Return the format to answer in.

    `asked` is what `?format=` or a suffix says, in any case, with or without a dot, and wins
    over `accept`, the Accept header (RFC 9110, 12.5.1). Of formats with equal weight the one that
    is named most precisely is taken, then the one that is named first, then JSON before the rest.
    Parts of the header that are malformed are ignored; where nothing is left, JSON is the answer.

    Raises `InvalidQuery` for an `asked` that is no format, `NotAcceptable` where the header
    allows none.
    """
    if asked is not None:
        return _named(asked)
    ranges = list(_ranges(accept or ""))
    if not ranges:
        return Format.JSON
    best = max(Format, key=lambda format: _fit(format, ranges))
    if not _fit(best, ranges)[0]:
        raise NotAcceptable(
            "nothing that the Accept header allows can be written; there are "
            + ", ".join(names[0] for names in _ACCEPTED.values())
        )
    return best


def _named(asked: str) -> Format:
    name = asked.lower().removeprefix(".")
    if name in _ALIASES:
        return _ALIASES[name]
    try:
        return Format(name)
    except ValueError:
        there = ", ".join(Format)
        raise InvalidQuery(f"there is no format {asked[:40]!r}; there are {there}") from None


@dataclass(frozen=True, slots=True)
class _Range:
    """One part of an Accept header: `*/*`, `type/*` or `type/subtype`, and its weight."""

    name: str
    weight: float
    place: int

    def precision(self, names: tuple[str, ...]) -> int:
        """Return how precisely it names one of `names`, 3 at best; 0: it does not."""
        if self.name in names:
            return 3
        if self.name == "*/*":
            return 1
        kind, _, rest = self.name.partition("/")
        return 2 if rest == "*" and any(name.startswith(f"{kind}/") for name in names) else 0


def _fit(format: Format, ranges: list[_Range]) -> tuple[float, int, int]:
    """Return how welcome a format is: weight, precision and place of what names it best."""
    fits = [
        (precision, one.weight, -one.place)
        for one in ranges
        if (precision := one.precision(_ACCEPTED[format]))
    ]
    if not fits:
        return 0.0, 0, 0
    # The most precise range decides, whatever weight broader ones have.
    precision, weight, place = max(fits)
    return weight, precision, place


def _ranges(accept: str) -> Iterator[_Range]:
    """Yield the well-formed parts of an Accept header.

    Parameters other than the weight are passed over. A comma within a quoted one splits it, and
    what follows is malformed: none of our types has such a parameter, and the cost stays linear.
    """
    for place, part in enumerate(accept.lower().split(",")):
        name, *parameters = (piece.strip(" \t") for piece in part.split(";"))
        if not _RANGE.fullmatch(name):
            continue
        weight = _weight(parameters)
        if weight is not None:
            yield _Range(name, weight, place)


def _weight(parameters: list[str]) -> float | None:
    """Return the weight among a range's parameters, 1 without; `None`: they are malformed."""
    weight = 1.0
    for parameter in parameters:
        key, equals, value = parameter.partition("=")
        if parameter and not (key and equals):
            return None
        if key == "q":
            if not _WEIGHT.fullmatch(value):
                return None
            weight = float(value)
    return weight
