"""One client of the TCP door: its unread lines, its answers in their order, its unsent bytes.

A held range is answered where its line is read: no task, no await, no encoder.
"""

from __future__ import annotations

import asyncio
import socket
from collections import deque
from contextlib import aclosing
from dataclasses import replace
from time import perf_counter
from typing import TYPE_CHECKING

import structlog

from gapless.errors import GaplessError, LineTooLong, MissingToken
from gapless.hub.entities import Listing
from gapless.protocol.codec import LineSplitter, looks_like_http
from gapless.protocol.messages import (
    KIND_INVALID_JSON,
    Envelope,
    GetAllEntities,
    GetEntities,
    ProviderRequest,
    Rejected,
    SearchEntities,
    Ticker,
    ToProvider,
    decode_envelope,
    encode_error,
    encode_rejected,
)
from gapless.servers.desk import Settled, Work
from gapless.servers.window import Window
from gapless.store.base import StoredEntity
from gapless.turns import PARTY

if TYPE_CHECKING:
    from gapless.servers.tcp import TcpServer

_log = structlog.get_logger("gapless.tcp")

# Answers are handed to the transport in batches of about this size.
_BATCH_BYTES = 1 << 20
# Listings are read from the database as they are, unlike ranges, which share their bytes.
_MOST_LISTINGS = 2
# One client's lines are answered for so long, then others have their turn.
_LONGEST_S = 0.002
# After an overlong line what still comes in is thrown away for at most this long.
_DISCARD_S = 1.0
_CR = 13
# Dead peers are found after 120 + 4 × 60 s.
_KEEPALIVE = (
    (socket.SOL_SOCKET, socket.SO_KEEPALIVE, 1),
    (socket.IPPROTO_TCP, socket.TCP_KEEPIDLE, 120),
    (socket.IPPROTO_TCP, socket.TCP_KEEPINTVL, 60),
    (socket.IPPROTO_TCP, socket.TCP_KEEPCNT, 4),
)


Reply = bytes | list[bytes] | Settled


