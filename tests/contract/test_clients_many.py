"""Many tickers at once, by both Python clients: one frame, whatever becomes of some of them."""

from __future__ import annotations

import asyncio
import signal
import subprocess
import sys
import warnings
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import polars as pl
import pytest

import gapless
from support import asking as asking_module
from support.asking import KINDS, asking
from support.commands import environment, hub
from support.providers import SteadyProvider
from support.strangers import Guest, answer, hello, stranger
from support.web import web
from support.wire import IMPATIENT, PATIENCE_S, SOON_S

each_kind = pytest.mark.parametrize("kind", KINDS)

JANUARY = ("2021-01-01", "2021-02-01")
TICKERS = ["C", "A", "B"]


def expected(*tickers: str) -> list[dict[str, Any]]:
    """Return the rows of a frame of these tickers."""
    return [
        {
            "ticker": ticker,
            **row,
            "timestamp": datetime.fromtimestamp(row["timestamp"], UTC),
            "date": datetime.fromtimestamp(row["timestamp"], UTC).date(),
        }
        for ticker in tickers
        for row in SteadyProvider().rows(ticker, *JANUARY)
    ]


@each_kind
@pytest.mark.parametrize("http", [None, False])
async def test_they_come_in_the_order_asked(tmp_path: Path, kind: str, http: Any) -> None:
    """The ticker is the first column; one that is there twice comes once."""
    async with (
        web(tmp_path, SteadyProvider()) as opened,
        asking(kind, opened.tcp_port, http=http) as hub,
    ):
        frame = await hub.search_many("steady", [*TICKERS, "A"], *JANUARY)
        again = await hub.search_many("steady", iter(TICKERS), *JANUARY, concurrency=1)
        right = await hub.search_many("steady", ["A"], *JANUARY, side="right")
    assert frame.columns == ["ticker", "timestamp", "date", "value", "note"]
    assert frame.schema["ticker"] == pl.String
    assert frame.schema["timestamp"] == pl.Datetime("us", "UTC")
    assert frame.to_dicts() == again.to_dicts() == expected(*TICKERS)
    assert right.height == 31


@each_kind
async def test_large_and_small_ones_fit_together(tmp_path: Path, kind: str) -> None:
    """All of them come as columns over HTTP; a ticker may have no records."""
    minutes = SteadyProvider("minutes", step=60_000)
    async with web(tmp_path, minutes) as opened, asking(kind, opened.tcp_port) as hub:
        bounds = ("2021-01-01T00:00:30Z", "2021-01-01T00:00:40Z")
        assert (await hub.search_many("minutes", ["A"], *bounds)).height == 0
        days = await hub.search_many("minutes", ["B", "A"], "2021-01-01", "2021-01-03")
        hours = await hub.search_many("minutes", ["A"], "2021-01-01", "2021-01-01T02:00:00Z")
        # Who it is, and nothing else.
        assert opened.meter.requests["tcp", "ok"] == 1
    assert days.height == 2 * 2 * 1440
    assert hours["value"].to_list() == days.filter(ticker="A")["value"].to_list()[:120]


@each_kind
async def test_none_at_all_is_an_empty_frame(kind: str) -> None:
    """Nobody is asked for it; it has the two columns that there always are."""
    async with asking(kind, 1) as hub:
        frame = await hub.search_many("steady", [])
    assert frame.schema == {"ticker": pl.String, "timestamp": pl.Datetime("us", "UTC")}
    assert frame.height == 0


@each_kind
async def test_what_makes_no_sense_is_refused(kind: str) -> None:
    """A text is no list of tickers, and nobody is asked nobody at a time."""
    async with asking(kind, 1) as hub:
        with pytest.raises(gapless.InvalidQuery, match="expected a list of tickers"):
            await hub.search_many("steady", "AAPL")
        with pytest.raises(gapless.InvalidQuery, match="concurrency=0"):
            await hub.search_many("steady", ["A"], concurrency=0)
        with pytest.raises(gapless.InvalidQuery, match="on_error='ignore'"):
            await hub.search_many("steady", ["A"], on_error="ignore")


