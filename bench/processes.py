"""The servers under test as real processes: started on a core of their own, watched from outside.

Everything about a server that is not its answers: how it starts, where it listens, what CPU time
and memory the kernel has counted for it.
"""

from __future__ import annotations

import os
import re
import shutil
import socket
import subprocess
import sys
import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, replace
from pathlib import Path

BENCH = Path(__file__).resolve().parent
OUT = BENCH / "out"
HUB = (sys.executable, "-m", "gapless", "serve")
#: A hub with the provider of bars.py in its own process.
INSIDE = (sys.executable, str(BENCH / "inside.py"))
HOST = "127.0.0.1"
ADDRESS = r"tcp=(?:tcp://)?127\.0\.0\.1:(?P<port>\d+)"
BOTH_ADDRESSES = ADDRESS + r" http=http://127\.0\.0\.1:(?P<http>\d+)"
START_SECONDS = 30.0
#: One process, nothing logged, connections kept as long as they are used, files sent as they lie.
NGINX = """\
daemon off;
master_process off;
pid nginx.pid;
error_log stderr notice;
events { worker_connections 2048; }
http {
    access_log off;
    sendfile on;
    tcp_nodelay on;
    keepalive_requests 1000000000;
    client_body_temp_path body;
    proxy_temp_path proxy;
    fastcgi_temp_path fastcgi;
    uwsgi_temp_path uwsgi;
    scgi_temp_path scgi;
    types { application/json json; }
    server {
        listen %(address)s backlog=2048;
        root %(root)s;
    }
}
"""


class NotMeasured(Exception):
    """A part of the benchmark cannot be done here; the message says why and what would help."""


@dataclass(frozen=True, slots=True)
class Cores:
    """Which core the servers run on, and which the load generator and this driver."""

    server: int
    load: int

    @classmethod
    def pick(cls) -> Cores:
        """The first two cores this process may use; the same one twice if there is only one."""
        allowed = sorted(os.sched_getaffinity(0))
        return cls(allowed[0], allowed[1] if len(allowed) > 1 else allowed[0])


@dataclass(frozen=True, slots=True)
class Server:
    """A running server: what it is called, its process and where it listens.

    `port` is that of line-JSON; `web` that of HTTP, 0 where it is off.
    """

    name: str
    process: subprocess.Popen[bytes]
    host: str
    port: int
    web: int = 0

    @property
    def pid(self) -> int:
        return self.process.pid

    def connect(self) -> socket.socket:
        """Open a connection without delay of small writes."""
        opened = socket.create_connection((self.host, self.port), timeout=30)
        opened.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        return opened

    def stop(self) -> None:
        """Ask it to end, and make it end after 10 s."""
        self.process.terminate()
        try:
            self.process.wait(10)
        except subprocess.TimeoutExpired:
            self.process.kill()
            self.process.wait()


