"""What is answered: entities, errors and the lines around them, as bytes.

Apart from the requests because a held range is answered by joining bytes that exist already:
nothing here parses anything.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from types import MappingProxyType
from typing import Any, Final, Literal, TypeAlias, get_args

import msgspec
from msgspec import Struct

from gapless import errors
from gapless.errors import (
    GaplessError,
    InvalidEnvelope,
    InvalidJson,
    InvalidQuery,
    ProviderError,
)

__all__ = [  # noqa: RUF022 - grouped by use, not by alphabet
    # entities and what comes with them
    "DOUBTS",
    "Doubt",
    "Entity",
    "Stitch",
    "Why",
    "encode_entity",
    "encode_stitch",
    "entity_frame",
    "entity_tail",
    "escape_text",
    # answers
    "encode_entities",
    "encode_error",
    "encode_result",
    # errors
    "PROVIDER_REASONS",
    "WIRE_ERRORS",
    "ErrorBody",
    # names and numbers
    "KIND_INVALID_JSON",
    "KIND_PROVIDER_REQUEST",
    "KIND_UNAUTHORIZED",
    "PROTOCOL_VERSION",
]

PROTOCOL_VERSION: Final = 1

# The kinds of answers are the types of queries, and these.
KIND_PROVIDER_REQUEST: Final = "ProviderRequest"
KIND_INVALID_JSON: Final = "InvalidJson"
KIND_UNAUTHORIZED: Final = "Unauthorized"


class Entity(Struct, frozen=True):
    """One entity as the wire shows it: exactly these keys, in this order.

    `tags` and `data` are the JSON texts of arrays; the times are RFC 3339 (`refresh_after` is
    empty where the data is final).
    """

    id: str
    source: str
    tags: str
    data: str
    etag: str
    fetched_at: str
    refresh_after: str
    updated_at: str
    state: Literal["ready", "partial", "stale"]
    last_error: str


class Why(Struct, frozen=True, rename={"from_": "from"}):
    """Why one range is missing or not what it should be."""

    from_: str
    to: str
    reason: str
    message: str


class Stitch(Struct, frozen=True, omit_defaults=True):
    """How a range search was put together; each range is a pair of RFC 3339 instants.

    `cached`, `fetched` and `missing` partition the asked range up to now (stitching rule 14).
    `changed_at` is when upstream last changed what was final in it, an RFC 3339 instant.
    """

    cached: tuple[tuple[str, str], ...]
    fetched: tuple[tuple[str, str], ...]
    missing: tuple[tuple[str, str], ...]
    upstream_requests: int
    state: Literal["ready", "partial", "stale"]
    why: tuple[Why, ...] = ()
    changed_at: str | None = None


class ErrorBody(Struct, frozen=True, omit_defaults=True):
    """The `error` of an answer; `reason` and `retry_after_s` only where they say something."""

    code: str
    message: str
    reason: str | None = None
    retry_after_s: float | None = None

    @classmethod
    def of(cls, error: GaplessError) -> ErrorBody:
        """Put an error into its wire form, with any text that is no Unicode made so."""
        wait = error.retry_after_s
        return cls(
            error.code,
            _unicode(error.message),
            None if error.reason is None else _unicode(error.reason),
            wait if wait is not None and math.isfinite(wait) else None,
        )

    def to_error(self) -> GaplessError:
        """Return the error that this body came from, as near as its code and reason tell."""
        cls = WIRE_ERRORS.get(self.code, GaplessError)
        if issubclass(cls, ProviderError):
            cls = PROVIDER_REASONS.get(self.reason or "", cls)
        return cls(self.message, reason=self.reason, retry_after_s=self.retry_after_s)


WIRE_ERRORS: Final[Mapping[str, type[GaplessError]]] = MappingProxyType(
    {
        cls.code: cls
        for cls in (
            InvalidJson,
            InvalidEnvelope,
            errors.MissingToken,
            errors.Unauthorized,
            errors.Forbidden,
            errors.ProviderNotFound,
            ProviderError,
            InvalidQuery,
            errors.NotFound,
            errors.Unsupported,
            errors.TooLarge,
            errors.LineTooLong,
            errors.Overloaded,
            GaplessError,
        )
    }
)
"""Every error code of the wire and its class; a class whose `kind` is None takes the request's."""

PROVIDER_REASONS: Final[Mapping[str, type[ProviderError]]] = MappingProxyType(
    {
        cls.default_reason: cls
        for cls in (
            errors.RateLimited,
            errors.UpstreamUnavailable,
            errors.BadUpstreamReply,
            errors.UpstreamRejected,
            errors.UnknownTicker,
            errors.OutOfWindow,
            errors.PluginCrashed,
            errors.PluginTimeout,
            errors.PluginFailed,
            errors.BadPluginReply,
        )
        if cls.default_reason is not None
    }
)
"""Every `reason` that comes with `provider_request_failed`, and its class."""

Doubt: TypeAlias = Literal[
    "rescaled",
    "unverified",
    "check_pending",
    "unconfirmed_loss",
    "unconfirmed_empty",
    "bad_value",
    "margin",
]
"""What `why` may say of a range beside the reasons of failures: of what is held and doubtful."""

DOUBTS: Final[tuple[Doubt, ...]] = get_args(Doubt)

