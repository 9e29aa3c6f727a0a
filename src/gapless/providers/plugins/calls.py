"""The user's class, and how a call of it becomes an answer, whatever it returns or raises.

Apart from how calls come in, one by one or many at once. Runs in the plugin's process.
"""

from __future__ import annotations

import inspect
from types import ModuleType
from typing import Any

import msgspec

from gapless.domain.blocks import Run
from gapless.domain.intervals import Interval
from gapless.providers.plugins.channel import Channel, leave
from gapless.providers.plugins.entities import EntitySink, array_of
from gapless.providers.plugins.importing import (
    CannotLoad,
    Folders,
    sha256_of,
    text_of,
    told,
    traceback_of,
)
from gapless.providers.plugins.messages import (
    Ask,
    Call,
    Entities,
    Failure,
    Fetch,
    Part,
    Ready,
    Records,
    Search,
    Stitch,
)
from gapless.providers.plugins.records import RecordSink
from gapless.providers.plugins.restraint import stand_back
from gapless.providers.plugins.values import (
    BadReply,
    OutOfOrder,
    encodable,
    instant_of,
    plain,
    shown,
    type_name,
)

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
TAKEN = {
    "fetch": ("ticker", "start", "end"),
    "fetch_entities": ("request",),
    "stitch": ("filters",),
}
"""What each method is called with, parameters of the provider aside."""
AT_ONCE = 16
"""How many calls an asynchronous plugin takes at once."""

_ASYNC_FLAGS = 0x80 | 0x200  # coroutine, asynchronous generator
_LONGEST_PAUSE_S = 86_400.0


class Plugin:
    """The user's class, and how its calls become answers."""

    def __init__(
        self, module: ModuleType, cls: type, folders: Folders, most_bytes: int, behind: bool
    ) -> None:
        self.module = module
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
        answering = any(_is_async(getattr(cls, name, None)) for name in METHODS)
        self.asynchronous = answering or any(
            _is_async(getattr(cls, name, None)) for name in ("describe", "name")
        )
        self.concurrency = AT_ONCE if answering else 1
        self.instance: Any = None
        self._behind = behind

    def make(self) -> None:
        """Make the one instance."""
        self.instance = self.cls()
        for name in METHODS:
            _check_takes(self.instance, name)

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
        try:
            msgspec.msgpack.encode((name, told_plain))
        except (OverflowError, UnicodeError, ValueError) as error:
            raise CannotLoad(f"what name() and describe() say cannot be sent: {error}") from None
        return Ready(
            name=name,
            description=told_plain,
            contract=self.contract,
            concurrency=self.concurrency,
            file=getattr(self.module, "__file__", None),
            files=self.folders.files(),
            sha256=sha256_of(self.module),
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

    def sink(self, call: Call, channel: Channel) -> RecordSink | EntitySink:
        """Return what takes the answer of a call; parts of it go by the channel."""
        if isinstance(call, Ask):
            return EntitySink(call.now, self.most_bytes)
        if not isinstance(call, Fetch):
            return _Merged(call, self.most_bytes)

        def hand_on(run: Run, part: Interval) -> None:
            channel.send(Part(call.id, *part, len(run.text)), run.text, run.index())

        taker = hand_on if call.in_parts else None
        return RecordSink(call.time_column, call.start, call.end, self.most_bytes, taker)

    def answer(self, call: Call, sink: RecordSink | EntitySink) -> tuple[Any, ...]:
        """Return the message that answers a call, and its bytes."""
        if isinstance(sink, EntitySink):
            return Entities(call.id), msgspec.msgpack.encode(sink.entities)
        run = sink.run()
        message = Records(call.id, len(run.text), sink.dropped, sink.doubled, sink.stray)
        return message, run.text, run.index()

    def failure(
        self, call: Call, error: BaseException, sink: RecordSink | EntitySink | None
    ) -> Failure:
        """Return the message that a call failed; ends the process where the plugin wants that.

        What the sink has by then goes before it, where more of it went.
        """
        if isinstance(error, SystemExit | KeyboardInterrupt):
            leave(error)
        if isinstance(error, BadReply):
            unordered = isinstance(error, OutOfOrder)
            message = encodable(str(error))
            return Failure(call.id, "bad_plugin_reply", message, out_of_order=unordered)
        if isinstance(sink, RecordSink):
            sink.rescue()
        reason, pause = _said_by(error)
        known = reason in REASONS
        return Failure(
            call.id,
            reason=reason if known else "plugin_error",
            message=encodable((text_of(error) if known else "") or told(error, self.folders)),
            retry_after_s=pause,
            traceback="" if known else encodable(traceback_of(error)),
        )


def _check_takes(instance: Any, name: str) -> None:
    """Raise `CannotLoad` for a method that cannot be called with what it will be called with."""
    method = getattr(instance, name, None)
    if not callable(method):
        return
    try:
        signature = inspect.signature(method)
    except (TypeError, ValueError):
        # Made in a way that does not tell; a call will show.
        return
    taken = TAKEN[name]
    try:
        signature.bind_partial(*taken)
    except TypeError:
        raise CannotLoad(
            f"{name}{str(signature)[:100]} cannot be called as {name}({', '.join(taken)})"
        ) from None


def _said_by(error: BaseException) -> tuple[str, float | None]:
    """Return the reason that an exception carries, and how long to wait."""
    try:
        reason = getattr(error, "reason", None)
        pause = getattr(error, "retry_after_s", None)
    except Exception:
        return "", None
    waits = isinstance(pause, int | float) and pause >= 0
    return (
        reason if isinstance(reason, str) else "",
        min(float(pause), _LONGEST_PAUSE_S) if waits and pause is not None else None,
    )


class _Merged(RecordSink):
    """Takes ENTITY dicts and merges the records of their `data` by time."""

    def __init__(self, call: Search | Stitch, most_bytes: int) -> None:
        super().__init__(call.time_column, call.start, call.end, most_bytes)
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
            if isinstance(sink, RecordSink):
                sink.hand_on()
    else:
        sink.take(value)


def _is_async(method: Any) -> bool:
    code = getattr(method, "__code__", None)
    return code is not None and bool(code.co_flags & _ASYNC_FLAGS)
