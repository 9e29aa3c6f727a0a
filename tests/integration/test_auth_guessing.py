"""Guessing, enumeration, and what strangers may hold before they show a token."""

from __future__ import annotations

import asyncio
import resource
import statistics
import time
from contextlib import AsyncExitStack
from pathlib import Path

import httpx
import pytest

from gapless.errors import QuotaExceeded, Unauthorized
from support.clock import ManualClock
from support.people import OTHER_PASSWORD, PASSWORD, person
from support.providers import SteadyProvider
from support.web import web
from support.wire import PATIENCE_S, PATIENT, SOON_S, but, connect, connections, door, search

JANUARY = ("2024-01-01", "2024-02-01")
QUERY = search("steady", "ABC", *JANUARY)


# Guessing, enumeration


async def test_guessing_a_thousand_times(tmp_path: Path) -> None:
    """From one address a handful is looked at, then there is a wait that grows; right or wrong."""
    async with web(tmp_path, auth=True, clock=ManualClock()) as opened:
        await opened.authority.users.add("ann@example.com", PASSWORD, "admin", "test")
        sessions = opened.authority.sessions
        looked_at = refused = 0
        waits: list[float] = []

        async def guess(number: int) -> None:
            nonlocal looked_at, refused
            try:
                await sessions.sign_in("Ann@example.com ", f"guess number {number}", "10.0.0.1")
            except QuotaExceeded as error:
                refused += 1
                waits.append(error.retry_after_s or 0)
            except Unauthorized:
                looked_at += 1

        for start in range(0, 1_000, 100):
            await asyncio.gather(*(guess(number) for number in range(start, start + 100)))
        assert looked_at + refused == 1_000
        assert looked_at <= 12, looked_at
        assert max(waits) >= 1
        # The right one has to wait as well, from there; from elsewhere the user comes in.
        with pytest.raises(QuotaExceeded):
            await sessions.sign_in("ann@example.com", PASSWORD, "10.0.0.1")
        assert (await sessions.sign_in("ann@example.com", PASSWORD, "10.0.0.2")).access
        response = await opened.client.post(
            "/v1/auth/login", json={"email": "ann@example.com", "password": PASSWORD}
        )
        assert response.status_code == 200


async def test_guessing_at_many_accounts_from_one_address(tmp_path: Path) -> None:
    """Spraying one password over many addresses ends too; over HTTP it is a 429 that says when."""
    async with web(tmp_path, auth=True, clock=ManualClock()) as opened:
        statuses = []
        for number in range(60):
            response = await opened.client.post(
                "/v1/auth/login",
                json={"email": f"u{number}@example.com", "password": OTHER_PASSWORD},
            )
            statuses.append(response.status_code)
        assert set(statuses) == {401, 429}
        assert statuses.index(429) == 50
        assert int(response.headers["retry-after"]) >= 1
        assert response.json()["code"] == "overloaded"


@pytest.mark.slow
async def test_enumeration_costs_as_much_for_who_is_not_known(tmp_path: Path) -> None:
    """Neither words nor time tell whether there is such a user."""
    async with web(tmp_path, auth=True) as opened:
        sessions = opened.authority.sessions
        for number in range(8):
            await opened.authority.users.add(f"u{number}@example.com", PASSWORD, "read", "test")
        times: dict[str, list[float]] = {"known": [], "unknown": []}
        words = set()
        for number in range(8):
            for kind, email in (("known", f"u{number}"), ("unknown", f"x{number}")):
                for attempt in range(3):
                    address = f"10.{attempt}.0.{number}"
                    started = time.process_time()
                    with pytest.raises(Unauthorized) as told:
                        await sessions.sign_in(f"{email}@example.com", OTHER_PASSWORD, address)
                    # The processor's time, for the machine may be doing something else.
                    times[kind].append(time.process_time() - started)
                    words.add(told.value.message)
        assert words == {"the email address or the password is wrong"}
        known, unknown = (statistics.median(times[kind]) for kind in ("known", "unknown"))
        assert 0.7 < known / unknown < 1.4, (known, unknown)


@pytest.mark.slow
async def test_guessing_two_hundred_sign_in_while_queries_run(tmp_path: Path) -> None:
    """All of them come in, at most two are worked on at once, and queries are answered beside.

    Many more of these than there are sign-ins, as it could not be if any of them had to wait for
    a password to be hashed.
    """
    async with web(tmp_path, SteadyProvider(), auth=True) as opened:
        one = await person(opened.authority, "fetch")
        body = {"email": one.email, "password": PASSWORD}
        memory = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
        async with AsyncExitStack() as stack:
            (wire,) = await stack.enter_async_context(connections(opened.tcp_port, 1))
            asks = await person(opened.authority, "fetch", "bob@example.com")
            assert (await wire.ask({"type": "Auth"}, token=asks.pair.access))["ok"]
            assert (await wire.ask(QUERY))["ok"]

            client = await stack.enter_async_context(
                httpx.AsyncClient(
                    base_url=opened.url,
                    timeout=PATIENCE_S,
                    limits=httpx.Limits(max_connections=200),
                )
            )
            logins = asyncio.gather(*(client.post("/v1/auth/login", json=body) for _ in range(200)))
            answered = 0
            while not logins.done():
                assert (await wire.ask(QUERY))["ok"]
                answered += 1
                # Not a wait for anything, only not all that the machine can do.
                await asyncio.sleep(0.001)
            statuses = {response.status_code for response in await logins}
        assert statuses == {200}
        grown = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - memory
        # Two hashes at once take 38 MiB; two hundred would take 3.8 GiB.
        assert grown < 300 << 10, f"{grown} KiB"
        assert answered > 3 * 200, answered
        # A user is signed in so many times at the most; the oldest give way.
        assert len(opened.authority.tokens.of(opened.authority.users.get(one.email))) == 100


