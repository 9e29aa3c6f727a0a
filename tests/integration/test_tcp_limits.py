"""How connections behave over TCP: order, limits, slow clients, half ends, HTTP, a stop."""

from __future__ import annotations

import asyncio
import socket
from collections.abc import AsyncIterator
from contextlib import AsyncExitStack, asynccontextmanager
from pathlib import Path
from typing import Any

import pytest

from gapless.config import Settings
from support.providers import Gate, SteadyProvider
from support.readers import unread
from support.wire import (
    PATIENCE_S,
    PATIENT,
    SOON_S,
    Door,
    Wire,
    but,
    connect,
    door,
    line_of,
    read,
    records,
    request,
    search,
)

JANUARY = ("2021-01-01", "2021-02-01")
PING = {"type": "Ping"}
MIB = 1 << 20
METHODS = ("GET", "HEAD", "POST", "PUT", "DELETE", "CONNECT", "OPTIONS", "TRACE", "PATCH", "PRI")


def ask(ticker: str, request_id: Any, **envelope: Any) -> bytes:
    """Return the line that asks for a ticker's January."""
    return line_of(search("steady", ticker, *JANUARY), request_id=request_id, **envelope)


async def within(waiting: Any) -> Any:
    """Await what must come, and not for ever."""
    async with asyncio.timeout(PATIENCE_S):
        return await waiting


async def ids(wire: Wire, count: int) -> list[Any]:
    """Return the ids of the next answers."""
    return [(await wire.answer())["request_id"] for _ in range(count)]


@asynccontextmanager
async def slow_door(
    folder: Path, settings: Settings = PATIENT, **provider: Any
) -> AsyncIterator[tuple[Door, SteadyProvider, Gate]]:
    """Run a hub that holds HELD's January, and whose upstream holds up SLOW."""
    steady = SteadyProvider(**provider)
    async with door(folder, steady, settings=settings) as at:
        async with at.client() as wire:
            await wire.send(ask("HELD", 0))
            assert (await wire.answer())["ok"]
        gate = steady.hold("SLOW")
        steady.calls.clear()
        while not steady.arrivals.empty():
            steady.arrivals.get_nowait()
        yield at, steady, gate
        gate.open.set()


# Order


async def test_answers_come_in_the_order_of_the_requests(tmp_path: Path) -> None:
    """Fast requests behind a slow one wait for their turn: held ones, pings and errors alike."""
    async with slow_door(tmp_path) as (at, steady, gate), at.client() as wire:
        lines = [ask("SLOW", "slow"), ask("HELD", "held"), line_of(PING, request_id="ping")]
        lines += [b'{"request_id":"wrong"}\n', b"nonsense\n", ask("COLD", "cold")]
        lines += [ask(" ", "bad"), ask("HELD", "last")]
        await wire.send(b"".join(lines))
        assert {await within(steady.arrivals.get()) for _ in range(2)} == {"SLOW", "COLD"}
        async with at.client() as other:
            await other.ping()
        gate.open.set()
        got = await ids(wire, 8)
    assert got == ["slow", "held", "ping", "wrong", None, "cold", "bad", "last"]


async def test_an_unordered_slow_request_holds_nobody_up(tmp_path: Path) -> None:
    """A slow request that says ordered false is answered when it is done, the others before."""
    async with slow_door(tmp_path) as (at, _, gate), at.client() as wire:
        await wire.send(
            ask("SLOW", "slow", ordered=False) + ask("HELD", "held") + ask("COLD", "cold")
        )
        assert await ids(wire, 2) == ["held", "cold"]
        gate.open.set()
        assert await ids(wire, 1) == ["slow"]


async def test_unordered_requests_overtake_a_slow_one(tmp_path: Path) -> None:
    """Behind a slow ordered request, requests that say ordered false need not wait."""
    async with slow_door(tmp_path) as (at, _, gate), at.client() as wire:
        loose = [ask(t, t, ordered=False) for t in ("HELD", "COLD", "HELD", " ")]
        loose.append(line_of(PING, request_id="ping", ordered=False))
        await wire.send(ask("SLOW", "slow") + ask("HELD", "kept") + b"".join(loose))
        assert sorted(await ids(wire, 5)) == sorted(["HELD", "HELD", "COLD", " ", "ping"])
        gate.open.set()
        assert await ids(wire, 2) == ["slow", "kept"]


