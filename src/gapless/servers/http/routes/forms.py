"""What the routes of our own pages share: reading forms, leading browsers on."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Final
from urllib.parse import quote, urlsplit

from litestar import Request, Response

from gapless.errors import InvalidQuery
from gapless.servers.http.account_pages import AccountPages
from gapless.servers.http.asking import query_of

ACCOUNT: Final = "/account"


async def form_of(request: Request[Any, Any, Any]) -> dict[str, str]:
    """Return the fields of a form."""
    return query_of(await request.body())


def check_twice(form: Mapping[str, str], name: str) -> None:
    """Raise `InvalidQuery` where a password was typed twice, and not the same."""
    again = form.get(f"{name}_again")
    if again is not None and again != form.get(name):
        raise InvalidQuery("the two passwords are not the same")


def inside(to: str) -> str:
    """Return a path of this hub's to lead to; anything else leads to the account."""
    try:
        parts = urlsplit(to)
    except ValueError:
        return ACCOUNT
    path = parts.path
    plain = path.isprintable() and path.isascii() and "\\" not in path
    ours = not parts.scheme and not parts.netloc and path.startswith("/")
    if not ours or not plain or path.startswith("//") or path == "/login":
        return ACCOUNT
    return quote(path)


def led(to: str, headers: Mapping[str, str] | None = None) -> Response[str]:
    """Lead a browser to another page."""
    return Response(
        "",
        status_code=303,
        headers={"location": to, "cache-control": "no-store", **(headers or {})},
    )


def nobody_signs_in(pages: AccountPages) -> Response[str]:
    """Return what is shown where authentication is off."""
    return pages.page(
        "notice",
        "No setup is needed",
        404,
        message="Authentication is off: whoever reaches this hub may do everything. "
        "Start it with --auth to have users.",
        link="/docs",
        link_text="What there is",
    )
