"""A way to a port that is not the port itself: a tunnel, a mapped port, a proxy that changes."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager, suppress
from dataclasses import dataclass, field

from support.wire import LONGEST_ANSWER, PATIENCE_S


@dataclass(slots=True)
class Forwarder:
    """Forwards what comes to `port` to `target`, which may change; `None`: it hangs up.

    `sent` is all that clients have sent, `connections` how often one came. In the lines that come
    back each of `replaced` is put in place of the other. `passing` is awaited with what a client
    has sent before that goes on.
    """

    target: int | None
    replaced: dict[bytes, bytes] = field(default_factory=dict)
    port: int = 0
    sent: bytearray = field(default_factory=bytearray)
    connections: int = 0
    passing: Callable[[bytes], Awaitable[None]] | None = None
    _writers: set[asyncio.StreamWriter] = field(default_factory=set)

    @property
    def url(self) -> str:
        """The address, for HTTP."""
        return f"http://127.0.0.1:{self.port}"

    def drop(self) -> None:
        """Break all connections off, as they are when what is behind them is another one."""
        for writer in self._writers:
            writer.transport.abort()

    async def serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        """Forward one connection, until either side ends it."""
        self.connections += 1
        if self.target is None:
            writer.transport.abort()
            return
        back, on = await asyncio.open_connection("127.0.0.1", self.target, limit=LONGEST_ANSWER)
        self._writers |= {writer, on}
        ways = {
            asyncio.ensure_future(self._there(reader, on)),
            asyncio.ensure_future(self._back(back, writer)),
        }
        try:
            await asyncio.wait(ways, return_when=asyncio.FIRST_COMPLETED)
        finally:
            for way in ways:
                way.cancel()
            for one in (writer, on):
                one.close()
            await asyncio.gather(
                *ways, writer.wait_closed(), on.wait_closed(), return_exceptions=True
            )
            self._writers -= {writer, on}

    async def _there(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        while data := await reader.read(1 << 16):
            self.sent += data
            if self.passing is not None:
                await self.passing(data)
            writer.write(data)
            await writer.drain()

    async def _back(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        # Only lines are sure to have whole what is to be replaced.
        while data := await (reader.readline() if self.replaced else reader.read(1 << 16)):
            for before, after in self.replaced.items():
                data = data.replace(before, after)
            writer.write(data)
            await writer.drain()


@asynccontextmanager
async def forwarder(
    target: int | None, replaced: dict[bytes, bytes] | None = None
) -> AsyncIterator[Forwarder]:
    """Forward to a port of this machine for the length of the block."""
    opened = Forwarder(target, replaced or {})
    tasks: set[asyncio.Task[None]] = set()

    async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        task = asyncio.current_task()
        assert task is not None
        tasks.add(task)
        # Whoever is behind may have gone, and clients may go at any time.
        with suppress(OSError, asyncio.CancelledError):
            await opened.serve(reader, writer)
        tasks.discard(task)

    server = await asyncio.start_server(serve, "127.0.0.1", 0)
    opened.port = server.sockets[0].getsockname()[1]
    try:
        yield opened
    finally:
        server.close()
        # Also what nobody reads any more.
        opened.drop()
        async with asyncio.timeout(PATIENCE_S):
            await asyncio.gather(*tasks, return_exceptions=True)
