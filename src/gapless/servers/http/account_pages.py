"""The pages about who one is, as text: no script, nothing from any network, all escaped."""

from __future__ import annotations

import base64
from collections.abc import Mapping
from datetime import UTC, datetime
from hashlib import sha256
from importlib.resources import files
from typing import Any, Final

from jinja2 import Environment, PackageLoader, StrictUndefined
from litestar import MediaType, Response
from markupsafe import Markup

_PACKAGE: Final = "gapless.servers.http"
_PAGES: Final = ("setup", "created", "login", "account", "notice")


class AccountPages:
    """Renders the pages; their style is part of them, and no other is let in."""

    def __init__(self) -> None:
        self._environment = Environment(
            loader=PackageLoader(_PACKAGE, "pages"),
            autoescape=True,
            undefined=StrictUndefined,
            # All are read here, before anybody waits.
            auto_reload=False,
        )
        style = files(f"{_PACKAGE}.pages").joinpath("account.css").read_text("utf-8")
        # As it stands between the tags: a browser holds exactly that against the hash.
        hashed = base64.b64encode(sha256(style.encode()).digest()).decode()
        self._environment.globals.update(
            style=Markup(style), day=_day, moment=_moment, who=None, error="", done=""
        )
        self._templates = {
            name: self._environment.get_template(f"{name}.html") for name in ("base", *_PAGES)
        }
        self._headers = {
            "content-security-policy": (
                f"default-src 'none'; style-src 'sha256-{hashed}'; form-action 'self'; "
                "base-uri 'none'; frame-ancestors 'none'"
            ),
            "x-content-type-options": "nosniff",
            # The setup key stands in an address, which is nobody else's business. With no referrer
            # at all a browser would not say, either, that our own form is sent from our own page.
            "referrer-policy": "same-origin",
            "cache-control": "no-store",
        }

    def page(
        self,
        template: str,
        title: str,
        status: int = 200,
        headers: Mapping[str, str] | None = None,
        **values: Any,
    ) -> Response[str]:
        """Return a page by the name of its template."""
        text = self._templates[template].render(title=title, **values)
        return Response(
            text,
            status_code=status,
            media_type=MediaType.HTML,
            headers={**self._headers, **(headers or {})},
        )


def span_of(seconds: float) -> str:
    """Return a time as people say it: in days, hours or minutes."""
    for unit, name in ((86_400, "day"), (3_600, "hour"), (60, "minute")):
        if seconds >= unit:
            count = round(seconds / unit)
            return f"{count:,} {name}" + ("" if count == 1 else "s")
    return f"{seconds:.0f} seconds"


def _day(ms: int) -> str:
    return datetime.fromtimestamp(ms / 1_000, UTC).strftime("%Y-%m-%d")


def _moment(ms: int | None) -> str:
    if ms is None:
        return "never"
    return datetime.fromtimestamp(ms / 1_000, UTC).strftime("%Y-%m-%d %H:%M UTC")
