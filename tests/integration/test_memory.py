"""What clients that say nothing cost a hub."""

from __future__ import annotations

import asyncio
import socket
import sys
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import pytest

from gapless.servers.descriptors import raise_limit
from support.hubs import Server, running
from support.wire import PATIENCE_S, connect, line_of, read, records, search

PING = line_of({"type": "Ping"})
# Measured: about 2.3 KB, the kernel's own buffers aside.
MOST_BYTES = 16 << 10
AT_ONCE = 100


def descriptors(server: Server) -> int:
    """Return how many files and sockets a hub has open."""
    return len(list(Path(f"/proc/{server.process.pid}/fd").iterdir()))


async def said(sock: socket.socket) -> dict[str, Any]:
    """Return the one answer that is due on a connection."""
    loop = asyncio.get_running_loop()
    received = b""
    async with asyncio.timeout(PATIENCE_S):
        while not received.endswith(b"\n"):
            piece = await loop.sock_recv(sock, 65_536)
            assert piece, "the connection ended where an answer was due"
            received += piece
    return read(received)


async def ping_all(socks: list[socket.socket]) -> None:
    """See that every connection is served."""
    loop = asyncio.get_running_loop()
    for i in range(0, len(socks), AT_ONCE):
        batch = socks[i : i + AT_ONCE]
        for sock in batch:
            await loop.sock_sendall(sock, PING)
        for sock in batch:
            assert (await said(sock))["ok"]


@asynccontextmanager
async def idle(port: int, count: int) -> AsyncIterator[list[socket.socket]]:
    """Open many connections and leave them alone."""
    loop = asyncio.get_running_loop()
    socks: list[socket.socket] = []
    try:
        for _ in range(count):
            sock = socket.socket()
            socks.append(sock)
            sock.setblocking(False)
            await loop.sock_connect(sock, ("127.0.0.1", port))
        yield socks
    finally:
        for sock in socks:
            sock.close()


@pytest.mark.slow
@pytest.mark.skipif(not Path("/proc/self/status").exists(), reason="reads memory from /proc")
@pytest.mark.parametrize(
    "count", [1_000, pytest.param(10_000, marks=pytest.mark.soak)], ids=["quick", "long"]
)
async def test_idle_connections_are_served_and_cost_little(
    tmp_path: Path, count: int, record_property: Any
) -> None:
    """Connections that say nothing are all served, and one more than the limit is told so."""
    raise_limit(count + 100)
    limits = f"[limits]\nmax_connections = {count + 1}\n"
    async with running(tmp_path / "hub.db", limits) as server, await connect(server.port) as wire:
        january = search("sample", "AAPL", "2012-01-01", "2012-02-01")
        await wire.ask(january)
        alone = descriptors(server)
        async with idle(server.port, 50) as socks:
            # What the first connections make the process keep is not theirs.
            await ping_all(socks)
        async with asyncio.timeout(PATIENCE_S):
            while descriptors(server) > alone:
                await wire.ping()
        before = server.resident
        async with idle(server.port, count) as socks:
            await ping_all(socks)
            each = (server.resident - before) / count
            record_property("bytes per idle connection", round(each))
            sys.stdout.write(f"{each:,.0f} bytes for each of {count:,} idle connections\n")
            async with idle(server.port, 50) as refused:
                for sock in refused:
                    assert (await said(sock))["error"]["code"] == "overloaded"
            await ping_all(socks)
            assert len(records(await wire.ask(january))) == 20
        assert each < MOST_BYTES
