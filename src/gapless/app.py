"""The composition root: every part is made here and handed to those that need it."""

from __future__ import annotations

import asyncio
import ctypes
import os
import secrets
import sys
from collections.abc import AsyncIterator, Callable, Sequence
from contextlib import AsyncExitStack, asynccontextmanager
from dataclasses import dataclass
from ssl import SSLContext
from typing import TYPE_CHECKING, Protocol

import structlog

from gapless import __version__
from gapless.auth.authority import AuthLimits, Authority
from gapless.auth.sessions import Lifetimes
from gapless.clock import Clock, SystemClock
from gapless.config import Settings, database_path, parse_address, parse_check
from gapless.hub.ageing import Checks
from gapless.hub.hub import Hub, Options
from gapless.hub.plugins import PluginLimits, Plugins
from gapless.hub.upstream import Asked, Limits
from gapless.providers.base import Pace, Provider
from gapless.providers.registry import Registry
from gapless.providers.sample import SampleProvider
from gapless.providers.yahoo import YahooProvider, YahooSettings
from gapless.servers.admission import Admission
from gapless.servers.control import ControlServer
from gapless.servers.descriptors import Descriptors, fitting, raise_limit
from gapless.servers.desk import Announcement, Desk
from gapless.servers.meter import Meter
from gapless.servers.tcp import TcpLimits, TcpServer
from gapless.servers.tls import Certificate
from gapless.store.database import database_at

if TYPE_CHECKING:
    from gapless.servers.http.door import HttpDoor

_WARM_BYTES = 8 << 20
_SWITCH_S = 0.0005
# How the time for a stop is shared out; what is left is for plugins and the database.
_FOR_REQUESTS, _FOR_FETCHES = 0.4, 0.3

_log = structlog.get_logger("gapless")


class Door(Protocol):
    """Where requests come in."""

    async def open(self, host: str, port: int) -> tuple[str, int]:
        """Listen; return the address that is open."""
        ...

    async def close(self, timeout: float) -> None:
        """Take no more requests, finish those under way, then hang up."""
        ...


class CannotListen(Exception):
    """An address cannot be had: which setting names it, and what the system said."""

    def __init__(self, setting: str, address: str, cause: OSError) -> None:
        super().__init__(f"cannot listen on {address}: {cause}")
        self.setting = setting
        self.address = address
        self.cause = cause


@dataclass(frozen=True, slots=True)
class RunningHub:
    """A hub that takes requests; `tcp` and `http` are the addresses that are open.

    `http` is the base URL, `None` where HTTP is off.
    """

    hub: Hub
    plugins: Plugins
    authority: Authority
    server: TcpServer
    host: str
    port: int
    http: str | None
    setup_key: str | None
    certificate: Certificate | None

    @property
    def tcp(self) -> str:
        """The address as it is written."""
        return _written(self.host, self.port)

    @property
    def administered(self) -> bool:
        """Whether there is an administrator, or nobody needs one."""
        return not self.authority.enabled or self.authority.users.administered

    @property
    def setup_url(self) -> str | None:
        """Where the first user is made; `None`: there has been one, or HTTP is off."""
        if self.setup_key is None or self.http is None:
            return None
        return f"{reachable(self.http)}/setup?key={self.setup_key}"


