"""The names that users of an older client know, beside a real hub."""

from __future__ import annotations

import asyncio
import ssl
from pathlib import Path

import pytest

import gapless
from support.people import api_token, person
from support.providers import SteadyProvider
from support.web import web

LINE = "provider steady search ticker=A date=2021-01-01..2021-02-01"


async def test_a_client_is_built_step_by_step(tmp_path: Path) -> None:
    """Each step is a new builder, and what comes out is a client as any other."""
    async with web(tmp_path, SteadyProvider(), auth=True) as opened:
        someone = await person(opened.authority, "fetch")
        token = await api_token(opened.authority, someone.email)
        plain = gapless.ClientBuilder(f"127.0.0.1:{opened.tcp_port}")

        def ask() -> None:
            auth = gapless.AuthConfig(token)
            with plain.connect() as client:
                answer = gapless.send_parsed_query_line_with_auth(LINE, client, auth)
                assert answer["ok"] is True
                with pytest.raises(gapless.MissingToken):
                    gapless.send_parsed_query_line_with_auth(LINE, client)
                with pytest.raises(gapless.InvalidQuery, match=r"\^"):
                    gapless.send_parsed_query_line_with_auth("provder", client, auth)
            for builder in (plain.with_token(token), plain.with_auth_config(auth)):
                with builder.with_timeout(5).with_http(False).connect() as client:
                    assert client.http is None
                    assert client.list_providers() == ["steady"]
                assert token not in repr(builder)

        await asyncio.to_thread(ask)
    assert plain == gapless.ClientBuilder(f"127.0.0.1:{opened.tcp_port}")
    trusted = ssl.create_default_context()
    assert plain.with_tls(trusted).tls is trusted


async def test_connect_reaches_its_hub_or_says_so(tmp_path: Path) -> None:
    """A client that is returned has been answered; one whose hub is not there is not returned."""
    async with web(tmp_path, SteadyProvider()) as opened:
        client = await asyncio.to_thread(gapless.connect, f"127.0.0.1:{opened.tcp_port}")
        assert client.http == opened.url
        await asyncio.to_thread(client.close)
    for reach in (
        lambda: gapless.connect(f"127.0.0.1:{opened.tcp_port}"),
        lambda: gapless.ClientBuilder(f"127.0.0.1:{opened.tcp_port}").connect(),
    ):
        with pytest.raises(gapless.Unreachable, match="gapless serve"):
            await asyncio.to_thread(reach)
