"""Blocking connections to a hub, one request at a time on each, and a pool of them."""

from __future__ import annotations

import select
import socket
import ssl
from collections import deque
from collections.abc import Iterator, Mapping
from contextlib import contextmanager, suppress
from types import TracebackType
from typing import Any, Generic, Protocol, Self, TypeVar

import msgspec

from gapless.client.addresses import Endpoint, is_loopback
from gapless.client.failures import (
    ConnectionLost,
    TimedOut,
    UnexpectedAnswer,
    Unreachable,
)
from gapless.client.identity import Door
from gapless.client.lines import LineExchange
from gapless.client.steps import Ask, Fetch, Reply
from gapless.client.web import WebAddress, WebExchange, WebReply

CHUNK_BYTES = 1 << 18
# For what only says whether TLS is spoken.
_PROBE_S = 2.0


def connect(endpoint: Endpoint, timeout: float = 60.0) -> Connection:
    """Connect to a hub; raise `Unreachable`.

    `timeout` is in seconds, for connecting and for the longest silence while an answer is
    awaited: a large answer that keeps coming is not cut off.
    """
    tls = ssl.create_default_context() if endpoint.tls else None
    sock = open_socket(endpoint.host, endpoint.port, timeout, tls)
    return Connection(sock, endpoint.name, timeout)


def open_socket(host: str, port: int, timeout: float, tls: ssl.SSLContext | None) -> socket.socket:
    """Return a connected socket; raise `Unreachable`, in words that help."""
    try:
        return connected(host, port, timeout, tls)
    except (OSError, UnicodeError) as error:
        raise unreachable(error, host, port, timeout) from error


def connected(host: str, port: int, timeout: float, tls: ssl.SSLContext | None) -> socket.socket:
    """Return a connected socket; raise the `OSError` or `UnicodeError` of one that is none."""
    sock = socket.create_connection((host, port), timeout)
    try:
        sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        return sock if tls is None else tls.wrap_socket(sock, server_hostname=host)
    except BaseException:
        sock.close()
        raise


def unreachable(error: OSError | UnicodeError, host: str, port: int, timeout: float) -> Unreachable:
    """Return the error for a connection that did not come about."""
    name = f"{host}:{port}"
    if isinstance(error, TimeoutError):
        return Unreachable(f"no answer from {name} within {timeout:g} s")
    if isinstance(error, ssl.SSLCertVerificationError):
        return Unreachable(
            f"the certificate of {name} is not trusted: {error.verify_message}; one of your own "
            "is by SSL_CERT_FILE=FILE"
        )
    if isinstance(error, ssl.SSLError):
        return Unreachable(f"{name} does not speak TLS: leave out tls://")
    why = getattr(error, "strerror", None) or str(error)
    help = "; start one with: gapless serve" if is_loopback(host) else ""
    return Unreachable(f"no hub can be reached at {name} ({why}){help}")


@contextmanager
def telling_of_tls(endpoint: Endpoint) -> Iterator[None]:
    """Say so where a hub was asked plainly that speaks TLS, which just hangs up."""
    try:
        yield
    except Unreachable as error:
        if not may_be_tls(endpoint, error) or not speaks_tls(endpoint):
            raise
        raise asked_plainly(endpoint) from error


def may_be_tls(endpoint: Endpoint, error: Unreachable) -> bool:
    """Whether it may have failed because a hub was asked plainly that speaks TLS."""
    return not endpoint.tls and not isinstance(error, TimedOut)


def asked_plainly(endpoint: Endpoint) -> Unreachable:
    """Return the error for a hub that was asked plainly and speaks TLS."""
    return Unreachable(
        f"what answers at {endpoint.name} speaks TLS: ask it at tls://{endpoint.name}"
    )


def speaks_tls(endpoint: Endpoint) -> bool:
    """Whether anything answers a TLS handshake there; who it is does not matter for that."""
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    context.check_hostname = False
    context.verify_mode = ssl.CERT_NONE
    try:
        with (
            socket.create_connection((endpoint.host, endpoint.port), _PROBE_S) as sock,
            context.wrap_socket(sock, server_hostname=endpoint.host),
        ):
            return True
    except (OSError, UnicodeError, ValueError):
        return False


