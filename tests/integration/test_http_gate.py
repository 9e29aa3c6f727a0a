"""What HTTP refuses before it looks at it: hosts, sites, bodies, slow and greedy clients."""

from __future__ import annotations

import asyncio
import json
from contextlib import AsyncExitStack
from itertools import product
from pathlib import Path

import pytest

from gapless.providers.sample import SampleProvider
from gapless.servers.http.hosts import Hosts
from support.providers import SteadyProvider
from support.web import SMALL, parsed, say, web
from support.wire import PATIENCE_S, PATIENT, SOON_S, but, connections

HOSTILE = [
    "evil.example",
    "evil.example:7070",
    "127.0.0.1.evil.example",
    "localhost.evil.example",
    "evil.example#localhost",
    "localhost@evil.example",
    "evil.example/127.0.0.1",
    "192.168.1.10",
    "10.0.0.1:7070",
    "0.0.0.0",
    "[fd00::1]:7070",
    "[::]",
    "169.254.169.254",
    "metadata.google.internal",
    "localhost:7070:7070",
    "localhost:port",
    "127.1",
    "2130706433",
    "localhost, evil.example",
    "",
]
FRIENDLY = ["localhost", "LOCALHOST:7070", "127.0.0.1", "127.0.0.1:1", "[::1]:7070", "127.8.8.8"]
CHANGING = ("POST", "PUT", "DELETE", "PATCH")


async def test_dns_rebinding(tmp_path: Path) -> None:
    """A name that was made to point here is refused on every route, before anything is done."""
    async with web(tmp_path, SampleProvider()) as opened:
        for host, path in product(HOSTILE, ("/providers", "/v1/data/sample/AAPL", "/docs")):
            line = f"\nHost: {host}" if host else ""
            status, headers, body = await say(
                opened, f"GET {path} HTTP/1.1{line}\nConnection: close"
            )
            assert (status, json.loads(body)["code"]) == (403, "forbidden"), host
            assert headers["content-type"] == "application/problem+json"
        for host in FRIENDLY:
            status, _, _ = await say(
                opened, f"GET /healthz HTTP/1.1\nHost: {host}\nConnection: close"
            )
            assert status == 200, host


def test_further_names_can_be_allowed() -> None:
    """Those of the setting, with any port."""
    hosts = Hosts("10.0.0.5", ("hub.example", " Other.Example ", ""))
    for name in ("hub.example", "HUB.example:80", "other.example", "10.0.0.5:7070", "localhost."):
        assert hosts.allows(name), name
    assert not hosts.allows("example")
    assert not hosts.allows(None)


@pytest.mark.parametrize("method", CHANGING)
async def test_other_sites_change_nothing(tmp_path: Path, method: str) -> None:
    """A page of another site cannot make a browser send anything that changes something here."""
    foreign = [
        {"origin": "http://evil.example"},
        {"origin": "null"},
        {"origin": "https://localhost.evil.example"},
        {"sec-fetch-site": "cross-site"},
        {"sec-fetch-site": "same-site"},
        {"sec-fetch-site": "cross-site", "origin": "http://localhost"},
    ]
    async with web(tmp_path, SampleProvider()) as opened:
        own = {"origin": opened.url, "sec-fetch-site": "same-origin"}
        paths = ("/v1/query", "/plugins/load", "/v1/series/sample/AAPL", "/v1/entities/x")
        for path, headers in product(paths, foreign):
            response = await opened.client.request(method, path, headers=headers)
            assert (response.status_code, response.json()["code"]) == (403, "forbidden")
        for headers in ({}, own, {"sec-fetch-site": "none"}):
            response = await opened.client.request(
                method, "/v1/series/sample/NOPE", headers=headers
            )
            assert response.status_code in (404, 405)
        # Reading is open to whoever may address the hub; answers carry no leave to be read.
        seen = await opened.get("/providers", origin="http://evil.example")
        assert not [name for name in seen.headers if name.startswith("access-control")]


@pytest.mark.parametrize(
    "kind", ["text/plain", "application/x-www-form-urlencoded", "multipart/form-data", ""]
)
async def test_bodies_are_json(tmp_path: Path, kind: str) -> None:
    """A form of another page, which needs nobody's leave, is no request of ours."""
    async with web(tmp_path, SampleProvider()) as opened:
        body = b'{"query": {"type": "ProviderList"}}'
        for path in ("/v1/query", "/v1/plan", "/plugins/load"):
            response = await opened.client.post(
                path, content=body, headers={"content-type": kind} if kind else {}
            )
            assert response.status_code == 415
        good = await opened.client.post(
            "/v1/query",
            content=body,
            headers={"content-type": "application/json; charset=utf-8"},
        )
        assert good.json()["ok"]


