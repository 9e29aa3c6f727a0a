"""The pages of setup, signing in and one's account, and the forms on them."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Annotated, Any, Final
from urllib.parse import quote, urlsplit

from litestar import Request, Response, get, post
from litestar.handlers import BaseRouteHandler
from litestar.params import FromPath, QueryParameter

from gapless.auth.authority import Authority
from gapless.auth.directory import Grant
from gapless.auth.passwords import SHORTEST
from gapless.auth.permissions import ROLES
from gapless.auth.tokens import Kind
from gapless.errors import (
    Conflict,
    Forbidden,
    GaplessError,
    InvalidQuery,
    RequestError,
)
from gapless.servers.http.account_pages import AccountPages, span_of
from gapless.servers.http.asking import query_of
from gapless.servers.http.cookies import SessionCookie
from gapless.servers.http.identity import address_of, grant_of, session_of
from gapless.servers.http.problems import status_of
from gapless.servers.http.routes.authentication import BODY_BYTES

_MEANS: Final = {
    "read": "ask for what is held",
    "fetch": "have what is not held fetched",
    "admin": "load code, manage users, store and delete data",
}
_ROLE_MEANS: Final = {
    "read": "you may ask for what is held",
    "fetch": "you may ask for anything; what is not held is fetched",
    "admin": "you may do everything",
}
_Key = Annotated[str, QueryParameter(max_length=200)]
_Next = Annotated[str, QueryParameter(name="next", max_length=2_000)]
_ACCOUNT: Final = "/account"


def account_routes(
    authority: Authority, pages: AccountPages, cookie: SessionCookie
) -> Sequence[BaseRouteHandler]:
    """Return the routes; they are for browsers, and not in the description."""
    sessions, tokens = authority.sessions, authority.tokens

    # Setup

    def setup_page(key: str, email: str = "", error: GaplessError | None = None) -> Response[str]:
        return pages.page(
            "setup",
            "Set up this hub",
            200 if error is None else status_of(error),
            action=f"/setup?key={quote(key)}" if key else "/setup",
            asks_key=not key,
            email=email,
            shortest=SHORTEST,
            error=error.message if error else "",
        )

    def no_setup() -> Response[str]:
        if not authority.enabled:
            return pages.page(
                "notice",
                "No setup is needed",
                404,
                message="Authentication is off: whoever reaches this hub may do everything. "
                "Start it with --auth to have users.",
                link="/docs",
                link_text="What there is",
            )
        return pages.page(
            "notice",
            "Setup is over",
            410,
            message="This hub has users already, and is set up only once.",
            link="/login",
            link_text="Sign in",
        )

    @get("/setup", include_in_schema=False)
    async def setup(key: _Key = "") -> Response[str]:
        """Show the form that makes the first user."""
        return setup_page(key) if sessions.awaits_setup else no_setup()

    @post("/setup", include_in_schema=False, status_code=200, request_max_body_size=BODY_BYTES)
    async def set_up(request: Request[Any, Any, Any], key: _Key = "") -> Response[str]:
        """Make the first user, and show their tokens."""
        if not sessions.awaits_setup:
            return no_setup()
        email = ""
        try:
            form = await _form(request)
            email = form.get("email", "")
            _check_twice(form, "password")
            pair = await sessions.set_up(
                key or form.get("key", ""), email, form.get("password", "")
            )
        except Conflict:
            return no_setup()
        except Forbidden as error:
            # The address has the wrong one: let it be typed.
            return setup_page("", email, error)
        except RequestError as error:
            return setup_page(key, email, error)
        return pages.page(
            "created",
            "This hub is yours",
            email=pair.account.email,
            access_token=pair.access,
            refresh_token=pair.refresh,
            access_for=span_of(pair.expires_in_s),
            refresh_for=span_of(pair.refresh_expires_in_s),
        )

    # Signing in and out

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
            return no_setup()
        return _led("/setup") if sessions.awaits_setup else None

    @get("/login", include_in_schema=False)
    async def login(request: Request[Any, Any, Any], to: _Next = "") -> Response[str]:
        """Show the form for signing in."""
        if session_of(request).grant is not None and authority.enabled:
            return _led(_inside(to))
        return elsewhere() or login_page(_inside(to) if to else "")

    @post("/login", include_in_schema=False, status_code=200, request_max_body_size=BODY_BYTES)
    async def sign_in(request: Request[Any, Any, Any], to: _Next = "") -> Response[str]:
        """Sign a browser in."""
        other = elsewhere()
        if other is not None:
            return other
        email = ""
        try:
            form = await _form(request)
            email = form.get("email", "")
            secure = cookie.must_be_secure(request)
            token = await sessions.sign_in_browser(
                email, form.get("password", ""), address_of(request)
            )
        except RequestError as error:
            return login_page(_inside(to) if to else "", email, error)
        return _led(_inside(to), cookie.given(token, secure, sessions.lifetimes.session_s))

    @post("/logout", include_in_schema=False, status_code=303)
    async def sign_out(request: Request[Any, Any, Any]) -> Response[str]:
        """Sign a browser out."""
        if authority.enabled:
            await sessions.sign_out(grant_of(request))
        return _led("/login", cookie.taken())

    # The account

    def account_page(
        grant: Grant, error: GaplessError | None = None, **values: Any
    ) -> Response[str]:
        mine = tokens.of(grant.account)
        scopes = [
            {"name": scope, "means": _MEANS[scope], "chosen": scope != "admin"}
            for scope in ROLES["admin"] & grant.account.scopes
        ]
        return pages.page(
            "account",
            "Your account",
            200 if error is None else status_of(error),
            error=error.message if error else "",
            who=grant,
            role=grant.account.user.role,
            role_means=_ROLE_MEANS[grant.account.user.role],
            scopes=sorted(scopes, key=lambda one: list(_MEANS).index(one["name"])),
            tokens=[_row(one) for one in mine if one.kind is Kind.API],
            sessions=[_row(one) for one in mine if one.kind is not Kind.API],
            here=grant.number,
            shortest=SHORTEST,
            **{"fresh": "", "name": "", "days": "90", "done": "", **values},
        )

    @get(_ACCOUNT, include_in_schema=False)
    async def account(request: Request[Any, Any, Any]) -> Response[str]:
        """Show one's account."""
        return account_page(grant_of(request)) if authority.enabled else no_setup()

    @post(
        "/account/tokens",
        include_in_schema=False,
        status_code=200,
        request_max_body_size=BODY_BYTES,
    )
    async def make_token(request: Request[Any, Any, Any]) -> Response[str]:
        """Make a token for a program, and show it."""
        if not authority.enabled:
            return no_setup()
        grant, form = grant_of(request), {}
        try:
            form = await _form(request)
            chosen = [scope for scope in _MEANS if scope in form]
            if not chosen:
                raise InvalidQuery("choose at least one thing that the token may do")
            made = await tokens.create(
                grant.account, form.get("name", ""), chosen, _days(form), grant.email
            )
        except RequestError as error:
            return account_page(
                grant, error, name=form.get("name", ""), days=form.get("days", "90")
            )
        return account_page(grant, fresh=made.text)

    @post(
        "/account/tokens/{number:int}/revoke",
        include_in_schema=False,
        status_code=303,
    )
    async def revoke(request: Request[Any, Any, Any], number: FromPath[int]) -> Response[str]:
        """Revoke one of one's tokens."""
        if not authority.enabled:
            return no_setup()
        grant = grant_of(request)
        try:
            await tokens.revoke(number, grant.email, grant.account)
        except RequestError as error:
            return account_page(grant, error)
        return _led(_ACCOUNT)

    @post(
        "/account/password",
        include_in_schema=False,
        status_code=200,
        request_max_body_size=BODY_BYTES,
    )
    async def password(request: Request[Any, Any, Any]) -> Response[str]:
        """Change one's password, and lead to signing in with it."""
        if not authority.enabled:
            return no_setup()
        grant = grant_of(request)
        try:
            form = await _form(request)
            _check_twice(form, "new_password")
            await sessions.change_password(
                grant,
                form.get("password", ""),
                form.get("new_password", ""),
                address_of(request),
            )
        except RequestError as error:
            return account_page(grant, error)
        return _led("/login", cookie.taken())

    return [setup, set_up, login, sign_in, sign_out, account, make_token, revoke, password]


