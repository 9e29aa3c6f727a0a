"""Any byte sequence gets one JSON error line, an answer or a close, and harms nobody after it."""

from __future__ import annotations

import asyncio
import json
import random
import socket
from collections.abc import Callable
from pathlib import Path
from typing import Any, NamedTuple

import pytest

from gapless.protocol.messages import WIRE_ERRORS
from support.extent import share
from support.providers import SteadyProvider
from support.wire import PATIENT, Door, Wire, but, connect, door, line_of, records, request, search

# Short, so that lines too long cost little.
LIMIT = 4_096
ON_ONE_CONNECTION = 60
DAY_S = 86_400_000
# Asked for only where nothing may be read as a request.
SMUGGLED = "SMUGGLED"
SMUGGLING = line_of(search("steady", SMUGGLED, "2021-01-01", "2021-02-01"))

VALID: list[dict[str, Any]] = [
    {"type": "Ping"},
    {"type": "Auth"},
    {"type": "ProviderList"},
    {"type": "Line", "payload": {"line": "provider steady search ticker=A date=-90d..now"}},
    {"type": "Line", "payload": {"line": "provider steady get-many a,b"}},
    search("steady", "HELD", "2021-01-01", "2021-06-01"),
    search("steady", "HELD", "-900d", "-30d"),
    search("steady", "B", "2021-01-01T00:00:00+01:00", "2022-01-01", side="right"),
    request("steady", "GetEntity", id="steady:HELD:2021-02-01T00:00:00Z..2021-03-01T00:00:00Z"),
    request("steady", "GetEntities", ids=["a", "b"]),
    request("steady", "GetAllEntities", limit=2, offset=1),
    request("steady", "GetReport", url="http://x/"),
    request("steady", "SearchEntities", query=[{"ByTags": ["ticker=HELD"]}], limit=1),
    request(
        "steady",
        "SearchEntities",
        query=[{"ByUpdatedAtRange": {"start": "-1h", "end": ""}}, {"ByState": "ready"}],
    ),
]
WORDS = [
    *("request_id", "query", "type", "payload", "provider", "request", "token", "strict"),
    *("ordered", "data_as", "Ping", "Line", "line", "ProviderRequest", "SearchEntities"),
    *("GetEntity", "GetEntities", "GetAllEntities", "GetReport", "id", "ids", "limit", "offset"),
    *("Ticker", "DateRange", "start", "end", "Param", "name", "value", "ByTags", "ById", "steady"),
    *("HELD", "2021-01-01", "-30d", "now", "array", "", "\u2028", "é", "\x7f", "9999-12-31"),
    *("0001-01-01", "steady:A:0001-01-01..9999-12-31", "a" * 300, "-999999999999w", "%00", ".."),
]
TOKENS = [
    *(b"NaN", b"Infinity", b"-Infinity", b"1e999", b"-1e999", b"9" * 400, b"-" + b"9" * 60),
    *(b"1.0", b"-0", b"0x10", b"01", b"9223372036854775808", b"1e-999", b"true", b"null"),
    *(b'"\\ud800"', b'"\\udfff\\ud800"', b'"\\u0000"', b'"\xed\xa0\x80"', b'"\xff"', b'"\\x41"'),
    *(b"{", b"}", b"[", b"]", b'"', b"\\", b",", b":", b"\x00", b"\xef\xbb\xbf", b"\r", b"\x0b"),
    *(b"\xe2\x80\xa8", b"\xc2\x85", b"/**/", b"'", b"{}", b"[]", b'{"a":1,"a":2}'),
]
STRANGERS = [
    b"GET / HTTP/1.1\r\nHost: localhost\r\n\r\n",
    b"POST / HTTP/1.1\r\nContent-Length: 9\r\n\r\n",
    b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n",
    b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03" + bytes(range(200)),
    b"SSH-2.0-OpenSSH_9.6\r\n",
    b"*1\r\n$4\r\nPING\r\n",
    b"\x00\x00\x00\x08\x04\xd2\x16\x2f",
    b"EHLO localhost\r\nQUIT\r\n",
    b"--\r\n'; DROP TABLE series; --\n",
]
PLACES = [
    b"%b",
    b'{"query":%b}',
    b'{"request_id":%b,"query":{"type":"Ping"}}',
    b'{"query":{"type":"Ping"},"more":%b}',
    b'{"query":{"type":"Line","payload":%b}}',
]
METHODS = (b"GET", b"HEAD", b"POST", b"PUT", b"DELETE", b"CONNECT", b"OPTIONS", b"TRACE", b"PATCH")


