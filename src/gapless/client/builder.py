"""The names that users of the older client know: a builder, a config, a function for lines."""

from __future__ import annotations

import ssl
from dataclasses import dataclass, field, replace
from typing import Any, Literal

from gapless.client.client import Client, connect


@dataclass(frozen=True, slots=True)
class AuthConfig:
    """The token that requests show; `None`: none."""

    token: str | None = field(default=None, repr=False)


@dataclass(frozen=True, slots=True)
class ClientBuilder:
    """Puts a client together: `ClientBuilder("127.0.0.1:7000").with_token("…").connect()`.

    Every step returns a new builder. Without an address `connect` takes that of `GAPLESS_URL`.
    """

    address: str | None = field(default=None, repr=False)
    auth: AuthConfig = AuthConfig()
    http: str | Literal[False] | None = None
    timeout: float = 60.0
    tls: ssl.SSLContext | None = None

    def with_token(self, token: str) -> ClientBuilder:
        """Show this token."""
        return self.with_auth_config(AuthConfig(token))

    def with_auth_config(self, auth: AuthConfig) -> ClientBuilder:
        """Show the token of a config."""
        return replace(self, auth=auth)

    def with_http(self, base: str | Literal[False]) -> ClientBuilder:
        """Reach the hub's HTTP door at this base address; `False`: not at all."""
        return replace(self, http=base)

    def with_timeout(self, seconds: float) -> ClientBuilder:
        """Wait so long for a hub that is silent."""
        return replace(self, timeout=seconds)

    def with_tls(self, context: ssl.SSLContext) -> ClientBuilder:
        """Have the hub vouched for by these certificates, at a `tls://` address."""
        return replace(self, tls=context)

    def connect(self) -> Client:
        """Return a client that has reached its hub; raise as `gapless.connect` does."""
        return connect(
            self.address,
            token=self.auth.token,
            http=self.http,
            timeout=self.timeout,
            tls=self.tls,
        )


def send_parsed_query_line_with_auth(
    line: str, connection: Client, auth: AuthConfig | None = None
) -> dict[str, Any]:
    """Ask what a line of the query language says, showing the token of `auth` for this once.

    The line is read before anything is sent; what is wrong with it is an `InvalidQuery` that
    points at the word. Returns the hub's whole answer. `connection` is a client.
    """
    return connection.send_line(line, token=None if auth is None else auth.token)
