"""Tokens and TLS in both Python clients: what is shown, what is refused, what nobody may see."""

from __future__ import annotations

import asyncio
import pickle
import ssl
from pathlib import Path
from typing import Any

import pytest

import gapless
from gapless.errors import ConfigError, GaplessError
from gapless.servers.tls import Certificate
from support.asking import KINDS, Asker, asking
from support.certificates import certificate
from support.people import api_token, person
from support.providers import SteadyProvider
from support.strangers import Guest, greeting, stranger
from support.web import Web, web
from support.wire import PATIENCE_S

pytestmark = pytest.mark.parametrize("kind", KINDS)

JANUARY = ("2021-01-01", "2021-02-01")
WRONG = "gapless_wrong-token-that-nobody-may-see"


async def token_of(opened: Web, role: str) -> str:
    """Return a token of a user of that role."""
    someone = await person(opened.authority, role)
    return await api_token(opened.authority, someone.email)


async def test_a_hub_with_users_asks_for_a_token(tmp_path: Path, kind: str) -> None:
    """Without one and with a wrong one it is refused, in two different ways; a right one does."""
    async with web(tmp_path, SteadyProvider(), auth=True) as opened:
        token = await token_of(opened, "fetch")
        async with asking(kind, opened.tcp_port) as hub:
            assert (await hub.ping()).auth is True
            said = f"hub at 127.0.0.1:{opened.tcp_port} asks for a token: give token=…, or set GAPL"
            with pytest.raises(gapless.MissingToken, match=said):
                await hub.search("steady", "A", *JANUARY)
            with pytest.raises(gapless.MissingToken, match=said):
                await hub.search_many("steady", ["A", "B"], *JANUARY, on_error="skip")
            with pytest.raises(gapless.MissingToken, match=said):
                await hub.fetch("get", "/v1/series")
            await hub.set_token(WRONG)
            with pytest.raises(gapless.Unauthorized) as raised:
                await hub.search("steady", "A", *JANUARY)
            assert WRONG not in str(raised.value)
            with pytest.raises(gapless.Unauthorized):
                await hub.fetch("GET", "/v1/series")
            answer = await hub.send_line("providers", token=token)
            assert answer["result"] == ["steady"]
            with pytest.raises(gapless.Unauthorized):
                await hub.providers()
            await hub.set_token(token)
            assert len(await hub.search("steady", "A", *JANUARY)) == 31
            assert (await hub.search_many("steady", ["A", "B"], *JANUARY)).height == 62
            assert (await hub.fetch("GET", "/v1/auth/me"))["email"] == "fetch@example.com"
            await hub.clear_token()
            with pytest.raises(gapless.MissingToken):
                await hub.providers()


async def test_who_a_hub_is_it_tells_anyone(tmp_path: Path, kind: str) -> None:
    """Also who shows a token that is none: what is wrong with that is for what needs one."""
    async with web(tmp_path, SteadyProvider(), auth=True) as opened:
        token = await token_of(opened, "fetch")
        async with asking(kind, opened.tcp_port, token=WRONG) as hub:
            info = await hub.ping()
            assert (info.name, info.auth, info.http) == ("gapless", True, opened.url)
            await hub.set_token(token)
            assert hub.client.http == opened.url


async def test_a_reader_has_nothing_fetched(tmp_path: Path, kind: str) -> None:
    """What is held is answered; the rest is missing, and alone it is forbidden."""
    async with web(tmp_path, SteadyProvider(), auth=True) as opened:
        fetcher, reader = await token_of(opened, "fetch"), await token_of(opened, "read")
        async with asking(kind, f"gapless://{fetcher}@127.0.0.1:{opened.tcp_port}") as hub:
            await hub.search("steady", "A", *JANUARY)
            assert fetcher not in repr(hub.client) + hub.client.address
        async with asking(kind, opened.tcp_port, token=reader) as hub:
            assert len(await hub.search("steady", "A", *JANUARY)) == 31
            with pytest.warns(gapless.NotReadyWarning, match="missing"):
                result = await hub.search("steady", "A", "2021-01-01", "2021-03-01")
            assert [one.reason for one in result.stitch.why] == ["forbidden"]
            with pytest.raises(gapless.Forbidden):
                await hub.search("steady", "B", *JANUARY)
            with pytest.raises(gapless.Forbidden):
                await hub.fetch("POST", "/v1/refresh", {"provider": "steady", "ticker": "A"})


async def test_one_of_many_may_be_forbidden(tmp_path: Path, kind: str) -> None:
    """What a reader may see of many comes, and what may not be fetched is told."""
    async with web(tmp_path, SteadyProvider(), auth=True) as opened:
        fetcher, reader = await token_of(opened, "fetch"), await token_of(opened, "read")
        async with asking(kind, opened.tcp_port, token=fetcher) as hub:
            await hub.search("steady", "A", *JANUARY)
        async with asking(kind, opened.tcp_port, token=reader) as hub:
            with pytest.raises(gapless.PartlyFailed) as raised:
                await hub.search_many("steady", ["A", "B"], *JANUARY)
    assert isinstance(raised.value.failures["B"], gapless.Forbidden)
    assert raised.value.frame.height == 31


