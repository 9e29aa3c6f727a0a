"""How commands ask a hub that may be on another machine: found by a flag, or the environment."""

from __future__ import annotations

import os
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, Final

from cyclopts import Parameter

from gapless.cli.exits import UsageError
from gapless.client.addresses import Endpoint, endpoint, parse_endpoint
from gapless.client.connection import connect, telling_of_tls
from gapless.errors import ConfigError

VARIABLE: Final = "GAPLESS_URL"


@Parameter(name="*")
@dataclass(frozen=True, slots=True, kw_only=True)
class HubFlags:
    """The flags of the commands that ask a running hub once.

    Parameters
    ----------
    tcp
        HOST:PORT of the hub, tls://HOST:PORT where it speaks TLS. Default: what `GAPLESS_URL`
        names (tcp://HOST:PORT or tls://HOST:PORT), else 127.0.0.1:7000.
    token
        Access token. Better put it into `GAPLESS_TOKEN`: arguments can be seen by others.
    timeout
        Seconds to wait for a hub that is silent.
    """

    tcp: str | None = None
    token: str | None = field(default=None, repr=False)
    timeout: float = 60.0

    def ask(self, query: Mapping[str, Any], **envelope: Any) -> dict[str, Any]:
        """Return the hub's whole answer to a query, which is `ok`.

        `envelope` has further keys of the request. Raises `UsageError` and `ConfigError` for what
        is wrong with the flags and variables, and whatever `Connection.request` does.
        """
        hub = hub_endpoint(self.tcp, self.token, os.environ)
        if not self.timeout > 0:
            raise UsageError("--timeout needs a number of seconds above 0")
        with telling_of_tls(hub), connect(hub, self.timeout) as connection:
            return connection.request(query, token=hub.token, **envelope)


DEFAULT_HUB: Final = HubFlags()


def hub_endpoint(tcp: str | None, token: str | None, environ: Mapping[str, str]) -> Endpoint:
    """Return where the hub is, with the token to show.

    By the flags, else `GAPLESS_URL` and `GAPLESS_TOKEN`, else the default. Raises `UsageError`
    for what is wrong with `--tcp`, and `ConfigError` for the variables.
    """
    if tcp is not None:
        try:
            parse_endpoint(tcp)
        except ConfigError as error:
            raise UsageError(f"--tcp: {error.message}") from None
    return endpoint(tcp, token, environ)