class _Channel:
    """A socket whose errors come as errors of ours. What is half-read cannot go on: it closes."""

    def __init__(self, sock: socket.socket, name: str) -> None:
        self._sock = sock
        self._name = name
        self._poll = select.poll()
        self._poll.register(sock, select.POLLIN)

    @property
    def idle(self) -> bool:
        """Whether nothing is there to be read: of an idle connection, that it still stands."""
        try:
            return not self._poll.poll(0)
        except (OSError, ValueError):
            return False

    def close(self) -> None:
        """Close the connection; may be called again."""
        self._sock.close()

    def __enter__(self) -> Self:
        """Return itself."""
        return self

    def __exit__(
        self,
        exc_type: type[BaseException] | None,
        exc: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        """Close the connection."""
        self.close()

    def _send(self, data: bytes, timeout: float) -> None:
        self._sock.settimeout(timeout)
        self._sock.sendall(data)

    def _receive(self) -> bytes:
        chunk = self._sock.recv(CHUNK_BYTES)
        if not chunk:
            raise ConnectionResetError("it was closed before the answer was complete")
        return chunk

    def _broken(self, error: OSError, timeout: float) -> Unreachable:
        # A late answer would be taken for that of the next request.
        self.close()
        if isinstance(error, TimeoutError):
            return TimedOut(f"{self._name} was silent for {timeout:g} s; the request was given up")
        return ConnectionLost(f"the connection to {self._name} broke: {error}")


class Connection(_Channel):
    """An open line-JSON connection, for one thread at a time; closes as a context manager."""

    def __init__(self, sock: socket.socket, name: str, timeout: float) -> None:
        """Take over a connected socket; `name` is the address as errors tell it."""
        super().__init__(sock, name)
        self._timeout = timeout
        self._exchange = LineExchange(name)
        # What has come and was not read yet: more than one line only from what is no hub.
        self._lines: deque[bytes] = deque()

    @property
    def idle(self) -> bool:
        """Whether the connection still stands, and nothing is there that nobody has asked for."""
        return not self._lines and super().idle

    def ask(self, step: Ask) -> Reply:
        """Send a query and return the answer to it, whatever it says.

        Raises `Unreachable` where none comes, and `UnexpectedAnswer` where what comes is none.
        """
        exchange = self._exchange
        request_id, line = exchange.request(step.query, step.token, step.envelope)
        try:
            self._send(line, step.timeout)
            while not self._lines:
                self._lines += exchange.feed(self._receive())
        except OSError as error:
            raise self._broken(error, step.timeout) from error
        except BaseException:
            # Interrupted half-way, as by Ctrl-C.
            self.close()
            raise
        received = self._lines.popleft()
        try:
            answer = exchange.expect(exchange.answer(received), request_id)
        except UnexpectedAnswer:
            self.close()
            raise
        return Reply(answer, received)

    def request(
        self, query: Mapping[str, Any], token: str | None = None, **envelope: Any
    ) -> dict[str, Any]:
        """Send `query` and return the hub's whole answer, which is `ok`.

        `envelope` has further keys of the request, such as `data_as="array"`. Raises the error
        of the tree that stands for an answer that is not `ok`, and what `ask` raises.
        """
        reply = self.ask(Ask(query, token, envelope, self._timeout))
        if not reply.answer.ok:
            raise reply.answer.failure()
        answer: dict[str, Any] = msgspec.json.decode(reply.line)
        return answer


class WebConnection(_Channel):
    """An open HTTP connection, for one thread at a time; to the hub of its door alone."""

    def __init__(self, sock: socket.socket, door: Door) -> None:
        """Take over a connected socket; the hub is to be met before anything is fetched."""
        address = WebAddress.of(door.base)
        super().__init__(sock, f"{address.host}:{address.port}")
        self.door = door
        self._exchange = WebExchange(door)

    @property
    def reusable(self) -> bool:
        """Whether another request may be sent."""
        return self._exchange.reusable

    def meet(self, timeout: float) -> None:
        """See whether the hub is there; raise `NotThisHub`, or as `Connection` does."""
        self._exchange.greeted(self._exchanged(self._exchange.greeting(), timeout))

    def fetch(self, step: Fetch) -> WebReply:
        """Send a request and return the answer to it, whatever it says; raise as `Connection`."""
        request = self._exchange.request(
            step.method, step.target, step.token, step.accept, step.body
        )
        return self._exchanged(request, step.timeout)

    def _exchanged(self, request: bytes, timeout: float) -> WebReply:
        try:
            self._send(request, timeout)
            while (reply := self._exchange.feed(self._receive())) is None:
                pass
        except OSError as error:
            raise self._broken(error, timeout) from error
        except BaseException:
            self.close()
            raise
        return reply


class _Pooled(Protocol):
    @property
    def idle(self) -> bool: ...

    def close(self) -> None: ...


C = TypeVar("C", bound=_Pooled)


class Pool(Generic[C]):
    """Open connections that nobody uses, the one used last first; for any number of threads.

    At most `limit` are kept. How many are in use is not bounded: a place that an interrupt takes
    away at the wrong moment would be gone for good.
    """

    def __init__(self, limit: int) -> None:
        self._limit = limit
        self._idle: list[C] = []
        self._closed = False

    def take(self) -> C | None:
        """Return an open connection, `None` if one is to be opened."""
        self._closed = False
        while self._idle:
            try:
                connection = self._idle.pop()
            except IndexError:
                # Another thread was quicker.
                break
            if connection.idle:
                return connection
            # The hub has left, or says what nobody has asked.
            connection.close()
        return None

    def give(self, connection: C) -> None:
        """Keep a connection that can be used again."""
        if len(self._idle) >= self._limit:
            connection.close()
            return
        self._idle.append(connection)
        if self._closed:
            self._empty()

    def close(self) -> None:
        """Close what is idle; what is in use is closed when it comes back."""
        self._closed = True
        self._empty()

    def _empty(self) -> None:
        # Other threads may do the same.
        with suppress(IndexError):
            while True:
                self._idle.pop().close()
