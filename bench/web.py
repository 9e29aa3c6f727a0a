"""Held records over HTTP, beside nginx with a file of the very same bytes.

wrk is the load generator: it is faster than either server, but looks at nothing that it is sent.
So every body is compared before and after each round, and of what wrk got the bytes are counted.
"""

from __future__ import annotations

import http.client
import resource
import subprocess
from collections.abc import Callable
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path
from statistics import median

import msgspec

from hub_only import Start
from processes import (
    BENCH,
    Cores,
    Cpu,
    NotMeasured,
    Server,
    on_core,
    program_of,
    settle,
    start_nginx,
)
from questions import Range, Record, WrongAnswer, asking, read_answer, whole_history

TICKER = "AAPL"
CONNECTIONS = 64
#: 252 records, for any first instant on that day and any end on the other: both are holidays.
FIRST, LAST = "2010-01-01", "2011-01-01"
FIRST_S, LAST_S = 1_262_304_000, 1_293_840_000
HELD = f"/v1/data/sample/{TICKER}?start={FIRST}&end={LAST}"
WORDS = f"/v1/data/sample/{TICKER}?start={FIRST}T@start@&end={LAST}T@end@"
#: More pairs of times than one run can use up.
FRESH = 2_000_000
DAY_S = 86_400
HELD_WAY, NGINX_WAY = "GET, asked before", "nginx, a file"


class Counted(msgspec.Struct, frozen=True):
    """What wrk.lua prints; times in microseconds."""

    requests: int
    us: int
    bytes: int
    p50_us: float
    p99_us: float
    max_us: float
    errors: int


@dataclass(frozen=True, slots=True)
class Web:
    """A way to ask for the 252 records: medians over the rounds.

    `of_nginx` is the ratio of throughputs in the same round, `None` without nginx.
    """

    asked: str
    size: int
    per_second: float
    cpu_us: float
    p50_us: float
    p99_us: float
    of_nginx: float | None
    load_busy: float
    disturbed: float
    problems: int
    first_problem: str


@dataclass(frozen=True, slots=True)
class _Run:
    counted: Counted
    cpu_us: float
    load_busy: float
    disturbed: float

    @property
    def per_second(self) -> float:
        return self.counted.requests / max(self.counted.us / 1e6, 1e-6)


@dataclass(frozen=True, slots=True)
class _Way:
    """One of the ways: `words` are what wrk.lua takes, `check` raises WrongAnswer."""

    asked: str
    server: Server
    path: str
    words: Callable[[int], list[str]]
    check: Callable[[], int]


def get(server: Server, path: str, seconds: float = 120.0) -> bytes:
    """The body of a GET on a connection of its own; raises WrongAnswer for any status but 200."""
    return _exchange(server, "GET", path, None, seconds)


def post(server: Server, path: str, body: bytes = b"", seconds: float = 120.0) -> bytes:
    """The body that answers a POST of JSON; raises WrongAnswer for any status but 200."""
    return _exchange(server, "POST", path, body, seconds)


def _exchange(server: Server, method: str, path: str, body: bytes | None, seconds: float) -> bytes:
    connection = http.client.HTTPConnection(server.host, server.web, timeout=seconds)
    try:
        # Just the headers that wrk sends: by others an answer may be another one.
        connection.putrequest(method, path, skip_accept_encoding=True)
        if body is not None:
            connection.putheader("content-type", "application/json")
            connection.putheader("content-length", str(len(body)))
        connection.endheaders(body)
        response = connection.getresponse()
        got = response.read()
    except (http.client.HTTPException, ConnectionError) as error:
        raise WrongAnswer(f"{server.name}: {method} {path}: {error!r}") from error
    finally:
        connection.close()
    if response.status != 200:
        raise WrongAnswer(f"{server.name}: {method} {path}: {response.status} {got[:300]!r}")
    return got


def measure_web(
    start: Start,
    cores: Cores,
    folder: Path,
    rounds: int,
    seconds: int,
    say: Callable[[str], None],
) -> list[Web]:
    """Load each way in turn with wrk; raises NotMeasured without it, `say` tells of no nginx."""
    program = program_of("wrk", "wrk")
    with ExitStack() as stack:
        hub = start(folder / "web.db", "gapless-web")
        stack.callback(hub.stop)
        body, history = _held(hub)
        ways = _hub_ways(hub, body, history, folder)
        files = folder / "nginx"
        files.mkdir()
        (files / "held.json").write_bytes(body)
        try:
            nginx = start_nginx(files, cores.server)
            stack.callback(nginx.stop)
            ways.insert(0, _same_bytes(NGINX_WAY, nginx, "/held.json", body))
        except NotMeasured as reason:
            say(str(reason))
        runs: dict[str, list[_Run]] = {way.asked: [] for way in ways}
        problems: dict[str, list[str]] = {way.asked: [] for way in ways}
        sizes = {}
        for number in range(rounds):
            turn = number % len(ways)
            for way in ways[turn:] + ways[:turn]:
                sizes[way.asked] = way.check()
                run = _load(program, way, cores, number, seconds)
                runs[way.asked].append(run)
                problems[way.asked] += _problems(run.counted, sizes[way.asked])
                way.check()
        return [_web(way, runs, sizes[way.asked], problems[way.asked]) for way in ways]


