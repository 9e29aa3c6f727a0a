"""Ten years of daily bars fetched for the first time, and again when they are due, unchanged.

Both go all the way: a hub as a process, an upstream as another one, a client over TCP.
"""

from __future__ import annotations

import http.client
import sys
import time
from collections.abc import Callable
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path
from statistics import median

import msgspec
from rich.console import Console

from loading import Load
from plugin_fetch import cpu_of
from processes import ADDRESS, BENCH, Server, spawn
from questions import Ask, Range, Stitch, WrongAnswer, asking, of_provider, read_answer, rfc3339
from report import Target, table_of
from tokens import Start
from upstream import ticker_of
from web import post

#: Five hundred weeks without a holiday, long over.
START_S, END_S, RECORDS = 1_420_416_000, 1_722_816_000, 2_500
CHECK_S = 3
SETTINGS = """\
[cache]
check = "{check}s"

[yahoo]
base_url = "{upstream}"
rate = 1000.0
burst = 1000
"""
AGAIN_OF_FIRST = 1.2


@dataclass(frozen=True, slots=True)
class Checks:
    """Medians over the rounds, milliseconds: from the request to the answer, and the hub's CPU.

    `upstream_ms` is what upstream takes for the same rows by itself. `first`: nothing was held;
    `again`: the same request once all of it was due; `refresh`: `POST /v1/refresh`, whose answer
    has no records. The ratios are medians of those within the rounds.
    """

    records: int
    rounds: int
    upstream_ms: float
    first_ms: float
    first_cpu_ms: float
    again_ms: float
    again_cpu_ms: float
    refresh_ms: float
    refresh_cpu_ms: float
    again_of_first: float
    again_of_first_cpu: float


@dataclass(frozen=True, slots=True)
class _Round:
    """What one ticker took: (time, CPU) of each step, milliseconds, and upstream's time."""

    upstream: float
    first: tuple[float, float]
    again: tuple[float, float]
    refresh: tuple[float, float]


class _Refreshed(msgspec.Struct, frozen=True):
    stitch: Stitch


def measure_checks(start: Start, load: Load, folder: Path, rounds: int) -> Checks:
    """Fetch a cold ticker, fetch it anew, and ask for it once it is due; one ticker a round."""
    with ExitStack() as stack:
        command = [sys.executable, str(BENCH / "upstream.py"), str(rounds + 1)]
        upstream = spawn("upstream", command, load.cores.load, ADDRESS)
        stack.callback(upstream.stop)
        settings = folder / "checks.toml"
        address = f"http://{upstream.host}:{upstream.port}"
        settings.write_text(SETTINGS.format(check=CHECK_S, upstream=address))
        hub = start(folder / "checks.db", "gapless-checks", ("--config", str(settings)))
        stack.callback(hub.stop)
        ask = stack.enter_context(asking(hub))
        # The first one imports what the others need, and opens the connection upstream.
        _round(hub, upstream, ask, ticker_of(rounds))
        found = [_round(hub, upstream, ask, ticker_of(number)) for number in range(rounds)]
    return Checks(
        RECORDS,
        rounds,
        upstream_ms=median(one.upstream for one in found),
        first_ms=median(one.first[0] for one in found),
        first_cpu_ms=median(one.first[1] for one in found),
        again_ms=median(one.again[0] for one in found),
        again_cpu_ms=median(one.again[1] for one in found),
        refresh_ms=median(one.refresh[0] for one in found),
        refresh_cpu_ms=median(one.refresh[1] for one in found),
        again_of_first=median(one.again[0] / one.first[0] for one in found),
        again_of_first_cpu=median(one.again[1] / one.first[1] for one in found),
    )


