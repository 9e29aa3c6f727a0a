"""Ranges of more records than one answer may have, where HTTP is not used: read piece by piece."""

from __future__ import annotations

import json
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import pytest
from polars.testing import assert_frame_equal

import gapless
from gapless.domain.intervals import Interval
from gapless.protocol.times import parse_instant
from gapless.providers.base import Record
from gapless.store.base import Change
from support.asking import KINDS, Asker, asking
from support.clock import ManualClock
from support.forwarders import forwarder
from support.providers import SteadyProvider
from support.strangers import Guest, answer, hello, stranger
from support.web import Web, web
from support.wire import IMPATIENT, PATIENT, but

pytestmark = pytest.mark.parametrize("kind", KINDS)

RANGE = ("2021-01-01", "2021-01-06")
HALF = ("2021-01-01", "2021-01-03")
LINE = f"provider minutes search ticker=A side=right date={RANGE[0]}..{RANGE[1]}"
MINUTE_MS = 60_000


class Bursts(SteadyProvider):
    """A record a day, and on one of them one a second: nothing is spread evenly."""

    def records(self, ticker: str, interval: Interval) -> list[Record]:
        """Return the true records of a range."""
        day = parse_instant("2021-06-05", now_ms=0)
        busy = range(day, day + 3_600_000, 1_000)
        days = {record.time for record in super().records(ticker, interval)}
        times = days | {time for time in busy if interval.start <= time < interval.end}
        return [Record(time, self._row(ticker, time)) for time in sorted(times)]


def minutes(**options: Any) -> SteadyProvider:
    """Return a provider with a record a minute."""
    return SteadyProvider("minutes", step=MINUTE_MS, **options)


async def asked_of(hub: Asker) -> list[gapless.Result]:
    """Return what every method has that may meet a large range, a parameter included."""
    half = await hub.search("minutes", "A", *HALF, side="right")
    first = await hub.search("minutes", "A", *RANGE, side="right")
    again = await hub.search("minutes", "A", *RANGE, side="right")
    view = await hub.get("minutes", first.id)
    (line,) = await hub.query(LINE)
    (by_id,) = await hub.query(f"provider minutes get {first.id}")
    return [half, first, again, view, line, by_id]


@pytest.mark.share(2)
@pytest.mark.parametrize("most", [7_200, 7_199, 1_000, 150])
async def test_pieces_are_the_whole(tmp_path: Path, kind: str, most: int) -> None:
    """Whatever a hub allows at once: the same records, etag, state and stitch, and each once."""
    (tmp_path / "whole").mkdir()
    async with (
        web(tmp_path / "whole", minutes()) as opened,
        asking(kind, opened.tcp_port, http=False) as hub,
    ):
        whole = await asked_of(hub)
        frame = await hub.search_many("minutes", ["A", "B"], *HALF)
    async with (
        web(tmp_path, minutes(), settings=but(PATIENT, limits={"max_records": most})) as opened,
        asking(kind, opened.tcp_port, http=False) as hub,
    ):
        pieces = await asked_of(hub)
        assert_frame_equal(await hub.search_many("minutes", ["A", "B"], *HALF), frame)
        assert opened.meter.requests["tcp", "ok"] > 5 * 7_200 // most
        assert not opened.meter.requests["http", "ok"]
    for one, expected in zip(pieces, whole, strict=True):
        assert (one.id, one.state, one.etag) == (expected.id, "ready", expected.etag)
        assert one.records == expected.records
        assert one.data == expected.data
        assert one.stitch == expected.stitch
        assert one.tags == expected.tags
        assert one.refresh_after == expected.refresh_after
        assert len(one) == len(expected)
        assert_frame_equal(one.to_polars(), expected.to_polars())


async def test_where_records_crowd_pieces_are_cut_again(tmp_path: Path, kind: str) -> None:
    """As often as it takes, and no record is lost or comes twice at a cut."""
    bursts = Bursts("bursts")
    settings = but(PATIENT, limits={"max_records": 50})
    bounds = ("2020-02-03T04:05:06.789Z", "2022-02-03")
    async with (
        web(tmp_path, bursts, settings=settings) as opened,
        asking(kind, opened.tcp_port, http=False) as hub,
    ):
        result = await hub.search("bursts", "A", *bounds)
    assert result.records == bursts.rows("A", *bounds)
    assert len(result) == 730 + 3_599
    assert result.id == "bursts:A:2020-02-03T04:05:06.789Z..2022-02-03T00:00:00Z"


