"""`make bench`: what an answer costs, beside Redis, nginx, and the least that could be done.

README.md beside this explains the tables.
"""

from __future__ import annotations

import argparse
import os
import platform
import re
import resource
import shlex
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from dataclasses import asdict, dataclass
from functools import partial
from importlib.metadata import version
from pathlib import Path
from typing import Any

import msgspec
from rich.console import Console

import fair
import flat
import report
import report_client
import report_http
from checks import measure_checks, print_checks, targets_checks
from client import Rivals, measure_asks, measure_bulk
from days import measure_days, print_days, targets_days
from figures import NOW, Comparison, Figure, Side, print_figures, targets_figures
from frames import measure_frames
from frugality import measure_frugality, print_frugality
from grid import SIZES, Measured, measure_grid, subjects
from hub_only import compare_scales, first_answers
from idle import fresh_servers, idle_memory
from loading import Load, compile_load
from plugin_fetch import measure_fetches
from plugin_loads import measure_loads
from processes import HUB, OUT, Cores, NotMeasured, Server, is_checkout, program_of, start_gapless
from questions import WrongAnswer
from results import FULL, QUICK, Plan, Results, problems_of
from tokens import measure_tokens
from web import measure_web

PARTS = (
    "grid",
    "tokens",
    "days",
    "scale",
    "restart",
    "idle",
    "http",
    "frames",
    "plugins",
    "client",
    "checks",
    "upstream",
    "flat",
    "fair",
)


@dataclass(frozen=True, slots=True)
class Bench:
    """One run: the plan, the tools, and where its results go."""

    plan: Plan
    load: Load
    folder: Path
    command: tuple[str, ...]
    extra: tuple[str, ...]
    before: Path | None
    rivals: Rivals
    to: Console
    results: Results

    def start(
        self, db: Path, name: str, flags: tuple[str, ...] = (), *, web: bool = False
    ) -> Server:
        """Start a hub on `db`, on the servers' core, with further flags; `web`: with HTTP."""
        core, extra = self.load.cores.server, (*self.extra, *flags)
        return start_gapless(db, core, name=name, command=self.command, extra=extra, web=web)

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
            for name, part in (
                ("tokens", self._tokens),
                ("days", self._days),
                ("scale", self._scale),
                ("restart", self._restart),
                ("http", self._http),
                ("frames", self._frames),
                ("plugins", self._fetches),
                ("plugins", self._loads),
                ("client", self._asks),
                ("client", self._bulk),
                ("checks", self._checks),
                ("flat", self._flat),
                ("fair", self._fair),
            ):
                if name in parts:
                    self._part(part)
        if "idle" in parts:
            self._part(self._idle)
        if "upstream" in parts:
            self._part(self._frugality)

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

    def _tokens(self) -> None:
        plan = self.plan
        self.results.tokens += measure_tokens(
            self.load, self.start, self.folder, plan.token_rounds, plan.seconds
        )
        report.print_tokens(self.to, self.results.tokens)

    def _days(self) -> None:
        plan = self.plan
        self.results.days += measure_days(
            self.load, self.start, self.folder, plan.token_rounds, plan.seconds
        )
        print_days(self.to, self.results.days)

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

    def _http(self) -> None:
        plan, start = self.plan, partial(self.start, web=True)
        self.results.web += measure_web(
            start, self.load.cores, self.folder, plan.web_rounds, plan.web_seconds, self.leave_out
        )
        report_http.print_web(self.to, self.results.web)

    def _frames(self) -> None:
        plan, start = self.plan, partial(self.start, web=True)
        frames = measure_frames(
            start, self.load.cores, self.folder, plan.rows, plan.frame_rounds, self.leave_out
        )
        self.results.frames = frames
        report_http.print_frames(self.to, frames)

    def _fetches(self) -> None:
        plan, start = self.plan, partial(self.start, web=True)
        self.results.fetches += measure_fetches(
            start, self.load, self.folder, plan.fetched, plan.fetch_rounds, 2 * plan.seconds
        )
        report_http.print_fetches(self.to, self.results.fetches)

    def _loads(self) -> None:
        plan, start = self.plan, partial(self.start, web=True)
        loads, reloads = measure_loads(
            start, self.load, self.folder, plan.load_rounds, 2 * plan.seconds, plan.reloads
        )
        self.results.loads, self.results.reloads = loads, reloads
        report_http.print_loads(self.to, loads, reloads)

    def _asks(self) -> None:
        plan, start = self.plan, partial(self.start, web=True)
        cores = self.load.cores
        asks = measure_asks(start, cores, self.folder, plan.ask_rounds, plan.asks)
        self.results.asks = asks
        report_client.print_asks(self.to, asks)

    def _bulk(self) -> None:
        plan, start = self.plan, partial(self.start, web=True)
        bulks = measure_bulk(
            start,
            self.load.cores,
            self.folder,
            self.rivals,
            plan.bulk_rounds,
            plan.openbb_tickers,
            self.leave_out,
        )
        self.results.bulks = bulks
        report_client.print_bulks(self.to, bulks)

    def _checks(self) -> None:
        start = partial(self.start, web=True)
        checks = measure_checks(start, self.load, self.folder, self.plan.check_rounds)
        self.results.checks = checks
        print_checks(self.to, checks)

    def _compared(self) -> Comparison:
        """The hub under test, and the one before it, if there is one to compare with."""
        core, plan = self.load.cores.server, self.plan
        sides = [Side(NOW, core, self.command, flags=self.extra)]
        if self.before is not None:
            sides.append(Side.before(core, self.before))
        return Comparison(tuple(sides), self.load, self.folder, plan.side_rounds, plan.seconds)

    def _flat(self) -> None:
        found = flat.measure_flat(self._compared(), self.plan.pieces)
        self._figures("Series in many pieces", self.results.flat, found)

    def _fair(self) -> None:
        found = fair.measure_fair(self._compared(), self.plan.fetched)
        self._figures("New words, one bar more, a fetch beside", self.results.fair, found)

    def _figures(self, title: str, figures: list[Figure], found: Iterator[list[Figure]]) -> None:
        """Collect figures and print those that there are, even if one of them failed."""
        try:
            for some in found:
                figures += some
        finally:
            print_figures(self.to, title, figures)

    def _frugality(self) -> None:
        self.results.frugality += measure_frugality(self.leave_out)
        print_frugality(self.to, self.results.frugality)