async def test_no_error_tells_a_token(kind: str) -> None:
    """Whatever goes wrong at an address with a token in it: neither text, repr nor copy has it."""

    async def script(guest: Guest, number: int) -> None:
        request = await guest.request()
        assert request["token"] == WRONG
        await guest.say(b"garbage\n")

    errors: list[GaplessError] = []
    async with stranger(script) as opened:
        for address in (f"tcp://{WRONG}@127.0.0.1:{opened.port}", f"tls://{WRONG}@127.0.0.1:9"):
            async with asking(kind, address, http=False) as hub:
                assert WRONG not in repr(hub.client)
                with pytest.raises(gapless.GaplessError) as raised:
                    await hub.providers()
                errors.append(raised.value)
    for address in (f"ftp://{WRONG}@127.0.0.1:9", f"gapless://{WRONG}@:9", f"http://{WRONG}@h:9"):
        with pytest.raises(ConfigError) as wrong:
            KINDS[kind](address)
        errors.append(wrong.value)
    with pytest.raises(ConfigError) as wrong:
        KINDS[kind]("127.0.0.1:9", http=f"http://{WRONG}@127.0.0.1:9")
    errors.append(wrong.value)
    for error in errors:
        assert WRONG not in str(error) + repr(error) + repr(pickle.loads(pickle.dumps(error)))


async def test_a_token_that_no_header_can_have(tmp_path: Path, kind: str) -> None:
    """It is refused as such, and not sent as a header of its own."""
    async with (
        web(tmp_path, SteadyProvider()) as opened,
        asking(kind, opened.tcp_port, token="a\r\nx: b") as hub,
    ):
        with pytest.raises(gapless.InvalidQuery, match="token") as raised:
            await hub.fetch("GET", "/v1/series")
        assert "x: b" not in str(raised.value)


async def test_tls_is_spoken_where_it_is_asked_for(tmp_path: Path, kind: str) -> None:
    """On both ports, by a certificate that the caller trusts; large answers come as well."""
    cert, key = certificate(tmp_path)
    served = (await asyncio.to_thread(Certificate, cert, key)).context
    trusted = ssl.create_default_context(cafile=cert)
    minutes = SteadyProvider("minutes", step=60_000)
    async with web(tmp_path, minutes, tls=served) as opened:
        address = f"tls://127.0.0.1:{opened.tcp_port}"
        async with asking(kind, address, tls=trusted) as hub:
            assert hub.client.address == address
            assert (await hub.ping()).http == f"https://127.0.0.1:{opened.port}"
            result = await hub.search("minutes", "A", "2021-01-01", "2021-01-06")
            assert len(result) == 7_200
            # A greeting, then the records.
            assert opened.meter.requests["http", "ok"] == 2
            assert (await hub.search_many("minutes", ["B"], *JANUARY[:1], "2021-01-02")).height
            assert await hub.fetch("GET", "/healthz") is not None
        async with asking(kind, address) as hub:
            with pytest.raises(gapless.Unreachable, match="is not trusted"):
                await hub.providers()


async def test_who_asks_a_tls_port_plainly_is_told(tmp_path: Path, kind: str) -> None:
    """It just hangs up, so the client looks what it is; and the other way round."""
    cert, key = certificate(tmp_path)
    served = (await asyncio.to_thread(Certificate, cert, key)).context
    async with web(tmp_path, tls=served) as opened, asking(kind, opened.tcp_port) as hub:
        with pytest.raises(gapless.Unreachable, match=f"ask it at {_tls(opened)}"):
            await hub.providers()
        with pytest.raises(gapless.Unreachable, match=f"ask it at {_tls(opened)}"):
            await hub.search_many("steady", ["A"])
    async with web(tmp_path) as opened, asking(kind, _tls(opened)) as hub:
        with pytest.raises(gapless.Unreachable, match="does not speak TLS: leave out tls://"):
            await hub.providers()


async def test_a_client_that_begins_badly_is_closed(tmp_path: Path, kind: str) -> None:
    """`connect` and `async with` ask once; where that fails nothing is left open."""

    async def script(guest: Guest, number: int) -> None:
        request = await guest.request()
        await guest.answer(request, "no hub")
        await guest.left()
        closed.set()

    closed = asyncio.Event()
    async with stranger(script) as opened:
        address = f"127.0.0.1:{opened.port}"

        async def begin() -> Any:
            if kind == "sync":
                return await asyncio.to_thread(gapless.connect, address)
            return await Asker(gapless.AsyncClient(address)).enter()

        with pytest.raises(gapless.UnexpectedAnswer, match="is no gapless hub"):
            await begin()
        async with asyncio.timeout(PATIENCE_S):
            await closed.wait()
    async with stranger(greeting) as opened:
        address = f"127.0.0.1:{opened.port}"
        if kind == "sync":
            with await asyncio.to_thread(gapless.connect, address) as client:
                assert client.http is None
        else:
            async with gapless.AsyncClient(address) as other:
                assert other.http is None


def _tls(opened: Web) -> str:
    return f"tls://127.0.0.1:{opened.tcp_port}"
