"""TLS on both ports: spoken, held against its certificate, replaced while it is open."""

from __future__ import annotations

import asyncio
import json
import os
import shutil
import signal
import ssl
import subprocess
import sys
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass
from pathlib import Path

import httpx
import pytest

from gapless.errors import ConfigError
from gapless.servers.tls import Certificate
from support.certificates import certificate
from support.people import PASSWORD
from support.wire import PATIENCE_S

QUESTION = "provider sample search ticker=AAPL date=2010-01-04..2010-02-01"


@dataclass(frozen=True, slots=True)
class Served:
    """A `gapless serve --auth` over TLS, as a process."""

    process: asyncio.subprocess.Process
    tcp: str
    http: str
    setup: str

    @property
    def port(self) -> int:
        """The TCP port."""
        return int(self.tcp.rpartition(":")[2])


def environment(**more: str) -> dict[str, str]:
    """Return an environment without settings of the hub's but these."""
    kept = {name: value for name, value in os.environ.items() if not name.startswith("GAPLESS_")}
    return {**kept, **more}


@asynccontextmanager
async def serving(folder: Path, cert: Path, key: Path) -> AsyncIterator[Served]:
    """Run a hub with this certificate for the length of the block."""
    process = await asyncio.create_subprocess_exec(
        *(sys.executable, "-m", "gapless", "serve", "--auth", "--db", str(folder / "hub.db")),
        *("--tcp", "127.0.0.1:0", "--http", "127.0.0.1:0"),
        *("--tls-cert", str(cert), "--tls-key", str(key)),
        stdin=subprocess.DEVNULL,
        stderr=subprocess.PIPE,
        env=environment(GAPLESS_YAHOO__ENABLED="false"),
    )
    try:
        said: dict[str, str] = {}
        async with asyncio.timeout(PATIENCE_S):
            while "setup" not in said:
                line = await spoken(process)
                if " ready tcp=" in line:
                    said |= dict(word.split("=", 1) for word in line.split()[3:])
                elif line.startswith("https://"):
                    said["setup"] = line.strip()
        yield Served(process, said["tcp"], said["http"], said["setup"])
    finally:
        if process.returncode is None:
            process.terminate()
        async with asyncio.timeout(PATIENCE_S):
            await process.communicate()


async def spoken(process: asyncio.subprocess.Process) -> str:
    """Return the next line that a hub says."""
    assert process.stderr is not None
    async with asyncio.timeout(PATIENCE_S):
        line = await process.stderr.readline()
    assert line, "the hub has ended"
    return line.decode()


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


async def test_both_ports_speak_it(tmp_path: Path) -> None:
    """A hub is set up, signed in to and asked over TLS; who speaks plainly gets nothing."""
    cert, key = certificate(tmp_path)
    async with serving(tmp_path, cert, key) as served:
        assert served.http.startswith("https://127.0.0.1:")
        assert served.setup.startswith(f"{served.http}/setup?key=")
        form = {"email": "ann@example.com", "password": PASSWORD}
        async with httpx.AsyncClient(verify=trusting(cert), base_url=served.http) as client:
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
        command = [sys.executable, "-m", "gapless", "query", QUESTION, "-o", "json"]
        variables = environment(
            GAPLESS_URL=f"tls://{served.tcp}",
            GAPLESS_TOKEN=tokens["access_token"],
            SSL_CERT_FILE=str(cert),
        )
        done = await finished(command, variables)
        assert done.returncode == 0, done.stderr
        assert json.loads(done.stdout)["stitch"]["state"] == "ready"
        # One that nobody vouches for is told from one that is not there.
        done = await finished(command, {**variables, "SSL_CERT_FILE": os.devnull})
        assert done.returncode == 69
        assert b"is not who it says it is" in done.stderr


async def finished(
    command: list[str], variables: dict[str, str]
) -> subprocess.CompletedProcess[bytes]:
    """Run a command to its end, away from the loop."""
    return await asyncio.to_thread(
        subprocess.run, command, env=variables, capture_output=True, timeout=60, check=False
    )


async def test_a_new_certificate_is_taken_up_at_sighup(tmp_path: Path) -> None:
    """New connections get it, old ones stay; one that cannot be used changes nothing."""
    cert, key = certificate(tmp_path, "first")
    used = tmp_path / "used.pem", tmp_path / "used.key"
    shutil.copy(cert, used[0])
    shutil.copy(key, used[1])
    ping = json.dumps({"query": {"type": "Ping"}}).encode() + b"\n"
    async with serving(tmp_path, *used) as served:
        reader, writer = await asyncio.open_connection("127.0.0.1", served.port, ssl=trusting(cert))
        second = certificate(tmp_path, "second")
        shutil.copy(second[0], used[0])
        served.process.send_signal(signal.SIGHUP)
        assert "the key is not that of the certificate" in await spoken(served.process)
        assert json.loads(await ask(served.port, trusting(cert), ping))["ok"]
        shutil.copy(second[1], used[1])
        served.process.send_signal(signal.SIGHUP)
        assert "the certificate was read again" in await spoken(served.process)
        assert json.loads(await ask(served.port, trusting(second[0]), ping))["ok"]
        with pytest.raises(ssl.SSLCertVerificationError):
            await ask(served.port, trusting(cert), ping)
        async with httpx.AsyncClient(verify=trusting(second[0])) as client:
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
    for pair, why in (
        ((cert, other[1]), "the key is not that of the certificate"),
        ((text, key), "no PEM file"),
        ((cert, text), "no PEM file"),
        ((cert, tmp_path / "none"), "cannot be read: No such file"),
        ((tmp_path, key), "cannot be read"),
        ((cert, locked), "pass phrase"),
    ):
        with pytest.raises(ConfigError, match=why):
            Certificate(*pair)
    assert Certificate(cert, key).context.minimum_version >= ssl.TLSVersion.TLSv1_2
