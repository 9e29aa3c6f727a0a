"""Who sends an HTTP request, by what its headers show."""

from __future__ import annotations

import pytest

from gapless.servers.http.identity import Shown, shown

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
    assert shown({b"cookie": cookies}, OURS) == Shown(token, by_cookie=token is not None)


def test_a_bearer_goes_before_a_cookie() -> None:
    """A program that shows a token is not its browser; the scheme has no case."""
    cookie = {b"cookie": b"gapless_7070=abc"}
    for scheme in (b"Bearer", b"bearer", b"BEARER"):
        assert shown({**cookie, b"authorization": scheme + b" tok "}, OURS) == Shown("tok")
    assert shown({b"authorization": b"Bearer "}, OURS) == Shown("")
    # A proxy on the way may have a word of its own with the browser.
    for other in (b"Basic YTpi", b"tok", b"Bearertok", b""):
        assert shown({**cookie, b"authorization": other}, OURS) == Shown("abc", by_cookie=True)
        assert shown({b"authorization": other}, OURS) == Shown(None)
