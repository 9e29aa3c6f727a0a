"""The endpoint on real sockets: HTTP/1.1 with keep-alive, one port per simulated host.

All that is decided lies in chart.py and faults.py; here bytes are read, spoilt and sent.
"""

from __future__ import annotations

import asyncio
import socket
import struct
import time
import zlib
from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from email.utils import formatdate
from http import HTTPStatus
from itertools import count
from types import TracebackType
from typing import Self

from gapless.simulator.chart import Answer, Query, answer, parse
from gapless.simulator.clock import Now
from gapless.simulator.faults import Damage, Fault, Faults
from gapless.simulator.market import Market
from gapless.simulator.quirks import Quirks

_HOST = "127.0.0.1"
_HEAD_LIMIT = 65_536
_MEGABYTE = 1 << 20
_BARE = Answer(200, b"")
_LINGER_NONE = struct.pack("ii", 1, 0)


@dataclass(slots=True)
class Request:
    """One logged request, written when it arrives and completed when it was answered.

    `t` is the simulator's time in UTC seconds; `period1`, `period2` as asked; `status`, `fault`
    and `shown_t` are `None` until known; `shown_t`: of which instant the true answer is, `t` or,
    where the request was held up, later; `served`: an answer that says what is held (200, or 400
    for no data) was sent completely, with so many `rows`; `done`: the simulator has finished with
    it, well or badly.
    """

    t: float
    edge: int
    target: str
    symbol: str
    interval: str
    period1: int | None
    period2: int | None
    user_agent: str
    status: int | None = None
    fault: str | None = None
    served: bool = False
    rows: int = 0
    done: bool = False
    shown_t: float | None = None


