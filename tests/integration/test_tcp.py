"""What is asked and answered over TCP, to the letter of docs/protocol.md, over real sockets."""

from __future__ import annotations

import json
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest

from gapless import __version__
from gapless.app import running_hub
from gapless.config import LimitSettings, Settings, YahooSettings
from gapless.errors import (
    BadPluginReply,
    BadUpstreamReply,
    DatabaseInUse,
    OutOfWindow,
    ProviderError,
    RateLimited,
    UnknownTicker,
    UpstreamRejected,
    UpstreamUnavailable,
    UpstreamUnreachable,
)
from gapless.providers.sample import SampleProvider
from support.providers import SteadyProvider
from support.wire import IMPATIENT, but, connect, door, line_of, records, request, search

ENTITY_KEYS = [
    "id",
    "source",
    "tags",
    "data",
    "etag",
    "fetched_at",
    "refresh_after",
    "updated_at",
    "state",
    "last_error",
]
JANUARY = ("2021-01-01", "2021-02-01")
JANUARY_PAIR = ["2021-01-01T00:00:00Z", "2021-02-01T00:00:00Z"]
PING = {"type": "Ping"}


def files(folder: Path) -> set[str]:
    """Return the names of what lies in a folder."""
    return {file.name for file in folder.iterdir()}


def sample_only(db: Path) -> Settings:
    """Return the settings of a hub without Yahoo."""
    return Settings(db=str(db), tcp="127.0.0.1:0", yahoo=YahooSettings(enabled=False))


def settings(folder: Path, **limits: Any) -> Settings:
    """Return the settings of a hub that has the sample alone."""
    return Settings(
        db=str(folder / "hub.db"),
        tcp="127.0.0.1:0",
        http="off",
        yahoo=YahooSettings(enabled=False),
        limits=LimitSettings(**limits),
    )


def second(at: datetime) -> str:
    """Return an instant as the wire writes it."""
    return at.strftime("%Y-%m-%dT%H:%M:%SZ")


# Every request type


async def test_ping_says_who_answers_and_with_which_limits(tmp_path: Path) -> None:
    """Ping names the program, its version, the protocol, and every limit a client may meet."""
    async with running_hub(settings(tmp_path)) as running, await connect(running.port) as wire:
        answer = await wire.ask(PING)
    assert (answer["ok"], answer["kind"], answer["error"]) == (True, "Ping", None)
    assert answer["provider"] is None
    assert answer["request_kind"] is None
    limits = answer["result"].pop("limits")
    assert len(answer["result"].pop("instance")) == 32
    assert answer["result"] == {
        "name": "gapless",
        "version": __version__,
        "protocol": 1,
        "http": None,
        "auth": False,
    }
    assert limits["max_line_bytes"] == 1 << 20
    assert limits["max_records"] == 1_000_000


async def test_the_list_of_providers_is_sorted(tmp_path: Path) -> None:
    """ProviderList answers with the names alone, sorted, with or without a payload."""
    async with (
        door(tmp_path, SteadyProvider("zoo"), SteadyProvider("aal")) as at,
        at.client() as wire,
    ):
        plain = await wire.ask({"type": "ProviderList"})
        with_null = await wire.ask({"type": "ProviderList", "payload": None})
    assert plain["kind"] == "ProviderList"
    assert plain["result"] == with_null["result"] == ["aal", "zoo"]


async def test_auth_without_authentication_is_answered(tmp_path: Path) -> None:
    """Auth on a hub without authentication says as whom one counts."""
    async with door(tmp_path) as at, at.client() as wire:
        answer = await wire.ask({"type": "Auth"}, token="whatever")
    assert (answer["ok"], answer["kind"]) == (True, "Auth")


