"""What routes answer with: the errors, as OpenAPI tells them, and shapes of what may be long."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from types import MappingProxyType
from typing import Any, Final, TypeVar

import msgspec
from litestar import MediaType, Response
from litestar.openapi.datastructures import ResponseSpec

from gapless.computing import MANY, computed
from gapless.servers.http.problems import MEDIA_TYPE, Problem

T = TypeVar("T")

# In a handler's `opt`: keys of the query that it does not declare are parameters of a provider.
ANY_KEYS: Final = "gapless_any_keys"

_ABOUT: Final[Mapping[int, str]] = MappingProxyType(
    {
        400: "The request makes no sense: the message names what is wrong.",
        401: "Authentication is on, and there is no valid token.",
        403: "This host, site or token is not allowed to.",
        404: "There is no such provider, ticker, series, entity or plugin.",
        406: "None of the formats that the client takes is there.",
        408: "The request did not arrive in time.",
        409: "What is there already stands against it.",
        413: "The body is too large.",
        415: "The body is not JSON.",
        422: "The request was understood and cannot be done.",
        429: "You ask more often than you may; try again.",
        500: "A fault of the hub's own; its log has the details.",
        502: "The provider failed, and nothing is held that could be answered.",
        503: "A limit is reached, or upstream wants to be left alone; try again.",
        504: "The provider did not answer in time.",
        507: "The disk is full.",
    }
)


def problems(*statuses: int) -> Mapping[int, ResponseSpec]:
    """Return the error responses of a route that takes a token, where authentication is on."""
    return open_problems(401, *statuses)


def open_problems(*statuses: int, unauthorized: str | None = None) -> Mapping[int, ResponseSpec]:
    """Return the error responses of a route that is open to anyone; all may refuse their caller.

    `unauthorized`: what it says 401 to, if to anything.
    """
    about = _ABOUT if unauthorized is None else {**_ABOUT, 401: unauthorized}
    told = {400, 403, 429, *statuses, *(() if unauthorized is None else (401,))}
    return {
        status: ResponseSpec(
            Problem,
            description=about[status],
            media_type=MEDIA_TYPE,
            generate_examples=False,
        )
        for status in sorted(told)
    }


async def shaped(count: int, make: Callable[[], T]) -> Response[T]:
    """Return the response with a shape of `count` rows; that of many is made away from the loop."""
    if count <= MANY:
        return Response(make())
    body: Any = await computed(count, lambda: msgspec.json.encode(make()))
    return Response(body, media_type=MediaType.JSON)
