"""What SIGHUP means to a hub: read the certificate again, or that its terminal has gone.

Apart from the other signals, which end a hub in any case.
"""

from __future__ import annotations

import asyncio
import os
import signal
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING

import structlog

from gapless.errors import ConfigError

if TYPE_CHECKING:
    from gapless.servers.tls import Certificate

_log = structlog.get_logger("gapless")


class Hangups:
    """Heeds SIGHUP from before a hub starts until after it has stopped.

    Programs end by that signal unless they say otherwise, and whoever renews certificates sends
    it to all hubs alike, at any time: to one without a certificate, or one that is just starting.
    """

    def __init__(self, stop: asyncio.Event) -> None:
        """`stop` is what ends the hub."""
        self._stop = stop
        self._terminal = sys.stderr.isatty()
        self._certificate: Certificate | None = None
        self._started = False
        self._waiting = False

    def started(self, certificate: Certificate | None) -> None:
        """Take over what the hub shows who it is by; what was asked for meanwhile is done now."""
        self._certificate = certificate
        self._started = True
        if self._waiting:
            self.heed()

    def heed(self) -> None:
        """Do what a SIGHUP asks for."""
        if self._terminal and not _is_terminal():
            # Nobody reads the log any more, and writing to it would fail at every request.
            with Path(os.devnull).open("wb") as nowhere:
                os.dup2(nowhere.fileno(), sys.stderr.fileno())
            self._stop.set()
        elif not self._started:
            self._waiting = True
        elif self._certificate is None:
            _log.info("nothing to read again at SIGHUP: the hub has no certificate")
        else:
            _read(self._certificate)


@contextmanager
def heeding_hangups(stop: asyncio.Event) -> Iterator[Hangups]:
    """Heed SIGHUP for the length of the block; `stop` is set where the hub's terminal has gone."""
    hangups = Hangups(stop)
    loop = asyncio.get_running_loop()
    loop.add_signal_handler(signal.SIGHUP, hangups.heed)
    try:
        yield hangups
    finally:
        loop.remove_signal_handler(signal.SIGHUP)


def _is_terminal() -> bool:
    """Whether stderr still is a terminal: one that was hung up is none any more."""
    try:
        return sys.stderr.isatty()
    except (OSError, ValueError):
        return False


def _read(certificate: Certificate) -> None:
    try:
        certificate.reload()
    except ConfigError as error:
        _log.error(
            "the certificate could not be read again; the old one stays", error=error.message
        )
    else:
        _log.info("the certificate was read again")
