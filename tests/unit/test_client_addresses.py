"""Where a hub is, however it is written; and that no error tells a token."""

from __future__ import annotations

from typing import Any

import pytest

from gapless.client.addresses import (
    Endpoint,
    endpoint,
    parse_endpoint,
    parse_web_base,
    web_base,
    web_override,
)
from gapless.errors import ConfigError

SECRET = "s3cr3t"


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("localhost:7000", Endpoint("localhost", 7000)),
        (" 10.0.0.1:1 ", Endpoint("10.0.0.1", 1)),
        ("[::1]:7000", Endpoint("::1", 7000)),
        ("gapless://hub", Endpoint("hub", 7000)),
        ("gapless://hub/", Endpoint("hub", 7000)),
        ("GAPLESS://hub:65535", Endpoint("hub", 65_535)),
        ("tcp://[fe80::1]", Endpoint("fe80::1", 7000)),
        ("tls://hub:1", Endpoint("hub", 1, True)),
        ("gapless+tls://tok@hub", Endpoint("hub", 7000, True, "tok")),
        ("gapless://tok@hub:1", Endpoint("hub", 1, False, "tok")),
        ("gapless://t%40k%2F%3A%25@hub:1", Endpoint("hub", 1, False, "t@k/:%")),
        ("gapless://t@k@hub:1", Endpoint("hub", 1, False, "t@k")),
        ("gapless://name:tok@hub:1", Endpoint("hub", 1, False, "tok")),
        ("gapless://:tok@hub:1", Endpoint("hub", 1, False, "tok")),
        ("gapless://@hub:1", Endpoint("hub", 1)),
        ("tok@hub:1", Endpoint("hub", 1, False, "tok")),
        ("tls://tok@[::1]:9", Endpoint("::1", 9, True, "tok")),
    ],
)
def test_addresses(text: str, expected: Endpoint) -> None:
    """Host and port, a scheme, a token: percent-encoded where it has odd characters."""
    assert parse_endpoint(text) == expected


@pytest.mark.parametrize(
    "text",
    [
        *("", "hub", ":7000", "hub:", "hub:x", "hub:0", "hub:65536", "hub:100000", "::1:7000"),
        *("ftp://hub:1", "://hub:1", "gapless://", "gapless://hub:1/path", "gapless://hub?x=1"),
        *("a b:1", "hub:1:2", "[::1:7000", "gapless://hub:-1", "hub:1\n2", "[]:1"),
        *("http://hub:7070", "HTTPS://hub:7070"),
    ],
)
@pytest.mark.parametrize("secret", ["", f"{SECRET}@", f"user:{SECRET}@"])
def test_what_is_no_address(text: str, secret: str) -> None:
    """The message names what it is of, says what is expected, and never has the token."""
    scheme, separator, rest = text.partition("://")
    text = f"{scheme}://{secret}{rest}" if separator else f"{secret}{text}"
    with pytest.raises(ConfigError, match="GAPLESS_URL") as raised:
        parse_endpoint(text, "GAPLESS_URL")
    assert SECRET not in raised.value.message
    assert "\n" not in raised.value.message
    assert "HOST:PORT" in raised.value.message or "1 to 65535" in raised.value.message


def test_an_address_for_http_is_told_from_a_wrong_one() -> None:
    """Who has mixed up the two ports learns it."""
    with pytest.raises(ConfigError, match="is for HTTP; give the hub's TCP address"):
        parse_endpoint("http://hub:7070")


def test_an_endpoint_is_told_without_its_token() -> None:
    """Neither as a name nor as an address."""
    found = parse_endpoint(f"tls://{SECRET}@[::1]:9")
    assert (found.name, found.url) == ("[::1]:9", "tls://[::1]:9")
    assert parse_endpoint("hub:9").url == "gapless://hub:9"
    assert parse_endpoint(found.url) == Endpoint("::1", 9, True)
    assert SECRET not in repr(found)


