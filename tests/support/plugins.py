"""A hub with plugins behind its TCP door, and what tests want to know of their processes."""

from __future__ import annotations

import asyncio
import os
import shutil
import time
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager, suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from gapless.clock import Clock, SystemClock
from gapless.config import Settings
from gapless.hub.plugins import Plugins, PluginSpec, PluginStatus
from gapless.providers.base import Provider
from gapless.providers.plugins.contracts import PluginProvider
from support.stores import store_of
from support.wire import PATIENCE_S, PATIENT, Door, Wire, door, search

SOURCES = Path(__file__).with_name("plugin_sources")
JANUARY = ("2024-01-01", "2024-02-01")


@dataclass(frozen=True, slots=True)
class Plugged:
    """A hub whose plugins are loaded from `base`."""

    door: Door
    plugins: Plugins
    base: Path

    async def load(self, module: str, **spec: Any) -> PluginStatus:
        """Load one of the test plugins by its module's name."""
        shutil.copyfile(SOURCES / f"{module}.py", self.base / f"{module}.py")
        return await self.plugins.load(PluginSpec(module=module, **spec))

    async def write(self, module: str, source: str, **spec: Any) -> PluginStatus:
        """Write a module and load it, by its own name unless told otherwise."""
        self.put(module, source)
        return await self.plugins.load(PluginSpec(**{"module": module, "name": module, **spec}))

    def put(self, module: str, source: str) -> Path:
        """Write a module."""
        path = self.base / f"{module}.py"
        path.write_text(source)
        return path

    def status(self, name: str) -> PluginStatus:
        """Return how one plugin is."""
        return next(one for one in self.plugins.status() if one.name == name)

    def provider(self, name: str) -> PluginProvider:
        """Return a plugin's provider."""
        found = self.door.hub.registry.get(name)
        assert isinstance(found, PluginProvider)
        return found

    def give(self, name: str, deadline_s: float = PATIENCE_S) -> None:
        """Let each call of a plugin take so many seconds from now on."""
        self.provider(name).supervisor.deadline_s = deadline_s

    def printed(self) -> list[str]:
        """Return the lines that plugins have printed so far."""
        return [one["line"] for one in self.door.logs if one["event"] == "plugin printed"]

    async def asked(self, count: int) -> list[str]:
        """Return what the plugin printed of what it was asked, once it has been so often."""

        def said() -> list[str]:
            return [line[6:] for line in self.printed() if line.startswith("asked ")]

        await until(lambda: len(said()) >= count)
        return said()

    @asynccontextmanager
    async def client(self) -> AsyncIterator[Wire]:
        """Connect a client for the length of the block."""
        async with self.door.client() as wire:
            yield wire


@asynccontextmanager
async def plugged(
    folder: Path,
    *providers: Provider,
    settings: Settings = PATIENT,
    clock: Clock | None = None,
) -> AsyncIterator[Plugged]:
    """Run a hub with plugins; none of their processes may be left over at its end."""
    base = folder / "base"
    base.mkdir(exist_ok=True)
    before = children()
    async with door(folder, *providers, settings=settings) as opened:
        hub = opened.hub
        plugins = Plugins(
            store_of(hub), hub.registry, clock or SystemClock(), settings.plugins, base=base
        )
        try:
            yield Plugged(opened, plugins, base)
        finally:
            await plugins.close()
    assert children() <= before


async def until(condition: Callable[[], object]) -> None:
    """Return once the condition holds, which it must within the tests' patience."""
    deadline = time.monotonic() + PATIENCE_S
    while not condition():
        assert time.monotonic() < deadline, "what was waited for did not come"
        await asyncio.sleep(0.002)


async def fails(wire: Wire, provider: str, ticker: str, *bounds: str) -> dict[str, Any]:
    """Ask for a range that cannot be had; return the error."""
    answer = await wire.ask(search(provider, ticker, *(bounds or JANUARY)))
    assert not answer["ok"], answer
    error: dict[str, Any] = answer["error"]
    return error


def children() -> set[int]:
    """Return the processes that this one has, dead ones that nobody waited for included."""
    found: set[int] = set()
    for task in Path("/proc/self/task").iterdir():
        with suppress(OSError):
            found |= {int(pid) for pid in (task / "children").read_text().split()}
    return found


def alive(pid: int) -> bool:
    """Whether there is such a process, a dead one that nobody waited for included."""
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return False
    return True


def open_files() -> int:
    """Count this process's open files."""
    return len(os.listdir("/proc/self/fd"))  # noqa: PTH208  # a Path would open one more
