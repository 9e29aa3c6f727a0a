"""Which hub it is: the same word on both doors, on whatever HTTP answers, another at each start."""

from __future__ import annotations

import re
from collections.abc import Mapping
from pathlib import Path

import pytest

import gapless
from gapless.servers.reading import Portions
from support.commands import hub
from support.people import bearer, person
from support.providers import SteadyProvider
from support.stores import store_of
from support.web import Web, parsed, say, web
from support.wire import IMPATIENT, PATIENCE_S, PATIENT, but, connect, connections

MONTH = "start=2021-01-01&end=2021-02-01"
YEAR = "start=2020-01-01&end=2021-01-01"
LINE = '{"query": {"type": "ProviderList"}}'


async def told(port: int) -> str:
    """Return the instance that a hub tells over TCP."""
    async with await connect(port) as wire:
        answer = await wire.ask({"type": "Ping"})
    instance: str = answer["result"]["instance"]
    return instance


@pytest.mark.slow
async def test_each_start_is_another_instance(tmp_path: Path) -> None:
    """Also on the same database and the same port: 128 bits, in hexadecimal digits."""
    seen = []
    port = 0
    for _ in range(3):
        async with hub(tmp_path / "hub.db", tcp=f"127.0.0.1:{port}") as running:
            port = running.port
            seen.append(await told(port))
    assert len(set(seen)) == 3
    assert all(re.fullmatch("[0-9a-f]{32}", one) for one in seen)


def request(method: str, target: str, *headers: str, host: str = "localhost") -> str:
    """Return the head of a request, after whose answer the connection ends."""
    return "\n".join(
        [f"{method} {target} HTTP/1.1", f"Host: {host}", "Connection: close", *headers]
    )


JSON = "Content-Type: application/json"
# What is asked, with which body, and the status that tells that it was the answer meant.
ANSWERS: Mapping[str, tuple[str, bytes, int]] = {
    "of the hub": (request("GET", "/healthz"), b"", 200),
    "of a page": (request("GET", "/docs"), b"", 200),
    "held": (request("GET", f"/v1/data/steady/A?{MONTH}"), b"", 200),
    "of nothing but a head": (request("HEAD", f"/v1/data/steady/A?{MONTH}"), b"", 200),
    "in pieces": (request("GET", f"/v1/data/steady/A.csv?{YEAR}"), b"", 200),
    "on pages": (request("GET", f"/v1/data/steady/A.arrow?{MONTH}&limit=3"), b"", 200),
    "in an older form": (f"GET /v1/data/steady/A?{MONTH} HTTP/1.0\nHost: localhost", b"", 200),
    "of TCP": (
        request("POST", "/v1/query", JSON, f"Content-Length: {len(LINE)}"),
        LINE.encode(),
        200,
    ),
    "had": (request("GET", f"/v1/data/steady/A?{MONTH}", "If-None-Match: *"), b"", 304),
    "a part": (request("GET", f"/v1/data/steady/A?{MONTH}", "Range: bytes=0-9"), b"", 206),
    "no part": (request("GET", f"/v1/data/steady/A?{MONTH}", "Range: bytes=99999-"), b"", 416),
    "to a wrong range": (request("GET", "/v1/data/steady/A?start=never"), b"", 400),
    "to what is no request": ("\x00\x01", b"", 400),
    "to another name": (request("GET", "/healthz", host="evil.example"), b"", 403),
    "to nothing": (request("GET", "/nothing"), b"", 404),
    "to no ticker": (request("GET", f"/v1/data/steady/NONE?{MONTH}"), b"", 404),
    "to another method": (request("DELETE", "/healthz"), b"", 405),
    "to a body of another type": (request("POST", "/v1/plan", "Content-Length: 1"), b"x", 415),
    "to a body too many": (
        request("POST", "/v1/plan", JSON, "Content-Length: 6000"),
        b'"' + b"x" * 5_998 + b'"',
        413,
    ),
    "to half a request": (
        f"POST /v1/plan HTTP/1.1\nHost: localhost\n{JSON}\nContent-Length: 9",
        b"",
        408,
    ),
    "of upstream": (request("GET", f"/v1/data/steady/BROKEN?{MONTH}"), b"", 502),
}


