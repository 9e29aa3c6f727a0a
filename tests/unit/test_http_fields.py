"""Header fields that come in several lines: joined where they are lists, refused where not."""

from __future__ import annotations

import pytest

from gapless.errors import InvalidQuery
from gapless.servers.http.fields import SINGLE, combined
from gapless.servers.http.identity import client_of, shown

PROXIES = frozenset({"10.0.0.1", "10.0.0.2"})


@pytest.mark.parametrize("name", sorted(SINGLE))
def test_fields_with_one_value(name: bytes) -> None:
    """A second line is refused by name, whatever stands in it and however far apart they are."""
    for second in (b"a", b"b", b""):
        with pytest.raises(InvalidQuery, match=rf"more than one {name.decode().title()};"):
            combined([(name, b"a"), (b"accept", b"*/*"), (name, second)])
    assert combined([(name, b"a")]) == {name: b"a"}


def test_lists_are_joined() -> None:
    """Every line of a list counts, in its order; cookies have a separator of their own."""
    lines = [
        (b"accept", b"text/csv"),
        (b"cookie", b"a=1"),
        (b"accept", b"*/*;q=0.1"),
        (b"cookie", b"gapless_7070=abc"),
        (b"content-encoding", b"gzip"),
        (b"content-encoding", b"identity"),
    ]
    fields = combined(lines)
    assert fields == {
        b"accept": b"text/csv, */*;q=0.1",
        b"cookie": b"a=1; gapless_7070=abc",
        b"content-encoding": b"gzip, identity",
    }
    assert shown(fields, "gapless_7070").tokens == ("abc",)


@pytest.mark.parametrize(
    ("lines", "address"),
    [
        ((b"forged", b"198.51.100.1"), "198.51.100.1"),
        ((b"forged, 198.51.100.1", b"10.0.0.2"), "198.51.100.1"),
        ((b"198.51.100.1", b"10.0.0.2", b"10.0.0.1"), "198.51.100.1"),
        ((b"10.0.0.2", b""), "10.0.0.1"),
    ],
)
def test_where_a_request_comes_from_in_several_lines(
    lines: tuple[bytes, ...], address: str
) -> None:
    """Proxies may add a line of their own each: the last entry that is none of theirs counts."""
    fields = combined((b"x-forwarded-for", line) for line in lines)
    assert client_of(("10.0.0.1", 5), fields, PROXIES) in ((address, 0), (address, 5))