class YahooSimulator:
    """A simulated upstream; use as `async with YahooSimulator(market, clock=clock) as sim`.

    `sim.base_url` is host 0; `sim.base_urls` has one address per edge of the market. `quirks`
    may be replaced at any time, `faults` are added and cleared at any time. With
    `alternate_edges` every host answers from the edges in turn.
    """

    def __init__(
        self,
        market: Market,
        *,
        clock: Now = time.time,
        quirks: Quirks | None = None,
        alternate_edges: bool = False,
    ) -> None:
        self.market = market
        self.clock = clock
        self.quirks = quirks if quirks is not None else Quirks()
        self.faults = Faults()
        self.alternate_edges = alternate_edges
        self.requests: list[Request] = []
        self.connections = 0
        self._turn = count()
        self._ports: list[int] = []
        self._servers: list[asyncio.Server] = []
        self._tasks: set[asyncio.Task[None]] = set()
        self._released = asyncio.Event()
        self._waiters: list[asyncio.Future[None]] = []

    async def __aenter__(self) -> Self:
        await self.accept()
        return self

    async def __aexit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        await self.refuse()

    @property
    def base_url(self) -> str:
        """The address of host 0."""
        return self.base_urls[0]

    @property
    def base_urls(self) -> list[str]:
        """One address per edge; they outlast `refuse` and `accept`."""
        return [f"http://{_HOST}:{port}" for port in self._ports]

    def clear_requests(self) -> None:
        """Empty the log."""
        self.requests.clear()

    async def reach(self, condition: Callable[[], bool]) -> None:
        """Wait until `condition` holds; it is looked at whenever a request comes or ends."""
        while not condition():
            waiter = asyncio.get_running_loop().create_future()
            self._waiters.append(waiter)
            await waiter

    def release(self) -> None:
        """Let the requests that hang now be answered, as of now; later ones hang again."""
        self._released.set()
        self._released = asyncio.Event()

    async def refuse(self) -> None:
        """Close the ports and every connection: from now on connecting is refused."""
        servers, self._servers = self._servers, []
        for server in servers:
            server.close()
        tasks = list(self._tasks)
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)
        for server in servers:
            await server.wait_closed()

    async def accept(self) -> None:
        """Open the ports (the same ones again, after `refuse`)."""
        if self._servers:
            return
        for edge in range(len(self.market.edge_lags_s)):
            port = self._ports[edge] if edge < len(self._ports) else 0
            server = await asyncio.start_server(self._welcome(edge), _HOST, port, limit=_HEAD_LIMIT)
            self._servers.append(server)
            if edge == len(self._ports):
                self._ports.append(server.sockets[0].getsockname()[1])

    def _welcome(self, edge: int) -> Callable[[asyncio.StreamReader, asyncio.StreamWriter], None]:
        def connected(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
            self.connections += 1
            task = asyncio.get_running_loop().create_task(self._serve(edge, reader, writer))
            self._tasks.add(task)
            task.add_done_callback(self._tasks.discard)

        return connected

    async def _serve(
        self, edge: int, reader: asyncio.StreamReader, writer: asyncio.StreamWriter
    ) -> None:
        try:
            while await self._one_request(edge, reader, writer):
                pass
            writer.close()
            await writer.wait_closed()
        except (ConnectionError, asyncio.IncompleteReadError, asyncio.LimitOverrunError):
            # The client went away or speaks no HTTP; the log keeps what came before.
            pass
        finally:
            # Not `close`: a client that stopped reading would hold it up for ever.
            writer.transport.abort()

    async def _one_request(
        self, edge: int, reader: asyncio.StreamReader, writer: asyncio.StreamWriter
    ) -> bool:
        """Answer one request; return whether the connection stays open."""
        try:
            head = (await reader.readuntil(b"\r\n\r\n")).decode("latin-1")
        except asyncio.IncompleteReadError:
            return False
        line, *lines = head.split("\r\n")
        headers = {
            name.strip().lower(): value.strip()
            for name, _, value in (each.partition(":") for each in lines if each)
        }
        length = int(headers.get("content-length", "0") or 0)
        if length:
            await reader.readexactly(length)
        keep = headers.get("connection", "").lower() != "close"
        method, target, *_ = [*line.split(" "), ""]
        if method != "GET":
            text = Answer(405, b"Method Not Allowed", {"content-type": "text/plain"})
            await self._send(writer, text, keep=keep)
            return keep
        query = parse(target)
        if self.alternate_edges:
            edge = next(self._turn) % len(self.market.edge_lags_s)
        agent = headers.get("user-agent", "")
        request = self._log(edge, target, query, agent)
        self._announce()
        try:
            return await self._reply(request, query, reader, writer, keep=keep)
        finally:
            request.done = True
            self._announce()

    def _log(self, edge: int, target: str, query: Query | Answer, agent: str) -> Request:
        asked = query if isinstance(query, Query) else Query("", "")
        request = Request(
            self.clock(),
            edge,
            target,
            asked.symbol,
            asked.interval,
            asked.period1,
            asked.period2,
            agent,
        )
        self.requests.append(request)
        return request

    def _announce(self) -> None:
        waiters, self._waiters = self._waiters, []
        for waiter in waiters:
            if not waiter.done():
                waiter.set_result(None)

    async def _reply(
        self,
        request: Request,
        query: Query | Answer,
        reader: asyncio.StreamReader,
        writer: asyncio.StreamWriter,
        *,
        keep: bool,
    ) -> bool:
        if isinstance(query, Answer):
            request.status = query.status
            await self._send(writer, query, keep=keep)
            return keep
        fault = self.faults.take(query, request.user_agent, request.t)
        if fault is not None:
            request.fault = fault.name
            if fault.held or fault.damage is Damage.HANG:
                await self._released.wait()
                if reader.at_eof():
                    raise ConnectionAbortedError
            if fault.damage not in (Damage.HANG, Damage.DRIP):
                return await self._spoil(request, fault, query, writer, keep=keep)
        found = self._answer(request, query)
        if fault is not None and fault.damage is Damage.DRIP:
            await _drip(writer, found, fault, keep=keep)
        else:
            await self._send(writer, found, keep=keep)
        request.served, request.rows = found.served, found.rows
        return keep

    def _answer(self, request: Request, query: Query) -> Answer:
        """Return the true answer as of now, and log of when it is."""
        request.shown_t = self.clock()
        found = answer(self.market, self.quirks, query, request.shown_t, request.edge)
        request.status = found.status
        return self._dated(found)

    async def _send(self, writer: asyncio.StreamWriter, found: Answer, *, keep: bool) -> None:
        found = self._dated(found)
        writer.write(_head(found.status, found.headers, len(found.body), keep=keep) + found.body)
        await writer.drain()

    def _dated(self, found: Answer) -> Answer:
        """Return an answer with the headers that say when it was made."""
        if not self.quirks.date_header:
            return found
        made_s = self.clock() + self.quirks.date_skew_s - self.quirks.age_s
        dates = {"date": formatdate(made_s, usegmt=True), "age": str(self.quirks.age_s)}
        return replace(found, headers={**found.headers, **dates})

    async def _spoil(
        self,
        request: Request,
        fault: Fault,
        query: Query,
        writer: asyncio.StreamWriter,
        *,
        keep: bool,
    ) -> bool:
        if fault.damage is Damage.REPLY:
            headers = {"content-type": fault.content_type}
            if fault.retry_after is not None:
                headers["retry-after"] = fault.retry_after
            request.status = fault.status
            await self._send(writer, Answer(fault.status, fault.body, headers), keep=keep)
            return keep
        if fault.damage is Damage.RESET:
            sock = writer.get_extra_info("socket")
            sock.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, _LINGER_NONE)
            writer.transport.abort()
            return False
        request.status = 200
        if fault.damage is Damage.TRUNCATE:
            found = self._answer(request, query)
            writer.write(_head(found.status, found.headers, len(found.body), keep=keep))
            writer.write(found.body[: int(len(found.body) * fault.share)])
            await writer.drain()
        elif fault.damage is Damage.HUGE:
            size = fault.megabytes * _MEGABYTE
            writer.write(_head(200, self._dated(_BARE).headers, size, keep=False))
            await _pour(writer, b'{"chart":', size)
        else:
            await _bomb(writer, self._dated(_BARE).headers, fault.megabytes)
        return False


