"""`gapless serve`: run a hub until a signal ends it."""

from __future__ import annotations

import asyncio
import errno
import gc
import signal
import socket
import sys
from collections.abc import Callable
from contextlib import AbstractAsyncContextManager, AsyncExitStack
from typing import TYPE_CHECKING, Protocol

import msgspec
import structlog
from cyclopts import App

from gapless import __version__
from gapless.cli.database import of_database, prepare_folder
from gapless.cli.hangup import heeding_hangups
from gapless.cli.settings import NO_FLAGS, SettingFlags
from gapless.clock import SystemClock
from gapless.config import RETIRED, Settings, refuse_exposure
from gapless.errors import GaplessError
from gapless.instants import format_instant
from gapless.observability import configure_logging
from gapless.texts import masked
from gapless.threads import Threads

if TYPE_CHECKING:
    from gapless.app import CannotListen
    from gapless.servers.tls import Certificate

_log = structlog.get_logger("gapless")


class RunningHub(Protocol):
    """What the start-up line needs to know of a hub."""

    @property
    def tcp(self) -> str:
        """The `HOST:PORT` that is open."""
        ...

    @property
    def http(self) -> str | None:
        """The base URL that is open; `None`: HTTP is off."""
        ...

    @property
    def setup_key(self) -> str | None:
        """What lets a first user be made; `None`: there has been one."""
        ...

    @property
    def setup_url(self) -> str | None:
        """Where the first user is made; `None`: there has been one, or HTTP is off."""
        ...

    @property
    def administered(self) -> bool:
        """Whether there is an administrator, or nobody needs one."""
        ...

    @property
    def certificate(self) -> Certificate | None:
        """What both doors show who they are by; `None`: they speak plainly."""
        ...


Opener = Callable[[Settings], AbstractAsyncContextManager[RunningHub]]


def register(app: App) -> None:
    """Add `serve` and its older spelling `--server` to the command line."""
    app.command(serve, name=["serve", "--server"])


def serve(flags: SettingFlags = NO_FLAGS) -> None:
    """Run a hub until SIGTERM or Ctrl-C.

    Settings come from defaults, the settings file, the environment (`GAPLESS_…`) and these
    flags, the later winning; "gapless config show" lists them all. Logs go to stderr, and so
    does one line "gapless VERSION ready tcp=HOST:PORT http=URL db=PATH" as soon as requests are
    taken; where the hub speaks TLS it says tcp=tls://HOST:PORT, as commands are given it. SIGHUP
    reads the certificate again.
    """
    settings, origins = flags.load()
    refuse_exposure(settings)
    prepare_folder(settings, origins)
    configure_logging(settings.log.level, settings.log.format)
    for key in sorted(RETIRED & origins.keys()):
        _log.warning("this setting is ignored: nothing heeds it any more", setting=key)

    import uvloop

    from gapless.app import running_hub, tune_malloc, tune_threads

    tune_malloc()
    tune_threads()
    uvloop.run(serve_until_signal(settings, running_hub))


async def serve_until_signal(settings: Settings, running_hub: Opener) -> None:
    """Run a hub until SIGTERM or SIGINT; a second signal ends the process at once."""
    loop = asyncio.get_running_loop()
    loop.set_default_executor(Threads("worker"))
    stop = asyncio.Event()

    def on_signal(number: signal.Signals) -> None:
        structlog.get_logger().info("stopping", signal=number.name)
        for handled in (signal.SIGTERM, signal.SIGINT):
            loop.remove_signal_handler(handled)
        stop.set()

    for number in (signal.SIGTERM, signal.SIGINT):
        loop.add_signal_handler(number, on_signal, number)
    await serve_until(stop, settings, running_hub)


async def serve_until(stop: asyncio.Event, settings: Settings, running_hub: Opener) -> None:
    """Run a hub until `stop` is set, saying on stderr when it is ready.

    Raises a `GaplessError` of one sentence if it cannot start.
    """
    async with AsyncExitStack() as stack:
        hangups = stack.enter_context(heeding_hangups(stop))
        from gapless.app import CannotListen

        try:
            hub = await stack.enter_async_context(running_hub(settings))
        except CannotListen as error:
            raise _cannot_listen(error) from error
        except OSError as error:
            about = f": {error.filename}" if error.filename else ""
            raise GaplessError(f"cannot start: {error.strerror or error}{about}") from error
        # What is there for good is not looked through again for garbage: each time all requests
        # would stand still for some 50 ms.
        gc.collect()
        gc.freeze()
        scheme = "" if hub.certificate is None else "tls://"
        print(
            f"gapless {__version__} ready tcp={scheme}{hub.tcp} http={hub.http or 'off'} "
            f"db={masked(settings.db)}",
            file=sys.stderr,
            flush=True,
        )
        _tell_of_setup(hub, settings)
        hangups.started(hub.certificate)
        await stop.wait()


def _tell_of_setup(hub: RunningHub, settings: Settings) -> None:
    """Say how the first user is made, where there is none; the address has a line of its own.

    Users without an administrator can only be left by an older version, or by hand.
    """
    if hub.setup_key is None:
        if not hub.administered:
            _log.warning(
                "authentication is on and no user is an administrator; make one with: "
                f"gapless users role EMAIL admin{of_database(settings.db)}"
            )
        return
    if hub.setup_url is None:
        _log.warning(
            "authentication is on and there are no users; add one with: "
            f"gapless users add EMAIL --role admin{of_database(settings.db)}"
        )
        return
    _log.warning(
        "authentication is on and there are no users; open this address once to make the first, "
        "an administrator"
    )
    # Past the log, which makes no exception from masking such a key, not even for this one.
    if settings.log.format == "json":
        told = {
            "setup_url": hub.setup_url,
            "event": "the address at which the first user is made",
            "level": "warning",
            "timestamp": format_instant(SystemClock().now_ms()),
        }
        print(msgspec.json.encode(told).decode(), file=sys.stderr)
    print(hub.setup_url, file=sys.stderr, flush=True)


def _cannot_listen(failed: CannotListen) -> GaplessError:
    where, flag, cause = f"cannot listen on {failed.address}", f"--{failed.setting}", failed.cause
    if cause.errno == errno.EADDRINUSE:
        return GaplessError(
            f"{where}: another program does; end it, or choose another port with {flag}"
        )
    if cause.errno == errno.EADDRNOTAVAIL or isinstance(cause, socket.gaierror):
        return GaplessError(f"{where}: this machine has no such address")
    if cause.errno == errno.EACCES:
        return GaplessError(f"{where}: not allowed; choose a port from 1024 up with {flag}")
    return GaplessError(f"{where}: {cause.strerror or cause}")
