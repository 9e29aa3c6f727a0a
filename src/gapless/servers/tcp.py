"""Line-JSON over TCP: one request a line, one answer a line, pipelined, in order.

A held range is answered where its line is read: no task, no await, no encoder.
"""

from __future__ import annotations

import asyncio
import socket
from collections import deque
from collections.abc import Mapping
from dataclasses import dataclass

import structlog

from gapless import __version__
from gapless.clock import Clock
from gapless.errors import (
    GaplessError,
    InternalError,
    LineTooLong,
    Overloaded,
)
from gapless.hub.answers import Answer
from gapless.hub.hub import Hub, Listing
from gapless.protocol.codec import LineSplitter, looks_like_http
from gapless.protocol.language import parse_line
from gapless.protocol.messages import (
    KIND_INVALID_JSON,
    KIND_PING,
    KIND_PROVIDER_LIST,
    KIND_PROVIDER_REQUEST,
    Auth,
    Envelope,
    Line,
    Ping,
    ProviderList,
    ProviderRequest,
    Query,
    Rejected,
    SearchEntities,
    decode_envelope,
    encode_auth,
    encode_error,
    encode_ping,
    encode_provider_list,
    encode_rejected,
)
from gapless.servers.memo import Memos
from gapless.servers.wire import ID_HEAD, encode_listing, frame

_log = structlog.get_logger("gapless.tcp")

# Answers are handed to the transport in batches of about this size.
_BATCH_BYTES = 1 << 20
# After an overlong line what still comes in is thrown away for at most this long.
_DISCARD_S = 1.0
# Dead peers are found after 120 + 4 × 60 s.
_KEEPALIVE = (
    (socket.SOL_SOCKET, socket.SO_KEEPALIVE, 1),
    (socket.IPPROTO_TCP, socket.TCP_KEEPIDLE, 120),
    (socket.IPPROTO_TCP, socket.TCP_KEEPINTVL, 60),
    (socket.IPPROTO_TCP, socket.TCP_KEEPCNT, 4),
)


@dataclass(frozen=True, slots=True)
class TcpLimits:
    """What one client may take; bytes, seconds and counts by name."""

    max_line_bytes: int = 1 << 20
    max_unsent_bytes: int = 8 << 20
    slow_reader_s: float = 10.0
    max_connections: int = 10_000
    max_in_flight: int = 256
    memo_bytes: int = 64 << 20


@dataclass(frozen=True, slots=True)
class Outcome:
    """What became of a request that could not be answered at once."""

    envelope: Envelope
    query: Query
    result: Answer | Listing | GaplessError


Reply = bytes | list[bytes] | Outcome


