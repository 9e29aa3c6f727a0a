"""The description of all routes, for programs and for people."""

from __future__ import annotations

import re
from collections.abc import Sequence
from importlib.resources import files
from typing import Any, Final

import msgspec
from litestar import MediaType, Request, Response, get
from litestar.handlers import BaseRouteHandler
from litestar.response import Redirect

from gapless.servers.http.description import described
from gapless.servers.http.manual import HERE, page

_POLICY: Final = (
    "default-src 'none'; style-src 'self'; img-src 'self'; base-uri 'none'; form-action 'none'; "
    "frame-ancestors 'none'"
)
# Narrower than what may address the hub: the zone of an IPv6 address may be any text.
_PLAIN_HOST: Final = re.compile(r"[A-Za-z0-9._-]+(:[0-9]+)?|\[[0-9A-Fa-f:.]+\](:[0-9]+)?")


def manual_routes(authenticated: bool) -> Sequence[BaseRouteHandler]:
    """Return the routes; they are not in the description themselves.

    `authenticated`: requests need a token.
    """
    style = files("gapless.servers.http.pages").joinpath("docs.css").read_text("utf-8")
    # Both are made once, away from the loop: it takes tens of milliseconds.
    made: dict[str, bytes] = {}

    def document(request: Request[Any, Any, Any]) -> dict[str, Any]:
        return described(request.app.openapi_schema.to_schema(), authenticated)

    @get("/openapi.json", include_in_schema=False, sync_to_thread=True)
    def openapi(request: Request[Any, Any, Any]) -> Response[bytes]:
        """Get the description of all routes."""
        if "json" not in made:
            made["json"] = msgspec.json.encode(document(request))
        return Response(made["json"], media_type="application/json")

    @get("/docs", include_in_schema=False, sync_to_thread=True)
    def docs(request: Request[Any, Any, Any]) -> Response[bytes]:
        """Show the description of all routes."""
        if "page" not in made:
            made["page"] = page(document(request), authenticated).encode()
        return Response(
            made["page"].replace(HERE.encode(), _here(request).encode()),
            media_type=MediaType.HTML,
            headers={"content-security-policy": _POLICY, "x-content-type-options": "nosniff"},
        )

    @get("/docs/docs.css", include_in_schema=False)
    async def css() -> Response[str]:
        """Get the page's style."""
        return Response(style, media_type="text/css")

    @get("/", include_in_schema=False)
    async def root() -> Redirect:
        """Lead whoever opens the address in a browser to the page."""
        return Redirect("/docs")

    return [openapi, docs, css, root]


def _here(request: Request[Any, Any, Any]) -> str:
    """Return the address that the hub was asked at, as commands are given it."""
    scope = request.scope
    host = request.headers.get("host", "")
    if not _PLAIN_HOST.fullmatch(host):
        # It goes into a page and from there into a terminal: nothing but names and ports.
        name, port = scope["server"] or ("localhost", None)
        host = f"[{name}]:{port}" if ":" in name else f"{name}:{port}"
    return f"{scope['scheme']}://{host}"
