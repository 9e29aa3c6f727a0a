"""What runs in a plugin's process: it loads one class and answers for it, one call after another.

Apart from everything of the hub: it is started by itself, in an interpreter of its own, and
imports only what is light. What of it takes plugins' calls has no loop unless the plugin is
asynchronous, so that a method may use `asyncio.run` and be as blocking as it likes.
"""

from __future__ import annotations

import errno
import faulthandler
import os
import socket
import sys
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path
from typing import Any, NoReturn

import msgspec

from gapless.providers.plugins.entities import EntitySink, array_of
from gapless.providers.plugins.importing import (
    CannotLoad,
    Folders,
    find_class,
    load_file,
    load_module,
    sha256_of,
    told,
    traceback_of,
)
from gapless.providers.plugins.messages import (
    Ask,
    Call,
    Cancel,
    Entities,
    Failure,
    Fetch,
    Frames,
    Launch,
    NotLoaded,
    Ready,
    Records,
    Reply,
    Search,
    Stitch,
    frame,
    read_request,
)
from gapless.providers.plugins.records import RecordSink
from gapless.providers.plugins.values import BadReply, instant_of, plain, shown, type_name

METHODS = {"fetch": "ranged", "fetch_entities": "entities", "stitch": "stitch"}
REASONS = frozenset(
    {
        "unknown_ticker",
        "rate_limited",
        "upstream_unavailable",
        "upstream_rejected",
        "out_of_window",
    }
)
AT_ONCE = 16
"""How many calls an asynchronous plugin takes at once."""

_ASYNC_FLAGS = 0x80 | 0x200  # coroutine, asynchronous generator
_LONGEST_REQUEST = 64 << 20
_NICE = 10
_PR_SET_PDEATHSIG, _SIGKILL = 1, 9
_BUFFER_BYTES = 1 << 20


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
        cls = find_class(_module(launch, folders), launch.class_name)
        plugin = Plugin(cls, folders, launch.max_reply_bytes, behind)
    except BaseException as error:
        fail(channel, error, folders)
    if plugin.asynchronous:
        from gapless.providers.plugins.looping import serve_asynchronously

        serve_asynchronously(channel, plugin)
    else:
        serve(channel, plugin)


def restrain(launch: Launch) -> bool:
    """Stand back behind the hub: in priority, in memory, and in how long to live.

    Returns whether the priority is as low as it should be.
    """
    import resource

    with suppress(OSError):
        os.nice(_NICE)
    with suppress(OSError, ValueError):
        resource.setrlimit(resource.RLIMIT_AS, (launch.memory_bytes, launch.memory_bytes))
    with suppress(OSError, ValueError):
        resource.setrlimit(resource.RLIMIT_CORE, (0, 0))
    if not sys.platform.startswith("linux"):
        return True
    with suppress(OSError):
        Path("/proc/self/oom_score_adj").write_text("500", "ascii")
    import ctypes

    with suppress(AttributeError, OSError):
        # A hub that is killed takes its plugins along, even those that spin.
        ctypes.CDLL(None).prctl(_PR_SET_PDEATHSIG, _SIGKILL, 0, 0, 0)
    if os.getppid() != launch.parent:
        os._exit(0)
    return stand_back()


def stand_back() -> bool:
    """Give the process's session a low priority, too; return whether that is done.

    A session of its own is a scheduling group of its own on most Linux systems, within which alone
    a process's priority counts. Only a few such changes a second are allowed, so that it may have
    to be tried again.
    """
    try:
        Path("/proc/self/autogroup").write_text(str(_NICE), "ascii")
    except OSError as error:
        return error.errno != errno.EAGAIN
    return True


