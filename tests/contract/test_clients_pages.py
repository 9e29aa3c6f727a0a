"""Records that come over HTTP, page by page, from a hub that is not at its best."""

from __future__ import annotations

import io
import warnings
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from datetime import UTC, datetime
from typing import Any

import polars as pl
import pytest

import gapless
from support.asking import KINDS, Asker, asking, cautioned
from support.strangers import INSTANCE, Guest, answer, hello, http_answer, stranger

pytestmark = pytest.mark.parametrize("kind", KINDS)

ENTITY: dict[str, Any] = {
    "id": "x",
    "source": "p",
    "tags": [],
    "data": None,
    "etag": "",
    "state": "ready",
}
STITCH = {
    "cached": [["1970-01-01T00:00:00Z", "1970-01-01T00:00:04Z"]],
    "fetched": [],
    "missing": [],
    "upstream_requests": 3,
    "state": "ready",
}
CHANGED: tuple[int, bytes, Any] = (
    400,
    b'{"code":"invalid_query","message":"the basis has changed"}',
    {},
)
COLUMNS = {"content-type": "application/vnd.apache.arrow.stream"}
BROKEN: tuple[int, bytes, Any] = (0, b"", {})


def page(first: int, following: str | None = None, **headers: str) -> tuple[int, bytes, Any]:
    """Return an answer with two records."""
    body = io.BytesIO()
    pl.DataFrame({"timestamp": [first, first + 1]}).write_ipc_stream(body)
    told = {"gapless-etag": f"{first:016x}", "gapless-state": "ready"}
    told |= COLUMNS
    told |= {name.replace("_", "-"): value for name, value in headers.items()}
    if following is not None:
        told["link"] = f'<{following}>; rel="next"'
    return 200, body.getvalue(), told


def busy(wait: float) -> tuple[int, bytes, Any]:
    """Return the answer of a hub that has too much to do."""
    return 503, b'{"code":"overloaded","message":"busy","retry_after_s":%g}' % wait, {}


@asynccontextmanager
async def telling(
    kind: str, *answers: tuple[int, bytes, Any], **options: Any
) -> AsyncIterator[tuple[Asker, list[str]]]:
    """Yield a client of a hub whose HTTP door gives these answers, and the paths it was asked."""
    paths: list[str] = []

    async def http(guest: Guest, number: int) -> None:
        while True:
            paths.append((await guest.asked()).split(b" ")[1].decode())
            status, body, headers = answers[len(paths) - 1]
            if not status:
                await guest.say(http_answer(200, b"half a body")[:-7])
                return
            await guest.say(http_answer(status, body, **headers))

    async def tcp(guest: Guest, number: int) -> None:
        while True:
            request = await guest.request()
            if request["query"]["type"] == "Ping":
                await guest.answer(request, hello(f"http://127.0.0.1:{door.port}"))
            elif request["inline_records"] <= 5_000:
                told = {
                    "records_at": "/first",
                    "version": f"{INSTANCE}-1-0",
                    "stitch": STITCH,
                }
                await guest.say(answer(request["request_id"], [ENTITY], **told))
            else:
                await guest.answer(request, [{**ENTITY, "data": [{"timestamp": 77}]}])

    async with (
        stranger(http) as door,
        stranger(tcp) as opened,
        asking(kind, opened.port, **options) as hub,
    ):
        yield hub, paths


async def test_pages_follow_their_links(kind: str) -> None:
    """One below the other, and the etag is the sum of theirs."""
    async with telling(kind, page(1, "/second"), page(3)) as (hub, paths):
        result = await hub.search("p", "A")
    assert [row["timestamp"] for row in result.records] == [1, 2, 3, 4]
    assert result.etag == f"{4:016x}"
    assert paths == ["/first", "/second"]
    assert result.stitch.upstream_requests == 3


async def test_a_page_that_breaks_off_is_read_again(kind: str) -> None:
    """That page, and not those before it; nothing of its half is kept."""
    async with telling(kind, page(1, "/second"), BROKEN, page(3)) as (hub, paths):
        result = await hub.search("p", "A")
    assert [row["timestamp"] for row in result.records] == [1, 2, 3, 4]
    assert paths == ["/first", "/second", "/second"]


async def test_pages_that_break_off_too_often_come_over_tcp(kind: str) -> None:
    """As where there is no HTTP; it is not tried again by this client."""
    async with telling(kind, BROKEN, BROKEN, retries=1) as (hub, paths):
        with cautioned() as told:
            for _ in range(2):
                result = await hub.search("p", "A")
                assert result.records == [{"timestamp": 77}]
        (text,) = told
        assert "answers break off" in text
    assert paths == ["/first", "/first"]


async def test_a_series_that_changes_between_pages_is_read_anew(kind: str) -> None:
    """From the first page on, for the pages would not fit together."""
    answers = [page(1, "/second"), CHANGED, page(5, "/second"), page(7)]
    async with telling(kind, *answers) as (hub, paths):
        result = await hub.search("p", "A")
    assert [row["timestamp"] for row in result.records] == [5, 6, 7, 8]
    assert paths == ["/first", "/second", "/first", "/second"]


async def test_a_series_that_never_rests_is_an_error(kind: str) -> None:
    """It is not read anew for ever."""
    answers = [page(1, "/second"), CHANGED] * 3
    async with telling(kind, *answers) as (hub, paths):
        with pytest.raises(gapless.InvalidQuery, match="changed each of 3 times"):
            await hub.search("p", "A")
    assert len(paths) == 6


