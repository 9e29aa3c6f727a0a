"""A million rows from the hub into a polars frame, beside the same frame in a file on this machine.

And what of its memory the hub takes for such answers, when four clients want one at once.
"""

from __future__ import annotations

import http.client
import subprocess
import sys
import zlib
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path

import msgspec

from bars import MINUTE_S, START_S
from frame_client import Got, Task, Way
from hub_only import Start
from processes import (
    BENCH,
    Cores,
    NotMeasured,
    Server,
    on_core,
    peak_bytes,
    resident_bytes,
    settle,
    start_nginx,
)
from questions import WrongAnswer
from web import get, post

TICKER = "FRAME"
#: Of the downloads at once whose memory is counted; as many as the hub puts together at once.
CLIENTS = 4
PIECE = 1 << 20


@dataclass(frozen=True, slots=True)
class Memory:
    """The growth of the hub's resident memory by `clients` downloads at once, in bytes.

    `peak` is the most during them, `after` what was left a moment later; `size` one answer's.
    """

    format: str
    rows: int
    clients: int
    size: int
    peak: int
    after: int


@dataclass(frozen=True, slots=True)
class Frames:
    """The ways to a frame of `rows` rows, in a program as it is by default and in one that keeps.

    `fresh` gives memory that it has freed back to the kernel, `kept` keeps it.
    """

    rows: int
    cold_ms: float
    first_ms: float
    fresh: list[Way]
    kept: list[Way]
    memory: list[Memory]
    wrong: list[str]


def measure_frames(
    start: Start,
    cores: Cores,
    folder: Path,
    rows: int,
    rounds: int,
    say: Callable[[str], None],
) -> Frames:
    """Get the frame in each way, then count the memory of a hub that was started anew."""
    db = folder / "frames.db"
    end = START_S + rows * MINUTE_S
    path = range_path(TICKER, START_S, end)
    with ExitStack() as stack:
        hub = start(db, "gapless-frames")
        stack.callback(hub.stop)
        load_plugin(hub)
        port = 0
        files = folder / "frames"
        files.mkdir()
        try:
            nginx = start_nginx(files, cores.server)
            stack.callback(nginx.stop)
            port = nginx.web
        except NotMeasured as reason:
            say(str(reason))
        task = Task(
            hub.host,
            hub.web,
            port,
            path,
            TICKER,
            START_S,
            end,
            str(files / "bars.arrow"),
            rounds,
            cold=True,
            keep=False,
        )
        fresh = _client(task, cores)
        kept = _client(msgspec.structs.replace(task, cold=False, keep=True), cores)
    memory = [
        _memory(start, db, format, count, cores)
        for format in ("json", "arrow")
        for count in (rows // 4, rows)
    ]
    return Frames(
        rows,
        fresh.cold_ms,
        fresh.first_ms,
        fresh.ways,
        kept.ways,
        memory,
        [*fresh.wrong, *kept.wrong],
    )


def load_plugin(hub: Server) -> None:
    """Have a hub load the provider in bars.py."""
    body = msgspec.json.encode({"file": str(BENCH / "bars.py")})
    said = msgspec.json.decode(post(hub, "/plugins/load", body))
    if said != {"ok": True, "name": "bars"}:
        raise WrongAnswer(f"The plugin was loaded, but the answer is {said}.")


def range_path(ticker: str, start: int, end: int) -> str:
    """The path of a range of bars over HTTP, ending in its query."""
    first, last = (datetime.fromtimestamp(at, UTC).strftime("%FT%TZ") for at in (start, end))
    return f"/v1/data/bars/{ticker}?start={first}&end={last}"


def _client(task: Task, cores: Cores) -> Got:
    command = [sys.executable, str(BENCH / "frame_client.py")]
    with on_core(cores.load):
        ran = subprocess.run(
            command, input=msgspec.json.encode(task), capture_output=True, check=False
        )
    if ran.returncode:
        said = ran.stderr.decode(errors="replace").strip().splitlines()
        raise WrongAnswer(f"The client of frames failed: {' / '.join(said[-3:])}")
    return msgspec.json.decode(ran.stdout, type=Got)


def _memory(start: Start, db: Path, format: str, rows: int, cores: Cores) -> Memory:
    """Count the memory of a hub fresh from its start over downloads by several clients at once."""
    hub = start(db, f"gapless-frames-{format}")
    try:
        # What the first answer costs once is no cost of a large one.
        get(hub, f"{range_path(TICKER, START_S, START_S + 10 * MINUTE_S)}&format={format}")
        settle(hub.pid)
        before = resident_bytes(hub.pid)
        peak_bytes(hub.pid, anew=True)
        path = f"{range_path(TICKER, START_S, START_S + rows * MINUTE_S)}&format={format}"
        with ThreadPoolExecutor(CLIENTS) as pool, on_core(cores.load):
            found = list(pool.map(lambda _: _read_through(hub, path), range(CLIENTS)))
        peak = peak_bytes(hub.pid)
        settle(hub.pid)
        after = resident_bytes(hub.pid)
        if len(set(found)) > 1 or found[0] != _sum_of(get(hub, path)):
            raise WrongAnswer(f"{CLIENTS} downloads of {format} at once differ from a single one.")
        return Memory(format, rows, CLIENTS, found[0][0], peak - before, after - before)
    finally:
        hub.stop()


def _sum_of(body: bytes) -> tuple[int, int]:
    return len(body), zlib.crc32(body)


def _read_through(hub: Server, path: str) -> tuple[int, int]:
    """Read an answer and keep none of it; return its size and checksum."""
    connection = http.client.HTTPConnection(hub.host, hub.web, timeout=120)
    try:
        connection.putrequest("GET", path, skip_accept_encoding=True)
        connection.endheaders()
        response = connection.getresponse()
        size = crc = 0
        while piece := response.read(PIECE):
            size, crc = size + len(piece), zlib.crc32(piece, crc)
        return size, crc
    except (http.client.HTTPException, ConnectionError) as error:
        raise WrongAnswer(f"{hub.name}: GET {path}: {error!r}") from error
    finally:
        connection.close()
