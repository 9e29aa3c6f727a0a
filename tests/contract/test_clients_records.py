"""The records of both Python clients: over TCP or over HTTP, whole or in pages, in every form."""

from __future__ import annotations

import re
import socket
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import polars as pl
import pyarrow as pa
import pytest
from polars.testing import assert_frame_equal

import gapless
from support.asking import KINDS, asking, cautioned
from support.people import api_token, person
from support.providers import SteadyProvider
from support.strangers import Guest, answer, hello, stranger
from support.web import Web, web
from support.wire import IMPATIENT, PATIENT, but

pytestmark = pytest.mark.parametrize("kind", KINDS)

# 7,200 records: more than are sent along over TCP.
RANGE = ("2021-01-01", "2021-01-06")
HALF = ("2021-01-01", "2021-01-03")
MINUTE_MS = 60_000


def minutes() -> SteadyProvider:
    """Return a provider with a record a minute."""
    return SteadyProvider("minutes", step=MINUTE_MS)


def asked_over_http(opened: Web) -> int:
    """Return how often something was asked for over HTTP, by the hub's own count.

    On each connection there is a greeting before that, and a client has but one at a time here.
    """
    return max(0, opened.meter.requests["http", "ok"] - 1)


async def test_every_form_has_the_same_records(tmp_path: Path, kind: str) -> None:
    """polars, pandas, Arrow and whatever takes an Arrow stream: same values, instants in UTC."""
    steady = SteadyProvider()
    async with web(tmp_path, steady) as opened, asking(kind, opened.tcp_port) as hub:
        result = await hub.search("steady", "A", "2021-01-01", "2021-02-01")
    rows = steady.rows("A", "2021-01-01", "2021-02-01")
    instants = [datetime.fromtimestamp(row["timestamp"], UTC) for row in rows]
    dated = [
        {**row, "timestamp": instant, "date": instant.date()}
        for row, instant in zip(rows, instants, strict=True)
    ]
    frame = result.to_polars()
    assert frame.schema == {
        "timestamp": pl.Datetime("us", "UTC"),
        "date": pl.Date,
        "value": pl.Float64,
        "note": pl.String,
    }
    assert frame.to_dicts() == dated
    assert_frame_equal(pl.DataFrame(result), frame)
    table = result.to_arrow()
    assert isinstance(table, pa.Table)
    assert table.to_pylist() == dated
    assert pa.table(result).to_pylist() == dated
    pandas = result.to_pandas()
    assert str(pandas["timestamp"].dtype).endswith("UTC]")
    assert pandas["value"].tolist() == [row["value"] for row in rows]
    assert [one.to_pydatetime() for one in pandas["timestamp"]] == [
        row["timestamp"] for row in dated
    ]


async def test_a_frame_is_the_callers_own(tmp_path: Path, kind: str) -> None:
    """What is done to one frame does not show in the next."""
    async with web(tmp_path, SteadyProvider()) as opened, asking(kind, opened.tcp_port) as hub:
        result = await hub.search("steady", "A", "2021-01-01", "2021-02-01")
    result.to_polars().insert_column(0, pl.lit(1).alias("mine"))
    assert "mine" not in result.to_polars().columns


async def test_large_answers_over_http_are_those_of_tcp(tmp_path: Path, kind: str) -> None:
    """Same frame, records, etag and stitch; the first of each is fetched, the second held."""
    for name in ("http", "tcp"):
        (tmp_path / name).mkdir()
    results: dict[str, list[gapless.Result]] = {}
    for name, option in (("http", None), ("tcp", False)):
        async with (
            web(tmp_path / name, minutes()) as opened,
            asking(kind, opened.tcp_port, http=option) as hub,
        ):
            first = await hub.search("minutes", "A", *HALF)
            whole = [await hub.search("minutes", "A", *RANGE) for _ in range(2)]
            results[name] = [first, *whole]
            assert asked_over_http(opened) == (2 if name == "http" else 0)
    rows = minutes().rows("A", *RANGE)
    for over_http, over_tcp in zip(results["http"], results["tcp"], strict=True):
        assert over_http.stitch == over_tcp.stitch
        assert over_http.etag == over_tcp.etag
        assert (over_http.id, over_http.state) == (over_tcp.id, "ready")
        assert over_http.records == over_tcp.records == rows[: len(over_tcp)]
        assert over_http.data == over_tcp.data
        assert_frame_equal(over_http.to_polars(), over_tcp.to_polars())
        assert len(over_http) == len(over_tcp)
        assert repr(over_http) == repr(over_tcp)