@each_kind
async def test_some_may_fail(tmp_path: Path, kind: str) -> None:
    """By default all else is kept in the error; `skip` leaves them out with a warning."""
    steady = SteadyProvider()
    steady.failures = {
        "B": gapless.UnknownTicker("no B"),
        "D": gapless.UpstreamRejected("not D"),
    }
    async with (
        web(tmp_path, steady, settings=IMPATIENT) as opened,
        asking(kind, opened.tcp_port) as hub,
    ):
        asked = [*TICKERS, "D"]
        with pytest.raises(gapless.PartlyFailed, match="2 of 4 tickers failed: ") as raised:
            await hub.search_many("steady", asked, *JANUARY)
        assert {ticker: type(one) for ticker, one in raised.value.failures.items()} == {
            "B": gapless.UnknownTicker,
            "D": gapless.UpstreamRejected,
        }
        assert raised.value.frame.to_dicts() == expected("C", "A")
        with pytest.warns(gapless.NotReadyWarning, match="2 of 4 .*no B") as told:
            frame = await hub.search_many("steady", asked, *JANUARY, on_error="skip")
        assert [one.filename for one in told] == [asking_module.__file__]
        assert frame.to_dicts() == expected("C", "A")
        with pytest.raises(gapless.PartlyFailed) as raised:
            await hub.search_many("steady", ["B"], *JANUARY)
        assert raised.value.frame.height == 0
        assert isinstance(raised.value.again(), gapless.PartlyFailed)


@each_kind
async def test_what_fails_for_one_and_for_all(kind: str) -> None:
    """That no hub is there is said once, as itself."""

    async def script(guest: Guest, number: int) -> None:
        request = await guest.request()
        if request["query"]["type"] == "Ping":
            await guest.answer(request, hello())

    async with (
        stranger(script) as opened,
        asking(kind, opened.port, retries=0) as hub,
    ):
        with pytest.raises(gapless.ConnectionLost) as raised:
            await hub.search_many("steady", TICKERS, on_error="skip")
    assert not isinstance(raised.value, BaseExceptionGroup)


@pytest.mark.share(4)
@each_kind
@pytest.mark.parametrize("http", [None, False])
@pytest.mark.parametrize(
    ("provider", "bounds", "params", "error", "says"),
    [
        ("stedy", JANUARY, {}, gapless.ProviderNotFound, "stedy"),
        ("steady", ("yesterday", "now"), {}, gapless.InvalidQuery, "yesterday"),
        ("steady", JANUARY, {"intervall": "1d"}, gapless.InvalidQuery, "intervall"),
        ("steady", JANUARY, {"columns": "value"}, gapless.InvalidQuery, "columns"),
    ],
)
async def test_what_is_wrong_for_all_is_said_once(
    tmp_path: Path,
    kind: str,
    http: Any,
    provider: str,
    bounds: tuple[str, str],
    params: dict[str, str],
    error: type[gapless.GaplessError],
    says: str,
) -> None:
    """As itself, after the first few: the other hundreds are not asked in vain."""
    tickers = [f"T{number}" for number in range(300)]
    async with (
        web(tmp_path, SteadyProvider()) as opened,
        asking(kind, opened.tcp_port, http=http) as hub,
    ):
        for on_error in ("raise", "skip"):
            with pytest.raises(error, match=says) as raised:
                await hub.search_many(
                    provider, tickers, *bounds, concurrency=4, on_error=on_error, **params
                )
            assert type(raised.value) is error
        assert sum(opened.meter.requests.values()) < 40


@pytest.mark.slow
@each_kind
async def test_a_hub_that_falls_silent_is_given_up(kind: str) -> None:
    """What came before is in the error, and nobody waits for each of the others."""
    asked: list[str] = []

    async def script(guest: Guest, number: int) -> None:
        while True:
            request = await guest.request()
            if request["query"]["type"] == "Ping":
                await guest.answer(request, hello())
                continue
            asked.append("")
            if len(asked) <= 5:
                await guest.answer(request, [{"id": "x", "data": [{"timestamp": 1}]}])

    tickers = [f"T{number}" for number in range(300)]
    async with stranger(script) as opened, asking(kind, opened.port, timeout=SOON_S / 2) as hub:
        with pytest.raises(gapless.PartlyFailed, match="295 of 300 tickers failed") as raised:
            await hub.search_many("steady", tickers, concurrency=3)
    assert len(asked) < 20
    assert raised.value.frame.height == 5
    assert {type(one) for one in raised.value.failures.values()} == {gapless.TimedOut}


