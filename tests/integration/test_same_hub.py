"""Two hubs, and an address of one at which the other answers: never its records, nor a token to it.

As behind a tunnel that has but the TCP port, or with two containers whose ports are mapped.
"""

from __future__ import annotations

from pathlib import Path

import pytest

import gapless
from support.asking import KINDS, Asker, asking, cautioned
from support.crossing import LINE, RANGE, SHORT, crossed, ours, theirs
from support.forwarders import forwarder
from support.people import api_token, person
from support.strangers import Guest, healthz, hello, http_answer, stranger
from support.web import Web, web

ENTITY = {"source": "minutes", "tags": ["colour=red"], "data": [{"timestamp": 1}]}
each_kind = pytest.mark.parametrize("kind", KINDS)
with_and_without_auth = pytest.mark.parametrize("auth", [False, True], ids=["open", "auth"])


@pytest.mark.share(1)
@each_kind
@with_and_without_auth
async def test_every_method_keeps_to_the_hub_that_is_asked(
    tmp_path: Path, kind: str, auth: bool
) -> None:
    """What only HTTP has is refused by name; all else is answered by the one hub, over TCP."""
    rows = ours().rows("A", *RANGE)
    short = ours().rows("A", *SHORT)
    async with crossed(tmp_path, auth) as both:
        a, url = both.a, both.wrong.url
        async with asking(kind, a.tcp_port, token=both.token) as direct:
            await direct.fetch("PUT", "/v1/entities/note", ENTITY)
        async with asking(kind, both.port, token=both.token) as hub:
            assert (await hub.ping()).http == url
            assert await hub.providers() == ["minutes"]
            assert (await hub.search("minutes", "A", *SHORT)).records == short
            # It is not looked at before it is needed.
            assert not both.wrong.connections
            with cautioned() as told:
                large = await hub.search("minutes", "A", *RANGE)
                again = await hub.search("minutes", "A", *RANGE)
                frame = await hub.search_many("minutes", ["A", "B"], *RANGE)
                (line,) = await hub.query(LINE)
                view = await hub.get("minutes", large.id)
            assert large.stitch.upstream_requests == 1
            assert [len(one) for one in (large.stitch.cached, large.stitch.fetched)] == [1, 1]
            assert (again.stitch.upstream_requests, again.stitch.fetched) == (0, ())
            for result in (large, again, line, view):
                assert result.records == rows
                assert result.etag == large.etag
            assert frame.height == 2 * len(rows)
            assert set(frame["note"]) == {'"A"', '"B"'}
            assert told == [
                f"the hub at 127.0.0.1:{both.port} is not asked over HTTP: at {url} another hub "
                "answers; all comes over TCP, large answers in pieces; say where it speaks HTTP "
                'by http="http://HOST:PORT", or http=False'
            ]
            assert [one.id for one in await hub.get_many("minutes", ["note"])] == ["note"]
            assert len(await hub.entities("minutes")) > 3
            assert [one.id for one in await hub.find("minutes", tags=["colour=red"])] == ["note"]
            for answer in (await hub.send_line(LINE), await hub.provider(LINE)):
                assert answer["result"][0]["etag"] == large.etag
            with pytest.raises(gapless.Unsupported):
                await hub.report("minutes", "https://example.com/report")
            for method, target, body in (
                ("GET", "/v1/plugins", None),
                ("POST", "/plugins/load", {"file": "x.py"}),
                ("POST", "/v1/auth/login", {"email": "a@example.com", "password": "jabberwock"}),
                ("DELETE", "/v1/series/minutes/A", None),
            ):
                with pytest.raises(gapless.HttpUnusable) as raised:
                    await hub.fetch(method, target, body)
                assert str(raised.value) == (
                    f"the hub at 127.0.0.1:{both.port} is not asked over HTTP: at {url} another "
                    'hub answers; say where it speaks HTTP by http="http://HOST:PORT"'
                )
        both.kept_apart()
        assert not len(both.b.hub.holdings.memory)