@pytest.mark.share(2)
@pytest.mark.parametrize("most", [7_200, 7_199, 1_000, 700])
async def test_pages_are_put_together(tmp_path: Path, kind: str, most: int) -> None:
    """However many records the hub allows at once, the client has all of them, and their etag."""
    (tmp_path / "whole").mkdir()
    async with (
        web(tmp_path / "whole", minutes()) as opened,
        asking(kind, opened.tcp_port, http=False) as hub,
    ):
        expected = await hub.search("minutes", "A", *RANGE)
    async with (
        web(tmp_path, minutes(), settings=but(PATIENT, limits={"max_records": most})) as opened,
        asking(kind, opened.tcp_port) as hub,
    ):
        found = [await hub.search("minutes", "A", *RANGE) for _ in range(2)]
    for result in found:
        assert_frame_equal(result.to_polars(), expected.to_polars())
        assert result.records == expected.records
        assert result.etag == expected.etag
        assert result.state == "ready"
    assert found[0].stitch == expected.stitch
    assert found[1].stitch.upstream_requests == 0
    assert found[1].stitch.cached == expected.stitch.fetched


async def test_what_is_partial_is_so_over_http(tmp_path: Path, kind: str) -> None:
    """The large part that is there comes as columns, and the stitch says what is not."""
    provider = minutes()
    async with (
        web(tmp_path, provider, settings=IMPATIENT) as opened,
        asking(kind, opened.tcp_port) as hub,
    ):
        await hub.search("minutes", "A", *RANGE)
        provider.failures["2021-01-06T00:00:00Z"] = gapless.UpstreamRejected("no more of it")
        with pytest.warns(gapless.NotReadyWarning, match="missing: 2021-01-06..2021-01-08"):
            result = await hub.search("minutes", "A", RANGE[0], "2021-01-08")
        assert asked_over_http(opened) == 2
        with pytest.raises(gapless.UpstreamRejected):
            await hub.search("minutes", "A", RANGE[0], "2021-01-08", strict=True)
    assert result.state == "partial"
    assert result.records == provider.rows("A", *RANGE)
    (why,) = result.stitch.why
    assert (why.reason, why.span) == ("upstream_rejected", result.stitch.missing[0])


async def test_without_a_way_to_http_all_comes_over_tcp(tmp_path: Path, kind: str) -> None:
    """As through a tunnel that has the one port: slower, and the same."""
    with socket.socket() as taken:
        # Bound and not listening: who connects is refused.
        taken.bind(("127.0.0.1", 0))
        nowhere = f"http://127.0.0.1:{taken.getsockname()[1]}"
        async with (
            web(tmp_path, minutes()) as opened,
            asking(kind, opened.tcp_port, http=nowhere) as hub,
        ):
            with cautioned() as told:
                for _ in range(2):
                    result = await hub.search("minutes", "A", *RANGE)
                    assert result.records == minutes().rows("A", *RANGE)
                    assert result.etag
            (text,) = told
            assert f"at {nowhere} nothing answers" in text


async def test_what_answers_at_the_address_of_http_may_be_anything(
    tmp_path: Path, kind: str
) -> None:
    """What is no hub, or does not go by that name, costs time and changes no answer."""

    async def script(guest: Guest, number: int) -> None:
        await guest.head()
        await guest.say(b"HTTP/1.1 404 Not Found\r\ncontent-length: 4\r\n\r\nnope")

    async with web(tmp_path, minutes()) as opened, stranger(script) as other:
        named = f"http://127.1:{opened.port}"
        elsewhere = f"http://127.0.0.1:{other.port}"
        for base, says in ((elsewhere, r"no hub .*HTTP 404"), (named, "api.hosts")):
            async with asking(kind, opened.tcp_port, http=base) as hub:
                assert hub.client.http == base
                with pytest.warns(gapless.HttpUnusedWarning, match=says):
                    result = await hub.search("minutes", "A", *RANGE)
                assert result.records == minutes().rows("A", *RANGE)
    assert other.connections == 1