async def test_relative_bounds_are_those_of_the_first_answer(tmp_path: Path, kind: str) -> None:
    """However late the last piece is asked for."""
    clock = ManualClock(parse_instant("2021-03-01T00:00:00.5Z", now_ms=0))
    settings = but(PATIENT, limits={"max_records": 500})

    async def later(data: bytes) -> None:
        clock.advance(60)

    async with (
        web(tmp_path, minutes(), settings=settings, clock=clock) as opened,
        forwarder(opened.tcp_port) as way,
        asking(kind, way.port, http=False) as hub,
    ):
        await hub.ping()
        way.passing = later
        result = await hub.search("minutes", "A", "-2d")
    end = "2021-03-01T00:01:00Z"
    assert result.id.endswith(f"2021-02-27T00:01:00Z..{end}")
    assert result.records == minutes().rows("A", "2021-02-27T00:01:00Z", end)


async def test_what_is_missing_is_not_asked_for_again(tmp_path: Path, kind: str) -> None:
    """Pieces are cut from what is there; the whole is partial, and strict it is an error."""
    provider = minutes()
    settings = but(IMPATIENT, limits={"max_records": 1_000})
    async with (
        web(tmp_path, provider, settings=settings) as opened,
        asking(kind, opened.tcp_port, http=False) as hub,
    ):
        await hub.search("minutes", "A", *RANGE)
        provider.failures["2021-01-06T00:00:00Z"] = gapless.UpstreamRejected("no more of it")
        calls = len(provider.calls)
        with pytest.warns(gapless.NotReadyWarning, match="missing: 2021-01-06..2021-01-08"):
            result = await hub.search("minutes", "A", RANGE[0], "2021-01-08")
        assert len(provider.calls) == calls + 1
        with pytest.raises(gapless.UpstreamRejected):
            await hub.search("minutes", "A", RANGE[0], "2021-01-08", strict=True)
    assert result.state == "partial"
    assert result.records == provider.rows("A", *RANGE)
    (why,) = result.stitch.why
    assert (why.reason, why.span) == ("upstream_rejected", result.stitch.missing[0])
    assert "no more of it" in result.last_error


async def test_the_worst_piece_is_that_of_all(tmp_path: Path, kind: str) -> None:
    """What becomes due between two pieces and cannot be had makes the whole stale, and says why."""
    clock = ManualClock(parse_instant("2021-01-06", now_ms=0))
    provider = minutes(tail_ms=3_600_000, due_in_ms=60_000)
    settings = but(IMPATIENT, limits={"max_records": 1_000})
    asked = 0

    async def later(data: bytes) -> None:
        nonlocal asked
        asked += 1
        if asked == 4:
            clock.advance(120)
            provider.failures["A"] = gapless.UpstreamUnavailable("it is down")

    async with (
        web(tmp_path, provider, settings=settings, clock=clock) as opened,
        forwarder(opened.tcp_port) as way,
        asking(kind, way.port, http=False) as hub,
    ):
        await hub.ping()
        way.passing = later
        with pytest.warns(gapless.NotReadyWarning, match="may be out of date: it is down"):
            result = await hub.search("minutes", "A", *RANGE)
        with pytest.warns(gapless.NotReadyWarning):
            view = await hub.get("minutes", result.id)
    assert (result.state, result.stitch.state) == ("stale", "stale")
    assert result.records == provider.rows("A", *RANGE) == view.records
    assert {one.reason for one in result.stitch.why} == {"upstream_unavailable"}
    assert view.state == "stale"


Happen = Callable[[Web], Awaitable[object]]


async def restated(opened: Web) -> None:
    """Have upstream change the past of the series."""
    await opened.hub.holdings.apply(Change(minutes().key("A", {}), (), restates=True, at=1))


async def refreshed(opened: Web) -> None:
    """Have half of the series fetched anew."""
    body = {"provider": "minutes", "ticker": "A", "start": RANGE[0], "end": HALF[1]}
    await opened.send("POST", "/v1/refresh", body)


