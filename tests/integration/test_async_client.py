"""What only a client in a loop can get wrong: cancelling, sharing a connection, loops."""

from __future__ import annotations

import asyncio
import gc
import warnings
from pathlib import Path
from typing import Any

import pytest

import gapless
from support.plugins import until
from support.providers import SteadyProvider
from support.strangers import Guest, answer, greeting, hello, http_answer, stranger
from support.web import web
from support.wire import PATIENCE_S, PATIENT, SOON_S, but

JANUARY = ("2021-01-01", "2021-02-01")


def at(port: int, **options: Any) -> gapless.AsyncClient:
    """Return a client of a port of this machine."""
    return gapless.AsyncClient(f"127.0.0.1:{port}", **options)


async def cancelled(task: asyncio.Task[Any]) -> None:
    """Cancel a task and see it end so."""
    task.cancel()
    with pytest.raises(asyncio.CancelledError):
        await task


async def test_what_is_cancelled_mixes_up_nothing(tmp_path: Path) -> None:
    """Its answer comes later and is passed over; the connection goes on, for others and anew."""
    steady = SteadyProvider()
    gates = {ticker: steady.hold(ticker) for ticker in ("A", "B", "C")}
    async with web(tmp_path, steady) as opened, at(opened.tcp_port) as hub:
        tasks = {
            ticker: asyncio.ensure_future(hub.search("steady", ticker, *JANUARY))
            for ticker in gates
        }
        async with asyncio.timeout(PATIENCE_S):
            for gate in gates.values():
                await gate.arrived.wait()
        await cancelled(tasks["B"])
        # Also at the moment at which its answer is there.
        gates["A"].open.set()
        other = await hub.search("steady", "D", *JANUARY)
        tasks["A"].cancel()
        await asyncio.wait([tasks["A"]])
        gates["B"].open.set()
        gates["C"].open.set()
        assert (await tasks["C"]).records == steady.rows("C", *JANUARY)
        assert other.records == steady.rows("D", *JANUARY)
        for ticker in "ABCD":
            again = await hub.search("steady", ticker, *JANUARY)
            assert again.records == steady.rows(ticker, *JANUARY)
            assert again.stitch is not None
            assert again.stitch.upstream_requests == 0
        assert len(opened.tcp.connections) == 1


async def test_cancelling_at_any_moment_leaves_a_client_that_works(tmp_path: Path) -> None:
    """While connecting, asking, or reading columns over HTTP; nothing is left open after."""
    minutes = SteadyProvider("minutes", step=60_000)
    async with web(tmp_path, minutes) as opened:
        bounds = ("2021-01-01", "2021-01-06")
        for turns in range(40):
            async with asyncio.timeout(PATIENCE_S):
                hub = at(opened.tcp_port)
                task = asyncio.ensure_future(hub.search("minutes", "A", *bounds))
                for _ in range(turns):
                    await asyncio.sleep(0)
                task.cancel()
                await asyncio.wait([task])
                assert len(await hub.search("minutes", "A", *bounds)) == 7_200
                await hub.aclose()
        with warnings.catch_warnings():
            warnings.simplefilter("error", ResourceWarning)
            gc.collect()


@pytest.mark.slow
async def test_a_request_times_out_though_others_are_answered() -> None:
    """What the hub says to others is no sign that it is at work on this."""
    ready = asyncio.Event()

    async def script(guest: Guest, number: int) -> None:
        while True:
            request = await guest.request()
            if request["query"]["type"] == "ProviderList":
                await guest.answer(request, ["a"])
            else:
                ready.set()

    async with stranger(script) as opened:
        hub = at(opened.port)
        slow = asyncio.ensure_future(hub.send_line("provider a get x", timeout=SOON_S))
        await ready.wait()
        answers = 0
        async with asyncio.timeout(PATIENCE_S):
            while not slow.done():
                assert await hub.providers() == ["a"]
                answers += 1
        with pytest.raises(gapless.TimedOut):
            await slow
        assert answers > 10
        # The connection is well, and is gone on with.
        assert await hub.providers() == ["a"]
        assert opened.connections == 1
        await hub.aclose()