@pytest.mark.parametrize("chunked", [False, True])
async def test_bodies_have_a_limit(tmp_path: Path, chunked: bool) -> None:
    """More is refused, whether its length is told beforehand or not."""
    async with web(
        tmp_path, SampleProvider(), settings=but(PATIENT, api={"max_body_bytes": 5_000})
    ) as opened:
        body = b'{"query": {"type": "Line", "payload": {"line": "%b"}}}' % (b"x" * 6_000)

        async def pieces() -> object:
            for at in range(0, len(body), 1_000):
                yield body[at : at + 1_000]

        response = await opened.client.post(
            "/v1/query",
            content=pieces() if chunked else body,  # type: ignore[arg-type]
            headers={"content-type": "application/json"},
        )
        assert (response.status_code, response.json()["code"]) == (413, "line_too_long")
        await opened.get("/healthz")


@pytest.mark.share(1)
@pytest.mark.parametrize(
    "begun",
    [
        b"",
        b"GET /providers HT",
        b"GET /providers HTTP/1.1\r\nHost: localhost\r\nX-",
        b"POST /v1/query HTTP/1.1\r\nHost: localhost\r\ncontent-type: application/json\r\n"
        b'Content-Length: 100\r\n\r\n{"query"',
    ],
)
async def test_slow_senders_are_cut_off(tmp_path: Path, begun: bytes) -> None:
    """Who has not sent a whole request in time is told so and closed; who keeps dripping, too."""
    settings = but(PATIENT, api={"receive_s": SOON_S})
    async with web(tmp_path, SampleProvider(), settings=settings) as opened:
        async with await opened.wire() as wire:
            await wire.send(begun)
            status, _, body = parsed(await wire.rest())
            assert status == 408
            assert "api.receive_s" in json.loads(body)["message"]
        async with await opened.wire() as wire:
            # Half a request after a whole one is no better.
            await wire.send(b"GET /healthz HTTP/1.1\r\nHost: localhost\r\n\r\n")
            assert b"200" in await wire.line()
        await opened.get("/healthz")


async def test_heads_have_a_limit(tmp_path: Path) -> None:
    """A head that does not end is not read on."""
    settings = but(PATIENT, api={"max_head_bytes": 4_096})
    async with web(tmp_path, SampleProvider(), settings=settings) as opened:
        async with await opened.wire() as wire:
            wire.write(b"GET /healthz HTTP/1.1\r\nHost: localhost\r\n" + b"X-A: b\r\n" * 10_000)
            status, _, body = parsed(await wire.rest())
            assert status == 431
            assert "api.max_head_bytes" in json.loads(body)["message"]
        long = "x" * 3_000
        assert (await opened.client.get("/healthz", headers={"x-a": long})).status_code == 200


async def test_connections_have_a_limit(tmp_path: Path) -> None:
    """One too many is told to come again; a place that is free again is taken again."""
    settings = but(PATIENT, api={"max_connections": 5})
    async with web(tmp_path, SampleProvider(), settings=settings) as opened:
        async with connections(opened.port, 5) as held:
            for wire in held:
                await wire.send(b"GET /healthz HTTP/1.1\r\nHost: localhost\r\n\r\n")
                assert b"200" in await wire.line()
            async with await opened.wire() as wire:
                status, headers, body = parsed(await wire.rest())
                assert (status, json.loads(body)["code"]) == (503, "overloaded")
                assert headers["retry-after"] == "1"
        async with asyncio.timeout(PATIENCE_S):
            while (await opened.client.get("/healthz")).status_code != 200:
                await opened.client.aclose()


@pytest.mark.slow
async def test_who_does_not_read_is_closed(tmp_path: Path) -> None:
    """And holds no more memory than what is on its way."""
    steady = SteadyProvider("minutes", step=60_000, padding=500)
    settings = but(PATIENT, limits={"slow_reader_s": SOON_S})
    async with web(tmp_path, steady, settings=settings, portions=SMALL) as opened:
        path = "/v1/data/minutes/A?start=2020-01-01&end=2020-01-21"
        await opened.get(path)
        async with AsyncExitStack() as stack:
            for _ in range(3):
                wire = await stack.enter_async_context(await opened.wire())
                wire.reader._transport.pause_reading()  # type: ignore[attr-defined]
                await wire.send(f"GET {path} HTTP/1.1\r\nHost: localhost\r\n\r\n".encode())
            async with asyncio.timeout(PATIENCE_S):
                while opened.logged("info").count("closed a client that does not read") < 1:
                    await opened.get("/healthz")


