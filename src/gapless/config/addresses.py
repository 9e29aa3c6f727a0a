"""Addresses in settings: where to listen, where to ask, and who could reach it."""

from __future__ import annotations

import ipaddress
import re
from pathlib import Path
from typing import NamedTuple
from urllib.parse import urlsplit

from gapless.errors import ConfigError
from gapless.texts import masked, printable


class Address(NamedTuple):
    """A host and a port to listen on; port 0 picks a free one."""

    host: str
    port: int

    def __str__(self) -> str:
        """Return it as it is written, an IPv6 host in brackets."""
        host = f"[{self.host}]" if ":" in self.host else self.host
        return f"{host}:{self.port}"

    @property
    def is_loopback(self) -> bool:
        """Whether only this machine can reach it. A name other than `localhost` is not trusted."""
        if self.host.lower() == "localhost":
            return True
        try:
            return ipaddress.ip_address(self.host).is_loopback
        except ValueError:
            return False


def parse_address(text: str) -> Address:
    """Read `HOST:PORT` (`[HOST]:PORT` for IPv6); raise `ConfigError`."""
    if "://" in text:
        raise ConfigError(
            f"{masked(printable(text))!r} is no HOST:PORT such as 127.0.0.1:7000: "
            "leave out what ends in ://, and any path"
        )
    host, _, port = text.strip().rpartition(":")
    if host.startswith("[") and host.endswith("]"):
        host = host[1:-1]
    elif ":" in host:
        raise ConfigError(f"{printable(text)!r}: write an IPv6 address as [ADDRESS]:PORT")
    if not host or not re.fullmatch("[0-9]{1,5}", port) or int(port) > 65535:
        raise ConfigError(f"{printable(text)!r} is no HOST:PORT such as 127.0.0.1:7000")
    return Address(host, int(port))


def check_http_address(text: str) -> None:
    """Raise `ConfigError` unless `text` is `HOST:PORT` or `off`."""
    if text != "off":
        parse_address(text)


def check_http_url(text: str) -> None:
    """Raise `ConfigError` unless `text` is an HTTP address that paths can be put behind."""
    try:
        parts = urlsplit(text)
        valid = parts.scheme in ("http", "https") and bool(parts.hostname)
        _ = parts.port  # raises where it is no number
    except ValueError:
        valid = False
    if not valid or parts.query or parts.fragment:
        raise ConfigError(f"{masked(text)!r} is no http:// or https:// address")


def check_fallback_url(text: str) -> None:
    """Raise `ConfigError` unless `text` is an HTTP address or `auto`."""
    if text != "auto":
        check_http_url(text)


def check_not_empty(text: str) -> None:
    """Raise `ConfigError` if there is nothing in `text`."""
    if not text.strip():
        raise ConfigError("it is empty")


def database_path(db: str) -> Path:
    """Return the file that the setting `db` names, links resolved: one file has one lock.

    Raises `ConfigError` for a database that is no file.
    """
    scheme, separator, rest = db.partition("://")
    if not separator:
        return Path(db).resolve()
    if scheme == "sqlite":
        return Path("/" + rest.lstrip("/")).resolve()
    raise ConfigError(
        f"db = {scheme}://… is not part of this version, which keeps its data in SQLite; "
        "name a file with --db"
    )