@asynccontextmanager
async def running_hub(
    settings: Settings,
    *,
    clock: Clock | None = None,
    observe: Callable[[Asked], None] = lambda asked: None,
    seed: int | None = None,
) -> AsyncIterator[RunningHub]:
    """Run a hub by its settings until the block ends.

    Raises a `GaplessError` that names what stands in the way, or `CannotListen`.
    """
    clock = clock or SystemClock()
    limits = settings.limits
    path = database_path(settings.db)
    tcp_connections, http_connections = connection_limits(settings)
    async with AsyncExitStack() as stack:
        database = database_at(path)
        stack.enter_context(database.owned(f"process {os.getpid()}, gapless {__version__}"))
        store = await asyncio.to_thread(database.open, settings.cache.block_records)
        stack.push_async_callback(store.close)
        certificate = None
        if settings.tls_cert is not None and settings.tls_key is not None:
            certificate = Certificate(settings.tls_cert, settings.tls_key)
        tls = None if certificate is None else certificate.context
        authority = Authority(store.accounts, clock, settings.auth, auth_limits(settings))
        setup_key = await authority.load()
        authority.keep_house()
        stack.push_async_callback(authority.close)
        descriptors = Descriptors()
        watch = asyncio.create_task(descriptors.watch(), name="file descriptors")
        stack.callback(watch.cancel)
        meter = Meter(descriptors)

        def count(asked: Asked) -> None:
            meter.asked(asked)
            observe(asked)

        registry = Registry(providers(settings), reserved=BUILT_IN)
        plugins = Plugins(
            store,
            registry,
            clock,
            plugin_limits(settings),
            base=settings.base.resolve(),
            record=authority.audit.about,
        )
        stack.push_async_callback(plugins.close)
        hub = Hub(store, registry, clock, hub_options(settings), observe=count, seed=seed)
        hub.holdings.listeners.append(meter.changed)
        # Fetches under way end before the plugins that they wait for.
        stack.push_async_callback(hub.close, limits.shutdown_s * _FOR_FETCHES)
        desk = Desk(
            hub,
            clock,
            Admission(authority, clock),
            announcement(settings, tcp_connections),
            settings.cache.hot_bytes // 4,
            meter=meter,
        )
        server = TcpServer(
            desk,
            TcpLimits(
                max_line_bytes=limits.max_line_bytes,
                max_unsent_bytes=limits.max_unsent_bytes,
                slow_reader_s=limits.slow_reader_s,
                slow_reader_yields_s=limits.slow_reader_yields_s,
                max_connections=tcp_connections,
                max_in_flight=limits.max_in_flight,
                max_bytes_before_token=settings.access.max_bytes_before_token,
                token_s=settings.access.token_s,
            ),
            tls,
        )
        await desk.rehearse()
        control = ControlServer(hub, authority)
        await control.open(path)
        stack.push_async_callback(control.close)
        await plugins.restore()
        if settings.plugins.entry_points:
            await plugins.find_entry_points()
        doors: list[Door] = [server]
        stack.push_async_callback(_close_all, doors, limits.shutdown_s * _FOR_REQUESTS)
        if settings.http != "off":
            door = _http_door(settings, hub, plugins, server, http_connections, tls)
            doors.append(door)
            scheme = "http" if tls is None else "https"
            desk.http = f"{scheme}://{_written(*await _opened(door, 'http', settings.http))}"
        host, port = await _opened(server, "tcp", settings.tcp)
        if settings.auth and tls is None and not _is_at_home(settings):
            _log.warning(
                "passwords and tokens go over the network as they are; give --tls-cert and "
                "--tls-key, or let a proxy of yours speak TLS"
            )
        _log.info("open", tcp=f"{host}:{port}", http=desk.http or "off", database=str(path))
        yield RunningHub(
            hub,
            plugins,
            authority,
            server,
            host,
            port,
            desk.http,
            setup_key if settings.auth else None,
            certificate,
        )


