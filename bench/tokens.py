"""What a token costs: a held range from a hub without authentication, and from one with it.

The two take turns within a round, and are asked the very same: the one without a token, the other
with one in every line. By lines that begin with their id, which are answered from memory unread,
and by lines that do not, which are decoded.
"""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Callable
from contextlib import ExitStack
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from statistics import median

from loading import Load, Sample
from processes import NotMeasured, Server
from questions import (
    Files,
    Question,
    Shape,
    as_it_is,
    asking,
    held_question,
    slice_of,
    whole_history,
)

TICKER = "AAPL"
RECORDS, CONNECTIONS = 252, 16
DEPTHS = (1, 16)
_EMAIL, _PASSWORD = "bench@example.com", "a password for the bench alone"
# As high as it can be: it is counted, and never reached.
_SETTINGS = "auth = true\n\n[access]\nrate = 1e9\nburst = 1000000000\n"

Start = Callable[[Path, str, tuple[str, ...]], Server]


@dataclass(frozen=True, slots=True)
class Tokens:
    """One way of asking: medians over the rounds, microseconds of the server's CPU a request.

    `added_us` is the median of the differences within the rounds.
    """

    way: str
    depth: int
    open_us: float
    locked_us: float
    added_us: float
    problems: int
    first_problem: str


def measure_tokens(
    load: Load, start: Start, folder: Path, rounds: int, seconds: float
) -> list[Tokens]:
    """Measure both ways at each depth."""
    settings = folder / "locked.toml"
    settings.write_text(_SETTINGS)
    token = _token(folder / "locked.db")
    with ExitStack() as stack:
        servers: list[Server] = []
        for name, flags in (("open", ()), ("locked", ("--config", str(settings)))):
            servers.append(start(folder / f"{name}.db", f"gapless-{name}", flags))
            stack.callback(servers[-1].stop)
        return [
            _measured(load, servers, token, way, shape, depth, folder, rounds, seconds)
            for way, shape in (("from memory, unread", as_it_is), ("decoded", id_later))
            for depth in DEPTHS
        ]


def _measured(
    load: Load,
    servers: list[Server],
    token: str,
    way: str,
    shape: Shape,
    depth: int,
    folder: Path,
    rounds: int,
    seconds: float,
) -> Tokens:
    files = []
    for server, shown in zip(servers, ("", token), strict=True):
        question = _question(server, partial(_shaped, shape, shown))
        files.append(question.write(folder / f"{server.name}-{depth}"))
    samples: list[tuple[Sample, Sample]] = []
    for number in range(rounds):
        samples.append(_round(load, servers, files, depth, seconds, turned=bool(number % 2)))
    every = [one for pair in samples for one in pair]
    return Tokens(
        way,
        depth,
        median(before.cpu_us for before, _ in samples),
        median(after.cpu_us for _, after in samples),
        median(after.cpu_us - before.cpu_us for before, after in samples),
        sum(one.problems for one in every),
        next((one.first_problem for one in every if one.problems), ""),
    )


def _round(
    load: Load,
    servers: list[Server],
    files: list[Files],
    depth: int,
    seconds: float,
    turned: bool,
) -> tuple[Sample, Sample]:
    """Load both in turn, every other time in the other order."""
    found = {}
    for index in (1, 0) if turned else (0, 1):
        found[index] = load.measure(servers[index], files[index], CONNECTIONS, depth, seconds)
    return found[0], found[1]


def _question(server: Server, shape: Shape) -> Question:
    """Fill the hub, and return how it is asked in a shape of line."""
    with asking(server, shape) as ask:
        history = whole_history(ask, TICKER)
        asked = slice_of(history, TICKER, 500, RECORDS)
        return held_question(ask, [asked], {TICKER: history}).shaped(shape)


def _showing(line: bytes, token: str) -> bytes:
    """Put a token behind the id of a line."""
    if not token:
        return line
    head, comma, rest = line.partition(b",")
    return head + comma + b'"token":"' + token.encode() + b'",' + rest


def _shaped(shape: Shape, token: str, line: bytes) -> bytes:
    return shape(_showing(line, token))


def id_later(line: bytes) -> bytes:
    """Let a line begin with something else than its id."""
    return b'{"v":1,' + line[1:]


def _token(db: Path) -> str:
    """Make a user on a new database and a token of theirs, as an operator does."""
    command = (sys.executable, "-m", "gapless")
    environment = {k: v for k, v in os.environ.items() if not k.startswith("GAPLESS_")}

    def run(*arguments: str, told: str = "") -> str:
        done = subprocess.run(
            [*command, *arguments, "--db", str(db)],
            input=told,
            capture_output=True,
            text=True,
            env=environment,
            check=False,
        )
        if done.returncode:
            raise NotMeasured(f"gapless {' '.join(arguments)}: {done.stderr.strip()}")
        return done.stdout.strip()

    run("users", "add", _EMAIL, "--role", "admin", "--password-stdin", told=f"{_PASSWORD}\n")
    return run("tokens", "create", "bench")
