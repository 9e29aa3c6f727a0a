"""One measurement: the load generator against one server, and the CPU that server took."""

from __future__ import annotations

import os
import shutil
import subprocess
from array import array
from dataclasses import dataclass
from pathlib import Path

import msgspec

from processes import BENCH, OUT, Cores, Cpu, NotMeasured, Server, on_core, settle
from questions import Files


class Counted(msgspec.Struct, frozen=True):
    """What load.c prints; times in microseconds unless the name says otherwise."""

    requests: int
    seconds: float
    bytes: int
    errors: int
    mismatches: int
    p50_us: float
    p99_us: float
    max_us: float
    cpu_seconds: float
    waited_seconds: float
    warm_up_problems: int
    first_problem: str


@dataclass(frozen=True, slots=True)
class Sample:
    """One run against one server.

    `load_busy` and `disturbed` are shares of the run: of the load generator's core that it used,
    and of the time in which the server, or the load generator if that is more, could have run but
    something else had its core.
    """

    answered: int
    per_second: float
    cpu_us: float
    p50_us: float
    p99_us: float
    max_us: float
    load_busy: float
    disturbed: float
    problems: int
    first_problem: str


def compile_load() -> Path:
    """Compile load.c unless that is done already, and return the program.

    Raises NotMeasured, saying how to get a compiler, where there is none.
    """
    program, source = OUT / "load", BENCH / "load.c"
    OUT.mkdir(exist_ok=True)
    if program.exists() and program.stat().st_mtime > source.stat().st_mtime:
        return program
    compiler = shutil.which(os.environ.get("CC", "cc"))
    if compiler is None:
        raise NotMeasured(
            "No C compiler: the load generator cannot be built. Install one (Debian: `apt-get "
            "install gcc libc6-dev`), or name it in CC."
        )
    command = [compiler, "-O2", "-Wall", "-Wextra", "-o", str(program), str(source)]
    built = subprocess.run(command, capture_output=True, text=True, check=False)
    if built.returncode:
        raise NotMeasured(f"{compiler} did not compile load.c: {built.stderr.strip()}")
    return program


@dataclass(frozen=True, slots=True)
class Load:
    """The compiled load generator and the cores."""

    program: Path
    cores: Cores

    def measure(
        self,
        server: Server,
        files: Files,
        connections: int,
        depth: int,
        seconds: float,
        latencies: Path | None = None,
    ) -> Sample:
        """Load the server for `seconds` and return what it and the load generator took.

        `latencies` is a file for what each answer took (`read_latencies`).

        Raises NotMeasured if the load generator cannot connect or the server has ended,
        ChildProcessError if the load generator failed.
        """
        command = [
            str(self.program),
            server.host,
            str(server.port),
            str(connections),
            str(depth),
        ]
        command += [str(seconds), files.mode, str(files.asked), str(files.expected)]
        command += [] if latencies is None else [str(latencies)]
        with on_core(self.cores.load):
            process = subprocess.Popen(
                command,
                stdin=subprocess.PIPE,
                stdout=subprocess.PIPE,
                stderr=subprocess.PIPE,
            )
        with process:
            assert process.stdin and process.stdout and process.stderr
            if process.stdout.readline() != b"ready\n":
                raise NotMeasured(process.stderr.read().decode().strip())
            before = Cpu.of(server.pid)
            process.stdin.write(b"go\n")
            process.stdin.flush()
            printed = process.stdout.readline()
            after = Cpu.of(server.pid)
            if not printed:
                said = process.stderr.read().decode().strip()
                raise ChildProcessError(f"the load generator ended early: {said}")
        if server.process.poll() is not None:
            raise NotMeasured(f"{server.name} ended with code {server.process.returncode}.")
        # Closing the connections is work too: none of it may fall into the next server's time.
        settle(server.pid)
        return _sample(msgspec.json.decode(printed, type=Counted), before, after)


def read_latencies(path: Path) -> list[tuple[int, int]]:
    """When each request was sent, by `time.monotonic_ns`, and how long its answer took; ns."""
    numbers = array("Q", path.read_bytes())
    return list(zip(numbers[::2], numbers[1::2], strict=True))


def _sample(counted: Counted, before: Cpu, after: Cpu) -> Sample:
    # A server that drops all connections ends a run at once.
    seconds = max(counted.seconds, 1e-6)
    answered = max(1, counted.requests)
    return Sample(
        answered=counted.requests,
        per_second=counted.requests / seconds,
        cpu_us=after.since(before) / answered / 1000,
        p50_us=counted.p50_us,
        p99_us=counted.p99_us,
        max_us=counted.max_us,
        load_busy=counted.cpu_seconds / seconds,
        disturbed=max(after.waited_since(before) / 1e9, counted.waited_seconds) / seconds,
        problems=counted.errors + counted.mismatches + counted.warm_up_problems,
        first_problem=counted.first_problem,
    )