@pytest.mark.slow
@each_kind
async def test_one_bad_ticker_is_one_bad_ticker(tmp_path: Path, kind: str) -> None:
    """Also where they are asked for one at a time, and the bad one comes first."""
    steady = SteadyProvider()
    async with (
        web(tmp_path, steady) as opened,
        asking(kind, opened.tcp_port) as hub,
    ):
        for bad in ("\ud800", "x" * 200):
            with pytest.warns(gapless.NotReadyWarning, match="1 of 3 tickers failed"):
                frame = await hub.search_many(
                    "steady", [bad, "A", "B"], *JANUARY, concurrency=1, on_error="skip"
                )
            assert frame.to_dicts() == expected("A", "B")
        gate = steady.hold("SLOW")
        with pytest.raises(gapless.PartlyFailed) as raised:
            await hub.search_many(
                "steady", ["SLOW", "A", "B"], *JANUARY, concurrency=1, timeout=SOON_S
            )
        gate.open.set()
    assert raised.value.frame.to_dicts() == expected("A", "B")
    assert list(raised.value.failures) == ["SLOW"]


@each_kind
async def test_many_that_are_not_ready_warn_briefly(tmp_path: Path, kind: str) -> None:
    """A few are told by name, the rest by their number."""
    steady = SteadyProvider()
    tickers = [f"T{number}" for number in range(9)]
    async with (
        web(tmp_path, steady, settings=IMPATIENT) as opened,
        asking(kind, opened.tcp_port) as hub,
    ):
        await hub.search_many("steady", tickers, *JANUARY)
        steady.failures["2021-02-01T00:00:00Z"] = gapless.UpstreamRejected("no")
        with pytest.warns(gapless.NotReadyWarning) as told:
            frame = await hub.search_many("steady", tickers, "2021-01-01", "2021-03-01")
        with pytest.raises(gapless.PartlyFailed) as raised:
            await hub.search_many("steady", tickers, "2021-01-01", "2021-03-01", strict=True)
    assert frame.height == 9 * 31
    assert len(told) == 6
    assert {one.filename for one in told} == {asking_module.__file__}
    assert str(told[5].message) == "4 more answers are not ready"
    assert len(raised.value.failures) == 9
    assert raised.value.message.endswith("; and 4 more")


@each_kind
async def test_a_bar_shows_how_far_it_is(
    tmp_path: Path, kind: str, capfd: pytest.CaptureFixture[str]
) -> None:
    """On stderr where it is asked for; where that is no terminal, not unless it is."""
    async with web(tmp_path, SteadyProvider()) as opened, asking(kind, opened.tcp_port) as hub:
        await hub.search_many("steady", TICKERS, *JANUARY)
        assert capfd.readouterr() == ("", "")
        await hub.search_many("steady", TICKERS, *JANUARY, progress=True)
        out, err = capfd.readouterr()
        assert out == ""
        assert "steady" in err
        assert "3/3" in err
        await hub.search_many("steady", TICKERS, *JANUARY, progress=False)
        assert capfd.readouterr() == ("", "")


@each_kind
async def test_no_more_are_asked_at_once_than_wanted(tmp_path: Path, kind: str) -> None:
    """The next is asked when one is there."""
    steady = SteadyProvider()
    gates = {ticker: steady.hold(ticker) for ticker in TICKERS}
    async with web(tmp_path, steady) as opened, asking(kind, opened.tcp_port) as hub:
        running = asyncio.ensure_future(hub.search_many("steady", TICKERS, *JANUARY, concurrency=2))
        async with asyncio.timeout(PATIENCE_S):
            await gates["C"].arrived.wait()
            await gates["A"].arrived.wait()
        # Whatever else is asked comes through, so that B would have, too.
        await hub.search("steady", "OTHER", *JANUARY)
        assert not gates["B"].arrived.is_set()
        gates["A"].open.set()
        async with asyncio.timeout(PATIENCE_S):
            await gates["B"].arrived.wait()
        for gate in gates.values():
            gate.open.set()
        assert (await running).to_dicts() == expected(*TICKERS)


