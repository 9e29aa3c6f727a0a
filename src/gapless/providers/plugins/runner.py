"""What runs in a plugin's process: it loads one class and answers for it, one call after another.

Apart from everything of the hub: it is started by itself, in an interpreter of its own, and
imports only what is light. What of it takes plugins' calls has no loop unless the plugin is
asynchronous, so that a method may use `asyncio.run` and be as blocking as it likes.
"""

from __future__ import annotations

import faulthandler
import socket
import sys
from collections.abc import Callable
from types import ModuleType
from typing import Any, NoReturn

import msgspec

from gapless.providers.plugins.calls import Plugin, collected, needs_loop
from gapless.providers.plugins.channel import Channel, leave
from gapless.providers.plugins.importing import (
    CannotLoad,
    Folders,
    find_class,
    load_file,
    load_module,
    told,
    traceback_of,
)
from gapless.providers.plugins.messages import Call, Cancel, Launch, NotLoaded
from gapless.providers.plugins.restraint import restrain
from gapless.providers.plugins.values import encodable


def main(argument: str) -> None:
    """Load the plugin that `argument` (a `Launch` as JSON) names, and serve it to the end."""
    launch = msgspec.json.decode(argument, type=Launch)
    behind = restrain(launch)
    # Should it die of more than an exception, its last words are where.
    faulthandler.enable()
    channel = Channel(socket.socket(fileno=launch.socket))
    sys.argv[:] = [launch.file or launch.module or ""]
    sys.prefix = sys.exec_prefix = launch.prefix
    folders = Folders(launch.folders, launch.path)
    folders.install()
    for stream in (sys.stdout, sys.stderr):
        # Lines go out as they are printed, whatever the locale says of them.
        stream.reconfigure(  # type: ignore[union-attr]  # they are not replaced yet
            encoding="utf-8", errors="backslashreplace", line_buffering=True
        )
    try:
        module = _module(launch, folders)
        cls = find_class(module, launch.class_name)
        plugin = Plugin(module, cls, folders, launch.max_reply_bytes, behind)
    except BaseException as error:
        fail(channel, error, folders)
    if plugin.asynchronous:
        from gapless.providers.plugins.looping import serve_asynchronously

        serve_asynchronously(channel, plugin)
    else:
        serve(channel, plugin)


def serve(channel: Channel, plugin: Plugin) -> None:
    """Answer calls one after another until the hub closes the socket."""
    settle = _Settler()
    try:
        plugin.make()
        ready = plugin.ready(settle(plugin.said("name")), settle(plugin.said("describe")))
    except BaseException as error:
        fail(channel, error, plugin.folders)
    channel.send(ready)
    while True:
        request = channel.receive()
        if request is None:
            return
        if isinstance(request, Cancel):
            # The call it is about has been answered, for only one is worked on.
            continue
        channel.send(*_answered(channel, plugin, request, settle))


def _answered(channel: Channel, plugin: Plugin, call: Call, settle: _Settler) -> tuple[Any, ...]:
    sink = None
    try:
        sink = plugin.sink(call, channel)
        value = plugin.begin(call)
        if needs_loop(value):
            settle(collected(value, sink))
        else:
            sink.take(value)
        return plugin.answer(call, sink)
    except BaseException as error:
        return (plugin.failure(call, error, sink),)


class _Settler:
    """Awaits what a plugin without asynchronous methods may return all the same."""

    def __init__(self) -> None:
        self._run: Callable[[Any], Any] | None = None

    def __call__(self, value: Any) -> Any:
        """Return a value, awaited if it has to be."""
        if not hasattr(value, "__await__"):
            return value
        if self._run is None:
            import asyncio

            self._run = asyncio.Runner().run
        return self._run(value)


def fail(channel: Channel, error: BaseException, folders: Folders) -> NoReturn:
    """Tell the hub why the plugin cannot be loaded, and end."""
    if isinstance(error, CannotLoad):
        channel.send(NotLoaded(encodable(str(error))))
    else:
        channel.send(NotLoaded(encodable(told(error, folders)), encodable(traceback_of(error))))
    leave(SystemExit(1))


def _module(launch: Launch, folders: Folders) -> ModuleType:
    if launch.file is not None:
        return load_file(launch.file)
    assert launch.module is not None
    return load_module(launch.module, folders)
