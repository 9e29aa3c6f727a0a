"""The floor: the least that an asyncio server on uvloop can do for a line.

`python echo.py BYTES` counts newlines and writes one ready answer of BYTES bytes for each: no
parsing, no look-up. What a hub in Python costs above this is the hub's own.
"""

from __future__ import annotations

import asyncio
import sys
from typing import cast

import uvloop


class Echo(asyncio.Protocol):
    """Answers each line, wherever the reads cut it, with the same bytes."""

    def __init__(self, answer: bytes) -> None:
        self._answer = answer
        self._transport: asyncio.WriteTransport

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        # uvloop's transports are no subclass of asyncio's.
        self._transport = cast(asyncio.WriteTransport, transport)

    def data_received(self, data: bytes) -> None:
        lines = data.count(b"\n")
        if lines == 1:
            self._transport.write(self._answer)
        elif lines:
            self._transport.writelines([self._answer] * lines)


async def serve(size: int) -> None:
    """Answer with `size` bytes, newline included, on a free port; say which; run until killed."""
    answer = b"x" * (size - 1) + b"\n"
    loop = asyncio.get_running_loop()
    server = await loop.create_server(lambda: Echo(answer), "127.0.0.1", 0, backlog=4096)
    host, port = server.sockets[0].getsockname()
    print(f"tcp={host}:{port}", flush=True)
    await server.serve_forever()


if __name__ == "__main__":
    uvloop.run(serve(int(sys.argv[1])))