@dataclass(frozen=True, slots=True)
class Cpu:
    """CPU time of a process, in nanoseconds, as counted at one moment.

    `threads` maps a thread's id to (time run, time it was ready and had to wait); `ticks` is what
    /proc/PID/stat says, coarser (10 ms) but with the threads that have ended since.
    """

    threads: dict[int, tuple[int, int]]
    ticks: int

    @classmethod
    def of(cls, pid: int) -> Cpu:
        threads: dict[int, tuple[int, int]] = {}
        for task in Path(f"/proc/{pid}/task").iterdir():
            try:
                run, waited, _ = (task / "schedstat").read_text().split()
            except OSError:  # ended meanwhile, or a kernel without schedstat
                continue
            threads[int(task.name)] = (int(run), int(waited))
        fields = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
        ticks = int(fields[11]) + int(fields[12])
        return cls(threads, ticks * 1_000_000_000 // os.sysconf("SC_CLK_TCK"))

    def since(self, before: Cpu) -> int:
        """Nanoseconds of CPU since `before`, over all threads."""
        if not self.threads or not before.threads.keys() <= self.threads.keys():
            return self.ticks - before.ticks
        return sum(run - before.threads.get(i, (0, 0))[0] for i, (run, _) in self.threads.items())

    def waited_since(self, before: Cpu) -> int:
        """Nanoseconds its threads were ready since `before` while something else had the core."""
        return sum(
            waited - before.threads.get(i, (0, 0))[1] for i, (_, waited) in self.threads.items()
        )


def settle(pid: int, quiet: float = 0.02, longest: float = 3.0) -> Cpu:
    """Wait until the process has used no CPU for `quiet` seconds, `longest` at most."""
    deadline = time.monotonic() + longest
    before = Cpu.of(pid)
    while True:
        time.sleep(quiet)
        now = Cpu.of(pid)
        if now.since(before) == 0 or time.monotonic() > deadline:
            return now
        before = now


def processes_under(pid: int) -> set[int]:
    """The processes that a process has started, those that they have started, and so on."""
    parents: dict[int, int] = {}
    for entry in Path("/proc").iterdir():
        if entry.name.isdigit():
            try:
                fields = (entry / "stat").read_text().rpartition(")")[2].split()
            except OSError:  # ended meanwhile
                continue
            parents[int(entry.name)] = int(fields[1])
    found = {pid}
    while more := {child for child, parent in parents.items() if parent in found} - found:
        found |= more
    return found - {pid}


def resident_bytes(pid: int) -> int:
    """The process's resident memory in bytes, from smaps_rollup or, without it, from status."""
    for name, key in (("smaps_rollup", "Rss:"), ("status", "VmRSS:")):
        try:
            text = Path(f"/proc/{pid}/{name}").read_text()
        except OSError:
            continue
        for line in text.splitlines():
            if line.startswith(key):
                return int(line.split()[1]) * 1024
    raise NotMeasured(f"/proc/{pid} says nothing of resident memory.")


def peak_bytes(pid: int, *, anew: bool = False) -> int:
    """The most resident memory in bytes the process had; `anew`: from now on, which it returns."""
    if anew:
        Path(f"/proc/{pid}/clear_refs").write_text("5")
    for line in Path(f"/proc/{pid}/status").read_text().splitlines():
        if line.startswith("VmHWM:"):
            return int(line.split()[1]) * 1024
    raise NotMeasured(f"/proc/{pid}/status does not tell the peak of its memory.")


@contextmanager
def on_core(core: int) -> Iterator[None]:
    """Run the body on this core: what is started in it inherits the core."""
    before = os.sched_getaffinity(0)
    os.sched_setaffinity(0, {core})
    try:
        yield
    finally:
        os.sched_setaffinity(0, before)


def spawn(
    name: str,
    command: list[str],
    core: int,
    ready: str,
    port: int | None = None,
    environment: Mapping[str, str] | None = None,
) -> Server:
    """Start a server on `core` and wait for the line of its output that matches `ready`.

    Without `port`, the group `port` of that line says it; a group `http`, where HTTP listens.
    `environment` is added to that of this process.
    Raises NotMeasured, with the end of its output, if the server ends or says nothing within 30 s.
    """
    OUT.mkdir(exist_ok=True)
    log = OUT / f"{name}.log"
    source = BENCH.parent / "src"
    path = os.pathsep.join(filter(None, (str(source), os.environ.get("PYTHONPATH"))))
    # What someone has set for a hub of theirs is not to be measured.
    inherited = {key: value for key, value in os.environ.items() if not key.startswith("GAPLESS_")}
    with log.open("wb") as output, on_core(core):
        process = subprocess.Popen(
            command,
            stdin=subprocess.DEVNULL,
            stdout=output,
            stderr=subprocess.STDOUT,
            env={**inherited, "PYTHONPATH": path, **(environment or {})},
        )
    deadline = time.monotonic() + START_SECONDS
    while time.monotonic() < deadline:
        ended = process.poll() is not None
        said = log.read_text(errors="replace")
        if not ended and (found := re.search(ready, said)):
            said_ports = found.groupdict()
            return Server(
                name,
                process,
                HOST,
                int(said_ports["port"]) if port is None else port,
                int(said_ports.get("http") or 0),
            )
        if ended:
            tail = " / ".join(said.strip().splitlines()[-3:])
            raise NotMeasured(f"{name} ended with code {process.returncode} at its start: {tail}")
        time.sleep(0.01)
    process.kill()
    process.wait()
    raise NotMeasured(
        f"{name} did not say within {START_SECONDS:.0f} s where it listens: see {log}."
    )


def is_checkout(folder: Path) -> bool:
    """Whether gapless' sources are in a folder."""
    return (folder / "src" / "gapless").is_dir()


def of_checkout(checkout: Path, command: tuple[str, ...]) -> tuple[str, ...]:
    """A command that runs the sources of another checkout, with this one's packages."""
    return ("env", f"PYTHONPATH={checkout / 'src'}", *command)


def start_gapless(
    db: Path,
    core: int,
    *,
    name: str = "gapless",
    command: tuple[str, ...] = HUB,
    extra: tuple[str, ...] = (),
    web: bool = False,
) -> Server:
    """Start a hub on `db` and free ports: the one place that knows its command line.

    `web`: HTTP too.
    """
    http = f"{HOST}:0" if web else "off"
    line = [*command, "--db", str(db), "--tcp", f"{HOST}:0", "--http", http, *extra]
    return spawn(name, line, core, BOTH_ADDRESSES if web else ADDRESS)


def start_echo(size: int, core: int) -> Server:
    """Start the bare uvloop server that answers each line with `size` bytes."""
    command = [sys.executable, str(BENCH / "echo.py"), str(size)]
    return spawn(f"echo-{size}", command, core, ADDRESS)


def start_redis(core: int) -> Server:
    """Start an empty Redis that writes nothing to disk, on a port that was free a moment ago."""
    program = program_of("redis-server", "redis-server")
    port = free_port()
    command = [program, "--port", str(port), "--bind", HOST, "--save", ""]
    command += ["--appendonly", "no", "--dir", str(OUT)]
    return spawn("redis", command, core, "Ready to accept connections", port)


def start_nginx(folder: Path, core: int) -> Server:
    """Start an nginx of one process that serves the files in `folder`."""
    program = program_of("nginx", "nginx-light")
    port = free_port()
    config = folder / "nginx.conf"
    config.write_text(NGINX % {"address": f"{HOST}:{port}", "root": folder})
    command = [program, "-p", str(folder), "-c", str(config), "-e", "stderr"]
    # It says so when it listens already.
    return replace(spawn("nginx", command, core, "event method", port), web=port)


def program_of(name: str, package: str) -> str:
    """The path of a program; raises NotMeasured, naming Debian's package, where there is none."""
    # Daemons are not on the path of everybody who may run them.
    found = shutil.which(name) or shutil.which(name, path="/usr/local/sbin:/usr/sbin:/sbin")
    if found is None:
        raise NotMeasured(
            f"{name} is not installed: left out (Debian: `apt-get install {package}`)."
        )
    return found


def free_port() -> int:
    """A port that was free a moment ago."""
    with socket.socket() as probe:
        probe.bind((HOST, 0))
        return int(probe.getsockname()[1])
