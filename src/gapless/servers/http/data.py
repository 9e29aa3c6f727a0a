"""The records of a series in bulk: held JSON at once, everything else by way of the hub.

What is small is answered in one piece from memory; what is large is read, put into its format and
sent a piece at a time.
"""

from __future__ import annotations

import asyncio
import zlib
from collections import OrderedDict
from collections.abc import AsyncGenerator, Callable, Sequence
from concurrent.futures import Executor
from contextlib import aclosing, asynccontextmanager
from dataclasses import dataclass
from typing import TypeVar

import xxhash

from gapless.clock import Clock
from gapless.domain.blocks import Run, etag
from gapless.domain.intervals import Interval
from gapless.errors import InvalidQuery, Overloaded
from gapless.hub.answers import Answer, State
from gapless.hub.hub import Hub
from gapless.servers.http import asking
from gapless.servers.http.asking import DataRequest
from gapless.servers.http.frames import Schema, merge, schema_of
from gapless.servers.http.reading import Page, Piece, Reader
from gapless.servers.http.replies import Asked, Replies, Reply, Tags
from gapless.servers.http.stitching import stitch_headers
from gapless.servers.http.writers import Writer, needs_schema, writer_for

T = TypeVar("T")

# From this size on text is joined and pressed away from the loop.
_LARGE_BYTES = 1 << 20
_MOST_SCHEMAS = 20_000
_LONGEST_WAIT_S = 30.0
_GZIP = {"level": 5, "wbits": 31}


@dataclass(frozen=True, slots=True)
class _Part:
    """What of an answer is sent: a page of it, with its runs where they are at hand."""

    answer: Answer
    page: Page
    runs: tuple[Run, ...] | None

    @property
    def size(self) -> int:
        """How many bytes the text of its runs has."""
        return sum(len(run.text) for run in self.runs or ())


@dataclass(frozen=True, slots=True)
class DataLimits:
    """What answers may take.

    `memo_bytes`: for those that are kept ready. `streams`: large ones put together at once.
    `most_loaded`: an answer of more records is large, and not taken into memory as a whole.
    `piece_records`: how many of its records are read at once.
    """

    memo_bytes: int = 128 << 20
    streams: int = 8
    most_loaded: int = 50_000
    piece_records: int = 32_768


