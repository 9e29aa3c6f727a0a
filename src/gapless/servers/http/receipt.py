"""uvicorn's connection with what it lacks: deadlines for slow senders, and limits.

uvicorn takes headers of any size for any time. A timer is armed when a connection opens, and again
only where a read leaves a request half-received: a request that comes in one piece costs nothing.
"""

from __future__ import annotations

import asyncio
import re
import socket
import sys
from http import HTTPStatus
from typing import Any

from uvicorn.protocols.http.httptools_impl import HttpToolsProtocol

from gapless.config.settings import ApiSettings, LimitSettings
from gapless.errors import GaplessError, InvalidQuery, LineTooLong, Overloaded
from gapless.servers.acknowledgements import Acknowledgements
from gapless.servers.descriptors import Descriptors
from gapless.servers.http import problems
from gapless.servers.http.identity import SESSION

# What the kernel takes beyond what is on its way: with megabytes of it in there nobody could tell a
# slow reader from a fast one.
_NOT_SENT_BYTES = 256 << 10
_UPGRADE = re.compile(rb"\r\n(?:upgrade|http2-settings):[^\r\n]*", re.IGNORECASE)


class ReceivingProtocol(HttpToolsProtocol):
    """One HTTP connection; what it is held to is set on a subclass by `protocol_class`.

    `token_s`: how long a request may take to arrive where none before it has shown a valid
    token; `None`: no token is needed.
    """

    api: ApiSettings
    limits: LimitSettings
    token_s: float | None
    descriptors: Descriptors
    acknowledgements: Acknowledgements[ReceivingProtocol]

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        self._deadline: asyncio.TimerHandle | None = None
        self._allowed_s, self._allowed_by = 0.0, ""
        self._admitted = False
        # Bytes of a head that is not complete yet.
        self._head = 0
        self._receiving = False
        self._refused = False

    def connection_made(self, transport: asyncio.Transport) -> None:  # type: ignore[override]
        """Begin, or refuse a client too many."""
        super().connection_made(transport)
        refusal = self._full()
        gives_way = None if refusal is None else self.acknowledgements.give_way()
        if gives_way is not None:
            self.connections.discard(gives_way)
        elif refusal is not None:
            self._refuse(refusal)
            return
        if sys.platform == "linux":
            sock = transport.get_extra_info("socket")
            sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NOTSENT_LOWAT, _NOT_SENT_BYTES)
        self._arm()

    def _full(self) -> Overloaded | None:
        """Return why this client is one too many; `None`: there is room."""
        if len(self.connections) > self.api.max_connections:
            return Overloaded(
                f"{self.api.max_connections:,} HTTP connections are open, and no more are "
                "taken (api.max_connections, or what the limit on open files leaves of it); close "
                "some, or try again later",
                retry_after_s=1,
            )
        return self.descriptors.refusal()

    def connection_lost(self, exc: Exception | None) -> None:
        """Let go of the timer."""
        self._disarm()
        super().connection_lost(exc)

    def data_received(self, data: bytes) -> None:
        """Take bytes in; a request that is not whole by then has so long to become so."""
        if self.transport.is_closing():
            return
        if not self._receiving:
            if not self._head and b"pgrade" in data.lower():
                data = _without_upgrade(data)
            self._head += len(data)
        super().data_received(data)
        if self.transport.is_closing():
            self._disarm()
            return
        if not self._receiving and self._head > self.api.max_head_bytes:
            self._refuse(
                LineTooLong(
                    f"the request line and headers are longer than "
                    f"{self.api.max_head_bytes:,} bytes (api.max_head_bytes)"
                ),
                HTTPStatus.REQUEST_HEADER_FIELDS_TOO_LARGE,
            )
        elif self._head or self._receiving:
            if self._deadline is None:
                self._arm()
        else:
            self._disarm()

    def on_headers_complete(self) -> None:
        """Note that the head is whole, and refuse one whose body would be read as a request."""
        self._head = 0
        if self.parser.should_upgrade():
            # The parser takes what follows for another protocol, and a body for the next request.
            self._refused = True
            self._refuse(
                InvalidQuery("this server changes no protocols; send the request without Upgrade")
            )
            return
        self._receiving = True
        super().on_headers_complete()

    def on_body(self, body: bytes) -> None:
        """Take a part of the body, unless the request was refused."""
        if not self._refused:
            super().on_body(body)

    def on_message_complete(self) -> None:
        """Note that the request is whole."""
        if self._refused:
            return
        self._receiving = False
        self._head = 0
        self._disarm()
        super().on_message_complete()

    def _arm(self) -> None:
        self._allowed_s, self._allowed_by = self.api.receive_s, "api.receive_s"
        token_s = self.token_s
        if token_s is not None and token_s < self._allowed_s and not self._admitted:
            self._allowed_s, self._allowed_by = token_s, "access.token_s"
        self._deadline = self.loop.call_later(self._allowed_s, self._expired)

    def on_message_begin(self) -> None:
        """Note whether the request before has shown a valid token."""
        self._look()
        super().on_message_begin()

    def on_response_complete(self) -> None:
        """Wait for the next request; for that of a stranger not as long as for others."""
        super().on_response_complete()
        self._look()
        token_s = self.token_s
        waits = self.timeout_keep_alive_task
        if token_s is not None and not self._admitted and waits is not None:
            waits.cancel()
            self.timeout_keep_alive_task = self.loop.call_later(
                token_s, self.timeout_keep_alive_handler
            )

    def _look(self) -> None:
        """Find out whether the latest request has shown a valid token; one is enough."""
        if not self._admitted and self.scope is not None:
            session = self.scope["state"].get(SESSION)
            self._admitted = session is not None and session.admitted

    def _disarm(self) -> None:
        if self._deadline is not None:
            self._deadline.cancel()
            self._deadline = None

    def _expired(self) -> None:
        self._deadline = None
        if self.transport.is_closing():
            return
        if not self._receiving and self.cycle is not None and not self.cycle.response_complete:
            # The one before it is still being answered, which is not its client's fault.
            self._arm()
            return
        if self.cycle is not None and self.cycle.response_started and self._receiving:
            # Its answer was given before its body had come; there is nothing more to say.
            self.transport.close()
            return
        self._refuse(
            InvalidQuery(
                f"the request did not arrive within {self._allowed_s:g} s ({self._allowed_by})"
            ),
            HTTPStatus.REQUEST_TIMEOUT,
        )

    def send_400_response(self, msg: str) -> None:
        """Answer bytes that are no request; uvicorn calls it."""
        self._refused = True
        self._refuse(InvalidQuery(f"that is no HTTP request: {msg.rstrip('.').lower()}"))

    def _refuse(self, error: GaplessError, status: int | None = None) -> None:
        """Answer without the application, and hang up."""
        self._disarm()
        problem = problems.problem_of(error, status)
        body = problems.encoded(problem)
        headers = {
            "content-type": problems.MEDIA_TYPE,
            "content-length": len(body),
            "connection": "close",
            **problems.headers_of(problem),
        }
        lines = [f"HTTP/1.1 {problem.status} {problem.title}".encode("ascii")]
        # What every answer has, those of the application included.
        lines += [b"%b: %b" % header for header in self.server_state.default_headers]
        lines += [f"{name}: {value}".encode("ascii") for name, value in headers.items()]
        self.transport.write(b"\r\n".join([*lines, b"", body]))
        self.transport.close()


def _without_upgrade(data: bytes) -> bytes:
    """Return what was received without the wish to change protocols in its first head.

    Clients that would rather speak HTTP/2 say so with their first request, and are content with
    an answer in HTTP/1.1 (RFC 9110, 7.8).
    """
    head, end, rest = data.partition(b"\r\n\r\n")
    return _UPGRADE.sub(b"", head) + end + rest if end else data


def protocol_class(
    api: ApiSettings, limits: LimitSettings, token_s: float | None, descriptors: Descriptors
) -> type[ReceivingProtocol]:
    """Return the connection class with these limits, as uvicorn wants it: a class."""
    held_to = {"api": api, "limits": limits, "token_s": token_s, "descriptors": descriptors}
    return type("LimitedProtocol", (ReceivingProtocol,), held_to)
