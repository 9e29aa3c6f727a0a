"""Records of a plugin from the request to the answer, beside a provider in the hub's own process.

And what other clients feel of it meanwhile: how long their requests for held ranges take.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from itertools import count
from pathlib import Path
from statistics import median
from typing import NamedTuple, TypeVar

import msgspec
import polars as pl

from bars import MINUTE_S, START_S, bars
from frames import load_plugin
from hub_only import Start
from loading import Load, Sample
from processes import INSIDE, Cpu, Server, processes_under, settle, start_gapless
from questions import (
    Files,
    Range,
    WrongAnswer,
    asking,
    held_question,
    of_provider,
    slice_of,
    whole_history,
)

T = TypeVar("T")
HELD_TICKER, HELD_RECORDS = "AAPL", 252


class Bar(msgspec.Struct, frozen=True, gc=False):
    """A record of bars.py."""

    timestamp: int
    open: float
    high: float
    low: float
    close: float
    adjclose: float
    volume: int


class _Entity(msgspec.Struct, frozen=True):
    data: str
    state: str
    last_error: str


class _Answer(msgspec.Struct, frozen=True):
    ok: bool
    result: list[_Entity] | None


class Fetched(NamedTuple):
    """When a request for bars was sent and answered, by `time.monotonic_ns`, and the answer."""

    sent_ns: int
    answered_ns: int
    line: bytes

    @property
    def ms(self) -> float:
        """How long it took."""
        return (self.answered_ns - self.sent_ns) / 1e6


@dataclass(frozen=True, slots=True)
class Fetching:
    """Fetches of `records` records of one kind of provider: medians, in milliseconds.

    `of_inside` is how often as long it takes as in the hub's own process, in the same round;
    `cpu_ms` is what the hub and the processes under it compute.
    `alone_us` and `beside_us`: the p99 of another client's held requests, without fetches and
    beside them; `fetches` is how many there were then.
    """

    provider: str
    records: int
    ms: float
    slowest_ms: float
    cpu_ms: float
    of_inside: float
    alone_us: float
    beside_us: float
    beside_max_us: float
    fetches: int
    problems: int
    first_problem: str


@dataclass(slots=True)
class _Subject:
    kind: str
    hub: Server
    held: Files
    tickers: Iterator[int]
    times: list[float]
    cpu: list[float]
    alone: list[Sample]
    beside: list[Sample]
    fetches: int = 0


def held_files(hub: Server, stem: Path) -> Files:
    """A range of 252 records of the sample, which the hub holds then, as load.c asks for it."""
    with asking(hub) as ask:
        history = whole_history(ask, HELD_TICKER)
        asked = [slice_of(history, HELD_TICKER, 500, HELD_RECORDS)]
        return held_question(ask, asked, {HELD_TICKER: history}).write(stem)


def while_loading(
    load: Load,
    hub: Server,
    files: Files,
    connections: int,
    seconds: float,
    work: Callable[[], T],
    latencies: Path | None = None,
) -> tuple[Sample, list[T]]:
    """Ask for what is held for `seconds`, and do some work again and again meanwhile.

    Only what began while the load lasted is done. `latencies`: see `Load.measure`.
    """
    done: list[T] = []
    with ThreadPoolExecutor(1) as pool:
        began = time.monotonic()
        sample: Future[Sample] = pool.submit(
            load.measure, hub, files, connections, 1, seconds, latencies
        )
        while not sample.done() and time.monotonic() < began + seconds:
            done.append(work())
        return sample.result(), done


def fetched(hub: Server, ticker: str, records: int, start_s: int = START_S) -> Fetched:
    """Ask over TCP for bars that nobody has asked for yet."""
    asked = Range(ticker, start_s, start_s + records * MINUTE_S, records)
    request = of_provider("bars")(asked.request("fetch"))
    with hub.connect() as connection:
        began = time.monotonic_ns()
        connection.sendall(request)
        pieces = []
        while True:
            piece = connection.recv(1 << 20)
            pieces.append(piece)
            if not piece or piece.endswith(b"\n"):
                break
        return Fetched(began, time.monotonic_ns(), b"".join(pieces))


def check_bars(line: bytes, ticker: str, records: int, start_s: int = START_S) -> None:
    """Compare an answer with the bars as they were made; raise WrongAnswer."""
    try:
        answer = msgspec.json.decode(line, type=_Answer)
        if not answer.ok or not answer.result or answer.result[0].state != "ready":
            raise WrongAnswer(f"The hub answered {line[:300]!r} to a fetch of {ticker}.")
        rows = msgspec.json.decode(answer.result[0].data, type=list[Bar])
    except msgspec.DecodeError as error:
        raise WrongAnswer(f"A fetch of {ticker}: {line[:300]!r}: {error}") from error
    wanted = bars(ticker, start_s, start_s + records * MINUTE_S)
    got = pl.DataFrame([msgspec.structs.astuple(row) for row in rows], wanted.schema, orient="row")
    if not got.equals(wanted):
        raise WrongAnswer(f"The bars of {ticker} are not those that were made.")


@contextmanager
def _subjects(start: Start, core: int, folder: Path) -> Iterator[list[_Subject]]:
    with ExitStack() as stack:
        found = []
        for kind in ("plugin", "in the hub"):
            if kind == "plugin":
                hub = start(folder / "plugin.db", "gapless-plugin")
            else:
                db = folder / "inside.db"
                hub = start_gapless(db, core, name="gapless-inside", command=INSIDE, web=True)
            stack.callback(hub.stop)
            if kind == "plugin":
                load_plugin(hub)
            files = held_files(hub, folder / hub.name)
            found.append(_Subject(kind, hub, files, count(), [], [], [], []))
        yield found


def measure_fetches(
    start: Start, load: Load, folder: Path, records: int, rounds: int, seconds: float
) -> list[Fetching]:
    """Fetch cold tickers through both kinds of provider in turn, alone and beside a client."""
    with _subjects(start, load.cores.server, folder) as subjects:

        def fetch(subject: _Subject) -> float:
            ticker = f"T{next(subject.tickers):05}"
            found = fetched(subject.hub, ticker, records)
            lines.append((found.line, ticker))
            return found.ms

        lines: list[tuple[bytes, str]] = []
        for subject in subjects:
            # The first one imports what the others need.
            fetch(subject)
        for number in range(rounds):
            for subject in subjects if number % 2 == 0 else subjects[::-1]:
                before = cpu_of(subject.hub)
                subject.times.append(fetch(subject))
                subject.cpu.append((cpu_of(subject.hub) - before) / 1e6)
                check_bars(*lines.pop(), records)
        for number in range(max(1, rounds // 3)):
            for subject in subjects if number % 2 == 0 else subjects[::-1]:
                hub, files = subject.hub, subject.held
                subject.alone.append(load.measure(hub, files, 1, 1, seconds))
                lines.clear()
                sample, done = while_loading(
                    load,
                    hub,
                    files,
                    1,
                    seconds,
                    lambda s=subject: fetch(s),  # type: ignore[misc]
                )
                subject.beside.append(sample)
                subject.fetches += len(done)
                for line, ticker in lines:
                    check_bars(line, ticker, records)
        return [_fetching(subject, subjects[-1].times, records) for subject in subjects]


def cpu_of(hub: Server) -> int:
    """Nanoseconds that a hub and the processes under it have computed, once they are at rest."""
    pids = [hub.pid, *processes_under(hub.pid)]
    settle(hub.pid)
    return sum(Cpu.of(pid).since(Cpu({}, 0)) for pid in pids)


def _fetching(subject: _Subject, inside: list[float], records: int) -> Fetching:
    samples = subject.alone + subject.beside
    return Fetching(
        subject.kind,
        records,
        ms=median(subject.times),
        slowest_ms=max(subject.times),
        cpu_ms=median(subject.cpu),
        of_inside=median(a / b for a, b in zip(subject.times, inside, strict=True)),
        alone_us=median(s.p99_us for s in subject.alone),
        beside_us=median(s.p99_us for s in subject.beside),
        beside_max_us=max(s.max_us for s in subject.beside),
        fetches=subject.fetches,
        problems=sum(s.problems for s in samples),
        first_problem=next((s.first_problem for s in samples if s.first_problem), ""),
    )
