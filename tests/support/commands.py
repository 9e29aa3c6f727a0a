"""`gapless serve --auth` and the commands beside it, as processes of their own."""

from __future__ import annotations

import asyncio
import os
import re
import subprocess
import sys
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from pathlib import Path

from support.wire import PATIENCE_S


@dataclass(slots=True)
class Hub:
    """A hub that runs; `said` has what it has said so far, `setup` the address it printed."""

    process: asyncio.subprocess.Process
    said: list[str] = field(default_factory=list)
    tcp: str = ""
    http: str = ""
    setup: str | None = None

    @property
    def port(self) -> int:
        """The TCP port."""
        return int(self.tcp.rpartition(":")[2])

    async def hear(self) -> str:
        """Return the next line that it says."""
        assert self.process.stderr is not None
        async with asyncio.timeout(PATIENCE_S):
            line = (await self.process.stderr.readline()).decode().rstrip("\n")
        assert line, f"the hub has ended: {self.said}"
        self.said.append(line)
        return line


def environment(**more: str) -> dict[str, str]:
    """Return an environment without settings of the hub's but these."""
    kept = {name: value for name, value in os.environ.items() if not name.startswith("GAPLESS_")}
    return {
        **kept,
        "GAPLESS_YAHOO__ENABLED": "false",
        # A plugin stands back behind everybody else: on a busy machine it starts slowly.
        "GAPLESS_PLUGINS__LOAD_S": str(PATIENCE_S),
        "GAPLESS_PLUGINS__DEADLINE_S": str(PATIENCE_S),
        # Clients are as slow as the machine makes them.
        "GAPLESS_ACCESS__TOKEN_S": str(PATIENCE_S),
        "GAPLESS_API__RECEIVE_S": str(PATIENCE_S),
        **more,
    }


@asynccontextmanager
async def hub(
    database: Path,
    *flags: str,
    tcp: str = "127.0.0.1:0",
    files: int | None = None,
    **variables: str,
) -> AsyncIterator[Hub]:
    """Run `gapless serve` for the length of the block; `tcp`: at a port that is known.

    `files`: how many it may have open at the most.
    """
    limited = () if files is None else ("sh", "-c", f'ulimit -n {files}; exec "$@"', "sh")
    process = await asyncio.create_subprocess_exec(
        *limited,
        *(sys.executable, "-m", "gapless", "serve", "--db", str(database)),
        *("--tcp", tcp),
        *(() if "--http" in flags else ("--http", "127.0.0.1:0")),
        *flags,
        stdin=subprocess.DEVNULL,
        stderr=subprocess.PIPE,
        env=environment(**variables),
    )
    running = Hub(process)
    assert process.stderr is not None
    try:
        async with asyncio.timeout(PATIENCE_S):
            while not running.tcp:
                await _hear(running)
            addressed = "--auth" in flags and "off" not in flags
            if addressed and not await asyncio.to_thread(_has_users, database):
                while running.setup is None:
                    await _hear(running)
        yield running
    finally:
        if process.returncode is None:
            process.terminate()
        async with asyncio.timeout(PATIENCE_S):
            rest = await process.stderr.read()
            running.said += rest.decode().splitlines()
            await process.wait()


async def _hear(running: Hub) -> None:
    line = await running.hear()
    ready = re.search(r" ready tcp=(\S+) http=(\S+) ", line)
    if ready:
        running.tcp, running.http = ready[1], ready[2]
    if re.fullmatch(r"https?://\S+/setup\?key=\S+", line):
        running.setup = line


def _has_users(database: Path) -> bool:
    done = subprocess.run(
        [sys.executable, "-m", "gapless", "users", "list", "-o", "json", "--db", str(database)],
        capture_output=True,
        check=True,
        env=environment(),
        timeout=PATIENCE_S,
    )
    return done.stdout.strip() != b"[]"


@dataclass(frozen=True, slots=True)
class Done:
    """A command that has ended."""

    code: int
    out: str
    err: str


async def gapless(*arguments: str, stdin: str = "", **variables: str) -> Done:
    """Run a command to its end."""
    process = await asyncio.create_subprocess_exec(
        *(sys.executable, "-m", "gapless", *arguments),
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        env=environment(**variables),
    )
    async with asyncio.timeout(PATIENCE_S):
        out, err = await process.communicate(stdin.encode())
    assert process.returncode is not None
    return Done(process.returncode, out.decode(), err.decode())