async def test_a_range_search_is_one_stitched_entity(tmp_path: Path) -> None:
    """A search with a ticker answers one entity with exactly the documented keys, and a stitch."""
    steady = SteadyProvider()
    async with door(tmp_path, steady) as at, at.client() as wire:
        answer = await wire.ask(search("steady", "abc", *JANUARY))
    assert list(answer)[8:] == ["stitch"]
    assert answer["stitch"] == {
        "cached": [],
        "fetched": [JANUARY_PAIR],
        "missing": [],
        "upstream_requests": 1,
        "state": "ready",
    }
    (entity,) = answer["result"]
    assert list(entity) == ENTITY_KEYS
    assert all(isinstance(value, str) for value in entity.values())
    assert entity["id"] == "steady:ABC:2021-01-01T00:00:00Z..2021-02-01T00:00:00Z"
    assert json.loads(entity["tags"]) == [
        "ticker=ABC",
        "from=2021-01-01T00:00:00Z",
        "to=2021-02-01T00:00:00Z",
    ]
    assert (entity["source"], entity["state"], entity["last_error"]) == ("steady", "ready", "")
    assert entity["refresh_after"] == ""
    assert len(entity["etag"]) == 16
    assert json.loads(entity["data"]) == steady.rows("ABC", *JANUARY)


async def test_no_entities_are_wanted_whether_they_are_held_or_not(tmp_path: Path) -> None:
    """A limit of 0 is heeded the same, and costs nothing upstream."""
    steady = SteadyProvider()
    line = "provider steady search ticker=ABC date={}..{} limit=0".format(*JANUARY)
    async with door(tmp_path, steady) as at, at.client() as wire:
        cold = await wire.ask({"type": "Line", "payload": {"line": line}})
        assert not steady.calls
        await wire.ask(search("steady", "ABC", *JANUARY))
        held = await wire.ask({"type": "Line", "payload": {"line": line}})
    assert cold["result"] == held["result"] == []


async def test_only_what_is_missing_goes_upstream(tmp_path: Path) -> None:
    """A wider range asks upstream for its gaps alone, and says which part came from where."""
    steady = SteadyProvider()
    wider = ("2020-12-15", "2021-02-15")
    async with door(tmp_path, steady) as at, at.client() as wire:
        await wire.ask(search("steady", "ABC", *JANUARY))
        answer = await wire.ask(search("steady", "ABC", *wider))
        again = await wire.ask(search("steady", "ABC", *wider))
    assert answer["stitch"]["cached"] == [JANUARY_PAIR]
    assert answer["stitch"]["fetched"] == [
        ["2020-12-15T00:00:00Z", JANUARY_PAIR[0]],
        [JANUARY_PAIR[1], "2021-02-15T00:00:00Z"],
    ]
    assert answer["stitch"]["upstream_requests"] == 2
    assert records(answer) == records(again) == steady.rows("ABC", *wider)
    assert again["stitch"]["upstream_requests"] == 0
    assert again["result"][0]["etag"] == answer["result"][0]["etag"]
    assert len(steady.calls) == 3


async def test_a_parameter_makes_a_series_of_its_own(tmp_path: Path) -> None:
    """A parameter that is not at its default is part of the id and the tags."""
    async with door(tmp_path, SteadyProvider()) as at, at.client() as wire:
        right = await wire.ask(search("steady", "ABC", *JANUARY, side="right"))
        left = await wire.ask(search("steady", "ABC", *JANUARY, side="left"))
    assert right["result"][0]["id"].startswith("steady:ABC?side=right:2021-01-01T00:00:00Z..")
    assert json.loads(right["result"][0]["tags"])[-1] == "side=right"
    assert left["result"][0]["id"].startswith("steady:ABC:2021-")
    assert left["stitch"]["upstream_requests"] == 1


async def test_an_entity_by_id_is_a_view_of_what_is_held(tmp_path: Path) -> None:
    """GetEntity answers any sub-range that is wholly held, by the id it would have."""
    steady = SteadyProvider()
    inner = "steady:ABC:2021-01-10T00:00:00Z..2021-01-20T00:00:00Z"
    async with door(tmp_path, steady) as at, at.client() as wire:
        await wire.ask(search("steady", "ABC", *JANUARY))
        view = await wire.ask(request("steady", "GetEntity", id=inner))
        stored = await wire.ask(
            request(
                "steady", "GetEntity", id="steady:ABC:2021-01-01T00:00:00Z..2021-02-01T00:00:00Z"
            )
        )
        beyond = await wire.ask(
            request(
                "steady", "GetEntity", id="steady:ABC:2021-01-10T00:00:00Z..2021-03-01T00:00:00Z"
            )
        )
    assert view["request_kind"] == "GetEntity"
    assert view["result"][0]["id"] == inner
    assert records(view) == steady.rows("ABC", "2021-01-10", "2021-01-20")
    assert records(stored) == steady.rows("ABC", *JANUARY)
    assert (beyond["ok"], beyond["error"]["code"]) == (False, "not_found")
    assert len(steady.calls) == 1