def _head(status: int, headers: Mapping[str, str], length: int | None, *, keep: bool) -> bytes:
    lines = [f"HTTP/1.1 {status} {HTTPStatus(status).phrase}"]
    lines += [f"{name}: {value}" for name, value in headers.items()]
    if length is not None:
        lines.append(f"content-length: {length}")
    lines.append(f"connection: {'keep-alive' if keep else 'close'}")
    return ("\r\n".join(lines) + "\r\n\r\n").encode("latin-1")


async def _drip(writer: asyncio.StreamWriter, found: Answer, fault: Fault, *, keep: bool) -> None:
    writer.write(_head(found.status, found.headers, len(found.body), keep=keep))
    for start in range(0, len(found.body), fault.chunk):
        if writer.is_closing():
            raise ConnectionResetError("the client has hung up")
        writer.write(found.body[start : start + fault.chunk])
        await writer.drain()
        await asyncio.sleep(fault.pause_s)


async def _pour(writer: asyncio.StreamWriter, begin: bytes, size: int) -> None:
    """Send `size` bytes: `begin`, then blanks, never more in memory than the client is slow."""
    writer.write(begin)
    left = size - len(begin)
    blanks = b" " * _MEGABYTE
    while left > 0:
        writer.write(blanks[:left])
        left -= len(blanks)
        await writer.drain()
        await asyncio.sleep(0)


async def _bomb(writer: asyncio.StreamWriter, headers: Mapping[str, str], megabytes: int) -> None:
    """Send blanks, gzipped as they are made; the end of the connection ends the body."""
    writer.write(_head(200, {**headers, "content-encoding": "gzip"}, None, keep=False))
    packer = zlib.compressobj(level=1, wbits=31)
    writer.write(packer.compress(b'{"chart":'))
    blanks = b" " * _MEGABYTE
    for _ in range(megabytes):
        writer.write(packer.compress(blanks))
        await writer.drain()
        await asyncio.sleep(0)
    writer.write(packer.flush())
    await writer.drain()
