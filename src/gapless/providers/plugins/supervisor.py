"""Keeps a plugin's process running: calls with a deadline, restarts with a back-off, an end.

Nothing a plugin does may raise into the hub or hold up its loop.
"""

from __future__ import annotations

import asyncio
from collections import deque
from collections.abc import Callable
from dataclasses import dataclass
from enum import StrEnum

import structlog

from gapless.clock import Clock
from gapless.config.settings import PluginSettings
from gapless.errors import PluginCrashed, PluginNotLoaded, PluginTimeout
from gapless.providers.plugins.messages import Answer, Call, Cancel, Launch, Part, Ready
from gapless.providers.plugins.parts import Parts
from gapless.providers.plugins.process import PluginProcess

_log = structlog.get_logger("gapless.plugins")

CRASH_WINDOW_S = 60.0
# What a process takes to start again after a call that hung, on a busy machine.
_RESTART_S = 1.0
_FIRST_PAUSE_S, _LONGEST_PAUSE_S = 0.1, 5.0


class PluginState(StrEnum):
    """How a plugin is."""

    RUNNING = "running"
    RESTARTING = "restarting"
    DISABLED = "disabled"
    CLOSED = "closed"


@dataclass(slots=True, eq=False)
class _UnderWay:
    """A call that the process has; the caller may have gone."""

    what: str
    answer: asyncio.Future[tuple[Answer, bytearray]]
    timer: asyncio.TimerHandle
    parts: Parts | None = None


