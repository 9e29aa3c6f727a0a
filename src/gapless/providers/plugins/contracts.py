"""A plugin as a provider: the two contracts of Python classes, put into the hub's own.

A class with `fetch` serves ranges; one with `fetch_entities` answers requests with entities, of
which ranges are merged; `stitch` answers whole ranges. See docs/providers.md.
"""

from __future__ import annotations

import asyncio
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import msgspec
import structlog

from gapless.clock import Clock
from gapless.config.settings import PluginSettings
from gapless.domain.blocks import Run
from gapless.domain.intervals import Interval
from gapless.domain.series import SeriesKey
from gapless.errors import (
    BadPluginReply,
    InvalidQuery,
    PluginCrashed,
    PluginFailed,
    PluginNotLoaded,
)
from gapless.instants import format_instant
from gapless.protocol.messages import (
    PROVIDER_REASONS,
    DateRange,
    Entity,
    Filter,
    Param,
    Request,
    SearchEntities,
    Ticker,
    filter_to_wire,
    request_to_wire,
)
from gapless.providers.base import (
    DueMoments,
    Fetched,
    Pace,
    ProviderInfo,
    Provisional,
    Take,
    Traits,
    canonical_params,
)
from gapless.providers.plugins.description import BadDescription, Description, parse_description
from gapless.providers.plugins.messages import (
    Answer,
    Ask,
    Call,
    Entities,
    Failure,
    Fetch,
    Launch,
    Ready,
    Records,
    Search,
    Stitch,
)
from gapless.providers.plugins.parts import Parts
from gapless.providers.plugins.supervisor import PluginState, Supervisor
from gapless.texts import printable

_log = structlog.get_logger("gapless.plugins")

# So many bars of a plugin are fetched again at once (stitching rule 4).
_CHECK_BARS = 1_000
_ALIAS = re.compile(r"[a-z][a-z0-9_-]{0,39}")
# Larger replies are checked in a thread: a megabyte is done within a millisecond.
_LARGE_BYTES = 4 << 20
# The plugin's process cuts off more than this; it may not be itself any more.
_LONGEST_MESSAGE, _LONGEST_TRACEBACK = 4_000, 1 << 20


class _EntityRow(msgspec.Struct):
    """An entity as the plugin's process sends it, checked there key by key."""

    id: str
    tags: str
    data: str
    etag: str
    fetched_at: str
    refresh_after: str
    updated_at: str
    state: str
    last_error: str


_entity_rows = msgspec.msgpack.Decoder(list[_EntityRow])


@dataclass(frozen=True, slots=True)
class Loaded:
    """What is known of a plugin's code: its file, the SHA-256 of that, all files it consists of.

    `files` has modification time, size and inode of each as it was read.
    """

    contract: tuple[str, ...]
    file: str | None
    sha256: str | None
    files: Mapping[str, tuple[int, ...]]


