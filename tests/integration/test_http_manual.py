"""The page that describes the routes: what it says of tokens, and commands that can be pasted."""

from __future__ import annotations

import json
import re
import shlex
from html import unescape
from pathlib import Path
from typing import Any

import pytest

from gapless.auth.permissions import OPERATIONS
from gapless.providers.sample import SampleProvider
from support.people import api_token, person
from support.web import Web, web

TOKEN = "Authorization: Bearer $GAPLESS_TOKEN"


def articles(page: str) -> dict[str, str]:
    """Return the articles of routes by method and path, as text."""
    found = re.findall(r"<h3><code[^>]*>(\w+)</code> (\S+)</h3>(.*?)</article>", page, re.DOTALL)
    return {f"{method} {path}": unescape(text) for method, path, text in found}


def command_of(article: str) -> list[str]:
    """Return the words of an article's example."""
    example = re.search(r"<pre>(.*?)</pre>", article, re.DOTALL)
    assert example is not None
    return shlex.split(example[1])


async def shown(opened: Web, host: str = "localhost") -> tuple[dict[str, str], dict[str, Any]]:
    """Return the articles of the page, and the document that it is made of."""
    page = await opened.get("/docs", host=host)
    return articles(page.text), (await opened.get("/openapi.json")).json()


async def test_what_each_route_takes(tmp_path: Path) -> None:
    """By the table that decides; commands show a token where one is needed, and only there."""
    async with web(tmp_path, SampleProvider(), auth=True) as opened:
        opened.client.headers.update((await person(opened.authority, "read")).bearer)
        page, document = await shown(opened)
        assert 'href="/account"' in (await opened.get("/docs")).text
        assert len(page) > 30
        for name, article in page.items():
            rule, command = OPERATIONS[name], command_of(article)
            method, _, path = name.partition(" ")
            told = document["paths"][path][method.lower()]
            assert (TOKEN in command) is not rule.anyone, name
            if rule.anyone:
                assert "takes: no token" in article
                assert told["security"] == []
            else:
                assert told["security"] == [{"bearer": [rule.scope] if rule.scope else []}]
                assert f"takes: {rule.scope or 'a'}" in article
                assert ("a token from signing in" in article) is rule.signed_in, name
                assert "401" in told["responses"]
        assert "takes: fetch<" in page["POST /v1/refresh"]
        for path in ("/healthz", "/readyz"):
            assert "401" not in document["paths"][path]["get"]["responses"]
        login = document["paths"]["/v1/auth/login"]["post"]["responses"]
        assert "password is wrong" in login["401"]["description"]


async def test_without_authentication_nothing_is_said_of_tokens(tmp_path: Path) -> None:
    """Whoever reaches such a hub may do everything: no token, no account."""
    async with web(tmp_path, SampleProvider()) as opened:
        page, document = await shown(opened)
        assert not any(TOKEN in article or "takes:" in article for article in page.values())
        assert "/account" not in (await opened.get("/docs")).text
        assert {} in document["paths"]["/v1/plan"]["post"]["security"]


async def test_the_examples_are_what_the_routes_take(tmp_path: Path) -> None:
    """Each has the keys of its body that are required and no others; paths have no braces."""
    async with web(tmp_path, SampleProvider(), auth=True) as opened:
        await person(opened.authority, "admin")
        token = await api_token(opened.authority, "admin@example.com")
        opened.client.headers["authorization"] = f"Bearer {token}"
        page, document = await shown(opened)
        schemas = document["components"]["schemas"]
        for name, article in page.items():
            command = command_of(article)
            assert "{" not in next(word for word in command if word.startswith("http")), name
            if "-d" not in command:
                continue
            body = json.loads(command[command.index("-d") + 1])
            link = re.search(r'Body: <a href="#(\w+)"', article)
            if link is not None:
                shape = schemas[link[1]]
                assert set(shape.get("required", ())) <= set(body) <= set(shape["properties"])
            assert body, name
        refresh = command_of(page["POST /v1/auth/refresh"])
        assert json.loads(refresh[-1]) == {"refresh_token": "…"}
        fetched = command_of(page["POST /v1/refresh"])
        await opened.send("POST", "/v1/refresh", json.loads(fetched[-1]))


@pytest.mark.share(1)
@pytest.mark.parametrize(
    ("host", "here"),
    [
        ("localhost:8443", "http://localhost:8443"),
        ("[::1]:7070", "http://[::1]:7070"),
        ("127.0.0.1", "http://127.0.0.1"),
        ("[::1%'$(id)']:1", None),
    ],
)
async def test_the_examples_ask_where_the_page_was_asked_for(
    tmp_path: Path, host: str, here: str | None
) -> None:
    """Through a tunnel too; what could do harm in a terminal is not repeated."""
    async with web(tmp_path, SampleProvider()) as opened:
        for _ in range(2):
            page, _ = await shown(opened, host=host)
            expected = here or opened.url
            assert command_of(page["GET /healthz"]) == ["curl", f"{expected}/healthz"]
