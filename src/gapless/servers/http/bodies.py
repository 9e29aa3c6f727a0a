"""Bodies of data answers: in one piece, or made a piece at a time from what a reader brings.

Apart from deciding what is answered. Whatever takes long is done in worker threads.
"""

from __future__ import annotations

import asyncio
import zlib
from collections.abc import AsyncGenerator, Callable, Sequence
from concurrent.futures import Executor
from contextlib import aclosing
from functools import partial
from typing import TypeVar

import msgspec

from gapless.domain.blocks import Run
from gapless.errors import Overloaded, TooLarge
from gapless.lru import Lru
from gapless.protocol.columns import Schema, merge
from gapless.servers.http.asking import DataRequest
from gapless.servers.http.frames import schema_of, whole_frame
from gapless.servers.http.reading import Page, Piece, Reader
from gapless.servers.http.writers import Writer, document, needs_schema, writer_for

T = TypeVar("T")

_MOST_COLUMNS = 2_000
_MOST_SCHEMAS = 20_000
_GZIP_LEVEL, _GZIP_WINDOW = 5, 31


class Bodies:
    """Makes bodies; `executor` is where."""

    def __init__(self, executor: Executor) -> None:
        self._executor = executor
        # What the records of a block look like as columns, by the block's number.
        self._schemas: Lru[int, Schema] = Lru(_MOST_SCHEMAS)

    async def away(self, work: Callable[[], T]) -> T:
        """Do something in a worker thread."""
        return await asyncio.get_running_loop().run_in_executor(self._executor, work)

    async def pieces(
        self, request: DataRequest, reader: Reader, page: Page, known: Schema
    ) -> AsyncGenerator[bytes, None]:
        """Yield a body: pieces are read and put into their format one ahead of the client.

        `known` is what is known of the records' schema without looking at them.
        """
        schema = await self._schema(request, reader, page, known)
        writer = writer_for(request.format, schema, request.columns or None)
        press = _press() if request.gzip else None
        try:
            async with aclosing(self._written(reader, page, writer)) as bodies:
                async for body in bodies:
                    sent = body if press is None else await self.away(_pressing(press, body))
                    if sent:
                        yield sent
            if press is not None:
                yield press.flush()
        except msgspec.ValidationError as error:
            # Its records do not look as they did when their columns were looked at.
            raise Overloaded("the series was changed while it was read; ask again") from error
        finally:
            writer.close()

    async def _written(
        self, reader: Reader, page: Page, writer: Writer
    ) -> AsyncGenerator[bytes, None]:
        yield writer.head()
        async with aclosing(_ahead(reader.pieces(page))) as pieces:
            async for piece in pieces:
                yield await self.away(_writing(writer, piece))
        yield await self.away(writer.tail)

    async def _schema(
        self, request: DataRequest, reader: Reader, page: Page, known: Schema
    ) -> Schema | None:
        """Return what all records together look like as columns, where the format needs it."""
        if not needs_schema(request.format, request.columns or None):
            return None
        schema = schema_of((), known)
        async with aclosing(_ahead(reader.pieces(page))) as found:
            async for piece in found:
                for one in await self._looked_at(piece):
                    schema = merge(schema, one)
                    _check(len(schema.columns))
        return schema

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


def _pressing(press: zlib._Compress, body: bytes) -> Callable[[], bytes]:
    return lambda: press.compress(body)


def _writing(writer: Writer, piece: Piece) -> Callable[[], bytes]:
    return lambda: writer.batch(piece.runs)


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
        await pieces.aclose()


async def _next(pieces: AsyncGenerator[Piece, None]) -> Piece | None:
    return await anext(pieces, None)