async def test_any_bytes_get_an_error_or_a_close(tmp_path: Path) -> None:
    """Nonsense is answered or hung up on, and others are served."""
    nonsense = [
        b"\x00" * 100,
        b"GET\r\n\r\n",
        b"GET / HTTP/9.9\r\n\r\n",
        b"\xff\xfe GET / HTTP/1.1\r\nHost: localhost\r\n\r\n",
        b"GET / HTTP/1.1\r\nHost: localhost\r\nContent-Length: -1\r\n\r\n",
        b"POST /v1/query HTTP/1.1\r\nHost: localhost\r\nTransfer-Encoding: chunked\r\n\r\nzz\r\n",
        b"GET http://[ HTTP/1.1\r\nHost: localhost\r\n\r\n",
        b"GET //[ HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n\r\n",
        b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n",
        b'{"query": {"type": "Ping"}}\n',
        b"GET /v1/data/%zz/%zz?%zz HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n\r\n",
        b"GET /v1/data/sample/A\x01B HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n\r\n",
    ]
    async with web(tmp_path, SampleProvider()) as opened:
        for data in nonsense:
            async with await opened.wire() as wire:
                await wire.send(data)
                wire.writer.write_eof()
                answer = await wire.rest()
                assert not answer or answer.startswith(b"HTTP/1.1 4"), (data, answer)
            await opened.get("/healthz")
        opened.logged("warning")


UPGRADES = {
    "with a body behind it": (
        b"POST /v1/query HTTP/1.1\r\nHost: localhost\r\nContent-Type: application/json\r\n"
        b"Connection: Upgrade\r\nUpgrade: h2c\r\nContent-Length: %d\r\n\r\n"
    ),
    "split in its name": (
        b"POST /v1/query HTTP/1.1\r\nHost: localhost\r\nContent-Type: application/json\r\n"
        b"Connection: Upgrade\r\nUpgr|ade: h2c\r\nContent-Length: %d\r\n\r\n"
    ),
}


@pytest.mark.parametrize("kind", UPGRADES)
async def test_no_body_is_read_as_a_request(tmp_path: Path, kind: str) -> None:
    """Whoever wants to change protocols is answered without, and nothing of a body runs."""
    body = b"DELETE /v1/series/sample/AAPL HTTP/1.1\r\nHost: localhost\r\n\r\n"
    async with web(tmp_path, SampleProvider()) as opened:
        await opened.get("/v1/data/sample/AAPL?start=2010-01-01&end=2010-02-01")
        async with await opened.wire() as wire:
            for part in (UPGRADES[kind] % len(body)).split(b"|"):
                await wire.send(part)
                await opened.get("/healthz")
            await wire.send(body)
            answer = await wire.rest() if "split" in kind else await wire.line()
            assert answer.startswith(b"HTTP/1.1 400")
            assert b"records" not in answer
        await opened.get("/v1/coverage/sample/AAPL")


async def test_who_would_rather_change_protocols_is_answered(tmp_path: Path) -> None:
    """As clients that prefer HTTP/2 ask: with a body in the same packet, and with none."""
    body = b'{"query": {"type": "ProviderList"}}'
    wish = b"Connection: Upgrade, HTTP2-Settings\r\nUpgrade: h2c\r\nHTTP2-Settings: AAEAAEAA\r\n"
    async with web(tmp_path, SampleProvider()) as opened, await opened.wire() as wire:
        await wire.send(
            b"POST /v1/query HTTP/1.1\r\nHost: localhost\r\nContent-Type: application/json\r\n"
            + wish
            + b"Content-Length: %d\r\n\r\n%b" % (len(body), body)
        )
        assert b" 200 " in await wire.line()
        async with await opened.wire() as other:
            await other.send(b"GET /healthz HTTP/1.1\r\nHost: localhost\r\n" + wish + b"\r\n")
            assert b" 200 " in await other.line()


