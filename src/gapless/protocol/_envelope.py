"""Request lines to typed queries and back: every check a line must pass is here.

Apart because it is what strangers' bytes meet first. Decoding never raises: whatever the bytes
are, the result is an `Envelope` or a `Rejected` that carries the request's id where it could be
read.
"""

from __future__ import annotations

import json
import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from types import MappingProxyType
from typing import Annotated, Any, Final, Literal

import msgspec
from msgspec import UNSET, Raw, Struct, UnsetType

from gapless.errors import GaplessError, InvalidEnvelope, InvalidJson, InvalidQuery
from gapless.protocol._answers import (
    KIND_INVALID_JSON,
    KIND_PROVIDER_REQUEST,
    PROTOCOL_VERSION,
    encode_error,
)
from gapless.protocol._queries import (
    FILTER_KINDS,
    MAX_COUNT,
    QUERY_TYPES,
    REQUEST_KINDS,
    Auth,
    ById,
    BySource,
    ByState,
    ByTags,
    ByUpdatedAtRange,
    ByUrl,
    DateRange,
    Describe,
    Filter,
    GetAllEntities,
    GetEntities,
    GetEntity,
    GetReport,
    Line,
    Param,
    Ping,
    ProviderList,
    ProviderRequest,
    Query,
    SearchEntities,
    Ticker,
    request_to_wire,
)
from gapless.protocol.fresh import FRESH_WORDS, Fresh


class Envelope(Struct, frozen=True):
    """One request, wholly validated but for what only the hub can know.

    `request_id` is the JSON text of a scalar, to be echoed verbatim. `token` is the envelope's
    `token`, or else its `access_token`. `inline_records`: a range of more records is answered
    without them, and says how many there are and where HTTP has them; `None`: never. `facts`: a
    range is answered with what is known of its ticker.
    """

    request_id: bytes
    query: Query
    token: str | None = None
    data_as_array: bool = False
    strict: bool = False
    ordered: bool = True
    inline_records: int | None = None
    facts: bool = False


@dataclass(frozen=True, slots=True)
class Rejected:
    """A line that is no request: what to answer, under the id it came with."""

    request_id: bytes
    error: GaplessError
    kind: str = KIND_INVALID_JSON
    provider: str | None = None
    request_kind: str | None = None


class _Outer(Struct):
    query: Raw
    request_id: Raw = Raw(b"null")
    token: str | None = None
    access_token: str | None = None
    data_as: Literal["string", "array"] | None = None
    strict: bool | None = None
    ordered: bool | None = None
    inline_records: Annotated[int, msgspec.Meta(ge=0, le=MAX_COUNT)] | None = None
    fresh: Fresh | None = None
    facts: bool | None = None


class _IdOnly(Struct):
    request_id: Raw = Raw(b"null")


class _FilterBox(Struct, forbid_unknown_fields=True):
    """An externally tagged filter as msgspec can read it: exactly one of these must be there."""

    Ticker: str | UnsetType = UNSET
    DateRange: DateRange | UnsetType = UNSET
    Param: Param | UnsetType = UNSET
    ById: str | UnsetType = UNSET
    BySource: str | UnsetType = UNSET
    ByState: str | UnsetType = UNSET
    ByTags: tuple[str, ...] | UnsetType = UNSET
    ByUpdatedAtRange: ByUpdatedAtRange | UnsetType = UNSET
    ByUrl: str | UnsetType = UNSET


class _SearchBox(Struct):
    query: list[_FilterBox]
    limit: int | None = None


class _RequestBox(Struct, forbid_unknown_fields=True):
    """An externally tagged request: exactly one of these must be there."""

    SearchEntities: _SearchBox | UnsetType = UNSET
    GetEntity: GetEntity | UnsetType = UNSET
    GetEntities: GetEntities | UnsetType = UNSET
    GetAllEntities: GetAllEntities | UnsetType = UNSET
    GetReport: GetReport | UnsetType = UNSET


class _ProviderPayload(Struct):
    provider: str
    request: _RequestBox


class _ProviderRequest(Struct, tag_field="type", tag="ProviderRequest"):
    payload: _ProviderPayload


