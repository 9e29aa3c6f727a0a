"""The documented routes put together: Litestar with its errors, limits and OpenAPI in our terms."""

from __future__ import annotations

from collections.abc import Sequence
from contextlib import suppress
from http import HTTPStatus
from typing import Any, cast

import msgspec
import structlog
from litestar import Litestar, Request, Response, Router
from litestar.connection import ASGIConnection
from litestar.exceptions import HTTPException, NotFoundException, ValidationException
from litestar.handlers import BaseRouteHandler
from litestar.openapi.config import OpenAPIConfig
from litestar.openapi.spec import License
from litestar.params import QueryParameter
from litestar.types import ExceptionHandlersMap, HTTPScope

from gapless import __version__
from gapless.errors import GaplessError, InternalError, InvalidQuery, LineTooLong, NotFound
from gapless.servers.admission import Admission
from gapless.servers.http import problems
from gapless.servers.http.asking import query_of
from gapless.servers.http.gate import OUTCOME
from gapless.servers.http.identity import OPERATION, SESSION
from gapless.servers.http.routes.responses import ANY_KEYS

_log = structlog.get_logger("gapless.http")

# How Litestar says that a connection ended within a body.
_UNKNOWN_FIELD = "Object contains unknown field"
_CLIENT_LEFT = "client disconnected prematurely"

_DESCRIPTION = """\
Histories from the hub's own database; what it does not hold is fetched, and only that.

An answer says which part was `cached`, `fetched` and `missing`. Errors are problem documents
(RFC 9457) with the same `code` and `message` as on TCP.
"""


def application(
    handlers: Sequence[BaseRouteHandler], max_body_bytes: int, admission: Admission
) -> Litestar:
    """Return the application with these handlers."""

    async def permitted(
        request: ASGIConnection[Any, Any, Any, Any], handler: BaseRouteHandler
    ) -> None:
        scope = cast("HTTPScope", request.scope)
        method = scope["method"]
        # What Litestar answers to OPTIONS by itself is the same for every route.
        name = method if method == "OPTIONS" else f"{method} {scope['path_template']}"
        admission.admit(name, scope["state"][SESSION])
        scope["state"][OPERATION] = name

    return Litestar(
        guards=[permitted],
        route_handlers=list(handlers),
        openapi_config=OpenAPIConfig(
            title="gapless",
            version=__version__,
            description=_DESCRIPTION,
            license=License(name="AGPL-3.0-only", identifier="AGPL-3.0-only"),
            use_handler_docstrings=True,
            # Litestar would serve its own pages there, from a network.
            openapi_router=Router(
                "/schema", route_handlers=[], include_in_schema=False, before_request=_nothing_here
            ),
        ),
        before_request=_as_declared,
        exception_handlers=_handlers(),
        request_max_body_size=max_body_bytes,
        logging_config=None,
        debug=False,
    )


def _handlers() -> ExceptionHandlersMap:
    return {
        GaplessError: _told,
        ValidationException: _invalid,
        HTTPException: _refused,
        UnicodeDecodeError: _unreadable,
        RecursionError: _unreadable,
        Exception: _fault,
    }


def _told(request: Request[Any, Any, Any], error: GaplessError) -> Response[bytes]:
    return _response(request, error)


def _invalid(request: Request[Any, Any, Any], error: ValidationException) -> Response[bytes]:
    """Say which field of a body, a path or a query is wrong."""
    extra = error.extra if isinstance(error.extra, list) else []
    found = [
        f"{_where(item.get('key'), str(item.get('message')))}: {item.get('message')}"
        f"{_known_fields(request, str(item.get('message')))}"
        for item in extra
        if isinstance(item, dict)
    ]
    return _response(request, InvalidQuery("; ".join(found) or error.detail), error.status_code)


def _where(key: str | None, message: str) -> str:
    """Return what a message is about: the body as a whole goes by its argument's name."""
    whole = not key or (key == "data" and message.startswith(("Object ", "Expected `object`")))
    return "the body" if whole else str(key)