@pytest.mark.share(1)
@each_kind
@with_and_without_auth
async def test_search_many_alone_keeps_to_the_hub(tmp_path: Path, kind: str, auth: bool) -> None:
    """Which asks over HTTP first, and on several connections at once."""
    async with crossed(tmp_path, auth) as both, asking(kind, both.port, token=both.token) as hub:
        tickers = [f"T{number}" for number in range(20)]
        with cautioned() as told:
            frame = await hub.search_many("minutes", tickers, *SHORT)
        assert len(told) == 1
        assert set(frame["note"]) == {f'"{ticker}"' for ticker in tickers}
        both.kept_apart()


@pytest.mark.share(1)
@each_kind
@with_and_without_auth
async def test_more_than_an_answer_may_have_comes_in_pieces(
    tmp_path: Path, kind: str, auth: bool
) -> None:
    """From the hub that is asked, whichever method is used."""
    rows = ours().rows("A", *RANGE)
    async with crossed(tmp_path, auth, max_records=1_000) as both:
        async with asking(kind, both.port, token=both.token) as hub:
            with cautioned() as told:
                found = await hub.search("minutes", "A", *RANGE)
                (line,) = await hub.query(LINE)
                view = await hub.get("minutes", found.id)
                frame = await hub.search_many("minutes", ["A", "B"], *RANGE)
            assert len(told) == 1
            assert found.records == line.records == view.records == rows
            assert found.etag == line.etag == view.etag != ""
            assert frame["note"].unique(maintain_order=True).to_list() == ['"A"', '"B"']
            assert frame.height == 2 * len(rows)
            with pytest.raises(gapless.TooLarge):
                await hub.send_line(LINE)
        both.kept_apart()


@each_kind
async def test_the_callers_own_line_is_named(tmp_path: Path, kind: str) -> None:
    """Whichever method it is that notices first."""
    async with crossed(tmp_path) as both:
        for method, arguments in (
            ("search", ("minutes", "A", *RANGE)),
            ("query", (LINE,)),
            ("search_many", ("minutes", ["A"], *RANGE)),
        ):
            async with asking(kind, both.port) as hub:
                with cautioned() as told:
                    await getattr(hub, method)(*arguments)
                assert len(told) == 1, method


@pytest.mark.share(1)
@each_kind
@with_and_without_auth
async def test_the_address_can_be_given_and_not_the_check(
    tmp_path: Path, kind: str, auth: bool
) -> None:
    """`http=` leads to the hub where it is right, and to no other where it is wrong."""
    async with crossed(tmp_path, auth) as both:
        options = {"token": both.token}
        async with asking(kind, both.port, http=both.a.url, **options) as hub:
            assert (await hub.search("minutes", "A", *RANGE)).etag
            assert (await hub.fetch("GET", "/v1/providers"))["providers"]
            assert both.a.meter.requests["http", "ok"] == 3
        async with asking(kind, both.port, http=False, **options) as hub:
            assert len(await hub.search("minutes", "A", *RANGE)) == 7_200
        assert not both.wrong.connections
        async with asking(kind, both.a.tcp_port, http=both.wrong.url, **options) as hub:
            with pytest.warns(gapless.HttpUnusedWarning, match="another hub answers"):
                await hub.search("minutes", "A", *RANGE)
            with pytest.raises(gapless.HttpUnusable, match="another hub answers"):
                await hub.fetch("GET", "/v1/series")
        both.kept_apart()


@each_kind
async def test_a_hub_that_was_started_again_is_the_same_hub(tmp_path: Path, kind: str) -> None:
    """Its instance is another one, its ports are the same: it is asked who it is, and gone on."""
    tcp_port = http_port = 0
    hub: Asker | None = None
    for _ in range(3):
        async with web(tmp_path, ours(), tcp_port=tcp_port, http_port=http_port) as opened:
            tcp_port, http_port = opened.tcp_port, opened.port
            hub = hub or Asker(KINDS[kind](f"127.0.0.1:{tcp_port}"))
            result = await hub.search("minutes", "A", *RANGE)
            assert result.records == ours().rows("A", *RANGE)
            assert len((await hub.fetch("GET", "/v1/series"))["series"]) == 1
            assert (await hub.search_many("minutes", ["A"], *RANGE)).height == 7_200
            assert opened.meter.requests["http", "ok"] >= 4
    assert hub is not None
    await hub.close()