class Supervisor:
    """One plugin's process, the next one after it has crashed, and the calls they work on.

    A call counts against the deadline from when it is sent; before, it waits for its turn and
    for a restart as long at the most.
    """

    ready: Ready
    """What the process that runs, or ran last, has said of itself; there once it was started."""

    def __init__(self, name: str, launch: Launch, limits: PluginSettings, clock: Clock) -> None:
        self.name = name
        self.limits = limits
        self.deadline_s = limits.deadline_s
        self.state = PluginState.RESTARTING
        self.calls = 0
        self.crashes = 0
        self.restarts = 0
        self.last_error: str | None = None
        # Told of a process that runs other code than the one before it.
        self.on_changed: Callable[[Ready], None] = lambda ready: None
        self._launch = launch
        self._clock = clock
        self._process: PluginProcess | None = None
        self._turns = asyncio.Semaphore(1)
        self._under_way: dict[int, _UnderWay] = {}
        self._waiting = 0
        self._next_id = 0
        self._crashed_at: deque[float] = deque(maxlen=limits.max_crashes)
        self._changed = asyncio.Event()
        self._keeper: asyncio.Task[None] | None = None

    @property
    def pid(self) -> int | None:
        """The process's id; `None` while there is none."""
        return None if self._process is None else self._process.pid

    @property
    def patience_s(self) -> float:
        """How long a call may take altogether."""
        return self._turn_s + self.deadline_s + self.limits.kill_after_s

    @property
    def _turn_s(self) -> float:
        """How long a call waits for its turn: as long as a call that hangs can hold it up."""
        return self.deadline_s + self.limits.kill_after_s + _RESTART_S

    async def start(self) -> Ready:
        """Start the process; raise `PluginNotLoaded`, with nothing left over."""
        process = self._new_process()
        ready = await process.start(self.limits.load_s)
        self.ready = ready
        self._turns = asyncio.Semaphore(ready.concurrency)
        self._process = process
        self._become(PluginState.RUNNING)
        self._keeper = asyncio.get_running_loop().create_task(
            self._keep(process), name=f"keep plugin {self.name}"
        )
        return ready

    def rename(self, name: str) -> None:
        """Go by another name from now on, in errors and in the log."""
        self.name = name
        if self._process is not None:
            self._process.name = name

    async def call(
        self, make: Callable[[int], Call], what: str, parts: Parts | None = None
    ) -> tuple[Answer, bytearray]:
        """Ask the plugin and return its answer, and the bytes that belong to it.

        What comes before the answer is put into `parts`. `make` makes the message with the call's
        number; `what` names it in errors. Raises `PluginTimeout` at the deadline, and
        `PluginCrashed` where the process ends.
        """
        self.calls += 1
        self._waiting += 1
        try:
            process = await self._turn(what)
        finally:
            self._waiting -= 1
        self._next_id += 1
        number = self._next_id
        loop = asyncio.get_running_loop()
        call = _UnderWay(
            what,
            loop.create_future(),
            loop.call_later(self.deadline_s, self._overdue, process, number),
            parts,
        )
        if parts is not None:
            parts.full = process.pause
            parts.taken = process.resume
        self._under_way[number] = call
        try:
            process.send(make(number))
        except BaseException:
            self._finish(number)
            raise
        try:
            return await call.answer
        except asyncio.CancelledError:
            process.send(Cancel(number))
            raise

    async def drain(self) -> None:
        """Let calls under way end, each within its deadline; then close."""
        try:
            async with asyncio.timeout(self.patience_s):
                while self._under_way or self._waiting:
                    await self._changed.wait()
        except TimeoutError:
            pass
        await self.close()

    async def close(self) -> None:
        """End the process; what is under way fails."""
        if self.state is not PluginState.CLOSED:
            self._become(PluginState.CLOSED)
            self._fail_all("was ended, for it was unloaded,")
        if self._process is not None:
            await self._process.close()
        if self._keeper is not None:
            self._keeper.cancel()
            await asyncio.wait({self._keeper})

    # Calls

    async def _turn(self, what: str) -> PluginProcess:
        """Wait for one of the turns and for a process; return that."""
        try:
            async with asyncio.timeout(self._turn_s):
                await self._turns.acquire()
                try:
                    return await self._running()
                except BaseException:
                    self._turns.release()
                    raise
        except TimeoutError:
            busy = "is being restarted" if self._process is None else "is busy with other calls"
            raise PluginTimeout(
                f"plugin {self.name} {busy}; {what} waited {self._turn_s:g} s for its turn; "
                "ask for less at once, or let its methods be async"
            ) from None

    async def _running(self) -> PluginProcess:
        while True:
            if self.state is PluginState.DISABLED:
                raise PluginCrashed(
                    f"plugin {self.name} is disabled, for it crashed {self.limits.max_crashes} "
                    f"times within a minute; the last time it {self.last_error}; reload it"
                )
            if self.state is PluginState.CLOSED:
                raise PluginCrashed(f"plugin {self.name} was unloaded")
            if self._process is not None:
                return self._process
            await self._changed.wait()

    def _received(self, answer: Part | Answer, body: bytearray) -> None:
        if isinstance(answer, Part):
            under_way = self._under_way.get(answer.id)
            if under_way is not None and under_way.parts is not None:
                under_way.parts.put(answer, body)
            return
        call = self._finish(answer.id)
        if call is not None and not call.answer.done():
            call.answer.set_result((answer, body))

    def _finish(self, number: int) -> _UnderWay | None:
        """Take a call off the list, and let another one have its turn."""
        call = self._under_way.pop(number, None)
        if call is not None:
            call.timer.cancel()
            self._turns.release()
            self._notify()
        return call

    def _overdue(self, process: PluginProcess, number: int) -> None:
        """Give the caller up; if the answer does not come very soon, the process, too."""
        call = self._under_way[number]
        if not call.answer.done():
            call.answer.set_exception(
                PluginTimeout(
                    f"plugin {self.name} did not answer {call.what} within {self.deadline_s:g} s"
                )
            )
            # The caller may have gone before.
            call.answer.exception()
        process.send(Cancel(number))
        call.timer = asyncio.get_running_loop().call_later(
            self.limits.kill_after_s, process.kill, f"was killed, for {call.what} took too long"
        )

    def _fail_all(self, how: str) -> None:
        for number in list(self._under_way):
            call = self._finish(number)
            if call is not None and not call.answer.done():
                call.answer.set_exception(
                    PluginCrashed(
                        f"the process of plugin {self.name} {how} while it worked on {call.what}"
                    )
                )
                # The caller may have gone before.
                call.answer.exception()

    # The process

    def _new_process(self) -> PluginProcess:
        return PluginProcess(self.name, self._launch, self._received)

    async def _keep(self, process: PluginProcess) -> None:
        """See each process end, and start the next one."""
        while True:
            await asyncio.wait({process.ended})
            how = process.ended.result()
            self._process = None
            if self._closed:
                return
            self._crash(how)
            while True:
                if self._too_often():
                    self._become(PluginState.DISABLED)
                    _log.error("a plugin is disabled", plugin=self.name, last=how)
                    return
                await self._clock.sleep(self._pause())
                if self._closed:
                    return
                process = self._new_process()
                try:
                    ready = await process.start(self.limits.load_s)
                except PluginNotLoaded as error:
                    self._crash(f"could not be loaded again: {error.message}")
                    continue
                break
            if self._closed:
                await process.close()
                return
            self.restarts += 1
            self._process = process
            self._become(PluginState.RUNNING)
            before, self.ready = self.ready, ready
            if ready.sha256 != before.sha256:
                # What it says of itself is asked for at a load only.
                _log.warning(
                    "a plugin's file has changed, and its new process runs that; reload it",
                    plugin=self.name,
                    sha256=ready.sha256,
                    before=before.sha256,
                )
                self.on_changed(ready)

    @property
    def _closed(self) -> bool:
        return self.state is PluginState.CLOSED

    def _crash(self, how: str) -> None:
        self.crashes += 1
        self.last_error = how
        self._crashed_at.append(self._clock.monotonic())
        self._become(PluginState.RESTARTING)
        _log.warning("a plugin crashed", plugin=self.name, how=how)
        self._fail_all(how)

    def _recent(self) -> int:
        since = self._clock.monotonic() - CRASH_WINDOW_S
        return sum(at > since for at in self._crashed_at)

    def _too_often(self) -> bool:
        return self._recent() >= self.limits.max_crashes

    def _pause(self) -> float:
        return restart_pause(self._recent())

    def _become(self, state: PluginState) -> None:
        self.state = state
        self._notify()

    def _notify(self) -> None:
        """Wake who waits for a change."""
        self._changed.set()
        self._changed = asyncio.Event()


def restart_pause(crashes: int) -> float:
    """Return the seconds before the restart that follows so many crashes in a minute."""
    if crashes <= 1:
        return 0.0
    return float(min(_LONGEST_PAUSE_S, _FIRST_PAUSE_S * 2.0 ** min(crashes - 2, 16)))
