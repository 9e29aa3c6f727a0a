"""Servers that are no hub, or a hub on a bad day: a script says what each connection gets.

And one that stands before a hub.
"""

from __future__ import annotations

import asyncio
import json
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager, suppress
from dataclasses import dataclass, field
from typing import Any, TypeAlias

from support.wire import PATIENCE_S

_HANDSHAKE = b"\x16"
VERSION = "0"
INSTANCE = "0123456789abcdef0123456789abcdef"
"""Which hub a stranger says it is."""


class Guest:
    """One connection, seen from the server."""

    def __init__(
        self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter, begun: bytes
    ) -> None:
        self._reader = reader
        self._writer = writer
        self._begun = begun

    async def request(self) -> dict[str, Any]:
        """Return the next request."""
        line = self._begun + await self._reader.readline()
        self._begun = b""
        if not line:
            raise ConnectionResetError("the client has left")
        found: dict[str, Any] = json.loads(line)
        return found

    async def head(self) -> bytes:
        """Return the head of the next request of HTTP."""
        head = self._begun + await self._reader.readuntil(b"\r\n\r\n")
        self._begun = b""
        return head

    async def asked(self) -> bytes:
        """Return the head of the next request of HTTP that is no greeting; those are answered."""
        while (head := await self.head()).startswith(b"GET /healthz "):
            await self.say(healthz())
        return head

    async def left(self) -> None:
        """Return once the client has closed the connection."""
        await self._reader.read()

    async def say(self, data: bytes) -> None:
        """Send bytes."""
        self._writer.write(data)
        await self._writer.drain()

    async def answer(self, request: dict[str, Any], result: Any = None, **more: Any) -> None:
        """Answer a request well."""
        await self.say(answer(request["request_id"], result, **more))

    async def refuse(self, request: dict[str, Any] | None, **error: Any) -> None:
        """Answer a request with an error; `None`: what concerns the connection."""
        about = None if request is None else request["request_id"]
        told = {"ok": False, "request_id": about, "kind": "Ping", "error": error}
        await self.say(json.dumps(told).encode() + b"\n")


Script: TypeAlias = Callable[[Guest, int], Awaitable[None]]
"""What a server does with a connection, the first being number 1; in the end it hangs up."""


@dataclass(slots=True)
class Stranger:
    """A server; `connections` counts those that asked for something."""

    port: int = 0
    connections: int = 0
    failures: list[BaseException] = field(default_factory=list)


def answer(request_id: Any, result: Any = None, **more: Any) -> bytes:
    """Return the line of an answer."""
    return (
        json.dumps({"ok": True, "request_id": request_id, "result": result, **more}).encode()
        + b"\n"
    )


def hello(http: str | None = None, instance: str | None = INSTANCE) -> dict[str, Any]:
    """Return what a hub says to `Ping`; without an `instance` it is an older one."""
    told = {
        "name": "gapless",
        "version": VERSION,
        "protocol": 1,
        "http": http,
        "auth": False,
        "limits": {},
    }
    return told if instance is None else {**told, "instance": instance}


def http_answer(
    status: int, body: bytes = b"", *, instance: str | None = INSTANCE, **headers: str
) -> bytes:
    """Return an answer over HTTP, of a hub of that instance; dashes in headers as underscores."""
    lines = [f"HTTP/1.1 {status} Answer", f"content-length: {len(body)}"]
    if instance is not None:
        lines.append(f"Gapless-Instance: {instance}")
    lines += [f"{name.replace('_', '-')}: {value}" for name, value in headers.items()]
    return "\r\n".join([*lines, "", ""]).encode() + body


def healthz(instance: str | None = INSTANCE, version: str = VERSION) -> bytes:
    """Return what a hub answers over HTTP when it is greeted."""
    body = json.dumps({"ok": True, "version": version}).encode()
    return http_answer(200, body, instance=instance)


async def greeting(guest: Guest, number: int) -> None:
    """Say who it is, as often as it is asked; nothing else is answered."""
    while True:
        await guest.answer(await guest.request(), hello())


@asynccontextmanager
async def stranger(script: Script) -> AsyncIterator[Stranger]:
    """Run a server; who only wants to know whether it speaks TLS is turned away uncounted."""
    opened = Stranger()
    tasks: set[asyncio.Task[None]] = set()

    async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        task = asyncio.current_task()
        assert task is not None
        tasks.add(task)
        try:
            begun = await reader.read(1)
            if begun and begun != _HANDSHAKE:
                opened.connections += 1
                await script(Guest(reader, writer, begun), opened.connections)
        except (OSError, asyncio.IncompleteReadError, asyncio.CancelledError):
            # The client has left, or the test is over.
            pass
        except Exception as error:
            opened.failures.append(error)
        finally:
            writer.close()
            tasks.discard(task)

    server = await asyncio.start_server(serve, "127.0.0.1", 0, limit=1 << 24)
    opened.port = server.sockets[0].getsockname()[1]
    try:
        yield opened
    finally:
        server.close()
        for task in list(tasks):
            task.cancel()
        with suppress(TimeoutError):
            async with asyncio.timeout(PATIENCE_S):
                await asyncio.gather(*tasks, return_exceptions=True)
    assert not opened.failures, opened.failures


@asynccontextmanager
async def relay(port: int, to: int) -> AsyncIterator[None]:
    """Listen at `port` for the length of the block, and hand everything on to `to`, and back."""
    tasks: set[asyncio.Task[None]] = set()

    async def pump(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        try:
            while data := await reader.read(1 << 16):
                writer.write(data)
                await writer.drain()
        finally:
            writer.close()

    async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        task = asyncio.current_task()
        assert task is not None
        tasks.add(task)
        with suppress(OSError, asyncio.CancelledError):
            there, back = await asyncio.open_connection("127.0.0.1", to)
            await asyncio.gather(pump(reader, back), pump(there, writer))
        tasks.discard(task)

    server = await asyncio.start_server(serve, "127.0.0.1", port)
    try:
        yield
    finally:
        server.close()
        for task in list(tasks):
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)