class Channel:
    """The socket to the hub, from the plugin's side."""

    def __init__(self, sock: socket.socket) -> None:
        self.socket = sock
        self._frames = Frames(_LONGEST_REQUEST)
        self._owner = os.getpid()
        sock.set_inheritable(False)
        with suppress(OSError):
            sock.setsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF, _BUFFER_BYTES)
        # What a plugin forks must not answer in its name, nor keep the hub from seeing its end.
        os.register_at_fork(after_in_child=sock.close)

    def receive(self, flags: int = 0) -> Call | Cancel | None:
        """Return the next request; `None` at the end.

        With `MSG_DONTWAIT` it raises `BlockingIOError` where there is none yet.
        """
        while True:
            self._stay_single()
            try:
                count = self.socket.recv_into(self._frames.buffer(), 0, flags)
            except ConnectionError:
                return None
            if not count:
                return None
            complete = self._frames.received(count)
            if complete is not None:
                return read_request(complete[0])

    def send(self, message: Reply, *body: Any) -> None:
        """Send a message and the bytes that belong to it, none of them copied."""
        self._stay_single()
        parts = [memoryview(part).cast("B") for part in body]
        try:
            self.socket.sendall(frame(message, sum(part.nbytes for part in parts)))
            for part in parts:
                if part.nbytes:
                    self.socket.sendall(part)
        except ConnectionError:
            # The hub has gone, or let go of this process.
            leave(SystemExit(0))

    def _stay_single(self) -> None:
        if os.getpid() != self._owner:
            # A fork of the plugin's that came back here instead of ending.
            os._exit(0)


class Plugin:
    """The user's class, and how its calls become answers."""

    def __init__(self, cls: type, folders: Folders, most_bytes: int, behind: bool) -> None:
        self.cls = cls
        self.folders = folders
        self.most_bytes = most_bytes
        self.contract = [METHODS[name] for name in METHODS if callable(getattr(cls, name, None))]
        if not {"ranged", "entities"} & set(self.contract):
            public = [name for name in dir(cls) if not name.startswith("_")]
            raise CannotLoad(
                f"class {cls.__name__!r} is no provider: it has neither fetch(ticker, start, end) "
                f"nor fetch_entities(request); it has: {', '.join(public) or 'no methods'}"
            )
        names = (*METHODS, "describe", "name")
        self.asynchronous = any(_is_async(getattr(cls, name, None)) for name in names)
        self.instance: Any = None
        self._behind = behind

    def make(self) -> None:
        """Make the one instance."""
        self.instance = self.cls()

    def said(self, name: str) -> Any:
        """Return what `name()` or `describe()` says, which may have to be awaited."""
        method = getattr(self.instance, name, None)
        return method() if callable(method) else method

    def ready(self, name: Any, description: Any) -> Ready:
        """Return the word that it is loaded; raise `CannotLoad` where it says what it must not."""
        if name is not None and not isinstance(name, str):
            raise CannotLoad(f"name() returned a {type_name(name)}: {shown(name)}; it must be text")
        if description is not None and not isinstance(description, dict):
            raise CannotLoad(f"describe() returned a {type_name(description)}, not a dict")
        try:
            told_plain = plain(description or {}, "describe()")
        except BadReply as error:
            raise CannotLoad(str(error)) from None
        module = sys.modules.get(self.cls.__module__)
        file = getattr(module, "__file__", None)
        return Ready(
            name=name,
            description=told_plain,
            contract=self.contract,
            concurrency=AT_ONCE if self.asynchronous else 1,
            file=file,
            files=self.folders.files(),
            sha256=sha256_of(file),
        )

    def begin(self, call: Call) -> Any:
        """Call the plugin; what comes back may have to be awaited."""
        self._behind = self._behind or stand_back()
        match call:
            case Fetch(_, ticker, start, end, params):
                return self.instance.fetch(ticker, instant_of(start), instant_of(end), **params)
            case Search(_, request) | Ask(_, request):
                return self.instance.fetch_entities(request)
            case Stitch(_, filters):
                return self.instance.stitch(filters)

    def sink(self, call: Call) -> RecordSink | EntitySink:
        """Return what takes the answer of a call."""
        if isinstance(call, Ask):
            return EntitySink(call.now, self.most_bytes)
        sink = RecordSink(call.time_column, call.start, call.end, self.most_bytes)
        return sink if isinstance(call, Fetch) else _Merged(sink, call)

    def answer(self, call: Call, sink: RecordSink | EntitySink) -> tuple[Any, ...]:
        """Return the message that answers a call, and its bytes."""
        if isinstance(sink, EntitySink):
            return Entities(call.id), msgspec.msgpack.encode(sink.entities)
        run = sink.run()
        message = Records(call.id, len(run.text), sink.dropped, sink.doubled, sink.stray)
        return message, run.text, run.index()

    def failure(self, call: Call, error: BaseException) -> Failure:
        """Return the message that a call failed; ends the process where the plugin wants that."""
        if isinstance(error, SystemExit | KeyboardInterrupt):
            leave(error)
        if isinstance(error, BadReply):
            return Failure(call.id, "bad_plugin_reply", str(error))
        reason = getattr(error, "reason", None)
        pause = getattr(error, "retry_after_s", None)
        known = isinstance(reason, str) and reason in REASONS
        return Failure(
            call.id,
            reason=str(reason) if known else "plugin_error",
            message=(str(error) if known else "") or told(error, self.folders),
            retry_after_s=float(pause) if isinstance(pause, int | float) and pause >= 0 else None,
            traceback="" if known else traceback_of(error),
        )


