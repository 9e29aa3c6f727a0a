"""`gapless serve` as a process of its own, as a user runs it, to be measured and killed."""

from __future__ import annotations

import asyncio
import os
import subprocess
import sys
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from pathlib import Path

from support.wire import PATIENCE_S

TESTS = Path(__file__).parents[1]
GAPLESS = ("gapless", "serve")
"""The module that is run, and its arguments."""
STEADY = ("support.steady_hub",)
"""The same with the steady provider beside the sample: see there."""


@dataclass(slots=True)
class Server:
    """A running `gapless serve`; `said` has what it has said since it was ready.

    `http`: the base URL of its door for HTTP, or `off`.
    """

    process: asyncio.subprocess.Process
    port: int
    http: str
    said: list[str] = field(default_factory=list)

    @property
    def resident(self) -> int:
        """Return the bytes of it that are in memory."""
        return self._status("VmRSS")

    @property
    def peak(self) -> int:
        """Return the most bytes of it that were in memory since `watch_peak`."""
        return self._status("VmHWM")

    def watch_peak(self) -> int:
        """Let the peak begin anew; return what is in memory now."""
        self._proc("clear_refs").write_text("5")
        return self.resident

    @property
    def cpu_s(self) -> float:
        """Return the seconds of CPU that all of its threads have had, to about 10 ms."""
        fields = self._proc("stat").read_text().rpartition(")")[2].split()
        return (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")

    def _status(self, name: str) -> int:
        lines = self._proc("status").read_text().splitlines()
        (line,) = (line for line in lines if line.startswith(name))
        return int(line.split()[1]) * 1024

    def _proc(self, name: str) -> Path:
        return Path(f"/proc/{self.process.pid}/{name}")


async def launch(
    database: Path,
    settings: str = "",
    *,
    program: tuple[str, ...] = GAPLESS,
    http: str = "off",
) -> asyncio.subprocess.Process:
    """Begin a hub that has the sample, and what its program adds; `settings` is more TOML."""
    config = database.with_name("settings.toml")
    config.write_text(f"{settings}\n[yahoo]\nenabled = false\n")
    environment = {k: v for k, v in os.environ.items() if not k.startswith("GAPLESS_")}
    return await asyncio.create_subprocess_exec(
        *(sys.executable, "-m", *program, "--tcp", "127.0.0.1:0"),
        *("--http", http, "--db", str(database), "--config", str(config)),
        stdin=subprocess.DEVNULL,
        stderr=subprocess.PIPE,
        env={**environment, "PYTHONPATH": str(TESTS)},
    )


async def ready(process: asyncio.subprocess.Process) -> tuple[int, str]:
    """Wait until a hub says that it is ready; return its TCP port, and the base URL of HTTP."""
    assert process.stderr is not None
    said = b""
    async with asyncio.timeout(PATIENCE_S):
        while b" ready tcp=" not in said:
            said = await process.stderr.readline()
            assert said, "the hub ended before it was ready"
    told = dict(word.split("=", 1) for word in said.decode().split() if "=" in word)
    return int(told["tcp"].rpartition(":")[2]), told["http"]


async def hear(server: Server) -> None:
    """Keep what a hub says until it ends: one that is not listened to would wait to be heard."""
    assert server.process.stderr is not None
    async for line in server.process.stderr:
        server.said.append(line.decode().rstrip("\n"))


async def end(process: asyncio.subprocess.Process) -> None:
    """Kill a hub, if it is there yet, and see it gone."""
    if process.returncode is None:
        process.kill()
    async with asyncio.timeout(PATIENCE_S):
        # Reading to the end lets its pipe be closed.
        await process.communicate()


@asynccontextmanager
async def running(
    database: Path,
    settings: str = "",
    *,
    program: tuple[str, ...] = GAPLESS,
    http: str = "off",
) -> AsyncIterator[Server]:
    """Run a hub for the length of the block, which may kill it."""
    process = await launch(database, settings, program=program, http=http)
    try:
        server = Server(process, *await ready(process))
        hearing = asyncio.create_task(hear(server))
        try:
            yield server
        finally:
            if process.returncode is None:
                process.kill()
            await hearing
    finally:
        await end(process)
