"""Clients that read at a rate of their own, or not at all, on real sockets."""

from __future__ import annotations

import asyncio
import socket
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from ssl import SSLContext

# What the kernel takes for a client that does not read, and for one that does, about.
_UNREAD_BYTES = 4 << 10
_READ_BYTES = 128 << 10
# How often a client reads in a second.
_READS = 10


@asynccontextmanager
async def unread(port: int, buffer: int = _UNREAD_BYTES) -> AsyncIterator[socket.socket]:
    """Connect a client that reads nothing and whose kernel takes little for it."""
    sock = socket.socket()
    sock.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, buffer)
    sock.setblocking(False)
    with sock:
        await asyncio.get_running_loop().sock_connect(sock, ("127.0.0.1", port))
        yield sock


class SteadyReader:
    """A client that sends a request and reads the answer at `rate` bytes a second.

    It keeps what it has received unless it is told not to.
    """

    def __init__(self, port: int, request: bytes, rate: int, *, keeps: bool = True) -> None:
        self._port = port
        self._request = request
        self._rate = rate
        self._keeps = keeps
        self.received = bytearray()
        self.begun = asyncio.Event()
        """Set when the first bytes have come."""

    async def read(
        self,
        ended: Callable[[bytearray], bool] = lambda received: False,
        tls: SSLContext | None = None,
    ) -> bytearray:
        """Read until the answer has ended, or the connection has; return what has come."""
        loop = asyncio.get_running_loop()
        piece = self._rate // _READS
        async with unread(self._port, _READ_BYTES) as sock:
            reader, writer = await asyncio.open_connection(
                sock=sock, ssl=tls, server_hostname="localhost" if tls else None, limit=piece
            )
            try:
                writer.write(self._request)
                due = loop.time()
                while not ended(self.received):
                    found = await reader.read(piece)
                    if not found:
                        break
                    if self._keeps:
                        self.received += found
                    self.begun.set()
                    # Its rate is its nature: it reads so much, and then nothing for a while.
                    due = max(due, loop.time() - 1) + len(found) / self._rate
                    await asyncio.sleep(max(0.0, due - loop.time()))
            finally:
                writer.transport.abort()
        return self.received