IN_A_LOOP = """
import asyncio, sys
import gapless

async def main():
    with gapless.connect(sys.argv[1]) as hub:
        frame = hub.search_many("sample", ["IBM", "AAPL"], "2010-01-01", "2010-02-01")
        print(frame.get_column("ticker").unique(maintain_order=True).to_list(), frame.height)

asyncio.run(main())
"""


@pytest.mark.slow
async def test_a_running_loop_is_no_hindrance(tmp_path: Path) -> None:
    """As in a notebook, whose cells run in a loop: the client that waits works there as well."""
    async with hub(tmp_path / "hub.db") as served:
        process = await asyncio.create_subprocess_exec(
            *(sys.executable, "-W", "error", "-c", IN_A_LOOP, served.tcp),
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            env=environment(),
        )
        async with asyncio.timeout(PATIENCE_S):
            out, err = await process.communicate()
    assert (out.decode().strip(), err.decode()) == ("['IBM', 'AAPL'] 38", "")


INTERRUPTED = """
import logging
import sys
import gapless

# Only that something took long, as everything does on a busy machine, is less than an error.
logging.getLogger("asyncio").setLevel(logging.ERROR)

hub = gapless.Client(sys.argv[1])
try:
    hub.search_many("steady", [f"T{n}" for n in range(100)])
except KeyboardInterrupt:
    print("interrupted")
with hub:
    print(hub.providers())
"""


async def test_an_interrupt_ends_it() -> None:
    """Ctrl-C ends the wait at once, closes what was open, and the client can be used again."""
    asked = asyncio.Event()

    async def script(guest: Guest, number: int) -> None:
        while True:
            request = await guest.request()
            if request["query"]["type"] == "ProviderRequest":
                asked.set()
            else:
                result = hello() if request["query"]["type"] == "Ping" else ["a"]
                await guest.say(answer(request["request_id"], result))

    async with stranger(script) as opened:
        process = await asyncio.create_subprocess_exec(
            *(sys.executable, "-X", "dev", "-W", "error", "-c", INTERRUPTED),
            f"127.0.0.1:{opened.port}",
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            env=environment(),
        )
        async with asyncio.timeout(PATIENCE_S):
            await asked.wait()
            process.send_signal(signal.SIGINT)
            out, err = await process.communicate()
    assert (out.decode(), err.decode()) == ("interrupted\n['a']\n", "")


@each_kind
async def test_records_may_have_a_ticker_of_their_own(kind: str) -> None:
    """It is kept beside the one that was asked for."""

    async def script(guest: Guest, number: int) -> None:
        while True:
            request = await guest.request()
            if request["query"]["type"] == "Ping":
                await guest.answer(request, hello())
                continue
            await guest.answer(request, [{"id": "x", "data": [{"timestamp": 1, "ticker": "own"}]}])

    async with stranger(script) as opened, asking(kind, opened.port) as hub:
        frame = await hub.search_many("steady", ["A"])
    assert frame.columns[0] == "ticker"
    assert frame["ticker"].to_list() == ["A"]
    assert frame["ticker_"].to_list() == ["own"]


@each_kind
async def test_a_warning_can_be_made_an_error(tmp_path: Path, kind: str) -> None:
    """Who wants no part of what is partial says so once, as with any warning."""
    steady = SteadyProvider()
    async with (
        web(tmp_path, steady, settings=IMPATIENT) as opened,
        asking(kind, opened.tcp_port) as hub,
    ):
        await hub.search_many("steady", ["A"], *JANUARY)
        steady.failures["2021-02-01T00:00:00Z"] = gapless.UpstreamRejected("no")
        with warnings.catch_warnings():
            warnings.simplefilter("error", gapless.NotReadyWarning)
            with pytest.raises(gapless.NotReadyWarning):
                await hub.search_many("steady", ["A"], "2021-01-01", "2021-03-01")
