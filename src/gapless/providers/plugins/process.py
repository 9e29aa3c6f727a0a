"""One process of a plugin, from the hub's side: started, spoken to, ended for certain.

Apart from the supervisor, which decides what follows from its end.
"""

from __future__ import annotations

import asyncio
import os
import signal
import socket
import subprocess
import sys
from collections.abc import Callable, Coroutine
from contextlib import suppress
from typing import Any, cast

import msgspec
import structlog

from gapless.errors import PluginNotLoaded
from gapless.providers.plugins.messages import (
    Answer,
    BadPacket,
    Launch,
    NotLoaded,
    Packets,
    Part,
    Ready,
    Request,
    packet,
    read_reply,
)
from gapless.providers.plugins.output import Lines
from gapless.providers.plugins.restraint import stand_back
from gapless.texts import printable

_log = structlog.get_logger("gapless.plugins")

# The plugin's own import path is set before anything of ours is imported.
_BOOTSTRAP = (
    "import json, sys; sys.path[:] = json.loads(sys.argv[1])['path']; "
    "from gapless.providers.plugins.runner import main; main(sys.argv[1])"
)
_GRACE_S = 0.5
_LAST_WORDS_S = 0.2
_BUFFER_BYTES = 1 << 20


class PluginProcess:
    """A process that loads a plugin and answers for it.

    `received` is called with each answer and its bytes. `ended` tells, once it is over, how that
    came about.
    """

    def __init__(
        self, name: str, launch: Launch, received: Callable[[Part | Answer, bytearray], None]
    ) -> None:
        self.name = name
        self.launch = launch
        self.pid = 0
        self.received = received
        loop = asyncio.get_running_loop()
        self.ended: asyncio.Future[str] = loop.create_future()
        self._ready: asyncio.Future[Ready] = loop.create_future()
        self._exited = asyncio.Event()
        self._unlinked = asyncio.Event()
        self._silent = asyncio.Event()
        self._why: str | None = None
        self._link: _Link | None = None
        self._child: subprocess.Popen[bytes] | None = None
        self._pipes: list[asyncio.ReadTransport] = []
        self._printed = _Printed(self)
        self._watch: asyncio.Task[None] | None = None

    async def start(self, load_s: float) -> Ready:
        """Start it and wait until the plugin is loaded; raise `PluginNotLoaded` if it is not.

        Whatever goes wrong, no process is left over.
        """
        ours: socket.socket | None = None
        try:
            ours, theirs = socket.socketpair()
            with theirs:
                await self._spawn(theirs)
            await self._connect(ours)
            async with asyncio.timeout(load_s):
                await _first(_is_done(self._ready), _is_done(self.ended))
            if not self._ready.done():
                raise PluginNotLoaded(
                    f"the plugin's process {self.ended.result()} before the plugin was loaded; "
                    "the log has what it printed"
                )
            return self._ready.result()
        except BaseException as error:
            if self._link is None:
                self._unlinked.set()
                if ours is not None:
                    ours.close()
            if not isinstance(error, PluginNotLoaded):
                self.kill("was killed")
            await self.close()
            if isinstance(error, TimeoutError):
                raise PluginNotLoaded(
                    f"the plugin was not loaded within {load_s:g} s (plugins.load_s); "
                    "it may do less when it is imported and made"
                ) from None
            if isinstance(error, OSError | ValueError):
                # Of the system, or a path that is no argument.
                raise PluginNotLoaded(
                    f"no process of {sys.executable} could be started: {error}"
                ) from error
            raise

    async def _spawn(self, theirs: socket.socket) -> None:
        with suppress(OSError):
            theirs.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, _BUFFER_BYTES)
        launch = msgspec.structs.replace(self.launch, socket=theirs.fileno())
        starting = asyncio.ensure_future(self._begin(launch))
        try:
            await asyncio.shield(starting)
        except asyncio.CancelledError:
            # It may be there all the same, and then it has to be ended, and its pipes closed.
            await starting
            raise

    async def _begin(self, launch: Launch) -> None:
        # In a thread, because the loop's own way to start a process copies the hub's page tables
        # first, and holds everybody up for 16 ms at 300 MB; this one does not.
        child = await asyncio.to_thread(_started, launch, launch.socket)
        self._have(child)
        loop = asyncio.get_running_loop()
        for fd, pipe in ((1, child.stdout), (2, child.stderr)):
            made = lambda fd=fd: _Pipe(self._printed, fd)  # noqa: E731  # a factory each
            transport, _ = await loop.connect_read_pipe(made, pipe)
            self._pipes.append(transport)

    def _have(self, child: subprocess.Popen[bytes]) -> None:
        self._child, self.pid = child, child.pid
        self._watch = asyncio.get_running_loop().create_task(
            self._see_it_end(), name=f"plugin {self.name}"
        )
        watch_exit(child, self.exited)

    async def _connect(self, ours: socket.socket) -> None:
        ours.setblocking(False)
        with suppress(OSError):
            ours.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, _BUFFER_BYTES)
        loop = asyncio.get_running_loop()
        _, self._link = await loop.create_unix_connection(lambda: _Link(self), sock=ours)

    def send(self, request: Request) -> None:
        """Ask something; what is sent to a process that is over is lost, as `ended` tells."""
        if self._link is not None:
            self._link.write(packet(request))

    def pause(self) -> None:
        """Read nothing more of what it sends for now."""
        if self._link is not None:
            self._link.pause()

    def resume(self) -> None:
        """Read on."""
        if self._link is not None:
            self._link.resume()

    def kill(self, why: str) -> None:
        """End it and all that it has started, at once."""
        self._why = self._why or why
        self._signal(signal.SIGKILL)

    async def close(self) -> None:
        """Let it end by itself, or make it; return when it is gone."""
        if self._child is None:
            return
        if self._link is not None:
            self._link.close()
        await asyncio.wait({self.ended})

    # What its parts tell

    def heard(self, data: bytearray, body: bytearray) -> None:
        """Take a packet."""
        reply = read_reply(data)
        if isinstance(reply, Ready):
            if not self._ready.done():
                self._ready.set_result(reply)
        elif isinstance(reply, NotLoaded):
            if not self._ready.done():
                error = PluginNotLoaded(reply.message)
                error.traceback = reply.traceback
                self._ready.set_exception(error)
                # It may be over before anybody looks.
                self._ready.exception()
        else:
            self.received(reply, body)

    def misled(self, error: BadPacket) -> None:
        """Take note that what it sends makes no sense: nothing more can be read from it."""
        self.kill(f"sent no answer but {error}")

    def unlinked(self) -> None:
        """Take note that the socket is closed on its side."""
        self._unlinked.set()

    def exited(self) -> None:
        """Take note that the process is over."""
        self._exited.set()

    def silent(self) -> None:
        """Take note that nothing more will be printed."""
        self._silent.set()

    async def _see_it_end(self) -> None:
        assert self._child is not None
        await _first(self._exited.wait(), self._unlinked.wait())
        for number in (None, signal.SIGTERM):
            if number is not None:
                self._signal(number)
            if await _within(_GRACE_S, self._exited):
                break
        # What it has started goes with it.
        self._signal(signal.SIGKILL)
        await self._exited.wait()
        # Answers may still be on their way, unless somebody else holds the other end.
        await _within(_GRACE_S, self._unlinked)
        if self._link is not None:
            self._link.abort()
        await _within(_LAST_WORDS_S, self._silent)
        for pipe in self._pipes:
            pipe.close()
        self.ended.set_result(self._why or _how(self._child.returncode))

    def _signal(self, number: int) -> None:
        if self.pid and not self.ended.done():
            with suppress(ProcessLookupError, PermissionError):
                os.killpg(self.pid, number)


