"""Who sends an HTTP request, by what its headers show."""

from __future__ import annotations

import pytest

from gapless.servers.http.identity import Shown, client_of, shown

OURS = "gapless_7070"


@pytest.mark.parametrize(
    ("cookies", "token"),
    [
        (b"gapless_7070=abc", "abc"),
        (b"a=b; gapless_7070=abc; c=d", "abc"),
        (b"gapless_7070=abc;c=d", "abc"),
        (b'we[ird={"x": 1, 2}; gapless_7070=abc', "abc"),
        (b"\xff\xfe=1; gapless_7070=abc", "abc"),
        (b"gapless_7071=abc", None),
        (b"xgapless_7070=abc", None),
        (b"gapless_7070=", None),
        (b"gapless_7070", None),
        (b"a=gapless_7070=abc", None),
        (b"", None),
    ],
)
def test_the_cookie_of_this_hub(cookies: bytes, token: str | None) -> None:
    """It is found whatever stands beside it, and no other is taken for it."""
    tokens = () if token is None else (token,)
    assert shown({b"cookie": cookies}, OURS) == Shown(tokens, by_cookie=token is not None)


def test_several_cookies_of_our_name() -> None:
    """Another port's page may have set one: all are told, and which one counts is found out."""
    cookies = b"gapless_7070=evil; x=y; gapless_7070=ours; gapless_7070=evil"
    assert shown({b"cookie": cookies}, OURS) == Shown(("evil", "ours"), by_cookie=True)
    many = b"; ".join(b"gapless_7070=%d" % number for number in range(1_000))
    assert len(shown({b"cookie": many}, OURS).tokens) == 5


def test_a_bearer_goes_before_a_cookie() -> None:
    """A program that shows a token is not its browser; the scheme has no case."""
    cookie = {b"cookie": b"gapless_7070=abc"}
    for scheme in (b"Bearer", b"bearer", b"BEARER"):
        assert shown({**cookie, b"authorization": scheme + b" tok "}, OURS) == Shown(("tok",))
    assert shown({b"authorization": b"Bearer "}, OURS) == Shown(malformed=True)
    # A proxy on the way may have a word of its own with the browser.
    for other in (b"Basic YTpi", b"tok", b"Bearertok", b""):
        assert shown({**cookie, b"authorization": other}, OURS) == Shown(("abc",), by_cookie=True)
        assert shown({b"authorization": other}, OURS) == Shown(malformed=bool(other))


@pytest.mark.parametrize(
    ("client", "said", "address"),
    [
        ("10.0.0.1", b"198.51.100.1", "198.51.100.1"),
        ("10.0.0.1", b"forged, 198.51.100.1", "198.51.100.1"),
        ("10.0.0.1", b"198.51.100.1, 10.0.0.1", "198.51.100.1"),
        ("10.0.0.1", b"", "10.0.0.1"),
        ("10.0.0.1", b" , ", "10.0.0.1"),
        ("198.51.100.7", b"198.51.100.1", "198.51.100.7"),
    ],
)
def test_where_a_request_comes_from(client: str, said: bytes, address: str) -> None:
    """A proxy that is named is believed, for what it has added itself; nobody else is."""
    found = client_of((client, 5), {b"x-forwarded-for": said}, frozenset({"10.0.0.1"}))
    assert found is not None
    assert found[0] == address
    assert client_of(None, {}, frozenset()) is None
