"""What bare dates cost: a held range asked for by days of its exchange, and by the same instants.

Both ask one hub for the very same answers, in turn within each round. By lines that begin with
their id, which are answered from memory unread, and by lines that do not, no two of which are alike
but for every tenth of a second: these are decoded, placed in the ticker's time zone, and laid out.
"""

from __future__ import annotations

import re
import sys
from contextlib import ExitStack
from dataclasses import dataclass
from datetime import UTC, datetime, time
from pathlib import Path
from statistics import median
from zoneinfo import ZoneInfo

from rich.console import Console

from checks import END_S, RECORDS, SETTINGS, START_S, direct
from loading import Load, Sample
from processes import ADDRESS, BENCH, Server, spawn
from questions import (
    Question,
    Range,
    Shape,
    as_it_is,
    asking,
    held_question,
    of_provider,
    read_answer,
)
from report import Target, table_of
from tokens import Start, id_later
from upstream import ticker_of

COUNT, CONNECTIONS = 252, 16
DEPTHS = (1, 16)
#: How many ranges are asked for in words that differ.
RANGES = 512
AS_MUCH = 1.05
_ZONE = ZoneInfo("America/New_York")
_MIDNIGHT = re.compile(rb'"([0-9]{4}-[0-9]{2}-[0-9]{2})T0[45]:00:00Z"')


@dataclass(frozen=True, slots=True)
class Days:
    """One way of asking: medians over the rounds, microseconds of the server's CPU a request.

    `ratio` is the median of the ratios within the rounds, that of `throughput` likewise.
    """

    way: str
    depth: int
    instants_us: float
    days_us: float
    ratio: float
    throughput: float
    problems: int
    first_problem: str


def measure_days(load: Load, start: Start, folder: Path, rounds: int, seconds: float) -> list[Days]:
    """Measure both ways at each depth."""
    with ExitStack() as stack:
        command = [sys.executable, str(BENCH / "upstream.py"), "1"]
        upstream = spawn("upstream-days", command, load.cores.load, ADDRESS)
        stack.callback(upstream.stop)
        settings = folder / "days.toml"
        address = f"http://{upstream.host}:{upstream.port}"
        # Nothing is due while it is measured.
        settings.write_text(SETTINGS.format(check=86_400, upstream=address))
        hub = start(folder / "days.db", "gapless-days", ("--config", str(settings)))
        stack.callback(hub.stop)
        direct(upstream, ticker_of(0))
        found: list[Days] = []
        for way, shape, ranges in (
            ("asked before, unread", as_it_is, 1),
            ("in words that differ, decoded", id_later, RANGES),
        ):
            questions = [_question(hub, shape, words, ranges) for words in (as_it_is, _by_days)]
            for depth in DEPTHS:
                found.append(_measured(load, hub, questions, folder, (way, depth, rounds, seconds)))
        return found


def _measured(
    load: Load,
    hub: Server,
    questions: list[Question],
    folder: Path,
    what: tuple[str, int, int, float],
) -> Days:
    way, depth, rounds, seconds = what
    files = [
        question.write(folder / f"{hub.name}-{way.partition(',')[0].replace(' ', '-')}-{number}")
        for number, question in enumerate(questions)
    ]
    pairs: list[tuple[Sample, Sample]] = []
    for number in range(rounds):
        samples: dict[int, Sample] = {}
        for index in (1, 0) if number % 2 else (0, 1):
            samples[index] = load.measure(hub, files[index], CONNECTIONS, depth, seconds)
        pairs.append((samples[0], samples[1]))
    every = [one for pair in pairs for one in pair]
    return Days(
        way,
        depth,
        median(before.cpu_us for before, _ in pairs),
        median(after.cpu_us for _, after in pairs),
        median(after.cpu_us / before.cpu_us for before, after in pairs),
        median(after.per_second / before.per_second for before, after in pairs),
        sum(one.problems for one in every),
        next((one.first_problem for one in every if one.problems), ""),
    )


def _question(hub: Server, shape: Shape, words: Shape, count: int) -> Question:
    """Fill the hub, and return how it is asked for so many ranges in these words."""
    yahoo = of_provider("yahoo_finance")

    def shaped(line: bytes) -> bytes:
        return shape(words(yahoo(line)))

    with asking(hub, shaped) as ask:
        whole = Range(ticker_of(0), START_S, END_S, RECORDS)
        history, _ = read_answer(ask(whole.request("all")), "all")
        days = [_midnight(one["timestamp"]) for one in history]
        first = len(history) - COUNT - count - 1
        ranges = [
            Range(whole.ticker, days[at], days[at + COUNT], COUNT)
            for at in range(first, first + count)
        ]
        return held_question(ask, ranges, {whole.ticker: history}).shaped(shaped)


def _midnight(seconds: int) -> int:
    """When the day of a bar began where it is traded, in Unix seconds."""
    day = datetime.fromtimestamp(seconds, UTC).astimezone(_ZONE).date()
    return int(datetime.combine(day, time(), _ZONE).timestamp())


def _by_days(line: bytes) -> bytes:
    """Say the midnights of New York as bare dates."""
    return _MIDNIGHT.sub(rb'"\1"', line)


def print_days(to: Console, days: list[Days]) -> None:
    """Print what bare dates cost."""
    table = table_of(to, "A held range of 252 records by instants and by days, 16 connections")
    table.add_column("the line is")
    for heading in ("in flight", "CPU µs/req, instants", "days", "ratio", "req/s, ratio"):
        table.add_column(heading, justify="right")
    for one in days:
        figures = (f"{one.instants_us:.2f}", f"{one.days_us:.2f}", f"{one.ratio:.3f}")
        table.add_row(one.way, f"{one.depth}", *figures, f"{one.throughput:.3f}")
    to.print(table)


def targets_days(days: list[Days]) -> list[Target]:
    """Hold what was measured against the target; what was not measured stays undecided."""
    name, wanted = "a held range by days against instants, server CPU", f"at most {AS_MUCH} ×"
    if not days:
        return [Target(name, wanted, "", None)]
    return [
        Target(
            f"{name}, {one.way}, {'not pipelined' if one.depth == 1 else f'{one.depth} deep'}",
            wanted,
            f"{one.ratio:.2f} × ({one.days_us:.2f} and {one.instants_us:.2f} µs)",
            one.ratio <= AS_MUCH,
        )
        for one in days
    ]
