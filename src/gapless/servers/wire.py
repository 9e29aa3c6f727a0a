"""What the hub answers, in the bytes of the wire; for every server, so that all say the same."""

from __future__ import annotations

from dataclasses import dataclass

import msgspec

from gapless.domain.facts import every_fact
from gapless.domain.series import span_text, tags_text
from gapless.hub.answers import Answer
from gapless.hub.entities import Listing
from gapless.instants import format_instant
from gapless.protocol.messages import (
    KIND_PROVIDER_REQUEST,
    Entity,
    Stitch,
    Why,
    encode_entities,
    encode_entity,
    encode_stitch,
    entity_frame,
)
from gapless.protocol.paths import arrow_path
from gapless.store.base import StoredEntity

ID_HEAD = b'{"ok":true,"request_id":'
_AFTER = b'],"error":null,"ts_ms":'


@dataclass(frozen=True, slots=True)
class Frame:
    """A range answer around its records: what stands before, between and after.

    A line is `ID_HEAD`, the request's id, `head`, the records, `tail`, the answer's time in
    milliseconds, `ending`.
    """

    head: bytes
    records: tuple[bytes, ...]
    tail: bytes
    ending: bytes

    def parts(self, request_id: bytes, ts_ms: int) -> list[bytes]:
        """Return the line in parts that are written one after the other."""
        return [
            ID_HEAD,
            request_id,
            self.head,
            *self.records,
            self.tail,
            b"%d" % ts_ms,
            self.ending,
        ]


@dataclass(frozen=True, slots=True)
class Layout:
    """What is told with an answer, and how: to which kind of request, `data` as an array or text.

    `stitched`: how it was put together. `instance`: it tells of which hub and which version of the
    series it is, this hub being that one.
    `at_http`: HTTP has records that are left out. `facts`: what is known of the ticker, and in
    which time zone, `dates`, its records have dates.
    """

    request_kind: str
    as_array: bool
    stitched: bool = True
    instance: str | None = None
    at_http: bool = False
    facts: bool = False
    dates: str | None = None

    def ending(self, answer: Answer) -> bytes:
        """Return the end of an answer's line, behind the time."""
        told = b',"stitch":' + encode_stitch(stitch_of(answer)) if self.stitched else b""
        if self.instance is not None:
            told += b',"version":"%b-%b"' % (self.instance.encode(), answer.version.encode())
        if self.facts:
            told += b',"facts":%b,"dates":%b' % (
                msgspec.json.encode(every_fact(answer.facts)),
                msgspec.json.encode(self.dates),
            )
        return told + b"}\n"


def frame(answer: Answer, layout: Layout) -> Frame:
    """Lay a stitched answer out as a line, its records as they lie in memory."""
    as_array = layout.as_array
    head, tail = entity_frame(_shell(answer), as_array)
    opening, closing = (b"[", b"]") if as_array else (b'"[', b']"')
    records: list[bytes] = []
    for part in answer.slices:
        if records:
            records.append(b",")
        run = part.run
        records.append(run.run.joined(part.i, part.j) if as_array else run.escaped(part.i, part.j))
    return Frame(
        _before(answer, layout.request_kind, head) + opening,
        tuple(records),
        closing + tail + _AFTER,
        layout.ending(answer),
    )


def frame_elsewhere(answer: Answer, layout: Layout) -> Frame:
    """Lay a stitched answer out without its records, and say how many and where they are.

    `data` is null, so that nobody takes it for a range without records. `etag` is empty: it comes
    with them.
    """
    shell = msgspec.structs.replace(_shell(answer), etag="")
    head, tail = entity_frame(shell, layout.as_array)
    told = b',"records":%d' % answer.count
    if layout.at_http:
        key, asked = answer.key, answer.asked
        bounds = {"start": format_instant(asked.start), "end": format_instant(asked.end)}
        path = arrow_path(key.provider, key.ticker, bounds, dict(key.params))
        told += b',"records_at":' + msgspec.json.encode(path)
    return Frame(
        _before(answer, layout.request_kind, head) + b"null",
        (),
        tail + _AFTER,
        told + layout.ending(answer),
    )


def _before(answer: Answer, request_kind: str, head: bytes) -> bytes:
    return b',"kind":"%b","provider":"%b","request_kind":"%b","result":[%b' % (
        KIND_PROVIDER_REQUEST.encode(),
        answer.key.provider.encode(),
        request_kind.encode(),
        head,
    )


def encode_listing(
    request_id: bytes,
    provider: str,
    request_kind: str,
    listing: Listing,
    as_array: bool,
    ts_ms: int,
) -> bytes:
    """Return the line that answers with several entities, or none."""
    entities = [encode_entity(entity_of(one), as_array) for one in listing.entities]
    return encode_entities(
        request_id, provider, request_kind, entities, ts_ms, next_offset=listing.next_offset
    )


def entity_of(one: StoredEntity | Answer) -> Entity:
    """Return an entity as the wire shows it."""
    if isinstance(one, Answer):
        return _shell(one, one.text().decode())
    return Entity(
        id=one.id,
        source=one.source,
        tags=one.tags,
        data=one.data,
        etag=one.etag,
        fetched_at=one.fetched_at,
        refresh_after=one.refresh_after,
        updated_at=one.updated_at,
        state=one.state,  # type: ignore[arg-type]  # the store keeps what the wire's states are
        last_error=one.last_error,
    )


def stitch_of(answer: Answer) -> Stitch:
    """Return how an answer was put together."""
    return Stitch(
        cached=tuple((format_instant(a), format_instant(b)) for a, b in answer.cached),
        fetched=tuple((format_instant(a), format_instant(b)) for a, b in answer.fetched),
        missing=tuple((format_instant(a), format_instant(b)) for a, b in answer.missing),
        upstream_requests=answer.requests,
        state=answer.state.value,
        why=tuple(
            Why(
                format_instant(one.interval.start),
                format_instant(one.interval.end),
                one.reason,
                one.message,
            )
            for one in answer.why
        ),
        changed_at=None if answer.changed_at is None else format_instant(answer.changed_at),
    )


def _shell(answer: Answer, data: str = "") -> Entity:
    refresh = answer.refresh_after
    return Entity(
        id=f"{answer.key.text}:{span_text(answer.asked)}",
        source=answer.key.provider,
        tags=tags_text(answer.key, answer.asked),
        data=data,
        etag=answer.etag,
        fetched_at=format_instant(answer.fetched_at),
        refresh_after="" if refresh is None else format_instant(refresh),
        updated_at=format_instant(answer.updated_at),
        state=answer.state.value,
        last_error=answer.last_error,
    )
