"""The records of a series in bulk: held JSON at once, everything else by way of the hub.

What is small is answered in one piece from memory; what is large is read, put into its format and
sent a piece at a time.
"""

from __future__ import annotations

from collections.abc import AsyncGenerator, Hashable, Sequence
from concurrent.futures import Executor
from contextlib import AsyncExitStack, aclosing
from dataclasses import dataclass, replace

import msgspec
import xxhash

from gapless.clock import Clock
from gapless.config.settings import ApiSettings
from gapless.domain.blocks import Run, etag
from gapless.errors import InvalidQuery
from gapless.hub.answers import Answer, State
from gapless.hub.callers import ANYBODY, Caller
from gapless.hub.hub import Hub
from gapless.hub.question import Question
from gapless.hub.series import Validity
from gapless.protocol.columns import Schema
from gapless.servers.http import asking
from gapless.servers.http.asking import DataRequest
from gapless.servers.http.bodies import Bodies, Source, in_one_piece
from gapless.servers.http.budget import LONGEST_WAIT_S, Share, in_time
from gapless.servers.http.formats import Format
from gapless.servers.http.replies import Asked, Replies, Reply, Tags
from gapless.servers.http.stitching import stitch_headers
from gapless.servers.http.streaming import BodyStream
from gapless.servers.http.writers import needs_schema
from gapless.servers.reading import PORTIONS, Page, Portions, Reader, first_page
from gapless.servers.window import Window
from gapless.turns import FairTurns

# From this size on text is put together away from the loop.
_LARGE_BYTES = 1 << 20
# A loaded answer of more text is sent in pieces all the same.
_MOST_LOADED_BYTES = 8 << 20
# How long a file that is read by ranges stays as its reader first saw it.
_SNAPSHOT_MS = 30_000
# Large bodies that are gathered in memory at once, and as many that are to be kept ready.
_GATHERED = 4
# About what a record takes of a body; that of a Parquet file is known when it is there.
_RECORD_BYTES = 64


@dataclass(frozen=True, slots=True)
class DataQuestion:
    """A request for data, read once: its bytes, the form it wants, and what is asked of the hub."""

    asked: Asked
    request: DataRequest
    question: Question


@dataclass(frozen=True, slots=True)
class _Part:
    """What of an answer is sent: a page of it, with its runs where they are at hand."""

    answer: Answer
    page: Page
    runs: tuple[Run, ...] | None