def test_what_is_given_goes_before_the_environment() -> None:
    """An address by argument, `GAPLESS_URL`, the default; tokens alike, the address's between."""
    environ = {"GAPLESS_URL": "gapless://of-url@there:1", "GAPLESS_TOKEN": "of-environment"}
    assert endpoint(None, None, {}) == Endpoint("127.0.0.1", 7000)
    assert endpoint(None, None, {"GAPLESS_URL": ""}) == Endpoint("127.0.0.1", 7000)
    assert endpoint(None, None, environ) == Endpoint("there", 1, False, "of-url")
    assert endpoint("here:2", None, environ) == Endpoint("here", 2, False, "of-environment")
    assert endpoint("own@here:2", None, environ) == Endpoint("here", 2, False, "own")
    assert endpoint("own@here:2", "given", environ) == Endpoint("here", 2, False, "given")
    assert endpoint("here:2", "", {}) == Endpoint("here", 2)
    with pytest.raises(ConfigError, match="GAPLESS_URL nowhere"):
        endpoint(None, None, {"GAPLESS_URL": "nowhere"})


@pytest.mark.parametrize(
    ("told", "host", "expected"),
    [
        (None, "127.0.0.1", None),
        ("", "127.0.0.1", None),
        ("http://127.0.0.1:7070", "127.0.0.1", "http://127.0.0.1:7070"),
        ("http://127.0.0.1:7070/", "localhost", "http://127.0.0.1:7070"),
        ("http://127.0.0.1:7070", "::1", "http://127.0.0.1:7070"),
        # Of the hub's own machine only, which this is not.
        ("http://127.0.0.1:7070", "hub.example", None),
        ("http://localhost:7070", "10.0.0.1", None),
        ("http://[::1]:7070", "10.0.0.1", None),
        # Everywhere: where its TCP is.
        ("http://0.0.0.0:7070", "hub.example", "http://hub.example:7070"),
        ("https://[::]:7070", "10.0.0.1", "https://10.0.0.1:7070"),
        ("http://0.0.0.0:7070", "fe80::1", "http://[fe80::1]:7070"),
        ("http://0.0.0.0", "127.0.0.1", "http://127.0.0.1"),
        # A token goes to no other host than the one that was named.
        ("https://hub.example:7070", "10.0.0.1", "https://10.0.0.1:7070"),
        ("http://[bad", "10.0.0.1", None),
        ("ftp://10.0.0.1:7070", "10.0.0.1", None),
    ],
)
def test_http_as_it_is_reached_from_here(told: str | None, host: str, expected: str | None) -> None:
    """The hub says where it listens; from another machine that may be elsewhere, or nowhere."""
    assert web_base(told, Endpoint(host)) == expected


def test_no_token_leaves_tls() -> None:
    """A hub that is asked with TLS is asked over HTTP with TLS, or not at all."""
    asked = Endpoint("hub.example", tls=True)
    assert web_base("http://0.0.0.0:7070", asked) is None
    assert web_base("https://0.0.0.0:7070", asked) == "https://hub.example:7070"


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("http://hub:7070/", "http://hub:7070"),
        ("hub:7070", "http://hub:7070"),
        (" https://hub/below/ ", "https://hub/below"),
        ("http://[::1]:7070", "http://[::1]:7070"),
    ],
)
def test_base_addresses_of_http(text: str, expected: str) -> None:
    """A scheme may be left out, and what is below a path is below it."""
    assert parse_web_base(text) == expected


@pytest.mark.parametrize(
    "text",
    [
        *("", "ftp://hub", "http://", "http://hub:x", "http://hub:70700", "http://hub?a=b"),
        *("http://hub#a", f"http://{SECRET}@hub", f"http://user:{SECRET}@hub:1", "http://hüb"),
        *(f"http://@{SECRET}@hub", f"{SECRET}@hub:1", "7070", "http://7070"),
    ],
)
def test_what_is_no_base_address(text: str) -> None:
    """The message says what is expected, and has nothing that may be a secret."""
    with pytest.raises(ConfigError, match="expected http://HOST:PORT") as raised:
        parse_web_base(text)
    assert SECRET not in raised.value.message


def test_http_may_be_turned_off() -> None:
    """`False` is not at all, `None` what the hub says, a text this address."""
    assert web_override(False) == ""
    assert web_override(None) is None
    assert web_override("hub:1") == "http://hub:1"


@pytest.mark.parametrize("address", [7411, b"hub:1", ("hub", 1)])
def test_an_address_is_a_text(address: Any) -> None:
    """A port alone is a likely slip."""
    with pytest.raises(ConfigError, match="is no text; expected HOST:PORT"):
        parse_endpoint(address)
