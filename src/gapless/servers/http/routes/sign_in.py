"""The page of signing in, and signing out, for browsers."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Annotated, Any
from urllib.parse import quote

from litestar import Request, Response, get, post
from litestar.handlers import BaseRouteHandler
from litestar.params import QueryParameter

from gapless.auth.authority import Authority
from gapless.errors import GaplessError, RequestError
from gapless.servers.http.account_pages import AccountPages
from gapless.servers.http.cookies import SessionCookie
from gapless.servers.http.identity import address_of, grant_of, session_of
from gapless.servers.http.problems import status_of
from gapless.servers.http.routes.authentication import BODY_BYTES
from gapless.servers.http.routes.forms import form_of, inside, led, nobody_signs_in

_Next = Annotated[str, QueryParameter(name="next", max_length=2_000)]


def sign_in_routes(
    authority: Authority, pages: AccountPages, cookie: SessionCookie
) -> Sequence[BaseRouteHandler]:
    """Return the routes; they are for browsers, and not in the description."""
    sessions = authority.sessions

    def login_page(to: str, email: str = "", error: GaplessError | None = None) -> Response[str]:
        return pages.page(
            "login",
            "Sign in",
            200 if error is None else status_of(error),
            action=f"/login?next={quote(to)}" if to else "/login",
            email=email,
            error=error.message if error else "",
        )

    def elsewhere() -> Response[str] | None:
        """Return where a browser is led that cannot sign in here."""
        if not authority.enabled:
            return nobody_signs_in(pages)
        return led("/setup") if sessions.awaits_setup else None

    @get("/login", include_in_schema=False)
    async def login(request: Request[Any, Any, Any], to: _Next = "") -> Response[str]:
        """Show the form for signing in."""
        if session_of(request).grant is not None and authority.enabled:
            return led(inside(to))
        return elsewhere() or login_page(inside(to) if to else "")

    @post("/login", include_in_schema=False, status_code=200, request_max_body_size=BODY_BYTES)
    async def sign_in(request: Request[Any, Any, Any], to: _Next = "") -> Response[str]:
        """Sign a browser in."""
        other = elsewhere()
        if other is not None:
            return other
        email = ""
        try:
            form = await form_of(request)
            email = form.get("email", "")
            secure = cookie.must_be_secure(request)
            token = await sessions.sign_in_browser(
                email, form.get("password", ""), address_of(request)
            )
        except RequestError as error:
            return login_page(inside(to) if to else "", email, error)
        return led(inside(to), cookie.given(token, secure, sessions.limits.session_s))

    @post("/logout", include_in_schema=False, status_code=303)
    async def sign_out(request: Request[Any, Any, Any]) -> Response[str]:
        """Sign a browser out."""
        if authority.enabled:
            await sessions.sign_out(grant_of(request))
        return led("/login", cookie.taken())

    return [login, sign_in, sign_out]
