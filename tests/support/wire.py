"""A hub behind its TCP door, and a client of plain bytes that knows nothing of either."""

from __future__ import annotations

import asyncio
import itertools
import json
import secrets
import socket
import struct
from collections.abc import AsyncIterator, Iterator, Mapping
from contextlib import AsyncExitStack, asynccontextmanager, contextmanager
from dataclasses import dataclass, replace
from pathlib import Path
from types import TracebackType
from typing import Any, Self

from structlog.testing import capture_logs

from gapless.auth.authority import Authority
from gapless.clock import Clock, SystemClock
from gapless.config import (
    AccessSettings,
    ApiSettings,
    FetchSettings,
    LimitSettings,
    PluginSettings,
    Settings,
)
from gapless.hub.hub import Hub
from gapless.providers.base import Provider
from gapless.providers.registry import Registry
from gapless.servers.admission import Admission
from gapless.servers.desk import Announcement, Desk
from gapless.servers.tcp import TcpServer
from gapless.store.sqlite import open_store

# Bounds a hang and nothing else: a machine that is busy with other things takes its time.
PATIENCE_S = 240.0
# A deadline that a test waits for, and long beside what has to come before it.
SOON_S = 2.0
LONGEST_ANSWER = 1 << 28
# Clients, upstream and plugins may be as slow as the machine makes them.
PATIENT = Settings(
    limits=LimitSettings(slow_reader_s=PATIENCE_S, slow_reader_yields_s=PATIENCE_S),
    fetch=FetchSettings(deadline_s=PATIENCE_S, breaker_failures=10**6),
    api=ApiSettings(receive_s=PATIENCE_S),
    access=AccessSettings(token_s=PATIENCE_S),
    plugins=PluginSettings(load_s=PATIENCE_S, deadline_s=PATIENCE_S),
)
# One attempt upstream, no pause: what fails, fails at once.
IMPATIENT = replace(PATIENT, fetch=FetchSettings(deadline_s=0.01, breaker_failures=10**6))


def but(settings: Settings, **sections: Mapping[str, Any]) -> Settings:
    """Return the settings with others in their place, section by section and by their names."""
    changed = {name: replace(getattr(settings, name), **of) for name, of in sections.items()}
    return replace(settings, **changed)


class WatchedServer(TcpServer):
    """A server that tells when it is done with a connection."""

    def __init__(self, hub: Hub, authority: Authority) -> None:
        desk = Desk(hub, hub.clock, Admission(authority, hub.clock), announcement(hub))
        super().__init__(desk, hub.settings.limits, hub.settings.access)
        self.went = asyncio.Event()

    def gone(self, connection: Any) -> None:
        super().gone(connection)
        self.went.set()


@dataclass(frozen=True, slots=True)
class Door:
    """A hub that takes requests at `port`; `logs` has what it logged."""

    hub: Hub
    authority: Authority
    server: WatchedServer
    port: int
    logs: list[Any]

    def logged(self, level: str) -> list[str]:
        """Return what was logged at this level, and forget it."""
        found = [one["event"] for one in self.logs if one["log_level"] == level]
        self.logs[:] = [one for one in self.logs if one["log_level"] != level]
        return found

    @asynccontextmanager
    async def client(self) -> AsyncIterator[Wire]:
        """Connect a client for the length of the block."""
        async with await connect(self.port) as wire:
            yield wire


@asynccontextmanager
async def door(
    folder: Path,
    *providers: Provider,
    settings: Settings = PATIENT,
    clock: Clock | None = None,
    auth: bool = False,
) -> AsyncIterator[Door]:
    """Run a hub with these providers on a new database; it may log no error but those asked for.

    Nor may anything reach the loop that nobody caught.
    """
    store = await asyncio.to_thread(open_store, folder / "door.db")
    hub = Hub(store, Registry(providers), clock or SystemClock(), settings, seed=0)
    authority = Authority(store.accounts, hub.clock, auth, settings.access)
    await authority.load()
    server = WatchedServer(hub, authority)
    with capture_logs() as logs, nothing_unnoticed():
        _, port = await server.open("127.0.0.1", 0)
        opened = Door(hub, authority, server, port, logs)
        try:
            yield opened
        finally:
            await server.close(1.0)
            await hub.close(1.0)
            await authority.close()
            await store.close()
        errors = [one for one in opened.logs if one["log_level"] == "error"]
        assert not errors, errors


def announcement(hub: Hub) -> Announcement:
    """Return what a hub that starts now tells of itself."""
    return Announcement(secrets.token_hex(16), {"max_records": hub.settings.limits.max_records})