@each_kind
@pytest.mark.parametrize("told", ["again", "another"])
async def test_an_answer_of_another_instance_on_the_same_connection(kind: str, told: str) -> None:
    """A proxy goes on with it: to the hub as it was started again, or to who knows whom."""
    now = "first"

    async def front(guest: Guest, number: int) -> None:
        nonlocal now
        await guest.head()
        await guest.say(healthz("first"))
        await guest.head()
        now = "again"
        await guest.say(http_answer(200, b"7", instance=told))
        await guest.left()

    async def tcp(guest: Guest, number: int) -> None:
        while True:
            request = await guest.request()
            await guest.answer(request, hello(f"http://127.0.0.1:{door.port}", now))

    async with stranger(front) as door, stranger(tcp) as opened, asking(kind, opened.port) as hub:
        if told == "again":
            assert await hub.fetch("POST", "/") == 7
        else:
            with pytest.raises(gapless.HttpUnusable, match="another hub answers"):
                await hub.fetch("POST", "/")
        assert door.connections == 1


@each_kind
async def test_a_door_that_ends_each_connection(kind: str) -> None:
    """Nobody could tell who answers on the next one, so that nothing is sent on it."""
    heads: list[bytes] = []

    async def front(guest: Guest, number: int) -> None:
        heads.append(await guest.head())
        await guest.say(http_answer(200, b'{"ok":true}', connection="close"))

    async def tcp(guest: Guest, number: int) -> None:
        while True:
            await guest.answer(await guest.request(), hello(f"http://127.0.0.1:{door.port}"))

    async with (
        stranger(front) as door,
        stranger(tcp) as opened,
        asking(kind, opened.port, token="gapless_secret") as hub,
    ):
        with pytest.raises(gapless.HttpUnusable, match="each answer ends its connection"):
            await hub.fetch("GET", "/v1/series")
    assert len(heads) == 1
    assert b"secret" not in heads[0]


@pytest.mark.share(1)
@each_kind
@with_and_without_auth
async def test_a_port_that_another_hub_takes_over(tmp_path: Path, kind: str, auth: bool) -> None:
    """Between two calls: what was known of it counts for the connections from before alone."""
    async with crossed(tmp_path, auth) as both, forwarder(both.a.port) as front:
        hub = Asker(KINDS[kind](f"127.0.0.1:{both.a.tcp_port}", token=both.token, http=front.url))
        async with hub:
            first = await hub.search("minutes", "A", *RANGE)
            assert len(await hub.fetch("GET", "/v1/providers")) == 1
            assert front.connections == 1
            front.target = both.wrong.port
            front.drop()
            with pytest.warns(gapless.HttpUnusedWarning, match="another hub answers"):
                second = await hub.search("minutes", "A", *RANGE)
            assert second.records == first.records == ours().rows("A", *RANGE)
            with pytest.raises(gapless.HttpUnusable, match="another hub answers"):
                await hub.fetch("GET", "/v1/plugins")
            both.kept_apart()
            # And back again: what HTTP alone has is looked for each time.
            front.target = both.a.port
            assert len(await hub.fetch("GET", "/v1/providers")) == 1


@pytest.mark.share(3)
@each_kind
@pytest.mark.parametrize(
    ("said", "says"),
    [
        (http_answer(401, b"who are you?", instance=None), r"no hub answers .*\(HTTP 401\)"),
        (http_answer(200, b"<html>", instance=None), r"no hub answers .*\(HTTP 200\)"),
        (healthz(None), r"no hub answers that says which one it is \(HTTP 200\)"),
        (healthz("f" * 32), "another hub answers"),
        (b"SSH-2.0-OpenSSH_9.2p1\r\n", "what answers does not speak HTTP"),
        (b"", "what answers hangs up"),
    ],
)
async def test_what_is_there_may_be_no_hub(
    tmp_path: Path, kind: str, said: bytes, says: str
) -> None:
    """A proxy that asks who it is, a page, another service: it is told what is there instead."""
    heads: list[bytes] = []

    async def script(guest: Guest, number: int) -> None:
        heads.append(await guest.head())
        await guest.say(said)

    async with web(tmp_path, ours(), auth=True) as opened, stranger(script) as other:
        someone = await person(opened.authority, "fetch")
        token = await api_token(opened.authority, someone.email)
        base = f"http://127.0.0.1:{other.port}"
        async with asking(kind, opened.tcp_port, http=base, token=token) as hub:
            with pytest.warns(gapless.HttpUnusedWarning, match=f"at {base} {says}"):
                assert len(await hub.search("minutes", "A", *RANGE)) == 7_200
            with pytest.raises(gapless.HttpUnusable, match=f"at {base} {says}"):
                await hub.fetch("GET", "/v1/series")
    assert heads
    assert all(b"authorization" not in head.lower() for head in heads)