class TcpServer:
    """The hub's TCP door."""

    def __init__(
        self,
        hub: Hub,
        clock: Clock,
        limits: TcpLimits | None = None,
        announced: Mapping[str, int | float] | None = None,
    ) -> None:
        self.hub = hub
        self.clock = clock
        self.limits = limits or TcpLimits()
        self.memos = Memos(self.limits.memo_bytes)
        self.connections: set[Connection] = set()
        self._announced = dict(announced or {})
        self._server: asyncio.Server | None = None
        self._idle = asyncio.Event()

    async def open(self, host: str, port: int) -> tuple[str, int]:
        """Listen; return the address that is open, with the port that a 0 became."""
        loop = asyncio.get_running_loop()
        self._server = await loop.create_server(lambda: Connection(self), host, port, backlog=4_096)
        name = self._server.sockets[0].getsockname()
        return name[0], name[1]

    async def close(self, timeout: float) -> None:
        """Take no more requests, finish those under way, then hang up."""
        if self._server is not None:
            self._server.close()
        for connection in list(self.connections):
            connection.finish()
        try:
            async with asyncio.timeout(timeout):
                while self.connections:
                    self._idle.clear()
                    await self._idle.wait()
        except TimeoutError:
            _log.warning("requests cut off at shutdown", connections=len(self.connections))
        for connection in list(self.connections):
            connection.abort()

    def gone(self, connection: Connection) -> None:
        """Note that a connection is over."""
        self.connections.discard(connection)
        if not self.connections:
            self._idle.set()

    def at_once(self, line: bytes) -> list[bytes] | Outcome | Rejected | tuple[Envelope, Query]:
        """Answer a line without waiting, or return what has to be worked on."""
        now = self.clock.now_ms()
        split = self.memos.split(line)
        if split is not None:
            memo = self.memos.get(split[1], now)
            if memo is not None:
                return [ID_HEAD, split[0], memo.body, b"%d" % now, memo.stitch]
        envelope = decode_envelope(line)
        if isinstance(envelope, Rejected):
            return envelope
        query = envelope.query
        try:
            if isinstance(query, Line):
                query = parse_line(query.line, now_ms=now)
            if isinstance(query, ProviderRequest):
                answer = self.hub.held(query)
                if answer is None:
                    return envelope, query
                framed = frame(answer, query.request_kind, envelope.data_as_array)
                if split is not None:
                    self.memos.put(split[1], answer, framed, now)
                return framed.parts(envelope.request_id, now)
            return [self._simple(envelope, query, now)]
        except GaplessError as error:
            return Outcome(envelope, query, error)

    def encode(self, outcome: Outcome) -> list[bytes]:
        """Put an outcome into the bytes of its line."""
        now = self.clock.now_ms()
        envelope, query, result = outcome.envelope, outcome.query, outcome.result
        request_id = envelope.request_id
        provider = query.provider if isinstance(query, ProviderRequest) else None
        request_kind = query.request_kind if isinstance(query, ProviderRequest) else None
        if isinstance(result, GaplessError):
            return [
                encode_error(
                    request_id,
                    kind=_kind(query),
                    provider=provider,
                    request_kind=request_kind,
                    error=result,
                    ts_ms=now,
                )
            ]
        assert provider is not None and request_kind is not None
        if isinstance(result, Answer):
            framed = frame(result, request_kind, envelope.data_as_array)
            return framed.parts(request_id, now)
        return [
            encode_listing(request_id, provider, request_kind, result, envelope.data_as_array, now)
        ]

    async def work(self, envelope: Envelope, query: ProviderRequest) -> Outcome:
        """Answer a request that needs the store or upstream; never raises."""
        try:
            return Outcome(envelope, query, await self.hub.answer(query, envelope.strict))
        except GaplessError as error:
            return Outcome(envelope, query, error)
        except Exception:
            _log.exception("a request failed in a way it should not")
            ours = InternalError("the hub failed in a way it should not; its log has the details")
            return Outcome(envelope, query, ours)

    def _simple(self, envelope: Envelope, query: Query, now: int) -> bytes:
        match query:
            case ProviderList():
                return encode_provider_list(
                    envelope.request_id, self.hub.registry.names(), ts_ms=now
                )
            case Ping():
                return encode_ping(
                    envelope.request_id,
                    version=__version__,
                    http=None,
                    auth=False,
                    limits=self._announced,
                    ts_ms=now,
                )
            case Auth():
                return encode_auth(
                    envelope.request_id,
                    user="anonymous",
                    role="admin",
                    expires_at=None,
                    ts_ms=now,
                )
        raise InternalError(f"no way to answer {type(query).__name__}")


def _kind(query: Query) -> str:
    match query:
        case ProviderList():
            return KIND_PROVIDER_LIST
        case Ping():
            return KIND_PING
    return KIND_PROVIDER_REQUEST