class Closer(NamedTuple):
    """Bytes that end their connection, and how many answers come before that."""

    data: bytes
    answers: int


class Bytes:
    """What strangers send, made from a seed."""

    def __init__(self, seed: str) -> None:
        self.rng = random.Random(seed)
        self._makers: list[tuple[Callable[[], bytes], int]] = [
            (self.noise, 3),
            (self.mutated, 8),
            (self.truncated, 2),
            (self.nested, 1),
            (self.tree, 4),
            (self.token_in_place, 4),
            (self.stranger, 1),
            (self.valid, 1),
        ]

    def sequence(self) -> bytes:
        """Return bytes of whole lines, none of them too long."""
        makers, weights = zip(*self._makers, strict=True)
        data: bytes = self.rng.choices(makers, weights)[0]()
        lines = [line[: LIMIT - 1] for line in data.split(b"\n")]
        return b"\n".join(lines) + self.rng.choice([b"\n", b"\n", b"\r\n", b"\n\n"])

    def closer(self) -> Closer:
        """Return bytes that end a connection: too long a line, HTTP, or half a line."""
        rng = self.rng
        kind = rng.randrange(4)
        if kind == 0:
            method = rng.choice(METHODS)
            middle = rng.randbytes(rng.randrange(40)).replace(b"\n", b"")
            return Closer(method + b" /" + middle + b"\r\n\r\n" + SMUGGLING, 0)
        before = b"".join(self.line(query) for query in rng.choices(VALID, k=rng.randrange(3)))
        count = before.count(b"\n")
        if kind == 1:
            half = self.line(rng.choice(VALID))[: rng.randrange(1, 40)].rstrip(b"\n")
            return Closer(before + half, count)
        over = rng.choice([1, 1, 2, 3, 100, 5_000, 40_000])
        body = rng.choice([b"x", b" ", b"[", b'{"query":', b"\x00", b"\r"])
        long = (body * (LIMIT + over))[: LIMIT + over]
        if long.endswith(b"\r"):
            # The carriage return of an ending does not count.
            long += b"x"
        end = rng.choice([b"", b"\n", b"\r\n"])
        return Closer(before + long + end + SMUGGLING * (end != b"") * 2, count + 1)

    def line(self, query: dict[str, Any]) -> bytes:
        """Return a valid request as a line."""
        rng = self.rng
        fields: dict[str, Any] = {}
        if rng.random() < 0.8:
            fields["request_id"] = rng.choice([1, "a", None, True, -1.5, "é"])
        if rng.random() < 0.1:
            fields["ordered"] = rng.random() < 0.5
        if rng.random() < 0.1:
            fields["data_as"] = rng.choice(["array", "string", None])
        return line_of(query, **fields)

    def valid(self) -> bytes:
        return self.line(self.rng.choice(VALID))[:-1]

    def noise(self) -> bytes:
        rng = self.rng
        if rng.random() < 0.5:
            return rng.randbytes(rng.randrange(1, 120))
        alphabet = b'{}[]",:\\\n\r\t 0123456789-+.eEtrufalsn\x00\xff'
        return bytes(rng.choices(alphabet, k=rng.randrange(1, 120)))

    def mutated(self) -> bytes:
        rng = self.rng
        data = bytearray(self.valid())
        for _ in range(rng.randint(1, 4)):
            i = rng.randrange(len(data) + 1)
            j = min(len(data), i + rng.randrange(12))
            what = rng.randrange(6)
            if what == 0 and i < len(data):
                data[i] = rng.randrange(256)
            elif what == 1:
                del data[i:j]
            elif what == 2:
                data[i:i] = data[i:j]
            elif what == 3:
                data[i:i] = rng.choice(TOKENS)
            elif what == 4:
                data[i:j] = rng.choice(TOKENS)
            elif i < len(data):
                data[i] ^= 1 << rng.randrange(8)
        return bytes(data)

    def truncated(self) -> bytes:
        data = self.valid()
        return data[: self.rng.randrange(1, len(data))]

    def nested(self) -> bytes:
        rng = self.rng
        opening, closing = rng.choice([(b"[", b"]"), (b'{"a":', b"}"), (b'[{"query":[', b"]}]")])
        depth = rng.choice([10, 100, 300, 341])
        value = opening * depth + b"1" + closing * (depth if rng.random() < 0.7 else 0)
        return rng.choice(PLACES) % value

    def tree(self) -> bytes:
        """Return JSON that has the protocol's words in the wrong places."""
        value = self._value(0)
        if self.rng.random() < 0.7:
            value = {"request_id": self._value(3), "query": self._query()}
        return json.dumps(value, ensure_ascii=self.rng.random() < 0.5).encode()

    def token_in_place(self) -> bytes:
        """Return a request in which one value is something that JSON should not have."""
        rng = self.rng
        data = self.valid()
        starts = [i + 1 for i, byte in enumerate(data) if byte == ord(":")]
        i = rng.choice(starts)
        j = min((data.find(end, i) for end in (b",", b"}") if data.find(end, i) > 0), default=i)
        return data[:i] + rng.choice(TOKENS) + data[j:]

    def stranger(self) -> bytes:
        return self.rng.choice(STRANGERS)

    def _query(self) -> Any:
        rng = self.rng
        if rng.random() < 0.3:
            return self._value(1)
        kind = rng.choice(["GetEntity", "GetEntities", "GetAllEntities", "SearchEntities", "x"])
        inner = {"provider": rng.choice(WORDS[-25:]), "request": {kind: self._value(1)}}
        if rng.random() < 0.5:
            filters = [{rng.choice(WORDS): self._value(2)} for _ in range(rng.randrange(3))]
            filters.append({"Ticker": rng.choice(WORDS)})
            dates = {"start": rng.choice(WORDS), "end": rng.choice(WORDS)}
            filters.append({"DateRange": dates})
            inner = {"provider": "steady", "request": {"SearchEntities": {"query": filters}}}
        return {"type": "ProviderRequest", "payload": inner}

    def _value(self, depth: int) -> Any:
        rng = self.rng
        kind = rng.randrange(8 if depth < 4 else 6)
        if kind < 2:
            return rng.choice(WORDS)
        if kind == 2:
            return rng.choice([0, -1, 1, 2**63 - 1, 2**63, 10**30, 1.5, 1e300])
        if kind == 3:
            return rng.choice([None, True, False])
        if kind < 6:
            return rng.choice(WORDS)
        if kind == 6:
            return [self._value(depth + 1) for _ in range(rng.randrange(4))]
        return {rng.choice(WORDS): self._value(depth + 1) for _ in range(rng.randrange(4))}

    def pieces(self, data: bytes) -> list[bytes]:
        """Cut bytes at random points, or nowhere."""
        rng = self.rng
        if rng.random() < 0.6:
            return [data]
        cuts = sorted(rng.randrange(len(data) + 1) for _ in range(rng.randint(1, 4)))
        return [data[i:j] for i, j in zip([0, *cuts], [*cuts, len(data)], strict=True)]


