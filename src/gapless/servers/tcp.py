"""Line-JSON over TCP: one request a line, one answer a line, pipelined, in order."""

from __future__ import annotations

import asyncio
from collections.abc import Coroutine
from ssl import SSLContext
from typing import Any

import structlog

from gapless.config.settings import AccessSettings, LimitSettings
from gapless.errors import Overloaded
from gapless.servers.acknowledgements import Acknowledgements
from gapless.servers.connection import Connection
from gapless.servers.desk import Desk, Settled, Work

_log = structlog.get_logger("gapless.tcp")


class TcpServer:
    """The hub's TCP door.

    `access` is what a connection has until it has shown a valid token, with authentication on.
    """

    def __init__(
        self,
        desk: Desk,
        limits: LimitSettings,
        access: AccessSettings,
        tls: SSLContext | None = None,
    ) -> None:
        self.desk = desk
        self.limits = limits
        self.access = access
        self._tls = tls
        self.connections: set[Connection] = set()
        # Requests under way, also those whose clients have gone.
        self._working: set[asyncio.Task[Settled] | asyncio.Task[None]] = set()
        self._server: asyncio.Server | None = None
        self._idle = asyncio.Event()
        self.stopping = False
        self._acknowledgements = Acknowledgements(
            lambda: self.connections,
            self.limits.slow_reader_s,
            self.limits.slow_reader_yields_s,
        )

    async def open(self, host: str, port: int) -> tuple[str, int]:
        """Listen; return the address that is open, with the port that a 0 became."""
        loop = asyncio.get_running_loop()
        self._server = await loop.create_server(
            lambda: Connection(self),
            host,
            port,
            backlog=4_096,
            ssl=self._tls,
            ssl_handshake_timeout=None if self._tls is None else self.access.token_s,
        )
        self._acknowledgements.open()
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
        self._acknowledgements.close()
        for connection in list(self.connections):
            connection.abort()
        # Nobody waits for what is left, and the database is about to close. What is being fetched
        # for it is the hub's, which lets it end.
        for task in self._working:
            task.cancel()
        if self._working:
            await asyncio.wait(self._working)

    def begin(self, work: Work) -> asyncio.Task[Settled]:
        """Start the work on a request."""
        task = asyncio.get_running_loop().create_task(self.desk.work(work))
        self._working.add(task)
        task.add_done_callback(self._working.discard)
        return task

    def stream(self, sending: Coroutine[Any, Any, None]) -> asyncio.Task[None]:
        """Start to send an answer piece by piece."""
        task = asyncio.get_running_loop().create_task(sending)
        self._working.add(task)
        task.add_done_callback(self._working.discard)
        return task

    def refusal(self) -> Overloaded | None:
        """Return why a newcomer is turned away; `None`: there is room, or was made for it."""
        refusal = self._full()
        if refusal is None:
            return None
        gives_way = self._acknowledgements.give_way()
        if gives_way is None:
            return refusal
        self.gone(gives_way)
        return None

    def _full(self) -> Overloaded | None:
        if len(self.connections) >= self.limits.max_connections:
            return Overloaded(
                f"{self.limits.max_connections:,} connections are open, and no more are taken "
                "(limits.max_connections, or what the limit on open files leaves of it); close "
                "some, or try again later",
                retry_after_s=1,
            )
        return self.desk.meter.descriptors.refusal()

    def gone(self, connection: Connection) -> None:
        """Note that a connection is over."""
        self.connections.discard(connection)
        if not self.connections:
            self._idle.set()