@asynccontextmanager
async def changing(
    folder: Path, kind: str, when: set[int], happen: Happen = restated
) -> AsyncIterator[Asker]:
    """Yield a client of a hub to whose series that happens before those of its requests."""
    settings = but(PATIENT, limits={"max_records": 1_000})
    async with (
        web(folder, minutes(), settings=settings) as opened,
        forwarder(opened.tcp_port) as way,
        asking(kind, way.port, http=False) as hub,
    ):
        await hub.ping()
        asked = 0

        async def change(data: bytes) -> None:
            nonlocal asked
            asked += 1
            if asked in when or 0 in when:
                await happen(opened)

        way.passing = change
        yield hub


@pytest.mark.share(2)
@pytest.mark.parametrize("when", [{2}, {5}, {3, 17}])
async def test_a_series_that_changes_between_pieces_is_read_anew(
    tmp_path: Path, kind: str, when: set[int]
) -> None:
    """Pieces of two pasts would not fit; what it took upstream counts all the same."""
    async with changing(tmp_path, kind, when) as hub:
        result = await hub.search("minutes", "A", *RANGE)
    assert result.records == minutes().rows("A", *RANGE)
    assert result.state == "ready"
    assert result.stitch.upstream_requests == 1


async def test_a_series_that_lives_is_read_on(tmp_path: Path, kind: str) -> None:
    """What is fetched anew and is the same between pieces is no reason to begin again."""
    async with changing(tmp_path, kind, {0}, refreshed) as hub:
        result = await hub.search("minutes", "A", *RANGE)
    assert result.records == minutes().rows("A", *RANGE)
    assert result.state == "ready"


async def test_a_series_that_never_rests_is_an_error(tmp_path: Path, kind: str) -> None:
    """It is not read anew for ever."""
    async with changing(tmp_path, kind, {0}) as hub:
        with pytest.raises(gapless.InvalidQuery, match="changed each of 3 times while its pieces"):
            await hub.search("minutes", "A", *RANGE)


async def test_a_series_that_is_forgotten_between_pieces_is_fetched_again(
    tmp_path: Path, kind: str
) -> None:
    """It is another series then."""
    provider = minutes()
    settings = but(PATIENT, limits={"max_records": 1_000})
    async with (
        web(tmp_path, provider, settings=settings) as opened,
        forwarder(opened.tcp_port) as way,
        asking(kind, way.port, http=False) as hub,
    ):
        await hub.ping()
        asked = 0

        async def forget(data: bytes) -> None:
            nonlocal asked
            asked += 1
            if asked == 4:
                await opened.send("DELETE", "/v1/series/minutes/A")

        way.passing = forget
        result = await hub.search("minutes", "A", *RANGE)
    assert result.records == provider.rows("A", *RANGE)
    assert len(provider.calls) >= 2


async def test_a_view_is_told_as_it_is_held(tmp_path: Path, kind: str) -> None:
    """Its pieces are views: though all of it is due, nothing is fetched for it."""
    clock = ManualClock(parse_instant("2021-01-06", now_ms=0))
    provider = minutes(tail_ms=10 * 86_400_000, due_in_ms=60_000)
    settings = but(PATIENT, limits={"max_records": 1_000})
    async with (
        web(tmp_path, provider, settings=settings, clock=clock) as opened,
        asking(kind, opened.tcp_port, http=False) as hub,
    ):
        result = await hub.search("minutes", "A", *RANGE)
        clock.advance(3_600)
        calls = len(provider.calls)
        with pytest.warns(gapless.NotReadyWarning, match="may be out of date"):
            view = await hub.get("minutes", result.id)
        assert len(provider.calls) == calls
    assert (view.state, view.stitch) == ("stale", None)
    assert view.records == result.records
    assert view.etag == result.etag


async def test_an_older_hub_has_its_limit(kind: str) -> None:
    """It is asked as it always was, and its error stays."""
    asked: list[dict[str, Any]] = []

    async def script(guest: Guest, number: int) -> None:
        while True:
            request = await guest.request()
            asked.append(request)
            if request["query"]["type"] == "Ping":
                await guest.answer(request, hello(instance=None))
            else:
                await guest.refuse(request, code="too_large", message="ask for less")

    async with stranger(script) as opened, asking(kind, opened.port) as hub:
        with pytest.raises(gapless.TooLarge, match="ask for less"):
            await hub.search("p", "A", *RANGE)
    assert "inline_records" not in asked[1]


ENTITY = {
    "id": "p:A:2021-01-01T00:00:00Z..2021-01-02T00:00:00Z",
    "source": "p",
    "tags": ["ticker=A", "from=2021-01-01T00:00:00Z", "to=2021-01-02T00:00:00Z"],
    "data": None,
}
LEFT_OUT = {"records": 200_000, "version": "1"}