def lines_in(data: bytes) -> int:
    """Return how many answers are due for bytes of whole lines."""
    return sum(line.removesuffix(b"\r") != b"" for line in data.split(b"\n")[:-1])


def understood(line: bytes) -> dict[str, Any]:
    """Return a line as the answer that it must be."""
    answer: dict[str, Any] = json.loads(line, parse_constant=_refuse, parse_int=str)
    assert type(answer["ok"]) is bool
    if answer["ok"]:
        assert answer["error"] is None
        assert answer["result"] is not None
    else:
        assert answer["result"] is None
        assert answer["error"]["code"] in WIRE_ERRORS
        assert answer["error"]["code"] != "internal", line
        assert answer["error"]["message"]
    return answer


def _refuse(constant: str) -> None:
    raise AssertionError(f"{constant} is no JSON")


async def send(wire: Wire, source: Bytes, data: bytes) -> None:
    """Send bytes in pieces that may well arrive one by one."""
    for piece in source.pieces(data):
        if wire.writer.transport.is_closing():
            return
        wire.write(piece)
        await asyncio.sleep(0)


async def connected(at: Door) -> Wire:
    """Connect a client whose pieces the kernel does not put together."""
    wire = await connect(at.port)
    sock: socket.socket = wire.writer.get_extra_info("socket")
    sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
    return wire


