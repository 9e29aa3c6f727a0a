"""`gapless serve` as a process: what it says, and what signals do to it."""

from __future__ import annotations

import asyncio
import json
import os
import re
import shlex
import shutil
import signal
import subprocess
import sys
from pathlib import Path

import pytest
from structlog.testing import capture_logs

from gapless.cli.hangup import Hangups
from gapless.servers.tls import Certificate
from support.certificates import certificate
from support.commands import environment, hub
from support.hubs import end, launch
from support.wire import PATIENCE_S, connect


async def test_a_start_and_a_stop_are_told(tmp_path: Path) -> None:
    """HTTP that is off is said to be off, and a stop is told once, with its signal."""
    async with hub(tmp_path / "hub.db", "--http", "off", GAPLESS_LOG__FORMAT="json") as running:
        pass
    logged = [json.loads(line) for line in running.said if line.startswith("{")]
    assert [one["http"] for one in logged if one["event"] == "open"] == ["off"]
    assert [one["signal"] for one in logged if one["event"] == "stopping"] == ["SIGTERM"]


async def test_how_to_add_a_first_user_names_the_database(tmp_path: Path) -> None:
    """Where there is no address to open, the command is told as it is to be typed."""
    database = tmp_path / "some where.db"
    async with hub(database, "--auth", "--http", "off") as running:
        pass
    (told,) = (line for line in running.said if "there are no users" in line)
    said = shlex.split(told.partition("add one with: ")[2])
    assert said == [*["gapless", "users", "add", "EMAIL", "--role", "admin", "--db"], str(database)]


@pytest.mark.slow
async def test_sighup_does_not_end_a_hub_without_a_certificate(tmp_path: Path) -> None:
    """It says that there is nothing to read again, however often it is sent, and goes on."""
    async with hub(tmp_path / "hub.db") as running:
        for _ in range(2):
            running.process.send_signal(signal.SIGHUP)
            assert "nothing to read again" in await running.hear()
        async with await connect(running.port) as wire:
            assert (await wire.ask({"type": "ProviderList"}))["ok"]


def test_sighup_while_a_hub_starts_is_not_lost(tmp_path: Path) -> None:
    """The certificate that was replaced meanwhile is read when the hub is there, once."""
    cert, key = certificate(tmp_path, "first")
    used = Certificate(cert, key)
    for new, old in zip(certificate(tmp_path, "second"), (cert, key), strict=True):
        shutil.copy(new, old)
    stop = asyncio.Event()
    hangups = Hangups(stop)
    with capture_logs() as logs:
        hangups.heed()
        hangups.heed()
        assert logs == []
        hangups.started(used)
    assert [one["event"] for one in logs] == ["the certificate was read again"]
    assert not stop.is_set()


async def test_a_hub_says_which_settings_it_ignores(tmp_path: Path) -> None:
    """A setting of an earlier version is no reason not to start, and is told by its name."""
    process = await launch(tmp_path / "hub.db", "[fetch]\nmax_bumps = 3\n")
    assert process.stderr is not None
    try:
        said = b""
        async with asyncio.timeout(PATIENCE_S):
            while b" ready tcp=" not in said:
                line = await process.stderr.readline()
                assert line, "the hub ended before it was ready"
                said += line
    finally:
        await end(process)
    ignored = [line for line in said.decode().splitlines() if "ignored" in line]
    assert len(ignored) == 1
    assert "fetch.max_bumps" in ignored[0]


async def test_a_hub_whose_terminal_is_closed_stops_in_order(tmp_path: Path) -> None:
    """Nobody could read its log any more, and writing to it would fail."""
    outer, inner = os.openpty()
    database = tmp_path / "hub.db"
    process = await asyncio.create_subprocess_exec(
        *(sys.executable, "-m", "gapless", "serve", "--db", str(database)),
        *("--tcp", "127.0.0.1:0", "--http", "off"),
        stdin=subprocess.DEVNULL,
        stderr=inner,
        env=environment(),
    )
    os.close(inner)

    def hear() -> None:
        said = b""
        # To the end of the line: closed before, writing the rest of it would fail.
        while not re.search(rb" ready tcp=.*\n", said):
            said += os.read(outer, 1_000)

    async with asyncio.timeout(PATIENCE_S):
        await asyncio.to_thread(hear)
        os.close(outer)
        process.send_signal(signal.SIGHUP)
        assert await process.wait() == 0
    assert not database.with_name("hub.db.sock").exists()