async def test_many_requests_in_one_go_are_all_answered_in_order(tmp_path: Path) -> None:
    """Thousands of pipelined requests, fetched and held mixed, come back in order."""
    async with slow_door(tmp_path) as (at, steady, _), at.client() as wire:
        count = 2_000
        lines = [ask(f"T{i % 50}", i) for i in range(count)]
        sending = asyncio.create_task(wire.send(b"".join(lines)))
        assert await ids(wire, count) == list(range(count))
        await sending
    assert len(steady.calls) == 50


# Limits


async def test_requests_under_way_are_limited(tmp_path: Path) -> None:
    """Beyond max_in_flight a connection's requests wait unread; other connections go on."""
    async with slow_door(tmp_path, but(PATIENT, limits={"max_in_flight": 4})) as (at, steady, _):
        gates = [steady.hold(f"T{i}") for i in range(10)]
        async with at.client() as wire, at.client() as other:
            await wire.send(b"".join(ask(f"T{i}", i, ordered=False) for i in range(10)))
            came = {await within(steady.arrivals.get()) for _ in range(4)}
            for _ in range(5):
                await other.ping()
            assert steady.arrivals.empty()
            assert len(came) == 4
            for i, gate in enumerate(gates):
                gate.open.set()
                assert await ids(wire, 1) == [i]


async def test_connections_are_limited(tmp_path: Path) -> None:
    """One connection too many is told so and closed; when one has gone there is room again."""
    async with (
        slow_door(tmp_path, but(PATIENT, limits={"max_connections": 3})) as (at, _, _),
        AsyncExitStack() as stack,
    ):
        wires = [await stack.enter_async_context(at.client()) for _ in range(3)]
        for wire in wires:
            await wire.ping()
        async with at.client() as refused:
            answer = await refused.answer()
            assert (answer["kind"], answer["error"]["code"]) == ("InvalidJson", "overloaded")
            assert answer["error"]["retry_after_s"] == 1
            assert await refused.rest() == b""
        for wire in wires:
            await wire.ping()
        at.server.went.clear()
        wires[0].writer.close()
        await within(at.server.went.wait())
        async with at.client() as again:
            await again.ping()


@pytest.mark.parametrize("end", [b"\n", b"\r\n"])
async def test_the_longest_line_is_answered(tmp_path: Path, end: bytes) -> None:
    """A line of exactly 1 MiB is a request."""
    line = line_of(PING, request_id=1)[:-1]
    async with slow_door(tmp_path) as (at, _, _), at.client() as wire:
        await wire.send(line.ljust(MIB) + end)
        assert (await wire.answer())["ok"]
        await wire.ping()


@pytest.mark.parametrize("ended", [True, False])
async def test_a_line_too_long_is_the_last(tmp_path: Path, ended: bool) -> None:
    """After an overlong line comes one error and the end; what follows it is never a request."""
    async with slow_door(tmp_path) as (at, steady, _), at.client() as wire:
        at.server.went.clear()
        await wire.send(line_of(PING, request_id=1) + ask("HELD", 2))
        assert await ids(wire, 2) == [1, 2]
        tail = (b"\n" if ended else b"") + ask("BEHIND", 3) + line_of(PING, request_id=4)
        wire.write(b"x" * (MIB + 1) + tail)
        answer = await wire.answer()
        assert (answer["kind"], answer["error"]["code"]) == ("InvalidJson", "line_too_long")
        assert f"{MIB:,}" in answer["error"]["message"]
        assert await wire.rest() == b""
        wire.write(ask("BEHIND", 5))
        await within(at.server.went.wait())
    assert steady.calls == []


async def test_requests_before_a_line_too_long_are_answered(tmp_path: Path) -> None:
    """Requests under way when the overlong line comes are answered before its error."""
    async with slow_door(tmp_path) as (at, steady, gate), at.client() as wire:
        loose = steady.hold("LOOSE")
        lines = [ask("SLOW", "slow"), ask("LOOSE", "loose", ordered=False), ask("HELD", "held")]
        wire.write(b"".join(lines) + b"x" * (MIB + 2) + b"\n" + ask("BEHIND", "behind"))
        await within(gate.arrived.wait())
        await within(loose.arrived.wait())
        gate.open.set()
        assert await ids(wire, 2) == ["slow", "held"]
        assert (await wire.answer())["error"]["code"] == "line_too_long"
        loose.open.set()
        assert await ids(wire, 1) == ["loose"]
        assert await wire.rest() == b""
    assert steady.asked("BEHIND") == []