async def test_an_unknown_id_of_a_ranged_provider_is_a_ticker(tmp_path: Path) -> None:
    """GetEntity of what is no id asks for that ticker's last 30 days."""
    steady = SteadyProvider()
    async with door(tmp_path, steady) as at, at.client() as wire:
        answer = await wire.ask(request("steady", "GetEntity", id="ABC"))
        whole = await wire.ask(search("steady", "ABC"))
    ((start, end),) = answer["stitch"]["fetched"]
    length = datetime.fromisoformat(end) - datetime.fromisoformat(start)
    assert length == timedelta(days=30)
    assert abs(datetime.fromisoformat(end) - datetime.now(UTC)) < timedelta(minutes=1)
    assert records(whole) == records(answer)


async def test_entities_by_id_come_in_the_order_asked(tmp_path: Path) -> None:
    """GetEntities answers those that are held, in the order asked, views among them."""
    steady = SteadyProvider()
    stored = "steady:ABC:2021-01-01T00:00:00Z..2021-02-01T00:00:00Z"
    view = "steady:XYZ:2021-01-02T00:00:00Z..2021-01-03T00:00:00Z"
    async with door(tmp_path, steady) as at, at.client() as wire:
        for ticker in ("ABC", "XYZ"):
            await wire.ask(search("steady", ticker, *JANUARY))
        answer = await wire.ask(request("steady", "GetEntities", ids=[view, "none", stored]))
        nothing = await wire.ask(request("steady", "GetEntities", ids=["none", "at all"]))
        empty = await wire.ask(request("steady", "GetEntities", ids=[]))
    assert [one["id"] for one in answer["result"]] == [view, stored]
    assert "stitch" not in answer
    assert nothing["error"]["code"] == empty["error"]["code"] == "not_found"


async def test_all_entities_are_paged_to_their_end(tmp_path: Path) -> None:
    """GetAllEntities goes through everything once, by next_offset, in the order of the ids."""
    tickers = ["AA", "BB", "CC", "DD", "EE"]
    async with door(tmp_path, SteadyProvider()) as at, at.client() as wire:
        for ticker in reversed(tickers):
            await wire.ask(search("steady", ticker, *JANUARY))
        seen: list[str] = []
        offset: int | None = None
        pages = 0
        while True:
            answer = await wire.ask(request("steady", "GetAllEntities", limit=2, offset=offset))
            seen += [one["id"].split(":")[1] for one in answer["result"]]
            pages += 1
            offset = answer.get("next_offset")
            if offset is None:
                break
            assert offset == len(seen)
        everything = await wire.ask(request("steady", "GetAllEntities", limit=None, offset=None))
        nothing = await wire.ask(request("steady", "GetAllEntities", limit=0, offset=0))
        beyond = await wire.ask(request("steady", "GetAllEntities", limit=None, offset=99))
    assert (seen, pages) == (tickers, 3)
    assert len(everything["result"]) == 5
    assert "next_offset" not in everything
    assert nothing["result"] == beyond["result"] == []


async def test_a_listing_stops_at_its_size(tmp_path: Path) -> None:
    """A listing that grows too large stops, says where to go on, and always has at least one."""
    settings = but(IMPATIENT, limits={"max_listing_bytes": 10_000})
    async with (
        door(tmp_path, SteadyProvider(padding=200), settings=settings) as at,
        at.client() as wire,
    ):
        for ticker in ("AA", "BB", "CC"):
            await wire.ask(search("steady", ticker, *JANUARY))
        first = await wire.ask(request("steady", "GetAllEntities"))
        last = await wire.ask(request("steady", "GetAllEntities", offset=2))
    assert (len(first["result"]), first["next_offset"]) == (1, 1)
    assert len(last["result"]) == 1
    assert "next_offset" not in last