def unlocked(store: Any, clock: Clock) -> Admission:
    """Return what lets everybody in; `store` has accounts, of which there are none."""
    return Admission(Authority(store.accounts, clock), clock)


@contextmanager
def nothing_unnoticed() -> Iterator[None]:
    """Fail where anything reached the loop that nobody caught."""
    loop = asyncio.get_running_loop()
    before = loop.get_exception_handler()
    seen: list[str] = []

    def note(_: asyncio.AbstractEventLoop, context: dict[str, Any]) -> None:
        seen.append(f"{context['message']}: {context.get('exception')!r}")

    loop.set_exception_handler(note)
    try:
        yield
    finally:
        loop.set_exception_handler(before)
    assert not seen, seen


async def connect(port: int) -> Wire:
    """Return a connection to a port of this machine."""
    async with asyncio.timeout(PATIENCE_S):
        return Wire(*await asyncio.open_connection("127.0.0.1", port, limit=LONGEST_ANSWER))


@asynccontextmanager
async def connections(port: int, count: int) -> AsyncIterator[list[Wire]]:
    """Connect many clients for the length of the block."""
    async with AsyncExitStack() as stack:
        yield [await stack.enter_async_context(await connect(port)) for _ in range(count)]


class Wire:
    """A connection: bytes out, lines in. Whatever takes longer than `PATIENCE_S` fails."""

    def __init__(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self.reader = reader
        self.writer = writer
        self._ids = itertools.count(1)

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(
        self,
        exc_type: type[BaseException] | None,
        exc: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        self.writer.transport.abort()

    def write(self, data: bytes) -> None:
        """Send bytes without waiting for them to leave."""
        self.writer.write(data)

    async def send(self, data: bytes) -> None:
        """Send bytes."""
        self.writer.write(data)
        async with asyncio.timeout(PATIENCE_S):
            await self.writer.drain()

    async def line(self) -> bytes:
        """Return the next line; an empty one at the end."""
        async with asyncio.timeout(PATIENCE_S):
            return await self.reader.readline()

    async def answer(self) -> dict[str, Any]:
        """Return the next answer."""
        line = await self.line()
        assert line, "the connection ended where an answer was due"
        return read(line)

    async def rest(self) -> bytes:
        """Return everything up to the end of the connection, however that comes."""
        async with asyncio.timeout(PATIENCE_S):
            try:
                return await self.reader.read()
            except ConnectionResetError:
                return b""

    async def ask(self, query: dict[str, Any], **envelope: Any) -> dict[str, Any]:
        """Send a query and return its answer."""
        request_id = next(self._ids)
        await self.send(line_of(query, request_id=request_id, **envelope))
        answer = await self.answer()
        assert answer["request_id"] == request_id
        return answer

    def reset(self) -> None:
        """Break the connection off, as a client that crashes does."""
        sock: socket.socket = self.writer.get_extra_info("socket")
        sock.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
        self.writer.transport.abort()

    async def ping(self) -> None:
        """See that the other side is well."""
        assert (await self.ask({"type": "Ping"}))["ok"]


def read(line: bytes) -> dict[str, Any]:
    """Return a line as the object it must be."""
    assert line.endswith(b"\n")
    answer = json.loads(line)
    assert isinstance(answer, dict)
    assert list(answer)[:8] == [
        "ok",
        "request_id",
        "kind",
        "provider",
        "request_kind",
        "result",
        "error",
        "ts_ms",
    ]
    return answer


def line_of(query: dict[str, Any], **envelope: Any) -> bytes:
    """Return a request as a line."""
    return json.dumps({**envelope, "query": query}).encode() + b"\n"


def request(provider: str, kind: str, **fields: Any) -> dict[str, Any]:
    """Return the query that makes a request to a provider."""
    return {
        "type": "ProviderRequest",
        "payload": {"provider": provider, "request": {kind: fields}},
    }


def search(
    provider: str, ticker: str, start: str | None = None, end: str = "", **params: str
) -> dict[str, Any]:
    """Return a range search; without `start` it has no range."""
    filters: list[dict[str, Any]] = [{"Ticker": ticker}]
    if start is not None:
        filters.append({"DateRange": {"start": start, "end": end}})
    filters += [{"Param": {"name": name, "value": value}} for name, value in params.items()]
    return request(provider, "SearchEntities", query=filters, limit=None)


def records(answer: dict[str, Any]) -> list[dict[str, Any]]:
    """Return the records of an answer of one entity."""
    assert answer["ok"], answer
    (entity,) = answer["result"]
    found = entity["data"]
    rows: list[dict[str, Any]] = json.loads(found) if isinstance(found, str) else found
    return rows