def machine(cores: Cores) -> dict[str, Any]:
    """What the figures were measured on."""
    model = "unknown"
    for line in Path("/proc/cpuinfo").read_text().splitlines():
        if line.startswith("model name"):
            model = line.partition(":")[2].strip()
            break
    return {
        "cpu": model,
        "cores": os.cpu_count(),
        "server_core": cores.server,
        "load_core": cores.load,
        "kernel": platform.release(),
        "python": platform.python_version(),
        "uvloop": version("uvloop"),
        "redis": version_of("redis-server", "--version", r"v=(\S+)"),
        "nginx": version_of("nginx", "-v", r"nginx/(\S+)"),
        "wrk": version_of("wrk", "-v", r"wrk (\S+)"),
    }


def version_of(program: str, flag: str, pattern: str) -> str:
    """The version of a program by its own word, or "absent"."""
    try:
        path = program_of(program, program)
    except NotMeasured:
        return "absent"
    said = subprocess.run([path, flag], capture_output=True, text=True, check=False)
    found = re.search(pattern, said.stdout + said.stderr)
    return found[1] if found else "unknown"


def main() -> int:
    """Measure, print, write results.json; 1 if any answer was wrong or lost, else 0."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--quick", action="store_true", help="a few minutes, less exact")
    parser.add_argument("--only", choices=PARTS, action="append", help="this part (repeatable)")
    parser.add_argument(
        "--hub", metavar="COMMAND", help="how to start the hub, without --db and --tcp"
    )
    parser.add_argument("--hub-args", metavar="ARGS", default="", help="further flags for the hub")
    parser.add_argument(
        "--before", metavar="CHECKOUT", type=Path, help="measure another checkout beside this one"
    )
    for name in ("yfinance-cache", "openbb"):
        parser.add_argument(
            f"--{name}",
            metavar="PYTHON",
            default=os.environ.get(f"BENCH_{name.replace('-', '_').upper()}"),
            help=f"the interpreter of an environment that has {name}, to compare with",
        )
    asked = parser.parse_args()
    if asked.before is not None and not is_checkout(asked.before):
        parser.error(f"--before: there is no src/gapless in {asked.before}")
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
        "{cpu}, {cores} cores; Python {python}, uvloop {uvloop}, Redis {redis}, nginx {nginx}, wrk "
        "{wrk}; servers on core {server_core}, load generators on core {load_core}".format_map(
            about
        ),
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
            before=None if asked.before is None else asked.before.resolve(),
            rivals=Rivals(asked.yfinance_cache, asked.openbb),
            to=to,
            results=results,
        )
        bench.measure(tuple(asked.only or PARTS))
    found = report.targets(
        results.grid, results.tokens, results.scale, results.restart, results.idle
    )
    found += report_http.targets_http(
        results.web, results.frames, results.fetches, results.loads, results.reloads
    )
    found += report_client.targets_client(results.asks, results.bulks)
    found += targets_days(results.days)
    found += targets_checks(results.checks)
    found += targets_figures(flat.WANTED, results.flat)
    found += targets_figures(fair.WANTED, results.fair)
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
