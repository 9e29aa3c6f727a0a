"""The composition root: every part is made here and handed to those that need it."""

from __future__ import annotations

import asyncio
import ctypes
import os
import secrets
import sys
from collections.abc import AsyncIterator, Callable, Sequence
from contextlib import AsyncExitStack, asynccontextmanager
from dataclasses import dataclass, replace
from ssl import SSLContext
from typing import TYPE_CHECKING, Protocol

import structlog

from gapless import __version__
from gapless.auth.authority import Authority
from gapless.clock import Clock, SystemClock
from gapless.config import Settings, database_path, parse_address
from gapless.hub.hub import Hub
from gapless.hub.plugins import Plugins
from gapless.hub.upstream import UpstreamCall
from gapless.providers.base import Provider
from gapless.providers.registry import Registry
from gapless.providers.sample import SampleProvider
from gapless.providers.yahoo import YahooProvider
from gapless.servers.admission import Admission
from gapless.servers.control import ControlServer
from gapless.servers.descriptors import Descriptors, fitting, raise_limit
from gapless.servers.desk import Announcement, Desk
from gapless.servers.meter import Meter
from gapless.servers.tcp import TcpServer
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
    observe: Callable[[UpstreamCall], None] = lambda asked: None,
    seed: int | None = None,
) -> AsyncIterator[RunningHub]:
    """Run a hub by its settings until the block ends.

    Raises a `GaplessError` that names what stands in the way, or `CannotListen`.
    """
    clock = clock or SystemClock()
    path = database_path(settings.db)
    settings = fitted(settings)
    limits = settings.limits
    async with AsyncExitStack() as stack:
        database = database_at(path)
        stack.enter_context(database.owned(f"process {os.getpid()}, gapless {__version__}"))
        store = await asyncio.to_thread(database.open, settings.cache.block_records)
        stack.push_async_callback(store.close)
        certificate = None
        if settings.tls_cert is not None and settings.tls_key is not None:
            certificate = Certificate(settings.tls_cert, settings.tls_key)
        tls = None if certificate is None else certificate.context
        authority = Authority(store.accounts, clock, settings.auth, settings.access)
        setup_key = await authority.load()
        authority.keep_house()
        stack.push_async_callback(authority.close)
        descriptors = Descriptors()
        watch = asyncio.create_task(descriptors.watch(), name="file descriptors")
        stack.callback(watch.cancel)
        meter = Meter(descriptors)

        def count(asked: UpstreamCall) -> None:
            meter.asked(asked)
            observe(asked)

        registry = Registry(providers(settings), reserved=BUILT_IN)
        plugins = Plugins(
            store,
            registry,
            clock,
            settings.plugins,
            base=settings.base.resolve(),
            record=authority.audit.about,
        )
        stack.push_async_callback(plugins.close)
        hub = Hub(store, registry, clock, settings, observe=count, seed=seed)
        hub.holdings.listeners.append(meter.changed)
        # Fetches under way end before the plugins that they wait for.
        stack.push_async_callback(hub.close, limits.shutdown_s * _FOR_FETCHES)
        desk = Desk(hub, clock, Admission(authority, clock), announcement(settings), meter=meter)
        server = TcpServer(desk, limits, settings.access, tls)
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
            door = _http_door(settings, plugins, server, tls)
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
    settings: Settings, plugins: Plugins, tcp: TcpServer, tls: SSLContext | None
) -> HttpDoor:
    # Litestar takes longer to import than all else; a hub without HTTP need not.
    from gapless.servers.http.door import HttpDoor

    return HttpDoor(tcp.desk, plugins, lambda: len(tcp.connections), settings, tls)


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


def announcement(settings: Settings) -> Announcement:
    """Return what a hub that starts now tells of itself: who it is, and its limits."""
    limits = settings.limits
    return Announcement(
        # Clients know by it that both doors are one hub's, so no two may ever have the same.
        instance=secrets.token_hex(16),
        limits={
            "max_line_bytes": limits.max_line_bytes,
            "max_records": limits.max_records,
            "max_entities": limits.max_entities,
            "max_connections": limits.max_connections,
        },
    )


BUILT_IN = ("sample", "yahoo_finance")
"""The names that no plugin may have, whether or not the settings leave those providers on."""


def providers(settings: Settings) -> list[Provider]:
    """Make the built-in providers that the settings leave on."""
    result: list[Provider] = []
    if settings.sample.enabled:
        result.append(SampleProvider(settings.sample))
    if settings.yahoo.enabled:
        result.append(YahooProvider(settings.yahoo))
    return result


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


def fitted(settings: Settings) -> Settings:
    """Return the settings with no more connections than there are descriptors for.

    Raises the limit of the process on open files as far as it may.
    """
    tcp = settings.limits.max_connections
    http = 0 if settings.http == "off" else settings.api.max_connections
    limit = raise_limit(tcp + http)
    fit = fitting(limit, tcp, http)
    if fit == (tcp, http):
        return settings
    _log.warning(
        "fewer connections are taken than the settings allow, for the process may not have so "
        "many files open; raise its hard limit (ulimit -Hn)",
        limit=limit,
        tcp=fit[0],
        http=fit[1],
    )
    return replace(
        settings,
        limits=replace(settings.limits, max_connections=fit[0]),
        api=replace(settings.api, max_connections=fit[1]),
    )


__all__ = [
    "CannotListen",
    "RunningHub",
    "announcement",
    "fitted",
    "providers",
    "running_hub",
    "tune_malloc",
    "tune_threads",
]
