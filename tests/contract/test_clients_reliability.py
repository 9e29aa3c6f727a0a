"""Both Python clients on a bad day: hubs that leave, break off, fall silent, or are none."""

from __future__ import annotations

import asyncio
import json
import re
import socket
import threading
from pathlib import Path
from typing import Any

import pytest

import gapless
from support.asking import KINDS, asking
from support.plugins import open_files, until
from support.providers import SteadyProvider
from support.strangers import Guest, Script, answer, greeting, hello, stranger
from support.web import web
from support.wire import PATIENCE_S, SOON_S

pytestmark = pytest.mark.parametrize("kind", KINDS)

JANUARY = ("2021-01-01", "2021-02-01")
ENTITIES = [{"id": "x", "data": [{"timestamp": 1}]}]
# What is tried again is so soon, so that a bad hub costs no time.
SHORT_S = 0.2


async def well(guest: Guest, number: int) -> None:
    """Answer everything as a hub does that is well."""
    while True:
        request = await guest.request()
        asked = request["query"]["type"]
        await guest.answer(
            request,
            {"Ping": hello(), "ProviderList": ["a"], "ProviderRequest": ENTITIES}[asked],
        )


async def test_a_hub_that_was_restarted_is_asked_again(tmp_path: Path, kind: str) -> None:
    """Between two calls it may go and come back: neither call notices, over TCP or HTTP."""
    minutes = SteadyProvider("minutes", step=60_000)
    bounds = ("2021-01-01", "2021-01-06")
    async with web(tmp_path, minutes) as opened:
        port = opened.tcp_port
        async with asking(kind, port) as hub:
            first = await hub.search("minutes", "A", *bounds)
            await opened.http_door.close(1.0)
            await opened.tcp.close(1.0)
            again = SteadyProvider("minutes", step=60_000)
            (tmp_path / "second").mkdir()
            async with web(tmp_path / "second", again, tcp_port=port):
                second = await hub.search("minutes", "A", *bounds)
                assert await hub.providers() == ["minutes"]
    assert len(again.calls) == 1
    assert second.etag == first.etag
    assert second.records == first.records


@pytest.mark.parametrize("retries", [0, 1, 3])
async def test_a_connection_that_breaks_is_tried_as_often_as_wanted(
    kind: str, retries: int
) -> None:
    """Half an answer is none; a request that can be repeated is, and then it is an error."""

    async def script(guest: Guest, number: int) -> None:
        request = await guest.request()
        await guest.say(answer(request["request_id"], ["a"])[:-10])

    async with stranger(script) as opened, asking(kind, opened.port, retries=retries) as hub:
        with pytest.raises(gapless.ConnectionLost):
            await hub.providers()
        assert opened.connections == 1 + retries


async def test_a_break_is_healed_by_asking_again(kind: str) -> None:
    """The second answer counts, all of it, and nothing of the first."""

    async def script(guest: Guest, number: int) -> None:
        if number > 1:
            return await well(guest, number)
        request = await guest.request()
        await guest.say(answer(request["request_id"], ["from", "before"])[:-3])
        return None

    async with stranger(script) as opened, asking(kind, opened.port) as hub:
        assert await hub.providers() == ["a"]
        assert opened.connections == 2


async def test_a_report_is_asked_for_once(kind: str) -> None:
    """Nobody knows what a provider does for one, so it is not done twice, nor by a line."""
    reports = 0

    async def script(guest: Guest, number: int) -> None:
        nonlocal reports
        while True:
            request = await guest.request()
            if request["query"]["type"] == "Ping":
                await guest.answer(request, hello())
            else:
                assert request["query"]["payload"]["request"] == {"GetReport": {"url": "u"}}
                reports += 1
                return

    async with stranger(script) as opened, asking(kind, opened.port, retries=5) as hub:
        with pytest.raises(gapless.ConnectionLost):
            await hub.report("a", "u")
        assert reports == 1
        with pytest.raises(gapless.ConnectionLost):
            await hub.send_line("provider a report url=u")
        assert reports == 2


async def test_what_changes_something_over_http_is_sent_once(kind: str) -> None:
    """`GET` is repeated, `POST` is not."""
    heads: list[bytes] = []

    async def script(guest: Guest, number: int) -> None:
        heads.append((await guest.asked()).split(b" ")[0])

    async with stranger(script) as opened, stranger(greeting) as named:
        base = f"http://127.0.0.1:{opened.port}"
        async with asking(kind, named.port, http=base, retries=2) as hub:
            with pytest.raises(gapless.ConnectionLost):
                await hub.fetch("POST", "/plugins/load", {"file": "x.py"})
            assert heads == [b"POST"]
            with pytest.raises(gapless.ConnectionLost):
                await hub.fetch("GET", "/v1/series")
            assert heads == [b"POST", b"GET", b"GET", b"GET"]


