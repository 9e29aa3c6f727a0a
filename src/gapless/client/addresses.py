"""Where a hub is, in all the ways in which people write it; pure, the environment an argument."""

from __future__ import annotations

import ipaddress
import re
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Literal
from urllib.parse import unquote, urlsplit

from gapless.errors import ConfigError
from gapless.texts import printable

DEFAULT_PORT = 7000
DEFAULT_ADDRESS = f"127.0.0.1:{DEFAULT_PORT}"
# Whether the connection is encrypted, by the scheme of the address.
SCHEMES: Mapping[str, bool] = {
    "gapless": False,
    "tcp": False,
    "gapless+tls": True,
    "tls": True,
}
_EXPECTED = "expected HOST:PORT, gapless://TOKEN@HOST:PORT or tls://HOST:PORT"
# A host without a port, or with one; an IPv6 address is in brackets.
_HOST = re.compile(r"(?P<host>\[[^\[\]]+\]|[^\[\]:/?#@\s]+)(?::(?P<port>[0-9]{1,5}))?")


@dataclass(frozen=True, slots=True)
class Endpoint:
    """A hub's TCP address, whether it speaks TLS there, and the token that came with it."""

    host: str
    port: int = DEFAULT_PORT
    tls: bool = False
    token: str | None = field(default=None, repr=False)

    @property
    def name(self) -> str:
        """The address as messages tell it: never with the token."""
        host = f"[{self.host}]" if ":" in self.host else self.host
        return f"{host}:{self.port}"

    @property
    def url(self) -> str:
        """The address as it can be given again, without the token."""
        return f"{'tls' if self.tls else 'gapless'}://{self.name}"


def parse_endpoint(text: str, what: str = "the address") -> Endpoint:
    """Read an address: `HOST:PORT` or `SCHEME://[TOKEN@]HOST[:PORT]`.

    Schemes are `gapless` and `tcp`, and `tls` and `gapless+tls` for a hub that speaks TLS. A
    user's name before the token is passed over. `what` names the address in the error. Raises
    `ConfigError`; the message never has the token.
    """
    if not isinstance(text, str):
        raise ConfigError(f"{what} {text!r} is no text; {_EXPECTED}")
    scheme, separator, rest = text.strip().partition("://")
    if not separator:
        scheme, rest = "gapless", text.strip()
    before, at, rest = rest.rpartition("@")
    shown = printable(f"{scheme}://{rest}" if separator else rest)
    if scheme.lower() in ("http", "https"):
        raise ConfigError(
            f"{what} {shown} is for HTTP; give the hub's TCP address: HOST:PORT, or "
            "tls://HOST:PORT where it speaks TLS"
        )
    tls = SCHEMES.get(scheme.lower())
    match = _HOST.fullmatch(rest.removesuffix("/"))
    if tls is None or match is None or not (separator or match["port"]):
        raise ConfigError(f"{what} {shown} is none; {_EXPECTED}")
    port = int(match["port"] or DEFAULT_PORT)
    if not 0 < port <= 65_535:
        raise ConfigError(f"{what} {shown}: ports go from 1 to 65535")
    # `gapless://name:token@host` is what tools make that know of users and passwords only.
    token = unquote(before.rpartition(":")[2]) if at else ""
    return Endpoint(match["host"].strip("[]"), port, tls, token or None)


def endpoint(
    address: str | None,
    token: str | None,
    environ: Mapping[str, str],
    what: str = "the address",
) -> Endpoint:
    """Return the hub that is meant: by what was given, else `GAPLESS_URL`, else the default.

    The token is the one that was given, else that of the address, else `GAPLESS_TOKEN`.
    """
    if address is not None:
        found = parse_endpoint(address, what)
    else:
        found = parse_endpoint(environ.get("GAPLESS_URL") or DEFAULT_ADDRESS, "GAPLESS_URL")
    chosen = token or found.token or environ.get("GAPLESS_TOKEN") or None
    return Endpoint(found.host, found.port, found.tls, chosen)


def web_base(told: str | None, endpoint: Endpoint) -> str | None:
    """Return where the hub's HTTP door is from here, by what the hub says of it; `None`: nowhere.

    It is on the host where TCP was reached, whatever the hub calls itself: tokens go nowhere
    else, nor in the clear where TCP is encrypted. HTTP that is for the hub's own machine only
    cannot be reached from another.
    """
    try:
        parts = urlsplit(told or "")
        port = parts.port
    except ValueError:
        return None
    if parts.scheme not in ("http", "https") or (endpoint.tls and parts.scheme != "https"):
        return None
    if is_loopback(parts.hostname or ""):
        # This machine has several such addresses, and the hub need not listen on all.
        return (told or "").rstrip("/") if is_loopback(endpoint.host) else None
    host = f"[{endpoint.host}]" if ":" in endpoint.host else endpoint.host
    return f"{parts.scheme}://{host}" + (f":{port}" if port else "")


def parse_web_base(text: str, what: str = "the HTTP address") -> str:
    """Read the base address of a hub's HTTP door; raise `ConfigError`."""
    text = text.strip()
    if "://" not in text:
        text = f"http://{text}"
    try:
        parts = urlsplit(text)
        # Digits alone are a port whose host was forgotten.
        valid = parts.scheme in ("http", "https") and not (parts.hostname or "0").isdigit()
        _ = parts.port  # raises where it is no number
    except ValueError:
        valid = False
    if not valid or parts.query or parts.fragment or "@" in parts.netloc or not text.isascii():
        # What may be a token or a password is not told.
        shown = re.sub(r"(?<=//)[^/]*@", "", text)
        raise ConfigError(f"{what} {printable(shown)} is none; expected http://HOST:PORT")
    return text.rstrip("/")


def web_override(http: str | Literal[False] | None) -> str | None:
    """Return what a caller's `http` means: a base address, none at all (empty), the hub's own."""
    if http is False:
        return ""
    return None if http is None else parse_web_base(http, "http")


def is_loopback(host: str) -> bool:
    """Whether a host is this machine."""
    try:
        return host.lower() == "localhost" or ipaddress.ip_address(host).is_loopback
    except ValueError:
        return False
