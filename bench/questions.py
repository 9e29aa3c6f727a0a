"""What is asked, and every byte of what must come back.

A Question is built from answers the hub has given and that were checked here once, as JSON, record
by record; after that the load generator only has to compare bytes.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, replace
from datetime import UTC, datetime
from itertools import pairwise
from math import isqrt
from pathlib import Path
from typing import Any, TypeAlias

import msgspec

from processes import NotMeasured, Server

#: Requests in flight on one connection differ in their id: twice the deepest pipeline.
IDS = 32
HISTORY = ("2000-03-01", "2013-03-02")
DAY_S = 86_400
TS_MS = re.compile(rb'"ts_ms": ?(\d+)')

Ask: TypeAlias = Callable[[bytes], bytes]
Shape: TypeAlias = Callable[[bytes], bytes]
Part: TypeAlias = bytes | int
Record: TypeAlias = dict[str, Any]


class WrongAnswer(Exception):
    """A server's answer is not what was asked for."""


@dataclass(frozen=True, slots=True)
class Files:
    """A question as the load generator takes it: its mode, the requests, the expected answers."""

    mode: str
    asked: Path
    expected: Path


@dataclass(frozen=True, slots=True)
class Question:
    """Requests to send in turn, and the parts of the answer to each: bytes, or a number of digits.

    `size` is the length of the first answer in bytes, its newline included.
    """

    requests: tuple[bytes, ...]
    answers: tuple[tuple[Part, ...], ...]
    mode: str
    size: int

    def answer_length(self, number: int) -> int:
        """The length in bytes of the whole answer to a request, framing included."""
        return sum(part if isinstance(part, int) else len(part) for part in self.answers[number])

    def shaped(self, shape: Shape) -> Question:
        """The same question, its lines in another shape."""
        return replace(self, requests=tuple(shape(line) for line in self.requests))

    def write(self, stem: Path) -> Files:
        """Write both files in the form that load.c reads."""
        asked, expected = stem.with_suffix(".requests"), stem.with_suffix(".expected")
        asked.write_bytes(b"".join(b"%d\n%s" % (len(r), r) for r in self.requests))
        with expected.open("wb") as file:
            for answer in self.answers:
                for part in answer:
                    if isinstance(part, int):
                        file.write(b"D %d\n" % part)
                    else:
                        file.write(b"S %d\n%s\n" % (len(part), part))
                file.write(b".\n")
        return Files(self.mode, asked, expected)


@dataclass(frozen=True, slots=True)
class Range:
    """A half-open range of a ticker, in unix seconds, and how many records lie in it."""

    ticker: str
    start: int
    end: int
    records: int

    def request(self, request_id: str) -> bytes:
        """The request line for this range, newline included."""
        bounds = {"start": rfc3339(self.start), "end": rfc3339(self.end)}
        return search(request_id, self.ticker, bounds)


def rfc3339(seconds: int) -> str:
    """An instant in unix seconds as requests say it."""
    return datetime.fromtimestamp(seconds, UTC).strftime("%Y-%m-%dT%H:%M:%SZ")


def search(request_id: str, ticker: str, bounds: dict[str, str]) -> bytes:
    """The request line of a range search of the bundled sample."""
    asked = {"query": [{"Ticker": ticker}, {"DateRange": bounds}], "limit": None}
    payload = {"provider": "sample", "request": {"SearchEntities": asked}}
    query = {"type": "ProviderRequest", "payload": payload}
    return msgspec.json.encode({"request_id": request_id, "query": query}) + b"\n"


def as_it_is(line: bytes) -> bytes:
    """Return a line as it is."""
    return line


def of_provider(name: str) -> Shape:
    """Ask another provider than the sample."""
    return lambda line: line.replace(b'"sample"', b'"%b"' % name.encode(), 1)


@contextmanager
def asking(server: Server, shape: Shape = as_it_is) -> Iterator[Ask]:
    """Open a connection; what is yielded sends a line and returns the line that comes back.

    Each line is sent in `shape`.
    """
    with server.connect() as connection, connection.makefile("rb") as lines:

        def ask(request: bytes) -> bytes:
            connection.sendall(shape(request))
            line = lines.readline()
            if not line.endswith(b"\n"):
                raise WrongAnswer(f"{server.name} closed the connection instead of answering.")
            return line

        yield ask


class Entity(msgspec.Struct, frozen=True):
    """What is read of an entity."""

    id: str
    data: str
    state: str
    last_error: str


class Stitch(msgspec.Struct, frozen=True):
    """What an answer says of where its records are from."""

    fetched: list[list[str]]
    missing: list[list[str]]
    upstream_requests: int


class Answer(msgspec.Struct, frozen=True):
    """What is read of an answer's envelope."""

    ok: bool
    request_id: str
    result: list[Entity] | None
    stitch: Stitch | None = None


