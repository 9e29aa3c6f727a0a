"""Line-JSON over TCP: one request a line, one answer a line, pipelined, in order.

A held range is answered where its line is read: no task, no await, no encoder.
"""

from __future__ import annotations

import asyncio
from collections.abc import Mapping
from contextlib import suppress
from dataclasses import dataclass

import structlog

from gapless import __version__
from gapless.clock import Clock
from gapless.errors import GaplessError, InternalError, InvalidQuery
from gapless.hub.answers import Answer
from gapless.hub.hub import Hub
from gapless.protocol.language import parse_line
from gapless.protocol.messages import (
    KIND_PING,
    KIND_PROVIDER_LIST,
    KIND_PROVIDER_REQUEST,
    Auth,
    DateRange,
    Envelope,
    Line,
    Ping,
    ProviderList,
    ProviderRequest,
    Query,
    Rejected,
    SearchEntities,
    Ticker,
    decode_envelope,
    encode_auth,
    encode_envelope,
    encode_error,
    encode_ping,
    encode_provider_list,
)
from gapless.servers.connection import Connection, Outcome
from gapless.servers.memo import Memos
from gapless.servers.wire import encode_listing, frame

_log = structlog.get_logger("gapless.tcp")


# A query line is read letter by letter while everybody waits.
_LONGEST_QUERY = 16_384
# A range search that no provider answers.
_REHEARSAL = encode_envelope(
    Envelope(
        b'"rehearsal"',
        ProviderRequest(
            "", SearchEntities((Ticker(""), DateRange("2000-01-01", "2000-01-02")), None)
        ),
    )
).rstrip()


@dataclass(frozen=True, slots=True)
class TcpLimits:
    """What one client may take; bytes, seconds and counts by name."""

    max_line_bytes: int = 1 << 20
    max_unsent_bytes: int = 8 << 20
    slow_reader_s: float = 10.0
    max_connections: int = 10_000
    max_in_flight: int = 256
    memo_bytes: int = 64 << 20


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
        self.stopping = False

    async def rehearse(self) -> None:
        """Go once through all that a first answer takes, so that no client has to wait for it."""
        answer = await self.hub.warm()
        if answer is not None:
            frame(answer, SearchEntities.__name__, as_array=False).parts(b"null", 0)
        self.at_once(_REHEARSAL)

    async def open(self, host: str, port: int) -> tuple[str, int]:
        """Listen; return the address that is open, with the port that a 0 became."""
        loop = asyncio.get_running_loop()
        self._server = await loop.create_server(lambda: Connection(self), host, port, backlog=4_096)
        name = self._server.sockets[0].getsockname()
        return name[0], name[1]

    async def close(self, timeout: float) -> None:
        """Take no more requests, finish those under way, then hang up."""
        self.stopping = True
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
        memorised = self.memos.reply(line, now)
        if memorised is not None:
            return memorised
        envelope = decode_envelope(line)
        if isinstance(envelope, Rejected):
            return envelope
        query = envelope.query
        try:
            if isinstance(query, Line):
                if len(query.line) > _LONGEST_QUERY:
                    raise InvalidQuery(
                        f"a query line has {_LONGEST_QUERY:,} characters at the most, not "
                        f"{len(query.line):,}; send the request as JSON"
                    )
                query = parse_line(query.line, now_ms=now)
            if isinstance(query, ProviderRequest):
                answer = self.hub.held(query)
                if answer is None:
                    return envelope, query
                framed = frame(answer, query.request_kind, envelope.data_as_array)
                self.memos.put(line, answer, framed, now)
                return framed.parts(envelope.request_id, now)
            return [self._simple(envelope, query, now)]
        except GaplessError as error:
            return Outcome(envelope, query, error)
        except Exception:
            return Outcome(envelope, query, _fault())

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
            return Outcome(envelope, query, _fault())

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


def _fault() -> InternalError:
    """Log the exception that is being handled; return what the client is told of it."""
    # The log itself may be what fails; the client is answered all the same.
    with suppress(Exception):
        _log.exception("a request failed in a way it should not")
    return InternalError("the hub failed in a way it should not; its log has the details")


__all__ = ["TcpLimits", "TcpServer"]
