"""Providers loaded while the hub runs: loading, reloading, letting go."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from litestar import Request, delete, get, post
from litestar.handlers import BaseRouteHandler
from litestar.params import FromPath, JSONBody

from gapless.errors import NotFound
from gapless.hub.plugins import Plugins, PluginSpec, PluginStatus
from gapless.servers.http.identity import grant_of
from gapless.servers.http.routes.responses import problems
from gapless.servers.http.shapes import PluginLoaded, PluginPage


def plugin_routes(plugins: Plugins) -> Sequence[BaseRouteHandler]:
    """Return the routes."""

    @post(
        "/plugins/load",
        tags=["plugins"],
        status_code=200,
        responses=problems(413, 415, 422, 507),
    )
    async def load(request: Request[Any, Any, Any], data: JSONBody[PluginSpec]) -> PluginLoaded:
        """Load a provider, by module and base directory or by file.

        `class` is `Provider` unless it is given, `name` what the plugin's `name()` says. A plugin
        of the same name is replaced once the new one runs. It has the rights of the hub's user.
        """
        status = await plugins.load(data, grant_of(request).email)
        return PluginLoaded(True, status.name)

    @get("/v1/plugins", tags=["plugins"], responses=problems())
    async def listed() -> PluginPage:
        """List the plugins and how they fare."""
        return PluginPage(plugins.status())

    @get("/v1/plugins/{name:str}", tags=["plugins"], responses=problems(404))
    async def one(name: FromPath[str]) -> PluginStatus:
        """Tell how a plugin fares."""
        for status in plugins.status():
            if status.name == name:
                return status
        raise NotFound(f"no plugin {name[:60]!r} is loaded")

    @post(
        "/v1/plugins/{name:str}/reload",
        tags=["plugins"],
        status_code=200,
        responses=problems(404, 422, 507),
    )
    async def reload(request: Request[Any, Any, Any], name: FromPath[str]) -> PluginStatus:
        """Load a plugin's code anew, in a fresh process; if that fails the old one runs on."""
        return await plugins.reload(name, grant_of(request).email)

    @delete(
        "/v1/plugins/{name:str}", tags=["plugins"], status_code=200, responses=problems(404, 507)
    )
    async def unload(request: Request[Any, Any, Any], name: FromPath[str]) -> PluginLoaded:
        """Let a plugin go, and do not load it again after a restart; its data stays stored."""
        await plugins.unload(name, grant_of(request).email)
        return PluginLoaded(True, name)

    return [load, listed, one, reload, unload]
