"""What both Python clients do with a hub that is well: asked, answered, refused."""

from __future__ import annotations

from datetime import UTC, date, datetime, timedelta, timezone
from pathlib import Path
from typing import Any

import polars as pl
import pytest

import gapless
from gapless.protocol.messages import PROVIDER_REASONS
from support import asking as asking_module
from support.asking import KINDS, asking
from support.clock import ManualClock
from support.providers import SteadyProvider
from support.strangers import stranger
from support.web import web
from support.wire import IMPATIENT, PATIENT, but

pytestmark = pytest.mark.parametrize("kind", KINDS)

JANUARY = ("2021-01-01", "2021-02-01")
MARCH = "2021-03-01"
DAY_MS = 86_400_000


def midnight(text: str) -> datetime:
    """Return a date's midnight in UTC."""
    return datetime.fromisoformat(text).replace(tzinfo=UTC)


@pytest.mark.share(2)
@pytest.mark.parametrize("form", ["{}", "gapless://{}", "tcp://{}/", " gapless://tok%3A%2Fen@{}"])
async def test_a_hub_is_named_in_several_ways(tmp_path: Path, kind: str, form: str) -> None:
    """By host and port or by an address with a token, which nobody is told again."""
    async with web(tmp_path, SteadyProvider()) as opened:
        address = form.format(f"127.0.0.1:{opened.tcp_port}")
        async with asking(kind, address) as hub:
            assert hub.client.address == f"gapless://127.0.0.1:{opened.tcp_port}"
            assert "tok" not in repr(hub.client)
            info = await hub.ping()
    assert isinstance(info, gapless.HubInfo)
    assert (info.name, info.version) == ("gapless", gapless.__version__)
    assert (info.protocol, info.auth) == (1, False)
    assert info.http == opened.url


