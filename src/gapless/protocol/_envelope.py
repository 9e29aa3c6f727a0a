"""Request lines to typed queries and back: every check a line must pass is here.

Apart because it is what strangers' bytes meet first. Decoding never raises: whatever the bytes
are, the result is an `Envelope` or a `Rejected` that carries the request's id where it could be
read.
"""

from __future__ import annotations

import json
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import reduce
from operator import or_
from types import MappingProxyType
from typing import Annotated, Any, Final, Literal

import msgspec
from msgspec import UNSET, Raw, Struct, UnsetType
from msgspec.structs import astuple

from gapless.errors import GaplessError, InvalidEnvelope, InvalidJson, InvalidQuery
from gapless.protocol._answers import (
    KIND_INVALID_JSON,
    KIND_PROVIDER_REQUEST,
    PROTOCOL_VERSION,
    encode_error,
)
from gapless.protocol._queries import (
    FILTER_KINDS,
    FILTERS,
    MAX_COUNT,
    QUERIES,
    QUERY_TYPES,
    REQUEST_KINDS,
    REQUESTS,
    Filter,
    Line,
    ProviderRequest,
    Query,
    Request,
    SearchEntities,
    query_to_wire,
)
from gapless.protocol.fresh import FRESH_WORDS, Fresh

__all__ = ["Envelope", "Rejected", "decode_envelope", "encode_envelope", "encode_rejected"]


class Envelope(Struct, frozen=True, gc=False):
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


class _Outer(Struct, gc=False):
    """The keys of an envelope; what is not there is `UNSET`, so that what is can be counted."""

    query: Raw
    request_id: Raw | UnsetType = UNSET
    token: str | UnsetType | None = UNSET
    access_token: str | UnsetType | None = UNSET
    data_as: Literal["string", "array"] | UnsetType | None = UNSET
    strict: bool | UnsetType | None = UNSET
    ordered: bool | UnsetType | None = UNSET
    inline_records: Annotated[int, msgspec.Meta(ge=0, le=MAX_COUNT)] | UnsetType | None = UNSET
    fresh: Fresh | UnsetType | None = UNSET
    facts: bool | UnsetType | None = UNSET
    # Accepted and ignored; here only to be counted.
    v: Raw | UnsetType = UNSET
    ts_ms: Raw | UnsetType = UNSET
    return_address: Raw | UnsetType = UNSET
    auth: Raw | UnsetType = UNSET
    project_id: Raw | UnsetType = UNSET


class _IdOnly(Struct):
    request_id: Raw = Raw(b"null")


def _tagged_outside(members: Sequence[type[Struct]], read_as: Mapping[type, Any]) -> type[Struct]:
    """Make what msgspec can read an object of one key by: a field for each member of a union.

    Exactly one of them must be there. `read_as`: what reads a member where that does not itself.
    """
    return msgspec.defstruct(
        "Tagged",
        [(one.__name__, read_as.get(one, one) | UnsetType, UNSET) for one in members],
        forbid_unknown_fields=True,
        gc=False,
    )


def _tagged_inside(query: type[Query], read_as: Mapping[type, Any]) -> type[Struct]:
    """Make what reads a query, with a payload if it has fields."""
    payload = read_as.get(query, query)
    return msgspec.defstruct(
        query.__name__,
        [("payload", payload)] if query.__struct_fields__ else [],
        tag_field="type",
        tag=query.__name__,
        gc=False,
    )


# A range's first: they are what is looked for most often.
_FILTERS: Final = sorted(FILTERS, key=lambda one: one.concerns != "range")
_REQUESTS: Final = sorted(REQUESTS, key=lambda one: one is not SearchEntities)
_FilterBox: Final[Any] = _tagged_outside(
    _FILTERS,
    {one: fields[0].type for one in FILTERS if len(fields := msgspec.structs.fields(one)) == 1},
)
_SearchBox: Final = msgspec.defstruct(
    "SearchBox", [("query", list[_FilterBox]), ("limit", int | None, None)], gc=False
)
_RequestBox: Final = _tagged_outside(_REQUESTS, {SearchEntities: _SearchBox})
# How fresh they are wanted is said outside of these two.
_PAYLOADS: Final[Mapping[type, type[Struct]]] = MappingProxyType(
    {
        ProviderRequest: msgspec.defstruct(
            "Payload", [("provider", str), ("request", _RequestBox)], gc=False
        ),
        Line: msgspec.defstruct("Payload", [("line", str)], gc=False),
    }
)
_QUERIES: Final[Mapping[type, Any]] = MappingProxyType(
    {_tagged_inside(one, _PAYLOADS): one for one in QUERIES}
)
_COUNTS: Final[Mapping[type, tuple[str, ...]]] = MappingProxyType(
    {
        request: tuple(
            one.name for one in msgspec.structs.fields(request) if one.type == int | None
        )
        for request in REQUESTS
    }
)
_OUTER: Final = msgspec.json.Decoder(_Outer)
_ID_ONLY: Final = msgspec.json.Decoder(_IdOnly)
_QUERY: Final[msgspec.json.Decoder[Any]] = msgspec.json.Decoder(reduce(or_, _QUERIES))
_VALUES: Final = msgspec.json.Decoder(dict[str, Raw])
_PAIRS: Final = json.JSONDecoder(
    # Only the keys matter; the numbers' texts are kept because int() refuses very long ones.
    object_pairs_hook=list,
    parse_int=str,
    parse_float=str,
)
_MOST_KEYS: Final = len(_Outer.__struct_fields__)
_NULL_ID: Final = b"null"
_REQUEST_PATH: Final = "query.payload.request"
_SEARCH_PATH: Final = "query.payload.request.SearchEntities"


