"""`gapless doctor` beside hubs that ask for tokens and speak TLS: what it finds is so."""

from __future__ import annotations

import asyncio
import json
from datetime import UTC, datetime, timedelta
from email.utils import format_datetime
from pathlib import Path

import pytest

from gapless.cli.exits import Exit
from support.certificates import certificate
from support.commands import gapless, hub
from support.people import PASSWORD

ANN = "ann@example.com"


async def found(database: Path, **variables: str) -> tuple[int, dict[str, dict[str, str]]]:
    """Return the exit code of the doctor, and the last finding of each subject."""
    done = await gapless("doctor", "--db", str(database), "-o", "json", **variables)
    return done.code, {one["about"]: one for one in json.loads(done.out)["findings"]}


@pytest.mark.slow
async def test_what_a_hub_with_authentication_asks_for(tmp_path: Path) -> None:
    """No users yet, then no token, then one that is none, then one that counts; by GAPLESS_URL."""
    database = tmp_path / "hub.db"
    async with hub(database, "--auth") as running:
        url = {"GAPLESS_URL": f"tcp://{running.tcp}"}
        code, told = await found(database, **url)
        assert code == Exit.OK
        assert f"one answers at {running.tcp} (GAPLESS_URL)" in told["hub"]["said"]
        assert told["users"]["level"] == "note"
        assert told["users"]["advice"] == (
            f"add one with: gapless users add EMAIL --role admin --db {database}"
        )
        assert "GAPLESS_TOKEN is not set" in told["token"]["said"]
        added = await gapless(
            *("users", "add", ANN, "--role", "admin", "--password-stdin", "--db", str(database)),
            stdin=f"{PASSWORD}\n",
        )
        assert added.code == Exit.OK, added.err
        made = await gapless("tokens", "create", "notebook", "--db", str(database))
        token = made.out.strip()
        code, told = await found(database, GAPLESS_TOKEN=token, **url)
        assert (code, told["users"]["level"], told["token"]["level"]) == (Exit.OK, "ok", "ok")
        assert f"of {ANN}, role admin" in told["token"]["said"]
        # A hub on another machine has no database here, and its users are not looked for.
        code, told = await found(tmp_path / "other.db", GAPLESS_TOKEN=f"{token}x", **url)
        assert code == Exit.FAILURE
        assert told["token"]["level"] == "problem"
        assert "not valid there" in told["token"]["said"]
        assert token not in str(told)
        assert "users" not in told


@pytest.mark.slow
async def test_a_hub_that_speaks_tls(tmp_path: Path) -> None:
    """It is asked over TLS where the address says so; where it does not, the right one is told."""
    cert, key = certificate(tmp_path)
    database = tmp_path / "hub.db"
    flags = ("--tls-cert", str(cert), "--tls-key", str(key))
    async with hub(database, *flags) as running:
        address = running.tcp.removeprefix("tls://")
        trusting = {"SSL_CERT_FILE": str(cert)}
        code, told = await found(database, GAPLESS_URL=f"tls://{address}", **trusting)
        assert (code, told["hub"]["level"]) == (Exit.OK, "ok")
        assert told["token"]["said"].startswith("authentication is off")
        code, told = await found(database, GAPLESS_URL=f"tls://{address}")
        assert (code, told["hub"]["level"]) == (Exit.FAILURE, "problem")
        assert "SSL_CERT_FILE" in told["hub"]["said"]
        code, told = await found(database, GAPLESS_URL=f"tcp://{address}")
        assert code == Exit.FAILURE
        assert f"speaks TLS: ask it at tls://{address}" in told["hub"]["said"]
        # By the settings of the hub itself it is known that it does.
        named = {"GAPLESS_TLS_CERT": str(cert), "GAPLESS_TLS_KEY": str(key)}
        code, told = await found(database, GAPLESS_TCP=address, **named, **trusting)
        assert (code, told["hub"]["level"], told["TLS"]["level"]) == (Exit.OK, "ok", "ok")
        asked = await gapless("query", "providers", GAPLESS_URL=f"tcp://{address}")
        assert asked.code == Exit.UNREACHABLE
        assert f"speaks TLS: ask it at tls://{address}" in asked.err


@pytest.mark.slow
async def test_what_the_settings_have_wrong(tmp_path: Path) -> None:
    """Files that are no certificate, authentication without users, an address that is none."""
    database, text = tmp_path / "hub.db", tmp_path / "text"
    text.write_text("no certificate")
    _, key = certificate(tmp_path)
    named = {"GAPLESS_TLS_CERT": str(text), "GAPLESS_TLS_KEY": str(key)}
    code, told = await found(database, GAPLESS_AUTH="true", GAPLESS_TCP="127.0.0.1:1", **named)
    assert code == Exit.FAILURE
    assert told["TLS"]["level"] == "problem"
    assert str(text) in told["TLS"]["said"]
    assert "gapless users add" in told["users"]["advice"]
    for url, why in (
        ("http://127.0.0.1:7070", "tls://HOST:PORT"),
        ("tcp://127.0.0.1:1", "names 127.0.0.1:1, but no hub can be reached"),
    ):
        code, told = await found(database, GAPLESS_URL=url)
        assert (code, told["hub"]["level"]) == (Exit.FAILURE, "problem")
        assert why in told["hub"]["said"]


@pytest.mark.slow
async def test_what_is_amiss_with_an_upstream(tmp_path: Path) -> None:
    """A clock that is an hour behind the hub's, and a ticker that fails by itself, are told."""

    async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        asked = await reader.readuntil(b"\r\n\r\n")
        symbol = "XYZ" if b"/ODD?" in asked else "ABC"
        meta = {"symbol": symbol, "dataGranularity": "1d"}
        result = [{"meta": meta, "indicators": {"quote": [{}]}}]
        body = json.dumps({"chart": {"result": result, "error": None}}).encode()
        when = format_datetime(datetime.now(UTC) - timedelta(hours=1), usegmt=True)
        head = f"HTTP/1.1 200 OK\r\nDate: {when}\r\nContent-Length: {len(body)}\r\n"
        writer.write(f"{head}Connection: close\r\n\r\n".encode() + body)
        await writer.drain()
        writer.close()
        await writer.wait_closed()

    server = await asyncio.start_server(serve, "127.0.0.1", 0)
    port = server.sockets[0].getsockname()[1]
    base = f"http://127.0.0.1:{port}"
    database = tmp_path / "hub.db"
    try:
        upstream = {"GAPLESS_YAHOO__BASE_URL": base, "GAPLESS_YAHOO__ENABLED": "yes"}
        async with hub(database, files=None, **upstream) as running:
            url = {"GAPLESS_URL": f"tcp://{running.tcp}", **upstream}
            code, told = await found(database, **url)
            assert (code, "clocks" in told, "series" in told) == (Exit.OK, False, False)
            for ticker in ("ABC", "ODD"):
                line = f"provider yahoo_finance search ticker={ticker} date=2024-01-01..2024-02-01"
                await gapless("query", line, **url)
            code, told = await found(database, **url)
    finally:
        server.close()
        await server.wait_closed()
    assert (code, told["clocks"]["level"]) == (Exit.FAILURE, "problem")
    assert "yahoo_finance's upstream is 3,6" in told["clocks"]["said"]
    assert "s behind the hub's" in told["clocks"]["said"]
    failing = told["series"]["said"]
    assert "1 series of yahoo_finance fail by themselves, such as yahoo_finance:ODD" in failing