class Data:
    """Answers requests for data."""

    def __init__(
        self,
        hub: Hub,
        clock: Clock,
        executor: Executor,
        limits: DataLimits | None = None,
    ) -> None:
        limits = limits or DataLimits()
        self._limits = limits
        self._hub = hub
        self._clock = clock
        self._executor = executor
        self._replies = Replies(limits.memo_bytes)
        self._streams = asyncio.Semaphore(limits.streams)
        # What the records of a block look like as columns, by the block's number.
        self._schemas: OrderedDict[int, Schema] = OrderedDict()

    def read(self, asked: Asked) -> DataRequest:
        """Read a request; raise `InvalidQuery` for what makes no sense."""
        raw_path, query, accept, encoding = asked
        return asking.read(
            raw_path,
            query,
            accept.decode("latin-1") or None,
            encoding.decode("latin-1") or None,
            self._hub.options.max_records,
        )

    def at_once(self, asked: Asked) -> Reply | None:
        """Answer without waiting what is kept ready, or held and asked for as plain JSON."""
        now = self._clock.now_ms()
        kept = self._replies.find(asked, now)
        if kept is not None:
            return kept
        request = self.read(asked)
        if not request.plain or request.cursor is not None:
            return None
        answer = self._hub.held(request.query)
        if answer is None or answer.size > _LARGE_BYTES or answer.count > request.limit:
            return None
        runs = tuple(one.run.run.cut(answer.asked) for one in answer.slices)
        part = _Part(answer, Page(answer.count, answer.asked, False), runs)
        return self._keep(asked, part, self._whole(asked, request, part, answer.text()))

    async def reply(self, asked: Asked, whole: bool = False) -> Reply:
        """Answer a request, going upstream for its gaps; raise what it fails with.

        `whole`: a body in one piece is wanted, because its length or a range of it is asked for;
        one that is too large for that comes in pieces all the same.
        """
        request = self.read(asked)
        part = await self._part(request, await self._answer(request))
        if part.runs is not None:
            body: bytes | None = await self._body(request, part)
        else:
            body = await self._gathered(request, part) if whole else None
        if body is not None:
            return self._keep(asked, part, self._whole(asked, request, part, body))
        tags = _tags(request, part)
        return Reply(
            200,
            self._headers(asked, request, part, tags),
            self._stream(asked, request, part),
            tags,
            *_points(part),
        )

    # What is asked, from the hub

    async def _answer(self, request: DataRequest) -> Answer:
        answer = await self._hub.records(
            request.query, request.strict, min(self._limits.most_loaded, request.limit)
        )
        cursor = request.cursor
        if cursor is not None and cursor.generation != answer.generation:
            raise InvalidQuery(
                f"{answer.key.text} is on another basis since the first page was read (a split, "
                "a dividend); pages of two bases do not fit, so begin again without the cursor"
            )
        return answer

    async def _part(self, request: DataRequest, answer: Answer) -> _Part:
        """Return the page of an answer that is sent, with its runs unless it is large."""
        if answer.loaded:
            runs = tuple(one.run.run.cut(answer.asked) for one in answer.slices)
            return _Part(answer, Page(answer.count, answer.asked, False), runs)
        reader = self._reader(answer)
        page = await reader.page(request.limit)
        if page.count > self._limits.most_loaded:
            return _Part(answer, page, None)
        async with aclosing(reader.pieces(page.interval)) as pieces:
            found = tuple([run async for piece in pieces for run in piece.runs])
        return _Part(answer, page, found)

    def _reader(self, answer: Answer) -> Reader:
        return Reader(self._hub.holdings, answer, self._limits.piece_records)

    # Answers in one piece

    async def _body(self, request: DataRequest, part: _Part) -> bytes:
        """Return the whole body; what takes long is done away from the loop."""
        known = self._declared(part.answer)
        plain = not (request.gzip or needs_schema(request.format, request.columns or None))
        if plain and part.size < _LARGE_BYTES:
            return _written(request, part.runs or (), known)
        return await self._away(lambda: _written(request, part.runs or (), known))

    def _declared(self, answer: Answer) -> Sequence[str]:
        """Return the columns that the provider says its records have."""
        info = self._hub.registry.get(answer.key.provider).info
        return ("timestamp", *info.columns) if info.columns else ()

    def _whole(self, asked: Asked, request: DataRequest, part: _Part, body: bytes) -> Reply:
        tags = _tags(request, part, body)
        headers = (
            *self._headers(asked, request, part, tags),
            (b"accept-ranges", b"bytes"),
            (b"content-length", b"%d" % len(body)),
        )
        return Reply(200, headers, body, tags, *_points(part))

    def _keep(self, asked: Asked, part: _Part, reply: Reply) -> Reply:
        """Keep a reply ready if the very same would be answered again."""
        answer, now = part.answer, self._clock.now_ms()
        if answer.state is State.READY and not answer.fetched and answer.entry.current:
            self._replies.keep(asked, reply, answer.fresh_until, answer.entry.validity, now)
        return reply

    # Answers in several pieces

    async def _stream(
        self, asked: Asked, request: DataRequest, part: _Part
    ) -> AsyncGenerator[bytes, None]:
        """Yield the body piece by piece; what took work and is not too large is kept ready."""
        kept: list[bytes] | None = [] if request.format.columnar else None
        size = 0
        async with aclosing(self._pieces(request, part)) as pieces:
            async for piece in pieces:
                size += len(piece)
                if kept is not None and size <= self._replies.most:
                    kept.append(piece)
                else:
                    kept = None
                yield piece
        if kept is not None:
            pieces_kept = kept
            reply = await self._away(
                lambda: self._whole(asked, request, part, b"".join(pieces_kept))
            )
            self._keep(asked, part, reply)

    async def _gathered(self, request: DataRequest, part: _Part) -> bytes | None:
        """Return the body in one piece; `None` where it is too large to be kept."""
        found: list[bytes] = []
        size = 0
        async with aclosing(self._pieces(request, part)) as pieces:
            async for piece in pieces:
                size += len(piece)
                if size > self._replies.most:
                    return None
                found.append(piece)
        return await self._away(lambda: b"".join(found))

    async def _pieces(self, request: DataRequest, part: _Part) -> AsyncGenerator[bytes, None]:
        """Yield the body: pieces are read and put into their format one ahead of the client."""
        answer, interval = part.answer, part.page.interval
        async with self._turn():
            schema = await self._schema(request, answer, interval)
            writer = writer_for(request.format, schema, request.columns or None)
            press = zlib.compressobj(**_GZIP) if request.gzip else None  # type: ignore[arg-type]
            try:
                async with aclosing(self._bodies(answer, interval, writer)) as bodies:
                    async for body in bodies:
                        if sent := await self._pressed(press, body):
                            yield sent
                if press is not None:
                    yield press.flush()
            finally:
                writer.close()

    @asynccontextmanager
    async def _turn(self) -> AsyncGenerator[None, None]:
        """Hold one of the places for large answers, each of which costs some memory."""
        try:
            async with asyncio.timeout(_LONGEST_WAIT_S):
                await self._streams.acquire()
        except TimeoutError:
            raise Overloaded(
                f"{self._limits.streams} large answers are under way (api.max_streams), and none "
                f"of them has ended within {_LONGEST_WAIT_S:g} s; try again",
                retry_after_s=_LONGEST_WAIT_S,
            ) from None
        try:
            yield
        finally:
            self._streams.release()

    async def _bodies(
        self, answer: Answer, interval: Interval, writer: Writer
    ) -> AsyncGenerator[bytes, None]:
        yield writer.head()
        reader = self._reader(answer)
        async with aclosing(_ahead(reader.pieces(interval))) as pieces:
            async for piece in pieces:
                yield await self._away(lambda piece=piece: writer.batch(piece.runs))  # type: ignore[misc]
        yield await self._away(writer.tail)

    async def _schema(
        self, request: DataRequest, answer: Answer, interval: Interval
    ) -> Schema | None:
        """Return what all records together look like as columns, where the format needs it."""
        if not needs_schema(request.format, request.columns or None):
            return None
        schema = schema_of((), self._declared(answer))
        pieces = self._reader(answer).pieces(interval)
        async with aclosing(_ahead(pieces)) as found:
            async for piece in found:
                schema = merge(schema, await self._away(lambda p=piece: self._looks(p)))  # type: ignore[misc]
        return schema

    def _looks(self, piece: Piece) -> Schema:
        """Return the schema of a piece; blocks are looked at once."""
        result: Schema | None = None
        for number, run in zip(piece.numbers, piece.runs, strict=True):
            schema = None if number is None else self._schemas.get(number)
            if schema is None:
                schema = schema_of([run])
                if number is not None:
                    self._schemas[number] = schema
                while len(self._schemas) > _MOST_SCHEMAS:
                    self._schemas.popitem(last=False)
            result = schema if result is None else merge(result, schema)
        assert result is not None
        return result

    async def _pressed(self, press: object, body: bytes) -> bytes:
        if press is None or not body:
            return body
        return await self._away(lambda: press.compress(body))  # type: ignore[attr-defined]

    async def _away(self, work: Callable[[], T]) -> T:
        return await asyncio.get_running_loop().run_in_executor(self._executor, work)

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
                asked[0], asked[1], page.interval.end, answer.asked.end, answer.generation
            )
            headers += [
                (b"gapless-next", cursor.encode()),
                (b"link", f'<{link}>; rel="next"'.encode("ascii")),
            ]
        return headers