class Data:
    """Answers requests for data.

    Half as much memory as there is for blocks is for answers that are kept ready.
    """

    def __init__(
        self,
        hub: Hub,
        clock: Clock,
        executor: Executor,
        api: ApiSettings,
        portions: Portions = PORTIONS,
    ) -> None:
        memo_bytes = hub.settings.cache.hot_bytes // 2
        self._portions = portions
        self._hub = hub
        self._clock = clock
        self._bodies = Bodies(executor, api.max_streams)
        self._replies = Replies(memo_bytes)
        # Those for whom nothing is fetched may have seen less.
        self._snapshots = {may_fetch: Replies(memo_bytes // 8) for may_fetch in (True, False)}
        self._gathering = FairTurns(_GATHERED)
        # What is being put together to be kept ready.
        self._keeping: set[Asked] = set()

    def at_once(self, asked: Asked) -> Reply | DataQuestion:
        """Answer without waiting what is kept ready, or held and asked for as plain JSON.

        Anything else is read, to be answered by `reply`.
        """
        kept = self._replies.find(asked, self._clock.now_ms())
        if kept is not None:
            return kept
        read = self._read(asked)
        request = read.request
        if not request.plain or request.cursor is not None:
            return read
        answer = self._hub.held(read.question)
        if answer is None or answer.size > _LARGE_BYTES or answer.count > request.limit:
            return read
        part = _Part(answer, first_page(answer, request.limit), None)
        return self._keep(asked, part, self._whole(asked, request, part, answer.text()))

    async def reply(
        self, read: DataQuestion, share: Share, whole: bool = False, caller: Caller = ANYBODY
    ) -> Reply:
        """Answer a request, going upstream for its gaps; raise what it fails with.

        `share` is its party's in what may wait for clients.

        `whole`: a body in one piece is wanted, because its length or a range of it is asked for.
        One that is too large for that comes in pieces all the same; one that may yet change stays
        as it is for so long that its reader can have all ranges of it.
        """
        now = self._clock.now_ms()
        asked, request = read.asked, read.request
        snapshots = self._snapshots[caller.may_fetch]
        found = snapshots.find(asked, now) if whole else None
        if found is not None:
            return found
        part = await self._part(request, await self._answer(read, caller), share.party)
        if part.runs is not None:
            body: bytes | None = await self._body(request, part)
        elif whole or request.format is Format.PARQUET:
            body = await self._gathered(request, part, share)
        else:
            body = None
        if body is not None:
            made = body
            if len(made) < _LARGE_BYTES:
                reply = self._whole(asked, request, part, made)
            else:
                reply = await self._bodies.away(lambda: self._whole(asked, request, part, made))
            if whole and not reply.tags:
                reply = replace(reply, headers=_ranged(reply.headers))
                snapshots.keep(asked, reply, now + _SNAPSHOT_MS, Validity(), now)
                return reply
            return self._keep(asked, part, reply)
        tags = _tags(request, part)
        return Reply(
            200,
            self._headers(asked, request, part, tags),
            self._stream(asked, request, part, share),
            tags,
            *_points(part),
        )

    # What is asked, from the hub

    def _read(self, asked: Asked) -> DataQuestion:
        raw_path, query, accept, encoding = asked
        request = asking.read(
            raw_path,
            query,
            accept.decode("latin-1") or None,
            encoding.decode("latin-1") or None,
            self._hub.settings.limits.max_records,
        )
        most_loaded = min(self._portions.most_loaded, request.limit)
        question = self._hub.question(request.query, request.strict, most_loaded)
        return DataQuestion(asked, request, question)

    async def _answer(self, read: DataQuestion, caller: Caller) -> Answer:
        request = read.request
        answer = await self._hub.records(read.question, caller)
        cursor = request.cursor
        now_is = (answer.series.state.changed, answer.series.state.created)
        if cursor is not None and (cursor.changed, cursor.created) != now_is:
            raise InvalidQuery(
                f"upstream has changed the past of {answer.key.text} since the first page was read "
                "(a split, a dividend, a correction), or it was forgotten meanwhile; pages of the "
                "two do not fit, so begin again without the cursor"
            )
        return answer

    async def _part(self, request: DataRequest, answer: Answer, party: Hashable) -> _Part:
        """Return the page of an answer that is sent, with its runs unless it is large."""
        if answer.loaded and (answer.derived or answer.size <= _MOST_LOADED_BYTES):
            page = first_page(answer, request.limit)
            runs = tuple(one.run.run.cut(page.interval) for one in answer.slices)
            return _Part(answer, page, runs)
        reader = self._reader(answer)
        page = await reader.page(request.limit)
        if answer.loaded or page.count > self._portions.most_loaded:
            return _Part(answer, page, None)
        async with self._bodies.turns.turn(party), aclosing(reader.pieces(page)) as pieces:
            found = [run async for piece in pieces for run in piece.runs]
        if sum(len(run.text) for run in found) > _MOST_LOADED_BYTES:
            return _Part(answer, page, None)
        return _Part(answer, page, tuple(found))

    def _reader(self, answer: Answer) -> Reader:
        return Reader(self._hub.holdings, answer, self._portions.piece_records)

    def _known(self, answer: Answer) -> Schema:
        """Return what is known of the records' schema without looking at them."""
        provider = self._hub.registry.get(answer.key.provider)
        columns = provider.traits(answer.key).columns or provider.info.columns
        declared = ("timestamp", *columns) if columns else ()
        return Schema(declared=tuple(dict.fromkeys(declared)), dates=self._hub.dates(answer))

    # Answers in one piece

    async def _body(self, request: DataRequest, part: _Part) -> bytes:
        """Return the whole body; what takes long is done away from the loop."""
        runs, known = part.runs or (), self._known(part.answer)
        quick = not (request.gzip or needs_schema(request.format, request.columns or None))
        if quick and sum(len(run.text) for run in runs) < _LARGE_BYTES:
            return in_one_piece(request, runs, known)
        return await self._bodies.away(lambda: in_one_piece(request, runs, known))

    async def _gathered(self, request: DataRequest, part: _Part, share: Share) -> bytes | None:
        """Return a large body in one piece; `None` where it is too large to be kept.

        Parquet is: its end can only be written when everything is there.
        """
        most = None if request.format is Format.PARQUET else self._replies.most
        found: list[bytes] = []
        size = 0
        turns = self._gathering
        async with AsyncExitStack() as stack:
            # Where there is no room for it to wait for its client it need not be made yet.
            await stack.enter_async_context(share.hold(part.page.count * _RECORD_BYTES))
            with in_time("as many large bodies are put together as may be at once"):
                await stack.enter_async_context(turns.turn(share.party, 1, LONGEST_WAIT_S))
            pieces = self._bodies.pieces(request, self._source(part), share.party)
            async with aclosing(pieces):
                async for piece in pieces:
                    size += len(piece.body)
                    if most is not None and size > most:
                        return None
                    found.append(piece.body)
            return await self._bodies.away(lambda: b"".join(found))

    def _whole(self, asked: Asked, request: DataRequest, part: _Part, body: bytes) -> Reply:
        tags = _tags(request, part, body)
        headers = (
            *self._headers(asked, request, part, tags),
            (b"accept-ranges", b"bytes" if tags else b"none"),
            (b"content-length", b"%d" % len(body)),
        )
        return Reply(200, headers, body, tags, *_points(part))

    def _keep(self, asked: Asked, part: _Part, reply: Reply) -> Reply:
        """Keep a reply ready if the very same would be answered again."""
        answer, now = part.answer, self._clock.now_ms()
        if answer.state is State.READY and not answer.fetched and answer.series.current:
            self._replies.keep(asked, reply, answer.fresh_until, answer.series.validity, now)
        return reply

    # Answers in several pieces

    def _source(self, part: _Part) -> Source:
        return Source(self._reader(part.answer), part.page, self._known(part.answer))

    async def _stream(
        self, asked: Asked, request: DataRequest, part: _Part, share: Share
    ) -> AsyncGenerator[bytes, None]:
        """Yield the body piece by piece; what took work and is not too large is kept ready.

        Unless its client is slow, for what is kept until its end would be kept for long.
        """
        window = Window()
        made = self._bodies.pieces(request, self._source(part), share.party, window)
        stream = BodyStream(made, window, share)
        kept: list[bytes] | None = None
        keeps = request.format.columnar and len(self._keeping) < _GATHERED
        if keeps and asked not in self._keeping:
            self._keeping.add(asked)
            kept = []
        size = 0
        try:
            async with aclosing(stream.pieces()) as pieces:
                async for piece in pieces:
                    size += len(piece.body)
                    if kept is not None and (size > self._replies.most or not window.keeps_up):
                        kept = None
                        self._keeping.discard(asked)
                    if kept is not None:
                        kept.append(piece.body)
                        if piece.last:
                            # Before its reader has the end of it and leaves.
                            await self._keep_ready(asked, request, part, kept)
                    yield piece.body
                    del piece
        finally:
            if kept is not None:
                self._keeping.discard(asked)

    async def _keep_ready(
        self, asked: Asked, request: DataRequest, part: _Part, bodies: list[bytes]
    ) -> None:
        """Keep a body ready that is there in its pieces, which it lets go of."""
        reply = await self._bodies.away(lambda: self._whole(asked, request, part, b"".join(bodies)))
        bodies.clear()
        self._keep(asked, part, reply)

    # Headers

    def _headers(
        self, asked: Asked, request: DataRequest, part: _Part, tags: Tags
    ) -> list[tuple[bytes, bytes]]:
        answer, page = part.answer, part.page
        headers = [
            (b"content-type", request.format.media_type.encode()),
            (b"vary", b"accept, accept-encoding"),
            (b"x-content-type-options", b"nosniff"),
            (b"gapless-records", b"%d" % page.count),
            (b"gapless-etag", etag(page.total).encode()),
            *stitch_headers(answer),
        ]
        if request.gzip:
            headers.append((b"content-encoding", b"gzip"))
        if tags:
            headers += [(b"etag", tags[0]), (b"cache-control", b"no-cache")]
        else:
            headers.append((b"cache-control", b"no-store"))
        if page.more:
            cursor, link = asking.next_page(
                asked[0],
                asked[1],
                page.interval.end,
                answer.asked.end,
                answer.series.state.changed,
                answer.series.state.created,
            )
            headers += [
                (b"gapless-next", cursor.encode()),
                (b"link", f'<{link}>; rel="next"'.encode("ascii")),
            ]
        return headers


def _ranged(headers: Sequence[tuple[bytes, bytes]]) -> Sequence[tuple[bytes, bytes]]:
    return [(name, b"bytes" if name == b"accept-ranges" else value) for name, value in headers]


def _tags(request: DataRequest, part: _Part, body: bytes | None = None) -> Tags:
    """Return the entity tags of what is sent, the one that is told first; none: it may change.

    A tag is made of the records' own (stitching rule 18). Where the same records may come as
    other bytes it is a weak one; a body that is there as a whole has a strong one besides, for
    ranges of it may be asked for.
    """
    answer = part.answer
    if answer.state is not State.READY or answer.refresh_after is not None:
        return ()
    form = request.format.value
    if request.columns:
        form += "-" + xxhash.xxh3_64_hexdigest(",".join(request.columns).encode())
    if answer.facts:
        # They are told beside the records, and dates are made by them.
        form += f"-{xxhash.xxh3_64_intdigest(msgspec.json.encode(answer.facts)) >> 32:08x}"
    if request.gzip:
        form += "-gzip"
    tag = f'"{etag(part.page.total)}-{form}"'.encode()
    if request.format.is_text and not request.gzip and part.page.count:
        return (tag,)
    weak = b"W/" + tag
    if body is None:
        return (weak,)
    strong = f'"{xxhash.xxh3_64_hexdigest(body)}-{form}-bytes"'.encode()
    # Without records all that is there is the columns, which records do not tell.
    return (strong, weak) if part.page.count else (strong,)


def _points(part: _Part) -> tuple[int, int]:
    """Return how many records were held before and how many were fetched for this answer."""
    answer, count = part.answer, part.page.count
    if not answer.fetched:
        return count, 0
    if part.runs is None:
        spans = answer.fetched
        fetched = sum(answer.series.state.count(span) for span in spans)
    else:
        bounds = [run.bounds(span) for run in part.runs for span in answer.fetched]
        fetched = sum(j - i for i, j in bounds)
    fetched = min(fetched, count)
    return count - fetched, fetched
