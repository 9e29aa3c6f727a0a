"""What a program's token is good for, where nobody says what for."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from gapless.cli.exits import Exit
from support.commands import gapless
from support.people import PASSWORD, person
from support.web import web


@pytest.mark.parametrize(
    ("role", "scopes"), [("read", ["read"]), ("fetch", ["fetch", "read"]), ("admin", None)]
)
async def test_a_token_by_default_is_good_for_all_but_admin(
    tmp_path: Path, role: str, scopes: list[str] | None
) -> None:
    """Code is loaded only with a token that somebody gave that scope by name."""
    async with web(tmp_path, auth=True) as opened:
        one = await person(opened.authority, role)
        client = opened.client
        client.headers.update(one.bearer)
        asked: list[dict[str, Any]] = [{"name": "missing"}, {"name": "null", "scopes": None}]
        for body in asked:
            made = await opened.send("POST", "/v1/tokens", body, 201)
            assert made["about"]["scopes"] == (scopes or ["fetch", "read"])
        if role == "admin":
            named = {"name": "named", "scopes": ["admin"]}
            made = await opened.send("POST", "/v1/tokens", named, 201)
            assert made["about"]["scopes"] == ["admin"]


async def test_a_token_for_nothing_is_refused(tmp_path: Path) -> None:
    """An empty list does not mean everything; the message says what to do instead."""
    async with web(tmp_path, auth=True) as opened:
        one = await person(opened.authority, "admin")
        opened.client.headers.update(one.bearer)
        told = await opened.send("POST", "/v1/tokens", {"name": "x", "scopes": []}, 400)
        assert told["message"] == (
            "a token without scopes is good for nothing; name some of read, fetch, admin, or "
            "leave `scopes` out for all that you may but admin"
        )
        assert (await opened.send("GET", "/v1/tokens"))["tokens"][-1]["kind"] == "access"


@pytest.mark.slow
async def test_the_command_gives_admin_only_by_name(tmp_path: Path) -> None:
    """Without `--scope` a token is good for asking; with it for what is named."""
    database = ("--db", str(tmp_path / "hub.db"))
    added = await gapless(
        *("users", "add", "ann@example.com", "--role", "admin", "--password-stdin", *database),
        stdin=f"{PASSWORD}\n",
    )
    assert added.code == Exit.OK, added.err
    made = await gapless("tokens", "create", "notebook", *database)
    assert "fetch, read, good until" in made.err
    made = await gapless("tokens", "create", "loader", "--scope", "admin", *database)
    assert ": admin, good until" in made.err
    listed = await gapless("tokens", "list", "-o", "json", *database)
    assert {one["name"]: one["scopes"] for one in json.loads(listed.out)} == {
        "notebook": ["fetch", "read"],
        "loader": ["admin"],
    }
    told = await gapless("tokens", "create", "--help")
    assert "()" not in told.out
