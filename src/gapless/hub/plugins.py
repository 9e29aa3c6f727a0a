"""The plugins of a hub: loaded, replaced, remembered, watched; each a provider in the registry.

Apart from the providers themselves, of which each knows only its own process.
"""

from __future__ import annotations

import asyncio
import os
import sys
from collections.abc import AsyncIterator, Awaitable, Callable, Coroutine, Iterable, Mapping
from contextlib import asynccontextmanager, suppress
from dataclasses import dataclass, field
from functools import partial
from hashlib import sha256
from pathlib import Path
from typing import Any
from weakref import WeakValueDictionary

import msgspec
import structlog

from gapless.clock import Clock
from gapless.config.settings import PluginSettings
from gapless.errors import GaplessError, InvalidQuery, NotFound, PluginNotLoaded
from gapless.hub.plugin_spec import PluginSpec, PluginStatus, RememberedSpec, resolved
from gapless.hub.plugin_watch import changes
from gapless.hub.ranges import shortened
from gapless.instants import format_instant
from gapless.providers.plugins.contracts import PluginProvider, checked_alias
from gapless.providers.plugins.messages import Launch, Ready
from gapless.providers.registry import Registry
from gapless.store.base import RememberedPlugin, Store

_log = structlog.get_logger("gapless.plugins")

ENTRY_POINTS = "gapless.providers"
NOBODY = "anonymous"
# Who did what to which plugin, and more by name.
Record = Callable[[str, str, str, Mapping[str, str]], Awaitable[None]]
_FOLDERS = ("", "provider", "providers")


@dataclass(slots=True)
class _Plugin:
    """A plugin by its name; `provider` `None`: it could not be loaded."""

    spec: PluginSpec
    base: str
    remembered: bool
    provider: PluginProvider | None = None
    loaded_at: str | None = None
    error: str | None = None
    traceback: str | None = None
    watcher: asyncio.Task[None] | None = field(default=None, repr=False)


class _Overtaken(Exception):
    """Another plugin has taken the place of the one that was to be replaced."""


