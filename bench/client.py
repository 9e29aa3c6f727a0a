"""What the Python client costs: one answer beside a raw socket, and many tickers beside rivals.

The programs that ask are processes of their own, on the load generator's core; those that read
many tickers live as long as the comparison and take turns. The rivals are installed elsewhere, and
without them the comparison is gapless alone.
"""

from __future__ import annotations

import os
import subprocess
import sys
from array import array
from collections.abc import Callable, Mapping
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path
from statistics import median

import msgspec

import bulk_client
import client_asks
from bulk_client import Reading
from client_asks import Got
from daily import ROWS, bars, traded_days
from processes import (
    BENCH,
    HOST,
    OUT,
    Cores,
    NotMeasured,
    Server,
    free_port,
    on_core,
    spawn,
)
from questions import WrongAnswer
from tokens import Start
from web import FIRST as FIRST_DAY
from web import LAST, TICKER, post

RECORDS = 252
TICKERS = 500
#: From the day of the first bar to the one after the last; some rivals count the last one in.
START, END, LAST_DAY = "2003-01-01", "2012-12-06", "2012-12-05"
VALUES = ("open", "high", "low", "close", "volume")
#: Enough for everything that is asked for; the default is for fewer tickers.
ROOMY = '[cache]\nhot_bytes = "1GiB"\n'


@dataclass(frozen=True, slots=True)
class Rivals:
    """The interpreters of the environments that have the rivals; `None`: not installed."""

    yfinance_cache: str | None
    openbb: str | None


@dataclass(frozen=True, slots=True)
class Bulk:
    """One way to read 500 tickers of 2,500 days into one frame: the median over the rounds.

    `measured` is how many tickers were read, to which the time of 500 is put in proportion.
    `of_gapless` is the median of the ratios to gapless in the same round, as it is by default and
    with room for all of it in memory.
    """

    name: str
    seconds: float
    measured: int
    of_gapless: float
    of_roomy: float
    each_round: list[float]


@dataclass(frozen=True, slots=True)
class Bulks:
    """All ways to read them, and what went wrong."""

    ways: list[Bulk]
    wrong: list[str]


def measure_asks(start: Start, cores: Cores, folder: Path, rounds: int, asks: int) -> Got:
    """Ask for 252 held records over a raw socket and by the clients, in turn."""
    hub = start(folder / "client.db", "gapless-client", ())
    try:
        task = client_asks.Task(hub.host, hub.port, TICKER, FIRST_DAY, LAST, RECORDS, rounds, asks)
        with on_core(cores.load):
            ran = subprocess.run(
                [sys.executable, str(BENCH / "client_asks.py")],
                input=msgspec.json.encode(task),
                capture_output=True,
                check=False,
            )
    finally:
        hub.stop()
    if ran.returncode:
        said = ran.stderr.decode(errors="replace").strip().splitlines()
        raise WrongAnswer(f"The program that asks by the client failed: {' / '.join(said[-3:])}")
    return msgspec.json.decode(ran.stdout, type=Got)


class Reader:
    """A program that reads all its tickers whenever it is told to."""

    def __init__(
        self,
        name: str,
        command: list[str],
        task: object,
        core: int | None,
        environment: Mapping[str, str] | None = None,
    ) -> None:
        self.name = name
        self._log = OUT / f"{name}.log"
        with ExitStack() as stack:
            errors = stack.enter_context(self._log.open("wb"))
            if core is not None:
                stack.enter_context(on_core(core))
            self._process = subprocess.Popen(
                command,
                stdin=subprocess.PIPE,
                stdout=subprocess.PIPE,
                stderr=errors,
                env=None if environment is None else {**os.environ, **environment},
            )
        self._say(msgspec.json.encode(task))

    def read(self, way: str) -> Reading:
        """Let it read once, in one of its ways."""
        return msgspec.json.decode(self._say(way.encode()), type=Reading)

    def stop(self) -> None:
        """End it."""
        self._process.kill()
        self._process.communicate()

    def _say(self, line: bytes) -> bytes:
        assert self._process.stdin
        assert self._process.stdout
        try:
            self._process.stdin.write(line + b"\n")
            self._process.stdin.flush()
            said = self._process.stdout.readline()
        except BrokenPipeError:
            said = b""
        if not said:
            tail = " / ".join(self._log.read_text(errors="replace").strip().splitlines()[-3:])
            raise NotMeasured(f"{self.name} ended: {tail}")
        return said


