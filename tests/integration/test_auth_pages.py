"""Script injection, and where the pages lead: whatever is shown is text, and stays at home."""

from __future__ import annotations

import re
from html.parser import HTMLParser
from pathlib import Path
from typing import Any
from urllib.parse import quote

import httpx
import pytest

from support.people import PASSWORD, person
from support.providers import SteadyProvider
from support.web import signed_in, web

# Script injection

CORES = (
    "<script>alert(1)</script>",
    "<img src=x onerror=alert(1)>",
    "<svg/onload=alert(1)>",
    "javascript:alert(1)",
    "{{7*7}}",
    "<a href=javascript:alert(1)>x</a>",
    "<iframe srcdoc='<script>alert(1)</script>'>",
    "&#60;script&#62;alert(1)",
    "<form action=//evil.example><button>",
    "\u2028<script>1</script>",
)
PAYLOADS = [
    f"{before}{core}{after}"
    for before, after in (("", ""), ('"', '"'), ("'>", "<'"), ("</style>", ""), ("</title>", ""))
    for core in CORES
]


class Tags(HTMLParser):
    """Collects what a browser would make of a page."""

    def __init__(self) -> None:
        super().__init__()
        self.tags: list[str] = []
        self.attributes: list[tuple[str, str]] = []

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.append(tag)
        self.attributes += [(name, value or "") for name, value in attrs]


def check_page(response: httpx.Response) -> Tags:
    """See that a page has only what its templates have, and lets in nothing else."""
    policy = response.headers["content-security-policy"]
    assert policy.startswith("default-src 'none'; style-src 'sha256-")
    assert "script-src" not in policy
    assert "unsafe" not in policy
    assert response.headers["x-content-type-options"] == "nosniff"
    assert response.headers["referrer-policy"] == "same-origin"
    assert response.headers["cache-control"] == "no-store"
    found = Tags()
    found.feed(response.text)
    assert not {"script", "img", "svg", "iframe", "object", "base"} & set(found.tags)
    for name, value in found.attributes:
        assert not name.startswith("on")
        if name in ("href", "action"):
            assert re.match(r"/(?!/)", value), value
    return found


def marked(number: int, payload: str) -> Any:
    """Return a payload so that `make test` has each core once, and each of what is around it."""
    first = number // len(CORES) == number % (len(PAYLOADS) // len(CORES))
    return payload if first else pytest.param(payload, marks=pytest.mark.slow)


@pytest.mark.share(2)
@pytest.mark.parametrize("payload", [marked(*one) for one in enumerate(PAYLOADS)])
async def test_script_injection(tmp_path: Path, payload: str) -> None:
    """In addresses, names of tokens, errors, keys, tickers and providers: shown, never run."""
    async with web(tmp_path, SteadyProvider(), auth=True) as opened:
        key = opened.authority.sessions.open_setup()
        form = {"email": payload, "password": PASSWORD, "key": payload}
        client = opened.client
        for response in (
            await client.get("/setup", params={"key": payload[:100]}),
            await client.post("/setup", data=form),
            await client.post(f"/setup?key={key}", data=form),
        ):
            check_page(response)
        one = await person(opened.authority, "admin")
        for response in (
            await client.get("/login", params={"next": payload}),
            await client.post("/login", params={"next": f"/{payload}"}, data=form),
        ):
            check_page(response)
        async with signed_in(opened, one.email) as browser:
            name = "".join(char for char in payload if char.isprintable())
            made = await browser.post("/account/tokens", data={"name": name, "read": "on"})
            page = check_page(made)
            assert ("id", "api-token") in page.attributes
            again = await browser.post(
                "/account/tokens", data={"name": name, "read": "on", "days": payload}
            )
            assert again.status_code == 400
            check_page(again)
            check_page(await browser.get("/account"))
        # What programs get is no page, whatever is in it.
        told = quote(payload, safe="")
        for path in (f"/providers/{told}/ping", f"/v1/data/{told}/{told}", f"/{told}"):
            response = await client.get(path, headers=one.bearer)
            assert response.headers["content-type"] == "application/problem+json", path
            assert response.headers["x-content-type-options"] == "nosniff"


@pytest.mark.share(3)
@pytest.mark.parametrize(
    "to",
    [
        "//evil.example",
        "https://evil.example",
        "/\\evil.example",
        "\\\\evil.example",
        "javascript:alert(1)",
        "/%0d%0aset-cookie:x=y",
        "/\r\nset-cookie: x=y",
        "http:evil.example",
        "///evil.example",
        "/login",
        "",
    ],
)
async def test_signing_in_leads_nowhere_else(tmp_path: Path, to: str) -> None:
    """Whatever the address says, one ends up on a page of this hub's."""
    async with web(tmp_path, auth=True) as opened:
        await opened.authority.users.add("ann@example.com", PASSWORD, "admin", "test")
        response = await opened.client.post(
            "/login",
            params={"next": to},
            data={"email": "ann@example.com", "password": PASSWORD},
        )
        assert response.status_code == 303
        assert re.fullmatch(r"/[^/\\\\][!-~]*", response.headers["location"])
        assert len(response.headers.get_list("set-cookie")) == 1