@pytest.mark.slow
async def test_a_silent_hub_is_given_up(kind: str) -> None:
    """Within the timeout, once; the next call has a connection of its own and is answered."""

    async def script(guest: Guest, number: int) -> None:
        if number > 1:
            return await well(guest, number)
        return await guest.left()

    async with stranger(script) as opened, asking(kind, opened.port, timeout=SOON_S) as hub:
        async with asyncio.timeout(PATIENCE_S):
            with pytest.raises(gapless.TimedOut, match=f"silent for {SOON_S:g} s"):
                await hub.providers()
        assert opened.connections == 1
        assert await hub.providers() == ["a"]
        assert opened.connections == 2


async def test_each_call_may_have_a_timeout_of_its_own(kind: str) -> None:
    """It goes before that of the client, and must be one."""

    async def script(guest: Guest, number: int) -> None:
        while True:
            request = await guest.request()
            if request["query"]["type"] == "Ping":
                await guest.answer(request, hello())

    async with stranger(script) as opened, asking(kind, opened.port, timeout=1_000) as hub:
        await hub.ping()
        async with asyncio.timeout(PATIENCE_S):
            with pytest.raises(gapless.TimedOut):
                await hub.search("a", "A", timeout=0.05)
            with pytest.raises(gapless.TimedOut):
                await hub.search_many("a", ["A", "B", "C"], timeout=0.05, concurrency=2)
        for wrong in (0, -1, float("nan"), "5"):
            with pytest.raises(gapless.InvalidQuery, match="timeout"):
                await hub.search("a", "A", timeout=wrong)


@pytest.mark.slow
async def test_what_keeps_coming_is_not_cut_off(kind: str) -> None:
    """The timeout is about silence: an answer may take longer as long as it comes."""

    async def script(guest: Guest, number: int) -> None:
        line = answer((await guest.request())["request_id"], ["a"] * 5)
        step = len(line) // 8
        for at in range(0, len(line), step):
            await guest.say(line[at : at + step])
            # Not a wait for anything: in all it is longer than the timeout.
            await asyncio.sleep(SOON_S / 6)

    async with stranger(script) as opened, asking(kind, opened.port, timeout=SOON_S) as hub:
        assert await hub.providers() == ["a"] * 5


async def test_nobody_listens(kind: str) -> None:
    """The message says where it was tried, and how a hub is started."""
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        port = taken.getsockname()[1]
        async with asking(kind, port) as hub:
            with pytest.raises(gapless.Unreachable, match=f"127.0.0.1:{port} .*gapless serve"):
                await hub.providers()
    async with asking(kind, "name.invalid:7000", connect_timeout=PATIENCE_S) as hub:
        with pytest.raises(gapless.Unreachable, match=r"name\.invalid"):
            await hub.providers()


GARBAGE: list[tuple[bytes, str]] = [
    (b"garbage\n", "is no gapless hub"),
    (b"\n", "is no gapless hub"),
    (b"[]\n", "is no gapless hub"),
    (b'{"hello":"world"}\n', "is no gapless hub"),
    (b'{"ok":"yes"}\n', "is no gapless hub"),
    (b"\xff\xfe\x00\n", "is no gapless hub"),
    (b"HTTP/1.1 400 Bad Request\r\ncontent-length: 0\r\n\r\n", "speaks HTTP"),
    (b'{"ok":true,"request_id":7000,"result":["b"]}\n', "answered request 7000"),
    (b'{"ok":true,"request_id":"1","result":["b"]}\n', "answered request '1'"),
    (b'{"ok":true,"result":["b"]}\n', "answered request None"),
]


@pytest.mark.parametrize(("said", "words"), GARBAGE)
async def test_what_answers_may_be_no_hub(kind: str, said: bytes, words: str) -> None:
    """It is said to be none, at once and without asking again; the next call starts afresh."""

    async def script(guest: Guest, number: int) -> None:
        if number > 1:
            return await well(guest, number)
        await guest.request()
        await guest.say(said)
        return await guest.left()

    async with stranger(script) as opened, asking(kind, opened.port) as hub:
        async with asyncio.timeout(PATIENCE_S):
            with pytest.raises(gapless.UnexpectedAnswer, match=re.escape(words)):
                await hub.providers()
        assert opened.connections == 1
        assert await hub.providers() == ["a"]