class _Merged(RecordSink):
    """Takes ENTITY dicts and merges the records of their `data` by time."""

    def __init__(self, sink: RecordSink, call: Search | Stitch) -> None:
        super().__init__(call.time_column, call.start, call.end, sink.most_bytes)
        self._whole = isinstance(call, Stitch)
        self._entities = 0

    def take(self, value: Any) -> None:
        """Take a list of entities; of `stitch` a single one."""
        if value is None:
            return
        if isinstance(value, dict) and self._whole:
            self.item(value)
        elif isinstance(value, list | tuple) or hasattr(value, "__next__"):
            for entity in value:
                self.item(entity)
        else:
            expected = "one entity (a dict)" if self._whole else "a list of entities (dicts)"
            raise BadReply(f"a {type_name(value)} is no answer; return {expected}")

    def item(self, value: Any) -> None:
        """Take the records of one entity."""
        where = f"entity {self._entities}"
        self._entities += 1
        if not isinstance(value, dict):
            raise BadReply(f"{where} is a {type_name(value)}, not a dict")
        super().take(array_of(value.get("data"), f"{where}: data"))


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
        channel.send(*_answered(plugin, request, settle))


def _answered(plugin: Plugin, call: Call, settle: _Settler) -> tuple[Any, ...]:
    try:
        sink = plugin.sink(call)
        value = plugin.begin(call)
        if needs_loop(value):
            settle(collected(value, sink))
        else:
            sink.take(value)
        return plugin.answer(call, sink)
    except BaseException as error:
        return (plugin.failure(call, error),)


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


def needs_loop(value: Any) -> bool:
    """Whether a value has to be awaited, at once or piece by piece."""
    return hasattr(value, "__await__") or hasattr(value, "__aiter__")


async def collected(value: Any, sink: RecordSink | EntitySink) -> None:
    """Await what a method returned and put it into the sink."""
    if hasattr(value, "__await__"):
        value = await value
    if hasattr(value, "__aiter__"):
        async for item in value:
            sink.item(item)
    else:
        sink.take(value)


def fail(channel: Channel, error: BaseException, folders: Folders) -> NoReturn:
    """Tell the hub why the plugin cannot be loaded, and end."""
    if isinstance(error, CannotLoad):
        channel.send(NotLoaded(str(error)))
    else:
        channel.send(NotLoaded(told(error, folders), traceback_of(error)))
    leave(SystemExit(1))


def leave(error: BaseException) -> NoReturn:
    """End the process at once, as the plugin wants it, with the output that is there yet."""
    code = error.code if isinstance(error, SystemExit) else 130
    if code is not None and not isinstance(code, int):
        with suppress(Exception):
            sys.stderr.write(f"{code}\n")
        code = 1
    for stream in (sys.stdout, sys.stderr):
        with suppress(Exception):
            stream.flush()
    os._exit((code or 0) & 0xFF)


def _module(launch: Launch, folders: Folders) -> Any:
    if launch.file is not None:
        return load_file(launch.file)
    assert launch.module is not None
    return load_module(launch.module, folders)


def _is_async(method: Any) -> bool:
    code = getattr(method, "__code__", None)
    return code is not None and bool(code.co_flags & _ASYNC_FLAGS)