def read_answer(line: bytes, request_id: str) -> tuple[list[Record], Stitch]:
    """The records and the stitch of an answer with one entity, its envelope checked."""
    try:
        answer = msgspec.json.decode(line, type=Answer)
        if not answer.ok or not answer.result or answer.stitch is None:
            raise WrongAnswer(f"The hub answered {line[:300]!r}.")
        if answer.request_id != request_id:
            raise WrongAnswer(f"Asked as {request_id}, answered as {answer.request_id}.")
        (entity,) = answer.result
        if entity.state != "ready":
            raise WrongAnswer(f"{entity.id} is {entity.state}: {entity.last_error}")
        records = msgspec.json.decode(entity.data, type=list[Record])
    except (ValueError, msgspec.DecodeError) as error:
        raise WrongAnswer(f"The hub answered {line[:300]!r}: {error}") from error
    if not all(isinstance(record.get("timestamp"), int) for record in records):
        raise WrongAnswer(f"{entity.id}: a record has no timestamp in unix seconds.")
    return records, answer.stitch


def whole_history(ask: Ask, ticker: str) -> list[Record]:
    """All records that the sample has of a ticker, in order of time."""
    bounds = dict(zip(("start", "end"), HISTORY, strict=True))
    records, _ = read_answer(ask(search("all", ticker, bounds)), "all")
    times = [record["timestamp"] for record in records]
    if any(later <= earlier for earlier, later in pairwise(times)):
        raise WrongAnswer(f"The records of {ticker} are not in order of time.")
    return records


def slice_of(history: list[Record], ticker: str, first: int, count: int) -> Range:
    """The range that holds exactly `count` records from the `first` on."""
    chosen = history[first : first + count]
    if len(chosen) < count:
        raise NotMeasured(f"The sample has no {count} records of {ticker} from number {first} on.")
    start, end = chosen[0]["timestamp"], chosen[-1]["timestamp"] + DAY_S
    if first + count < len(history):
        end = min(end, history[first + count]["timestamp"])
    return Range(ticker, start, end, count)


def in_other_words(
    history: list[Record], ticker: str, count: int, many: int, places: int = 16
) -> list[Range]:
    """`many` ranges of `count` records, no two of them alike.

    There are others in `places` of the history; in one place the same ones, for bounds that differ
    by seconds.
    """
    step = (len(history) - count - 1) // places
    if step < 1:
        raise NotMeasured(f"There are only {len(history)} records of {ticker}.")
    side = isqrt(-(-many // places) - 1) + 1
    found = []
    for number in range(many):
        first = 1 + number % places * step
        earlier, sooner = divmod(number // places, side)
        times = [history[at]["timestamp"] for at in (first - 1, first, first + count)]
        start, end = times[1] - earlier, times[2] - sooner
        assert times[0] < start
        found.append(Range(ticker, start, end, count))
    return found


def held_answer(ask: Ask, asked: Range, history: list[Record], request_id: str) -> tuple[Part, ...]:
    """Ask for a range that is held, check its records by the history, and make it a pattern.

    Only the clock of the envelope, `ts_ms`, may differ from one answer to the next.
    """
    line = ask(asked.request(request_id))
    records, stitch = read_answer(line, request_id)
    wanted = [r for r in history if asked.start <= r["timestamp"] < asked.end]
    if len(wanted) != asked.records or records != wanted:
        raise WrongAnswer(f"{asked}: the records differ from those of the whole history.")
    if stitch.upstream_requests or stitch.fetched or stitch.missing:
        raise WrongAnswer(f"{asked} should be held by now, but its answer says {stitch}.")
    clocks = list(TS_MS.finditer(line))
    if len(clocks) != 1:
        raise WrongAnswer(f"{asked}: {len(clocks)} times ts_ms in the answer instead of once.")
    digits = clocks[0].span(1)
    # Apart, so that the answers to all ids, and to other words for the same records, share the long
    # part in the load generator's memory.
    head = line.index(request_id.encode()) + len(request_id)
    data = line.index(b'"data":', head), line.index(b'"etag":', head)
    edges = [0, *sorted((head, *data, *digits)), len(line)]
    return tuple(j - i if (i, j) == digits else line[i:j] for i, j in pairwise(edges) if i < j)


def held_question(ask: Ask, ranges: list[Range], histories: dict[str, list[Record]]) -> Question:
    """The question of these held ranges in turn, each request with an id of its own."""
    requests, answers = [], []
    for number in range(max(IDS, len(ranges))):
        asked = ranges[number % len(ranges)]
        request_id = f"bench-{number:04d}"
        requests.append(asked.request(request_id))
        answers.append(held_answer(ask, asked, histories[asked.ticker], request_id))
    size = sum(part if isinstance(part, int) else len(part) for part in answers[0])
    return Question(tuple(requests), tuple(answers), "line", size)


def echo_question(size: int) -> Question:
    """A line to the echo server, which answers with `size` bytes."""
    line = Range("AAPL", 0, DAY_S, 1).request("bench-0000")
    return Question((line,), ((b"x" * (size - 1) + b"\n",),), "line", size)


def redis_question(server: Server, size: int) -> Question:
    """GET of a value of `size` bytes, which this sets."""
    key = f"bench:{size}"
    value = (b"0123456789abcdef" * (size // 16 + 1))[:size]
    with server.connect() as connection:
        connection.sendall(_resp(b"SET", key.encode(), value))
        if connection.recv(64) != b"+OK\r\n":
            raise WrongAnswer("Redis did not take the value.")
    answer = (b"$%d\r\n" % size, value + b"\r\n")
    return Question((_resp(b"GET", key.encode()),), (answer,), "resp", size)


def _resp(*words: bytes) -> bytes:
    return b"*%d\r\n" % len(words) + b"".join(b"$%d\r\n%s\r\n" % (len(w), w) for w in words)