@dataclass(frozen=True, slots=True)
class _Way:
    name: str
    reader: Reader
    word: str
    measured: int


def measure_bulk(
    start: Start,
    cores: Cores,
    folder: Path,
    rivals: Rivals,
    rounds: int,
    openbb_tickers: int,
    say: Callable[[str], None],
) -> Bulks:
    """Read the tickers in each way in turn, from what is held, cached or in memory."""
    tickers = [f"T{number:05}" for number in range(TICKERS)]
    days, values = folder / "days.json", folder / "bars.bin"
    write_bars(tickers, days, values)
    with ExitStack() as stack:
        ways = []
        (folder / "roomy.toml").write_text(ROOMY)
        for name, flags in (
            ("gapless", ()),
            ("gapless, roomy", ("--config", str(folder / "roomy.toml"))),
        ):
            reader = _gapless(start, cores, folder, name, flags, tickers, stack)
            ways.append(_Way(name, reader, "", TICKERS))
        task = {
            "tickers": tickers,
            "days": msgspec.json.decode(days.read_bytes()),
            "bars": str(values),
            "start": START,
            "end": END,
        }
        for begin in (_yfinance_cache, _openbb):
            try:
                ways += begin(rivals, folder, task, days, openbb_tickers, cores, stack)
            except NotMeasured as reason:
                say(str(reason))
        readings: dict[str, list[Reading]] = {way.name: [] for way in ways}
        # The first reading imports, opens and looks up what the others need.
        for number in range(-1, rounds):
            turn = number % len(ways)
            for way in ways[turn:] + ways[:turn]:
                reading = way.reader.read(way.word)
                if number >= 0:
                    readings[way.name].append(reading)
    return Bulks([_bulk(way, readings) for way in ways], _wrong(ways, readings))


def write_bars(tickers: list[str], days: Path, values: Path) -> None:
    """Write the bars for the rivals: days as JSON, and float64 by ticker, column and day."""
    traded = traded_days()
    days.write_bytes(msgspec.json.encode(traded.to_list()))
    with values.open("wb") as file:
        for ticker in tickers:
            frame = bars(ticker, traded)
            for name in VALUES:
                array("d", frame[name].to_list()).tofile(file)


def _gapless(
    start: Start,
    cores: Cores,
    folder: Path,
    name: str,
    flags: tuple[str, ...],
    tickers: list[str],
    stack: ExitStack,
) -> Reader:
    """Start a hub, have it fetch everything, and start what reads it."""
    kind = "roomy" if flags else "bulk"
    hub = start(folder / f"{kind}.db", f"gapless-{kind}", flags)
    stack.callback(hub.stop)
    _load(hub)
    task = bulk_client.Task(f"{hub.host}:{hub.port}", tickers, START, END)
    command = [sys.executable, str(BENCH / "bulk_client.py")]
    reader = Reader(f"reader-{kind}", command, task, cores.load)
    stack.callback(reader.stop)
    return reader


def _load(hub: Server) -> None:
    body = msgspec.json.encode({"file": str(BENCH / "daily.py")})
    said = msgspec.json.decode(post(hub, "/plugins/load", body))
    if said != {"ok": True, "name": "daily"}:
        raise WrongAnswer(f"The plugin was loaded, but the answer is {said}.")


def _yfinance_cache(
    rivals: Rivals,
    folder: Path,
    task: dict[str, object],
    days: Path,
    openbb_tickers: int,
    cores: Cores,
    stack: ExitStack,
) -> list[_Way]:
    """Start yfinance-cache, on both cores: it has no server, and reads in several processes."""
    python = _installed(rivals.yfinance_cache, "yfinance-cache", "yfinance-cache", "yfinance_cache")
    home = folder / "yfinance-cache"
    home.mkdir()
    command = [python, "-P", str(BENCH / "rival_yfinance_cache.py")]
    reader = Reader("yfinance-cache", command, {**task, "home": str(home)}, None)
    stack.callback(reader.stop)
    return [
        _Way("yfinance-cache, history", reader, "history", TICKERS),
        _Way("yfinance-cache, download", reader, "download", TICKERS),
    ]


