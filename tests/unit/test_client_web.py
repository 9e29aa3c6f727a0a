"""HTTP to and from a hub as bytes: requests written, answers read, pages followed."""

from __future__ import annotations

from typing import Any

import pytest

import gapless
from gapless.client.identity import Door, Identity, NotThisHub
from gapless.client.web import WebAddress, WebExchange, WebReply

BASE = "http://hub:7070"
# Older hubs do not say in each answer which one they are.
HUB = Identity(None, "1.0")


def exchange(base: str = BASE) -> WebExchange:
    """Return an exchange with a hub that has been greeted."""
    opened = WebExchange(Door(base, HUB))
    assert opened.greeting().startswith(b"GET ")
    reply = opened.feed(b'HTTP/1.1 200 OK\r\ncontent-length: 17\r\n\r\n{"version":"1.0"}')
    assert reply is not None
    opened.greeted(reply)
    return opened


@pytest.mark.parametrize(
    ("base", "expected"),
    [
        ("http://hub:7070", ("hub", 7070, False, "hub:7070", "")),
        ("https://hub", ("hub", 443, True, "hub", "")),
        ("http://[::1]:80/below", ("::1", 80, False, "[::1]:80", "/below")),
    ],
)
def test_an_address_is_taken_apart(base: str, expected: tuple[Any, ...]) -> None:
    """Ports by the scheme where none is given; a path is what all paths begin with."""
    assert WebAddress.of(base) == (base, *expected)


def test_requests_are_written() -> None:
    """As short as they can be; a body goes as JSON, and its length is told."""
    assert exchange("http://hub:1/at").request("GET", "/v1?a=b", None, "x/y") == (
        b"GET /at/v1?a=b HTTP/1.1\r\nhost: hub:1\r\naccept: x/y\r\n\r\n"
    )
    told = exchange().request("POST", "/", "tok", "x/y", {"é": 1})
    head, _, body = told.partition(b"\r\n\r\n")
    assert body == '{"é":1}'.encode()
    assert b"authorization: Bearer tok" in head
    assert b"content-length: 8" in head
    assert b"content-type: application/json" in head
    assert b"content-length: 0" in exchange().request("DELETE", "/", None, "x/y")
    assert b"content-length: 5" in exchange().request("POST", "/", None, "x/y", False)


KNOWN = Identity("0f", "1.0")
OLDER = Identity(None, "1.0")


def told(instance: str | None, body: bytes = b'{"ok":true,"version":"1.0"}') -> WebReply:
    """Return an answer of a hub of that instance."""
    return WebReply(200, {} if instance is None else {"gapless-instance": instance}, body)


@pytest.mark.parametrize(
    ("identity", "reply", "says"),
    [
        (KNOWN, told("0f"), None),
        (KNOWN, WebReply(403, {"gapless-instance": "0f"}, b""), None),
        (KNOWN, told("0F"), "another hub answers"),
        (KNOWN, told(""), "another hub answers"),
        (KNOWN, told(None), r"no hub answers .*\(HTTP 200\)"),
        (OLDER, told(None), None),
        (OLDER, told("0f"), "another hub answers"),
        (OLDER, told(None, b'{"version":"1.1"}'), "another hub answers"),
        (OLDER, told(None, b'{"version":10}'), "no hub answers"),
        (OLDER, told(None, b"[]"), "no hub answers"),
        (OLDER, told(None, b"<html>"), "no hub answers"),
        (OLDER, WebReply(401, {}, b'{"version":"1.0"}'), r"no hub answers .*\(HTTP 401\)"),
    ],
)
def test_a_hub_is_known_by_its_greeting(
    identity: Identity, reply: WebReply, says: str | None
) -> None:
    """By its instance, whatever else it says; an older one by its version."""
    if says is None:
        identity.greeted(reply)
        return
    with pytest.raises(NotThisHub, match=says):
        identity.greeted(reply)


def test_nothing_is_sent_before_the_greeting_is_answered() -> None:
    """Which shows no token; and not to whoever answers it as somebody else."""
    web = WebExchange(Door(BASE, KNOWN))
    with pytest.raises(gapless.InternalError, match="before the hub was greeted"):
        web.request("GET", "/", "token", "x/y")
    assert web.greeting() == (
        b"GET /healthz HTTP/1.1\r\nhost: hub:7070\r\naccept: application/json\r\n\r\n"
    )
    with pytest.raises(NotThisHub):
        web.greeted(told("f0"))
    with pytest.raises(gapless.InternalError):
        web.request("GET", "/", "token", "x/y")
    web.greeted(told("0f"))
    assert b"Bearer token" in web.request("GET", "/", "token", "x/y")


def test_a_connection_ends_with_another_hubs_answer() -> None:
    """Whoever is behind it by now is sent nothing more."""
    web = WebExchange(Door(BASE, KNOWN))
    web.greeted(told("0f"))
    head = b"HTTP/1.1 200 OK\r\nGapless-Instance: %b\r\ncontent-length: 0\r\n\r\n"
    assert web.feed(head % b"0f") is not None
    assert web.reusable
    assert web.feed(head % b"f0") is not None
    assert not web.reusable


