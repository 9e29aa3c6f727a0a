"""What can be asked, as typed structs, and their form as JSON values.

Apart from the decoding so that the hub, plugins and the query language need no wire to use them.
"""

from __future__ import annotations

from typing import Any, Final, TypeAlias

import msgspec
from msgspec import Struct

from gapless.errors import InvalidQuery
from gapless.protocol.fresh import FRESH_WORDS, Fresh


class ById(Struct, frozen=True):
    """Entities with this id."""

    value: str


class BySource(Struct, frozen=True):
    """Entities of this source."""

    value: str


class ByState(Struct, frozen=True):
    """Entities in this state: ready, partial or stale."""

    value: str


class ByTags(Struct, frozen=True):
    """Entities that carry all of these tags."""

    values: tuple[str, ...]


class Ticker(Struct, frozen=True):
    """The series to answer from; makes the search a range search."""

    value: str


class DateRange(Struct, frozen=True):
    """A half-open range of record times; the bounds are texts for `times.parse_range`."""

    start: str
    end: str


class ByUpdatedAtRange(Struct, frozen=True):
    """A half-open range of `updated_at`; the bounds are texts for `times.parse_range`."""

    start: str
    end: str


class ByUrl(Struct, frozen=True):
    """Entities that came from this URL."""

    value: str


class Param(Struct, frozen=True):
    """A provider parameter, such as interval=1h."""

    name: str
    value: str


Filter: TypeAlias = (
    ById | BySource | ByState | ByTags | Ticker | DateRange | ByUpdatedAtRange | ByUrl | Param
)


class GetEntity(Struct, frozen=True):
    """One entity by id."""

    id: str


class GetEntities(Struct, frozen=True):
    """Those of these entities that are stored, in the order asked."""

    ids: tuple[str, ...]


class GetAllEntities(Struct, frozen=True):
    """A provider's stored entities, ordered by id; `None` leaves the choice to the hub."""

    limit: int | None = None
    offset: int | None = None


class SearchEntities(Struct, frozen=True):
    """What matches all filters; `limit` counts entities, never records."""

    query: tuple[Filter, ...]
    limit: int | None = None


class GetReport(Struct, frozen=True):
    """A report, for providers that have such a thing."""

    url: str


Request: TypeAlias = GetEntity | GetEntities | GetAllEntities | SearchEntities | GetReport


class ProviderList(Struct, frozen=True):
    """The sorted names of the providers."""


class ProviderRequest(Struct, frozen=True):
    """A request to one provider; `fresh`: how fresh a range search wants it, if it says so."""

    provider: str
    request: Request
    fresh: Fresh | None = None

    @property
    def request_kind(self) -> str:
        """The wire's name of the request, such as SearchEntities."""
        return type(self.request).__name__


class Describe(Struct, frozen=True):
    """What is known of a ticker beside its records."""

    provider: str
    ticker: str


class Ping(Struct, frozen=True):
    """Who answers, and with which limits."""


class Auth(Struct, frozen=True):
    """The envelope's token authenticates the connection."""


class Line(Struct, frozen=True):
    """A line of the query language, for `language.parse_line`; `fresh` was said beside it."""

    line: str
    fresh: Fresh | None = None


Query: TypeAlias = ProviderList | ProviderRequest | Describe | Ping | Auth | Line

MAX_COUNT: Final = 2**63 - 1
"""The largest limit or offset: what a database's integer holds."""

QUERY_TYPES: Final = ("ProviderList", "ProviderRequest", "Describe", "Ping", "Auth", "Line")
REQUEST_KINDS: Final = (
    "GetEntity",
    "GetEntities",
    "GetAllEntities",
    "SearchEntities",
    "GetReport",
)
FILTER_KINDS: Final = (
    "ById",
    "BySource",
    "ByState",
    "ByTags",
    "Ticker",
    "DateRange",
    "ByUpdatedAtRange",
    "ByUrl",
    "Param",
)


def fresh_word(text: object) -> Fresh:
    """Return the word that says how fresh an answer is wanted; raise `InvalidQuery` for others."""
    for word in FRESH_WORDS:
        if text == word:
            return word
    raise InvalidQuery(f"fresh={str(text)[:60]}: expected {', '.join(FRESH_WORDS)}")


def one_fresh(line: Fresh | None, beside: Fresh | None) -> Fresh | None:
    """Return the word that a line or what came beside it says; raise `InvalidQuery` for two."""
    if line is not None and beside is not None and line != beside:
        raise InvalidQuery(f"the line says fresh={line}, and the request fresh={beside}: say one")
    return line or beside


def filter_to_wire(item: Filter) -> dict[str, Any]:
    """Return the filter externally tagged, as JSON values."""
    match item:
        case ByTags(values):
            return {"ByTags": list(values)}
        case DateRange() | ByUpdatedAtRange() | Param():
            return {type(item).__name__: msgspec.structs.asdict(item)}
        case _:
            return {type(item).__name__: item.value}


def request_to_wire(request: Request) -> dict[str, Any]:
    """Return the request externally tagged, as JSON values: what plugins get."""
    fields = msgspec.structs.asdict(request)
    if isinstance(request, SearchEntities):
        fields["query"] = [filter_to_wire(item) for item in request.query]
    elif isinstance(request, GetEntities):
        fields["ids"] = list(request.ids)
    return {type(request).__name__: fields}
