"""Who may address the hub, and from which pages: the checks that come before any routing.

A page on the Internet can make its visitor's browser send requests to this machine, by a name
that it has made point here (DNS rebinding) or straight across sites. Pure decisions.
"""

from __future__ import annotations

import ipaddress
from collections.abc import Iterable
from typing import Final
from urllib.parse import urlsplit

SAFE_METHODS: Final = frozenset({"GET", "HEAD", "OPTIONS"})
_OF_OURS: Final = frozenset({"same-origin", "none"})


class Hosts:
    """The names by which requests may address the hub.

    `localhost`, loopback addresses, the address that is listened on, and `extra` ones; any port,
    for tunnels and containers map ports.
    """

    def __init__(self, listening: str, extra: Iterable[str] = ()) -> None:
        self._names = {"localhost", listening.lower(), *(name.strip().lower() for name in extra)}
        self._names.discard("")

    def allows(self, host: str | None) -> bool:
        """Whether a request with this `Host` header is meant for this hub."""
        name = _name(host)
        if name is None:
            return False
        if name in self._names:
            return True
        try:
            return ipaddress.ip_address(name).is_loopback
        except ValueError:
            return False


def crosses_sites(method: str, host: str, origin: str | None, fetch_site: str | None) -> bool:
    """Whether a request that could change something comes from another site's page.

    Programs send neither header; browsers send one of them at least.
    """
    if method in SAFE_METHODS:
        return False
    if fetch_site is not None and fetch_site.lower() not in _OF_OURS:
        return True
    if origin is None:
        return False
    try:
        parts = urlsplit(origin)
    except ValueError:
        return True
    return parts.scheme not in ("http", "https") or parts.netloc.lower() != host.lower()


def _name(host: str | None) -> str | None:
    """Return the name in a `Host` header, without its port; `None` for what is none."""
    if not host or not host.isascii() or any(char in host for char in "/\\@?# \t,"):
        return None
    if host.startswith("["):
        name, bracket, rest = host[1:].partition("]")
        if not bracket or (rest and not _is_port(rest)):
            return None
        return name.lower()
    name, colon, _ = host.partition(":")
    if colon and not _is_port(host[len(name) :]):
        return None
    return name.lower().removesuffix(".") or None


def _is_port(text: str) -> bool:
    return text.startswith(":") and (text == ":" or text[1:].isdigit())
