"""The grid: sizes by connections by depth, each server in turn in each round.

The servers take turns within a round, so that a machine that slows down does so for all of them;
ratios are taken within a round, and of the rounds the median.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from pathlib import Path
from statistics import median

from loading import Load, Sample
from processes import NotMeasured, Server, start_echo, start_redis
from questions import (
    Files,
    Question,
    asking,
    echo_question,
    held_question,
    redis_question,
    slice_of,
    whole_history,
)

TICKER = "AAPL"
SIZES = (1, 252, 2500)
CONNECTIONS = (1, 16, 256)
DEPTHS = (1, 16)
#: Of the answers, in bytes, where there is no hub to say: what was measured when it was designed.
USUAL_SIZES = {1: 700, 252: 24_500, 2500: 240_000}
#: The cell that the target on throughput is about, and its rounds (a median of two is a mean).
TARGET_RECORDS, TARGET_CONNECTIONS, TARGET_ROUNDS = 252, 16, 5


@dataclass(frozen=True, slots=True)
class Subject:
    """One server and what it is asked in a cell."""

    kind: str
    server: Server
    question: Question
    files: Files


@dataclass(frozen=True, slots=True)
class Measured:
    """A server's medians over the rounds of a cell; `of_redis` is the ratio of throughputs."""

    records: int
    size: int
    connections: int
    depth: int
    server: str
    per_second: float
    cpu_us: float
    p50_us: float
    p99_us: float
    max_us: float
    of_redis: float | None
    load_busy: float
    disturbed: float
    problems: int
    first_problem: str


def hub_questions(hub: Server, sizes: tuple[int, ...]) -> dict[int, Question]:
    """Fill the hub with a range of each size and return how to ask for it."""
    with asking(hub) as ask:
        history = whole_history(ask, TICKER)
        return {
            records: held_question(
                ask, [slice_of(history, TICKER, 500, records)], {TICKER: history}
            )
            for records in sizes
        }


@contextmanager
def subjects(
    hub: Server | None,
    sizes: tuple[int, ...],
    core: int,
    folder: Path,
    say: Callable[[str], None],
) -> Iterator[dict[int, tuple[int, list[Subject]]]]:
    """Start Redis and the echo servers; yields, by count of records, bytes and who is asked."""
    with ExitStack() as stack:
        questions = hub_questions(hub, sizes) if hub else {}
        redis: Server | None = None
        try:
            redis = start_redis(core)
            stack.callback(redis.stop)
        except NotMeasured as reason:
            say(str(reason))
        found: dict[int, tuple[int, list[Subject]]] = {}
        for records in sizes:
            size = questions[records].size if questions else USUAL_SIZES[records]
            echo = start_echo(size, core)
            stack.callback(echo.stop)
            asked: list[tuple[str, Server, Question]] = []
            if hub:
                asked.append(("gapless", hub, questions[records]))
            if redis:
                asked.append(("Redis", redis, redis_question(redis, size)))
            asked.append(("uvloop echo", echo, echo_question(size)))
            found[records] = (
                size,
                [
                    Subject(
                        kind,
                        server,
                        question,
                        question.write(folder / f"{server.name}-{size}"),
                    )
                    for kind, server, question in asked
                ],
            )
        yield found


def measure_cell(
    load: Load,
    who: list[Subject],
    cell: tuple[int, int, int, int],
    rounds: int,
    seconds: float,
) -> list[Measured]:
    """Measure all subjects in one cell: (records, bytes, connections, depth)."""
    records, size, connections, depth = cell
    runs: dict[str, list[Sample]] = {subject.kind: [] for subject in who}
    for number in range(rounds):
        # The first of a round has no advantage if each is it in turn.
        for subject in who[number % len(who) :] + who[: number % len(who)]:
            sample = load.measure(subject.server, subject.files, connections, depth, seconds)
            runs[subject.kind].append(sample)
    redis = runs.get("Redis")
    return [
        Measured(
            records,
            size,
            connections,
            depth,
            kind,
            per_second=median(s.per_second for s in samples),
            cpu_us=median(s.cpu_us for s in samples),
            p50_us=median(s.p50_us for s in samples),
            p99_us=median(s.p99_us for s in samples),
            max_us=max(s.max_us for s in samples),
            of_redis=median(_ratios(samples, redis)) if redis else None,
            load_busy=median(s.load_busy for s in samples),
            disturbed=median(s.disturbed for s in samples),
            problems=sum(s.problems for s in samples),
            first_problem=next((s.first_problem for s in samples if s.first_problem), ""),
        )
        for kind, samples in runs.items()
    ]


def _ratios(samples: list[Sample], redis: list[Sample]) -> list[float]:
    return [
        one.per_second / other.per_second
        for one, other in zip(samples, redis, strict=True)
        if other.per_second
    ] or [0.0]


def measure_grid(
    load: Load,
    found: dict[int, tuple[int, list[Subject]]],
    rounds: int,
    seconds: float,
    done: Callable[[list[Measured]], None],
    say: Callable[[str], None],
) -> None:
    """Measure every cell; `done` gets the rows of each as it is finished, `say` what failed."""
    for records, (size, who) in found.items():
        for connections in CONNECTIONS:
            for depth in DEPTHS:
                target = (records, connections) == (TARGET_RECORDS, TARGET_CONNECTIONS)
                cell = (records, size, connections, depth)
                times = max(rounds, TARGET_ROUNDS) if target else rounds
                try:
                    done(measure_cell(load, who, cell, times, seconds))
                except NotMeasured as reason:
                    say(f"{records} records, {connections} connections, {depth} deep: {reason}")
