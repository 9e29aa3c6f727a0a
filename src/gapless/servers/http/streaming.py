"""A large body on its way: made a piece at a time, as far as its client takes it.

Apart from what is made and from what is sent. A piece counts against the budget of bytes from
before it is made until the client has taken it, so that what waits for clients is bounded however
many and however slow they are.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncGenerator, Callable
from dataclasses import dataclass
from time import perf_counter

from gapless.servers.http.budget import Share
from gapless.servers.window import LEAST_BYTES, Window


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
    """Hands on the `pieces` of one body; whoever asks for the next has sent the one before.

    What has been sent is let go of here, and is to be let go of there.
    """

    def __init__(
        self,
        pieces: AsyncGenerator[BodyPiece, None],
        window: Window,
        share: Share,
        timer: Callable[[], float] = perf_counter,
    ) -> None:
        self._pieces = pieces
        self._timer = timer
        self._window = window
        self._share = share
        # What the smallest piece has, as far as that is known: it is one block.
        self._least = LEAST_BYTES

    async def pieces(self) -> AsyncGenerator[BodyPiece, None]:
        """Yield the pieces; where there is room for it the next is made while one is taken.

        Raises `Overloaded` where there is no room for the first one; later ones wait for theirs.
        """
        window, share = self._window, self._share
        coming: asyncio.Future[_Made | None] | None = None
        weight = self._choose()
        await share.acquire(weight)
        made = await self._make(weight)
        try:
            while made is not None:
                last, held = made.piece.last, made.held
                if not last and window.ahead:
                    coming = asyncio.ensure_future(self._next())
                began = self._timer()
                try:
                    yield made.piece
                finally:
                    share.release(held)
                made = None
                if last:
                    return
                window.taken(self._timer() - began)
                made = await (self._next() if coming is None else coming)
                coming = None
        finally:
            if coming is not None:
                await self._drop(coming)
            await self._pieces.aclose()

    def _choose(self) -> int:
        """Choose the size of the next piece; return what is held for it."""
        return self._window.choose(self._share.room, self._least)

    async def _next(self) -> _Made | None:
        weight = self._choose()
        await self._share.wait(weight)
        return await self._make(weight)

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
        if self._least == LEAST_BYTES:
            # The first is a block: before it nobody knows how large records are.
            self._least = max(LEAST_BYTES, len(piece.body))
        return _Made(piece, held)

    async def _drop(self, coming: asyncio.Future[_Made | None]) -> None:
        """Let go of a piece that nobody waits for any more."""
        coming.cancel()
        await asyncio.wait([coming])
        if coming.cancelled() or coming.exception() is not None:
            return
        made = coming.result()
        if made is not None:
            self._share.release(made.held)
