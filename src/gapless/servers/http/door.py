"""The HTTP door put together: its routes, the data, the gate in front, the server around them."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from ssl import SSLContext

from gapless.clock import Clock
from gapless.hub.administration import Administration
from gapless.hub.hub import Hub
from gapless.hub.plugins import Plugins
from gapless.servers.desk import Desk
from gapless.servers.http.account_pages import AccountPages
from gapless.servers.http.api import application
from gapless.servers.http.budget import ByteBudget
from gapless.servers.http.cookies import SessionCookie
from gapless.servers.http.data import Data, DataLimits
from gapless.servers.http.gate import Gate
from gapless.servers.http.hosts import Hosts
from gapless.servers.http.metrics import Figures
from gapless.servers.http.receipt import ReceiptLimits
from gapless.servers.http.routes.account import account_routes
from gapless.servers.http.routes.authentication import authentication_routes
from gapless.servers.http.routes.entities import entity_routes
from gapless.servers.http.routes.health import health_routes
from gapless.servers.http.routes.manual import manual_routes
from gapless.servers.http.routes.plugins import plugin_routes
from gapless.servers.http.routes.providers import provider_routes
from gapless.servers.http.routes.queries import query_routes
from gapless.servers.http.routes.series import series_routes
from gapless.servers.http.routes.setup import setup_routes
from gapless.servers.http.routes.sign_in import sign_in_routes
from gapless.servers.http.routes.users import user_routes
from gapless.servers.http.server import HttpServer

_ENCODERS = 2


@dataclass(frozen=True, slots=True)
class HttpLimits:
    """What HTTP clients may take; bytes, seconds and counts by name.

    `hosts`: further names of the hub. `proxies`: who is believed on where requests come from.
    """

    receipt: ReceiptLimits = field(default_factory=ReceiptLimits)
    data: DataLimits = field(default_factory=DataLimits)
    max_body_bytes: int = 4 << 20
    max_line_bytes: int = 1 << 20
    max_unsent_bytes: int = 512 << 20
    hosts: tuple[str, ...] = ()
    proxies: frozenset[str] = frozenset()


class HttpDoor:
    """The hub's HTTP door."""

    def __init__(
        self,
        hub: Hub,
        plugins: Plugins,
        desk: Desk,
        clock: Clock,
        tcp_connections: Callable[[], int],
        limits: HttpLimits | None = None,
        tls: SSLContext | None = None,
    ) -> None:
        self._hub = hub
        self._plugins = plugins
        self._desk = desk
        self._clock = clock
        self._tcp_connections = tcp_connections
        self._limits = limits or HttpLimits()
        self._tls = tls
        self._executor = ThreadPoolExecutor(_ENCODERS, "gapless-encoder")
        self._server: HttpServer | None = None

    async def open(self, host: str, port: int) -> tuple[str, int]:
        """Listen; return the address that is open, with the port that a 0 became."""
        limits, desk = self._limits, self._desk
        authority, pages, cookie = desk.admission.authority, AccountPages(), SessionCookie()
        data = Data(self._hub, self._clock, self._executor, limits.data)
        budget = ByteBudget(limits.max_unsent_bytes)
        administration = Administration(self._hub)
        registry, holdings = self._hub.registry, self._hub.holdings
        figures = Figures(self._hub, desk.meter, desk.memos, self._connections, self._restarts)
        app = application(
            [
                *query_routes(desk, data, desk.meter, budget, limits.max_line_bytes),
                *provider_routes(registry, administration, self._disabled),
                *plugin_routes(self._plugins),
                *series_routes(administration, registry, self._clock),
                *entity_routes(administration, self._clock),
                *health_routes(holdings, desk.meter.descriptors, figures.registered()),
                *manual_routes(desk.admission.required),
                *authentication_routes(authority),
                *user_routes(authority),
                *setup_routes(authority, pages),
                *sign_in_routes(authority, pages, cookie),
                *account_routes(authority, pages, cookie),
            ],
            limits.max_body_bytes,
            desk.admission,
        )
        gate = Gate(
            app,
            data,
            Hosts(host, limits.hosts),
            desk.meter,
            budget,
            desk.admission,
            cookie,
            limits.proxies,
        )
        self._server = HttpServer(
            gate, desk.meter.descriptors, desk.announced.instance, limits.receipt, self._tls
        )
        opened = await self._server.open(host, port)
        cookie.opened(opened[1])
        return opened

    async def close(self, timeout: float) -> None:
        """Take no more requests, let those under way end, then hang up."""
        if self._server is not None:
            await self._server.close(timeout)
        self._executor.shutdown(wait=False, cancel_futures=True)

    def _connections(self) -> Mapping[str, int]:
        http = 0 if self._server is None else self._server.connections
        return {"http": http, "tcp": self._tcp_connections()}

    def _restarts(self) -> Mapping[str, int]:
        return {one.name: one.restarts for one in self._plugins.status()}

    def _disabled(self) -> frozenset[str]:
        return frozenset(one.name for one in self._plugins.status() if one.state == "disabled")
