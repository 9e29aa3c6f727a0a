"""A program that asks a hub for a held range, in turn over a raw socket and by the clients.

`python client_asks.py`, and one line of JSON on stdin (`Task`); prints one (`Got`). A process of
its own, so that it has a core to itself, as the load generators have.
"""

from __future__ import annotations

import asyncio
import contextlib
import socket
import sys
import time
from collections.abc import Callable, Iterator
from statistics import median
from typing import Any
from unittest.mock import patch

import gapless
import msgspec

IN_FLIGHT = 16
CHUNK = 1 << 18


class Task(msgspec.Struct, frozen=True):
    """What to ask for: a range of the sample that has `records` records."""

    host: str
    port: int
    ticker: str
    start: str
    end: str
    records: int
    rounds: int
    asks: int


class Way(msgspec.Struct, frozen=True):
    """One way to ask, microseconds an answer: the median over the rounds, and what it adds.

    `added_us` is the median of the differences to `beside` in the same round.
    """

    name: str
    us: float
    added_us: float
    beside: str


class Got(msgspec.Struct, frozen=True):
    """What was measured; `size` is that of an answer in bytes."""

    ways: list[Way]
    size: int
    wrong: list[str]


@contextlib.contextmanager
def overheard() -> Iterator[list[bytes]]:
    """What is sent through any socket meanwhile, piece by piece."""
    sent: list[bytes] = []
    original = socket.socket.sendall

    def sendall(self: socket.socket, data: Any, *flags: int) -> None:
        sent.append(bytes(data))
        original(self, data, *flags)

    with patch("socket.socket.sendall", sendall):
        yield sent


class Raw:
    """A socket, and nothing that reads what comes."""

    def __init__(self, host: str, port: int, line: bytes) -> None:
        self._socket = socket.create_connection((host, port), 30)
        self._socket.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        self._line = line

    def ask(self) -> bytes:
        """Send the line, and read up to the newline."""
        self._socket.sendall(self._line)
        data = self._socket.recv(CHUNK)
        while not data.endswith(b"\n"):
            piece = self._socket.recv(CHUNK)
            if not piece:
                raise SystemExit("the hub hung up")
            data += piece
        return data

    def ask_many(self, count: int) -> None:
        """Send the line so many times, 16 of them in flight, and read as many newlines."""
        sent = min(IN_FLIGHT, count)
        self._socket.sendall(self._line * sent)
        came = 0
        while came < count:
            piece = self._socket.recv(CHUNK)
            if not piece:
                raise SystemExit("the hub hung up")
            new = piece.count(b"\n")
            came += new
            more = min(new, count - sent)
            if more:
                self._socket.sendall(self._line * more)
                sent += more


def run(task: Task) -> Got:
    """Ask in each way, in turn."""
    address = f"{task.host}:{task.port}"
    asked = ("sample", task.ticker, task.start, task.end)
    client = gapless.Client(address)
    client.search(*asked)
    with overheard() as sent:
        first = client.search(*asked)
    (line,) = sent
    raw = Raw(task.host, task.port, line)
    runner = asyncio.Runner()
    other = gapless.AsyncClient(address)
    wrong = _wrong(task, first, msgspec.json.decode(raw.ask()))

    async def by_coroutine() -> float:
        times = []
        for _ in range(task.asks):
            began = time.perf_counter()
            await other.search(*asked)
            times.append(time.perf_counter() - began)
        return median(times)

    async def by_many() -> float:
        left = iter(range(task.asks))

        async def work() -> None:
            for _ in left:
                await other.search(*asked)

        began = time.perf_counter()
        async with asyncio.TaskGroup() as group:
            for _ in range(IN_FLIGHT):
                group.create_task(work())
        return (time.perf_counter() - began) / task.asks

    def one_by_one(ask: Callable[[], object]) -> Callable[[], float]:
        def timed() -> float:
            times = []
            for _ in range(task.asks):
                began = time.perf_counter()
                ask()
                times.append(time.perf_counter() - began)
            return median(times)

        return timed

    def raw_many() -> float:
        began = time.perf_counter()
        raw.ask_many(task.asks)
        return (time.perf_counter() - began) / task.asks

    ways: list[tuple[str, str, Callable[[], float]]] = [
        ("raw", "raw", one_by_one(raw.ask)),
        ("search", "raw", one_by_one(lambda: client.search(*asked))),
        ("records", "raw", one_by_one(lambda: client.search(*asked).records)),
        ("polars", "raw", one_by_one(lambda: client.search(*asked).to_polars())),
        ("async", "raw", lambda: runner.run(by_coroutine())),
        ("raw 16", "raw 16", raw_many),
        ("async 16", "raw 16", lambda: runner.run(by_many())),
    ]
    times: dict[str, list[float]] = {name: [] for name, _, _ in ways}
    for number in range(-1, task.rounds):
        turn = number % len(ways)
        for name, _, measure in ways[turn:] + ways[:turn]:
            took = measure() * 1e6
            # The round before the first one is for what is imported and opened once.
            if number >= 0:
                times[name].append(took)
    runner.run(other.aclose())
    runner.close()
    client.close()
    return Got(
        [
            Way(
                name,
                median(times[name]),
                median(a - b for a, b in zip(times[name], times[beside], strict=True)),
                beside,
            )
            for name, beside, _ in ways
        ],
        len(raw.ask()),
        wrong,
    )


def _wrong(task: Task, result: gapless.Result, raw: dict[str, Any]) -> list[str]:
    """What of the clients' answer is not what the hub says over the socket."""
    found = []
    (entity,) = raw["result"]
    if result.records != entity["data"] or len(result.records) != task.records:
        found.append("the client's records are not those of the hub")
    if result.to_polars()["close"].to_list() != [one["close"] for one in entity["data"]]:
        found.append("the client's frame is not what the hub says")
    if result.stitch is None or result.stitch.upstream_requests:
        found.append("the range was not held")
    return found


if __name__ == "__main__":
    print(msgspec.json.encode(run(msgspec.json.decode(sys.stdin.read(), type=Task))).decode())