class _Describe(Struct, tag_field="type", tag="Describe"):
    payload: Describe


class _ProviderList(Struct, tag_field="type", tag="ProviderList"):
    pass


class _Ping(Struct, tag_field="type", tag="Ping"):
    pass


class _Auth(Struct, tag_field="type", tag="Auth"):
    pass


class _LinePayload(Struct):
    line: str


class _Line(Struct, tag_field="type", tag="Line"):
    payload: _LinePayload


_OUTER: Final = msgspec.json.Decoder(_Outer)
_ID_ONLY: Final = msgspec.json.Decoder(_IdOnly)
_QUERY: Final = msgspec.json.Decoder(
    _ProviderRequest | _Describe | _ProviderList | _Ping | _Auth | _Line
)
_PAIRS: Final = json.JSONDecoder(
    # Only the keys matter; the numbers' texts are kept because int() refuses very long ones.
    object_pairs_hook=list,
    parse_int=str,
    parse_float=str,
)
_KEY: Final = re.compile(rb'"(?=([^"]*+)"[ \t\r\n]*+:)')
_NULL_ID: Final = b"null"
_REQUEST_PATH: Final = "query.payload.request"
_SEARCH_PATH: Final = "query.payload.request.SearchEntities"
_QUERY_KEY: Final = b'"query":'


def decode_envelope(line: bytes) -> Envelope | Rejected:
    """Read one line as a request; never raises, whatever the bytes are."""
    try:
        if not line.isascii():
            # msgspec steps over ignored keys and request_id without looking at their UTF-8.
            line.decode()
        outer = _OUTER.decode(line)
        request_id = bytes(outer.request_id)
        raw_query = bytes(outer.query)
    except (msgspec.MsgspecError, UnicodeDecodeError, RecursionError) as error:
        return _reject(line, error, "")
    if request_id[0] in b"[{":
        return Rejected(
            _NULL_ID,
            InvalidEnvelope("request_id: expected a string, number, boolean or null"),
        )
    try:
        if (key := _duplicate_key(line, raw_query)) is not None:
            return Rejected(
                request_id,
                InvalidEnvelope(f"{_cut(key)}: this key is there more than once"),
            )
        query = _query(_QUERY.decode(raw_query), outer.fresh)
    except GaplessError as error:
        return Rejected(request_id, error)
    except _InvalidCount as error:
        return error.rejected(request_id)
    except (msgspec.MsgspecError, RecursionError) as error:
        return _reject(line, error, "query")
    return Envelope(
        request_id,
        query,
        outer.token or outer.access_token or None,
        outer.data_as == "array",
        outer.strict is True,
        outer.ordered is not False,
        outer.inline_records,
        outer.facts is True,
    )


class _InvalidCount(Exception):
    """A limit or offset out of range: the request was read, so the answer can name it."""

    def __init__(self, provider: str, request_kind: str, message: str) -> None:
        super().__init__(message)
        self.provider = provider
        self.request_kind = request_kind

    def rejected(self, request_id: bytes) -> Rejected:
        return Rejected(
            request_id,
            InvalidQuery(str(self)),
            KIND_PROVIDER_REQUEST,
            self.provider,
            self.request_kind,
        )


def _query(
    tagged: _ProviderRequest | _Describe | _ProviderList | _Ping | _Auth | _Line,
    fresh: Fresh | None,
) -> Query:
    if isinstance(tagged, _ProviderRequest):
        payload = tagged.payload
        box = payload.request
        kind = _request_kind(box)
        request = getattr(box, kind)
        if kind == "SearchEntities":
            _check_count(request.limit, "limit", payload.provider, kind)
            filters = tuple([_filter(item, i) for i, item in enumerate(request.query)])
            request = SearchEntities(filters, request.limit)
        elif kind == "GetAllEntities":
            _check_count(request.limit, "limit", payload.provider, kind)
            _check_count(request.offset, "offset", payload.provider, kind)
        return ProviderRequest(payload.provider, request, fresh)
    if isinstance(tagged, _Line):
        return Line(tagged.payload.line, fresh)
    if fresh is not None:
        raise InvalidEnvelope("fresh: it goes with a search by ticker, or a line, and nothing else")
    if isinstance(tagged, _Describe):
        return tagged.payload
    if isinstance(tagged, _ProviderList):
        return ProviderList()
    return Ping() if isinstance(tagged, _Ping) else Auth()