# Memory before login


@pytest.mark.slow
async def test_memory_before_login_a_thousand_silent_clients(tmp_path: Path) -> None:
    """Each may hold 64 KiB and a moment; then it is told why, and hung up on."""
    settings = but(PATIENT, access={"token_s": SOON_S})
    half_a_line = b'{"query": "' + b"x" * 60_000
    async with door(tmp_path, auth=True, settings=settings) as opened:
        before = resident()
        async with AsyncExitStack() as stack:
            clients = []
            for number in range(1_000):
                client = await stack.enter_async_context(await connect(opened.port))
                if number % 2:
                    client.write(half_a_line)
                clients.append(client)
            most = 0
            for number, client in enumerate(clients):
                rest = await client.rest()
                most = max(most, resident())
                assert rest.count(b"\n") == 1, (number, rest[:200])
                assert b'"missing_token"' in rest
                assert b"access.token_s" in rest
        # Those that said half a line may have 64 KiB each, here and in our own client.
        assert most - before < 2 * 500 * (64 << 10) + (48 << 20), most - before
        assert not opened.server.connections


async def test_memory_before_login_a_line_too_long(tmp_path: Path) -> None:
    """Before a token 64 KiB are the most; after it, as much as for everybody."""
    long = "x" * 100_000
    async with door(tmp_path, SteadyProvider(), auth=True) as opened:
        one = await person(opened.authority, "read")
        async with opened.client() as client:
            await client.send(b'{"token": "%b", "query": {"a": "%b"}}\n' % (b"t", long.encode()))
            rest = await client.rest()
            assert b'"line_too_long"' in rest
            assert b"access.max_bytes_before_token" in rest
            assert rest.count(b"\n") == 1
        async with opened.client() as client:
            assert (await client.ask({"type": "Auth"}, token=one.pair.access))["ok"]
            ids = {"GetEntities": {"ids": [long]}}
            payload = {"provider": "steady", "request": ids}
            answer = await client.ask({"type": "ProviderRequest", "payload": payload})
            assert answer["error"]["code"] == "not_found"


@pytest.mark.slow
async def test_memory_before_login_silent_clients_of_http(tmp_path: Path) -> None:
    """Slow heads and bodies of strangers end at the shorter deadline; those of others may go on."""
    settings = but(PATIENT, access={"token_s": SOON_S})
    async with web(tmp_path, auth=True, settings=settings) as opened:
        one = await person(opened.authority, "read")
        head = (
            b"POST /v1/auth/login HTTP/1.1\r\nhost: localhost\r\n"
            b"content-type: application/json\r\ncontent-length: 99\r\n\r\n{"
        )

        async def cut_off(number: int) -> None:
            async with await opened.wire() as client:
                client.write((b"", b"GET / HT", head)[number % 3])
                rest = await client.rest()
                assert rest.startswith(b"HTTP/1.1 408 ")
                assert b"access.token_s" in rest

        await asyncio.gather(*(cut_off(number) for number in range(100)))
        async with await opened.wire() as wire:
            start = b"GET /providers HTTP/1.1\r\nhost: localhost\r\n"
            shown = f"authorization: Bearer {one.pair.access}\r\n".encode()
            await wire.send(start + shown + b"\r\n")
            assert (await wire.line()).startswith(b"HTTP/1.1 200 ")
            await wire.send(start)
            # So long as a stranger has, who came later.
            await cut_off(0)
            await wire.send(shown + b"connection: close\r\n\r\n")
            assert b"HTTP/1.1 200 " in await wire.rest()


async def test_memory_before_login_bodies_are_small(tmp_path: Path) -> None:
    """What needs no token takes 16 KiB; what needs one is refused before its body is read."""
    async with web(tmp_path, auth=True) as opened:
        body = {"email": "a@b.c", "password": "x" * 20_000}
        response = await opened.client.post("/v1/auth/login", json=body)
        assert response.status_code == 413
        for path in ("/setup", "/login"):
            opened.authority.sessions.open_setup() if path == "/setup" else None
            if path == "/login":
                await opened.authority.users.add("a@b.c", PASSWORD, "admin", "test")
            response = await opened.client.post(path, data={"email": "x" * 20_000})
            assert response.status_code == 413, path
        async with await opened.wire() as wire:
            await wire.send(
                b"POST /v1/query HTTP/1.1\r\nhost: localhost\r\n"
                b"content-type: application/json\r\ncontent-length: 4000000\r\n\r\n"
            )
            assert (await wire.line()).startswith(b"HTTP/1.1 401 ")


def resident() -> int:
    """Return how many bytes of memory this process has."""
    pages = int(Path("/proc/self/statm").read_text().split()[1])
    return pages * resource.getpagesize()
