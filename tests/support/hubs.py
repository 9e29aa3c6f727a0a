"""`gapless serve` as a process of its own, as a user runs it, to be measured and killed."""

from __future__ import annotations

import asyncio
import os
import subprocess
import sys
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass
from pathlib import Path

from support.wire import PATIENCE_S


@dataclass(slots=True)
class Server:
    """A running `gapless serve`."""

    process: asyncio.subprocess.Process
    port: int


async def launch(database: Path, settings: str = "") -> asyncio.subprocess.Process:
    """Begin a `gapless serve` that has the sample alone; `settings` is more TOML."""
    config = database.with_name("settings.toml")
    config.write_text(f"{settings}\n[yahoo]\nenabled = false\n")
    environment = {k: v for k, v in os.environ.items() if not k.startswith("GAPLESS_")}
    return await asyncio.create_subprocess_exec(
        *(sys.executable, "-m", "gapless", "serve", "--tcp", "127.0.0.1:0"),
        *("--http", "off", "--db", str(database), "--config", str(config)),
        stdin=subprocess.DEVNULL,
        stderr=subprocess.PIPE,
        env=environment,
    )


async def ready(process: asyncio.subprocess.Process) -> int:
    """Wait until a hub says that it is ready; return its port."""
    assert process.stderr is not None
    said = b""
    async with asyncio.timeout(PATIENCE_S):
        while b" ready tcp=" not in said:
            said = await process.stderr.readline()
            assert said, "the hub ended before it was ready"
    (address,) = (word for word in said.decode().split() if word.startswith("tcp="))
    return int(address.rpartition(":")[2])


async def end(process: asyncio.subprocess.Process) -> None:
    """Kill a hub, if it is there yet, and see it gone."""
    if process.returncode is None:
        process.kill()
    async with asyncio.timeout(PATIENCE_S):
        # Reading to the end lets its pipe be closed.
        await process.communicate()


@asynccontextmanager
async def running(database: Path, settings: str = "") -> AsyncIterator[Server]:
    """Run `gapless serve` for the length of the block, which may kill it."""
    process = await launch(database, settings)
    try:
        yield Server(process, await ready(process))
    finally:
        await end(process)