@pytest.mark.parametrize(
    ("filters", "found"),
    [
        ([{"BySource": "steady"}], ["AA", "BB"]),
        ([{"BySource": "sample"}], []),
        ([{"ByState": "ready"}], ["AA", "BB"]),
        ([{"ByState": "stale"}], []),
        ([{"ByTags": ["ticker=BB"]}], ["BB"]),
        ([{"ByTags": ["ticker=BB", "from=2021-01-01T00:00:00Z"]}], ["BB"]),
        ([{"ByTags": ["ticker=BB", "ticker=AA"]}], []),
        ([{"ById": "steady:AA:2021-01-01T00:00:00Z..2021-02-01T00:00:00Z"}], ["AA"]),
        ([{"ByUpdatedAtRange": {"start": "-1h", "end": ""}}, {"ByState": "ready"}], ["AA", "BB"]),
        ([{"ByUpdatedAtRange": {"start": "2001-01-01", "end": "2002-01-01"}}], []),
        ([{"ByUrl": "http://nowhere"}], []),
        ([], ["AA", "BB"]),
    ],
)
async def test_a_search_without_a_ticker_filters_what_is_stored(
    tmp_path: Path, filters: list[dict[str, Any]], found: list[str]
) -> None:
    """Without a ticker nothing goes upstream, and all filters must match."""
    steady = SteadyProvider()
    async with door(tmp_path, steady, SteadyProvider("other")) as at, at.client() as wire:
        for ticker in ("AA", "BB"):
            await wire.ask(search("steady", ticker, *JANUARY))
        await wire.ask(search("other", "CC", *JANUARY))
        answer = await wire.ask(request("steady", "SearchEntities", query=filters))
        one = await wire.ask(request("steady", "SearchEntities", query=filters, limit=1))
    assert [entity["id"].split(":")[1] for entity in answer["result"]] == found
    assert len(one["result"]) == min(1, len(found))
    assert len(steady.calls) == 2


@pytest.mark.parametrize("as_array", [False, True])
async def test_data_comes_as_text_or_as_an_array(tmp_path: Path, as_array: bool) -> None:
    """With data_as array the same records and tags come unescaped, everywhere."""
    steady = SteadyProvider()
    form = {"data_as": "array"} if as_array else {"data_as": "string"}
    stored = "steady:ABC:2021-01-01T00:00:00Z..2021-02-01T00:00:00Z"
    async with door(tmp_path, steady) as at, at.client() as wire:
        queries = [search("steady", "ABC", *JANUARY)] * 3
        queries.append(request("steady", "GetEntity", id=stored))
        queries.append(request("steady", "GetAllEntities"))
        answers = [await wire.ask(query, **form) for query in queries]
    for answer in answers:
        (entity,) = answer["result"]
        kind = list if as_array else str
        assert (type(entity["data"]), type(entity["tags"])) == (kind, kind)
        assert records(answer) == steady.rows("ABC", *JANUARY)


async def test_lines_of_the_query_language_are_requests(tmp_path: Path) -> None:
    """A Line is answered as the request it spells."""
    async with door(tmp_path, SampleProvider()) as at, at.client() as wire:

        async def ask(line: str) -> dict[str, Any]:
            return await wire.ask({"type": "Line", "payload": {"line": line}})

        listed = await ask("providers")
        found = await ask("PROVIDER sample SEARCH Ticker=aapl date=2012-01-01..2012-02-01")
        again = await ask("provider sample search ticker=AAPL date=2012-01-01..2012-02-01")
        wrong = await ask("provider sample serach ticker=AAPL")
        param = await ask("provider sample search ticker=AAPL side=left")
    assert (listed["kind"], listed["result"]) == ("ProviderList", ["sample"])
    assert found["result"][0]["id"] == "sample:AAPL:2012-01-01T00:00:00Z..2012-02-01T00:00:00Z"
    assert len(records(found)) == 20
    assert (found["kind"], found["request_kind"]) == ("ProviderRequest", "SearchEntities")
    assert again["stitch"]["upstream_requests"] == 0
    assert (wrong["kind"], wrong["error"]["code"]) == ("ProviderRequest", "invalid_query")
    assert "serach" in wrong["error"]["message"]
    assert "^" in wrong["error"]["message"]
    assert param["error"]["code"] == "invalid_query"
    assert "interval" in param["error"]["message"]