class Plugins:
    """Loads plugins into a registry and remembers them in the store.

    `base` is the folder that modules are looked for in unless the request names another.
    """

    def __init__(
        self,
        store: Store,
        registry: Registry,
        clock: Clock,
        limits: PluginSettings,
        base: Path | None = None,
        record: Record | None = None,
    ) -> None:
        self.limits = limits
        self._store = store
        self._registry = registry
        self._clock = clock
        self._base = base or Path()
        self._record = record or _no_record
        self._plugins: dict[str, _Plugin] = {}
        # The defaults of each one's parameters, which must stay what they are.
        self._defaults: dict[str, dict[str, str]] = {}
        self._locks: WeakValueDictionary[str, asyncio.Lock] = WeakValueDictionary()
        self._tasks: set[asyncio.Task[None]] = set()
        self._leaving: dict[PluginProvider, asyncio.Task[None]] = {}
        self._closed = False

    async def load(self, spec: PluginSpec, actor: str = NOBODY) -> PluginStatus:
        """Load a plugin, in place of one of its name; what ran before runs on if that fails.

        `actor` is who says so, for the audit log. Raises `InvalidQuery` for a request or name that
        makes no sense, `PluginNotLoaded` with the plugin's own traceback.
        """
        spec = await asyncio.to_thread(resolved, spec, self._base)
        try:
            return await self._load(spec, True, actor)
        except PluginNotLoaded as error:
            # Its code has run all the same, up to there.
            await self._record(
                actor, "plugin not loaded", spec.file or spec.module or "", await _sum_of(spec)
            )
            _log.warning(
                "a plugin cannot be loaded", source=spec.file or spec.module, error=error.message
            )
            raise

    async def reload(self, name: str, actor: str = NOBODY) -> PluginStatus:
        """Load a plugin again, from its files as they are now; raise `NotFound` for no plugin."""
        while True:
            plugin = self._known(name)
            try:
                spec = msgspec.structs.replace(plugin.spec, name=name)
                spec = await asyncio.to_thread(resolved, spec, self._base)
                return await self._load(spec, plugin.remembered, actor, instead_of=plugin)
            except _Overtaken:
                continue
            except GaplessError as error:
                plugin.error = error.message
                plugin.traceback = getattr(error, "traceback", "") or None
                raise

    async def unload(self, name: str, actor: str = NOBODY) -> None:
        """Let a plugin go and forget it; what was stored of it stays."""
        async with self._lock(f"name {name}"):
            plugin = self._known(name)
            await self._store.forget_plugin(name)
            del self._plugins[name]
            self._defaults.pop(name, None)
            self._registry.remove(name, plugin.provider)
            self._let_go(plugin)
            _log.info("plugin unloaded", plugin=name)
        await self._record(actor, "plugin unloaded", name, {})

    def status(self) -> list[PluginStatus]:
        """Return how each plugin is, by name."""
        return [self._status(name, plugin) for name, plugin in sorted(self._plugins.items())]

    @property
    def leaving(self) -> int:
        """How many plugins have been replaced or unloaded and still have calls under way."""
        return len(self._leaving)

    async def restore(self) -> None:
        """Load all remembered plugins beside one another; one that fails is named, and no more."""
        remembered = await self._store.plugins()
        await self._few_at_a_time(self._restore(one) for one in remembered)

    async def find_entry_points(self) -> None:
        """Load the providers that installed packages bring; they are not remembered."""
        found = await asyncio.to_thread(_entry_points)
        await self._few_at_a_time(self._enter(name, value) for name, value in found)

    async def close(self) -> None:
        """End all plugins and everything that is under way here."""
        self._closed = True
        for task in self._tasks:
            task.cancel()
        providers = [p.provider for p in self._plugins.values() if p.provider is not None]
        await asyncio.gather(*(one.aclose() for one in (*providers, *self._leaving)))
        under_way = {*self._tasks, *self._leaving.values()}
        if under_way:
            await asyncio.wait(under_way)

    # Loading

    async def _load(
        self,
        spec: PluginSpec,
        remember: bool,
        actor: str,
        instead_of: _Plugin | None = None,
    ) -> PluginStatus:
        if spec.name is not None:
            self._check_name(spec.name)
        source = spec.file or f"{spec.module} in {spec.project_base_dir}"
        # Of two that load the same code, the later has the later code; of two that want the same
        # name, one comes after the other.
        async with self._lock(f"source {source}"):
            if spec.name is not None:
                async with self._lock(f"name {spec.name}"):
                    if instead_of is not None and self._plugins.get(spec.name) is not instead_of:
                        raise _Overtaken
                    return await self._replace(await self._start(spec), spec, remember, actor)
            provider = await self._start(spec)
            async with self._lock(f"name {provider.info.name}"):
                return await self._replace(provider, spec, remember, actor)

    async def _start(self, spec: PluginSpec) -> PluginProvider:
        launch = await asyncio.to_thread(self._launch, spec)
        return await PluginProvider.load(launch, spec.name, self.limits, self._clock)

    async def _replace(
        self, provider: PluginProvider, spec: PluginSpec, remember: bool, actor: str
    ) -> PluginStatus:
        """Let a loaded plugin take the place of the one of its name, if there is one."""
        name = provider.info.name
        at = format_instant(self._clock.now_ms())
        try:
            if self._closed:
                raise InvalidQuery("the hub is stopping")
            self._check_name(name)
            spec = msgspec.structs.replace(spec, name=name)
            defaults = {param.name: param.default for param in provider.info.params}
            _check_defaults(name, self._defaults.get(name, {}), defaults)
            # Before it may do anything: what loads code and is not told of, is not done.
            await self._record(
                actor,
                "plugin loaded",
                name,
                {"file": provider.loaded.file or "", "sha256": provider.loaded.sha256 or ""},
            )
            if remember:
                stored = RememberedSpec(**msgspec.structs.asdict(spec), defaults=defaults)
                text = msgspec.json.encode(stored).decode()
                await self._store.save_plugin(RememberedPlugin(name, text, at))
        except BaseException:
            await provider.aclose()
            raise
        provider.supervisor.on_changed = partial(self._tell_of_restart, name)
        before = self._plugins.get(name)
        self._registry.put(provider)
        self._defaults[name] = defaults
        plugin = _Plugin(spec, spec.project_base_dir or "", remember, provider, at)
        self._plugins[name] = plugin
        if before is not None:
            if before.provider is not None:
                before.provider.successor = provider
            self._let_go(before)
        if spec.watch:
            plugin.watcher = self._background(self._follow(name, plugin))
        _log.info(
            "plugin loaded",
            plugin=name,
            file=provider.loaded.file,
            sha256=provider.loaded.sha256,
            contract=list(provider.loaded.contract),
        )
        return self._status(name, plugin)

    async def _few_at_a_time(self, loads: Iterable[Awaitable[None]]) -> None:
        """Load beside one another no more than can begin within the time that each has."""
        turns = asyncio.Semaphore(2 * (os.cpu_count() or 1))

        async def one(load: Awaitable[None]) -> None:
            async with turns:
                await load

        await asyncio.gather(*(one(load) for load in loads))

    async def _restore(self, remembered: RememberedPlugin) -> None:
        name = remembered.name
        spec = PluginSpec(name=name)
        try:
            stored = msgspec.json.decode(remembered.spec, type=RememberedSpec)
            spec = stored.spec()
            self._defaults[name] = stored.defaults
            base = Path(spec.project_base_dir or self._base)
            spec = await asyncio.to_thread(resolved, msgspec.structs.replace(spec, name=name), base)
            await self._load(spec, True, "the hub, at its start")
        except (GaplessError, msgspec.MsgspecError) as error:
            why = error.message if isinstance(error, GaplessError) else str(error)
            traceback = getattr(error, "traceback", "") or None
            _log.error("a remembered plugin cannot be loaded", plugin=name, error=why)
            if name not in self._registry.built_in:
                self._registry.absent[name] = f"it is a plugin that cannot be loaded: {why}"
            self._plugins[name] = _Plugin(
                spec, spec.project_base_dir or "", True, error=why, traceback=traceback
            )

    async def _enter(self, name: str, value: str) -> None:
        module, _, class_name = value.partition(":")
        if name in self._plugins or name in self._registry.names():
            _log.warning(
                "a provider of an installed package is not loaded, for its name is taken",
                provider=name,
                entry_point=value,
            )
            return
        spec = PluginSpec(module=module.strip(), class_=class_name.strip() or "Provider", name=name)
        try:
            spec = await asyncio.to_thread(resolved, spec, self._base)
            await self._load(spec, False, "the hub, at its start")
        except GaplessError as error:
            _log.error(
                "a provider of an installed package cannot be loaded",
                provider=name,
                entry_point=value,
                error=error.message,
            )

    def _launch(self, spec: PluginSpec) -> Launch:
        """Return how the process begins; reads the disk."""
        base = Path(spec.project_base_dir or self._base)
        folders = [str(folder) for name in _FOLDERS if (folder := base / name).is_dir()]
        if spec.file is not None:
            here = str(Path(spec.file).parent)
            folders = [here, *(folder for folder in folders if folder != here)]
        return Launch(
            socket=-1,
            parent=os.getpid(),
            path=[path or str(Path.cwd()) for path in sys.path],
            folders=folders,
            prefix=sys.prefix,
            class_name=spec.class_,
            module=spec.module,
            file=spec.file,
            memory_bytes=self.limits.memory_bytes,
            max_reply_bytes=self.limits.max_reply_bytes,
        )

    def _check_name(self, name: str) -> None:
        checked_alias(name)
        if name in self._registry.built_in:
            raise InvalidQuery(
                f"provider {name!r} is built in and stays as it is; give the plugin another name"
            )

    def _known(self, name: str) -> _Plugin:
        plugin = self._plugins.get(name)
        if plugin is None:
            built_in = " (that provider is built in)" if name in self._registry.built_in else ""
            raise NotFound(
                f"there is no plugin {shortened(name)}{built_in}; "
                f"there are: {', '.join(sorted(self._plugins)) or 'none'}"
            )
        return plugin

    def _status(self, name: str, plugin: _Plugin) -> PluginStatus:
        spec, provider = plugin.spec, plugin.provider
        status = PluginStatus(
            name=name,
            state="failed",
            module=spec.module,
            file=spec.file,
            class_=spec.class_,
            base=plugin.base,
            watch=spec.watch,
            remembered=plugin.remembered,
            loaded_at=plugin.loaded_at,
            last_error=plugin.error,
            traceback=plugin.traceback,
        )
        if provider is None:
            return status
        supervisor = provider.supervisor
        return msgspec.structs.replace(
            status,
            state=supervisor.state.value,
            contract=provider.loaded.contract,
            file=provider.loaded.file,
            pid=supervisor.pid,
            calls=supervisor.calls,
            crashes=supervisor.crashes,
            restarts=supervisor.restarts,
            sha256=provider.loaded.sha256,
            last_error=plugin.error or supervisor.last_error,
        )

    # In the background

    async def _follow(self, name: str, plugin: _Plugin) -> None:
        """Load a plugin again each time one of its files changes, until it is replaced."""
        assert plugin.provider is not None
        try:
            async for _ in changes(plugin.provider.loaded.files):
                # What is loaded takes this task's place, which must not end what it waits for.
                await asyncio.shield(self._background(self._reload_quietly(name)))
        except OSError as error:
            _log.warning("a plugin's files cannot be watched", plugin=name, error=str(error))

    def _tell_of_restart(self, name: str, ready: Ready) -> None:
        """Tell the audit log of code that nobody has asked for: a crash brought it in."""
        details = {"file": ready.file or "", "sha256": ready.sha256 or ""}

        async def record() -> None:
            try:
                await self._record("the hub, after a crash", "plugin loaded", name, details)
            except GaplessError as error:
                _log.error("the audit log could not be told", plugin=name, error=error.message)

        self._background(record())

    async def _reload_quietly(self, name: str) -> None:
        try:
            await self.reload(name, "the hub, for its file changed")
        except GaplessError as error:
            _log.warning("a changed plugin cannot be loaded", plugin=name, error=error.message)

    def _background(self, work: Coroutine[Any, Any, None]) -> asyncio.Task[None]:
        task = asyncio.get_running_loop().create_task(work)
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)
        return task

    def _let_go(self, plugin: _Plugin) -> None:
        """Let the calls of a plugin end, and then its process."""
        if plugin.watcher is not None:
            plugin.watcher.cancel()
        provider = plugin.provider
        if provider is not None:
            task = asyncio.get_running_loop().create_task(provider.drain())
            self._leaving[provider] = task
            task.add_done_callback(lambda _: self._leaving.pop(provider, None))

    @asynccontextmanager
    async def _lock(self, what: str) -> AsyncIterator[None]:
        lock = self._locks.setdefault(what, asyncio.Lock())
        async with lock:
            yield