@pytest.mark.parametrize(
    ("entity", "head", "piece", "error", "says"),
    [
        ({}, {"version": None}, {}, gapless.UnexpectedAnswer, "left out records"),
        ({"tags": []}, {}, {}, gapless.UnexpectedAnswer, "which is no range"),
        ({"tags": ["a=b"] * 3}, {}, {}, gapless.UnexpectedAnswer, "that is none"),
        ({"tags": 7}, {}, {}, gapless.UnexpectedAnswer, "which is no range"),
        ({"id": "p:note"}, {}, {}, gapless.UnexpectedAnswer, "which is no range"),
        ({}, {"stitch": {"missing": [["x", "y"]]}}, {}, gapless.UnexpectedAnswer, "that is none"),
        (
            {},
            {"stitch": {"missing": [["2021-01-02", "2021-01-01"]]}},
            {},
            gapless.UnexpectedAnswer,
            "ends before it begins",
        ),
        ({}, {"stitch": 7}, {}, gapless.UnexpectedAnswer, "stitch is none"),
        ({}, {}, {"id": ENTITY["id"]}, gapless.UnexpectedAnswer, "came where .* was asked for"),
        ({}, {}, {"data": "text"}, gapless.UnexpectedAnswer, "came without records"),
        ({}, {}, {"version": "2"}, gapless.InvalidQuery, "changed each of 3 times"),
        ({}, {}, {"records": 10**15}, gapless.UnexpectedAnswer, "have no end"),
        ({}, {"records": 10**15}, {"records": 10**15}, gapless.UnexpectedAnswer, "have no end"),
    ],
)
async def test_what_no_hub_says(
    kind: str,
    entity: dict[str, Any],
    head: dict[str, Any],
    piece: dict[str, Any],
    error: type[gapless.GaplessError],
    says: str,
) -> None:
    """It is told as such, and nothing is made up or asked for without an end."""

    async def script(guest: Guest, number: int) -> None:
        while True:
            request = await guest.request()
            if request["query"]["type"] == "Ping":
                await guest.answer(request, hello())
                continue
            filters = request["query"]["payload"]["request"]["SearchEntities"]["query"]
            if len(filters) == 1:
                told = {"stitch": {}, **LEFT_OUT, **head}
                await guest.say(answer(request["request_id"], [{**ENTITY, **entity}], **told))
                continue
            bounds = filters[1]["DateRange"]
            part = {"id": f"p:A:{bounds['start']}..{bounds['end']}", "data": [], **piece}
            told = {"version": "1", "stitch": {}, **{k: piece[k] for k in piece if k in LEFT_OUT}}
            await guest.say(answer(request["request_id"], [part], **told))

    async with stranger(script) as opened, asking(kind, opened.port) as hub:
        with pytest.raises(error, match=says):
            await hub.search("p", "A")
        # One ticker that fails may be all of them.
        with pytest.raises((gapless.PartlyFailed, error), match=says):
            await hub.search_many("p", ["A"])


async def test_a_millisecond_is_not_cut(kind: str) -> None:
    """A hub that has more records at one instant than it may send at once says so in vain."""
    entity = {
        **ENTITY,
        "id": "p:A:1970-01-01T00:00:00Z..1970-01-01T00:00:00.004Z",
        "tags": json.dumps(
            ["ticker=A", "from=1970-01-01T00:00:00Z", "to=1970-01-01T00:00:00.004Z"]
        ),
    }

    async def script(guest: Guest, number: int) -> None:
        while True:
            request = await guest.request()
            if request["query"]["type"] == "Ping":
                await guest.answer(request, hello())
                continue
            filters = request["query"]["payload"]["request"]["SearchEntities"]["query"]
            bounds = filters[1]["DateRange"] if len(filters) > 1 else {}
            id = f"p:A:{bounds['start']}..{bounds['end']}" if bounds else entity["id"]
            told = {"stitch": {}, **LEFT_OUT}
            await guest.say(answer(request["request_id"], [{**entity, "id": id}], **told))

    async with stranger(script) as opened, asking(kind, opened.port) as hub:
        with pytest.raises(gapless.TooLarge, match="200,000 records are of one millisecond"):
            await hub.search("p", "A")
