"""What can be asked: each kind of query, request and filter is known wherever one has to be."""

from __future__ import annotations

import ast
import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any, get_args

import pytest
from msgspec.structs import fields

from gapless.auth.permissions import OPERATIONS
from gapless.protocol.language import (
    KEY_ALIASES,
    KEYS_ABOUT,
    VERB_ALIASES,
    VERB_SYNTAX,
    format_line,
    parse_line,
)
from gapless.protocol.messages import (
    FILTERS,
    QUERIES,
    REQUESTS,
    Describe,
    Envelope,
    Filter,
    Fresh,
    Query,
    Request,
    SearchEntities,
    ToProvider,
    decode_envelope,
    encode_envelope,
)
from gapless.protocol.messages import ProviderRequest as Asked

ROOT = Path(__file__).parents[2]
SOURCES = ROOT / "src" / "gapless"
DOCS = ROOT / "docs"
MOST_PLACES = 4


def samples(kind: type) -> Iterator[Any]:
    """Yield structs of a kind, so that all that may stand in a field stands in one of them."""
    found: list[dict[str, Any]] = [{}]
    for field in fields(kind):
        found = [{**one, field.name: value} for one in found for value in values(field.type)]
    yield from (kind(**one) for one in found)


def values(of: Any) -> list[Any]:
    """Return what may stand in a field of a type."""
    if of is str:
        return ["now"]  # a bound, and the name of a parameter, too
    if of == tuple[str, ...]:
        return [("a", "b")]
    if of == int | None:
        return [7]
    if of == tuple[Filter, ...]:
        return [tuple(one for kind in FILTERS for one in samples(kind))]
    if of == Request:
        return [one for kind in REQUESTS for one in samples(kind)]
    assert of == Fresh | None
    return [None, "now"]


def queries() -> list[Query]:
    """Return a query of each type, and of each request; together they have each filter."""
    return [one for kind in QUERIES for one in samples(kind)]


def test_the_samples_have_every_kind() -> None:
    """Each member of the three unions is in one of them."""
    asked = queries()
    requests = [one.request for one in asked if isinstance(one, Asked)]
    search, *_ = (one for one in requests if isinstance(one, SearchEntities))
    assert {type(one) for one in asked} == set(get_args(Query))
    assert {type(one) for one in requests} == set(get_args(Request))
    assert {type(one) for one in search.query} == set(get_args(Filter))


@pytest.mark.parametrize("query", queries(), ids=lambda one: type(one).__name__)
def test_each_kind_is_written_and_read(query: Query) -> None:
    """What is encoded is decoded as the same, under the struct's own name."""
    for asked in (query, getattr(query, "request", query)):
        assert type(asked).__name__.encode() in encode_envelope(Envelope(b"1", query))
    assert decode_envelope(encode_envelope(Envelope(b"1", query))) == Envelope(b"1", query)


def test_each_kind_has_a_rule() -> None:
    """A request goes by its own name among what may be permitted; nothing else is without one."""
    names = {one.__name__ for one in (*QUERIES, *REQUESTS)}
    assert names - {Asked.__name__} == names & set(OPERATIONS)


def test_each_kind_is_on_the_page_of_the_protocol() -> None:
    """Types of queries begin a row of their table; requests and filters are shown in theirs."""
    page = (DOCS / "protocol.md").read_text()
    told = set(re.findall(r"^\| `(\w+)` \|", page, re.MULTILINE))
    for row in re.findall(r"^\| (`\{.+?) \|", page, re.MULTILINE):
        told |= set(re.findall(r'`\{"(\w+)":', row))
    assert {one.__name__ for one in (*QUERIES, *REQUESTS, *FILTERS)} <= told


@pytest.mark.parametrize("kind", FILTERS, ids=lambda one: one.__name__)
def test_each_filter_can_be_said(kind: type[Filter]) -> None:
    """The query language has a key for each, with help, or takes what is no key for it."""
    for item in samples(kind):
        asked = Asked("p", SearchEntities((item,)))
        line = format_line(asked)
        assert parse_line(line) == asked
        key = line.split()[-1].partition("=")[0]
        if kind.key is None:
            assert key not in KEYS_ABOUT
            continue
        assert KEYS_ABOUT[key] == kind.key.about
        for alias in kind.key.aliases:
            assert KEY_ALIASES[alias] == key
            assert parse_line(line.replace(f" {key}=", f" {alias}=")) == asked


@pytest.mark.parametrize(
    "asked",
    [one for one in queries() if isinstance(one, ToProvider)],
    ids=lambda one: type(getattr(one, "request", one)).__name__,
)
def test_what_a_provider_is_asked_can_be_said(asked: ToProvider) -> None:
    """The query language has a verb for each, with what it takes."""
    request: Any = getattr(asked, "request", asked)
    if isinstance(request, SearchEntities):
        # Each filter is said by itself above.
        request = SearchEntities(request.query[:1])
    asked = asked if request is asked else Asked(asked.provider, request)
    line = format_line(asked)
    assert parse_line(line) == asked
    verb = line.split()[2]
    assert VERB_SYNTAX[verb] == request.verb.about
    for alias in request.verb.aliases:
        assert VERB_ALIASES[alias] == verb
        assert parse_line(line.replace(f" {verb}", f" {alias}", 1)) == asked


def places(name: str) -> set[str]:
    """Return the files that name a kind: sources but for what they say of it, and pages."""
    found = {page.name for page in DOCS.glob("*.md") if re.search(rf"\b{name}\b", page.read_text())}
    for path in SOURCES.rglob("*.py"):
        for node in ast.walk(ast.parse(path.read_text())):
            match node:
                case ast.Name(id=text) | ast.alias(name=text) | ast.ClassDef(name=text):
                    pass
                case ast.Constant(value=text):
                    pass
                case _:
                    continue
            if text == name:
                found.add(str(path.relative_to(SOURCES)))
    return found


@pytest.mark.parametrize(
    "kind", [one for one in FILTERS if one.concerns != "range"], ids=lambda one: one.__name__
)
def test_a_filter_is_named_in_few_places(kind: type[Filter]) -> None:
    """Its definition, what it finds, the client's argument for it, and the page."""
    named = places(kind.__name__)
    assert {"protocol/_queries.py", "hub/entities.py", "protocol.md"} <= named
    assert len(named) <= MOST_PLACES


def test_a_type_of_query_is_named_in_few_places() -> None:
    """Its definition, who may ask it, what answers it and the page; then clients may offer it."""
    named = {one for one in places(Describe.__name__) if not one.startswith("client/")}
    assert {"protocol/_queries.py", "auth/permissions.py", "servers/desk.py"} <= named
    assert len(named) <= MOST_PLACES