@pytest.mark.parametrize(
    "result", [None, 7, "text", {}, [1], [{"no": "id"}], [{"id": 7}], ENTITIES * 2, []]
)
async def test_a_result_that_is_none(kind: str, result: Any) -> None:
    """What is no list of entities, or not the one that was asked for, is said to be none."""

    async def script(guest: Guest, number: int) -> None:
        await guest.answer(await guest.request(), hello())
        await guest.answer(await guest.request(), result)
        await guest.left()

    async with stranger(script) as opened, asking(kind, opened.port) as hub:
        with pytest.raises(gapless.UnexpectedAnswer):
            await hub.search("a", "A")


@pytest.mark.parametrize(
    "stitch",
    [7, [], {"cached": [["2021-01-01"]]}, {"missing": [["x", "y"]]}, {"why": [{}]}],
)
async def test_a_stitch_that_is_none(kind: str, stitch: Any) -> None:
    """The records can be read all the same."""

    async def script(guest: Guest, number: int) -> None:
        await guest.answer(await guest.request(), hello())
        await guest.answer(await guest.request(), ENTITIES, stitch=stitch)
        await guest.left()

    async with stranger(script) as opened, asking(kind, opened.port) as hub:
        result = await hub.search("a", "A")
    assert result.records == [{"timestamp": 1}]
    with pytest.raises(gapless.UnexpectedAnswer, match="stitch"):
        _ = result.stitch


ERRORS: list[tuple[Any, type[gapless.GaplessError], str]] = [
    ({"code": "internal", "message": "a fault"}, gapless.InternalError, "a fault"),
    ({"code": "invalid_json", "message": "m"}, gapless.InvalidJson, "m"),
    ({"code": "new_code", "message": "m"}, gapless.GaplessError, r"m \(new_code\)"),
    ({"code": "provider_request_failed", "message": "m"}, gapless.ProviderError, "m"),
    (
        {"code": "provider_request_failed", "reason": "new", "message": "m"},
        gapless.ProviderError,
        "m",
    ),
    ({}, gapless.GaplessError, "no reason"),
    (None, gapless.GaplessError, "no reason"),
    ("text", gapless.GaplessError, "no reason"),
    ({"code": 7, "message": ["x"], "retry_after_s": "soon"}, gapless.GaplessError, "x"),
]


@pytest.mark.parametrize(("error", "expected", "words"), ERRORS)
async def test_errors_of_other_hubs(
    kind: str, error: Any, expected: type[gapless.GaplessError], words: str
) -> None:
    """Codes and reasons that are not known here, or are missing, still make an error."""

    async def script(guest: Guest, number: int) -> None:
        request = await guest.request()
        told = {"ok": False, "request_id": request["request_id"], "error": error}
        await guest.say(json.dumps(told).encode() + b"\n")
        await guest.left()

    async with stranger(script) as opened, asking(kind, opened.port) as hub:
        with pytest.raises(gapless.GaplessError, match=words) as raised:
            await hub.providers()
        assert type(raised.value) is expected


async def test_an_older_hub_is_asked_all_the_same(kind: str) -> None:
    """One that knows no `Ping` says that it is no request, and then answers what it knows."""

    async def script(guest: Guest, number: int) -> None:
        while True:
            request = await guest.request()
            if request["query"]["type"] == "Ping":
                await guest.refuse(request, code="invalid_envelope", message="no Ping")
            else:
                entity = {"id": "x", "tags": '["ticker=A"]', "data": '[{"timestamp":1}]'}
                await guest.answer(request, [entity])

    async with stranger(script) as opened, asking(kind, opened.port) as hub:
        assert await hub.ping() == gapless.HubInfo()
        result = await hub.search("a", "A")
    assert (result.ticker, result.records) == ("A", [{"timestamp": 1}])
    assert result.to_polars().height == 1


def overloaded(times: int, wait: float | None, *, connection: bool = False) -> Script:
    """Return what refuses so many requests for now, and then answers."""
    refused = 0

    async def script(guest: Guest, number: int) -> None:
        nonlocal refused
        while True:
            request = await guest.request()
            if refused >= times:
                await guest.answer(request, ["a"])
                continue
            refused += 1
            about = None if connection else request
            error = {} if wait is None else {"retry_after_s": wait}
            await guest.refuse(about, code="overloaded", message="too many", **error)
            if connection:
                return

    return script


@pytest.mark.parametrize("connection", [False, True])
async def test_a_busy_hub_is_asked_again_after_a_while(kind: str, connection: bool) -> None:
    """Where it names a short time; also where it takes no more connections."""
    script = overloaded(2, SHORT_S, connection=connection)
    async with stranger(script) as opened, asking(kind, opened.port, retries=2) as hub:
        loop = asyncio.get_running_loop()
        before = loop.time()
        assert await hub.providers() == ["a"]
        assert loop.time() - before >= 2 * SHORT_S


