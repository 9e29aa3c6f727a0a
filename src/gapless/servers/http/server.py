"""uvicorn on the hub's own loop, beside TCP: opened on a socket of ours, closed when told to."""

from __future__ import annotations

import asyncio
import socket
from collections.abc import Generator, Iterable
from contextlib import contextmanager, suppress
from ssl import SSLContext
from typing import Any, cast

import structlog
import uvicorn
from litestar.types import ASGIApp

from gapless.servers.acknowledgements import Acknowledgements
from gapless.servers.http.receipt import ReceivingProtocol

_log = structlog.get_logger("gapless.http")

# Pools of clients keep connections for about a minute; who closes first loses requests.
_KEEP_ALIVE_S = 75
_BACKLOG = 2_048
INSTANCE = "Gapless-Instance"


class _Uvicorn(uvicorn.Server):
    """A server that leaves signals to whoever runs the hub."""

    handshake_s = 60.0

    @contextmanager
    def capture_signals(self) -> Generator[None, None, None]:
        yield

    async def startup(self, sockets: list[socket.socket] | None = None) -> None:
        """Listen; where TLS is spoken, with an end to handshakes that are not gone on with."""
        config = self.config
        # uvicorn sets them a moment after it takes the first connections.
        self.server_state.default_headers = config.encoded_headers
        if config.ssl is None or sockets is None:
            await super().startup(sockets)
            return
        await self.lifespan.startup()

        def protocol() -> asyncio.Protocol:
            made: asyncio.Protocol = cast("type[Any]", config.http_protocol_class)(
                config=config, server_state=self.server_state, app_state=self.lifespan.state
            )
            return made

        loop = asyncio.get_running_loop()
        self.servers = [
            await loop.create_server(
                protocol,
                sock=sock,
                ssl=config.ssl,
                backlog=config.backlog,
                ssl_handshake_timeout=self.handshake_s,
            )
            for sock in sockets
        ]
        self.started = True


class HttpServer:
    """The hub's HTTP door: one ASGI application. Every answer tells the hub's `instance`.

    `protocol` is what each connection is, and what it is held to (`protocol_class`).
    """

    def __init__(
        self,
        app: ASGIApp,
        protocol: type[ReceivingProtocol],
        instance: str,
        tls: SSLContext | None = None,
    ) -> None:
        self._app = app
        self._instance = instance
        self._tls = tls
        limits = protocol.limits
        self._acknowledgements = Acknowledgements(
            self._clients, limits.slow_reader_s, limits.slow_reader_yields_s
        )
        # Newcomers are let in at the expense of who takes nothing, which the server knows.
        told = {"acknowledgements": self._acknowledgements}
        self._protocol: type[ReceivingProtocol] = type(protocol.__name__, (protocol,), told)
        self._server: _Uvicorn | None = None
        self._task: asyncio.Task[None] | None = None

    @property
    def connections(self) -> int:
        """How many connections are open."""
        return 0 if self._server is None else len(self._server.server_state.connections)

    async def open(self, host: str, port: int) -> tuple[str, int]:
        """Listen; return the address that is open, with the port that a 0 became.

        Raises the `OSError` of an address that cannot be had.
        """
        loop = asyncio.get_running_loop()
        # uvicorn would end the process where it cannot bind.
        found = await loop.getaddrinfo(host, port, type=socket.SOCK_STREAM)
        family, kind, number, _, address = found[0]
        sock = socket.socket(family, kind, number)
        try:
            sock.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            sock.setblocking(False)
            sock.bind(address)
            sock.listen(_BACKLOG)
        except BaseException:
            sock.close()
            raise
        tls = self._tls
        config = uvicorn.Config(
            self._app,
            http=self._protocol,
            ws="none",
            loop="none",
            lifespan="off",
            log_config=None,
            access_log=False,
            headers=[(INSTANCE, self._instance)],
            server_header=False,
            proxy_headers=False,
            backlog=_BACKLOG,
            timeout_keep_alive=_KEEP_ALIVE_S,
            ssl_context_factory=None if tls is None else lambda config, default: tls,
        )
        self._server = _Uvicorn(config)
        self._server.handshake_s = self._protocol.token_s or self._protocol.api.receive_s
        self._task = loop.create_task(self._server.serve(sockets=[sock]), name="http")
        while not self._server.started:
            if self._task.done():
                self._task.result()
                raise OSError("the HTTP server ended while it was starting")
            await asyncio.sleep(0.005)
        self._acknowledgements.open()
        name = sock.getsockname()
        return name[0], name[1]

    async def close(self, timeout: float) -> None:
        """Take no more requests, let those under way end, then hang up."""
        if self._server is None or self._task is None:
            return
        self._server.config.timeout_graceful_shutdown = max(1, round(timeout))
        self._server.should_exit = True
        _, pending = await asyncio.wait([self._task], timeout=timeout + 1)
        if pending:
            _log.warning("requests cut off at shutdown", connections=self.connections)
            self._server.force_exit = True
            self._task.cancel()
        with suppress(asyncio.CancelledError):
            await self._task
        self._acknowledgements.close()

    def _clients(self) -> Iterable[ReceivingProtocol]:
        server = self._server
        return () if server is None else cast("Any", server.server_state.connections)
