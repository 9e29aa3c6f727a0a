"""What the hub answers, in the bytes of the wire; for every server, so that all say the same."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Final, NamedTuple

import msgspec
from msgspec import Struct

from gapless.domain.facts import every_fact
from gapless.domain.intervals import Interval
from gapless.domain.series import SeriesKey, span_text, tags_around, tags_text
from gapless.hub.answers import Answer
from gapless.hub.entities import Listing
from gapless.instants import format_instant
from gapless.lru import Lru
from gapless.protocol.messages import (
    KIND_PROVIDER_REQUEST,
    Entity,
    Why,
    encode_entities,
    encode_entity,
    entity_tail,
)
from gapless.protocol.paths import arrow_path
from gapless.store.base import StoredEntity

ID_HEAD = b'{"ok":true,"request_id":'
_AFTER = b'],"error":null,"ts_ms":'
_MOST_HEADS = 10_000
_JSON: Final = msgspec.json.Encoder()


class AnswerLine(NamedTuple):
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
        return [*self.before(request_id), *self.records, *self.after(ts_ms)]

    def before(self, request_id: bytes) -> list[bytes]:
        """Return the parts of the line before its records."""
        return [ID_HEAD, request_id, self.head]

    def after(self, ts_ms: int) -> list[bytes]:
        """Return the parts of the line behind its records."""
        return [self.tail, b"%d" % ts_ms, self.ending]


class Layout(Struct, frozen=True):
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


class Heads(NamedTuple):
    """What stands before the data of a series' answers, around the two instants of its range."""

    before_id: bytes
    before_tags: bytes
    between: bytes
    after: bytes

    def around(self, start: bytes, end: bytes) -> bytes:
        """Return it with the instants, which are in the id and in the tags."""
        before_id, before_tags, between, after = self
        return b"".join((before_id, start, b"..", end, before_tags, start, between, end, after))

    @classmethod
    def of(cls, key: SeriesKey, request_kind: str, as_array: bool) -> Heads:
        """Return it for a series, as an answer to a kind of request."""
        first, rest = tags_around(key)
        tags = (first, '","to=', rest)
        texts = tuple(one.encode() for one in tags) if as_array else tuple(map(_inside, tags))
        quote = b"" if as_array else b'"'
        return cls(
            b',"kind":"%b","provider":%b,"request_kind":"%b","result":[{"id":"%b:'
            % (
                KIND_PROVIDER_REQUEST.encode(),
                _JSON.encode(key.provider),
                request_kind.encode(),
                _inside(key.text),
            ),
            b'","source":%b,"tags":%b%b' % (_JSON.encode(key.provider), quote, texts[0]),
            texts[1],
            b'%b%b,"data":' % (texts[2], quote),
        )


class LineWriter:
    """Lays answers out as lines; what is the same in all answers of a series is spelled once."""

    def __init__(self) -> None:
        self._heads: Lru[tuple[SeriesKey, str, bool], Heads] = Lru(_MOST_HEADS)

    def whole(self, answer: Answer, layout: Layout) -> AnswerLine:
        """Lay a stitched answer out as a line, its records as they lie in memory."""
        as_array = layout.as_array
        opening, closing = (b"[", b"]") if as_array else (b'"[', b']"')
        records: list[bytes] = []
        for run, i, j in answer.slices:
            if records:
                records.append(b",")
            records.append(run.run.joined(i, j) if as_array else run.escaped(i, j))
        start, end = _written(answer.asked)
        return AnswerLine(
            self._head(answer, layout, start, end) + opening,
            tuple(records),
            closing + _tail(answer, answer.etag),
            _ending(answer, layout, start, end),
        )

    def around(self, answer: Answer, layout: Layout, tag: str) -> AnswerLine:
        """Lay an answer out whose records come by themselves; `tag` is the etag that they have."""
        opening, closing = (b"[", b"]") if layout.as_array else (b'"[', b']"')
        start, end = _written(answer.asked)
        return AnswerLine(
            self._head(answer, layout, start, end) + opening,
            (),
            closing + _tail(answer, tag),
            _ending(answer, layout, start, end),
        )

    def elsewhere(self, answer: Answer, layout: Layout) -> AnswerLine:
        """Lay a stitched answer out without its records, and say how many and where they are.

        `data` is null, so that nobody takes it for a range without records. `etag` is empty: it
        comes with them.
        """
        start, end = _written(answer.asked)
        told = b',"records":%d' % answer.count
        if layout.at_http:
            bounds = {"start": start.decode(), "end": end.decode()}
            path = arrow_path(
                answer.key.provider, answer.key.ticker, bounds, dict(answer.key.params)
            )
            told += b',"records_at":' + _JSON.encode(path)
        return AnswerLine(
            self._head(answer, layout, start, end) + b"null",
            (),
            _tail(answer, ""),
            told + _ending(answer, layout, start, end),
        )

    def _head(self, answer: Answer, layout: Layout, start: bytes, end: bytes) -> bytes:
        words = (answer.key, layout.request_kind, layout.as_array)
        heads = self._heads.get(words)
        if heads is None:
            heads = Heads.of(*words)
            self._heads.put(words, heads)
        return heads.around(start, end)