class PluginProvider:
    """A loaded plugin. `load` makes one; `info.name` is its alias."""

    def __init__(self, supervisor: Supervisor, ready: Ready, info: ProviderInfo) -> None:
        self.supervisor = supervisor
        self.successor: PluginProvider | None = None
        self._info = info
        self._said = parse_description(ready.description)
        # Its iterators have yielded records in the order of time so far.
        self._ascends = True

    @property
    def loaded(self) -> Loaded:
        """What runs now: a process that was started anew has the files as they were then."""
        ready = self.supervisor.ready
        return Loaded(tuple(ready.contract), ready.file, ready.sha256, ready.files)

    @classmethod
    async def load(
        cls, launch: Launch, alias: str | None, limits: PluginSettings, clock: Clock
    ) -> PluginProvider:
        """Start a plugin's process and return the provider.

        Raises `PluginNotLoaded`, and `InvalidQuery` for a name that none can have; nothing is left
        over then.
        """
        supervisor = Supervisor(alias or launch.module or launch.file or "", launch, limits, clock)
        ready = await supervisor.start()
        try:
            said = parse_description(ready.description)
            name = checked_alias(alias or ready.name or said.name)
            supervisor.rename(name)
            if said.deadline_s is not None:
                supervisor.deadline_s = said.deadline_s
            return cls(supervisor, ready, _info(name, ready, said, supervisor.patience_s))
        except BadDescription as error:
            await supervisor.close()
            raise PluginNotLoaded(str(error)) from None
        except BaseException:
            await supervisor.close()
            raise

    @property
    def info(self) -> ProviderInfo:
        """What it declares."""
        return self._info

    def key(self, ticker: str, params: Mapping[str, str]) -> SeriesKey:
        """Return the key; tickers are stripped of spaces and keep their case."""
        canonical = ticker.strip()
        if not canonical or not canonical.isprintable():
            raise InvalidQuery(f"{self._info.name}: {ticker!r} is no ticker")
        return SeriesKey.of(self._info.name, canonical, canonical_params(self._info, params))

    def traits(self, key: SeriesKey) -> Traits:
        """Return what it said; a whole range is never asked in parts."""
        said = self._said
        span = None if self._info.whole else said.max_span
        return Traits(said.bar, look_back=said.look_back, max_span=span, check_bars=_CHECK_BARS)

    async def fetch(
        self, key: SeriesKey, interval: Interval, now_ms: int, meta: Mapping[str, Any]
    ) -> Fetched:
        """Ask the plugin once for `interval`; see `Provider.fetch` for what is raised."""
        if self.supervisor.state is PluginState.CLOSED and self.successor is not None:
            return await self.successor.fetch(key, interval, now_ms, meta)
        what = f"{key.ticker} from {_spelled(interval)}"
        answer, body = await self.supervisor.call(lambda id: self._range(id, key, interval), what)
        return await self._fetched(answer, body, interval, now_ms, what)

    async def fetch_in_parts(
        self, key: SeriesKey, interval: Interval, now_ms: int, take: Take
    ) -> Fetched:
        """Ask the plugin once for `interval`; what its iterator yields is handed on as it comes.

        One that goes back in time is asked once more, and from then on answers as a whole: of what
        was handed on before that it cannot be known whether it was all.
        """
        if self.supervisor.state is PluginState.CLOSED and self.successor is not None:
            return await self.successor.fetch_in_parts(key, interval, now_ms, take)
        what = f"{key.ticker} from {_spelled(interval)}"
        if not self._ascends:
            return await self.fetch(key, interval, now_ms, {})
        parts, start, first = Parts(), interval.start, interval.start
        call = asyncio.ensure_future(
            self.supervisor.call(
                lambda id: self._range(id, key, interval, in_parts=True), what, parts
            )
        )
        try:
            while (found := await parts.next(call)) is not None:
                part, body = found
                follows = part.start == start or start == interval.start < part.start
                if not (follows and part.start < part.until <= interval.end):
                    raise BadPluginReply(f"{self._info.name} returned parts that do not ascend")
                first = part.start if start == interval.start else first
                run = await self._read(part.text_bytes, body)
                covered = Interval(part.start, part.until)
                told = Fetched(provisional=self._provisional(covered, now_ms), ready=run)
                await take(covered, told)
                start = part.until
            answer, body = await call
        finally:
            call.cancel()
            parts.close()
        if isinstance(answer, Failure) and answer.out_of_order:
            self._ascends = False
            _log.warning(
                "a plugin's iterator goes back in time", plugin=self._info.name, asked=what
            )
            await take(Interval(first, start), None)
            return await self.fetch(key, interval, now_ms, {})
        if isinstance(answer, Records) and first > interval.start:
            nothing = Interval(interval.start, first)
            await take(nothing, Fetched(provisional=self._provisional(nothing, now_ms)))
        return await self._fetched(answer, body, Interval(start, interval.end), now_ms, what)

    async def _fetched(
        self, answer: Answer, body: bytearray, interval: Interval, now_ms: int, what: str
    ) -> Fetched:
        """Return what the plugin has answered for an interval."""
        if not isinstance(answer, Records):
            raise self._failed(answer, what)
        run = await self._read(answer.text_bytes, body)
        if answer.dropped or answer.doubled:
            _log.warning(
                "a plugin returned records that are not kept",
                plugin=self._info.name,
                asked=what,
                outside_of_range=answer.dropped,
                such_as=None if answer.stray is None else _instant_or_number(answer.stray),
                of_one_time=answer.doubled,
            )
        return Fetched(provisional=self._provisional(interval, now_ms), ready=run)

    async def entities(self, request: Request, now_ms: int) -> Sequence[Entity]:
        """Hand the plugin a request as it is; return what it answers with."""
        if self.supervisor.state is PluginState.CLOSED and self.successor is not None:
            return await self.successor.entities(request, now_ms)
        wire = request_to_wire(request)
        what = next(iter(wire))
        answer, body = await self.supervisor.call(lambda id: Ask(id, wire, now_ms), what)
        if not isinstance(answer, Entities):
            raise self._failed(answer, what)
        if len(body) > _LARGE_BYTES:
            return await asyncio.to_thread(self._entities, body)
        return self._entities(body)

    def due_moments(self, meta: Mapping[str, Any], now_ms: int) -> DueMoments:
        """Return every 24 hours: nothing tells when its sessions begin."""
        return DueMoments.daily(now_ms)

    async def drain(self) -> None:
        """Let calls under way end, then let go of the process."""
        await self.supervisor.drain()

    async def aclose(self) -> None:
        """End the process."""
        await self.supervisor.close()

    def _range(
        self, id: int, key: SeriesKey, interval: Interval, *, in_parts: bool = False
    ) -> Call:
        """Return the call that asks for a range by the contract that the class fulfils."""
        start, end = interval
        time_column = self._said.time_column
        contract = self.loaded.contract
        filters: list[Filter] = [
            Ticker(key.ticker),
            DateRange(format_instant(start), format_instant(end)),
            *(Param(name, value) for name, value in key.params),
        ]
        if self._info.whole:
            wire = [filter_to_wire(item) for item in filters]
            return Stitch(id, wire, start, end, time_column)
        if "ranged" in contract:
            params = {**self._said.defaults(), **dict(key.params)}
            return Fetch(id, key.ticker, start, end, params, time_column, in_parts)
        request = request_to_wire(SearchEntities(tuple(filters), None))
        return Search(id, request, start, end, time_column)

    async def _read(self, text_bytes: int, body: bytearray) -> Run:
        try:
            if len(body) > _LARGE_BYTES:
                return await asyncio.to_thread(_run, text_bytes, body)
            return _run(text_bytes, body)
        except ValueError as error:
            raise BadPluginReply(f"{self._info.name} returned no records: {error}") from error

    def _entities(self, body: bytearray) -> list[Entity]:
        name = self._info.name
        try:
            rows = _entity_rows.decode(body)
            return [Entity(source=name, **msgspec.structs.asdict(row)) for row in rows]
        except msgspec.MsgspecError as error:
            raise BadPluginReply(f"{name} returned no entities: {error}") from error

    def _provisional(self, interval: Interval, now_ms: int) -> tuple[Provisional, ...]:
        # At a whole second, as what is asked begins at one: not all sources know finer times.
        since = max(interval.start, (now_ms - self._said.final_after) // 1000 * 1000)
        if since >= interval.end:
            return ()
        return (Provisional(since, interval.end, now_ms + self._said.refresh_after),)

    def _failed(self, answer: Answer, what: str) -> Exception:
        name = self._info.name
        if not isinstance(answer, Failure):
            return PluginCrashed(f"plugin {name} answered another question than was asked")
        kind = PROVIDER_REASONS.get(answer.reason, PluginFailed)
        message = printable(answer.message[:_LONGEST_MESSAGE])
        if answer.reason == "plugin_error":
            message = f"plugin {name} raised {message}"
            lines = [printable(line) for line in answer.traceback[:_LONGEST_TRACEBACK].splitlines()]
            _log.warning("a plugin raised", plugin=name, asked=what, exception="\n".join(lines))
        elif answer.reason == "bad_plugin_reply":
            message = f"plugin {name}, asked for {what}: {message}"
            _log.warning("a plugin's reply is no answer", plugin=name, error=message)
        return kind(message, retry_after_s=answer.retry_after_s)


def checked_alias(name: str | None) -> str:
    """Return the name that a plugin goes by; raise `InvalidQuery` where it can have none."""
    if name is None:
        raise InvalidQuery(
            "the plugin does not say what it is called; add a method name(), or give it a name"
        )
    if not _ALIAS.fullmatch(name):
        raise InvalidQuery(
            f"a provider cannot be called {printable(name[:60])!r}; its name has 1 to 40 small "
            "letters, digits, - and _, and begins with a letter; give it another name"
        )
    return name


def _info(name: str, ready: Ready, said: Description, patience_s: float) -> ProviderInfo:
    return ProviderInfo(
        name=name,
        title=said.title or f"Plugin {name}",
        params=said.params,
        columns=said.columns,
        pace=Pace(said.rate, said.burst),
        data_start=said.data_start,
        data_end=said.data_end,
        revises=said.revises is not None,
        basis=said.revises,
        entities="entities" in ready.contract,
        whole="stitch" in ready.contract,
        partwise=said.revises is None and "stitch" not in ready.contract,
        deadline_s=patience_s,
    )


def _run(text_bytes: int, body: bytearray) -> Run:
    view = memoryview(body)
    return Run.load(bytes(view[:text_bytes]), bytes(view[text_bytes:]))


def _spelled(interval: Interval) -> str:
    return f"{format_instant(interval.start)} to {format_instant(interval.end)}"


def _instant_or_number(ms: int) -> str:
    try:
        return format_instant(ms)
    except OverflowError:
        return f"{ms / 1000:g}"
