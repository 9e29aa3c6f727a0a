"""What can be asked, as typed structs, and their form as JSON values.

Apart from the decoding so that the hub, plugins and the query language need no wire to use them.
The three unions are the one list of what there is: the wire's names are those of the structs, and
decoding, encoding and the query language are derived from their fields. A struct is named there
and in `__all__`, and nowhere else in this room.
"""

from __future__ import annotations

from typing import Any, ClassVar, Final, Literal, NamedTuple, TypeAlias, get_args

from msgspec import Struct

from gapless.errors import InvalidQuery
from gapless.protocol.fresh import FRESH_WORDS, Fresh

__all__ = [  # noqa: RUF022 - grouped by use, not by alphabet
    # filters
    "ById",
    "BySource",
    "ByState",
    "ByTags",
    "ByUpdatedAtRange",
    "ByUrl",
    "DateRange",
    "Filter",
    "Param",
    "Ticker",
    "filter_to_wire",
    # requests to a provider
    "GetAllEntities",
    "GetEntities",
    "GetEntity",
    "GetReport",
    "Request",
    "SearchEntities",
    "request_to_wire",
    # how fresh
    "fresh_word",
    "one_fresh",
    # queries
    "Auth",
    "Describe",
    "Line",
    "Ping",
    "ProviderList",
    "ProviderRequest",
    "Query",
    "ToProvider",
    "query_to_wire",
    # what there is, and how it is said
    "FILTERS",
    "FILTER_KINDS",
    "MAX_COUNT",
    "QUERIES",
    "QUERY_TYPES",
    "REQUESTS",
    "REQUEST_KINDS",
    "Word",
]


class Word(NamedTuple):
    """How the query language says something: a word, what help tells of it, and its aliases."""

    text: str
    about: str
    aliases: tuple[str, ...] = ()


class _Filter(Struct, frozen=True, gc=False):
    """What a filter is beside its fields.

    The wire has a single field bare, and several as an object. `key` is how the query language
    says it; `None`: by no key of its own. `concerns`: it tells which `range` is meant; or `any`
    entity, stored or stitched, is held against it; or those that are `stored` alone, and no
    stitched one matches.
    """

    key: ClassVar[Word | None] = None
    concerns: ClassVar[Literal["range", "any", "stored"]] = "any"

    def texts(self) -> tuple[str, ...]:
        """Return all texts that it holds."""
        values = [getattr(self, name) for name in self.__struct_fields__]
        return tuple(text for one in values for text in ((one,) if isinstance(one, str) else one))


class ById(_Filter, frozen=True):
    """Entities with this id."""

    key = Word("id", "stored entities")
    concerns = "stored"

    value: str


class BySource(_Filter, frozen=True):
    """Entities of this source."""

    key = Word("source", "stored entities")

    value: str


class ByState(_Filter, frozen=True):
    """Entities in this state: ready, partial or stale."""

    key = Word("state", "ready, partial or stale")

    value: str


class ByTags(_Filter, frozen=True):
    """Entities that carry all of these tags."""

    key = Word("tags", "stored entities with all of these", ("tag",))

    values: tuple[str, ...]


class Ticker(_Filter, frozen=True):
    """The series to answer from; makes the search a range search."""

    key = Word("ticker", "a history, stitched")
    concerns = "range"

    value: str


class DateRange(_Filter, frozen=True):
    """A half-open range of record times; the bounds are texts for `times.parse_range`."""

    key = Word("date", "its range, A..B, 30d, 1y, ytd or max", ("date_range", "daterange"))
    concerns = "range"

    start: str
    end: str


class ByUpdatedAtRange(_Filter, frozen=True):
    """A half-open range of `updated_at`; the bounds are texts for `times.parse_range`."""

    key = Word("updated", "stored entities that changed then", ("updated_at", "updated_range"))

    start: str
    end: str


class ByUrl(_Filter, frozen=True):
    """Entities that came from this URL."""

    key = Word("url", "stored entities from there")
    concerns = "stored"

    value: str


class Param(_Filter, frozen=True):
    """A provider parameter, such as interval=1h."""

    concerns = "range"

    name: str
    value: str


Filter: TypeAlias = (
    ById | BySource | ByState | ByTags | Ticker | DateRange | ByUpdatedAtRange | ByUrl | Param
)