def _http_door(
    settings: Settings,
    hub: Hub,
    plugins: Plugins,
    tcp: TcpServer,
    connections: int,
    tls: SSLContext | None,
) -> HttpDoor:
    # Litestar takes longer to import than all else; a hub without HTTP need not.
    from gapless.servers.http.data import DataLimits
    from gapless.servers.http.door import HttpDoor, HttpLimits
    from gapless.servers.http.receipt import ReceiptLimits

    api, limits = settings.api, settings.limits
    return HttpDoor(
        hub,
        plugins,
        tcp.desk,
        tcp.desk.clock,
        lambda: len(tcp.connections),
        HttpLimits(
            receipt=ReceiptLimits(
                receive_s=api.receive_s,
                token_s=settings.access.token_s if settings.auth else None,
                slow_reader_s=limits.slow_reader_s,
                slow_reader_yields_s=limits.slow_reader_yields_s,
                max_head_bytes=api.max_head_bytes,
                max_connections=connections,
            ),
            max_body_bytes=api.max_body_bytes,
            max_line_bytes=limits.max_line_bytes,
            max_unsent_bytes=api.max_unsent_bytes,
            data=DataLimits(memo_bytes=settings.cache.hot_bytes // 2, streams=api.max_streams),
            hosts=tuple(api.hosts.split(",")),
            proxies=frozenset(filter(None, map(str.strip, settings.access.proxies.split(",")))),
        ),
        tls,
    )


async def _opened(door: Door, setting: str, text: str) -> tuple[str, int]:
    """Open a door at the address of a setting; raise `CannotListen`."""
    address = parse_address(text)
    try:
        return await door.open(address.host, address.port)
    except OSError as error:
        raise CannotListen(setting, text, error) from error


async def _close_all(doors: Sequence[Door], timeout: float) -> None:
    await asyncio.gather(*(door.close(timeout) for door in doors))


def _written(host: str, port: int) -> str:
    """Return an address as it is written, an IPv6 host in brackets."""
    return f"[{host}]:{port}" if ":" in host else f"{host}:{port}"


def _is_at_home(settings: Settings) -> bool:
    """Whether only this machine can reach the hub."""
    open_at = [text for text in (settings.tcp, settings.http) if text != "off"]
    return all(parse_address(text).is_loopback for text in open_at)


def reachable(url: str) -> str:
    """Return a base URL with an address that a browser on this machine can open."""
    for everywhere in ("://0.0.0.0:", "://[::]:"):
        url = url.replace(everywhere, "://127.0.0.1:")
    return url


def announcement(settings: Settings, connections: int) -> Announcement:
    """Return what a hub that starts now tells of itself: who it is, and its limits.

    `connections`: how many it takes over TCP.
    """
    limits = settings.limits
    return Announcement(
        # Clients know by it that both doors are one hub's, so no two may ever have the same.
        instance=secrets.token_hex(16),
        limits={
            "max_line_bytes": limits.max_line_bytes,
            "max_records": limits.max_records,
            "max_entities": limits.max_entities,
            "max_connections": connections,
        },
    )


def auth_limits(settings: Settings) -> AuthLimits:
    """Return what users may by these settings."""
    access = settings.access
    return AuthLimits(
        requests_per_s=access.rate,
        burst=access.burst,
        lifetimes=Lifetimes(
            access_s=access.access_token_s,
            refresh_s=access.refresh_token_s,
            session_s=access.session_s,
            most_families=access.max_sign_ins,
        ),
    )


def plugin_limits(settings: Settings) -> PluginLimits:
    """Return what a plugin may take by these settings."""
    plugins = settings.plugins
    return PluginLimits(
        load_s=plugins.load_s,
        deadline_s=plugins.deadline_s,
        kill_after_s=plugins.kill_after_s,
        max_reply_bytes=plugins.max_reply_bytes,
        memory_bytes=plugins.memory_bytes,
        max_crashes=plugins.max_crashes,
    )


YAHOO = "yahoo_finance"
BUILT_IN = ("sample", YAHOO)
"""The names that no plugin may have, whether or not the settings leave those providers on."""


def providers(settings: Settings) -> list[Provider]:
    """Make the built-in providers that the settings leave on."""
    result: list[Provider] = []
    if settings.sample.enabled:
        pace = Pace(settings.sample.rate, settings.sample.burst)
        result.append(SampleProvider(pace=pace))
    if settings.yahoo.enabled:
        yahoo = settings.yahoo
        result.append(
            YahooProvider(
                YahooSettings(
                    base_url=yahoo.base_url,
                    fallback_url=yahoo.fallback_url,
                    impersonate=yahoo.impersonate,
                    rate=yahoo.rate,
                    burst=yahoo.burst,
                    connect_timeout_s=yahoo.connect_timeout_s,
                    timeout_s=yahoo.timeout_s,
                    max_body=yahoo.max_body_bytes,
                    refresh_daily_s=yahoo.refresh_daily_s,
                    refresh_intraday_s=yahoo.refresh_intraday_s,
                    refresh_null_s=yahoo.refresh_null_s,
                )
            )
        )
    return result


def checks(settings: Settings) -> Checks:
    """Return when what can change upstream is fetched again by these settings."""
    cache, own = settings.cache, settings.yahoo.check
    return Checks(
        every=parse_check(cache.check),
        bars=cache.check_bars,
        wait_s=cache.check_wait_s,
        own={} if own is None else {YAHOO: parse_check(own)},
    )


def hub_options(settings: Settings) -> Options:
    """Return what the hub allows itself by these settings."""
    fetch, cache, limits = settings.fetch, settings.cache, settings.limits
    return Options(
        upstream=Limits(
            deadline=fetch.deadline_s,
            breaker_failures=fetch.breaker_failures,
            breaker_cooldown=fetch.breaker_cooldown_s,
            breaker_cooldown_most=fetch.breaker_cooldown_max_s,
            unknown_ticker=cache.unknown_ticker_s,
        ),
        hot_bytes=cache.hot_bytes,
        checks=checks(settings),
        join_distance_s=cache.join_distance_s,
        max_gaps=cache.max_gaps,
        max_records=limits.max_records,
        max_entities=limits.max_entities,
        default_entities=limits.default_entities,
        max_listing_bytes=limits.max_listing_bytes,
    )


def tune_malloc() -> None:
    """Keep large buffers in the process instead of giving them back to the kernel each time.

    Answers of a quarter of a megabyte cost less than half with this (docs/architecture.md). Not
    glibc: nothing happens.
    """
    try:
        mallopt = ctypes.CDLL(None).mallopt
    except (AttributeError, OSError):
        return
    for option, value in ((-3, 32 << 20), (-1, 512 << 20), (-2, 16 << 20), (-8, 1)):
        mallopt(option, value)
    # A page that is touched for the first time costs about as much as reading it from SQLite;
    # what is let go here is what the first answers are made in.
    touched = b"\x01" * _WARM_BYTES
    del touched


def tune_threads() -> None:
    """Let the loop have the interpreter back soon when a worker thread is busy in Python.

    Putting a large answer into its format holds up everybody else by about one such interval a
    request; at Python's 5 ms that is felt.
    """
    sys.setswitchinterval(_SWITCH_S)


def connection_limits(settings: Settings) -> tuple[int, int]:
    """Return how many connections TCP and HTTP may take: as set, or as there are descriptors for.

    Raises the limit of the process on open files as far as it may.
    """
    tcp = settings.limits.max_connections
    http = 0 if settings.http == "off" else settings.api.max_connections
    limit = raise_limit(tcp + http)
    fit = fitting(limit, tcp, http)
    if fit != (tcp, http):
        _log.warning(
            "fewer connections are taken than the settings allow, for the process may not have "
            "so many files open; raise its hard limit (ulimit -Hn)",
            limit=limit,
            tcp=fit[0],
            http=fit[1],
        )
    return fit


__all__ = [
    "CannotListen",
    "RunningHub",
    "announcement",
    "auth_limits",
    "hub_options",
    "providers",
    "running_hub",
    "tune_malloc",
    "tune_threads",
]
