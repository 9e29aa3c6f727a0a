"""The description of all routes, for programs and for people."""

from __future__ import annotations

from collections.abc import Sequence
from importlib.resources import files
from typing import Any, Final

import msgspec
from litestar import MediaType, Request, Response, get
from litestar.handlers import BaseRouteHandler
from litestar.response import Redirect

from gapless.servers.http.description import described
from gapless.servers.http.manual import page

_POLICY: Final = (
    "default-src 'none'; style-src 'self'; img-src 'self'; base-uri 'none'; form-action 'none'; "
    "frame-ancestors 'none'"
)


def manual_routes() -> Sequence[BaseRouteHandler]:
    """Return the routes; they are not in the description themselves."""
    style = files("gapless.servers.http.pages").joinpath("docs.css").read_text("utf-8")
    # Both are made once, away from the loop: it takes tens of milliseconds.
    made: dict[str, bytes] = {}

    def document(request: Request[Any, Any, Any]) -> dict[str, Any]:
        return described(request.app.openapi_schema.to_schema())

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
            made["page"] = page(document(request)).encode()
        return Response(
            made["page"],
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