@each_kind
async def test_a_port_that_says_nothing(tmp_path: Path, kind: str) -> None:
    """It is waited for no longer than for a connection."""

    async def script(guest: Guest, number: int) -> None:
        await guest.left()

    async with web(tmp_path, ours()) as opened, stranger(script) as other:
        base = f"http://127.0.0.1:{other.port}"
        async with asking(kind, opened.tcp_port, http=base, connect_timeout=0.5) as hub:
            with pytest.warns(gapless.HttpUnusedWarning, match="what answers says nothing"):
                assert len(await hub.search("minutes", "A", *RANGE)) == 7_200
        assert other.connections == 1


@pytest.mark.share(4)
@each_kind
@pytest.mark.parametrize(
    ("status", "code", "says"),
    [
        (401, "unauthorized", "the token is refused (401)"),
        (401, "missing_token", "the token is refused (401)"),
        (403, "forbidden", "it is forbidden (403): says the door"),
        (404, "not_found", "the route is missing (404)"),
    ],
)
@pytest.mark.parametrize("many", [False, True], ids=["search", "search_many"])
async def test_what_http_refuses_and_tcp_does_not(
    tmp_path: Path, kind: str, status: int, code: str, says: str, many: bool
) -> None:
    """It comes over TCP, and the warning tells why."""
    problem = f'{{"code": "{code}", "message": "says the door"}}'.encode()
    async with web(tmp_path, ours()) as opened:
        instance = (await _info(kind, opened)).instance

        async def script(guest: Guest, number: int) -> None:
            await guest.head()
            await guest.say(healthz(instance))
            await guest.head()
            await guest.say(http_answer(status, problem, instance=instance))
            await guest.left()

        async with stranger(script) as door:
            base = f"http://127.0.0.1:{door.port}"
            async with asking(kind, opened.tcp_port, http=base) as hub:
                with cautioned() as told:
                    if many:
                        found = (await hub.search_many("minutes", ["A"], *RANGE)).height
                    else:
                        found = len(await hub.search("minutes", "A", *RANGE))
                (text,) = told
                assert f"at {base} {says}" in text
                assert found == 7_200
                assert len(await hub.search("minutes", "A", *RANGE)) == 7_200
            assert door.connections == 1


@each_kind
async def test_a_token_that_is_none_is_no_matter_of_http(tmp_path: Path, kind: str) -> None:
    """TCP refuses it as well: that is the error, and nothing is said of HTTP."""
    async with (
        web(tmp_path, ours(), auth=True) as opened,
        asking(kind, opened.tcp_port, token="gapless_wrong") as hub,
    ):
        with pytest.raises(gapless.Unauthorized):
            await hub.search_many("minutes", ["A"], *RANGE)
        someone = await person(opened.authority, "fetch")
        await hub.set_token(await api_token(opened.authority, someone.email))
        assert (await hub.search_many("minutes", ["A"], *RANGE)).height == 7_200
        assert opened.meter.requests["http", "ok"] >= 2


async def _info(kind: str, opened: Web) -> gapless.HubInfo:
    async with asking(kind, opened.tcp_port) as hub:
        info: gapless.HubInfo = await hub.ping()
    return info


