"""How an asynchronous plugin is served: many calls at once on a loop in its process.

Apart from the runner, because importing asyncio takes as long as everything else there.
"""

from __future__ import annotations

import asyncio
import socket
from typing import Any

from gapless.providers.plugins.calls import Plugin, collected
from gapless.providers.plugins.channel import Channel, leave
from gapless.providers.plugins.messages import Call, Cancel, Failure
from gapless.providers.plugins.runner import fail


def serve_asynchronously(channel: Channel, plugin: Plugin) -> None:
    """Answer calls beside one another until the hub closes the socket."""
    asyncio.run(_Server(channel, plugin).run())


class _Server:
    """The calls under way. Everything is made on the loop: sessions and locks belong to one."""

    def __init__(self, channel: Channel, plugin: Plugin) -> None:
        self._channel = channel
        self._plugin = plugin
        self._tasks: dict[int, asyncio.Task[None]] = {}
        self._given_up: set[int] = set()
        self._over = asyncio.Event()

    async def run(self) -> None:
        plugin = self._plugin
        try:
            plugin.make()
            said = [await _awaited(plugin.said(name)) for name in ("name", "describe")]
            ready = plugin.ready(*said)
        except BaseException as error:
            fail(self._channel, error, plugin.folders)
        self._channel.send(ready)
        asyncio.get_running_loop().add_reader(self._channel.socket.fileno(), self._receive)
        await self._over.wait()
        # Nobody waits for what is still under way, and it need not be asked to end.
        leave(SystemExit(0))

    def _receive(self) -> None:
        try:
            request = self._channel.receive(socket.MSG_DONTWAIT)
        except BlockingIOError:
            return
        if request is None:
            self._over.set()
        elif isinstance(request, Cancel):
            task = self._tasks.get(request.id)
            if task is not None:
                self._given_up.add(request.id)
                task.cancel()
        else:
            task = asyncio.get_running_loop().create_task(self._answer(request))
            self._tasks[request.id] = task

    async def _answer(self, call: Call) -> None:
        plugin = self._plugin
        reply: tuple[Any, ...]
        sink = None
        try:
            sink = plugin.sink(call, self._channel)
            await collected(plugin.begin(call), sink)
            reply = plugin.answer(call, sink)
        except BaseException as error:
            if isinstance(error, asyncio.CancelledError) and call.id in self._given_up:
                reply = (Failure(call.id, "plugin_timeout", "it was cancelled"),)
            else:
                reply = (plugin.failure(call, error, sink),)
        finally:
            del self._tasks[call.id]
            self._given_up.discard(call.id)
        self._channel.send(*reply)


async def _awaited(value: Any) -> Any:
    return await value if hasattr(value, "__await__") else value