@pytest.mark.parametrize(
    ("times", "wait"), [(1, 600), (1, None), (1, -1), (3, 0)], ids=["long", "none", "odd", "often"]
)
async def test_a_hub_that_is_too_busy_is_not_waited_for(
    kind: str, times: int, wait: float | None
) -> None:
    """Where it names a long time, or none, or says so too often: who asks decides."""
    async with (
        stranger(overloaded(times, wait)) as opened,
        asking(kind, opened.port, retries=2) as hub,
    ):
        async with asyncio.timeout(PATIENCE_S):
            with pytest.raises(gapless.Overloaded, match="too many") as raised:
                await hub.providers()
        assert raised.value.retry_after_s == wait
        assert await hub.providers() == ["a"]


async def test_many_callers_of_one_client(tmp_path: Path, kind: str) -> None:
    """Each gets the answer to what they asked: threads of one kind, coroutines of the other."""
    steady = SteadyProvider()
    async with web(tmp_path, steady) as opened, asking(kind, opened.tcp_port) as hub:
        names = [f"T{number % 40}" for number in range(400)]
        results = await asyncio.gather(*(hub.search("steady", one, *JANUARY) for one in names))
        for name, result in zip(names, results, strict=True):
            assert result.ticker == name
            assert result.records == steady.rows(name, *JANUARY)
        assert len(steady.calls) == 40


async def test_nothing_stays_open(tmp_path: Path, kind: str) -> None:
    """After all that can go wrong, and a close, there are as many open files as before."""
    minutes = SteadyProvider("minutes", step=60_000)
    async with web(tmp_path, minutes) as opened, stranger(_half) as bad:
        await _use(kind, opened.tcp_port, bad.port)
        before = open_files()
        for _ in range(5):
            await _use(kind, opened.tcp_port, bad.port)
        # The hub's own side of what was closed goes a moment later.
        await until(lambda: open_files() <= before)


async def _use(kind: str, port: int, bad: int) -> None:
    async with asking(kind, port) as hub:
        await hub.search("minutes", "A", "2021-01-01", "2021-01-06")
        for wrong in (
            hub.search("minutes", "\ud800", "2021-01-01", "2021-01-06"),
            hub.search("nobody", "A"),
            hub.fetch("GET", "/with space"),
            hub.fetch("GET", "/none"),
        ):
            with pytest.raises(gapless.GaplessError):
                await wrong
    async with asking(kind, bad, retries=0) as hub:
        with pytest.raises(gapless.ConnectionLost):
            await hub.providers()


async def _half(guest: Guest, number: int) -> None:
    await guest.request()
    await guest.say(b'{"ok":tr')


async def test_a_closed_client_opens_anew(kind: str) -> None:
    """Closing twice is closing once, and who asks again is answered again."""
    async with stranger(well) as opened, asking(kind, opened.port) as hub:
        for number in range(1, 4):
            assert await hub.providers() == ["a"]
            await hub.close()
            await hub.close()
            assert opened.connections == number


async def test_closing_while_something_is_asked(kind: str) -> None:
    """The client that waits is answered yet; in a loop the request ends, and is not sent again."""
    asked, go_on = asyncio.Event(), asyncio.Event()

    async def script(guest: Guest, number: int) -> None:
        request = await guest.request()
        asked.set()
        await go_on.wait()
        await guest.answer(request, ["a"])
        await guest.left()
        left.set()

    left = asyncio.Event()
    async with stranger(script) as opened, asking(kind, opened.port) as hub:
        running = asyncio.ensure_future(hub.providers())
        async with asyncio.timeout(PATIENCE_S):
            await asked.wait()
            await hub.close()
            go_on.set()
            if kind == "sync":
                assert await running == ["a"]
            else:
                with pytest.raises(gapless.ConnectionLost, match="the client was closed"):
                    await running
            await left.wait()
        assert opened.connections == 1


async def test_blocking_threads_are_as_many_as_like(kind: str) -> None:
    """All are answered, and connections are used again instead of one for each question."""
    async with stranger(well) as opened, asking(kind, opened.port) as hub:
        if kind == "async":
            assert await asyncio.gather(*(hub.providers() for _ in range(64))) == [["a"]] * 64
            assert opened.connections == 1
            return
        client = hub.client
        assert isinstance(client, gapless.Client)
        told: list[list[str]] = []

        def ask() -> None:
            told.extend(client.providers() for _ in range(10))

        threads = [threading.Thread(target=ask) for _ in range(64)]
        await asyncio.to_thread(_run_all, threads)
        assert told == [["a"]] * 640
        assert opened.connections <= 64


def _run_all(threads: list[threading.Thread]) -> None:
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(PATIENCE_S)