@pytest.mark.slow
async def test_new_requests_do_not_keep_old_ones_waiting() -> None:
    """A hub that is silent to all is given up by each after the time that each has."""

    async def script(guest: Guest, number: int) -> None:
        await guest.left()

    async with stranger(script) as opened:
        hub = at(opened.port, retries=0)
        first = asyncio.ensure_future(hub.send_line("providers", timeout=SOON_S))
        rest = []
        async with asyncio.timeout(PATIENCE_S):
            while not first.done():
                rest.append(asyncio.ensure_future(hub.send_line("providers", timeout=PATIENCE_S)))
                await asyncio.wait([first], timeout=SOON_S / 10)
        assert len(rest) >= 3
        with pytest.raises(gapless.TimedOut):
            await first
        await hub.aclose()
        for one in rest:
            with pytest.raises(gapless.ConnectionLost):
                await one


@pytest.mark.slow
async def test_who_waits_behind_a_large_answer_is_not_given_up() -> None:
    """As long as something comes, the hub is not silent to those whose turn is later."""

    async def script(guest: Guest, number: int) -> None:
        first, second = await guest.request(), await guest.request()
        line = answer(first["request_id"], ["a"] * 50)
        for begin in range(0, len(line), 40):
            await guest.say(line[begin : begin + 40])
            # Not a wait for anything: in all it is longer than the timeout.
            await asyncio.sleep(SOON_S / 6)
        await guest.answer(second, ["b"])

    async with stranger(script) as opened:
        hub = at(opened.port, timeout=SOON_S)
        large, small = await asyncio.gather(hub.providers(), hub.providers())
        assert (large, small) == (["a"] * 50, ["b"])
        await hub.aclose()


async def test_a_silent_connection_is_left_to_those_who_wait_on_it() -> None:
    """Who asks anew gets another one; who has the patience is answered on the old one yet."""
    asked, go_on = asyncio.Event(), asyncio.Event()

    async def script(guest: Guest, number: int) -> None:
        requests = [await guest.request()]
        asked.set()
        if number == 1:
            requests.append(await guest.request())
            await go_on.wait()
        for request in requests:
            await guest.answer(request, [f"connection {number}"])
        await guest.left()

    async with stranger(script) as opened:
        hub = at(opened.port)
        patient = asyncio.ensure_future(hub.providers())
        async with asyncio.timeout(PATIENCE_S):
            await asked.wait()
            with pytest.raises(gapless.TimedOut):
                await hub.send_line("providers", timeout=0.1)
            assert await hub.providers() == ["connection 2"]
            go_on.set()
            assert await patient == ["connection 1"]
        await hub.aclose()


async def test_a_line_that_is_too_long_harms_no_other(tmp_path: Path) -> None:
    """It alone is refused; what shared its connection is asked again on another one."""
    steady = SteadyProvider()
    gate = steady.hold("A")
    async with (
        web(tmp_path, steady, settings=but(PATIENT, limits={"max_line_bytes": 4_096})) as opened,
        at(opened.tcp_port) as hub,
    ):
        other = asyncio.ensure_future(hub.search("steady", "A", *JANUARY))
        async with asyncio.timeout(PATIENCE_S):
            await gate.arrived.wait()
            with pytest.raises(gapless.LineTooLong):
                await hub.get_many("steady", ["x" * 90] * 60)
            gate.open.set()
            assert len(await other) == 31
        assert len(steady.calls) == 1


async def test_a_client_belongs_to_its_loop(tmp_path: Path) -> None:
    """In another one it says so at once, rather than waiting for ever."""
    async with web(tmp_path, SteadyProvider()) as opened, at(opened.tcp_port) as hub:

        def elsewhere() -> None:
            with pytest.raises(gapless.GaplessError, match="another event loop"):
                asyncio.run(hub.providers())
            with pytest.raises(gapless.GaplessError, match="another event loop"):
                asyncio.run(hub.aclose())

        await asyncio.to_thread(elsewhere)
        assert await hub.providers() == ["steady"]


