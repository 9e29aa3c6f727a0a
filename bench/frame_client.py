"""A program that gets a million rows as a polars frame, in turn from a file and over HTTP.

`python frame_client.py`, and one line of JSON on stdin (`Task`); prints one (`Got`). A process of
its own, because how long a frame takes depends on what the memory of the process is like.
"""

from __future__ import annotations

import ctypes
import http.client
import io
import sys
import time
from collections.abc import Callable
from operator import attrgetter
from pathlib import Path
from statistics import median

import msgspec
import polars as pl

from bars import bars

#: What glibc is told to keep memory: M_MMAP_THRESHOLD, M_TRIM_THRESHOLD, M_TOP_PAD.
KEEPING = ((-3, 512 << 20), (-1, 1 << 30), (-2, 16 << 20))


class Task(msgspec.Struct, frozen=True):
    """What to get: a range of a ticker, from a hub and as `file`, which is written here.

    `path` is that of the range over HTTP; `nginx` 0: there is none. `cold`: nothing is held yet.
    `keep`: memory that was freed stays with the process.
    """

    host: str
    port: int
    nginx: int
    path: str
    ticker: str
    start: int
    end: int
    file: str
    rounds: int
    cold: bool
    keep: bool


class Way(msgspec.Struct, frozen=True):
    """One way to the frame: medians in milliseconds, of that the time until all bytes had come.

    `transfer_ms` is 0 where bytes and frame come together.
    """

    name: str
    ms: float
    transfer_ms: float
    size: int


class Got(msgspec.Struct, frozen=True):
    """What was measured: the first asks apart, for they do other work than later ones.

    `cold_ms` is the very first: fetch, store, answer; `first_ms` the first for what is held then.
    Both as Arrow, and 0 where that was not asked for.
    """

    ways: list[Way]
    cold_ms: float
    first_ms: float
    wrong: list[str]


class _Web:
    """A kept connection."""

    def __init__(self, host: str, port: int) -> None:
        self._connection = http.client.HTTPConnection(host, port, timeout=120)

    def ask(self, path: str) -> http.client.HTTPResponse:
        self._connection.request("GET", path)
        response = self._connection.getresponse()
        if response.status != 200:
            raise SystemExit(f"GET {path}: {response.status} {response.read(300)!r}")
        return response


def _typed(wanted: pl.DataFrame) -> Callable[[bytes], pl.DataFrame]:
    """Return what reads JSON with msgspec."""
    fields = [(name, int if kind.is_integer() else float) for name, kind in wanted.schema.items()]
    decoder = msgspec.json.Decoder(list[msgspec.defstruct("Row", fields, gc=False)])  # type: ignore[misc]

    def read(body: bytes) -> pl.DataFrame:
        rows = decoder.decode(body)
        return pl.DataFrame(
            {name: list(map(attrgetter(name), rows)) for name, _ in fields},
            schema=wanted.schema,
        )

    return read


def _readers(wanted: pl.DataFrame) -> dict[str, list[Callable[[bytes], pl.DataFrame]]]:
    """By format, how its bytes may become a frame; the fastest one counts."""
    schema = wanted.schema
    return {
        "parquet": [lambda body: pl.read_parquet(io.BytesIO(body))],
        "csv": [lambda body: pl.read_csv(io.BytesIO(body), schema=schema)],
        "ndjson": [lambda body: pl.read_ndjson(io.BytesIO(body), schema=schema)],
        "json": [_typed(wanted), lambda body: pl.read_json(io.BytesIO(body), schema=schema)],
    }


def run(task: Task) -> Got:
    """Get the frame in each way, in turn."""
    if task.keep:
        for option, value in KEEPING:
            ctypes.CDLL(None).mallopt(option, value)
    web = _Web(task.host, task.port)
    arrow = f"{task.path}&format=arrow"

    def streamed(response: http.client.HTTPResponse) -> pl.DataFrame:
        # Read as it comes, rather than all of it first: a copy less.
        frame = pl.read_ipc_stream(response)
        response.read()
        return frame

    cold = _timed(lambda: streamed(web.ask(arrow))) if task.cold else 0.0
    first = _timed(lambda: streamed(web.ask(arrow))) if task.cold else 0.0
    wanted = bars(task.ticker, task.start, task.end)
    if not Path(task.file).exists():
        wanted.write_ipc(task.file)
    wrong: list[str] = []
    asked: dict[str, Callable[[], tuple[float, pl.DataFrame]]] = {
        "file": lambda: (0.0, pl.read_ipc(task.file)),
        "arrow": lambda: (0.0, streamed(web.ask(arrow))),
    }
    sizes = {"file": Path(task.file).stat().st_size}
    body = web.ask(arrow).read()
    sizes["arrow"] = len(body)
    if task.nginx:
        Path(task.file).with_name("bars.arrows").write_bytes(body)
        nginx = _Web(task.host, task.nginx)
        asked["nginx"] = lambda: (0.0, streamed(nginx.ask("/bars.arrows")))
        sizes["nginx"] = sizes["arrow"]
    for name, readers in _readers(wanted).items():
        body = web.ask(f"{task.path}&format={name}").read()
        sizes[name] = len(body)
        asked[name] = _fetched(web, f"{task.path}&format={name}", _fastest(readers, body))
    del body
    for name, ask in asked.items():
        frame = ask()[1]
        if not frame.equals(wanted) or frame.schema != wanted.schema:
            wrong.append(f"{name}: the frame is not the one that was made")
    times: dict[str, list[tuple[float, float]]] = {name: [] for name in asked}
    ways = list(asked.items())
    for number in range(task.rounds):
        turn = number % len(ways)
        for name, ask in ways[turn:] + ways[:turn]:
            # Not the first ask: what the hub keeps ready of one format may push out another.
            ask()
            began = time.perf_counter()
            came, frame = ask()
            # What is only mapped so far is read by this.
            frame.sum()
            ended = time.perf_counter()
            del frame
            transfer = (came - began) * 1000 if came else 0.0
            times[name].append(((ended - began) * 1000, transfer))
    return Got(
        [
            Way(name, median(ms for ms, _ in each), median(t for _, t in each), sizes[name])
            for name, each in times.items()
        ],
        cold,
        first,
        wrong,
    )


def _timed(ask: Callable[[], pl.DataFrame]) -> float:
    """Milliseconds until a frame is there and every value of it was touched."""
    began = time.perf_counter()
    ask().sum()
    return (time.perf_counter() - began) * 1000


def _fastest(
    readers: list[Callable[[bytes], pl.DataFrame]], body: bytes
) -> Callable[[bytes], pl.DataFrame]:
    return min(readers, key=lambda reader: _timed(lambda: reader(body)))


def _fetched(
    web: _Web, path: str, reader: Callable[[bytes], pl.DataFrame]
) -> Callable[[], tuple[float, pl.DataFrame]]:
    def ask() -> tuple[float, pl.DataFrame]:
        body = web.ask(path).read()
        return time.perf_counter(), reader(body)

    return ask


if __name__ == "__main__":
    print(msgspec.json.encode(run(msgspec.json.decode(sys.stdin.read(), type=Task))).decode())