async def test_a_token_is_shown_over_http_too(tmp_path: Path, kind: str) -> None:
    """Large answers of a hub with users come as well as small ones."""
    async with web(tmp_path, minutes(), auth=True) as opened:
        someone = await person(opened.authority, "fetch")
        token = await api_token(opened.authority, someone.email)
        async with asking(kind, opened.tcp_port, token=token) as hub:
            result = await hub.search("minutes", "A", *RANGE)
            assert result.records == minutes().rows("A", *RANGE)
            assert asked_over_http(opened) == 1


async def test_a_notebook_shows_a_bar_and_a_table(tmp_path: Path, kind: str) -> None:
    """The parts of the bar are as long as they are, and nothing of the data is markup."""
    async with web(tmp_path, SteadyProvider()) as opened, asking(kind, opened.tcp_port) as hub:
        await hub.search("steady", "<B>", "2021-01-05", "2021-01-15")
        result = await hub.search("steady", "<b>", "2021-01-01", "2021-02-01")
    page = result._repr_html_()
    widths = [float(one) for one in re.findall(r"width:([0-9.]+)%", page)]
    assert len(widths) == 3
    assert sum(widths) == pytest.approx(100, abs=0.01)
    assert widths[1] == pytest.approx(1000 / 31, abs=0.01)
    assert [page.index(f"background:{colour}") for colour in ("#3b82c4", "#2e9e5b")]
    assert "<B>" not in page
    assert "&lt;B&gt;" in page
    assert "<table" in page
    assert "2 upstream requests" in page


@pytest.mark.parametrize(
    ("data", "shown"),
    [
        ('"a <b>text</b>"', "&lt;b&gt;text"),
        ('{"a": "<i>"}', "&lt;i&gt;"),
        ("12", "12"),
        ("[1, 2]", "[1, 2]"),
        ("null", "None"),
    ],
)
async def test_an_entity_may_hold_what_are_no_records(kind: str, data: str, shown: str) -> None:
    """It has `data`, can be shown, and says that it is no frame."""

    async def script(guest: Guest, number: int) -> None:
        await guest.answer(await guest.request(), hello())
        request = await guest.request()
        entity = b'[{"id":"x","source":"s","tags":[],"data":%b,"state":"ready"}]' % data.encode()
        await guest.say(answer(request["request_id"], "?").replace(b'"?"', entity))
        await guest.left()

    async with stranger(script) as opened, asking(kind, opened.port) as hub:
        result = await hub.get("s", "x")
    assert shown in result._repr_html_()
    for read in (result.to_polars, lambda: result.records, lambda: len(result)):
        with pytest.raises(gapless.UnexpectedAnswer):
            read()
    assert repr(result) == "<gapless.Result x ready>"


async def test_odd_records_come_as_they_are(tmp_path: Path, kind: str) -> None:
    """Fractions of seconds, whole numbers beside fractions, nested values, what is missing."""
    records: list[dict[str, Any]] = [
        {"timestamp": 1_609_459_200.25, "a": 1, "b": {"c": [1]}, "é": "ü"},
        {"timestamp": 1_609_459_201, "a": 1.5, "b": "text", "flag": True},
        {"timestamp": -1, "a": None, "b": 3},
    ]

    async def script(guest: Guest, number: int) -> None:
        await guest.answer(await guest.request(), hello())
        request = await guest.request()
        await guest.answer(request, [{"id": "x", "data": records}])
        await guest.left()

    async with stranger(script) as opened, asking(kind, opened.port) as hub:
        result = await hub.get("s", "x")
    assert result.records == records
    frame = result.to_polars()
    assert frame["timestamp"].to_list() == [
        datetime(2021, 1, 1, 0, 0, 0, 250_000, tzinfo=UTC),
        datetime(2021, 1, 1, 0, 0, 1, tzinfo=UTC),
        datetime(1969, 12, 31, 23, 59, 59, tzinfo=UTC),
    ]
    assert frame["a"].to_list() == [1.0, 1.5, None]
    assert frame["b"].to_list() == ['{"c": [1]}', '"text"', "3"]
    assert frame["é"].to_list() == ["ü", None, None]
    assert frame["flag"].to_list() == [None, True, None]