async def test_a_busy_door_is_asked_again(kind: str) -> None:
    """After the time that it names, if that is short."""
    answers = [busy(0.01), page(1, "/second"), busy(0.01), page(3)]
    async with telling(kind, *answers) as (hub, paths):
        assert len(await hub.search("p", "A")) == 4
    assert paths == ["/first", "/first", "/second", "/second"]
    async with telling(kind, busy(60)) as (hub, paths):
        with pytest.raises(gapless.Overloaded):
            await hub.search("p", "A")


async def test_what_came_with_the_records_counts(kind: str) -> None:
    """Where the series was fetched or lost a part meanwhile, the stitch is that of the records."""
    headers = {
        "gapless_state": "partial",
        "gapless_cached": "",
        "gapless_fetched": "1970-01-01T00:00:00Z..1970-01-01T00:00:02Z",
        "gapless_missing": "1970-01-01T00:00:02Z..1970-01-01T00:00:04Z",
        "gapless_upstream_requests": "2",
        "gapless_changed_at": "2026-06-11T13:30:00Z",
        "gapless_why": '[{"from":"1970-01-01T00:00:02Z","to":"1970-01-01T00:00:04Z",'
        '"reason":"out_of_window","message":"too old"}]',
    }
    async with telling(kind, page(1, **headers)) as (hub, _):
        with pytest.warns(gapless.NotReadyWarning, match="missing"):
            result = await hub.search("p", "A")
    stitch = result.stitch
    assert (result.state, stitch.state, stitch.upstream_requests) == ("partial", "partial", 5)
    assert stitch.cached == ()
    assert [str(span) for span in (*stitch.fetched, *stitch.missing)] == [
        "1970-01-01..1970-01-01T00:00:02Z",
        "1970-01-01T00:00:02Z..1970-01-01T00:00:04Z",
    ]
    assert [(one.reason, one.message) for one in stitch.why] == [("out_of_window", "too old")]
    assert stitch.changed_at == datetime(2026, 6, 11, 13, 30, tzinfo=UTC)


@pytest.mark.parametrize(
    "headers",
    [
        {"gapless_etag": "not hex"},
        {"gapless_fetched": "a..b"},
        {"gapless_state": "stale", "gapless_why": "no JSON"},
    ],
)
async def test_headers_that_make_no_sense(kind: str, headers: dict[str, str]) -> None:
    """The records are there all the same, and what cannot be told is not made up."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", gapless.NotReadyWarning)
        async with telling(kind, page(1, **headers)) as (hub, _):
            result = await hub.search("p", "A")
            assert len(result) == 2
    if "gapless_etag" in headers:
        assert result.etag == ""
    elif "gapless_why" in headers:
        assert (result.stitch.state, result.stitch.why) == ("stale", ())
    else:
        with pytest.raises(gapless.UnexpectedAnswer):
            _ = result.stitch


async def test_a_count_that_is_none(kind: str) -> None:
    """What tells such things is no hub, and all comes over TCP."""
    async with telling(kind, page(1, gapless_upstream_requests="many")) as (hub, _):
        with pytest.warns(gapless.HttpUnusedWarning, match="'many' upstream requests"):
            result = await hub.search("p", "A")
    assert result.records == [{"timestamp": 77}]


@pytest.mark.parametrize("body", [b"", b"no Arrow", b"\xff\xff\xff\xff\x00\x00\x00\x00"])
async def test_what_is_no_arrow_stream(kind: str, body: bytes) -> None:
    """It is said to be none when it is read."""
    async with telling(kind, (200, body, COLUMNS)) as (hub, _):
        result = await hub.search("p", "A")
    with pytest.raises(gapless.UnexpectedAnswer):
        result.to_polars()


@pytest.mark.parametrize(
    "answer",
    [
        (200, b"<html>", {"content-type": "text/html"}),
        (200, b"", COLUMNS),
        (200, b"no Arrow", COLUMNS),
        page(1, gapless_records="3"),
        page(1, "http://elsewhere/next"),
        page(1, gapless_state="partial", gapless_why='{"a":1}'),
        (404, b'{"code":"not_found","message":"no route"}', {}),
        (404, b'{"code":404,"message":"nothing here"}', {}),
        (502, b"bad gateway", {}),
        BROKEN,
    ],
)
async def test_many_come_over_tcp_where_http_is_no_hubs(
    kind: str, answer: tuple[int, bytes, Any]
) -> None:
    """A proxy's page, half an answer, fewer records than were told: none of it is taken."""
    async with telling(kind, answer, retries=0) as (hub, paths):
        with cautioned() as told:
            frame = await hub.search_many("p", ["A"])
        assert len(told) == 1
    assert frame["timestamp"].dt.epoch("s").to_list() == [77]
    assert len(paths) == 1


async def test_pages_of_other_kinds_are_not_mixed_up(kind: str) -> None:
    """Each page has the kinds of its own records: a truth value is not to become a number."""

    def of(value: Any, following: str | None = None) -> tuple[int, bytes, Any]:
        body = io.BytesIO()
        pl.DataFrame({"timestamp": [1], "v": [value]}).write_ipc_stream(body)
        status, _, headers = page(1, following)
        return status, body.getvalue(), headers

    async with telling(kind, of(True, "/second"), of(7)) as (hub, _):
        result = await hub.search("p", "A")
    with pytest.raises(gapless.UnexpectedAnswer, match="column 'v' is of other kinds"):
        result.to_polars()
    async with telling(kind, of(7, "/second"), of(None, "/third"), of(0.5)) as (hub, _):
        result = await hub.search("p", "A")
    assert result.to_polars()["v"].to_list() == [7.0, None, 0.5]