def _check_defaults(name: str, before: Mapping[str, str], now: Mapping[str, str]) -> None:
    """Raise `InvalidQuery` where a parameter has another default than what is held has."""
    for param, default in now.items():
        if before.get(param, default) != default:
            raise InvalidQuery(
                f"the default of {name}'s parameter {param!r} was {before[param]!r} and is "
                f"{default!r} now, while what is held without it is of {before[param]!r}; keep the "
                "default, or give the plugin another name, or unload it and forget its series "
                f"(DELETE /v1/series/{name}/…)"
            )


def _entry_points() -> list[tuple[str, str]]:
    # It reads the metadata of every installed package, and takes as long to be imported.
    from importlib.metadata import entry_points

    return [(point.name, point.value) for point in entry_points(group=ENTRY_POINTS)]


async def _no_record(actor: str, action: str, target: str, details: Mapping[str, str]) -> None:
    """Leave it to the log."""


async def _sum_of(spec: PluginSpec) -> dict[str, str]:
    """Return the SHA-256 of the file that was to be loaded, where one was named."""

    def read() -> dict[str, str]:
        with suppress(OSError):
            if spec.file is not None:
                return {"sha256": sha256(Path(spec.file).read_bytes()).hexdigest()}
        return {}

    return await asyncio.to_thread(read)


__all__ = [
    "ENTRY_POINTS",
    "PluginNotLoaded",
    "PluginSpec",
    "PluginStatus",
    "Plugins",
]
