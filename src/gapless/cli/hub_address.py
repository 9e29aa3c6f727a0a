"""Where commands find a hub that may be on another machine: by a flag, or by the environment."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Final

from gapless.cli.exits import UsageError
from gapless.client.addresses import Endpoint, endpoint, parse_endpoint
from gapless.errors import ConfigError

VARIABLE: Final = "GAPLESS_URL"


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