def _as_it_is(value: Any) -> Filter:
    ready: DateRange | ByUpdatedAtRange | Param = value
    return ready


_FILTER_MAKERS: Final[tuple[Callable[[Any], Filter], ...]] = (
    Ticker,
    _as_it_is,
    _as_it_is,
    ById,
    BySource,
    ByState,
    ByTags,
    _as_it_is,
    ByUrl,
)
"""In the order of the fields of `_FilterBox`."""


def _filter(box: _FilterBox, index: int) -> Filter:
    values = msgspec.structs.astuple(box)
    if values.count(UNSET) != len(values) - 1:
        raise InvalidEnvelope(_not_one(f"{_SEARCH_PATH}.query[{index}]", box, FILTER_KINDS))
    position = 0
    while values[position] is UNSET:
        position += 1
    return _FILTER_MAKERS[position](values[position])


def _request_kind(box: _RequestBox) -> str:
    found = _keys(box)
    if len(found) != 1:
        raise InvalidEnvelope(_not_one(_REQUEST_PATH, box, REQUEST_KINDS))
    return found[0]


def _keys(box: _RequestBox | _FilterBox) -> list[str]:
    return [name for name in box.__struct_fields__ if getattr(box, name) is not UNSET]


def _not_one(path: str, box: _RequestBox | _FilterBox, expected: tuple[str, ...]) -> str:
    got = " and ".join(_keys(box)) or "none"
    return f"{path}: expected exactly one of {', '.join(expected)}; got {got}"


def _check_count(value: int | None, name: str, provider: str, request_kind: str) -> None:
    if value is not None and not 0 <= value <= MAX_COUNT:
        raise _InvalidCount(
            provider,
            request_kind,
            f"{_REQUEST_PATH}.{request_kind}.{name}: expected null or an integer from 0 "
            f"to {MAX_COUNT}",
        )


def _duplicate_key(line: bytes, raw_query: bytes) -> str | None:
    """Return a top-level key that is there twice; msgspec silently keeps the last.

    Without a backslash quotes pair up plainly, so all keys outside the query's value can be
    listed at little cost, with some that are none. Only if the list repeats itself, or a key may
    be escaped, is the line read again.
    """
    if b"\\" not in line:
        keys = _KEY.findall(_without(line, raw_query))
        if len(keys) == len(set(keys)):
            return None
    seen: set[str] = set()
    try:
        pairs: list[tuple[str, object]] = _PAIRS.decode(line.decode())
    except ValueError as error:  # pragma: no cover - msgspec is the stricter reader of the two
        raise InvalidJson(f"the line is no JSON object: {error}") from None
    for key, _ in pairs:
        if key in seen:
            return key
        seen.add(key)
    return None


def _without(line: bytes, raw_query: bytes) -> bytes:
    """Take the query's value out. Wherever else the same text may stand, it is a value too."""
    start = line.find(_QUERY_KEY) + len(_QUERY_KEY)
    if line.startswith(raw_query, start):  # replace() is slower by a microsecond
        return line[:start] + line[start + len(raw_query) :]
    return line.replace(raw_query, b"0", 1)


def _reject(line: bytes, error: Exception, prefix: str) -> Rejected:
    if isinstance(error, UnicodeDecodeError):
        message = f"the line is not valid UTF-8 (byte {error.start})"
        return Rejected(_NULL_ID, InvalidJson(message))
    if isinstance(error, RecursionError):
        message = "the line is nested too deeply to be a request"
        return Rejected(_id_of(line), InvalidJson(message))
    if not isinstance(error, msgspec.ValidationError):
        if line.startswith(b"\xef\xbb\xbf"):
            message = "the line begins with a byte order mark; send plain UTF-8 without one"
            return Rejected(_NULL_ID, InvalidJson(message))
        return Rejected(_NULL_ID, InvalidJson(f"the line is no JSON object: {error}"))
    what, has_path, path = str(error).rpartition(" - at `$")
    if not has_path:
        what, path = path, ""
    path = (prefix + path.removesuffix("`")).removeprefix(".")
    if not path and what.startswith("Expected `object`"):
        return Rejected(_NULL_ID, InvalidJson(f"the line is no JSON object: {_in_words(what)}"))
    return Rejected(_id_of(line), InvalidEnvelope(_explain(what, path)))