_JSON: Final = msgspec.json.Encoder()


def escape_text(ascii_json: bytes) -> bytes:
    """Return what stands between the quotes when this text is sent as a JSON string.

    The text must be ASCII without control characters, as stored records are (stitching rule 17):
    then only quotes and backslashes need escaping, and the result can be sliced and kept.
    """
    return ascii_json.replace(b"\\", b"\\\\").replace(b'"', b'\\"')


def encode_stitch(stitch: Stitch) -> bytes:
    """Return the `stitch` value of an answer, keys in the documented order."""
    body: dict[str, Any] = {
        "cached": stitch.cached,
        "fetched": stitch.fetched,
        "missing": stitch.missing,
    }
    if stitch.why:
        body["why"] = stitch.why
    body["upstream_requests"] = stitch.upstream_requests
    body["state"] = stitch.state
    if stitch.changed_at is not None:
        body["changed_at"] = stitch.changed_at
    return _JSON.encode(body)


def encode_entity(entity: Entity, as_array: bool) -> bytes:
    """Return one entity as JSON, its `data` and `tags` as strings or, on request, as arrays.

    With `as_array` the texts are embedded as they are: they must be valid JSON.
    """
    head, tail = entity_frame(entity, as_array)
    return head + _array_or_string(entity.data, as_array) + tail


def entity_frame(entity: Entity, as_array: bool) -> tuple[bytes, bytes]:
    """Return what stands before and after the value of `data`, quotes not included.

    For answers whose data is a slice that is escaped already; `entity.data` is not looked at.
    """
    text = _JSON.encode
    head = b'{"id":%b,"source":%b,"tags":%b,"data":' % (
        text(entity.id),
        text(entity.source),
        _array_or_string(entity.tags, as_array),
    )
    return head, entity_tail(entity)


def entity_tail(entity: Entity) -> bytes:
    """Return what stands after the value of `data`; see `entity_frame`."""
    text = _JSON.encode
    return (
        b',"etag":%b,"fetched_at":%b,"refresh_after":%b,"updated_at":%b,"state":%b,"last_error":%b}'
    ) % (
        text(entity.etag),
        text(entity.fetched_at),
        text(entity.refresh_after),
        text(entity.updated_at),
        text(entity.state),
        text(_unicode(entity.last_error)) if entity.last_error else b'""',
    )


def encode_error(
    request_id: bytes,
    *,
    kind: str,
    provider: str | None = None,
    request_kind: str | None = None,
    error: GaplessError,
    ts_ms: int,
) -> bytes:
    """Return an error line. `kind` is the request's; an error that has one of its own wins."""
    body = _JSON.encode(ErrorBody.of(error))
    return _answer(
        b"false",
        request_id,
        error.kind or kind,
        provider,
        request_kind,
        b"null",
        body,
        ts_ms,
    )


def encode_result(
    request_id: bytes, kind: str, result: object, *, provider: str | None = None, ts_ms: int
) -> bytes:
    """Return the answer to a query that is no ProviderRequest: its result as JSON."""
    return _answer(
        b"true",
        request_id,
        kind,
        provider,
        None,
        _JSON.encode(result),
        b"null",
        ts_ms,
    )


def encode_entities(
    request_id: bytes,
    provider: str,
    request_kind: str,
    entities: Sequence[bytes],
    ts_ms: int,
    stitch: bytes | None = None,
    next_offset: int | None = None,
) -> bytes:
    """Return the answer to a ProviderRequest, around entities and a stitch that are JSON already.

    `next_offset`: where to go on after a page that stopped short of the end.
    """
    extra = b"" if stitch is None else b',"stitch":' + stitch
    if next_offset is not None:
        extra += b',"next_offset":%d' % next_offset
    result = b"[%b]" % b",".join(entities)
    return _answer(
        b"true",
        request_id,
        KIND_PROVIDER_REQUEST,
        provider,
        request_kind,
        result,
        b"null",
        ts_ms,
        extra,
    )


def _answer(
    ok: bytes,
    request_id: bytes,
    kind: str,
    provider: str | None,
    request_kind: str | None,
    result: bytes,
    error: bytes,
    ts_ms: int,
    extra: bytes = b"",
) -> bytes:
    return (
        b'{"ok":%b,"request_id":%b,"kind":"%b","provider":%b,"request_kind":%b,'
        b'"result":%b,"error":%b,"ts_ms":%d%b}\n'
    ) % (
        ok,
        request_id,
        kind.encode(),
        _JSON.encode(None if provider is None else _unicode(provider)),
        _JSON.encode(request_kind),
        result,
        error,
        ts_ms,
        extra,
    )


def _array_or_string(text: str | bytes, as_array: bool) -> bytes:
    """Embed a JSON text raw, or as a JSON string."""
    if not as_array:
        return _JSON.encode(text.decode() if isinstance(text, bytes) else text)
    raw = text.encode() if isinstance(text, str) else text
    if b"\n" in raw or b"\r" in raw:
        # Valid JSON has them between tokens only, where they would break the line in two.
        raw = msgspec.json.format(raw, indent=-1)
    return raw


def _unicode(text: str) -> str:
    """Replace lone surrogates: file names and plugins bring them, JSON cannot carry them."""
    return text if text.isascii() else text.encode("utf-8", "replace").decode()
