"""A range of more records than one answer may have, read piece by piece over TCP.

Where it is cut is decided here, and how the pieces become one answer; nothing here asks anybody.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from itertools import pairwise
from typing import Any, NamedTuple

import msgspec

from gapless.client.failures import UnexpectedAnswer
from gapless.client.lines import Answer
from gapless.client.pages import badness, etag_of
from gapless.client.requests import range_search, to_provider
from gapless.client.results import EntityBox, Found, tags_of
from gapless.errors import InvalidQuery, TooLarge
from gapless.instants import format_instant
from gapless.protocol.times import parse_instant

PIECE_RECORDS = 100_000
"""The most records that are asked for at once where HTTP is not used."""
# Records are nowhere spread as evenly as that; a piece that is too large costs a request.
_FILLED = 0.75
_MOST_CUTS = 10_000
_NULL = b"null"


class Bounds(NamedTuple):
    """A half-open range in milliseconds UTC."""

    start: int
    end: int

    @property
    def texts(self) -> tuple[str, str]:
        """Both as the wire has them, to the millisecond."""
        return format_instant(self.start), format_instant(self.end)

    @property
    def text(self) -> str:
        """The range as ids spell it."""
        return "..".join(self.texts)


class Part(NamedTuple):
    """An answer, and the one entity that it has."""

    answer: Answer
    entity: EntityBox


@dataclass(frozen=True, slots=True)
class Whole:
    """An answer without its records, by which they are asked for piece by piece.

    `held` is all of its range but what is missing. A view is told as it is held, so that its
    pieces are views, too; those of a search are searches.
    """

    head: Part
    ticker: str
    params: Mapping[str, str]
    asked: Bounds
    held: tuple[Bounds, ...]

    @classmethod
    def of(cls, head: Part) -> Whole:
        """Read such an answer; raise `UnexpectedAnswer` for what no hub says."""
        try:
            ticker, start, end, *params = (tag.partition("=") for tag in tags_of(head.entity))
        except ValueError as error:
            raise UnexpectedAnswer(f"{head.entity.id} was left out, which is no range") from error
        asked = _bounds((start[2], end[2]))
        missing = [_bounds(pair) for pair in _stitch(head.answer).missing]
        keys = (ticker[0], start[0], end[0])
        if keys != ("ticker", "from", "to") or not head.entity.id.endswith(asked.text):
            raise UnexpectedAnswer(f"{head.entity.id} was left out, which is no range")
        names = {name: value for name, _, value in params}
        return cls(head, ticker[2], names, asked, tuple(_without(asked, missing)))

    def cut(self, most: int) -> list[Bounds]:
        """Return the ranges of pieces that may have `most` records each, in order."""
        length = sum(span.end - span.start for span in self.held)
        count = self.head.answer.records or 0
        shares = (-(-count * (span.end - span.start) // length) for span in self.held)
        return [
            part
            for span, share in zip(self.held, shares, strict=True)
            for part in _cut(span, share, most)
        ]

    def query(self, part: Bounds) -> dict[str, Any]:
        """Return the query for a piece."""
        entity = self.head.entity
        if self._is_view:
            id = entity.id.removesuffix(self.asked.text) + part.text
            return to_provider(entity.source, {"GetEntity": {"id": id}})
        return range_search(entity.source, self.ticker, *part.texts, self.params)

    def fits(self, part: Part, bounds: Bounds) -> bool:
        """Whether a piece is of the series as it was when the whole was answered.

        Raises `UnexpectedAnswer` for a piece of something else.
        """
        if not part.entity.id.endswith(f":{bounds.text}"):
            raise UnexpectedAnswer(f"{part.entity.id} came where {bounds.text} was asked for")
        return part.answer.version == self.head.answer.version and not _stitch(part.answer).missing

    def together(self, parts: Sequence[Part]) -> Found:
        """Return the whole with the records of its pieces, in order, as if they had come with it.

        The worst state of a piece is that of all (as of pages over HTTP).
        """
        pieces = [_inner(part) for part in parts]
        worst = max((self.head, *parts), key=lambda part: badness(part.entity.state)).entity
        entity = msgspec.structs.replace(
            self.head.entity,
            data=msgspec.Raw(b"[%b]" % b",".join(filter(None, pieces))),
            etag=etag_of(part.entity.etag for part in parts),
            state=worst.state,
            last_error=worst.last_error,
        )
        answer = self.head.answer
        return Found(
            entity,
            _NULL if self._is_view else self._stitched(parts, worst.state),
            facts=bytes(answer.facts),
            dates=answer.dates,
        )

    @property
    def _is_view(self) -> bool:
        return bytes(self.head.answer.stitch) == _NULL

    def _stitched(self, parts: Sequence[Part], state: str) -> bytes:
        """Return how all of it was put together; see `Pages.stitch`.

        That is what the whole's own answer says. Only what can change while a series does not is
        told by the pieces: that something of it has become due, and could not be fetched.
        """
        told: dict[str, Any] = msgspec.json.decode(self.head.answer.stitch)
        own = _stitch(self.head.answer)
        pieces = [_stitch(part.answer) for part in parts]
        if state != own.state:
            told["why"] = [*own.why, *(why for piece in pieces for why in piece.why)]
        told["state"] = state
        told["upstream_requests"] = own.upstream_requests + sum(
            piece.upstream_requests for piece in pieces
        )
        return msgspec.json.encode(told)


def cut_again(part: Bounds, count: int, most: int) -> list[Bounds]:
    """Return the ranges of a piece that has more records than it may; raise `TooLarge`."""
    if part.end - part.start < 2:
        raise TooLarge(f"{count:,} records are of one millisecond, {part.text}")
    return _cut(part, max(count, most + 1), most)


def asked_again(before: Answer | None, answer: Answer) -> Answer:
    """Return an answer as that to a question which was asked `before`, and not answered to an end.

    What was fetched the first time was fetched for it, though by now all is held.
    """
    if before is None or _NULL in (bytes(before.stitch), bytes(answer.stitch)):
        return answer
    first, second = _stitch(before), _stitch(answer)
    unchanged = answer.version is not None and answer.version == before.version
    same = unchanged and first.asked == second.asked and first.state == second.state
    told = msgspec.json.decode(before.stitch if same else answer.stitch)
    told["upstream_requests"] = first.upstream_requests + second.upstream_requests
    return msgspec.structs.replace(answer, stitch=msgspec.Raw(msgspec.json.encode(told)))


class _Stitch(msgspec.Struct):
    cached: list[tuple[str, str]] = []
    fetched: list[tuple[str, str]] = []
    missing: list[tuple[str, str]] = []
    why: list[Any] = []
    upstream_requests: int = 0
    state: str = "ready"

    @property
    def asked(self) -> Bounds | None:
        """The range that its parts make up."""
        spans = list(map(_bounds, [*self.cached, *self.fetched, *self.missing]))
        if not spans:
            return None
        return Bounds(min(start for start, _ in spans), max(end for _, end in spans))


def _stitch(answer: Answer) -> _Stitch:
    try:
        return msgspec.json.decode(answer.stitch, type=_Stitch | None) or _Stitch()
    except (msgspec.DecodeError, UnicodeDecodeError) as error:
        raise UnexpectedAnswer(f"the hub's stitch is none: {error}") from error


def _bounds(texts: tuple[str, str]) -> Bounds:
    try:
        start, end = (parse_instant(text, now_ms=0) for text in texts)
    except InvalidQuery as error:
        raise UnexpectedAnswer(f"the hub tells of a range that is none: {error}") from error
    if start > end:
        raise UnexpectedAnswer(f"the hub tells of {'..'.join(texts)}, which ends before it begins")
    return Bounds(start, end)


def _without(asked: Bounds, missing: Sequence[Bounds]) -> list[Bounds]:
    """Return what of a range is not missing."""
    found: list[Bounds] = []
    at = asked.start
    for start, end in [*sorted(missing), Bounds(asked.end, asked.end)]:
        if at < min(start, asked.end):
            found.append(Bounds(at, min(start, asked.end)))
        at = max(at, end)
    return found


def _cut(span: Bounds, count: int, most: int) -> list[Bounds]:
    """Cut a range into equal parts of a millisecond at least."""
    length = span.end - span.start
    number = min(-int(-count // (most * _FILLED)), length, _MOST_CUTS) if count > most else 1
    edges = [span.start + length * i // number for i in range(number + 1)]
    return [Bounds(start, end) for start, end in pairwise(edges)]


def _inner(part: Part) -> bytes:
    """Return the records of a piece as they stand between the brackets."""
    text = bytes(part.entity.data).strip()
    if not (text.startswith(b"[") and text.endswith(b"]")):
        raise UnexpectedAnswer(f"{part.entity.id} came without records")
    return text[1:-1].strip()