class _Link(asyncio.BufferedProtocol):
    """The socket, read straight into the packets."""

    def __init__(self, process: PluginProcess) -> None:
        self._process = process
        self._packets = Packets(process.launch.max_reply_bytes + (1 << 20))
        self._transport: asyncio.Transport | None = None

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        # uvloop's are asyncio's in all but their ancestors.
        self._transport = cast("asyncio.Transport", transport)

    def get_buffer(self, sizehint: int) -> memoryview:
        return self._packets.buffer()

    def buffer_updated(self, nbytes: int) -> None:
        try:
            complete = self._packets.received(nbytes)
            if complete is not None:
                self._process.heard(*complete)
        except BadPacket as error:
            self._process.misled(error)
            self.abort()

    def connection_lost(self, exc: Exception | None) -> None:
        self._transport = None
        self._process.unlinked()

    def write(self, data: bytes) -> None:
        if self._transport is not None and not self._transport.is_closing():
            self._transport.write(data)

    def pause(self) -> None:
        if self._transport is not None:
            self._transport.pause_reading()

    def resume(self) -> None:
        if self._transport is not None:
            self._transport.resume_reading()

    def close(self) -> None:
        # What was not read by now never will be.
        self.abort()

    def abort(self) -> None:
        if self._transport is not None:
            self._transport.abort()