def _known_fields(request: Request[Any, Any, Any], message: str) -> str:
    """Return the end of a message about an unknown field of the body: which ones there are."""
    body = request.route_handler.parsed_fn_signature.parameters.get("data")
    if body is None or not message.startswith(_UNKNOWN_FIELD) or "$." in message:
        return ""
    names = getattr(body.annotation, "__struct_encode_fields__", ())
    return f"; there are: {', '.join(names)}" if names else ""


def _unreadable(request: Request[Any, Any, Any], error: Exception) -> Response[bytes]:
    what = "nested too deeply" if isinstance(error, RecursionError) else "no valid UTF-8"
    return _response(request, InvalidQuery(f"the body is {what}"))


def _refused(request: Request[Any, Any, Any], error: HTTPException) -> Response[bytes]:
    path = request.scope["path"][:100]
    ours: GaplessError
    match error.status_code:
        case HTTPStatus.NOT_FOUND:
            ours = NotFound(f"there is nothing at {path}; see /docs for what there is")
        case HTTPStatus.METHOD_NOT_ALLOWED:
            ours = InvalidQuery(f"{request.method} is not allowed at {path}; see /docs")
        case HTTPStatus.REQUEST_ENTITY_TOO_LARGE:
            ours = LineTooLong(
                "the body is larger than this route takes (api.max_body_bytes at the most)"
            )
        case status if status < HTTPStatus.INTERNAL_SERVER_ERROR:
            ours = InvalidQuery(error.detail)
        case _ if error.detail == _CLIENT_LEFT:
            # No fault of the hub's, and nobody is there to be told.
            return _response(request, InvalidQuery("the request was not whole"))
        case _:
            return _fault(request, error)
    response = _response(request, ours, error.status_code)
    for name, value in (error.headers or {}).items():
        response.headers[name] = value
    return response


def _fault(request: Request[Any, Any, Any], error: Exception) -> Response[bytes]:
    _log.error("a request failed in a way it should not", exc_info=error)
    return _response(
        request, InternalError("the hub failed in a way it should not; its log has the details")
    )


def _response(
    request: Request[Any, Any, Any], error: GaplessError, status: int | None = None
) -> Response[bytes]:
    problem = problems.problem_of(error, status)
    request.scope["state"][OUTCOME] = error.code
    return Response(
        problems.encoded(problem),
        status_code=problem.status,
        media_type=problems.MEDIA_TYPE,
        headers=dict(problems.headers_of(problem)),
    )


async def _as_declared(request: Request[Any, Any, Any]) -> None:
    """Hold a request against what its handler declares, where Litestar would let things pass."""
    await _only_known_keys(request)
    await _only_declared_types(request)


async def _only_declared_types(request: Request[Any, Any, Any]) -> None:
    """Refuse a body whose types only seem right: Litestar takes 0 for false, and "1" for 1."""
    body = request.route_handler.parsed_fn_signature.parameters.get("data")
    if body is None or not issubclass(body.annotation, msgspec.Struct):
        return
    text = await request.body()
    try:
        msgspec.json.decode(text, type=body.annotation)
    except msgspec.ValidationError as error:
        with suppress(msgspec.DecodeError, UnicodeDecodeError, RecursionError):
            msgspec.json.decode(text, type=body.annotation, strict=False)
            raise InvalidQuery(f"the body: {error}") from error
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError):
        # Litestar says what is wrong with it.
        return


async def _only_known_keys(request: Request[Any, Any, Any]) -> None:
    """Refuse a key of the query that means nothing here: it may be a slip of the hand.

    Asynchronous, as a hook that is not costs each request a turn of a thread.
    """
    handler = request.route_handler
    if not request.scope["query_string"] or handler.opt.get(ANY_KEYS):
        return
    known = {
        field.kwarg_definition.name or name
        for name, field in handler.parsed_fn_signature.parameters.items()
        if isinstance(field.kwarg_definition, QueryParameter)
    }
    for name in query_of(request.scope["query_string"]):
        if name not in known:
            listed = ", ".join(sorted(known)) or "none"
            raise InvalidQuery(f"there is no key {name[:60]!r} here; the keys are: {listed}")


async def _nothing_here(request: ASGIConnection[Any, Any, Any, Any]) -> None:
    raise NotFoundException
