"""Which providers there are, and how they fare."""

from __future__ import annotations

from collections.abc import Callable, Sequence

from litestar import get
from litestar.handlers import BaseRouteHandler
from litestar.params import FromPath

from gapless.hub.administration import Administration
from gapless.providers.registry import Registry
from gapless.servers.http.routes.responses import problems
from gapless.servers.http.shapes import ProviderNames, ProviderPing, Providers, ProviderShape


def provider_routes(
    registry: Registry, administration: Administration, disabled: Callable[[], frozenset[str]]
) -> Sequence[BaseRouteHandler]:
    """Return the routes; `disabled` tells which plugins have crashed too often."""

    @get("/providers", tags=["providers"], responses=problems())
    async def names() -> ProviderNames:
        """List the providers' names."""
        return ProviderNames(True, registry.names())

    @get("/providers/{name:str}/ping", tags=["providers"], responses=problems(404))
    async def ping(name: FromPath[str]) -> ProviderPing:
        """Tell whether a provider is there."""
        return ProviderPing(True, registry.get(name).info.name)

    @get("/v1/providers", tags=["providers"], responses=problems())
    async def providers() -> Providers:
        """Tell how each provider fares.

        Its health, parameters, pace, breaker, and when it last answered and failed.
        """
        down = disabled()
        return Providers(
            [
                ProviderShape.of(status, status.info.name in down)
                for status in administration.providers()
            ]
        )

    return [names, ping, providers]