class Connection(asyncio.Protocol):
    """One client: its unread lines, its answers in their order, its unsent bytes."""

    __slots__ = (
        "_closing",
        "_discarding",
        "_ended",
        "_in_flight",
        "_knows_peer",
        "_loose",
        "_paused",
        "_queue",
        "_server",
        "_slow",
        "_splitter",
        "_transport",
    )

    def __init__(self, server: TcpServer) -> None:
        self._server = server
        self._splitter = LineSplitter(server.limits.max_line_bytes)
        self._transport: asyncio.Transport
        # Slots of answers that wait for an earlier one; made when the first request has to wait.
        self._queue: deque[list[Reply]] | None = None
        self._loose: list[Reply] | None = None
        self._in_flight = 0
        self._paused = False
        self._knows_peer = False
        self._discarding = False
        self._ended = False
        self._closing = False
        self._slow: asyncio.TimerHandle | None = None

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        """Begin, or refuse a client too many."""
        assert hasattr(transport, "write")
        self._transport = transport  # type: ignore[assignment]  # uvloop's has no common base
        limits = self._server.limits
        if len(self._server.connections) >= limits.max_connections:
            error = Overloaded(
                f"{limits.max_connections:,} connections are open, and no more are taken; "
                "close some, or try again later",
                retry_after_s=1,
            )
            self._transport.write(
                encode_error(
                    b"null", kind=KIND_INVALID_JSON, error=error, ts_ms=self._server.clock.now_ms()
                )
            )
            self._transport.close()
            self._closing = True
            return
        self._server.connections.add(self)
        sock: socket.socket = transport.get_extra_info("socket")
        for option in _KEEPALIVE:
            sock.setsockopt(*option)
        self._transport.set_write_buffer_limits(
            high=limits.max_unsent_bytes, low=limits.max_unsent_bytes // 4
        )

    def connection_lost(self, exc: Exception | None) -> None:
        """Forget the client; what it asked for is fetched on for others and for later."""
        self._closing = True
        self._queue = None
        if self._slow is not None:
            self._slow.cancel()
            self._slow = None
        self._server.gone(self)

    def data_received(self, data: bytes) -> None:
        """Take bytes in, and answer the lines that are whole."""
        if self._discarding or self._closing:
            return
        if not self._knows_peer:
            http = looks_like_http(data if not self._splitter.buffered else b"")
            self._knows_peer = True
            if http:
                # A browser was made to talk to this port: nothing of it may run.
                self._closing = True
                self._transport.abort()
                return
        self._splitter.feed(data)
        self._go_on()

    def eof_received(self) -> bool:
        """Answer what was asked, then close: the client may have only stopped sending."""
        self._ended = True
        return self._busy()

    def pause_writing(self) -> None:
        """Hold further answers back until the client has read some."""
        self._paused = True
        self._transport.pause_reading()
        self._watch(self._transport.get_write_buffer_size())

    def resume_writing(self) -> None:
        """Go on with the lines and answers that waited."""
        self._paused = False
        if self._slow is not None:
            self._slow.cancel()
            self._slow = None
        if self._closing:
            return
        self._flush()
        self._go_on()

    def finish(self) -> None:
        """Take no more lines; close when what is under way is answered."""
        self._ended = True
        self._discarding = True
        self._close_if_done()

    def abort(self) -> None:
        """Hang up now."""
        self._closing = True
        self._transport.abort()

    def _go_on(self) -> None:
        """Answer lines until none is whole, too much is unsent, or too many are under way."""
        server, splitter = self._server, self._splitter
        most = server.limits.max_in_flight
        parts: list[bytes] = []
        size = 0
        while not self._paused and not self._closing and self._in_flight < most:
            try:
                line = splitter.next_line()
            except LineTooLong as error:
                self._refuse_line(parts, error)
                return
            if line is None:
                break
            reply = server.at_once(line)
            if type(reply) is list and not self._queue:
                parts += reply
                size += sum(map(len, reply))
                if size > _BATCH_BYTES:
                    self._transport.writelines(parts)
                    parts, size = [], 0
                continue
            if parts:
                self._transport.writelines(parts)
                parts, size = [], 0
            self._accept(reply)
        if parts and not self._closing:
            self._transport.writelines(parts)
        self._heed()
        self._close_if_done()

    def _accept(self, reply: list[bytes] | Outcome | Rejected | tuple[Envelope, Query]) -> None:
        """Put an answer in its place, or start the work on it."""
        if isinstance(reply, tuple):
            envelope, query = reply
            assert isinstance(query, ProviderRequest)
            slot: list[Reply] = []
            if envelope.ordered:
                self._slots().append(slot)
            self._in_flight += 1
            loop = asyncio.get_running_loop()
            task = loop.create_task(self._server.work(envelope, query))
            task.add_done_callback(lambda done: self._done(done, slot, envelope.ordered))
            return
        ready: Reply
        ordered = True
        if isinstance(reply, Rejected):
            ready = encode_rejected(reply, ts_ms=self._server.clock.now_ms())
        else:
            ready = reply
            ordered = not isinstance(reply, Outcome) or reply.envelope.ordered
        if ordered:
            self._slots().append([ready])
        else:
            self._loosely().append(ready)
        self._flush()

    def _slots(self) -> deque[list[Reply]]:
        if self._queue is None:
            self._queue = deque()
        return self._queue

    def _loosely(self) -> list[Reply]:
        if self._loose is None:
            self._loose = []
        return self._loose

    def _done(self, task: asyncio.Task[Outcome], slot: list[Reply], ordered: bool) -> None:
        self._in_flight -= 1
        if task.cancelled() or self._closing:
            return
        if ordered:
            slot.append(task.result())
        else:
            self._loosely().append(task.result())
        self._flush()
        self._go_on()

    def _flush(self) -> None:
        """Write the answers whose turn has come, as far as the client keeps up."""
        while not self._paused and not self._closing:
            if self._loose:
                self._write(self._loose.pop(0))
            elif self._queue and self._queue[0]:
                self._write(self._queue.popleft()[0])
            else:
                break
        if not self._queue:
            self._queue = None

    def _write(self, reply: Reply) -> None:
        # Held answers are encoded only now, so that what waits here costs next to nothing.
        if isinstance(reply, Outcome):
            self._transport.writelines(self._server.encode(reply))
        elif isinstance(reply, list):
            self._transport.writelines(reply)
        else:
            self._transport.write(reply)

    def _heed(self) -> None:
        """Read on only while there is room for more requests."""
        if self._closing or self._paused:
            return
        if self._in_flight >= self._server.limits.max_in_flight:
            self._transport.pause_reading()
        else:
            self._transport.resume_reading()

    def _busy(self) -> bool:
        """Whether something that was asked is not yet answered."""
        return bool(self._in_flight or self._queue or self._loose or self._splitter.buffered)

    def _close_if_done(self) -> None:
        if not self._ended or self._closing or self._in_flight or self._queue or self._loose:
            return
        if self._discarding or not self._paused:
            # Half a line without its end is no request.
            self._closing = True
            self._transport.close()

    def _refuse_line(self, parts: list[bytes], error: LineTooLong) -> None:
        """Say once that a line is too long; whatever follows it is not read as a request."""
        line = encode_error(
            b"null", kind=KIND_INVALID_JSON, error=error, ts_ms=self._server.clock.now_ms()
        )
        self._discarding = True
        if parts:
            self._transport.writelines(parts)
        self._slots().append([line])
        self._flush()
        loop = asyncio.get_running_loop()
        loop.call_later(_DISCARD_S, self._hang_up)
        if not self._queue and not self._paused and self._transport.can_write_eof():
            self._transport.write_eof()

    def _hang_up(self) -> None:
        if not self._closing:
            self._ended = True
            self._closing = True
            self._transport.close()

    def _watch(self, unsent: int) -> None:
        """Close a client that reads nothing for the time it is given."""
        loop = asyncio.get_running_loop()
        self._slow = loop.call_later(self._server.limits.slow_reader_s, self._check, unsent)

    def _check(self, unsent_then: int) -> None:
        unsent = self._transport.get_write_buffer_size()
        if unsent < unsent_then:
            self._watch(unsent)
            return
        _log.info("closed a client that does not read", unsent_bytes=unsent)
        self.abort()