# Ranges


async def test_the_default_window_ends_with_the_data(tmp_path: Path) -> None:
    """Without a range a search covers the last 30 days before the end of the sample's data."""
    async with running_hub(settings(tmp_path)) as running, await connect(running.port) as wire:
        answer = await wire.ask(search("sample", "AAPL"))
    assert answer["stitch"]["fetched"] == [["2013-01-31T00:00:00Z", "2013-03-02T00:00:00Z"]]
    assert len(records(answer)) == 21


async def test_a_range_ahead_is_empty_and_whole(tmp_path: Path) -> None:
    """What lies in the future is neither fetched nor missing."""
    steady = SteadyProvider()
    async with door(tmp_path, steady) as at, at.client() as wire:
        answer = await wire.ask(search("steady", "ABC", "2090-01-01", "2091-01-01"))
    assert (records(answer), answer["result"][0]["state"]) == ([], "ready")
    stitch = answer["stitch"]
    assert (stitch["cached"], stitch["fetched"], stitch["missing"]) == ([], [], [])
    assert steady.calls == []


async def test_a_range_across_now_ends_now(tmp_path: Path) -> None:
    """Of a range that straddles now the part up to now is answered, to the second."""
    steady = SteadyProvider(step=3_600_000)
    before = datetime.now(UTC) - timedelta(days=2)
    async with door(tmp_path, steady) as at, at.client() as wire:
        answer = await wire.ask(search("steady", "ABC", second(before), "2090-01-01"))
    ((start, end),) = answer["stitch"]["fetched"]
    assert start == second(before)
    assert abs(datetime.fromisoformat(end) - datetime.now(UTC)) < timedelta(minutes=1)
    assert answer["result"][0]["id"].endswith(f"..{end}")
    assert records(answer) == steady.rows("ABC", start, end)


async def test_nothing_is_asked_outside_of_the_data(tmp_path: Path) -> None:
    """Before the beginning and after the end of a provider's data all is known to be empty."""
    async with door(tmp_path, SampleProvider()) as at, at.client() as wire:
        for range_ in (("1990-01-01", "1991-01-01"), ("2015-01-01", "2016-01-01")):
            answer = await wire.ask(search("sample", "AAPL", *range_))
            assert (records(answer), answer["stitch"]["upstream_requests"]) == ([], 0)
            assert answer["result"][0]["state"] == "ready"
        across = await wire.ask(search("sample", "AAPL", "2013-02-25", "2014-01-01"))
    assert across["stitch"]["fetched"] == [["2013-02-25T00:00:00Z", "2013-03-02T00:00:00Z"]]
    assert across["stitch"]["cached"] == [["2013-03-02T00:00:00Z", "2014-01-01T00:00:00Z"]]


@pytest.mark.parametrize(
    ("start", "end"),
    [
        ("2021-01-01", "2021-02-01"),
        ("2021-01-01T00:00:00Z", "2021-02-01T00:00:00.000Z"),
        ("2021-01-01T05:30:00+05:30", "2021-01-31T16:00:00-08:00"),
    ],
)
async def test_every_spelling_of_a_bound_is_one_range(tmp_path: Path, start: str, end: str) -> None:
    """Dates and instants with any offset mean the same range."""
    async with door(tmp_path, SteadyProvider()) as at, at.client() as wire:
        answer = await wire.ask(search("steady", "ABC", start, end))
    assert answer["stitch"]["fetched"] == [JANUARY_PAIR]


async def test_relative_bounds_are_read_against_now(tmp_path: Path) -> None:
    """A negative duration, now and an empty bound mean what they say."""
    async with door(tmp_path, SteadyProvider()) as at, at.client() as wire:
        recent = await wire.ask(search("steady", "ABC", "-48h", "-1d"))
        ((start, end),) = recent["stitch"]["fetched"]
        whole = await wire.ask(search("steady", "XYZ", "", "now"))
    assert datetime.fromisoformat(end) - datetime.fromisoformat(start) == timedelta(days=1)
    assert whole["stitch"]["fetched"][0][0] == "2020-01-01T00:00:00Z"


