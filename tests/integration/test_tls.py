"""TLS on both ports: spoken, held against its certificate, replaced while it is open."""

from __future__ import annotations

import asyncio
import json
import os
import shutil
import signal
import ssl
import subprocess
from pathlib import Path

import httpx
import pytest

from gapless.cli.exits import Exit
from gapless.errors import ConfigError
from gapless.servers.tls import Certificate
from support.certificates import certificate
from support.commands import gapless, hub
from support.people import PASSWORD
from support.wire import PATIENCE_S

QUESTION = "provider sample search ticker=AAPL date=2010-01-04..2010-02-01"


def flags(cert: Path, key: Path) -> tuple[str, ...]:
    """Return the flags of a hub with authentication and this certificate."""
    return "--auth", "--tls-cert", str(cert), "--tls-key", str(key)


def trusting(cert: Path) -> ssl.SSLContext:
    """Return a context that trusts this certificate alone."""
    return ssl.create_default_context(cafile=cert)


async def ask(port: int, context: ssl.SSLContext | None, line: bytes) -> bytes:
    """Send a line over a connection of its own, and return all that comes."""
    reader, writer = await asyncio.open_connection("127.0.0.1", port, ssl=context)
    try:
        writer.write(line)
        async with asyncio.timeout(PATIENCE_S):
            return await reader.readline()
    finally:
        writer.transport.abort()


@pytest.mark.slow
async def test_both_ports_speak_it(tmp_path: Path) -> None:
    """A hub is set up, signed in to and asked over TLS; who speaks plainly gets nothing."""
    cert, key = certificate(tmp_path)
    async with hub(tmp_path / "hub.db", *flags(cert, key)) as served:
        assert served.setup is not None
        assert served.http.startswith("https://127.0.0.1:")
        assert served.tcp.startswith("tls://127.0.0.1:")
        assert served.setup.startswith(f"{served.http}/setup?key=")
        form = {"email": "ann@example.com", "password": PASSWORD}
        async with httpx.AsyncClient(
            verify=trusting(cert), base_url=served.http, timeout=PATIENCE_S
        ) as client:
            assert (await client.post(served.setup, data=form)).status_code == 200
            tokens = (await client.post("/v1/auth/login", json=form)).json()
            page = await client.post("/login", data=form, headers={"origin": served.http})
            assert page.headers["set-cookie"].endswith("; Secure")
            # The cookie that only TLS carries comes back.
            assert (await client.get("/account")).status_code == 200
        line = json.dumps({"query": {"type": "Ping"}}).encode() + b"\n"
        answer = json.loads(await ask(served.port, trusting(cert), line))
        assert answer["result"]["http"] == served.http
        assert answer["result"]["auth"] is True
        assert await ask(served.port, None, line) == b""
        command = ("query", QUESTION, "-o", "json")
        variables = {
            "GAPLESS_URL": served.tcp,
            "GAPLESS_TOKEN": tokens["access_token"],
            "SSL_CERT_FILE": str(cert),
        }
        done = await gapless(*command, **variables)
        assert done.code == 0, done.err
        assert json.loads(done.out)["stitch"]["state"] == "ready"
        # One that nobody vouches for is told from one that is not there.
        done = await gapless(*command, **{**variables, "SSL_CERT_FILE": os.devnull})
        assert done.code == Exit.UNREACHABLE
        assert "is not trusted" in done.err


@pytest.mark.slow
async def test_a_new_certificate_is_taken_up_at_sighup(tmp_path: Path) -> None:
    """New connections get it, old ones stay; one that cannot be used changes nothing."""
    cert, key = certificate(tmp_path, "first")
    used = tmp_path / "used.pem", tmp_path / "used.key"
    shutil.copy(cert, used[0])
    shutil.copy(key, used[1])
    ping = json.dumps({"query": {"type": "Ping"}}).encode() + b"\n"
    async with hub(tmp_path / "hub.db", *flags(*used)) as served:
        reader, writer = await asyncio.open_connection("127.0.0.1", served.port, ssl=trusting(cert))
        second = certificate(tmp_path, "second")
        shutil.copy(second[0], used[0])
        served.process.send_signal(signal.SIGHUP)
        assert "the key is not that of the certificate" in await served.hear()
        assert json.loads(await ask(served.port, trusting(cert), ping))["ok"]
        shutil.copy(second[1], used[1])
        served.process.send_signal(signal.SIGHUP)
        assert "the certificate was read again" in await served.hear()
        assert json.loads(await ask(served.port, trusting(second[0]), ping))["ok"]
        with pytest.raises(ssl.SSLCertVerificationError):
            await ask(served.port, trusting(cert), ping)
        async with httpx.AsyncClient(verify=trusting(second[0]), timeout=PATIENCE_S) as client:
            assert (await client.get(f"{served.http}/healthz")).status_code == 200
        writer.write(ping)
        assert json.loads(await reader.readline())["ok"]
        writer.transport.abort()


def test_files_that_cannot_be_used(tmp_path: Path) -> None:
    """Each is named in a sentence before anything is opened."""
    cert, key = certificate(tmp_path)
    other = certificate(tmp_path, "other")
    text = tmp_path / "text"
    text.write_text("no certificate")
    locked = tmp_path / "locked.key"
    subprocess.run(
        ["openssl", "ec", "-in", key, "-aes256", "-passout", "pass:x", "-out", locked],
        check=True,
        capture_output=True,
    )
    weak = tmp_path / "weak.pem", tmp_path / "weak.key"
    subprocess.run(
        [
            *("openssl", "req", "-x509", "-newkey", "rsa:512", "-nodes", "-subj", "/CN=weak"),
            *("-keyout", weak[1], "-out", weak[0]),
        ],
        check=True,
        capture_output=True,
    )
    for pair, why in (
        ((cert, other[1]), "the key is not that of the certificate"),
        ((text, key), f"{text} cannot be used for TLS: it has no certificate"),
        ((key, key), f"{key} cannot be used for TLS: it has no certificate"),
        ((cert, text), f"{text} cannot be used for TLS: it has no private key"),
        ((cert, cert), f"{cert} cannot be used for TLS: it has no private key"),
        ((weak[0], weak[1]), f"{weak[0]} cannot be used for TLS: its key is too small"),
        ((cert, tmp_path / "none"), "it is no file, or is not there"),
        ((tmp_path, key), "cannot be read"),
        ((cert, locked), f"{locked} cannot be used for TLS: the key has a pass phrase"),
    ):
        with pytest.raises(ConfigError, match=why) as raised:
            Certificate(*pair)
        assert "_ssl" not in raised.value.message
    assert Certificate(cert, key).context.minimum_version >= ssl.TLSVersion.TLSv1_2