def _id_of(line: bytes) -> bytes:
    try:
        request_id = bytes(_ID_ONLY.decode(line).request_id)
    except (msgspec.MsgspecError, RecursionError):
        return _NULL_ID
    return _NULL_ID if request_id[0] in b"[{" else request_id


_WORDS: Final[Mapping[str, str]] = MappingProxyType(
    {
        "str": "a string",
        "int": "an integer",
        "float": "a number with a fraction",
        "bool": "true or false",
        "object": "an object",
        "array": "an array",
        "null": "null",
    }
)
_QUOTED: Final = re.compile(r"`([^`]*)`")


def _in_words(what: str) -> str:
    """Say msgspec's "Expected `str | null`, got `int`" in words."""
    told = _QUOTED.sub(
        lambda match: " or ".join(_WORDS.get(name, name) for name in match[1].split(" | ")),
        what,
    )
    return told[:1].lower() + told[1:]


def _explain(what: str, path: str) -> str:
    name = match[1] if (match := _QUOTED.search(what)) else ""
    if what.startswith("Object missing required field"):
        return f"{path}.{name}".removeprefix(".") + ": is missing"
    if what.startswith("Object contains unknown field"):
        expected = REQUEST_KINDS if path == _REQUEST_PATH else FILTER_KINDS
        return f"{path}: unknown `{_cut(name)}`; expected exactly one of {', '.join(expected)}"
    if path == "query.type":
        return f"{path}: expected one of {', '.join(QUERY_TYPES)}"
    if path == "fresh":
        return f"{path}: expected {', '.join(FRESH_WORDS)} or null"
    if path == "data_as":
        return f'{path}: expected "array", "string" or null'
    if path == "inline_records":
        return f"{path}: expected null or an integer from 0 to {MAX_COUNT}"
    if what.startswith("Integer value out of range"):
        return f"{path}: this integer is too large"
    return f"{path}: {_in_words(what)}"


def _cut(text: str) -> str:
    return text if len(text) <= 60 else text[:60] + "…"


def encode_envelope(envelope: Envelope) -> bytes:
    """Return the request as a line, ending included: what `decode_envelope` reads."""
    query: dict[str, Any] = {"type": type(envelope.query).__name__}
    if isinstance(envelope.query, ProviderRequest):
        request = request_to_wire(envelope.query.request)
        query["payload"] = {"provider": envelope.query.provider, "request": request}
    elif isinstance(envelope.query, Describe):
        query["payload"] = msgspec.structs.asdict(envelope.query)
    elif isinstance(envelope.query, Line):
        query["payload"] = {"line": envelope.query.line}
    fields: dict[str, Any] = {
        "request_id": Raw(envelope.request_id),
        "v": PROTOCOL_VERSION,
    }
    if envelope.token is not None:
        fields["token"] = envelope.token
    fields["query"] = query
    if envelope.data_as_array:
        fields["data_as"] = "array"
    if envelope.strict:
        fields["strict"] = True
    if not envelope.ordered:
        fields["ordered"] = False
    if isinstance(envelope.query, ProviderRequest | Line) and envelope.query.fresh is not None:
        fields["fresh"] = envelope.query.fresh
    if envelope.inline_records is not None:
        fields["inline_records"] = envelope.inline_records
    if envelope.facts:
        fields["facts"] = True
    return msgspec.json.encode(fields) + b"\n"


def encode_rejected(rejected: Rejected, *, ts_ms: int) -> bytes:
    """Return the error line for what `decode_envelope` rejected."""
    return encode_error(
        rejected.request_id,
        kind=rejected.kind,
        provider=rejected.provider,
        request_kind=rejected.request_kind,
        error=rejected.error,
        ts_ms=ts_ms,
    )