@pytest.mark.parametrize("method", METHODS)
async def test_http_is_cut_off(tmp_path: Path, method: str) -> None:
    """A connection that begins as HTTP gets nothing, and nothing in it runs."""
    body = ask("ABC", 1)
    head = f"{method} / HTTP/1.1\r\nHost: 127.0.0.1\r\nContent-Type: text/plain\r\n\r\n".encode()
    async with slow_door(tmp_path) as (at, steady, _), at.client() as wire:
        wire.write(head + body)
        assert await wire.rest() == b""
        async with at.client() as other:
            await other.ping()
    assert steady.calls == []


@pytest.mark.parametrize("cut", range(1, 6))
async def test_http_in_pieces_is_cut_off(tmp_path: Path, cut: int) -> None:
    """HTTP is known however its first bytes are split."""
    async with (
        slow_door(tmp_path) as (at, steady, _),
        at.client() as wire,
        at.client() as other,
    ):
        sock: socket.socket = wire.writer.get_extra_info("socket")
        sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        await wire.send(b"POST / HTTP/1.1\r\n"[:cut])
        await other.ping()
        wire.write(b"POST / HTTP/1.1\r\n"[cut:] + b"\r\n" + ask("ABC", 1))
        assert await wire.rest() == b""
        await other.ping()
    assert steady.calls == []


async def test_what_only_begins_like_http_is_answered(tmp_path: Path) -> None:
    """A first line that merely looks like a method at first gets its error line."""
    async with slow_door(tmp_path) as (at, _, _):
        for line in (b"G\n", b"POSTAL\n", b"PUT\n", b"P\r\n", b"get / HTTP/1.1\n"):
            async with at.client() as wire:
                await wire.send(line)
                assert (await wire.answer())["error"]["code"] == "invalid_json"
                await wire.ping()


# Ends


async def test_a_client_that_stops_sending_gets_all_its_answers(tmp_path: Path) -> None:
    """After a half close every answer still comes, then the end."""
    async with slow_door(tmp_path) as (at, _, gate), at.client() as wire:
        await wire.send(ask("SLOW", 1) + ask("HELD", 2) + ask("COLD", 3) + b'{"half": ')
        wire.writer.write_eof()
        await within(gate.arrived.wait())
        async with at.client() as other:
            await other.ping()
        gate.open.set()
        assert await ids(wire, 3) == [1, 2, 3]
        assert await wire.rest() == b""


async def test_large_answers_outlast_a_half_close(tmp_path: Path) -> None:
    """Answers that were held back when the client stopped sending come all the same."""
    settings = but(PATIENT, limits={"max_unsent_bytes": 100_000})
    async with slow_door(tmp_path, settings, padding=5_000) as (at, _, _), at.client() as wire:
        await wire.send(b"".join(ask("HELD", i) for i in range(100)))
        wire.writer.write_eof()
        for i in range(100):
            answer = await wire.answer()
            assert answer["request_id"] == i
            assert len(records(answer)) == 31
        assert await wire.rest() == b""


@pytest.mark.parametrize("sent", [b"", b"{", b'{"query":{"type":"Ping"}}', b"PO"])
async def test_half_a_line_is_no_request(tmp_path: Path, sent: bytes) -> None:
    """A client that stops in the middle of a line is let go at once, without an answer."""
    async with slow_door(tmp_path) as (at, _, _), at.client() as wire:
        at.server.went.clear()
        await wire.send(sent)
        wire.writer.write_eof()
        assert await wire.rest() == b""
        await within(at.server.went.wait())


async def test_a_stop_lets_requests_under_way_end(tmp_path: Path) -> None:
    """A graceful stop answers what was asked, takes nothing more, and hangs up."""
    async with (
        slow_door(tmp_path) as (at, steady, gate),
        at.client() as wire,
        at.client() as idle,
    ):
        await idle.ping()
        await wire.send(ask("SLOW", 1) + ask("HELD", 2))
        await within(gate.arrived.wait())
        closing = asyncio.create_task(at.server.close(PATIENCE_S))
        assert await idle.rest() == b""
        with pytest.raises(OSError, match=r"refused|reset"):
            await connect(at.port)
        wire.write(ask("LATE", 3))
        gate.open.set()
        assert await ids(wire, 2) == [1, 2]
        assert await wire.rest() == b""
        await within(closing)
    assert steady.asked("LATE") == []
    assert not at.server.connections


