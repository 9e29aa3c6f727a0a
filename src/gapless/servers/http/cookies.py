"""The cookie that a signed-in browser has: where it counts, and how it is set and taken back."""

from __future__ import annotations

import ipaddress
from collections.abc import Mapping
from typing import Any
from urllib.parse import urlsplit

from litestar import Request

from gapless.errors import Forbidden


class SessionCookie:
    """The cookie of the hub at a port, which is known once that is open.

    Browsers keep the cookies of all ports of a host together, so its name tells which.
    """

    def __init__(self) -> None:
        self._port = 0

    @property
    def name(self) -> str:
        """What it is called."""
        return f"gapless_{self._port}"

    def opened(self, port: int) -> None:
        """Note the port that is open."""
        self._port = port

    def must_be_secure(self, request: Request[Any, Any, Any]) -> bool:
        """Whether the cookie may go over TLS only: everywhere but on this machine.

        Raises `Forbidden` for a browser that speaks plainly over a network: it would not keep
        such a cookie, and its user would sign in again and again. It says itself how it speaks,
        for a proxy may stand between.
        """
        origin = request.headers.get("origin", "")
        scheme = urlsplit(origin).scheme or request.scope["scheme"]
        if scheme == "https":
            return True
        if _is_here(request.headers.get("host", "")):
            return False
        raise Forbidden(
            "signing in takes TLS when it goes over a network: start the hub with --tls-cert and "
            "--tls-key, or reach it by https through a proxy, or by localhost through a tunnel"
        )

    def given(self, token: str, secure: bool, seconds: float) -> Mapping[str, str]:
        """Return the header that gives it to a browser."""
        flags = "; Secure" if secure else ""
        return {
            "set-cookie": f"{self.name}={token}; Path=/; Max-Age={seconds:.0f}; "
            f"HttpOnly; SameSite=Strict{flags}"
        }

    def taken(self) -> Mapping[str, str]:
        """Return the header that takes it back."""
        return {"set-cookie": f"{self.name}=; Path=/; Max-Age=0; HttpOnly; SameSite=Strict"}


def _is_here(host: str) -> bool:
    name = urlsplit(f"//{host}").hostname or ""
    if name == "localhost":
        return True
    try:
        return ipaddress.ip_address(name).is_loopback
    except ValueError:
        return False
