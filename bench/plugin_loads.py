"""Plugins loaded again and again beside running traffic: how long, who feels it, what is left."""

from __future__ import annotations

import time
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from statistics import median
from threading import Event

import msgspec

from bars import MINUTE_S, START_S
from frames import load_plugin
from hub_only import Start
from loading import Load, Sample
from plugin_fetch import check_bars, fetched, held_files, while_loading
from processes import Server, processes_under, resident_bytes, settle
from questions import WrongAnswer
from web import post

CONNECTIONS = 16
#: Before anything is counted, so that what the first few cost once is not counted as left over.
FIRST_RELOADS = 5
RECORDS = 10
#: How long processes that were replaced may take to be gone.
GONE_SECONDS = 10.0
#: Imports nothing, so that what remains is what loading takes by itself.
PLAIN = """\
class Provider:
    def name(self):
        return "plain"

    def fetch(self, ticker, start, end):
        return [{"timestamp": start, "value": 1}]
"""


@dataclass(frozen=True, slots=True)
class Loads:
    """Loading one plugin while 16 connections ask for what is held; medians over the rounds.

    `quiet_ms` is a load without traffic, `busy_ms` one beside it. The p99 of the traffic are those
    without and with loads, `ratio` that of the two in the same round.
    """

    plugin: str
    loads: int
    quiet_ms: float
    busy_ms: float
    slowest_ms: float
    alone_us: float
    beside_us: float
    ratio: float
    problems: int
    first_problem: str


@dataclass(frozen=True, slots=True)
class Left:
    """Processes under the hub, its open files and its resident memory in bytes, at one moment.

    Without the files of the database.
    """

    processes: int
    files: int
    memory: int


@dataclass(frozen=True, slots=True)
class Reloads:
    """What `times` reloads left over, and the requests to the plugin that ran meanwhile."""

    times: int
    ms: float
    slowest_ms: float
    before: Left
    after: Left
    asked: int
    lost: list[str]


def measure_loads(
    start: Start, load: Load, folder: Path, rounds: int, seconds: float, reloads: int
) -> tuple[list[Loads], Reloads]:
    """Load two plugins beside traffic, the one in turn with none; then reload one many times."""
    plain = folder / "plain.py"
    plain.write_text(PLAIN)
    hub = start(folder / "loads.db", "gapless-loads")
    try:
        files = held_files(hub, folder / hub.name)

        def load_plain() -> float:
            body = msgspec.json.encode({"file": str(plain)})
            began = time.perf_counter()
            post(hub, "/plugins/load", body)
            return (time.perf_counter() - began) * 1000

        def load_bars() -> float:
            began = time.perf_counter()
            load_plugin(hub)
            return (time.perf_counter() - began) * 1000

        found = []
        for plugin, one in (("of plain Python", load_plain), ("that imports polars", load_bars)):
            one()
            quiet, busy = [], []
            alone: list[Sample] = []
            beside: list[Sample] = []
            for number in range(rounds):
                quiet.append(one())
                for turn in (0, 1) if number % 2 == 0 else (1, 0):
                    if turn == 0:
                        alone.append(load.measure(hub, files, CONNECTIONS, 1, seconds))
                        continue
                    sample, done = while_loading(load, hub, files, CONNECTIONS, seconds, one)
                    beside.append(sample)
                    busy += done
            found.append(_loads(plugin, quiet, busy, alone, beside))
        return found, measure_reloads(hub, reloads)
    finally:
        hub.stop()


def _loads(
    plugin: str,
    quiet: list[float],
    busy: list[float],
    alone: list[Sample],
    beside: list[Sample],
) -> Loads:
    both = alone + beside
    return Loads(
        plugin,
        len(busy),
        quiet_ms=median(quiet),
        busy_ms=median(busy),
        slowest_ms=max(busy),
        alone_us=median(s.p99_us for s in alone),
        beside_us=median(s.p99_us for s in beside),
        ratio=median(b.p99_us / a.p99_us for a, b in zip(alone, beside, strict=True)),
        problems=sum(s.problems for s in both),
        first_problem=next((s.first_problem for s in both if s.first_problem), ""),
    )


def measure_reloads(hub: Server, times: int) -> Reloads:
    """Reload the plugin of bars.py, while a client asks it for one range after the other."""
    for _ in range(FIRST_RELOADS):
        _reload(hub)
    before = _left(hub, None)
    stop = Event()
    with ThreadPoolExecutor(1) as pool:
        asking = pool.submit(_ask_until, hub, stop)
        try:
            took = [_reload(hub) for _ in range(times)]
        finally:
            stop.set()
        asked, lost = asking.result()
    after = _left(hub, before)
    return Reloads(times, median(took), max(took), before, after, asked, lost)


def _reload(hub: Server) -> float:
    began = time.perf_counter()
    post(hub, "/v1/plugins/bars/reload")
    return (time.perf_counter() - began) * 1000


def _ask_until(hub: Server, stop: Event) -> tuple[int, list[str]]:
    """Ask for one range after the other; return how many, and what was wrong with some."""
    asked, lost = 0, []
    while not stop.is_set():
        at = START_S + asked * RECORDS * MINUTE_S
        asked += 1
        try:
            line = fetched(hub, "RELOADED", RECORDS, at).line
            check_bars(line, "RELOADED", RECORDS, at)
        except (WrongAnswer, OSError) as error:
            lost.append(str(error))
    return asked, lost


def _of_database(descriptor: Path) -> bool:
    """Whether it is one of the store's connections, which are opened when they are first needed."""
    try:
        return ".db" in descriptor.readlink().name
    except FileNotFoundError:
        # It was closed meanwhile; what is left over stays.
        return True


def _left(hub: Server, before: Left | None) -> Left:
    """Count what there is; with `before` once no more processes are there than then, or 10 s on."""
    deadline = time.monotonic() + GONE_SECONDS
    while True:
        settle(hub.pid)
        files = sum(not _of_database(one) for one in Path(f"/proc/{hub.pid}/fd").iterdir())
        now = Left(len(processes_under(hub.pid)), files, resident_bytes(hub.pid))
        least = 1 if before is None else before.processes
        if now.processes <= least or time.monotonic() > deadline:
            return now
