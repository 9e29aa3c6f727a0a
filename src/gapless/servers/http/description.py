"""The OpenAPI document: what Litestar tells of the routes, and what it cannot say.

Apart from the routes, because this is about a document, in the terms of its standard.
"""

from __future__ import annotations

import copy
from collections.abc import Mapping
from typing import Any, Final

from gapless.auth.permissions import OPERATIONS, Rule
from gapless.servers.http.formats import Format

Json = dict[str, Any]

# An extension of the document's: what a request needs where authentication is on.
TAKES: Final = "x-takes"
_DATA: Final = "/v1/data/{provider}/{ticker}"
_QUERY: Final = "/v1/query"
# Statuses with which a request that was read as an envelope is answered.
_OF_ENVELOPES: Final = ("400", "404", "422", "500", "502", "503", "504", "507")
_PARAMS: Final[Json] = {
    "name": "params",
    "in": "query",
    "style": "form",
    "explode": True,
    "description": "parameters of the provider, such as interval=1h or adjust=all",
    "schema": {"type": "object", "additionalProperties": {"type": "string"}},
}
_OPEN: Final = (
    (_DATA, "get"),
    (_DATA, "head"),
    ("/v1/coverage/{provider}/{ticker}", "get"),
    ("/v1/series/{provider}/{ticker}", "delete"),
)
_LINKS: Final = (
    # From what, by which key of its answer, to which operations.
    ("/plugins/load", "post", "200", "name", ("/v1/plugins/{name}", "get")),
    ("/plugins/load", "post", "200", "name", ("/v1/plugins/{name}", "delete")),
    ("/plugins/load", "post", "200", "name", ("/v1/plugins/{name}/reload", "post")),
    ("/v1/entities/{entity_id}", "put", "201", "entity_id", ("/v1/entities/{entity_id}", "get")),
)
_TEXT: Final[Json] = {"type": "string"}


def described(document: Mapping[str, Any], authenticated: bool = False) -> Json:
    """Return the document that clients get, made of Litestar's.

    `authenticated`: requests need a token.
    """
    result = copy.deepcopy(dict(document))
    paths = result["paths"]
    _describe_data(paths[_DATA])
    _describe_query(paths[_QUERY]["post"])
    for path, method in _OPEN:
        paths[path][method]["parameters"].append(copy.deepcopy(_PARAMS))
    result["components"]["securitySchemes"] = {"bearer": {"type": "http", "scheme": "bearer"}}
    for path, methods in paths.items():
        for method, operation in methods.items():
            _describe_rule(operation, OPERATIONS[f"{method.upper()} {path}"], authenticated)
    for path, method, status, key, target in _LINKS:
        _link(paths, path, method, status, key, target)
    return result


def _describe_rule(operation: Json, rule: Rule, authenticated: bool) -> None:
    """Tell which token it takes: the scope by the standard, all of it in words."""
    if rule.anyone:
        operation["security"] = []
        return
    needed: Json = {"bearer": [] if rule.scope is None else [str(rule.scope)]}
    operation["security"] = [needed] if authenticated else [{}, needed]
    token = "a token from signing in" if rule.signed_in else "any token"
    if rule.scope is None:
        operation[TAKES] = token
    else:
        operation[TAKES] = f"{rule.scope}, with {token}" if rule.signed_in else str(rule.scope)


def _describe_data(item: Json) -> None:
    """Tell the formats, their types, and the answers that conditions and ranges bring."""
    kinds = {
        "strict": {"type": "boolean", "default": False},
        "format": {"type": "string", "enum": [format.value for format in Format]},
        "limit": {"type": "integer", "minimum": 1},
    }
    for method, operation in item.items():
        for parameter in operation["parameters"]:
            parameter["schema"] = kinds.get(parameter["name"], parameter["schema"])
        responses = operation["responses"]
        content = {
            format.media_type: {"schema": _shape(format)} if method == "get" else {}
            for format in Format
        }
        responses["200"] = {
            "description": "The records.",
            "headers": _stitch_headers(),
            "content": content,
        }
        responses["206"] = {"description": "The range of bytes that was asked for."}
        responses["304"] = {"description": "The client has them, by its If-None-Match."}
        responses["416"] = {"description": "There are no such bytes."}
        if method == "head":
            for response in responses.values():
                response.pop("content", None)


def _shape(format: Format) -> Json:
    if format is Format.JSON:
        return {"type": "array", "items": {"type": "object"}}
    return dict(_TEXT) if format.is_text else {}


def _stitch_headers() -> Json:
    about = {
        "Gapless-Range": "the range that was asked for",
        "Gapless-State": "ready, partial or stale",
        "Gapless-Cached": "the ranges that were held",
        "Gapless-Fetched": "the ranges that were fetched for this answer",
        "Gapless-Missing": "the ranges that could not be had",
        "Gapless-Facts": "what is known of the ticker, as JSON",
        "Gapless-Why": "why, as JSON",
        "Gapless-Upstream-Requests": "how many requests it took",
        "Gapless-Records": "how many records follow",
        "Gapless-Next": "the cursor of the next page",
        "Link": "the next page",
        "ETag": "where the data is final",
    }
    return {name: {"description": text, "schema": dict(_TEXT)} for name, text in about.items()}


def _describe_query(operation: Json) -> None:
    """Tell the envelope, and that its errors come in envelopes too."""
    operation["requestBody"] = {
        "required": True,
        "content": {
            "application/json": {
                "schema": {
                    "type": "object",
                    "required": ["query"],
                    "properties": {
                        "request_id": {"type": ["string", "integer", "boolean", "null"]},
                        "query": {
                            "type": "object",
                            "required": ["type"],
                            "properties": {"type": dict(_TEXT), "payload": {"type": "object"}},
                        },
                        "strict": {"type": ["boolean", "null"]},
                        "data_as": {"enum": ["string", "array", None]},
                    },
                }
            }
        },
    }
    answer = {
        "type": "object",
        "required": ["ok", "request_id", "kind", "result", "error", "ts_ms"],
        "properties": {
            "ok": {"type": "boolean"},
            "kind": dict(_TEXT),
            "ts_ms": {"type": "integer"},
        },
    }
    responses = operation["responses"]
    responses["200"]["content"] = {"application/json": {"schema": answer}}
    for status in _OF_ENVELOPES:
        response = responses.setdefault(status, {"description": "The request failed."})
        response.setdefault("content", {})["application/json"] = {"schema": answer}


def _link(
    paths: Json, path: str, method: str, status: str, key: str, target: tuple[str, str]
) -> None:
    place = "$request.path." if f"{{{key}}}" in path else "$response.body#/"
    operation = paths[target[0]][target[1]]
    links = paths[path][method]["responses"][status].setdefault("links", {})
    links[operation["operationId"]] = {
        "operationId": operation["operationId"],
        "parameters": {key: f"{place}{key}"},
    }