def _round(hub: Server, upstream: Server, ask: Ask, ticker: str) -> _Round:
    # What upstream makes up of a ticker once is not to be the first fetch's.
    direct(upstream, ticker)
    by_itself = direct(upstream, ticker)
    request = request_for(ticker, "check")
    lines: list[bytes] = []
    first = timed(hub, lambda: lines.append(ask(request)))
    records, stitch = read_answer(lines.pop(), "check")
    if len(records) != RECORDS or stitch.upstream_requests != 1 or not stitch.fetched:
        raise WrongAnswer(f"{ticker}: {len(records)} records, fetched first: {stitch}")
    bounds = {"start": rfc3339(START_S), "end": rfc3339(END_S)}
    body = msgspec.json.encode({"provider": "yahoo_finance", "ticker": ticker, **bounds})
    refresh = timed(hub, lambda: lines.append(post(hub, "/v1/refresh", body)))
    refreshed = msgspec.json.decode(lines.pop(), type=_Refreshed)
    if refreshed.stitch.upstream_requests != 1 or refreshed.stitch.missing:
        raise WrongAnswer(f"{ticker}: refreshed: {refreshed}")
    # Nothing happens then that could be waited for: when it is due is a matter of time alone.
    time.sleep(CHECK_S + 0.05)
    again = timed(hub, lambda: lines.append(ask(request)))
    same, stitch = read_answer(lines.pop(), "check")
    if same != records or stitch.upstream_requests != 1 or stitch.fetched:
        raise WrongAnswer(f"{ticker}: {len(same)} records, fetched again: {stitch}")
    return _Round(by_itself, first, again, refresh)


def request_for(ticker: str, name: str) -> bytes:
    """Return the line that asks for all of a ticker under a request's name."""
    asked = Range(ticker, START_S, END_S, RECORDS)
    return of_provider("yahoo_finance")(asked.request(name))


def timed(hub: Server, step: Callable[[], None]) -> tuple[float, float]:
    """Return how long a step takes, and what the hub computes until it is at rest; milliseconds."""
    before = cpu_of(hub)
    began = time.perf_counter()
    step()
    took = (time.perf_counter() - began) * 1000
    return took, (cpu_of(hub) - before) / 1e6


def direct(upstream: Server, ticker: str) -> float:
    """Ask upstream itself for the same rows; return milliseconds."""
    path = f"/v8/finance/chart/{ticker}?period1={START_S}&period2={END_S}&interval=1d"
    connection = http.client.HTTPConnection(upstream.host, upstream.port, timeout=120)
    began = time.perf_counter()
    connection.request("GET", path)
    response = connection.getresponse()
    response.read()
    took = (time.perf_counter() - began) * 1000
    connection.close()
    if response.status != 200:
        raise WrongAnswer(f"{upstream.name}: {path}: {response.status}")
    return took


def print_checks(to: Console, checks: Checks) -> None:
    """Print what fetching for the first time and again takes."""
    title = (
        f"{checks.records:,} daily bars, {checks.rounds} tickers, from the request to the answer"
    )
    table = table_of(to, title)
    for heading in ("", "ms", "CPU ms of the hub", "× first", "× first, CPU"):
        table.add_column(heading, justify="right" if heading else "left")
    table.add_row("upstream by itself", f"{checks.upstream_ms:,.1f}")
    table.add_row("fetched first", f"{checks.first_ms:,.1f}", f"{checks.first_cpu_ms:,.1f}")
    table.add_row(
        "due, fetched again, unchanged",
        f"{checks.again_ms:,.1f}",
        f"{checks.again_cpu_ms:,.1f}",
        f"{checks.again_of_first:.2f}",
        f"{checks.again_of_first_cpu:.2f}",
    )
    table.add_row(
        "POST /v1/refresh, unchanged", f"{checks.refresh_ms:,.1f}", f"{checks.refresh_cpu_ms:,.1f}"
    )
    to.print(table)


def targets_checks(checks: Checks | None) -> list[Target]:
    """Hold what was measured against the targets; what was not measured stays undecided."""
    name, wanted = "2,500 held bars fetched again against first", f"at most {AGAIN_OF_FIRST} ×"
    if checks is None:
        return [Target(name, wanted, "", None), Target(f"{name}, CPU", wanted, "", None)]
    times = f"{checks.again_of_first:.2f} × ({checks.again_ms:,.1f} and {checks.first_ms:,.1f} ms)"
    cpu = f"{checks.again_of_first_cpu:.2f} × "
    cpu += f"({checks.again_cpu_ms:,.1f} and {checks.first_cpu_ms:,.1f} ms)"
    return [
        Target(name, wanted, times, checks.again_of_first <= AGAIN_OF_FIRST),
        Target(f"{name}, CPU", wanted, cpu, checks.again_of_first_cpu <= AGAIN_OF_FIRST),
    ]