@pytest.mark.share(4)
@pytest.mark.parametrize(
    ("head", "status"),
    [
        ("POST /v1/plan HTTP/1.1\nHost: localhost\nOrigin: http://[", 403),
        ("GET /healthz HTTP/1.1\nHost: localhost\nHost: evil.example", 400),
        ("GET /healthz HTTP/1.1\nHost: localhost\nHost: localhost", 400),
        (
            "POST /v1/plan HTTP/1.1\nHost: localhost\nContent-Type: application/json\n"
            "Content-Encoding: gzip\nContent-Encoding: identity\nContent-Length: 0",
            415,
        ),
        (
            "GET /v1/data/sample/AAPL HTTP/1.1\nHost: localhost\nRange: bytes=0-1\n"
            "Range: bytes=2-3",
            400,
        ),
        (
            "POST /v1/plan HTTP/1.1\nHost: localhost\nContent-Type: application/json\n"
            "Content-Length: 0\nContent-Length: 0",
            400,
        ),
        (
            "POST /v1/plan HTTP/1.1\nHost: localhost\nContent-Type: application/json\n"
            "Content-Length: 5\nTransfer-Encoding: chunked",
            400,
        ),
        (
            "POST /v1/plan HTTP/1.1\nHost: localhost\nContent-Type: application/json\n"
            "Transfer-Encoding: chunked\nTransfer-Encoding: identity",
            400,
        ),
        ("GET /healthz HTTP/1.1", 403),
        ("GET /v1/%64ata/sample/AAPL HTTP/1.1\nHost: localhost", 400),
        ("GET /v1/data/sample/AAPL HTTP/1.1\nHost: localhost\nSec-Fetch-Site: cross-site", 403),
        ("GET /v1/data/sample/AAPL HTTP/1.1\nHost: localhost\nAccept: " + "a/b," * 500, 400),
    ],
)
async def test_odd_heads_are_problems(tmp_path: Path, head: str, status: int) -> None:
    """And no faults: each is told in the usual form."""
    async with web(tmp_path, SampleProvider()) as opened:
        got, headers, body = await say(opened, f"{head}\nConnection: close")
        assert got == status
        assert headers["content-type"] == "application/problem+json"
        assert json.loads(body)["ok"] is False


@pytest.mark.parametrize(
    ("name", "values"),
    [
        ("Origin", ("http://evil.example", "http://localhost")),
        ("Sec-Fetch-Site", ("cross-site", "same-origin")),
        ("Content-Type", ("text/plain", "application/json")),
        ("Authorization", ("Bearer a", "Bearer b")),
    ],
)
async def test_what_is_decided_by_comes_once(
    tmp_path: Path, name: str, values: tuple[str, str]
) -> None:
    """Two lines of a field that has one value are refused by its name, whichever comes first."""
    async with web(tmp_path, SampleProvider()) as opened:
        body = b'{"query": {"type": "ProviderList"}}'
        good = {"host": "localhost", "content-type": "application/json"}
        for pair in (values, values[::-1], (values[1], values[1])):
            others = [one for one in good.items() if one[0] != name.lower()]
            response = await opened.client.post(
                "/v1/query", content=body, headers=[*others, *((name, value) for value in pair)]
            )
            assert response.status_code == 400
            assert f"more than one {name};" in response.json()["message"]


@pytest.mark.parametrize("path", ["/v1/plan", "/v1/refresh", "/plugins/load", "/v1/entities/x"])
async def test_odd_bodies_are_problems(tmp_path: Path, path: str) -> None:
    """Bytes that are no text, and depths that nobody needs."""
    async with web(tmp_path, SampleProvider()) as opened:
        for body in (b'{"ticker": "\xff"}', b'{"data": ' + b"[" * 100_000, b"[]", b""):
            response = await opened.client.request(
                "PUT" if "entities" in path else "POST",
                path,
                content=body,
                headers={"content-type": "application/json"},
            )
            assert response.status_code == 400, body[:20]
            assert response.headers["content-type"] == "application/problem+json"
        packed = await opened.client.post(
            "/v1/plan",
            content=b"{}",
            headers={"content-type": "application/json", "content-encoding": "gzip"},
        )
        assert packed.status_code == 415


async def test_old_clients_get_bodies_that_end(tmp_path: Path) -> None:
    """HTTP/1.0 knows no pieces: its answers come whole."""
    steady = SteadyProvider("minutes", step=60_000)
    async with web(tmp_path, steady, portions=SMALL) as opened:
        path = "/v1/data/minutes/A.csv?start=2020-01-01&end=2020-01-04"
        whole = await opened.get(path)
        status, headers, body = await say(opened, f"GET {path} HTTP/1.0\nHost: localhost")
        assert (status, body) == (200, whole.content)
        assert "transfer-encoding" not in headers
        assert int(headers["content-length"]) == len(body)