async def test_a_stop_does_not_wait_for_ever(tmp_path: Path) -> None:
    """A request that does not end in time is cut off."""
    async with slow_door(tmp_path) as (at, _, gate), at.client() as wire:
        await wire.send(ask("SLOW", 1))
        await within(gate.arrived.wait())
        await within(at.server.close(0.05))
        assert await wire.rest() == b""
        assert at.logged("warning") == ["requests cut off at shutdown"]


async def test_a_stop_in_a_pipeline_runs_no_more_of_it(tmp_path: Path) -> None:
    """Requests that were received but not begun when the hub stops are not begun any more."""
    async with (
        slow_door(tmp_path, but(PATIENT, limits={"max_in_flight": 1})) as (at, steady, gate),
        at.client() as wire,
    ):
        await wire.send(ask("SLOW", 1) + ask("LATE", 2))
        await within(gate.arrived.wait())
        closing = asyncio.create_task(at.server.close(PATIENCE_S))
        await asyncio.sleep(0)
        assert at.server.stopping
        gate.open.set()
        assert await ids(wire, 1) == [1]
        assert await wire.rest() == b""
        await within(closing)
    assert steady.asked("LATE") == []


# Slow clients


async def test_a_client_that_does_not_read_is_closed(tmp_path: Path) -> None:
    """Answers are held back at max_unsent_bytes; then the client is closed, others are served."""
    settings = but(PATIENT, limits={"max_unsent_bytes": 8 * MIB, "slow_reader_s": SOON_S})
    async with slow_door(tmp_path, settings, padding=20_000) as (at, _, _):
        loop = asyncio.get_running_loop()
        answer_size = 31 * 20_000
        async with unread(at.port) as sock, at.client() as other:
            await other.ping()
            at.server.went.clear()
            lines = b"".join(ask("HELD", i) for i in range(300))
            sending = asyncio.create_task(loop.sock_sendall(sock, lines))
            most = 0
            async with asyncio.timeout(PATIENCE_S):
                while not at.server.went.is_set():
                    await other.ping()
                    for one in at.server.connections:
                        unsent = one._transport.get_write_buffer_size()
                        most = max(most, unsent + one._waiting_bytes)
            await asyncio.gather(sending, return_exceptions=True)
            assert at.logged("info") == ["closed a client that does not read"]
            await other.ping()
    # Answers go out in batches of a MiB, and a batch and an answer may come on top.
    assert 8 * MIB < most < 8 * MIB + MIB + 2 * answer_size


async def test_what_waits_behind_a_slow_request_is_bounded(tmp_path: Path) -> None:
    """Held answers behind a slow one are limited in bytes; then the client's lines wait."""
    settings = but(PATIENT, limits={"max_unsent_bytes": 2 * MIB, "max_in_flight": 10_000})
    async with (
        slow_door(tmp_path, settings, padding=3_000) as (at, _, gate),
        at.client() as other,
        at.client() as wire,
    ):
        await other.ping()
        count = 2_000
        lines = [ask("HELD", i) for i in range(count)]
        wire.write(ask("SLOW", "slow") + b"".join(lines))
        await within(gate.arrived.wait())
        own = next(c for c in at.server.connections if c._in_flight)
        async with asyncio.timeout(PATIENCE_S):
            while own._transport.is_reading():
                await other.ping()
        assert 2 * MIB <= own._waiting_bytes < 2 * MIB + 200_000
        gate.open.set()
        assert await ids(wire, 1 + count) == ["slow", *range(count)]
        assert own._waiting_bytes == 0


async def test_the_number_of_answers_that_wait_is_bounded(tmp_path: Path) -> None:
    """Small answers behind a slow one count too: no more wait than max_in_flight."""
    async with (
        slow_door(tmp_path, but(PATIENT, limits={"max_in_flight": 16})) as (at, _, gate),
        at.client() as other,
        at.client() as wire,
    ):
        count = 1_000
        pings = [line_of(PING, request_id=i) for i in range(count)]
        wire.write(ask("SLOW", "slow") + b"".join(pings))
        await within(gate.arrived.wait())
        own = next(c for c in at.server.connections if c._in_flight)
        for _ in range(3):
            await other.ping()
            assert own._queue is not None
            assert len(own._queue) == 16
        gate.open.set()
        assert await ids(wire, 1 + count) == ["slow", *range(count)]