class _Printed:
    """What it prints on both streams, line by line into the log."""

    def __init__(self, process: PluginProcess) -> None:
        self._process = process
        self._streams = {1: Lines(), 2: Lines()}
        self._open = {1, 2}
        self._timer: asyncio.TimerHandle | None = None

    def took(self, fd: int, data: bytes) -> None:
        """Log the lines that are whole."""
        loop = asyncio.get_running_loop()
        lines = self._streams[fd]
        for line in lines.feed(data, loop.time()):
            self._log(fd, line)
        if lines.dropped and self._timer is None:
            self._timer = loop.call_later(1.0, self._tell_dropped)

    def ended(self, fd: int) -> None:
        """Log what is left of a stream; tell the process when both have ended."""
        for line in self._streams[fd].end():
            self._log(fd, line)
        self._open.discard(fd)
        if not self._open:
            if self._timer is not None:
                self._timer.cancel()
            self._tell_dropped()
            self._process.silent()

    def _log(self, fd: int, line: str) -> None:
        stream = "stdout" if fd == 1 else "stderr"
        _log.info("plugin printed", plugin=self._process.name, stream=stream, line=printable(line))

    def _tell_dropped(self) -> None:
        self._timer = None
        for lines in self._streams.values():
            dropped = lines.take_dropped()
            if dropped:
                _log.warning(
                    "a plugin printed too much", plugin=self._process.name, lines_dropped=dropped
                )


class _Pipe(asyncio.Protocol):
    """One of its streams."""

    def __init__(self, printed: _Printed, fd: int) -> None:
        self._printed = printed
        self._fd = fd

    def data_received(self, data: bytes) -> None:
        self._printed.took(self._fd, data)

    def connection_lost(self, exc: Exception | None) -> None:
        self._printed.ended(self._fd)


def _started(launch: Launch, socket_number: int) -> subprocess.Popen[bytes]:
    """Start the process, and let it stand back from its first moment on; it blocks."""
    child = subprocess.Popen(
        [
            *(sys.executable, "-I", "-S", "-c", _BOOTSTRAP),
            msgspec.json.encode(launch).decode(),
            *launch.path,
        ],
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        bufsize=0,
        pass_fds=(socket_number,),
        start_new_session=True,
    )
    stand_back(child.pid)
    return child


def watch_exit(child: subprocess.Popen[bytes], exited: Callable[[], None]) -> None:
    """Call `exited` once a child is over; its `returncode` is known then."""
    loop = asyncio.get_running_loop()
    try:
        number = os.pidfd_open(child.pid)
    except (AttributeError, OSError):
        # Not Linux, or an old one: a thread waits.
        waiting = loop.run_in_executor(None, child.wait)
        waiting.add_done_callback(lambda _: exited())
        return

    def over() -> None:
        loop.remove_reader(number)
        os.close(number)
        child.wait()
        exited()

    loop.add_reader(number, over)


def _how(code: int | None) -> str:
    if code is not None and code < 0:
        try:
            return f"was ended by {signal.Signals(-code).name}"
        except ValueError:
            return f"was ended by signal {-code}"
    return f"exited with status {code}"


async def _first(*parts: Coroutine[Any, Any, object]) -> None:
    """Return when one of them is done."""
    tasks = [asyncio.ensure_future(part) for part in parts]
    try:
        await asyncio.wait(tasks, return_when=asyncio.FIRST_COMPLETED)
    finally:
        for task in tasks:
            task.cancel()


async def _is_done(future: asyncio.Future[Any]) -> None:
    await asyncio.wait({future})


async def _within(seconds: float, event: asyncio.Event) -> bool:
    """Whether the event comes within that time."""
    try:
        async with asyncio.timeout(seconds):
            await event.wait()
    except TimeoutError:
        return False
    return True
