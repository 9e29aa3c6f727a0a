"""What who is turned away is told: how a token is shown at this door, and where one is had."""

from __future__ import annotations

from pathlib import Path

import pytest

from gapless.auth.tokens import Kind, mint
from support.people import api_token, person
from support.providers import SteadyProvider
from support.web import Web, web
from support.wire import connect, search

LIST = {"type": "ProviderList"}


async def over_http(opened: Web, **headers: str) -> tuple[str, str]:
    """Return the code and the message that a request with these headers is answered with."""
    problem = (await opened.get("/providers", 401, **headers)).json()
    return problem["code"], problem["message"]


async def over_tcp(opened: Web, **envelope: str) -> tuple[str, str]:
    """Return the code and the message that a line with these keys is answered with."""
    async with await connect(opened.tcp_port) as wire:
        error = (await wire.ask(LIST, **envelope))["error"]
        return error["code"], error["message"]


async def test_without_a_token(tmp_path: Path) -> None:
    """Each door says how one is shown to it."""
    async with web(tmp_path, auth=True) as opened:
        await person(opened.authority, "read")
        code, said = await over_http(opened)
        assert code == "missing_token"
        assert "send Authorization: Bearer TOKEN" in said
        assert "`query`" not in said
        code, said = await over_tcp(opened)
        assert code == "missing_token"
        assert "`token`, beside `query` and not in its payload" in said
        assert "Bearer" not in said


@pytest.mark.parametrize("header", ["Bearer", "gapless_api_x", "Basic eDp5", "Token x"])
async def test_an_authorization_that_shows_none(tmp_path: Path, header: str) -> None:
    """Its form is told, and it is not called a token that has ended."""
    async with web(tmp_path, auth=True) as opened:
        await person(opened.authority, "read")
        code, said = await over_http(opened, authorization=header)
        assert code == "missing_token"
        assert "its form is 'Authorization: Bearer TOKEN'" in said
        assert "gapless_api_x" not in said


@pytest.mark.parametrize(
    ("kind", "says"),
    [
        (Kind.API, "gapless tokens create NAME"),
        (Kind.ACCESS, "/v1/auth/refresh"),
        (Kind.REFRESH, "show the access token"),
        (None, "no token of a hub's"),
    ],
)
async def test_a_token_that_does_not_count(tmp_path: Path, kind: Kind | None, says: str) -> None:
    """By what it says that it is: nobody signs in anew for a program."""
    text = "secret" if kind is None else mint(kind).text
    async with web(tmp_path, auth=True) as opened:
        await person(opened.authority, "read")
        for code, said in (
            await over_http(opened, authorization=f"Bearer {text}"),
            await over_tcp(opened, token=text),
        ):
            assert code == "unauthorized"
            assert says in said
            assert "sign in again" not in said
            assert text not in said


async def test_a_token_that_ends_on_a_connection(tmp_path: Path) -> None:
    """A connection that was authenticated is told of its own token's kind."""
    async with web(tmp_path, auth=True) as opened:
        one = await person(opened.authority, "read")
        token = await api_token(opened.authority, one.email)
        async with await connect(opened.tcp_port) as wire:
            assert (await wire.ask({"type": "Auth"}, token=token))["ok"]
            grant = opened.authority.directory.find(token)
            assert grant is not None
            await opened.authority.tokens.revoke(grant.number, "test")
            said = (await wire.ask(LIST))["error"]["message"]
            assert said.startswith("the API token is not valid, or not any more")


async def test_a_hub_without_users(tmp_path: Path) -> None:
    """No token could be right: how the first user is made is what helps."""
    async with web(tmp_path, auth=True) as opened:
        for code, said in (
            await over_http(opened),
            await over_http(opened, authorization="Bearer x"),
            await over_tcp(opened),
            await over_tcp(opened, token="x"),
        ):
            assert code in ("missing_token", "unauthorized")
            assert "no users yet" in said
            assert "gapless users add EMAIL --role admin" in said


async def test_what_is_not_held_is_named(tmp_path: Path) -> None:
    """A reader is told which series it is, and what would have it fetched."""
    async with web(tmp_path, SteadyProvider(), auth=True) as opened:
        one = await person(opened.authority, "read")
        async with await connect(opened.tcp_port) as wire:
            asked = search("steady", "ABC", "2024-01-01", "2024-02-01")
            error = (await wire.ask(asked, token=one.pair.access))["error"]
        assert error["code"] == "forbidden"
        assert error["message"] == (
            "a part of steady:ABC is not held, and having it fetched takes the scope fetch; ask "
            "with a token that has it"
        )