class Connection(asyncio.Protocol):
    """One client."""

    __slots__ = (
        "_closing",
        "_desk",
        "_discarding",
        "_ended",
        "_eof",
        "_first",
        "_in_flight",
        "_listings",
        "_loose",
        "_paused",
        "_queue",
        "_refused",
        "_resting",
        "_server",
        "_session",
        "_splitter",
        "_streaming",
        "_taken",
        "_token_deadline",
        "_transport",
        "_waiting_bytes",
    )

    def __init__(self, server: TcpServer) -> None:
        self._server = server
        self._desk = server.desk
        self._session = server.desk.admission.session()
        # Runs until a valid token is shown; `None` where none is needed, and from then on.
        self._token_deadline: asyncio.TimerHandle | None = None
        self._splitter = LineSplitter(server.limits.max_line_bytes)
        self._transport: asyncio.Transport
        # The first bytes, until it is known that they are not HTTP's; `None` from then on.
        self._first: bytes | None = b""
        # Slots of answers that wait for an earlier one; made when the first request has to wait.
        self._queue: deque[list[Reply]] | None = None
        self._waiting_bytes = 0
        self._loose: list[Reply] | None = None
        self._in_flight = 0
        self._listings = 0
        # The client does not keep up with its answers.
        self._paused = False
        # It has stopped sending.
        self._eof = False
        # No more requests are taken: it has stopped sending, or the hub is stopping.
        self._ended = False
        # What still comes in is not looked at.
        self._discarding = False
        # An overlong line was answered, and after that answer the connection ends.
        self._refused = False
        # It goes on with its lines when others have had their turn.
        self._resting = False
        self._closing = False
        # Sends a long answer, piece by piece; what follows it waits.
        self._streaming: asyncio.Task[None] | None = None
        # The client has taken enough of it for the next piece.
        self._taken: asyncio.Event | None = None

    @property
    def transport(self) -> asyncio.Transport:
        """The way to the client."""
        return self._transport

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        """Begin, or refuse a client too many."""
        assert hasattr(transport, "write")
        self._transport = transport  # type: ignore[assignment]  # uvloop's has no common base
        limits = self._server.limits
        refusal = self._server.refusal()
        if refusal is not None:
            self._transport.write(self._error_line(refusal))
            self._close()
            return
        self._server.connections.add(self)
        sock: socket.socket = transport.get_extra_info("socket")
        for option in _KEEPALIVE:
            sock.setsockopt(*option)
        unsent = limits.max_unsent_bytes
        if not self._session.admitted:
            loop = asyncio.get_running_loop()
            access = self._server.access
            self._token_deadline = loop.call_later(access.token_s, self._no_token)
            unsent = min(unsent, access.max_bytes_before_token)
            self._splitter.limit = min(limits.max_line_bytes, access.max_bytes_before_token)
        self._transport.set_write_buffer_limits(high=unsent, low=unsent // 4)
        if self._server.stopping:
            self.finish()

    def _no_token(self) -> None:
        """Hang up on a client that has not shown a valid token in time."""
        if self._closing:
            return
        self._discarding = True
        self._transport.write(
            self._error_line(
                MissingToken(
                    f"no valid token came within {self._server.access.token_s:g} s of connecting "
                    "(access.token_s); the connection is closed"
                )
            )
        )
        self._close()

    def _admitted(self) -> None:
        """Let a client who has shown a valid token take what clients may."""
        assert self._token_deadline is not None
        self._token_deadline.cancel()
        self._token_deadline = None
        limits = self._server.limits
        self._splitter.limit = limits.max_line_bytes
        self._transport.set_write_buffer_limits(
            high=limits.max_unsent_bytes, low=limits.max_unsent_bytes // 4
        )

    def connection_lost(self, exc: Exception | None) -> None:
        """Forget the client; what it asked for is fetched on for others and for later."""
        self._closing = True
        self._queue = None
        self._loose = None
        if self._streaming is not None:
            self._streaming.cancel()
        if self._token_deadline is not None:
            self._token_deadline.cancel()
            self._token_deadline = None
        self._server.gone(self)

    def data_received(self, data: bytes) -> None:
        """Take bytes in, and answer the lines that are whole."""
        if self._discarding or self._closing:
            return
        if self._first is not None:
            data = self._first + data
            http = looks_like_http(data)
            if http is None:
                # As far as it goes it may yet become a method; there is no whole line in it.
                self._first = data
                return
            self._first = None
            if http:
                # A browser was made to talk to this port: nothing of it may run.
                self.abort()
                return
        if self._at_rest(data):
            self._answer(data[:-1])
        else:
            self._splitter.feed(data)
            self._go_on()

    def _at_rest(self, data: bytes) -> bool:
        """Whether nothing is under way and `data` is one whole line: the common case by far."""
        return (
            self._queue is None
            and self._streaming is None
            and not self._in_flight
            and not self._paused
            and not self._ended
            and self._splitter.empty
            and 1 < len(data) <= self._splitter.limit
            and data.find(b"\n") == len(data) - 1
            and data[-2] != _CR
        )

    def _answer(self, line: bytes) -> None:
        """Answer a line where nothing else is under way."""
        reply = self._desk.at_once(line, self._session)
        if self._token_deadline is not None and self._session.admitted:
            self._admitted()
        if type(reply) is list:
            self._transport.writelines(reply)
        else:
            self._accept(reply)
            self._heed()
            self._close_if_done()

    def eof_received(self) -> bool:
        """Answer what was asked, then close: the client may have only stopped sending."""
        self._eof = True
        self._ended = True
        self._close_if_done()
        return not self._closing

    def pause_writing(self) -> None:
        """Hold further answers back until the client has read some."""
        self._paused = True
        self._transport.pause_reading()

    def resume_writing(self) -> None:
        """Go on with the lines and answers that waited."""
        self._paused = False
        if self._closing:
            return
        if self._taken is not None:
            self._taken.set()
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
        desk, splitter = self._desk, self._splitter
        parts: list[bytes] = []
        size = 0
        until = perf_counter() + _LONGEST_S
        while (
            not (self._paused or self._closing or self._discarding or self._resting)
            and self._has_room()
        ):
            try:
                line = splitter.next_line()
            except LineTooLong as error:
                if parts:
                    self._transport.writelines(parts)
                self._refuse_line(error)
                return
            if line is None:
                break
            if perf_counter() > until and not self._resting:
                # This line is still answered, the next one when others have had their turn.
                self._resting = True
                asyncio.get_running_loop().call_soon(self._rested)
            reply = desk.at_once(line, self._session)
            if self._token_deadline is not None and self._session.admitted:
                self._admitted()
            goes_ahead = not self._queue or _unordered(line)
            if type(reply) is list and self._streaming is None and goes_ahead:
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

    def _rested(self) -> None:
        """Go on where it was left off for others."""
        self._resting = False
        if not self._closing:
            self._go_on()

    def _has_room(self) -> bool:
        """Whether another request is taken: so many wait at most, and so many bytes of answers."""
        limits = self._server.limits
        if (
            self._in_flight >= limits.max_in_flight
            or self._listings >= _MOST_LISTINGS
            or self._waiting_bytes >= limits.max_unsent_bytes
        ):
            return False
        return self._queue is None or len(self._queue) < limits.max_in_flight

    def _accept(self, reply: list[bytes] | Settled | Rejected | Work) -> None:
        """Put an answer in its place, or start the work on it."""
        if isinstance(reply, Work):
            envelope = reply.envelope
            slot: list[Reply] = []
            if envelope.ordered:
                self._slots().append(slot)
            self._in_flight += 1
            listing = _lists(reply.query)
            self._listings += listing
            task = self._server.begin(reply)
            task.add_done_callback(lambda done: self._done(done, slot, envelope.ordered, listing))
            return
        ready = self._rejection(reply) if isinstance(reply, Rejected) else reply
        if isinstance(ready, Settled) and not ready.envelope.ordered:
            self._loosely().append(ready)
        else:
            self._slots().append([ready])
        self._waiting_bytes += _size(ready)
        self._flush()

    def _rejection(self, rejected: Rejected) -> bytes:
        return encode_rejected(rejected, ts_ms=self._desk.clock.now_ms())

    def _slots(self) -> deque[list[Reply]]:
        if self._queue is None:
            self._queue = deque()
        return self._queue

    def _loosely(self) -> list[Reply]:
        if self._loose is None:
            self._loose = []
        return self._loose

    def _done(
        self, task: asyncio.Task[Settled], slot: list[Reply], ordered: bool, listing: bool
    ) -> None:
        self._in_flight -= 1
        self._listings -= listing
        if task.cancelled() or self._closing:
            return
        settled = task.result()
        if ordered:
            slot.append(settled)
        else:
            self._loosely().append(settled)
        self._waiting_bytes += _size(settled)
        self._flush()
        self._go_on()

    def _flush(self) -> None:
        """Write the answers whose turn has come, as far as the client keeps up."""
        while not self._paused and not self._closing and self._streaming is None:
            if self._loose:
                self._write(self._loose.pop(0))
            elif self._queue and self._queue[0]:
                self._write(self._queue.popleft()[0])
            else:
                break
        if not self._queue:
            self._queue = None

    def _write(self, reply: Reply) -> None:
        self._waiting_bytes -= _size(reply)
        # Held answers are encoded only now, so that what waits here costs next to nothing.
        if isinstance(reply, Settled) and reply.piecewise:
            self._streaming = self._server.stream(self._sent(reply))
        elif isinstance(reply, Settled):
            self._transport.writelines(self._desk.encode(reply))
        elif isinstance(reply, list):
            self._transport.writelines(reply)
        else:
            self._transport.write(reply)

    async def _sent(self, settled: Settled) -> None:
        """Send a long answer piece by piece, as its client takes them, then what has waited."""
        begun, window = False, Window(ahead=True)
        PARTY.set(self._session.party)
        self._taken = asyncio.Event()
        try:
            async with aclosing(self._desk.pieces(settled, window)) as pieces:
                async for parts in pieces:
                    if self._closing:
                        return
                    self._transport.writelines(parts)
                    begun, since = True, perf_counter()
                    while self._paused and not self._closing:
                        self._taken.clear()
                        await self._taken.wait()
                    window.taken(perf_counter() - since)
                    window.piece = window.size
        except GaplessError as error:
            if begun:
                # Without its end the line is known to be cut short.
                _log.warning("an answer was broken off", error=error.message)
                self.abort()
                return
            self._transport.writelines(self._desk.encode(replace(settled, result=error)))
        except Exception:
            # Whatever is sent next would be read as the rest of this line, or as its answer.
            _log.exception("an answer failed in a way it should not")
            self.abort()
            return
        finally:
            self._streaming = self._taken = None
        self._flush()
        self._go_on()

    def _heed(self) -> None:
        """Read on only while there is room for more requests."""
        if self._closing or self._paused or self._discarding or self._eof:
            return
        if self._has_room() and not self._resting:
            self._transport.resume_reading()
        else:
            self._transport.pause_reading()

    def _close_if_done(self) -> None:
        """End the connection where everything is answered and nothing more is taken."""
        if self._closing or self._in_flight or self._queue or self._loose or self._resting:
            return
        if self._streaming is not None:
            return
        if self._refused:
            self._end_refused()
        elif self._ended and (self._discarding or not self._paused):
            # Half a line without its end is no request.
            self._close()

    def _refuse_line(self, error: LineTooLong) -> None:
        """Say once that a line is too long; whatever follows it is not read as a request."""
        self._discarding = True
        self._refused = True
        if self._token_deadline is not None:
            error = LineTooLong(
                f"a connection that has not shown a valid token may send lines of "
                f"{self._splitter.limit:,} bytes (access.max_bytes_before_token); the connection "
                "is closed. Send the token with an Auth request first"
            )
        # Until the requests before it are answered nothing needs to come in.
        self._transport.pause_reading()
        line = self._error_line(error)
        self._slots().append([line])
        self._waiting_bytes += _size(line)
        self._flush()
        self._close_if_done()

    def _end_refused(self) -> None:
        """Stop sending, and soon listening: a close at once could cost the client the answer."""
        self._refused = False
        if self._eof:
            self._close()
            return
        if self._transport.can_write_eof():
            # TLS knows no half-closed connections.
            self._transport.write_eof()
        self._transport.resume_reading()
        asyncio.get_running_loop().call_later(_DISCARD_S, self._close)

    def _error_line(self, error: GaplessError) -> bytes:
        now = self._desk.clock.now_ms()
        return encode_error(b"null", kind=KIND_INVALID_JSON, error=error, ts_ms=now)

    def _close(self) -> None:
        """Hang up as soon as everything is sent."""
        if self._closing:
            return
        self._closing = True
        self._transport.close()


def _unordered(line: bytes) -> bool:
    """Whether an answered line need not wait for its turn; asked only where others wait."""
    if b'"ordered"' not in line:
        return False
    envelope = decode_envelope(line)
    return isinstance(envelope, Envelope) and not envelope.ordered


def _lists(query: ToProvider) -> bool:
    """Whether the answer may be a list of what is stored."""
    if not isinstance(query, ProviderRequest):
        return False
    request = query.request
    if isinstance(request, SearchEntities):
        return not any(isinstance(item, Ticker) for item in request.query)
    return isinstance(request, GetAllEntities | GetEntities)


def _size(reply: Reply) -> int:
    """Return the bytes that only a waiting answer holds; a range's are the memory tier's."""
    if isinstance(reply, Settled):
        result = reply.result
        if not isinstance(result, Listing):
            return 0
        return sum(len(one.data) for one in result.entities if isinstance(one, StoredEntity))
    return len(reply) if isinstance(reply, bytes) else sum(map(len, reply))
