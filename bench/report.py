"""What was measured as tables, and how it stands to the targets."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass

from rich.console import Console
from rich.table import Table
from rich.text import Text

from grid import TARGET_CONNECTIONS, TARGET_RECORDS, Measured
from hub_only import Restart, Scale
from idle import Idle
from tokens import Tokens

THROUGHPUT_OF_REDIS = 0.8
SCALE_WITHIN = 0.10
TOKEN_US = 1.5
FIRST_ANSWER_US = 1000.0
IDLE_BYTES = 10_000
#: From which share of its core on the load generator counts as the bottleneck.
LOAD_BUSY = 0.90
#: From which share of waiting for the core on a figure is called disturbed.
DISTURBED = 0.10


@dataclass(frozen=True, slots=True)
class Target:
    """A target and what became of it; `reached` is None where it was not measured."""

    name: str
    wanted: str
    got: str
    reached: bool | None


def console() -> Console:
    """A console that does not cut tables when its output is a file or a pipe."""
    found = Console()
    return found if found.is_terminal else Console(width=120)


def print_grid(to: Console, rows: list[Measured]) -> None:
    """Print one table for each size, one line a server and cell, and what to mind about them."""
    for records in dict.fromkeys(row.records for row in rows):
        chosen = [row for row in rows if row.records == records]
        plural = "record" if records == 1 else "records"
        table = table_of(to, f"{records:,} {plural}, {chosen[0].size:,} bytes an answer")
        for heading in ("conn.", "in flight", "server"):
            table.add_column(heading, justify="left" if heading == "server" else "right")
        for heading in (
            "req/s",
            "MB/s",
            "CPU µs/req",
            "p50 µs",
            "p99 µs",
            "× Redis",
            "server",
            "load",
        ):
            table.add_column(heading, justify="right")
        table.add_column("")
        before: Measured | None = None
        for row in chosen:
            fresh = before is None or (row.connections, row.depth) != (
                before.connections,
                before.depth,
            )
            if fresh and before is not None:
                table.add_section()
            before = row
            table.add_row(
                f"{row.connections}" if fresh else "",
                f"{row.depth}" if fresh else "",
                row.server,
                f"{row.per_second:,.0f}",
                f"{row.per_second * row.size / 1e6:,.0f}",
                f"{row.cpu_us:,.2f}",
                f"{row.p50_us:,.0f}",
                f"{row.p99_us:,.0f}",
                "" if row.of_redis is None else f"{row.of_redis:.2f}",
                f"{row.per_second * row.cpu_us / 1e6:.0%}",
                f"{row.load_busy:.0%}",
                marks(row.load_busy, row.disturbed, row.problems),
            )
        to.print(table)
    if any(row.load_busy > LOAD_BUSY for row in rows):
        to.print(
            f"L: the load generator used more than {LOAD_BUSY:.0%} of its core: unless the server "
            "was as busy, it set the throughput of this line.",
            highlight=False,
        )
    if any(row.disturbed > DISTURBED for row in rows):
        to.print(
            f"D: for more than {DISTURBED:.0%} of the time the server or the load generator was "
            "ready to run while another process or a kernel thread had its core.",
            highlight=False,
        )


def marks(load_busy: float, disturbed: float, problems: int) -> str:
    """The letters behind a line; README.md tells what they mean."""
    found = ("L" if load_busy > LOAD_BUSY else "") + ("D" if disturbed > DISTURBED else "")
    return found + ("!" if problems else "")


def table_of(to: Console, title: str) -> Table:
    """A table under a title."""
    # Not the table's own title: that is broken to the table's width.
    to.print()
    to.print(title, style="bold", highlight=False)
    return Table(box=None, pad_edge=False)


def print_tokens(to: Console, tokens: list[Tokens]) -> None:
    """Print what a token in every line adds."""
    table = table_of(to, "A held range of 252 records with a token and without, 16 connections")
    table.add_column("the line is answered")
    for heading in ("in flight", "CPU µs/req without", "with", "added"):
        table.add_column(heading, justify="right")
    for one in tokens:
        figures = (f"{one.open_us:.2f}", f"{one.locked_us:.2f}", f"{one.added_us:+.2f}")
        table.add_row(one.way, f"{one.depth}", *figures)
    to.print(table)


def print_scale(to: Console, scales: list[Scale]) -> None:
    """Print the comparison of few and many series."""
    table = table_of(to, "The same ten ranges of 252 records, 16 connections")
    for heading in ("in flight", "series", "req/s", "CPU µs/req", "ratio"):
        table.add_column(heading, justify="right")
    for scale in scales:
        few, many = f"{scale.few:,}", f"{scale.many:,}"
        few_rate, many_rate = (
            f"{scale.few_per_second:,.0f}",
            f"{scale.many_per_second:,.0f}",
        )
        table.add_row(f"{scale.depth}", few, few_rate, f"{scale.few_cpu_us:.2f}", "")
        table.add_row("", many, many_rate, f"{scale.many_cpu_us:.2f}", f"{scale.ratio:.3f}")
    to.print(table)


def print_restart(to: Console, restart: Restart) -> None:
    """Print what the first answer after a start costs."""
    table = table_of(to, f"First answer after a start, 252 records, {restart.times} starts")
    for heading in ("", "µs"):
        table.add_column(heading, justify="right" if heading else "left")
    for name, value in (
        ("server CPU, all threads, median", restart.cpu_us),
        ("the worst start", restart.worst_cpu_us),
        ("with the connection's accepting", restart.with_connect_cpu_us),
        ("the second answer", restart.second_cpu_us),
        ("time to the first answer", restart.wall_us),
    ):
        table.add_row(name, f"{value:,.0f}")
    to.print(table)


def print_idle(to: Console, idle: list[Idle]) -> None:
    """Print the memory of idle connections."""
    table = table_of(
        to, f"Resident memory of one of {idle[0].connections:,} idle connections, bytes"
    )
    table.add_column("server")
    table.add_column("never asked", justify="right")
    table.add_column("asked once", justify="right")
    for row in idle:
        table.add_row(row.server, f"{row.never_asked:,.0f}", f"{row.asked_once:,.0f}")
    to.print(table)


def targets(
    grid: Iterable[Measured],
    tokens: list[Tokens],
    scales: list[Scale],
    restart: Restart | None,
    idle: list[Idle],
) -> list[Target]:
    """Hold what was measured against the targets; what was not measured stays undecided."""
    cell = [
        row
        for row in grid
        if (row.records, row.connections) == (TARGET_RECORDS, TARGET_CONNECTIONS)
    ]
    found = []
    for depth, how in ((1, "not pipelined"), (16, "16 deep")):
        row = next((r for r in cell if r.server == "gapless" and r.depth == depth), None)
        redis = next((r for r in cell if r.server == "Redis" and r.depth == depth), None)
        name = f"throughput against Redis, 252 records × 16, {how}"
        wanted = f"at least {THROUGHPUT_OF_REDIS}"
        if row is None or redis is None or row.of_redis is None:
            found.append(Target(name, wanted, "", None))
            continue
        got = f"{row.of_redis:.2f} ({row.per_second:,.0f} of {redis.per_second:,.0f} req/s)"
        found.append(Target(name, wanted, got, row.of_redis >= THROUGHPUT_OF_REDIS))
    name, wanted = "a token adds to a held answer, server CPU", f"at most {TOKEN_US} µs"
    for one in tokens:
        how = f"{one.way}, {'not pipelined' if one.depth == 1 else f'{one.depth} deep'}"
        got = f"{one.added_us:+.2f} µs ({one.open_us:.2f} and {one.locked_us:.2f})"
        found.append(Target(f"{name}, {how}", wanted, got, one.added_us <= TOKEN_US))
    if not tokens:
        found.append(Target(name, wanted, "", None))
    name, wanted = (
        "throughput at 100,000 series against 10",
        f"within {SCALE_WITHIN:.0%}",
    )
    for scale in scales:
        got = f"{scale.ratio - 1:+.1%} ({scale.few:,} and {scale.many:,} series)"
        deep = f"{name}, {'not pipelined' if scale.depth == 1 else f'{scale.depth} deep'}"
        found.append(Target(deep, wanted, got, abs(scale.ratio - 1) <= SCALE_WITHIN))
    if not scales:
        found.append(Target(name, wanted, "", None))
    name, wanted = "first answer after a restart, server CPU", "at most 1 ms"
    if restart is None:
        found.append(Target(name, wanted, "", None))
    else:
        got = f"{restart.cpu_us / 1000:.2f} ms (worst {restart.worst_cpu_us / 1000:.2f})"
        found.append(Target(name, wanted, got, restart.cpu_us <= FIRST_ANSWER_US))
    name, wanted = "memory of an idle connection", f"at most {IDLE_BYTES / 1000:.0f} KB"
    hub = next((row for row in idle if row.server == "gapless"), None)
    if hub is None:
        found.append(Target(name, wanted, "", None))
    else:
        most = max(hub.never_asked, hub.asked_once)
        got = f"{hub.never_asked / 1000:.1f} KB, {hub.asked_once / 1000:.1f} KB after an answer"
        found.append(Target(name, wanted, got, most <= IDLE_BYTES))
    return found


def print_targets(to: Console, found: list[Target]) -> None:
    """Print the summary."""
    table = table_of(to, "Targets")
    for heading in ("", "wanted", "measured", ""):
        table.add_column(heading)
    for target in found:
        word, style = {
            True: ("reached", "green"),
            False: ("fell short", "red"),
            None: ("not measured", "yellow"),
        }[target.reached]
        table.add_row(target.name, target.wanted, target.got, Text(word, style=style))
    to.print(table)