# Partial, stale, failed


async def test_a_gap_that_fails_leaves_the_rest(tmp_path: Path) -> None:
    """A partial answer says which range is missing and why; strict makes an error of it."""
    steady = SteadyProvider()
    wider = search("steady", "ABC", "2021-01-01", "2021-03-01")
    async with door(tmp_path, steady) as at, at.client() as wire:
        await wire.ask(search("steady", "ABC", *JANUARY))
        steady.failures["ABC"] = UpstreamRejected("not today")
        partial = await wire.ask(wider)
        strict = await wire.ask(wider, strict=True)
        held = await wire.ask(search("steady", "ABC", *JANUARY), strict=True)
        nothing = await wire.ask(search("steady", "ABC", "2022-01-01", "2022-02-01"))
        del steady.failures["ABC"]
        healed = await wire.ask(wider, strict=True)
    assert (partial["ok"], partial["result"][0]["state"]) == (True, "partial")
    assert records(partial) == steady.rows("ABC", *JANUARY)
    missing = [JANUARY_PAIR[1], "2021-03-01T00:00:00Z"]
    assert partial["stitch"]["missing"] == [missing]
    assert partial["stitch"]["why"] == [
        {
            "from": missing[0],
            "to": missing[1],
            "reason": "upstream_rejected",
            "message": "not today",
        }
    ]
    assert partial["result"][0]["last_error"] == "not today"
    assert strict["error"]["code"] == "provider_request_failed"
    assert strict["error"]["reason"] == "upstream_rejected"
    assert strict["result"] is None
    assert held["ok"]
    assert nothing["error"]["reason"] == "upstream_rejected"
    assert healed["ok"]
    assert records(healed) == steady.rows("ABC", "2021-01-01", "2021-03-01")


async def test_a_due_tail_that_cannot_be_fetched_is_stale(tmp_path: Path) -> None:
    """What is past its refresh is asked for again; if that fails it is answered, as stale.

    To whoever wants all or nothing it is an error, unless it may be as it is held.
    """
    steady = SteadyProvider(step=3_600_000, tail_ms=86_400_000, due_in_ms=0)
    start = second(datetime.now(UTC) - timedelta(days=3))
    query = search("steady", "ABC", start, second(datetime.now(UTC) - timedelta(hours=1)))
    async with door(tmp_path, steady) as at, at.client() as wire:
        first = await wire.ask(query)
        assert first["result"][0]["refresh_after"] != ""
        steady.failures["ABC"] = UpstreamRejected("not today")
        stale = await wire.ask(query)
        strict = await wire.ask(query, strict=True)
        held = await wire.ask(query, strict=True, fresh="held")
    assert (stale["ok"], stale["result"][0]["state"]) == (True, "stale")
    assert stale["stitch"]["missing"] == []
    assert records(stale) == records(first) == records(held)
    assert strict["error"]["message"] == "the answer would be stale: not today"
    assert strict["error"]["reason"] == "upstream_rejected"


FAILURES = [
    (UnknownTicker("x"), "unknown_ticker", None),
    (RateLimited("x", retry_after_s=7.0), "rate_limited", 7.0),
    (UpstreamUnreachable("x"), "upstream_unavailable", None),
    # So long the series is left alone.
    (UpstreamUnavailable("x"), "upstream_unavailable", 60.0),
    (BadUpstreamReply("x"), "bad_upstream_reply", 60.0),
    (UpstreamRejected("x"), "upstream_rejected", None),
    (OutOfWindow("x"), "out_of_window", None),
    (BadPluginReply("x"), "bad_plugin_reply", None),
    (ProviderError("x", reason="plugin_error"), "plugin_error", None),
    (ZeroDivisionError("of a provider's own"), "upstream_unavailable", None),
]