@pytest.mark.parametrize(
    "target", ["/a b", "/a\r\nx: y", "/é", "/\x00", "", "v1", "http://elsewhere/", "@elsewhere/"]
)
def test_a_target_must_be_a_path(target: str) -> None:
    """Nothing else gets into the head of a request, nor to another host."""
    with pytest.raises(gapless.InvalidQuery, match="is no path"):
        exchange().request("GET", target, None, "x/y")


@pytest.mark.parametrize("method", ["", "GET /", "G\r\nX", "GÉT"])
def test_a_method_must_be_one(method: str) -> None:
    """It is a word of letters."""
    with pytest.raises(gapless.InvalidQuery, match="is no method"):
        exchange().request(method, "/", None, "x/y")


@pytest.mark.parametrize("token", ["a b", "a\r\nb: c", "ü"])
def test_a_token_must_be_one(token: str) -> None:
    """What no header may hold is refused, and not repeated."""
    with pytest.raises(gapless.InvalidQuery) as raised:
        exchange().request("GET", "/", token, "x/y")
    assert token not in str(raised.value)


def test_answers_follow_one_another() -> None:
    """With a length, in chunks, without a body, after an interim one."""
    web = exchange()
    assert web.feed(b"HTTP/1.1 200 OK\r\nContent-Length: 3\r\nX-A: 1\r\n\r\nab") is None
    assert web.feed(b"c") == WebReply(200, {"content-length": "3", "x-a": "1"}, b"abc")
    reply = web.feed(
        b"HTTP/1.1 103 Early Hints\r\nlink: </x>\r\n\r\n"
        b"HTTP/1.1 200 OK\r\ntransfer-encoding: chunked\r\n\r\n2\r\nab\r\n1\r\nc\r\n0\r\n\r\n"
    )
    assert reply is not None
    assert (reply.status, reply.body, reply.headers.get("link")) == (200, b"abc", None)
    reply = web.feed(b"HTTP/1.1 204 No Content\r\n\r\n")
    assert reply is not None
    assert (reply.json(), web.reusable) == (None, True)
    reply = web.feed(b"HTTP/1.1 200 OK\r\nconnection: close\r\ncontent-length: 1\r\n\r\n7")
    assert reply is not None
    assert (reply.json(), web.reusable) == (7, False)


def test_an_answer_to_head_has_no_body() -> None:
    """Though it tells how long one would be; the connection is not used again."""
    web = exchange()
    web.request("HEAD", "/", None, "x/y")
    reply = web.feed(b"HTTP/1.1 200 OK\r\ncontent-length: 99\r\n\r\n")
    assert reply == WebReply(200, {"content-length": "99"}, b"")
    assert web.reusable is False


@pytest.mark.parametrize(
    "said", [b"garbage\r\n\r\n", b'{"ok":false}\n', b"HTTP/1.1 200 OK\r\nno header\r\n\r\n"]
)
def test_what_is_no_http_is_told_as_such(said: bytes) -> None:
    """With the address."""
    with pytest.raises(gapless.UnexpectedAnswer, match="http://hub:7070 does not speak HTTP"):
        exchange().feed(said)


@pytest.mark.parametrize(
    ("link", "following"),
    [
        (None, None),
        ("</v1/data/a?cursor=x>; rel=next", "/v1/data/a?cursor=x"),
        ('</a>; rel="prev", </b>;rel="next"', "/b"),
        ('</a>; rel="last"', None),
    ],
)
def test_the_next_page_is_named_by_a_link(link: str | None, following: str | None) -> None:
    """Where there is none, that was all."""
    headers = {} if link is None else {"link": link}
    assert WebReply(200, headers, b"").next == following


@pytest.mark.parametrize(
    ("status", "body", "kind"),
    [
        (404, b'{"code":"not_found","message":"none"}', gapless.NotFound),
        (
            429,
            b'{"code":"provider_request_failed","message":"none","reason":"rate_limited"}',
            gapless.RateLimited,
        ),
        (502, b"<html>none</html>", gapless.UnexpectedAnswer),
        (500, b'{"message":"none"}', gapless.UnexpectedAnswer),
        (500, b"\xff", gapless.UnexpectedAnswer),
        (200, b"<html>none</html>", gapless.UnexpectedAnswer),
    ],
)
def test_problems_are_errors(status: int, body: bytes, kind: type[Exception]) -> None:
    """Of the same kinds as over TCP; what another server says is told as such."""
    with pytest.raises(kind, match="no") as raised:
        WebReply(status, {}, body).json()
    assert type(raised.value) is kind


def test_what_is_elsewhere_is_not_nothing() -> None:
    """A redirect has no body, and is no answer either."""
    assert WebReply(204, {}, b"").json() is None
    with pytest.raises(gapless.UnexpectedAnswer, match=r"elsewhere \(HTTP 302\): /login"):
        WebReply(302, {"location": "/login"}, b"").json()
