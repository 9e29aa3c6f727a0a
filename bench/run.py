"""`make bench`: what an answer costs, beside Redis and a bare uvloop echo.

README.md beside this explains the tables.
"""

from __future__ import annotations

import argparse
import os
import platform
import resource
import shlex
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from contextlib import ExitStack
from dataclasses import asdict, dataclass, field
from functools import partial
from importlib.metadata import version
from pathlib import Path
from typing import Any

import msgspec
from rich.console import Console

import report
from grid import SIZES, Measured, measure_grid, subjects
from hub_only import Restart, Scale, compare_scales, first_answers
from idle import Idle, fresh_servers, idle_memory
from loading import Load, compile_load
from processes import HUB, OUT, Cores, NotMeasured, Server, start_gapless
from questions import WrongAnswer

PARTS = ("grid", "scale", "restart", "idle")


@dataclass(frozen=True, slots=True)
class Plan:
    """How long to measure: rounds and seconds of a cell, starts, idle connections."""

    rounds: int
    seconds: float
    scale_rounds: int
    starts: int
    idle: int = 2000
    few: int = 10
    many: int = 100_000


FULL = Plan(rounds=2, seconds=1.5, scale_rounds=5, starts=10)
QUICK = Plan(rounds=1, seconds=0.3, scale_rounds=3, starts=5)


@dataclass(slots=True)
class Results:
    """What has been measured so far, what could not be, and the wrong answers."""

    grid: list[Measured] = field(default_factory=list)
    scale: list[Scale] = field(default_factory=list)
    restart: Restart | None = None
    idle: list[Idle] = field(default_factory=list)
    left_out: list[str] = field(default_factory=list)
    wrong: list[str] = field(default_factory=list)


@dataclass(frozen=True, slots=True)
class Bench:
    """One run: the plan, the tools, and where its results go."""

    plan: Plan
    load: Load
    folder: Path
    command: tuple[str, ...]
    extra: tuple[str, ...]
    to: Console
    results: Results

    def start(self, db: Path, name: str) -> Server:
        """Start a hub on `db`, on the servers' core."""
        core = self.load.cores.server
        return start_gapless(db, core, name=name, command=self.command, extra=self.extra)

    def leave_out(self, why: str) -> None:
        """Say what is not measured, now and in the results; once."""
        if why in self.results.left_out:
            return
        self.results.left_out.append(why)
        self.to.print(f"Left out: {why}", highlight=False, markup=False)

    def measure(self, parts: tuple[str, ...]) -> None:
        """Measure the parts asked for; one that cannot be measured does not stop the next."""
        with ExitStack() as stack:
            hub: Server | None = None
            try:
                hub = self.start(self.folder / "bench.db", "gapless")
                stack.callback(hub.stop)
            except NotMeasured as reason:
                self.leave_out(str(reason))
            if "grid" in parts:
                self._part(partial(self._grid, hub))
        if hub is not None:
            for name, part in (("scale", self._scale), ("restart", self._restart)):
                if name in parts:
                    self._part(part)
        if "idle" in parts:
            self._part(self._idle)

    def _part(self, body: Callable[[], None]) -> None:
        try:
            body()
        except NotMeasured as reason:
            self.leave_out(str(reason))
        except (WrongAnswer, OSError) as wrong:
            # An OSError is a process that went away while it was needed.
            self.results.wrong.append(f"{type(wrong).__name__}: {wrong}")

    def _grid(self, hub: Server | None) -> None:
        plan, rows = self.plan, self.results.grid
        core = self.load.cores.server

        def done(cell: list[Measured]) -> None:
            rows.extend(cell)
            if self.to.is_terminal:
                one = cell[0]
                at = f"{one.records} records, {one.connections} connections, {one.depth} in flight"
                self.to.print(f"{at:60}", end="\r")

        try:
            with subjects(hub, SIZES, core, self.folder, self.leave_out) as found:
                measure_grid(self.load, found, plan.rounds, plan.seconds, done, self.leave_out)
        finally:
            report.print_grid(self.to, rows)

    def _idle(self) -> None:
        core, connections = self.load.cores.server, self.plan.idle
        idle = self.results.idle
        for kind, open_fresh in fresh_servers(self.start, core, self.folder).items():
            try:
                with open_fresh() as (server, question):
                    idle.append(idle_memory(server, kind, connections, question))
            except NotMeasured as reason:
                self.leave_out(str(reason))
        if idle:
            report.print_idle(self.to, idle)

    def _scale(self) -> None:
        plan = self.plan
        self.results.scale += compare_scales(
            self.load,
            self.start,
            self.folder,
            plan.few,
            plan.many,
            plan.scale_rounds,
            plan.seconds,
        )
        report.print_scale(self.to, self.results.scale)

    def _restart(self) -> None:
        restart = first_answers(self.start, self.folder / "restart.db", self.plan.starts)
        self.results.restart = restart
        report.print_restart(self.to, restart)


