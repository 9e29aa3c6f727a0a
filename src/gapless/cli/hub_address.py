"""Where commands find a hub that may be on another machine, and what to say where it is not found.

Apart from the client, which is given a host and a port and knows no settings.
"""

from __future__ import annotations

import socket
import ssl
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from typing import Final

from gapless.cli.exits import UsageError
from gapless.client.connection import Unreachable
from gapless.config import Address, parse_address
from gapless.errors import ConfigError
from gapless.observability import masked, printable

DEFAULT_TCP: Final = "127.0.0.1:7000"
VARIABLE: Final = "GAPLESS_URL"
_PLAIN: Final = "tcp://"
_ENCRYPTED: Final = "tls://"
_PROBE_S: Final = 2.0


def hub_address(tcp: str | None, environ: Mapping[str, str]) -> tuple[Address, bool]:
    """Return where the hub is, and whether it speaks TLS there.

    By the flag, else `GAPLESS_URL`, else the default.
    """
    if tcp is not None:
        try:
            return _address(tcp)
        except ConfigError as error:
            raise UsageError(f"--tcp: {error.message}") from None
    url = environ.get(VARIABLE) or DEFAULT_TCP
    if "://" in url and not url.startswith((_PLAIN, _ENCRYPTED)):
        raise ConfigError(
            f"{VARIABLE} = {printable(masked(url))}: gapless speaks TCP with a hub; give "
            "tcp://HOST:PORT, or tls://HOST:PORT where the hub speaks TLS"
        )
    try:
        return _address(url.rstrip("/"))
    except ConfigError as error:
        raise ConfigError(f"{VARIABLE}: {error.message}") from None


def _address(text: str) -> tuple[Address, bool]:
    address = parse_address(text.removeprefix(_PLAIN).removeprefix(_ENCRYPTED))
    return address, text.startswith(_ENCRYPTED)


def trusted(encrypted: bool) -> ssl.SSLContext | None:
    """Return by whom a hub has to be vouched for; `None`: it is asked without TLS."""
    return ssl.create_default_context() if encrypted else None


@contextmanager
def telling_of_tls(address: Address, encrypted: bool) -> Iterator[None]:
    """Say so where a hub was asked plainly that speaks TLS, which just hangs up."""
    try:
        yield
    except Unreachable as error:
        if encrypted or not _speaks_tls(address):
            raise
        raise Unreachable(
            f"what answers at {address} speaks TLS: ask it at {_ENCRYPTED}{address}"
        ) from error


def _speaks_tls(address: Address) -> bool:
    """Whether anything answers a TLS handshake there; who it is does not matter for that."""
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    context.check_hostname = False
    context.verify_mode = ssl.CERT_NONE
    try:
        with (
            socket.create_connection(address, _PROBE_S) as sock,
            context.wrap_socket(sock, server_hostname=address.host),
        ):
            return True
    except (OSError, UnicodeError, ValueError):
        return False