async def one_connection(at: Door, source: Bytes, count: int) -> None:
    """Send sequences with a healthy request after each; every line has its one answer."""
    sequences = [source.sequence() for _ in range(count)]
    healthy = [
        line_of(
            {"type": "Ping"} if i % 4 else search("steady", "HELD", "2021-01-01", "2021-06-01"),
            request_id=f"healthy {i}",
        )
        for i in range(count + 1)
    ]

    async def send_all(wire: Wire) -> None:
        wire.write(healthy[-1])
        for sequence, after in zip(sequences, healthy[:-1], strict=True):
            await send(wire, source, sequence + after)
        wire.writer.write_eof()

    async with await connected(at) as wire:
        _, got = await asyncio.gather(send_all(wire), wire.rest())
    answers = [understood(line) for line in got.split(b"\n")[:-1]]
    assert got.endswith(b"\n")
    due = sum(lines_in(sequence) for sequence in sequences) + len(healthy)
    assert len(answers) == due, sequences
    well = [
        answer
        for answer in answers
        if isinstance(answer["request_id"], str) and answer["request_id"].startswith("healthy")
    ]
    assert [answer["request_id"] for answer in well] == [
        f"healthy {i}" for i in (count, *range(count))
    ]
    assert all(answer["ok"] for answer in well)


async def one_closer(at: Door, source: Bytes, control: Wire) -> None:
    """Send what ends a connection; it ends, and a healthy request elsewhere is answered."""
    closer = source.closer()
    async with await connected(at) as wire:

        async def send_all() -> None:
            await send(wire, source, closer.data)
            if not closer.data.endswith(SMUGGLING) and not wire.writer.transport.is_closing():
                wire.writer.write_eof()

        _, got = await asyncio.gather(send_all(), wire.rest())
    answers = [understood(line) for line in got.split(b"\n")[:-1]]
    assert len(answers) == closer.answers, (closer, got)
    await control.ping()


@pytest.mark.parametrize(
    "count",
    [share(2_000, of=20_000), pytest.param(100_000, marks=pytest.mark.soak)],
    ids=["quick", "long"],
)
async def test_any_bytes_are_answered_or_closed(
    tmp_path: Path, request: pytest.FixtureRequest, count: int
) -> None:
    """Whatever comes, each line has one answer or the connection ends, and the next is well."""
    source = Bytes(f"bytes {request.config.getoption('hypothesis_seed')}")
    steady = SteadyProvider(step=30 * DAY_S)
    settings = but(PATIENT, limits={"max_line_bytes": LIMIT})
    async with door(tmp_path, steady, settings=settings) as at, at.client() as control:
        held = await control.ask(search("steady", "HELD", "2020-01-01", "2022-01-01"))
        assert len(records(held)) == 25
        left = count
        while left:
            await one_connection(at, source, ON_ONE_CONNECTION)
            for _ in range(5):
                await one_closer(at, source, control)
            left -= min(left, ON_ONE_CONNECTION + 5)
        again = await control.ask(search("steady", "HELD", "2020-01-01", "2022-01-01"))
        assert again["result"] == held["result"]
    assert not steady.asked(SMUGGLED)
