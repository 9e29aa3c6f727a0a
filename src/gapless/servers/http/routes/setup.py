"""The page of setup: the first user, once."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Annotated, Any
from urllib.parse import quote

from litestar import Request, Response, get, post
from litestar.handlers import BaseRouteHandler
from litestar.params import QueryParameter

from gapless.auth.authority import Authority
from gapless.auth.passwords import SHORTEST
from gapless.errors import Conflict, Forbidden, GaplessError, RequestError
from gapless.servers.http.account_pages import AccountPages, span_of
from gapless.servers.http.gate import OUTCOME
from gapless.servers.http.problems import status_of
from gapless.servers.http.routes.authentication import BODY_BYTES
from gapless.servers.http.routes.forms import check_twice, form_of, nobody_signs_in

_Key = Annotated[str, QueryParameter(max_length=200)]


def setup_routes(authority: Authority, pages: AccountPages) -> Sequence[BaseRouteHandler]:
    """Return the routes; they are for browsers, and not in the description."""
    sessions = authority.sessions

    def refused(
        request: Request[Any, Any, Any], key: str, email: str, error: GaplessError
    ) -> Response[str]:
        request.scope["state"][OUTCOME] = error.code
        # Where the address has the wrong key, let it be typed.
        shown = "" if isinstance(error, Forbidden) else key
        return setup_page(shown, email, status_of(error), error.message)

    def setup_page(key: str, email: str = "", status: int = 200, error: str = "") -> Response[str]:
        return pages.page(
            "setup",
            "Set up this hub",
            status,
            action=f"/setup?key={quote(key)}" if key else "/setup",
            asks_key=not key,
            email=email,
            shortest=SHORTEST,
            error=error,
        )

    def no_setup() -> Response[str]:
        if not authority.enabled:
            return nobody_signs_in(pages)
        return pages.page(
            "notice",
            "Setup is over",
            410,
            message="This hub has users already, and is set up only once.",
            link="/login",
            link_text="Sign in",
        )

    @get("/setup", include_in_schema=False)
    async def setup(request: Request[Any, Any, Any], key: _Key = "") -> Response[str]:
        """Show the form that makes the first user; say so at once where the key is another."""
        if not sessions.awaits_setup:
            return no_setup()
        try:
            if key:
                sessions.check_setup_key(key)
        except Forbidden as error:
            return refused(request, key, "", error)
        return setup_page(key)

    @post("/setup", include_in_schema=False, status_code=200, request_max_body_size=BODY_BYTES)
    async def set_up(request: Request[Any, Any, Any], key: _Key = "") -> Response[str]:
        """Make the first user, and show their tokens."""
        if not sessions.awaits_setup:
            return no_setup()
        email = ""
        try:
            form = await form_of(request)
            email = form.get("email", "")
            check_twice(form, "password")
            pair = await sessions.set_up(
                key or form.get("key", ""), email, form.get("password", "")
            )
        except Conflict:
            return no_setup()
        except RequestError as error:
            return refused(request, key, email, error)
        return pages.page(
            "created",
            "This hub is yours",
            email=pair.account.email,
            access_token=pair.access,
            refresh_token=pair.refresh,
            access_for=span_of(pair.expires_in_s),
            refresh_for=span_of(pair.refresh_expires_in_s),
        )

    return [setup, set_up]