@pytest.mark.parametrize(("failure", "reason", "retry_after_s"), FAILURES)
async def test_a_failure_upstream_has_its_reason(
    tmp_path: Path, failure: Exception, reason: str, retry_after_s: float | None
) -> None:
    """What a provider raises is answered with its reason, and with when to try again."""
    steady = SteadyProvider()
    steady.failures["ABC"] = failure
    async with door(tmp_path, steady, settings=IMPATIENT) as at, at.client() as wire:
        answer = await wire.ask(search("steady", "ABC", *JANUARY))
        fault = not isinstance(failure, ProviderError)
        assert at.logged("error") == (["provider raised"] if fault else [])
    assert (answer["ok"], answer["result"]) == (False, None)
    assert answer["error"]["code"] == "provider_request_failed"
    assert answer["error"]["reason"] == reason
    assert answer["error"].get("retry_after_s") == retry_after_s
    assert (answer["provider"], answer["request_kind"]) == ("steady", "SearchEntities")


async def test_limits_of_the_settings_are_announced_and_kept(tmp_path: Path) -> None:
    """A limit that is set is the one that Ping tells and that a request meets."""
    async with (
        running_hub(settings(tmp_path, max_records=10)) as running,
        await connect(running.port) as wire,
    ):
        limits = (await wire.ask(PING))["result"]["limits"]
        answer = await wire.ask(search("sample", "AAPL", "2012-01-01", "2013-01-01"))
    assert limits["max_records"] == 10
    assert answer["error"]["code"] == "too_large"
    assert "10" in answer["error"]["message"]


async def test_a_ticker_that_nobody_has_is_an_error_at_the_edge_of_the_data_too(
    tmp_path: Path,
) -> None:
    """That there is nothing before the provider's first day says nothing about the ticker."""
    settings = sample_only(tmp_path / "a.db")
    async with running_hub(settings) as hub, await connect(hub.port) as wire:
        answer = await wire.ask(search("sample", "NOPE", "1990-01-01", "2010-01-01"))
        assert answer["error"]["reason"] == "unknown_ticker"


async def test_what_was_fetched_just_now_is_among_what_was_updated_lately(tmp_path: Path) -> None:
    """Bounds up to now take in the second that is running, beside a ticker and without one."""
    settings = sample_only(tmp_path / "a.db")
    async with running_hub(settings) as hub, await connect(hub.port) as wire:
        for end in ("", "now"):
            lately = {"ByUpdatedAtRange": {"start": "-1h", "end": end}}
            dates = {"DateRange": {"start": "2010-01-01", "end": "2010-02-01"}}
            asked = [{"Ticker": "IBM"}, dates, lately]
            answer = await wire.ask(request("sample", "SearchEntities", query=asked))
            assert len(answer["result"]) == 1
            answer = await wire.ask(request("sample", "SearchEntities", query=[lately]))
            assert len(answer["result"]) == 1


@pytest.mark.parametrize("name", ["a?b.db", "a%20b.db", "a#b.db"])
async def test_a_database_lies_in_the_file_that_was_named(tmp_path: Path, name: str) -> None:
    """A path is no URL; and a link to a file that is open leads to the same lock."""
    (tmp_path / "link.db").symlink_to(tmp_path / name)
    settings = sample_only(tmp_path / name)
    async with running_hub(settings):
        assert (tmp_path / name).exists()
        with pytest.raises(DatabaseInUse):
            async with running_hub(replace(settings, db=str(tmp_path / "link.db"))):
                pass
    assert {file.removeprefix(name) for file in files(tmp_path)} == {
        "",
        ".lock",
        ".reserve",
        "link.db",
    }


async def test_lines_that_take_long_are_all_answered_in_order(tmp_path: Path) -> None:
    """One client's lines are left off for others and gone on with, its end of sending included."""
    text = "provider steady search ticker=ABC " + "tags=a," * 300
    async with door(tmp_path, SteadyProvider()) as opened, opened.client() as client:
        slow: dict[str, Any] = {"type": "Line", "payload": {"line": text}}
        queries = [slow, {"type": "Ping"}] * 200
        client.write(b"".join(line_of(q, request_id=n) for n, q in enumerate(queries)))
        client.writer.write_eof()
        async with opened.client() as other:
            await other.ping()
        lines = (await client.rest()).splitlines()
    answers = [json.loads(line) for line in lines]
    assert [answer["request_id"] for answer in answers] == list(range(400))
    assert {answer["ok"] for answer in answers[1::2]} == {True}
    assert {answer["error"]["code"] for answer in answers[::2]} == {"invalid_query"}
