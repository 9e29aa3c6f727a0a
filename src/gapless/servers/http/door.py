"""The HTTP door put together: its routes, the data, the gate in front, the server around them."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from ssl import SSLContext

from gapless.config.settings import Settings
from gapless.hub.administration import Administration
from gapless.hub.plugins import Plugins
from gapless.servers.desk import Desk
from gapless.servers.http.account_pages import AccountPages
from gapless.servers.http.api import application
from gapless.servers.http.budget import ByteBudget
from gapless.servers.http.cookies import SessionCookie
from gapless.servers.http.data import Data
from gapless.servers.http.gate import Gate
from gapless.servers.http.hosts import Hosts
from gapless.servers.http.metrics import Figures
from gapless.servers.http.receipt import protocol_class
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
from gapless.servers.reading import PORTIONS, Portions
from gapless.threads import Threads

_ENCODERS = 2


class HttpDoor:
    """The hub's HTTP door; `tcp_connections` counts those of the other one."""

    def __init__(
        self,
        desk: Desk,
        plugins: Plugins,
        tcp_connections: Callable[[], int],
        settings: Settings,
        tls: SSLContext | None = None,
        portions: Portions = PORTIONS,
    ) -> None:
        self._desk = desk
        self._plugins = plugins
        self._tcp_connections = tcp_connections
        self._settings = settings
        self._tls = tls
        self._portions = portions
        self._executor = Threads("encoder", _ENCODERS)
        self._server: HttpServer | None = None

    async def open(self, host: str, port: int) -> tuple[str, int]:
        """Listen; return the address that is open, with the port that a 0 became."""
        desk, hub, clock = self._desk, self._desk.hub, self._desk.clock
        api, limits, access = self._settings.api, self._settings.limits, self._settings.access
        authority, pages, cookie = desk.admission.authority, AccountPages(), SessionCookie()
        data = Data(hub, clock, self._executor, api, self._portions)
        budget = ByteBudget(api.max_unsent_bytes)
        administration = Administration(hub)
        registry, holdings = hub.registry, hub.holdings
        figures = Figures(hub, desk.meter, desk.memos, self._connections, self._restarts)
        app = application(
            [
                *query_routes(desk, data, desk.meter, budget, limits.max_line_bytes),
                *provider_routes(registry, administration, self._disabled),
                *plugin_routes(self._plugins),
                *series_routes(administration, registry, clock),
                *entity_routes(administration, clock),
                *health_routes(holdings, desk.meter.descriptors, figures.registered()),
                *manual_routes(desk.admission.required),
                *authentication_routes(authority),
                *user_routes(authority),
                *setup_routes(authority, pages),
                *sign_in_routes(authority, pages, cookie),
                *account_routes(authority, pages, cookie),
            ],
            api.max_body_bytes,
            desk.admission,
        )
        gate = Gate(
            app,
            data,
            Hosts(host, api.hosts.split(",")),
            desk.meter,
            budget,
            desk.admission,
            cookie,
            frozenset(filter(None, map(str.strip, access.proxies.split(",")))),
        )
        token_s = access.token_s if desk.admission.required else None
        protocol = protocol_class(api, limits, token_s, desk.meter.descriptors)
        self._server = HttpServer(gate, protocol, desk.announced.instance, self._tls)
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
