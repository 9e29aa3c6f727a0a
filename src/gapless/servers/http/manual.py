"""The OpenAPI document as a page for people: all on the server, nothing from any network."""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Final

import msgspec
from jinja2 import Environment, PackageLoader, StrictUndefined
from markupsafe import Markup, escape

from gapless.servers.http.description import TAKES

Json = Mapping[str, Any]
_REF = "#/components/schemas/"
_NOTHING: Json = {}
HERE: Final = "http://hub.invalid"
"""Stands for the address that the page is asked at, which is put in where it is shown."""
_PARTS: Final[Mapping[str, str]] = {
    "{provider}": "sample",
    "{ticker}": "AAPL",
    "{entity_id}": "note-1",
    "{email}": "ann@example.com",
    "{number}": "1",
}
# Bodies that do not follow from what their shapes require.
_BODIES: Final[Mapping[str, Json]] = {
    "/plugins/load": {"file": "dummy.py"},
    "/v1/users/{email}": {"role": "fetch"},
}
_RANGED: Final = ("/v1/plan", "/v1/refresh")
_VALUES: Final[Json] = {
    "provider": "sample",
    "ticker": "AAPL",
    "source": "notes",
    "data": [{"text": "…"}],
    "email": "ann@example.com",
    "name": "notebook",
}
_QUOTED = re.compile("`([^`]+)`")


@dataclass(frozen=True, slots=True)
class Field:
    """A key of a shape."""

    name: str
    type: str
    link: str
    about: str


@dataclass(frozen=True, slots=True)
class Shape:
    """A named schema."""

    name: str
    description: str
    fields: Sequence[Field]


@dataclass(frozen=True, slots=True)
class Parameter:
    """A parameter of an operation."""

    name: str
    place: str
    type: str
    required: bool
    about: str


@dataclass(frozen=True, slots=True)
class Answer:
    """What an operation may answer."""

    status: str
    shape: str
    media: str
    about: str


@dataclass(frozen=True, slots=True)
class Operation:
    """A method on a path."""

    id: str
    method: str
    path: str
    description: str
    takes: str
    parameters: Sequence[Parameter]
    takes_body: bool
    body: str
    responses: Sequence[Answer]
    example: str


@dataclass(frozen=True, slots=True)
class Group:
    """Operations of one subject."""

    name: str
    operations: Sequence[Operation]


def page(document: Json, authenticated: bool = False) -> str:
    """Return the page of an OpenAPI document; `HERE` in it stands for the hub's own address.

    `authenticated`: requests need a token.
    """
    environment = Environment(
        loader=PackageLoader("gapless.servers.http", "pages"),
        autoescape=True,
        undefined=StrictUndefined,
    )
    operations: dict[str, list[Operation]] = {}
    for tag, operation in _operations(document, authenticated):
        operations.setdefault(tag, []).append(operation)
    return environment.get_template("docs.html").render(
        info=document["info"],
        groups=[Group(name, found) for name, found in sorted(operations.items())],
        shapes=[_shape(name, schema) for name, schema in sorted(_schemas(document).items())],
        paragraphs=_paragraphs,
        authenticated=authenticated,
    )


def _schemas(document: Json) -> Json:
    found: Json = document.get("components", {}).get("schemas", {})
    return found


def _operations(document: Json, authenticated: bool) -> Iterator[tuple[str, Operation]]:
    for path, methods in document["paths"].items():
        for method, told in methods.items():
            if method == "head":
                continue
            content: Json = told.get("requestBody", {}).get("content", {})
            schema: Json = next(iter(content.values()), _NOTHING).get("schema", {})
            yield (
                next(iter(told.get("tags", ())), "other"),
                Operation(
                    id=told["operationId"],
                    method=method.upper(),
                    path=path,
                    description=told.get("description") or told.get("summary") or "",
                    takes=told.get(TAKES, ""),
                    parameters=[_parameter(one) for one in told.get("parameters", ())],
                    takes_body=bool(schema),
                    body=_named(schema),
                    responses=[
                        _answer(status, one) for status, one in sorted(told["responses"].items())
                    ],
                    example=_example(
                        method,
                        path,
                        schema,
                        _schemas(document),
                        shows_token=authenticated and TAKES in told,
                    ),
                ),
            )


def _parameter(told: Json) -> Parameter:
    return Parameter(
        told["name"],
        told["in"],
        _type(told.get("schema", {})),
        bool(told.get("required")),
        told.get("description", ""),
    )


def _answer(status: str, told: Json) -> Answer:
    contents: Json = told.get("content", {})
    media, content = next(iter(contents.items()), ("", _NOTHING))
    return Answer(status, _named(content.get("schema", {})), media, told.get("description", ""))


def _shape(name: str, schema: Json) -> Shape:
    return Shape(
        name,
        schema.get("description", ""),
        [
            Field(key, _type(told), _named(told), told.get("description", ""))
            for key, told in schema.get("properties", {}).items()
        ],
    )


def _named(schema: Json) -> str:
    """Return the name of the shape that a schema is, or is made of."""
    if "$ref" in schema:
        return str(schema["$ref"]).removeprefix(_REF)
    for part in (*schema.get("oneOf", ()), schema.get("items", {})):
        if part and (name := _named(part)):
            return name
    return ""


def _type(schema: Json) -> str:
    if "$ref" in schema:
        return _named(schema)
    if "oneOf" in schema:
        return " or ".join(_type(part) for part in schema["oneOf"])
    if "enum" in schema:
        return " | ".join(str(value) for value in schema["enum"])
    if "const" in schema:
        return str(schema["const"])
    kind = schema.get("type", "any")
    if kind == "array":
        return f"list of {_type(schema.get('items', {}))}"
    return " or ".join(kind) if isinstance(kind, list) else str(kind)


def _example(
    method: str, path: str, schema: Json, schemas: Json, *, shows_token: bool = False
) -> str:
    """Return a command that asks for it, to be pasted into a terminal."""
    url = path.replace("{name}", "sample" if "ping" in path else "dummy")
    for part, value in _PARTS.items():
        url = url.replace(part, value)
    command = "curl" if method == "get" else f"curl -X {method.upper()}"
    lines = [f"{command} '{HERE}{url}'"]
    if shows_token:
        lines.append('-H "Authorization: Bearer $GAPLESS_TOKEN"')
    if schema:
        body = msgspec.json.encode(_body(path, schemas.get(_named(schema), {}))).decode()
        lines.append(f"-H 'content-type: application/json' -d '{body}'")
    return " \\\n  ".join(lines)


def _body(path: str, shape: Json) -> Json:
    if path in _BODIES:
        return _BODIES[path]
    if not shape:
        return {"query": {"type": "ProviderList"}}
    required = shape.get("required", ())
    body = {
        name: _value(name, told)
        for name, told in shape.get("properties", {}).items()
        if name in required
    }
    return body | {"start": "2010-01-01", "end": "2011-01-01"} if path in _RANGED else body


def _value(name: str, told: Json) -> object:
    return _VALUES.get(name, [] if told.get("type") == "array" else "…")


def _paragraphs(text: str) -> list[Markup]:
    """Return the paragraphs of a description as HTML, what stands in backticks as code."""
    parts = (" ".join(part.split()) for part in text.split("\n\n") if part.strip())
    # Escaped before any tag is added.
    return [Markup(_QUOTED.sub(r"<code>\1</code>", str(escape(part)))) for part in parts]
