"""The OpenAPI document as a page for people: all on the server, nothing from any network."""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import msgspec
from jinja2 import Environment, PackageLoader, StrictUndefined
from markupsafe import Markup, escape

Json = Mapping[str, Any]
_REF = "#/components/schemas/"
_NOTHING: Json = {}
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


def page(document: Json) -> str:
    """Return the page of an OpenAPI document."""
    environment = Environment(
        loader=PackageLoader("gapless.servers.http", "pages"),
        autoescape=True,
        undefined=StrictUndefined,
    )
    operations: dict[str, list[Operation]] = {}
    for tag, operation in _operations(document):
        operations.setdefault(tag, []).append(operation)
    return environment.get_template("docs.html").render(
        info=document["info"],
        groups=[Group(name, found) for name, found in sorted(operations.items())],
        shapes=[_shape(name, schema) for name, schema in sorted(_schemas(document).items())],
        paragraphs=_paragraphs,
    )


def _schemas(document: Json) -> Json:
    found: Json = document.get("components", {}).get("schemas", {})
    return found


def _operations(document: Json) -> Iterator[tuple[str, Operation]]:
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
                    parameters=[_parameter(one) for one in told.get("parameters", ())],
                    takes_body=bool(schema),
                    body=_named(schema),
                    responses=[
                        _answer(status, one) for status, one in sorted(told["responses"].items())
                    ],
                    example=_example(method, path, schema, _schemas(document)),
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


def _example(method: str, path: str, schema: Json, schemas: Json) -> str:
    """Return a command that asks for it, to be pasted into a terminal."""
    url = path.replace("{provider}", "sample").replace("{ticker}", "AAPL")
    url = url.replace("{name}", "sample" if "ping" in path else "dummy")
    url = url.replace("{entity_id}", "note-1")
    command = f"curl 'http://127.0.0.1:7070{url}'"
    if method != "get":
        command = f"curl -X {method.upper()} 'http://127.0.0.1:7070{url}'"
    if not schema:
        return command
    known = schemas.get(_named(schema), {})
    body = {
        name: _value(name, told)
        for name, told in known.get("properties", {}).items()
        if name in known.get("required", ())
    }
    if "/plan" in path or "/refresh" in path:
        body |= {"start": "2010-01-01", "end": "2011-01-01"}
    elif path.endswith("/load"):
        body = {"file": "dummy.py"}
    if not known:
        body = {"query": {"type": "ProviderList"}}
    text = msgspec.json.encode(body).decode()
    return f"{command} \\\n  -H 'content-type: application/json' -d '{text}'"


def _value(name: str, told: Json) -> object:
    known = {"provider": "sample", "ticker": "AAPL", "source": "notes", "data": [{"text": "…"}]}
    return known.get(name, [] if told.get("type") == "array" else "…")


def _paragraphs(text: str) -> list[Markup]:
    """Return the paragraphs of a description as HTML, what stands in backticks as code."""
    parts = (" ".join(part.split()) for part in text.split("\n\n") if part.strip())
    # Escaped before any tag is added.
    return [Markup(_QUOTED.sub(r"<code>\1</code>", str(escape(part)))) for part in parts]