def decode_envelope(line: bytes) -> Envelope | Rejected:
    """Read one line as a request; never raises, whatever the bytes are."""
    try:
        if not line.isascii():
            # msgspec steps over ignored keys and request_id without looking at their UTF-8.
            line.decode()
        outer = _OUTER.decode(line)
    except (msgspec.MsgspecError, UnicodeDecodeError, RecursionError) as error:
        return _reject(line, error, "")
    request_id = _NULL_ID if outer.request_id is UNSET else bytes(outer.request_id)
    if request_id[0] in b"[{":
        return Rejected(
            _NULL_ID,
            InvalidEnvelope("request_id: expected a string, number, boolean or null"),
        )
    raw_query = bytes(outer.query)
    try:
        # Each key that is there has a colon outside of all values. Where there are no more colons
        # than keys that were read, each is there once, and there are no others.
        keys = _MOST_KEYS - astuple(outer).count(UNSET)
        colons = keys + raw_query.count(b":") + request_id.count(b":")
        if colons != line.count(b":") and (key := _duplicate_key(line)) is not None:
            return Rejected(
                request_id,
                InvalidEnvelope(f"{_cut(key)}: this key is there more than once"),
            )
        query = _query(_QUERY.decode(raw_query), outer.fresh or None)
    except GaplessError as error:
        return Rejected(request_id, error)
    except _InvalidCount as error:
        return error.rejected(request_id)
    except (msgspec.MsgspecError, RecursionError) as error:
        return _reject(line, error, "query")
    most = outer.inline_records
    return Envelope(
        request_id,
        query,
        outer.token or outer.access_token or None,
        outer.data_as == "array",
        outer.strict is True,
        outer.ordered is not False,
        None if most is UNSET else most,
        outer.facts is True,
    )


class _InvalidCount(Exception):
    """A limit or offset out of range: the request was read, so the answer can name it."""

    def __init__(self, provider: str, request_kind: str, name: str) -> None:
        super().__init__(
            f"{_REQUEST_PATH}.{request_kind}.{name}: expected null or an integer from 0 "
            f"to {MAX_COUNT}"
        )
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


def _query(tagged: Any, fresh: Fresh | None) -> Query:
    query = _QUERIES[type(tagged)]
    if query is ProviderRequest:
        payload = tagged.payload
        return ProviderRequest(payload.provider, _request(payload), fresh)
    if query is Line:
        return Line(tagged.payload.line, fresh)
    if fresh is not None:
        raise InvalidEnvelope("fresh: it goes with a search by ticker, or a line, and nothing else")
    ready: Query = tagged.payload if query.__struct_fields__ else query()
    return ready


def _request(payload: Any) -> Request:
    values = astuple(payload.request)
    place = _place(values)
    if place < 0:
        raise InvalidEnvelope(_not_one(_REQUEST_PATH, payload.request, REQUEST_KINDS))
    kind, request = _REQUESTS[place], values[place]
    for name in _COUNTS[kind]:
        count = getattr(request, name)
        if count is not None and not 0 <= count <= MAX_COUNT:
            raise _InvalidCount(payload.provider, kind.__name__, name)
    if kind is SearchEntities:
        return SearchEntities(_filters(request.query), request.limit)
    ready: Request = request
    return ready


def _filters(boxes: Sequence[Struct]) -> tuple[Filter, ...]:
    found: list[Filter] = []
    for box in boxes:
        values = astuple(box)
        place = _place(values)
        if place < 0:
            where = f"{_SEARCH_PATH}.query[{len(found)}]"
            raise InvalidEnvelope(_not_one(where, box, FILTER_KINDS))
        kind: Any = _FILTERS[place]
        value = values[place]
        # One with a single field is read as that.
        found.append(value if type(value) is kind else kind(value))
    return tuple(found)


def _place(values: tuple[Any, ...]) -> int:
    """Return where the only member is that is there; -1: not exactly one of them is."""
    if values.count(UNSET) != len(values) - 1:
        return -1
    place = 0
    while values[place] is UNSET:
        place += 1
    return place


def _not_one(path: str, box: Struct, expected: Sequence[str]) -> str:
    names = [name for name in box.__struct_fields__ if getattr(box, name) is not UNSET]
    got = " and ".join(names) or "none"
    return f"{path}: expected exactly one of {', '.join(expected)}; got {got}"


def _duplicate_key(line: bytes) -> str | None:
    """Return a top-level key that is there twice; msgspec silently keeps the last.

    Counted as in `decode_envelope`, but for all keys. Only if colons are left over, which may be
    some within keys or values that were not kept, is the line read again.
    """
    values = _VALUES.decode(line)
    colons = len(values) + sum(bytes(value).count(b":") for value in values.values())
    if colons == line.count(b":"):
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
    fields: dict[str, Any] = {
        "request_id": Raw(envelope.request_id),
        "v": PROTOCOL_VERSION,
    }
    if envelope.token is not None:
        fields["token"] = envelope.token
    fields["query"] = query_to_wire(envelope.query)
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