def _held(hub: Server) -> tuple[bytes, list[Record]]:
    """Have the hub hold everything; return the records of the range, and their JSON."""
    with asking(hub) as ask:
        history = whole_history(ask, TICKER)
    near = [r for r in history if FIRST_S <= r["timestamp"] < LAST_S + DAY_S]
    if not near or not FIRST_S + DAY_S <= near[0]["timestamp"] <= near[-1]["timestamp"] < LAST_S:
        raise NotMeasured(f"The sample has records of {TICKER} on {FIRST} or {LAST}.")
    body = get(hub, HELD)
    if msgspec.json.decode(body) != near:
        raise WrongAnswer(f"GET {HELD}: the records differ from those of the whole history.")
    return body, near


def _hub_ways(hub: Server, body: bytes, history: list[Record], folder: Path) -> list[_Way]:
    line = Range(TICKER, FIRST_S, LAST_S, len(history)).request("bench").rstrip()
    file = folder / "query.json"
    file.write_bytes(line)
    fresh = iter(range(86_400))

    def check_words() -> int:
        # Others than wrk uses: those of ends that it does not come to.
        for _ in range(5):
            clock = "{:02}:{:02}:{:02}Z".format(*_hms(next(fresh)))
            path = WORDS.replace("@start@", clock).replace("@end@", "23:59:59Z")
            _compare(hub, path, get(hub, path), body)
        return len(body)

    def check_query() -> int:
        got = post(hub, "/v1/query", line)
        if read_answer(got, "bench")[0] != history:
            raise WrongAnswer("POST /v1/query: the records differ from those of the GET.")
        return len(got)

    return [
        _same_bytes(HELD_WAY, hub, HELD, body),
        _Way(
            "GET, in words not seen before",
            hub,
            WORDS,
            lambda number: ["words", str(number * FRESH)],
            check_words,
        ),
        _Way("POST /v1/query", hub, "/v1/query", lambda _: ["post", str(file)], check_query),
    ]


def _same_bytes(asked: str, server: Server, path: str, body: bytes) -> _Way:
    def check() -> int:
        _compare(server, path, get(server, path), body)
        return len(body)

    return _Way(asked, server, path, lambda _: ["get"], check)


def _compare(server: Server, path: str, got: bytes, wanted: bytes) -> None:
    if got != wanted:
        at = next((i for i, (a, b) in enumerate(zip(got, wanted)) if a != b), len(got))  # noqa: B905
        raise WrongAnswer(f"{server.name}: GET {path} differs at byte {at}: {got[at : at + 80]!r}")


def _hms(second: int) -> tuple[int, int, int]:
    return second // 3600, second // 60 % 60, second % 60


def _load(program: str, way: _Way, cores: Cores, number: int, seconds: int) -> _Run:
    """Let wrk ask for `seconds`, and count the CPU both take."""
    server = way.server
    command = [program, "-t1", f"-c{CONNECTIONS}", f"-d{seconds}s", "--timeout", "10s"]
    command += ["-s", str(BENCH / "wrk.lua"), f"http://{server.host}:{server.web}{way.path}"]
    command += ["--", *way.words(number)]
    before, used = Cpu.of(server.pid), _children_seconds()
    with on_core(cores.load):
        ran = subprocess.run(command, capture_output=True, text=True, check=False)
    after, used = Cpu.of(server.pid), _children_seconds() - used
    try:
        counted = msgspec.json.decode(ran.stdout.strip().rpartition("\n")[2], type=Counted)
    except msgspec.DecodeError as error:
        raise NotMeasured(f"wrk failed: {ran.stderr.strip() or ran.stdout.strip()}") from error
    if server.process.poll() is not None:
        raise NotMeasured(f"{server.name} ended with code {server.process.returncode}.")
    # Closing the connections is work too: none of it may fall into the next server's time.
    settle(server.pid)
    took = max(counted.us / 1e6, 1e-6)
    return _Run(
        counted,
        after.since(before) / max(1, counted.requests) / 1000,
        used / took,
        after.waited_since(before) / 1e9 / took,
    )


def _children_seconds() -> float:
    """CPU seconds of all processes of ours that have ended; of the servers none has, meanwhile."""
    used = resource.getrusage(resource.RUSAGE_CHILDREN)
    return used.ru_utime + used.ru_stime


def _problems(counted: Counted, size: int) -> list[str]:
    """What wrk tells of answers that did not come, or not whole."""
    found = []
    if counted.errors:
        found.append(f"{counted.errors} requests failed or had another status")
    # Heads come on top; of the last answer on each connection a part may be counted.
    least, most = size * counted.requests, (size + 2_000) * (counted.requests + CONNECTIONS)
    if not counted.requests or not least <= counted.bytes <= most:
        found.append(f"{counted.requests} answers of {size} bytes had {counted.bytes} bytes in all")
    return found


def _web(way: _Way, runs: dict[str, list[_Run]], size: int, problems: list[str]) -> Web:
    mine, nginx = runs[way.asked], runs.get(NGINX_WAY)
    ratios = None
    if nginx is not None:
        ratios = [a.per_second / b.per_second for a, b in zip(mine, nginx, strict=True)]
    return Web(
        way.asked,
        size,
        per_second=median(run.per_second for run in mine),
        cpu_us=median(run.cpu_us for run in mine),
        p50_us=median(run.counted.p50_us for run in mine),
        p99_us=median(run.counted.p99_us for run in mine),
        of_nginx=None if ratios is None else median(ratios),
        load_busy=median(run.load_busy for run in mine),
        disturbed=median(run.disturbed for run in mine),
        problems=len(problems),
        first_problem=next(iter(problems), ""),
    )