async def test_closing_ends_what_comes_over_http_too() -> None:
    """What is being read is not read on, and not asked for again."""
    asked = asyncio.Event()

    async def script(guest: Guest, number: int) -> None:
        await guest.asked()
        asked.set()
        await guest.left()
        left.set()

    left = asyncio.Event()
    async with stranger(script) as opened, stranger(greeting) as named:
        hub = at(named.port, http=f"http://127.0.0.1:{opened.port}")
        running = asyncio.ensure_future(hub.fetch("GET", "/v1/series"))
        async with asyncio.timeout(PATIENCE_S):
            await asked.wait()
            await hub.aclose()
            with pytest.raises(gapless.ConnectionLost, match="the client was closed"):
                await running
            await left.wait()
        assert opened.connections == 1


async def test_closing_at_any_moment_ends_what_is_asked(tmp_path: Path) -> None:
    """While connecting, asking, or reading: the request ends, and no connection is left."""
    minutes = SteadyProvider("minutes", step=60_000)
    async with web(tmp_path, minutes) as opened:
        bounds = ("2021-01-01", "2021-01-06")
        ended = 0
        for turns in range(1, 40):
            hub = at(opened.tcp_port)
            task = asyncio.ensure_future(hub.search("minutes", "A", *bounds))
            for _ in range(turns):
                await asyncio.sleep(0)
            async with asyncio.timeout(PATIENCE_S):
                await hub.aclose()
                await asyncio.wait([task])
            if (error := task.exception()) is None:
                assert len(task.result()) == 7_200
            else:
                assert isinstance(error, gapless.ConnectionLost)
                assert "the client was closed" in str(error)
                ended += 1
            await until(lambda: not opened.tcp.connections)
        assert ended > 3


async def test_a_pause_ends_with_the_client() -> None:
    """A client that is closed while it waits to ask again does not ask again."""
    refused = asyncio.Event()

    async def script(guest: Guest, number: int) -> None:
        await guest.refuse(await guest.request(), code="overloaded", retry_after_s=SOON_S)
        refused.set()
        await guest.left()

    async with stranger(script) as opened:
        hub = at(opened.port)
        running = asyncio.ensure_future(hub.providers())
        async with asyncio.timeout(PATIENCE_S):
            await refused.wait()
            await hub.aclose()
            with pytest.raises(gapless.ConnectionLost):
                await running
        assert opened.connections == 1


async def test_connections_over_http_are_few() -> None:
    """However many large answers are asked for at once, and they are used again."""
    waiting: list[Guest] = []
    full, go_on = asyncio.Event(), asyncio.Event()

    async def script(guest: Guest, number: int) -> None:
        waiting.append(guest)
        if len(waiting) == 8:
            full.set()
        await guest.asked()
        await go_on.wait()
        while True:
            await guest.say(http_answer(200, b"7"))
            await guest.asked()

    async with stranger(script) as opened, stranger(greeting) as named:
        hub = at(named.port, http=f"http://127.0.0.1:{opened.port}")
        tasks = [asyncio.ensure_future(hub.fetch("GET", "/")) for _ in range(40)]
        async with asyncio.timeout(PATIENCE_S):
            await full.wait()
            go_on.set()
            assert await asyncio.gather(*tasks) == [7] * 40
        assert opened.connections == 8
        await hub.aclose()


async def test_hello_is_said_once() -> None:
    """Many requests at the beginning share one connection."""
    pings = 0

    async def script(guest: Guest, number: int) -> None:
        nonlocal pings
        while True:
            request = await guest.request()
            if request["query"]["type"] == "Ping":
                pings += 1
                await guest.answer(request, hello())
            else:
                await guest.answer(request, [{"id": "x", "data": []}])

    async with stranger(script) as opened, at(opened.port) as hub:
        await asyncio.gather(*(hub.search("a", f"T{number}") for number in range(50)))
        assert (opened.connections, pings) == (1, 1)
