"""Which format a request asks for."""

from __future__ import annotations

import pytest

from gapless.errors import InvalidQuery, RequestError
from gapless.servers.http.formats import Format, NotAcceptable, negotiate


@pytest.mark.parametrize(
    ("accept", "expected"),
    [
        (None, Format.JSON),
        ("", Format.JSON),
        (" , ,", Format.JSON),
        ("*/*", Format.JSON),
        ("application/*", Format.JSON),
        ("application/json", Format.JSON),
        ("APPLICATION/JSON; Charset=utf-8", Format.JSON),
        ("application/x-ndjson", Format.NDJSON),
        ("application/ndjson", Format.NDJSON),
        ("application/jsonl", Format.NDJSON),
        ("text/csv", Format.CSV),
        ("text/csv;header=present", Format.CSV),
        ("text/*", Format.CSV),
        ("application/vnd.apache.arrow.stream", Format.ARROW),
        ("application/vnd.apache.parquet", Format.PARQUET),
        ("application/parquet", Format.PARQUET),
        # Weight decides.
        ("text/csv;q=0.5, application/json;q=0.4", Format.CSV),
        ("text/csv;q=0.4, application/json;q=0.5", Format.JSON),
        ("text/csv ; Q=0.8 , */* ; q=0.9", Format.JSON),
        ("text/html,application/xhtml+xml,application/xml;q=0.9,*/*;q=0.8", Format.JSON),
        # The more precise range decides about a format, and among formats of one weight.
        ("text/csv, */*", Format.CSV),
        ("*/*, text/csv", Format.CSV),
        ("application/json;q=0, */*", Format.NDJSON),
        ("application/*;q=0, */*;q=0.1", Format.CSV),
        ("application/json;q=0.1, application/*;q=0.9", Format.NDJSON),
        ("application/x-ndjson;q=0, application/json;q=0, */*", Format.CSV),
        # Then the order in the header.
        ("application/vnd.apache.arrow.stream, application/json", Format.ARROW),
        ("application/json, application/vnd.apache.arrow.stream", Format.JSON),
        # What is malformed is passed over.
        ("text/csv;q=2", Format.JSON),
        ("text/csv;q=0.1234, application/parquet", Format.PARQUET),
        ("text/csv;q=, application/parquet", Format.PARQUET),
        ("text/csv;level, application/parquet", Format.PARQUET),
        ("text/csv;, application/json;q=0.9", Format.CSV),
        ("csv, application/parquet", Format.PARQUET),
        ("*/csv, application/parquet", Format.PARQUET),
        ("text / csv, application/parquet", Format.PARQUET),
        ('text/csv;x="a,b", application/json;q=0.5', Format.CSV),
        ("\x00\xff;;;=,=;q", Format.JSON),
    ],
)
def test_an_accept_header_chooses(accept: str | None, expected: Format) -> None:
    """The Accept header chooses by weight, then precision, then order."""
    assert negotiate(accept) is expected


@pytest.mark.parametrize(
    "accept",
    [
        "text/html",
        "image/*",
        "*/*;q=0",
        "application/json;q=0.000",
        "application/vnd.apache.arrow.file",
        "text/csv;q=0, text/*;q=1, application/xml",
    ],
)
def test_nothing_acceptable_is_said(accept: str) -> None:
    """A header that allows none of the formats is an error that lists them."""
    with pytest.raises(NotAcceptable, match=r"application/json, .*text/csv") as caught:
        negotiate(accept)
    assert caught.value.code == "invalid_query"
    assert isinstance(caught.value, RequestError)


@pytest.mark.parametrize(
    ("asked", "expected"),
    [
        ("json", Format.JSON),
        ("NDJSON", Format.NDJSON),
        ("jsonl", Format.NDJSON),
        (".csv", Format.CSV),
        ("Arrow", Format.ARROW),
        (".arrows", Format.ARROW),
        ("ipc", Format.ARROW),
        ("parquet", Format.PARQUET),
    ],
)
def test_what_is_asked_for_by_name_wins(asked: str, expected: Format) -> None:
    """A format that is named is taken whatever the header says, even one that allows nothing."""
    assert negotiate("text/html", asked) is expected
    assert negotiate(None, asked) is expected


@pytest.mark.parametrize("asked", ["", ".", "xlsx", "..csv", "csv ", "x" * 10_000])
def test_an_unknown_name_is_refused(asked: str) -> None:
    """A format that is not there is an error that lists those there are, and stays short."""
    with pytest.raises(InvalidQuery, match="json, ndjson, csv, arrow, parquet") as caught:
        negotiate("*/*", asked)
    assert len(caught.value.message) < 200


def test_a_long_header_costs_little() -> None:
    """A header of many parts and quotes is read through once."""
    assert negotiate("application/json;q=0.1," + ',"\\' * 100_000) is Format.JSON
    assert negotiate("text/csv;x=" + '"a' * 200_000) is Format.CSV


def test_formats_say_what_they_are() -> None:
    """Media types, suffixes and sorts are as published."""
    said = {
        format: (format.media_type, format.suffix, format.is_text, format.columnar)
        for format in Format
    }
    assert said == {
        Format.JSON: ("application/json", ".json", True, False),
        Format.NDJSON: ("application/x-ndjson", ".ndjson", True, False),
        Format.CSV: ("text/csv; charset=utf-8", ".csv", True, True),
        Format.ARROW: ("application/vnd.apache.arrow.stream", ".arrow", False, True),
        Format.PARQUET: ("application/vnd.apache.parquet", ".parquet", False, True),
    }
    for format in Format:
        assert negotiate(format.media_type) is format
        assert negotiate(None, format.suffix) is format