def _inside(text: str) -> bytes:
    """Return a text as it stands between the quotes of a JSON string."""
    return _JSON.encode(text)[1:-1]


def _written(asked: Interval) -> tuple[bytes, bytes]:
    return format_instant(asked.start).encode(), format_instant(asked.end).encode()


def _tail(answer: Answer, etag: str) -> bytes:
    """Return what stands behind the data, up to the time of the answer."""
    return entity_tail(_shell(answer, etag)) + _AFTER


def _ending(answer: Answer, layout: Layout, start: bytes, end: bytes) -> bytes:
    """Return the end of an answer's line, behind its time."""
    told = b""
    if layout.stitched:
        whole = b'[["%b","%b"]]' % (start, end)
        told = b',"stitch":{"cached":%b,"fetched":%b,"missing":%b,%b"state":"%b"%b}' % (
            whole if answer.cached == (answer.asked,) else _spans(answer.cached),
            _spans(answer.fetched),
            _spans(answer.missing),
            _reasons(answer) + b'"upstream_requests":%d,' % answer.requests,
            answer.state.encode(),
            b""
            if answer.changed_at is None
            else b',"changed_at":"%b"' % format_instant(answer.changed_at).encode(),
        )
    if layout.instance is not None:
        told += b',"version":"%b-%b"' % (layout.instance.encode(), answer.version.encode())
    if layout.facts:
        told += b',"facts":%b,"dates":%b' % (
            _JSON.encode(every_fact(answer.facts)),
            _JSON.encode(layout.dates),
        )
    return told + b"}\n"


def _spans(intervals: Sequence[Interval]) -> bytes:
    if not intervals:
        return b"[]"
    return b"[%b]" % b",".join(b'["%b","%b"]' % _written(one) for one in intervals)


def _reasons(answer: Answer) -> bytes:
    if not answer.why:
        return b""
    why = [
        Why(
            format_instant(one.interval.start),
            format_instant(one.interval.end),
            one.reason,
            one.message,
        )
        for one in answer.why
    ]
    return b'"why":%b,' % _JSON.encode(why)


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
        return msgspec.structs.replace(
            _shell(one, one.etag),
            id=f"{one.key.text}:{span_text(one.asked)}",
            source=one.key.provider,
            tags=tags_text(one.key, one.asked),
            data=one.text().decode(),
        )
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


def _shell(answer: Answer, etag: str) -> Entity:
    """Return the entity of an answer but for its name, its tags and its data."""
    fetched_at = format_instant(answer.fetched_at)
    same = answer.updated_at == answer.fetched_at
    refresh = answer.refresh_after
    return Entity(
        id="",
        source="",
        tags="",
        data="",
        etag=etag,
        fetched_at=fetched_at,
        refresh_after="" if refresh is None else format_instant(refresh),
        updated_at=fetched_at if same else format_instant(answer.updated_at),
        state=answer.state.value,
        last_error=answer.last_error,
    )