@pytest.mark.share(5)
@pytest.mark.parametrize("name", ANSWERS)
async def test_every_answer_over_http_tells_it(tmp_path: Path, name: str) -> None:
    """Whoever makes it: the routes, the gate before them, the framework, the server itself."""
    head, body, expected = ANSWERS[name]
    steady = SteadyProvider()
    steady.failures = {
        "NONE": gapless.UnknownTicker("there is none"),
        "BROKEN": gapless.UpstreamRejected("not that"),
        "FAULT": RuntimeError("what nobody has thought of"),
    }
    receive_s = 0.3 if expected == 408 else PATIENCE_S
    settings = but(IMPATIENT, api={"receive_s": receive_s, "max_body_bytes": 5_000})
    portions = Portions(most_loaded=100, piece_records=50)
    async with web(tmp_path, steady, settings=settings, portions=portions) as opened:
        await opened.get(f"/v1/data/steady/A?{YEAR}")
        await opened.get(f"/v1/data/steady/A?{MONTH}")
        status, headers, _ = await say(opened, head, body)
        assert status == expected
        assert headers["gapless-instance"] == await told(opened.tcp_port)


async def test_what_the_server_itself_refuses_tells_it(tmp_path: Path) -> None:
    """A head without an end, and a fault of the hub's."""
    async with web(tmp_path, settings=but(PATIENT, api={"max_head_bytes": 4_096})) as opened:
        instance = await told(opened.tcp_port)
        async with await opened.wire() as wire:
            wire.write(b"GET /healthz HTTP/1.1\r\nHost: localhost\r\n" + b"X-A: b\r\n" * 10_000)
            status, headers, _ = parsed(await wire.rest())
        assert (status, headers["gapless-instance"]) == (431, instance)
        await store_of(opened.hub).close()
        response = await opened.get("/v1/series", 500)
        assert response.headers["gapless-instance"] == instance
        opened.logged("error")


async def test_a_connection_too_many_is_told_it(tmp_path: Path) -> None:
    """Though nothing was read from it."""
    settings = but(PATIENT, api={"max_connections": 1})
    async with web(tmp_path, settings=settings) as opened, connections(opened.port, 1) as (held,):
        await held.send(b"GET /healthz HTTP/1.1\r\nHost: localhost\r\n\r\n")
        assert b"200" in await held.line()
        async with await opened.wire() as wire:
            status, headers, _ = parsed(await wire.rest())
        assert status == 503
        assert headers["gapless-instance"] == await told(opened.tcp_port)


async def test_strangers_are_told_it(tmp_path: Path) -> None:
    """A hub with users tells it to who shows no token, a wrong one, or one that may not."""
    async with web(tmp_path, SteadyProvider(), auth=True) as opened:
        reader = await person(opened.authority, "read")
        instance = await told(opened.tcp_port)
        for target, headers, status in (
            ("/healthz", {}, 200),
            ("/providers", {}, 401),
            ("/providers", bearer("gapless_wrong"), 401),
            ("/v1/audit", reader.bearer, 403),
            ("/providers", {"accept": "text/html"}, 303),
            ("/login", {}, 200),
        ):
            response = await opened.client.get(target, headers=headers)
            assert response.status_code == status, target
            assert response.headers["gapless-instance"] == instance


async def test_it_is_told_from_the_first_answer_on(tmp_path: Path) -> None:
    """Who connects before the server has ticked for the first time is told it as well."""
    for _ in range(5):
        async with web(tmp_path) as opened:
            assert await _first(opened) == await told(opened.tcp_port)


async def _first(opened: Web) -> str:
    async with await opened.wire() as wire:
        await wire.send(b"\x00\r\n\r\n")
        _, headers, _ = parsed(await wire.rest())
    return headers["gapless-instance"]