@pytest.mark.slow
@pytest.mark.parametrize("ordered", [True, False])
async def test_listings_nobody_reads_are_few(tmp_path: Path, ordered: bool) -> None:
    """Listings are made as far as they can be sent, not for as many requests as came."""
    settings = but(PATIENT, limits={"max_unsent_bytes": MIB, "slow_reader_s": SOON_S})
    async with slow_door(tmp_path, settings, padding=20_000) as (at, _, _):
        loop = asyncio.get_running_loop()
        line = line_of(request("steady", "GetAllEntities"), ordered=ordered)
        async with unread(at.port) as sock, at.client() as other:
            await other.ping()
            at.server.went.clear()
            await loop.sock_sendall(sock, line * 200)
            most = 0
            async with asyncio.timeout(PATIENCE_S):
                while not at.server.went.is_set():
                    await other.ping()
                    for one in at.server.connections:
                        unsent = one._transport.get_write_buffer_size()
                        most = max(most, unsent + one._waiting_bytes)
    assert MIB < most < MIB + 4 * 31 * 20_100


async def test_many_listings_in_one_go_are_all_answered(tmp_path: Path) -> None:
    """A client that reads gets all the listings it asked for, in order, and what is behind them."""
    async with slow_door(tmp_path) as (at, _, _), at.client() as wire:
        listings = [line_of(request("steady", "GetAllEntities"), request_id=i) for i in range(50)]
        await wire.send(b"".join(listings) + ask("HELD", "last"))
        assert await ids(wire, 51) == [*range(50), "last"]


@pytest.mark.slow
async def test_a_reader_that_is_only_slow_gets_everything(tmp_path: Path) -> None:
    """A client that reads a little at a time is not closed, and every byte comes."""
    settings = but(PATIENT, limits={"max_unsent_bytes": 200_000})
    async with slow_door(tmp_path, settings, padding=5_000) as (at, _, _):
        loop = asyncio.get_running_loop()
        async with unread(at.port) as sock, at.client() as other:
            count = 30
            lines = b"".join(ask("HELD", i) for i in range(count))
            sending = asyncio.create_task(loop.sock_sendall(sock, lines))
            received = bytearray()
            async with asyncio.timeout(PATIENCE_S):
                while received.count(b"\n") < count:
                    received += await loop.sock_recv(sock, 30_000)
                    await other.ping()
            await sending
        got = [read(line + b"\n")["request_id"] for line in bytes(received).split(b"\n")[:-1]]
        assert got == list(range(count))


async def test_a_client_that_asks_and_goes_without_reading_is_let_go(tmp_path: Path) -> None:
    """Answers nobody fetches after a half close are not kept for ever."""
    settings = but(PATIENT, limits={"max_unsent_bytes": 8 * MIB, "slow_reader_s": 0.1})
    async with slow_door(tmp_path, settings, padding=20_000) as (at, _, _):
        loop = asyncio.get_running_loop()
        async with unread(at.port) as sock:
            at.server.went.clear()
            await loop.sock_sendall(sock, b"".join(ask("HELD", i) for i in range(10)))
            sock.shutdown(socket.SHUT_WR)
            await within(at.server.went.wait())
    assert at.logged("info") == ["closed a client that does not read"]


async def test_a_client_that_resets_harms_nobody(tmp_path: Path) -> None:
    """Connections that are reset while answers are due leave no trace; their fetch goes on."""
    async with slow_door(tmp_path) as (at, steady, gate):
        for i in range(20):
            wire = await connect(at.port)
            await wire.send(ask("SLOW", i) + ask("HELD", i) + ask(f"T{i}", i))
            if i == 0:
                # A reset may overtake what was sent; this one's fetch is under way.
                await within(gate.arrived.wait())
            wire.reset()
        async with at.client() as other:
            await other.ping()
            gate.open.set()
            await other.send(ask("SLOW", 1))
            assert records(await other.answer()) == steady.rows("SLOW", *JANUARY)
    assert len(steady.asked("SLOW")) == 1