def _openbb(
    rivals: Rivals,
    folder: Path,
    task: dict[str, object],
    days: Path,
    openbb_tickers: int,
    cores: Cores,
    stack: ExitStack,
) -> list[_Way]:
    """Start OpenBB's server and a client of it, both with the provider that has all in memory."""
    packages = "openbb-equity openbb-platform-api 'openbb-core[pandas]'"
    python = _installed(rivals.openbb, "openbb", packages, "openbb_equity", "openbb_platform_api")
    home, extension = folder / "openbb", folder / "openbb-extension"
    about = extension / "gapless_bench_openbb-1.0.dist-info"
    home.mkdir()
    about.mkdir(parents=True)
    # As pip would install it.
    (extension / "openbb_bars.py").write_text((BENCH / "openbb_bars.py").read_text())
    (about / "METADATA").write_text(
        "Metadata-Version: 2.1\nName: gapless-bench-openbb\nVersion: 1.0\n"
    )
    entry = "[openbb_provider_extension]\nbench = openbb_bars:provider\n"
    (about / "entry_points.txt").write_text(entry)
    environment = {
        "PYTHONPATH": str(extension),
        "HOME": str(home),
        "BENCH_DAYS": str(days),
        "BENCH_BARS": str(task["bars"]),
        "BENCH_TICKERS": str(openbb_tickers),
    }
    port = free_port()
    command = [python, "-P", "-m", "openbb_platform_api.main", "--host", HOST, "--port", str(port)]
    server = spawn("openbb", command, cores.server, "Uvicorn running on", port, environment)
    stack.callback(server.stop)
    tickers = [f"T{number:05}" for number in range(openbb_tickers)]
    told = {**task, "home": str(home), "tickers": tickers, "end": LAST_DAY}
    command = [python, "-P", str(BENCH / "rival_openbb.py")]
    reader = Reader(
        "openbb-reader",
        command,
        {**told, "base": f"http://{HOST}:{port}"},
        cores.load,
        environment,
    )
    stack.callback(reader.stop)
    return [
        _Way("OpenBB, its server", reader, "server", openbb_tickers),
        _Way("OpenBB, in the process", reader, "python", openbb_tickers),
    ]


def _installed(python: str | None, flag: str, packages: str, *modules: str) -> str:
    """The interpreter, if it has these modules; raises NotMeasured, telling how to get there."""
    how = f"python -m venv DIR; DIR/bin/pip install {packages}; then --{flag} DIR/bin/python"
    if python is None:
        raise NotMeasured(f"{flag} is not compared with: {how}.")
    code = f"from importlib.util import find_spec; assert all(map(find_spec, {modules!r}))"
    try:
        asked = subprocess.run([python, "-P", "-c", code], capture_output=True, check=False)
    except OSError as error:
        raise NotMeasured(f"{flag} is not compared with, {python}: {error.strerror}.") from error
    if asked.returncode:
        lacks = " and ".join(modules)
        raise NotMeasured(f"{flag} is not compared with, {python} lacks {lacks}: {how}.")
    return python


def _bulk(way: _Way, readings: dict[str, list[Reading]]) -> Bulk:
    seconds = [one.seconds * TICKERS / way.measured for one in readings[way.name]]
    default, roomy = (
        median(a / b.seconds for a, b in zip(seconds, readings[name], strict=True))
        for name in ("gapless", "gapless, roomy")
    )
    return Bulk(way.name, median(seconds), way.measured, default, roomy, seconds)


def _wrong(ways: list[_Way], readings: dict[str, list[Reading]]) -> list[str]:
    found = []
    for way in ways:
        for one in readings[way.name]:
            if one.wrong:
                found.append(f"{way.name}: {one.wrong}")
            if one.rows != way.measured * ROWS:
                found.append(f"{way.name}: {one.rows:,} rows, not {way.measured * ROWS:,}")
            if one.requests:
                found.append(f"{way.name}: {one.requests} requests went out for what is held")
    return list(dict.fromkeys(found))
