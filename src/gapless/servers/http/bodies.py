"""Bodies of data answers: in one piece, or made a piece at a time from what a reader brings.

Apart from deciding what is answered. Whatever takes long is done in worker threads.
"""

from __future__ import annotations

import asyncio
import zlib
from collections.abc import AsyncGenerator, Callable, Hashable, Sequence
from concurrent.futures import Executor
from contextlib import aclosing
from dataclasses import dataclass
from functools import partial
from typing import TypeVar

import msgspec

from gapless.domain.blocks import Run
from gapless.errors import Overloaded, TooLarge
from gapless.lru import Lru
from gapless.protocol.columns import Schema, merge
from gapless.servers.http.asking import DataRequest
from gapless.servers.http.frames import schema_of, whole_frame
from gapless.servers.http.streaming import BodyPiece
from gapless.servers.http.writers import Writer, document, needs_schema, writer_for
from gapless.servers.reading import Page, Piece, Reader
from gapless.servers.window import WIDE, Window
from gapless.turns import FairTurns

T = TypeVar("T")

_MOST_COLUMNS = 2_000
_MOST_SCHEMAS = 20_000
_GZIP_LEVEL, _GZIP_WINDOW = 5, 31


@dataclass(frozen=True, slots=True)
class Source:
    """What a body is made of: a page of what is read.

    `known` is what is known of the records' schema without looking at them.
    """

    reader: Reader
    page: Page
    known: Schema


class Bodies:
    """Makes bodies, `executor` is where, so many pieces `at_once`, in turns by party."""

    def __init__(self, executor: Executor, at_once: int) -> None:
        self._executor = executor
        self.turns = FairTurns(at_once)
        # What the records of a block look like as columns, by the block's number.
        self._schemas: Lru[int, Schema] = Lru(_MOST_SCHEMAS)

    async def away(self, work: Callable[[], T]) -> T:
        """Do something in a worker thread."""
        return await asyncio.get_running_loop().run_in_executor(self._executor, work)

    async def pieces(
        self, request: DataRequest, source: Source, party: Hashable, window: Window = WIDE
    ) -> AsyncGenerator[BodyPiece, None]:
        """Yield a body; each of its pieces is read and put into its format in a turn of a party.

        They are as large as the window says when they are read.
        """
        schema = await self._schema(request, source, party)
        writer = writer_for(request.format, schema, request.columns or None)
        press = _press() if request.gzip else None
        before = writer.head()
        try:
            async with aclosing(_ahead(source, window)) as pieces:
                while True:
                    async with self.turns.turn(party):
                        piece = await anext(pieces, None)
                        body = await self.away(_writing(writer, piece, press, before))
                    before, last = b"", piece is None
                    # While its client takes it a piece is there once.
                    piece = None
                    if body or last:
                        yield BodyPiece(body, last)
                    if last:
                        return
                    body = b""
        except msgspec.ValidationError as error:
            # Its records do not look as they did when their columns were looked at.
            raise Overloaded("the series was changed while it was read; ask again") from error
        finally:
            writer.close()

    async def _schema(self, request: DataRequest, source: Source, party: Hashable) -> Schema | None:
        """Return what all records together look like as columns, where the format needs it."""
        if not needs_schema(request.format, request.columns or None):
            return None
        schema = schema_of((), source.known)
        async with aclosing(_ahead(source, WIDE)) as pieces:
            while True:
                async with self.turns.turn(party):
                    piece = await anext(pieces, None)
                    looked = [] if piece is None else await self._looked_at(piece)
                if piece is None:
                    return schema
                for one in looked:
                    schema = merge(schema, one)
                    _check(len(schema.columns))

    async def _looked_at(self, piece: Piece) -> list[Schema]:
        """Return the schema of each block of a piece; blocks are looked at once."""
        known = [None if one is None else self._schemas.get(one) for one in piece.numbers]
        looked = await self.away(partial(_look, piece.runs, known))
        for number, schema in zip(piece.numbers, looked, strict=True):
            if number is not None:
                self._schemas.put(number, schema)
        return looked


def in_one_piece(request: DataRequest, runs: Sequence[Run], known: Schema) -> bytes:
    """Return a whole body; it blocks as long as that takes."""
    columns = request.columns or None
    runs = [run for run in runs if len(run)]
    if runs and request.format.columnar and not request.format.is_text:
        frame = whole_frame(runs, known, columns)
        _check(frame.width)
        return document(request.format, frame)
    schema = None
    if needs_schema(request.format, columns):
        schema = schema_of(runs, known)
        _check(len(schema.columns))
    writer = writer_for(request.format, schema, columns)
    try:
        batches = [writer.batch(runs)] if runs else []
        body = b"".join([writer.head(), *batches, writer.tail()])
    finally:
        writer.close()
    return zlib.compress(body, _GZIP_LEVEL, _GZIP_WINDOW) if request.gzip else body


def _check(columns: int) -> None:
    if columns > _MOST_COLUMNS:
        raise TooLarge(
            f"these records have more than the {_MOST_COLUMNS:,} columns that a table may have; "
            "choose some with columns=, of a shorter range, or ask for JSON"
        )


def _look(runs: Sequence[Run], known: Sequence[Schema | None]) -> list[Schema]:
    """Return the schemas of runs of which some are known."""
    return [schema_of([run]) if one is None else one for run, one in zip(runs, known, strict=True)]


def _press() -> zlib._Compress:
    return zlib.compressobj(_GZIP_LEVEL, zlib.DEFLATED, _GZIP_WINDOW)


def _writing(
    writer: Writer, piece: Piece | None, press: zlib._Compress | None, before: bytes
) -> Callable[[], bytes]:
    """Return what makes the body of a piece, or the end of the body, after what is `before` it."""

    def work() -> bytes:
        body = before + (writer.tail() if piece is None else writer.batch(piece.runs))
        if press is None:
            return body
        return press.compress(body) + (press.flush() if piece is None else b"")

    return work


async def _ahead(source: Source, window: Window) -> AsyncGenerator[Piece, None]:
    """Yield what is read; where there is room for it, the next is read meanwhile."""
    pieces = source.reader.pieces(source.page, window)
    coming: asyncio.Future[Piece | None] | None = None
    try:
        while True:
            piece = await (_next(pieces) if coming is None else coming)
            coming = None
            if piece is None:
                return
            found, piece = [piece], None
            if window.ahead:
                coming = asyncio.ensure_future(_next(pieces))
            # Whoever works on it lets go of it; it is not kept here.
            yield found.pop()
    finally:
        if coming is not None:
            coming.cancel()
            await asyncio.wait([coming])
        await pieces.aclose()


async def _next(pieces: AsyncGenerator[Piece, None]) -> Piece | None:
    return await anext(pieces, None)