def machine(cores: Cores) -> dict[str, Any]:
    """What the figures were measured on."""
    model = "unknown"
    for line in Path("/proc/cpuinfo").read_text().splitlines():
        if line.startswith("model name"):
            model = line.partition(":")[2].strip()
            break
    try:
        said = subprocess.run(["redis-server", "--version"], capture_output=True, text=True)
        redis = said.stdout.split("v=")[1].split()[0]
    except (OSError, IndexError):
        redis = "absent"
    return {
        "cpu": model,
        "cores": os.cpu_count(),
        "server_core": cores.server,
        "load_core": cores.load,
        "kernel": platform.release(),
        "python": platform.python_version(),
        "uvloop": version("uvloop"),
        "redis": redis,
    }


def problems_of(results: Results) -> list[str]:
    """Everything that came back other than it should have."""
    found = list(results.wrong)
    for row in results.grid:
        if row.problems:
            where = f"{row.records} records, {row.connections} connections, {row.depth} in flight"
            found.append(
                f"{row.server}, {where}: {row.problems} wrong or lost. {row.first_problem}"
            )
    for scale in results.scale:
        if scale.problems:
            found.append(
                f"{scale.few} or {scale.many} series: {scale.problems}. {scale.first_problem}"
            )
    return found


def main() -> int:
    """Measure, print, write results.json; 1 if any answer was wrong or lost, else 0."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--quick", action="store_true", help="about a minute, less exact")
    parser.add_argument("--only", choices=PARTS, action="append", help="this part (repeatable)")
    parser.add_argument(
        "--hub", metavar="COMMAND", help="how to start the hub, without --db and --tcp"
    )
    parser.add_argument("--hub-args", metavar="ARGS", default="", help="further flags for the hub")
    asked = parser.parse_args()
    to = report.console()
    started = time.monotonic()
    hard = resource.getrlimit(resource.RLIMIT_NOFILE)[1]
    resource.setrlimit(resource.RLIMIT_NOFILE, (hard, hard))
    cores = Cores.pick()
    try:
        load = Load(compile_load(), cores)
    except NotMeasured as reason:
        to.print(str(reason), highlight=False, markup=False)
        return 1
    about = machine(cores)
    to.print(
        "{cpu}, {cores} cores; Python {python}, uvloop {uvloop}, Redis {redis}; servers on core "
        "{server_core}, load generator on core {load_core}".format_map(about),
        highlight=False,
    )
    if cores.server == cores.load:
        to.print("Only one core: server and load generator share it, throughput says little.")
    results = Results()
    with tempfile.TemporaryDirectory(prefix="gapless-bench-") as folder:
        bench = Bench(
            plan=QUICK if asked.quick else FULL,
            load=load,
            folder=Path(folder),
            command=tuple(shlex.split(asked.hub)) if asked.hub else HUB,
            extra=tuple(shlex.split(asked.hub_args)),
            to=to,
            results=results,
        )
        bench.measure(tuple(asked.only or PARTS))
    found = report.targets(results.grid, results.scale, results.restart, results.idle)
    report.print_targets(to, found)
    problems = problems_of(results)
    for problem in problems:
        to.print(f"Wrong: {problem}", style="red", highlight=False, markup=False)
    written = {
        "machine": about,
        "plan": asdict(bench.plan),
        **asdict(results),
        "targets": [asdict(target) for target in found],
        "problems": problems,
    }
    text = msgspec.json.format(msgspec.json.encode(written), indent=1)
    (OUT / "results.json").write_bytes(text + b"\n")
    to.print(f"bench/out/results.json written; {time.monotonic() - started:.0f} s in all.")
    return 1 if problems else 0


if __name__ == "__main__":
    sys.exit(main())
