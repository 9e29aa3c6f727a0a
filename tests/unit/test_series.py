"""Series keys and the ids of views: one spelling for one history."""

from __future__ import annotations

import pytest

from gapless.domain.series import SeriesKey, ViewId, parse_view_id, quote

QUOTED = [
    ("AAPL", "AAPL"),
    ("^GSPC", "^GSPC"),
    ("BTC-USD", "BTC-USD"),
    ("BRK.B", "BRK.B"),
    ("EURUSD=X", "EURUSD%3DX"),
    ("a:b?c%d e", "a%3Ab%3Fc%25d%20e"),
    ("tab\there", "tab%09here"),
    ("é", "é"),
    ("\u2028", "%E2%80%A8"),
]


@pytest.mark.parametrize(("plain", "quoted"), QUOTED)
def test_quote(plain: str, quoted: str) -> None:
    """What has a meaning in ids is percent-encoded, letters stay readable."""
    assert quote(plain) == quoted


def test_a_key_is_spelled_once() -> None:
    """Parameters are sorted by name, and a key at its defaults has none."""
    assert SeriesKey("yahoo", "AAPL").text == "yahoo:AAPL"
    one = SeriesKey.of("yahoo", "EURUSD=X", {"prepost": "true", "interval": "1h"})
    two = SeriesKey.of("yahoo", "EURUSD=X", {"interval": "1h", "prepost": "true"})
    assert one == two
    assert one.text == "yahoo:EURUSD%3DX?interval=1h&prepost=true"
    assert one.query == "interval=1h&prepost=true"
    assert one.param("interval", "1d") == "1h"
    assert one.param("adjust", "none") == "none"


VIEWS = [
    ("yahoo:AAPL:2024-01-01..now", ViewId("yahoo", "AAPL", (), "2024-01-01", "now")),
    (
        "yahoo:EURUSD%3DX?interval=1h:2024-01-01T00:00:00Z..2024-02-01",
        ViewId("yahoo", "EURUSD=X", (("interval", "1h"),), "2024-01-01T00:00:00Z", "2024-02-01"),
    ),
    ("a:b?:1..2", ViewId("a", "b", (), "1", "2")),
    ("yahoo:BRK..B:1..2", ViewId("yahoo", "BRK..B", (), "1", "2")),
]


@pytest.mark.parametrize(("text", "expected"), VIEWS)
def test_an_id_is_taken_apart(text: str, expected: ViewId) -> None:
    """An id that is spelled as a view's comes apart into its decoded parts."""
    assert parse_view_id(text) == expected


@pytest.mark.parametrize(
    "text",
    [
        "",
        "AAPL",
        "yahoo:AAPL",
        "yahoo:AAPL:2024-01-01",
        "yahoo:AAPL:..now",
        "yahoo:AAPL:now..",
        ":AAPL:1..2",
        "yahoo::1..2",
        "yahoo:AAPL?interval:1..2",
        "yahoo:AA PL?a=b?c=d:1..2",
        "yahoo:AAPL:1..2\n",
    ],
)
def test_what_is_no_view(text: str) -> None:
    """Anything else is somebody's own id."""
    assert parse_view_id(text) is None