class _Spoken(Struct, frozen=True, gc=False):
    """`verb` is how the query language asks for it of a provider; `None`: not so."""

    verb: ClassVar[Word | None] = None


class GetEntity(_Spoken, frozen=True):
    """One entity by id."""

    verb = Word("get", "ID")

    id: str


class GetEntities(_Spoken, frozen=True):
    """Those of these entities that are stored, in the order asked."""

    verb = Word("get-many", "ID1,ID2,…", ("getmany",))

    ids: tuple[str, ...]


class GetAllEntities(_Spoken, frozen=True):
    """A provider's stored entities, ordered by id; `None` leaves the choice to the hub."""

    verb = Word("all", "[limit=N] [offset=N]", ("get-all",))

    limit: int | None = None
    offset: int | None = None


class SearchEntities(_Spoken, frozen=True):
    """What matches all filters; `limit` counts entities, never records."""

    verb = Word("search", "ticker=… [date=A..B] [fresh=…] [PARAM=VALUE …] | KEY=VALUE … [limit=N]")

    query: tuple[Filter, ...]
    limit: int | None = None


class GetReport(_Spoken, frozen=True):
    """A report, for providers that have such a thing."""

    verb = Word("report", "url=URL", ("record",))

    url: str


Request: TypeAlias = GetEntity | GetEntities | GetAllEntities | SearchEntities | GetReport


class _Query(_Spoken, frozen=True):
    """What stands in an envelope."""

    @property
    def kind(self) -> str:
        """The `kind` of its answer."""
        return type(self).__name__


class ProviderList(_Query, frozen=True):
    """The sorted names of the providers."""


class ProviderRequest(_Query, frozen=True):
    """A request to one provider; `fresh`: how fresh a range search wants it, if it says so."""

    provider: str
    request: Request
    fresh: Fresh | None = None

    @property
    def request_kind(self) -> str:
        """The wire's name of the request, such as SearchEntities."""
        return type(self.request).__name__


class Describe(_Query, frozen=True):
    """What is known of a ticker beside its records."""

    verb = Word("describe", "TICKER")

    provider: str
    ticker: str


class Ping(_Query, frozen=True):
    """Who answers, and with which limits."""


class Auth(_Query, frozen=True):
    """The envelope's token authenticates the connection."""


class Line(_Query, frozen=True):
    """A line of the query language, for `language.parse_line`; `fresh` was said beside it."""

    line: str
    fresh: Fresh | None = None

    @property
    def kind(self) -> str:
        """Until it is read it counts as what it says most often."""
        return ProviderRequest.__name__


ToProvider: TypeAlias = ProviderRequest | Describe
"""What one provider is asked."""

Query: TypeAlias = ProviderList | ToProvider | Ping | Auth | Line

FILTERS: Final[tuple[type[Filter], ...]] = get_args(Filter)
REQUESTS: Final[tuple[type[Request], ...]] = get_args(Request)
QUERIES: Final[tuple[type[Query], ...]] = get_args(Query)

FILTER_KINDS: Final = tuple(one.__name__ for one in FILTERS)
REQUEST_KINDS: Final = tuple(one.__name__ for one in REQUESTS)
QUERY_TYPES: Final = tuple(one.__name__ for one in QUERIES)

MAX_COUNT: Final = 2**63 - 1
"""The largest limit or offset: what a database's integer holds."""


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
    fields = _fields(item)
    return {type(item).__name__: fields if len(fields) > 1 else fields.popitem()[1]}


def request_to_wire(request: Request) -> dict[str, Any]:
    """Return the request externally tagged, as JSON values: what plugins get."""
    return {type(request).__name__: _fields(request)}


def query_to_wire(query: Query) -> dict[str, Any]:
    """Return the query as JSON values; how fresh it is wanted is said beside it."""
    fields = _fields(query)
    fields.pop("fresh", None)
    tagged: dict[str, Any] = {"type": type(query).__name__}
    return {**tagged, "payload": fields} if fields else tagged


def _fields(of: Filter | Request | Query) -> dict[str, Any]:
    return {name: _value(getattr(of, name)) for name in of.__struct_fields__}


def _value(value: Any) -> Any:
    if isinstance(value, tuple):
        return list(map(_value, value))
    if isinstance(value, Filter):
        return filter_to_wire(value)
    return request_to_wire(value) if isinstance(value, Request) else value