async def test_a_hub_is_named_by_the_environment(
    tmp_path: Path, kind: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """`GAPLESS_URL` says where it is and `GAPLESS_TOKEN` what is shown, unless the caller does."""
    shown: list[Any] = []

    async def script(guest: Any, number: int) -> None:
        while True:
            request = await guest.request()
            shown.append(request.get("token"))
            await guest.answer(request, ["a"])

    async with stranger(script) as opened:
        monkeypatch.setenv("GAPLESS_URL", f"gapless://127.0.0.1:{opened.port}")
        async with asking(kind, None) as hub:
            assert await hub.providers() == ["a"]
        monkeypatch.setenv("GAPLESS_TOKEN", "from the environment")
        async with asking(kind, None) as hub:
            await hub.providers()
        monkeypatch.setenv("GAPLESS_URL", f"gapless://from%20url@127.0.0.1:{opened.port}")
        async with asking(kind, None) as hub:
            await hub.providers()
        async with asking(kind, None, token="given") as hub:
            await hub.providers()
            await hub.set_token("set")
            await hub.providers()
            await hub.clear_token()
            await hub.providers()
    assert shown == [None, "from the environment", "from url", "given", "set", None]


async def test_the_providers_are_listed(tmp_path: Path, kind: str) -> None:
    """Sorted, and under both names of the method."""
    async with (
        web(tmp_path, SteadyProvider("b"), SteadyProvider("a")) as opened,
        asking(kind, opened.tcp_port) as hub,
    ):
        assert await hub.providers() == ["a", "b"]
        assert await hub.list_providers() == ["a", "b"]


@pytest.mark.share(4)
@pytest.mark.parametrize(
    ("start", "end"),
    [
        ("2021-01-01", "2021-02-01"),
        ("2021-01-01T00:00:00Z", "2021-02-01T01:00:00+01:00"),
        (date(2021, 1, 1), date(2021, 2, 1)),
        (datetime(2021, 1, 1, tzinfo=UTC), datetime(2021, 2, 1, tzinfo=UTC)),
        (
            datetime(2021, 1, 1, 2, tzinfo=timezone(timedelta(hours=2))),
            datetime(2021, 1, 31, 23, 59, 59, 999_999, tzinfo=UTC),
        ),
        # A midnight without a zone is a date, as pandas and Excel have them.
        (datetime(2021, 1, 1), date(2021, 2, 1)),  # noqa: DTZ001
    ],
)
async def test_bounds_are_texts_dates_and_instants(
    tmp_path: Path, kind: str, start: Any, end: Any
) -> None:
    """However a range is written, the records are those of that range."""
    steady = SteadyProvider()
    async with web(tmp_path, steady) as opened, asking(kind, opened.tcp_port) as hub:
        result = await hub.search("steady", "A", start, end)
    assert result.records == steady.rows("A", *JANUARY)
    assert result.start == midnight("2021-01-01")


async def test_a_time_without_a_zone_is_refused(tmp_path: Path, kind: str) -> None:
    """It could be any of two dozen instants; the message says what to do, and nothing is asked."""
    naive = datetime(2021, 1, 1, 9, 30)  # noqa: DTZ001
    steady = SteadyProvider()
    async with web(tmp_path, steady) as opened, asking(kind, opened.tcp_port) as hub:
        with pytest.raises(gapless.InvalidQuery, match=r"start=.* has no time zone"):
            await hub.search("steady", "A", naive, "2021-02-01")
        with pytest.raises(gapless.InvalidQuery, match=r"end=7"):
            await hub.search("steady", "A", "2021-01-01", 7)
    assert steady.calls == []


async def test_a_range_can_be_open(tmp_path: Path, kind: str) -> None:
    """Without bounds it is the last 30 days, without an end it is up to now."""
    clock = ManualClock(round(midnight("2021-03-01").timestamp() * 1000))
    async with (
        web(tmp_path, SteadyProvider(), clock=clock) as opened,
        asking(kind, opened.tcp_port) as hub,
    ):
        assert len(await hub.search("steady", "A")) == 30
        assert len(await hub.search("steady", "A", "2021-02-01")) == 28
        assert (await hub.search("steady", "A", None, "2020-01-08")).start == midnight("2020-01-01")


async def test_parameters_are_keywords(tmp_path: Path, kind: str) -> None:
    """They go to the provider, `None` is its default, and what it does not know is refused."""
    async with web(tmp_path, SteadyProvider()) as opened, asking(kind, opened.tcp_port) as hub:
        result = await hub.search("steady", "A", *JANUARY, side="right")
        assert result.id.startswith("steady:A?side=right:")
        assert "side=right" in result.tags
        plain = await hub.search("steady", "A", *JANUARY, side=None)
        assert plain.id.startswith("steady:A:")
        for wrong in ({"side": "up"}, {"colour": "red"}, {"side": ["left"]}, {"side": 1e999}):
            with pytest.raises(gapless.InvalidQuery):
                await hub.search("steady", "A", *JANUARY, **wrong)


async def test_a_result_tells_all(tmp_path: Path, kind: str) -> None:
    """What it is, what it holds, and how it was put together."""
    steady = SteadyProvider()
    async with web(tmp_path, steady) as opened, asking(kind, opened.tcp_port) as hub:
        await hub.search("steady", "A", *JANUARY)
        result = await hub.search("steady", "A", "2021-01-01", MARCH)
        again = await hub.search("steady", "A", "2021-01-01", MARCH)
    rows = steady.rows("A", "2021-01-01", MARCH)
    assert result.id == "steady:A:2021-01-01T00:00:00Z..2021-03-01T00:00:00Z"
    assert (result.source, result.ticker, result.state) == ("steady", "A", "ready")
    assert (result.start, result.end) == (midnight("2021-01-01"), midnight(MARCH))
    assert (result.records, result.data, list(result), len(result)) == (rows, rows, rows, 59)
    assert len(result.etag) == 16
    assert result.etag == again.etag
    assert result.last_error == ""
    assert result.refresh_after is None
    assert abs(result.fetched_at - datetime.now(UTC)) < timedelta(minutes=5)
    assert result.updated_at.tzinfo is UTC
    january = gapless.Span(midnight(JANUARY[0]), midnight(JANUARY[1]))
    february = gapless.Span(midnight(JANUARY[1]), midnight(MARCH))
    assert result.stitch == gapless.Stitch((january,), (february,), (), 1, "ready")
    whole = gapless.Span(january.start, february.end)
    assert again.stitch == gapless.Stitch((whole,), (), (), 0, "ready")
    assert result.stitch.asked == again.stitch.asked == whole
    assert repr(result) == (
        f"<gapless.Result {result.id} ready: 59 records; "
        "cached 2021-01-01..2021-02-01; fetched 2021-02-01..2021-03-01>"
    )


async def test_an_answer_without_records_is_one(tmp_path: Path, kind: str) -> None:
    """It counts as true, and every form of it is empty."""
    async with web(tmp_path, SteadyProvider()) as opened, asking(kind, opened.tcp_port) as hub:
        bounds = ("2021-01-01T06:00:00Z", "2021-01-01T07:00:00Z")
        result = await hub.search("steady", "A", *bounds)
    assert bool(result) is True
    assert (len(result), result.records, result.state) == (0, [], "ready")
    instants = pl.Datetime("us", "UTC")
    assert result.to_polars().schema == {"timestamp": instants, "date": pl.Date}
    assert result.to_polars().height == 0
    assert result.to_pandas().empty
    assert result.to_arrow().num_rows == 0
    assert pl.DataFrame(result).height == 0
    assert "0 records" in repr(result)
    assert "<div" in result._repr_html_()


async def test_what_is_partial_warns_where_it_was_asked(tmp_path: Path, kind: str) -> None:
    """The warning says what is missing and why, and points at the caller's own line."""
    steady = SteadyProvider()
    async with (
        web(tmp_path, steady, settings=IMPATIENT) as opened,
        asking(kind, opened.tcp_port) as hub,
    ):
        await hub.search("steady", "A", *JANUARY)
        steady.failures["2021-02-01T00:00:00Z"] = gapless.UpstreamRejected("none of <that>")
        with pytest.warns(gapless.NotReadyWarning, match=r"incomplete: .*missing: 2021-02") as told:
            result = await hub.search("steady", "A", "2021-01-01", MARCH)
        assert [one.filename for one in told] == [asking_module.__file__]
        with pytest.raises(gapless.UpstreamRejected, match="none of <that>"):
            await hub.search("steady", "A", "2021-01-01", MARCH, strict=True)
    assert result.state == "partial"
    assert result.records == steady.rows("A", *JANUARY)
    (missing,) = result.stitch.missing
    assert missing == (midnight("2021-02-01"), midnight(MARCH))
    (why,) = result.stitch.why
    assert (why.span, why.reason) == (missing, "upstream_rejected")
    assert "none of <that>" in result.last_error
    assert "<that>" not in result._repr_html_()
    assert "&lt;that&gt;" in result._repr_html_()


async def test_what_is_stale_warns_too(tmp_path: Path, kind: str) -> None:
    """It is older than it should be, and complete."""
    clock = ManualClock(round(midnight("2021-02-01").timestamp() * 1000))
    steady = SteadyProvider(tail_ms=3 * DAY_MS, due_in_ms=60_000)
    async with (
        web(tmp_path, steady, settings=IMPATIENT, clock=clock) as opened,
        asking(kind, opened.tcp_port) as hub,
    ):
        fresh = await hub.search("steady", "A", *JANUARY)
        assert fresh.refresh_after == midnight("2021-02-01") + timedelta(minutes=1)
        clock.advance(3_600)
        steady.failures["A"] = gapless.UpstreamUnavailable("it is down")
        with pytest.warns(gapless.NotReadyWarning, match="may be out of date: .*down") as told:
            result = await hub.search("steady", "A", *JANUARY)
    assert [one.filename for one in told] == [asking_module.__file__]
    assert result.state == "stale"
    assert result.records == fresh.records
    assert result.stitch.missing == ()


async def test_an_entity_that_is_not_ready_warns(tmp_path: Path, kind: str) -> None:
    """What is stored as stale is answered as that, and `get` says so as `search` does."""
    body = {"source": "steady", "tags": [], "data": [{"timestamp": 1}], "state": "stale"}
    async with web(tmp_path, SteadyProvider()) as opened, asking(kind, opened.tcp_port) as hub:
        await hub.fetch("PUT", "/v1/entities/note", body)
        with pytest.warns(gapless.NotReadyWarning, match="note may be out of date") as told:
            assert (await hub.get("steady", "note")).state == "stale"
    assert [one.filename for one in told] == [asking_module.__file__]


async def test_errors_of_requests_have_types(tmp_path: Path, kind: str) -> None:
    """Each code that a hub answers with is raised as its own kind, with the hub's words."""
    steady = SteadyProvider()
    async with (
        web(
            tmp_path,
            steady,
            settings=but(IMPATIENT, limits={"max_records": 20, "max_line_bytes": 4_096}),
        ) as opened,
        asking(kind, opened.tcp_port, http=False) as hub,
    ):
        with pytest.raises(gapless.ProviderNotFound, match="nobody"):
            await hub.search("nobody", "A", *JANUARY)
        with pytest.raises(gapless.InvalidQuery):
            await hub.search("steady", "A", "2021-02-01", "2021-01-01")
        with pytest.raises(gapless.InvalidQuery):
            await hub.search("steady", "A", "yesterday-ish", "")
        with pytest.raises(gapless.NotFound):
            await hub.get_many("steady", ["steady:none"])
        with pytest.raises(gapless.Unsupported):
            await hub.report("steady", "https://example.com")
        with pytest.raises(gapless.TooLarge):
            await hub.send_line(f"provider steady search ticker=A date={'..'.join(JANUARY)}")
        with pytest.raises(gapless.InvalidEnvelope, match="id"):
            await hub.get("steady", 7)
        with pytest.raises(gapless.LineTooLong, match=r"4,?096"):
            await hub.get_many("steady", ["x" * 90] * 60)
        # None of that has spoilt anything.
        assert len(await hub.search("steady", "A", "2021-01-01", "2021-01-11")) == 10


@pytest.mark.share(5)
@pytest.mark.parametrize("reason", PROVIDER_REASONS)
async def test_errors_of_providers_have_types(tmp_path: Path, kind: str, reason: str) -> None:
    """Each reason is raised as its own kind, which is a `ProviderError`."""
    steady = SteadyProvider()
    cause = PROVIDER_REASONS[reason]
    steady.failures["A"] = cause("it says so", retry_after_s=7)
    async with (
        web(tmp_path, steady, settings=IMPATIENT) as opened,
        asking(kind, opened.tcp_port) as hub,
    ):
        with pytest.raises(gapless.ProviderError, match="it says so") as raised:
            await hub.search("steady", "A", *JANUARY)
    assert type(raised.value) is cause
    assert raised.value.reason == reason
    if cause is gapless.RateLimited:
        assert raised.value.retry_after_s == 7


@pytest.mark.share(2)
@pytest.mark.parametrize("ticker", ["", None, 7, "\ud800"])
async def test_a_ticker_that_is_none(tmp_path: Path, kind: str, ticker: Any) -> None:
    """It is refused before anything is sent, and the client is as good as before."""
    async with web(tmp_path, SteadyProvider()) as opened, asking(kind, opened.tcp_port) as hub:
        with pytest.raises(gapless.InvalidQuery):
            await hub.search("steady", ticker, *JANUARY)
        assert len(await hub.search("steady", "A", *JANUARY)) == 31


async def test_entities_are_got_listed_and_found(tmp_path: Path, kind: str) -> None:
    """By id, by many ids, all there are, and by what holds for them."""
    steady = SteadyProvider()
    body = {
        "source": "steady",
        "tags": ["colour=red"],
        "data": [{"timestamp": 1}],
        "updated_at": "2022-01-01T00:00:00Z",
    }
    ids = [f"note {number:03d}" for number in range(5)]
    async with web(tmp_path, steady) as opened, asking(kind, opened.tcp_port) as hub:
        for number, one in enumerate(ids):
            tags = ["colour=red"] if number % 2 else ["colour=blue"]
            await hub.fetch(
                "PUT", f"/v1/entities/{one.replace(' ', '%20')}", {**body, "tags": tags}
            )
        found = await hub.get("steady", ids[0])
        assert (found.id, found.records, found.stitch) == (ids[0], [{"timestamp": 1}], None)
        assert found.ticker is None
        assert repr(found) == "<gapless.Result note 000 ready>"
        many = await hub.get_many("steady", [ids[3], "absent", ids[1]])
        assert [one.id for one in many] == [ids[3], ids[1]]
        with pytest.raises(gapless.InvalidQuery, match="list of ids"):
            await hub.get_many("steady", ids[0])
        assert [one.id for one in await hub.entities("steady")] == ids
        assert [one.id for one in await hub.entities("steady", limit=2, offset=1)] == ids[1:3]
        assert await hub.entities("steady", limit=0) == []
        assert [one.id for one in await hub.entities("steady", offset=4)] == ids[4:]
        red = await hub.find("steady", tags=["colour=red"])
        assert [one.id for one in red] == ids[1::2]
        assert [one.id for one in await hub.find("steady", id=ids[2])] == [ids[2]]
        assert len(await hub.find("steady", source="steady", state="ready", limit=2)) == 2
        assert await hub.find("steady", updated=("2010-01-01", "2011-01-01")) == []
        assert len(await hub.find("steady", updated=(date(2020, 1, 1), None))) == 5
        with pytest.raises(gapless.InvalidQuery, match="say what to find"):
            await hub.find("steady")
        with pytest.raises(gapless.InvalidQuery, match="list of tags"):
            await hub.find("steady", tags="colour=red")


async def test_long_listings_come_page_by_page(tmp_path: Path, kind: str) -> None:
    """The hub cuts pages where it likes; the client goes on until there is no more."""
    async with (
        web(
            tmp_path, SteadyProvider(), settings=but(PATIENT, limits={"max_listing_bytes": 2_000})
        ) as opened,
        asking(kind, opened.tcp_port) as hub,
    ):
        ids = [f"note {number:03d}" for number in range(8)]
        for one in ids:
            body = {"source": "steady", "tags": [], "data": [{"text": "x" * 500}]}
            await hub.fetch("PUT", f"/v1/entities/{one.replace(' ', '%20')}", body)
        assert [one.id for one in await hub.entities("steady")] == ids
        assert [one.id for one in await hub.entities("steady", limit=7)] == ids[:7]


async def test_lines_of_the_query_language(tmp_path: Path, kind: str) -> None:
    """The whole answer comes back as the wire has it; a wrong line is marked where it is wrong."""
    async with web(tmp_path, SteadyProvider()) as opened, asking(kind, opened.tcp_port) as hub:
        line = "steady search ticker=A date=2021-01-01..2021-02-01"
        answer = await hub.send_line(f"provider {line}")
        assert answer["ok"] is True
        assert answer["request_kind"] == "SearchEntities"
        (entity,) = answer["result"]
        assert entity["data"].startswith('[{"timestamp":1609459200,')
        assert (await hub.provider(line))["stitch"]["state"] == "ready"
        assert (await hub.provider(f"provider {line}"))["stitch"]["cached"]
        assert (await hub.send_line("providers"))["result"] == ["steady"]
        with pytest.raises(gapless.InvalidQuery) as raised:
            await hub.send_line("provider steady serch ticker=A")
        assert "^" in raised.value.message
        with pytest.raises(gapless.NotFound):
            await hub.send_line("provider steady get-many a,b")


async def test_what_only_http_has(tmp_path: Path, kind: str) -> None:
    """`fetch` asks the HTTP door: JSON in, JSON out, problems as errors of the same kinds."""
    async with web(tmp_path, SteadyProvider()) as opened, asking(kind, opened.tcp_port) as hub:
        assert hub.client.http is None
        assert (await hub.fetch("GET", "/providers"))["providers"] == ["steady"]
        assert hub.client.http == opened.url
        assert await hub.fetch("HEAD", "/v1/data/steady/A?start=2021-01-01") is None
        plan = {"provider": "steady", "ticker": "B", "start": JANUARY[0], "end": JANUARY[1]}
        assert (await hub.fetch("POST", "/v1/plan", plan))["gaps"]
        with pytest.raises(gapless.ProviderNotFound):
            await hub.fetch("GET", "/v1/coverage/nobody/A")
        with pytest.raises(gapless.InvalidQuery, match="is no path"):
            await hub.fetch("GET", "/v1/series?q=a b")
        with pytest.raises(gapless.InvalidQuery, match="JSON"):
            await hub.fetch("POST", "/v1/plan", {"a": object()})
        with pytest.raises(gapless.InvalidQuery, match="method"):
            await hub.fetch("GET /healthz HTTP/1.1\r\nx:", "/")
        assert await hub.fetch("GET", "/healthz") is not None
    async with web(tmp_path) as opened, asking(kind, opened.tcp_port, http=False) as hub:
        with pytest.raises(gapless.Unreachable, match="http=False was given"):
            await hub.fetch("GET", "/healthz")
