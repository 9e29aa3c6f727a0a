"""A large body on its way: made a piece at a time, as far as its client takes it.

Apart from what is made and from what is sent. A piece counts against the budget of bytes from
before it is made until the client has taken it, so that what waits for clients is bounded however
many and however slow they are.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncGenerator
from dataclasses import dataclass
from time import perf_counter

from gapless.servers.http.budget import Share
from gapless.servers.window import Window


@dataclass(frozen=True, slots=True)
class BodyPiece:
    """A piece of a body; `last`: the body ends with it."""

    body: bytes
    last: bool = False


@dataclass(frozen=True, slots=True)
class _Made:
    """A piece that is made, and the bytes of the budget that it takes."""

    piece: BodyPiece
    held: int


class BodyStream:
    """Hands on the `pieces` of one body; whoever asks for the next has sent the one before."""

    def __init__(
        self, pieces: AsyncGenerator[BodyPiece, None], window: Window, share: Share
    ) -> None:
        self._pieces = pieces
        self._window = window
        self._share = share
        # What the latest piece had: a block may be larger than what a client soon takes.
        self._latest = 0

    async def pieces(self) -> AsyncGenerator[BodyPiece, None]:
        """Yield the pieces, for a client that keeps up the next being made while it takes one.

        Raises `Overloaded` where there is no room for the first one; later ones wait for theirs.
        """
        window, share = self._window, self._share
        coming: asyncio.Task[_Made | None] | None = None
        try:
            await share.acquire(window.size)
            made = await self._make(window.size)
            while made is not None:
                ahead = window.keeps_up and not made.piece.last
                coming = asyncio.ensure_future(self._next()) if ahead else None
                began = perf_counter()
                try:
                    yield made.piece
                finally:
                    share.release(made.held)
                if made.piece.last:
                    return
                window.taken(perf_counter() - began)
                made = await (self._next() if coming is None else coming)
        finally:
            if coming is not None:
                await self._drop(coming)
            await self._pieces.aclose()

    async def _next(self) -> _Made | None:
        size = max(self._window.size, self._latest)
        await self._share.wait(size)
        return await self._make(size)

    async def _make(self, held: int) -> _Made | None:
        """Return the next piece, for which so much is held; without one, nothing is any more."""
        piece = None
        try:
            piece = await anext(self._pieces, None)
        finally:
            if piece is None:
                self._share.release(held)
        if piece is None:
            return None
        self._latest = len(piece.body)
        return _Made(piece, held)

    async def _drop(self, coming: asyncio.Task[_Made | None]) -> None:
        """Let go of a piece that nobody waits for any more."""
        coming.cancel()
        await asyncio.wait([coming])
        if coming.cancelled() or coming.exception() is not None:
            return
        made = coming.result()
        if made is not None:
            self._share.release(made.held)