@each_kind
@pytest.mark.parametrize(
    ("host", "answers", "says"),
    [
        ("127.0.0.1", healthz(None), None),
        ("127.0.0.1", healthz(None, "0.9"), "another hub answers"),
        ("127.0.0.1", healthz("f" * 32), "another hub answers"),
        ("127.0.0.1", http_answer(200, b"{}", instance=None), "no hub answers"),
        ("localhost", healthz(None), "nobody can tell which hub answers"),
        ("127.0.0.2", healthz(None), "nobody can tell which hub answers"),
    ],
)
async def test_an_older_hub_is_known_by_its_host_and_version(
    kind: str, host: str, answers: bytes, says: str | None
) -> None:
    """It says nothing else of itself: elsewhere, or where anything is not as it should be, no."""
    heads: list[bytes] = []

    async def script(guest: Guest, number: int) -> None:
        heads.append(await guest.head())
        await guest.say(answers)
        heads.append(await guest.head())
        await guest.say(http_answer(200, b"7", instance=None))
        await guest.left()

    async def tcp(guest: Guest, number: int) -> None:
        while True:
            request = await guest.request()
            await guest.answer(request, hello(f"http://{host}:{door.port}", instance=None))

    async with (
        stranger(script) as door,
        stranger(tcp) as opened,
        asking(kind, opened.port, token="gapless_secret") as hub,
    ):
        if says is None:
            assert await hub.fetch("GET", "/") == 7
            assert [b"authorization" in head for head in heads] == [False, True]
        else:
            with pytest.raises(gapless.HttpUnusable, match=says):
                await hub.fetch("GET", "/")
            assert all(b"authorization" not in head for head in heads)


@each_kind
async def test_an_address_that_leads_to_another_hub_by_now(tmp_path: Path, kind: str) -> None:
    """A tunnel that was laid anew: nothing is told by one hub, and done by the other."""
    for name in ("a", "b"):
        (tmp_path / name).mkdir()
    async with (
        web(tmp_path / "a", ours()) as a,
        web(tmp_path / "b", theirs()) as b,
        forwarder(a.tcp_port) as way,
        asking(kind, way.port) as hub,
    ):
        assert (await hub.search("minutes", "A", *RANGE)).records == ours().rows("A", *RANGE)
        await hub.search("minutes", "X", *SHORT)
        way.target = b.tcp_port
        way.drop()
        large = await hub.search("minutes", "A", *RANGE)
        assert large.records == theirs().rows("A", *RANGE)
        frame = await hub.search_many("minutes", ["A"], *RANGE)
        assert frame["note"][0] == theirs().rows("A", *RANGE)[0]["note"]
        way.target = a.tcp_port
        way.drop()
        assert (await hub.search("minutes", "A", *SHORT)).records == ours().rows("A", *SHORT)
        way.target = b.tcp_port
        way.drop()
        assert (await hub.search("minutes", "A", *SHORT)).records == theirs().rows("A", *SHORT)
        with pytest.raises(gapless.NotFound):
            await hub.fetch("DELETE", "/v1/series/minutes/X")
        assert a.hub.memory.get(a.hub.registry.get("minutes").key("X", {})) is not None


@each_kind
async def test_a_hub_without_http_is_nothing_to_warn_of(tmp_path: Path, kind: str) -> None:
    """Nor is a caller who wants none, nor one who comes from another machine."""
    async with web(tmp_path, ours()) as opened:
        async with asking(kind, opened.tcp_port, http=False) as hub:
            assert len(await hub.search("minutes", "A", *RANGE)) == 7_200
            with pytest.raises(gapless.HttpUnusable, match="http=False was given"):
                await hub.fetch("GET", "/v1/series")
        async with (
            forwarder(opened.tcp_port, {f'"{opened.url}"'.encode(): b"null"}) as way,
            asking(kind, way.port) as hub,
        ):
            assert len(await hub.search("minutes", "A", *RANGE)) == 7_200
            assert (await hub.search_many("minutes", ["A"], *RANGE)).height == 7_200
            with pytest.raises(gapless.HttpUnusable, match="runs without it; start it"):
                await hub.fetch("GET", "/v1/series")
        assert not opened.meter.requests["http", "ok"]
