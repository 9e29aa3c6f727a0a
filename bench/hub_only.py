"""What is asked of the hub alone: many series, and the first answer after a start."""

from __future__ import annotations

import time
from collections.abc import Callable
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path
from statistics import median

from loading import Load, Sample
from populate import TEMPLATE, populate
from processes import Cpu, NotMeasured, Server, settle
from questions import (
    Ask,
    Part,
    Range,
    Record,
    WrongAnswer,
    asking,
    held_answer,
    held_question,
    read_answer,
    search,
    slice_of,
    whole_history,
)

TICKERS = ("AAPL", "GOOG", "IBM", "MSFT")
RECORDS = 252
#: The range whose handful of records all the small series are copies of.
SMALL = {"start": "2013-02-04", "end": "2013-02-09"}
ASKED_RANGES = 10

Start = Callable[[Path, str], Server]
History = list[Record]


@dataclass(frozen=True, slots=True)
class Scale:
    """The same question to a hub with few series and to one with many; medians of the rounds."""

    few: int
    many: int
    depth: int
    few_per_second: float
    many_per_second: float
    few_cpu_us: float
    many_cpu_us: float
    #: Throughput with many series as a share of that with few, in the same round.
    ratio: float
    problems: int
    first_problem: str


@dataclass(frozen=True, slots=True)
class Restart:
    """The first answer after a start: medians, in microseconds, over `times` starts."""

    times: int
    cpu_us: float
    wall_us: float
    worst_cpu_us: float
    #: The same with the accepting of the connection counted in.
    with_connect_cpu_us: float
    #: The second answer, for comparison.
    second_cpu_us: float


def ten_ranges(ask: Ask) -> tuple[list[Range], dict[str, History]]:
    """Ten ranges of 252 records over four tickers, and the histories they are checked by."""
    histories = {ticker: whole_history(ask, ticker) for ticker in TICKERS}
    ranges: list[Range] = []
    for number in range(ASKED_RANGES * len(TICKERS)):
        ticker, first = TICKERS[number % len(TICKERS)], number // len(TICKERS) * RECORDS
        # A ticker that was listed late has fewer such ranges than the others.
        if len(histories[ticker]) >= first + RECORDS:
            ranges.append(slice_of(histories[ticker], ticker, first, RECORDS))
    if len(ranges) < ASKED_RANGES:
        raise NotMeasured(f"The sample has only {len(ranges)} ranges of {RECORDS} records.")
    return ranges[:ASKED_RANGES], histories


def compare_scales(
    load: Load,
    start: Start,
    folder: Path,
    few: int,
    many: int,
    rounds: int,
    seconds: float,
    connections: int = 16,
) -> list[Scale]:
    """Ask for the same ten ranges, round-robin, with `few` and with `many` series in the store.

    The series that are asked are four of the sample's; all others are copies of a fifth one.
    """
    with ExitStack() as stack:
        prepared = []
        for count in (few, many):
            db = folder / f"series-{count}.db"
            hub = start(db, f"gapless-{count}")
            try:
                with asking(hub) as ask:
                    ranges, histories = ten_ranges(ask)
                    read_answer(ask(search("small", TEMPLATE, SMALL)), "small")
            finally:
                hub.stop()
            populate(db, count - len(TICKERS) - 1)
            hub = start(db, f"gapless-{count}")
            stack.callback(hub.stop)
            with asking(hub) as ask:
                question = held_question(ask, ranges, histories)
            prepared.append((hub, question.write(folder / hub.name)))
        found = []
        for depth in (1, 16):
            runs: tuple[list[Sample], list[Sample]] = ([], [])
            for number in range(rounds):
                for which in (0, 1) if number % 2 == 0 else (1, 0):
                    hub, files = prepared[which]
                    runs[which].append(load.measure(hub, files, connections, depth, seconds))
            found.append(_scale(few, many, depth, *runs))
        return found


def _scale(few: int, many: int, depth: int, small: list[Sample], large: list[Sample]) -> Scale:
    both = small + large
    return Scale(
        few,
        many,
        depth,
        few_per_second=median(s.per_second for s in small),
        many_per_second=median(s.per_second for s in large),
        few_cpu_us=median(s.cpu_us for s in small),
        many_cpu_us=median(s.cpu_us for s in large),
        ratio=median(b.per_second / a.per_second for a, b in zip(small, large, strict=True)),
        problems=sum(s.problems for s in both),
        first_problem=next((s.first_problem for s in both if s.first_problem), ""),
    )


def filled(start: Start, db: Path, records: int) -> tuple[bytes, tuple[Part, ...]]:
    """Fill the store `db` with `records` records; returns the request and the answer's pattern."""
    hub = start(db, "gapless-fill")
    try:
        with asking(hub) as ask:
            history = whole_history(ask, TICKERS[0])
            asked = slice_of(history, TICKERS[0], 500, records)
            ask(asked.request("fill"))
            return asked.request("first"), held_answer(ask, asked, history, "first")
    finally:
        hub.stop()


def first_answers(start: Start, db: Path, times: int) -> Restart:
    """Start the hub `times` times on a filled store and count the CPU of its first answer.

    The time is that of all the hub's threads, in nanoseconds, from before the request is sent until
    20 ms after its answer has come, so that work put off until then counts as well.
    """
    request, pattern = filled(start, db, RECORDS)
    first, connected, second, wall = [], [], [], []
    for _ in range(times):
        hub = start(db, "gapless-restart")
        try:
            before_connect = settle(hub.pid, quiet=0.05)
            with asking(hub) as ask:
                before = settle(hub.pid)
                began = time.perf_counter_ns()
                line = ask(request)
                wall.append(time.perf_counter_ns() - began)
                time.sleep(0.02)
                after = Cpu.of(hub.pid)
                again = ask(request)
                time.sleep(0.02)
                second.append(Cpu.of(hub.pid).since(after))
            for answer in (line, again):
                _check(answer, pattern)
            first.append(after.since(before))
            connected.append(after.since(before_connect))
        finally:
            hub.stop()
    return Restart(
        times,
        cpu_us=median(first) / 1000,
        wall_us=median(wall) / 1000,
        worst_cpu_us=max(first) / 1000,
        with_connect_cpu_us=median(connected) / 1000,
        second_cpu_us=median(second) / 1000,
    )


def _check(line: bytes, pattern: tuple[Part, ...]) -> None:
    at = 0
    for part in pattern:
        length = part if isinstance(part, int) else len(part)
        piece = line[at : at + length]
        if not (piece.isdigit() if isinstance(part, int) else piece == part):
            raise WrongAnswer(
                f"The first answer after a restart differs at byte {at}: {piece[:99]!r}"
            )
        at += length
    if at != len(line):
        raise WrongAnswer(f"The first answer after a restart has {len(line)} bytes, not {at}.")