def _written(request: DataRequest, runs: Sequence[Run], known: Sequence[str]) -> bytes:
    """Return a body in one piece; it blocks as long as that takes."""
    columns = request.columns or None
    runs = [run for run in runs if len(run)]
    schema = schema_of(runs, known) if needs_schema(request.format, columns) else None
    writer = writer_for(request.format, schema, columns)
    try:
        batches = [writer.batch(runs)] if runs else []
        body = b"".join([writer.head(), *batches, writer.tail()])
    finally:
        writer.close()
    return zlib.compress(body, **_GZIP) if request.gzip else body


def _tags(request: DataRequest, part: _Part, body: bytes | None = None) -> Tags:
    """Return the entity tags of what is sent, the one that is told first; none: it may change.

    Of records in memory a tag is made of their own (stitching rule 18). Of others it is made of
    the blocks that they lie in: the number of a block is never used twice, and what is in it
    never changes. Where the same records may come as other bytes that is a weak one; a body that
    is there as a whole has a strong one besides, for ranges of it may be asked for.
    """
    answer, page = part.answer, part.page
    if answer.state is not State.READY or answer.refresh_after is not None:
        return ()
    if part.runs is not None:
        total = sum(run.sum(0, len(run)) for run in part.runs)
    else:
        numbers = [
            block.number
            for block in answer.entry.state.blocks
            if block.generation == answer.generation and block.interval.overlaps(page.interval)
        ]
        total = xxhash.xxh3_64_intdigest(repr((numbers, page.interval)).encode())
    form = request.format.value
    if request.columns:
        form += "-" + xxhash.xxh3_64_hexdigest(",".join(request.columns).encode())
    if request.gzip:
        form += "-gzip"
    tag = f'"{etag(total)}-{form}"'.encode()
    if request.format.is_text and not request.gzip:
        return (tag,)
    weak = b"W/" + tag
    if body is None:
        return (weak,)
    return f'"{xxhash.xxh3_64_hexdigest(body)}-{form}-bytes"'.encode(), weak


def _points(part: _Part) -> tuple[int, int]:
    """Return how many records were held before and how many were fetched for this answer."""
    answer, count = part.answer, part.page.count
    if not answer.fetched:
        return count, 0
    if part.runs is None:
        spans = answer.fetched
        fetched = sum(answer.entry.state.count(span, answer.generation) for span in spans)
    else:
        bounds = [run.bounds(span) for run in part.runs for span in answer.fetched]
        fetched = sum(j - i for i, j in bounds)
    fetched = min(fetched, count)
    return count - fetched, fetched


async def _ahead(pieces: AsyncGenerator[Piece, None]) -> AsyncGenerator[Piece, None]:
    """Yield pieces, the next one being read while one is worked on."""
    coming: asyncio.Task[Piece | None] = asyncio.ensure_future(_next(pieces))
    try:
        while (piece := await coming) is not None:
            coming = asyncio.ensure_future(_next(pieces))
            yield piece
    finally:
        coming.cancel()
        await asyncio.wait([coming])


async def _next(pieces: AsyncGenerator[Piece, None]) -> Piece | None:
    return await anext(pieces, None)