def _row(grant: Grant) -> dict[str, Any]:
    token = grant.stored.token
    return {
        "number": grant.number,
        "name": token.name,
        "scopes": sorted(grant.scopes, key=list(_MEANS).index),
        "created_at": token.created_at,
        "expires_at": token.expires_at,
        "used_at": grant.used_ms,
    }


async def _form(request: Request[Any, Any, Any]) -> dict[str, str]:
    return query_of(await request.body())


def _check_twice(form: Mapping[str, str], name: str) -> None:
    """Raise `InvalidQuery` where a password was typed twice, and not the same."""
    again = form.get(f"{name}_again")
    if again is not None and again != form.get(name):
        raise InvalidQuery("the two passwords are not the same")


def _days(form: Mapping[str, str]) -> float:
    try:
        return float(form.get("days") or "90")
    except ValueError:
        raise InvalidQuery("how many days it is good for is a number") from None


def _inside(to: str) -> str:
    """Return a path of this hub's to lead to; anything else leads to the account."""
    try:
        parts = urlsplit(to)
    except ValueError:
        return _ACCOUNT
    path = parts.path
    plain = path.isprintable() and path.isascii() and "\\" not in path
    ours = not parts.scheme and not parts.netloc and path.startswith("/")
    if not ours or not plain or path.startswith("//") or path == "/login":
        return _ACCOUNT
    return quote(path)


def _led(to: str, headers: Mapping[str, str] | None = None) -> Response[str]:
    return Response(
        "",
        status_code=303,
        headers={"location": to, "cache-control": "no-store", **(headers or {})},
    )
