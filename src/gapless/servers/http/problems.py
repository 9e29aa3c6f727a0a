"""Errors as HTTP tells them: a status, and a problem document (RFC 9457) with the wire's code."""

from __future__ import annotations

from collections.abc import Mapping
from http import HTTPStatus
from types import MappingProxyType
from typing import Final

import msgspec

from gapless import errors
from gapless.errors import GaplessError
from gapless.protocol.messages import ErrorBody
from gapless.servers.http.formats import NotAcceptable

MEDIA_TYPE: Final = "application/problem+json"
_LONGEST_PAUSE_S: Final = 86_400

# The most particular class first.
_STATUS: Final[tuple[tuple[type[GaplessError], HTTPStatus], ...]] = (
    (errors.MissingToken, HTTPStatus.UNAUTHORIZED),
    (errors.Unauthorized, HTTPStatus.UNAUTHORIZED),
    (errors.Forbidden, HTTPStatus.FORBIDDEN),
    (errors.ProviderNotFound, HTTPStatus.NOT_FOUND),
    (errors.NotFound, HTTPStatus.NOT_FOUND),
    (errors.Unsupported, HTTPStatus.UNPROCESSABLE_ENTITY),
    (errors.TooLarge, HTTPStatus.UNPROCESSABLE_ENTITY),
    (errors.LineTooLong, HTTPStatus.REQUEST_ENTITY_TOO_LARGE),
    (errors.QuotaExceeded, HTTPStatus.TOO_MANY_REQUESTS),
    (errors.Conflict, HTTPStatus.CONFLICT),
    (errors.Overloaded, HTTPStatus.SERVICE_UNAVAILABLE),
    (NotAcceptable, HTTPStatus.NOT_ACCEPTABLE),
    (errors.RequestError, HTTPStatus.BAD_REQUEST),
    (errors.UnknownTicker, HTTPStatus.NOT_FOUND),
    (errors.OutOfWindow, HTTPStatus.NOT_FOUND),
    (errors.PluginNotLoaded, HTTPStatus.UNPROCESSABLE_ENTITY),
    (errors.RateLimited, HTTPStatus.SERVICE_UNAVAILABLE),
    (errors.PluginTimeout, HTTPStatus.GATEWAY_TIMEOUT),
    (errors.ProviderError, HTTPStatus.BAD_GATEWAY),
    (errors.DiskFull, HTTPStatus.INSUFFICIENT_STORAGE),
)


class Problem(msgspec.Struct, frozen=True, omit_defaults=True, kw_only=True):
    """A problem document: RFC 9457's members, and those of an error on the wire.

    `detail` and `message` say the same, once for each world. `traceback` is a plugin's own, where
    loading it failed.
    """

    type: str
    title: str
    status: int
    detail: str
    ok: bool
    code: str
    message: str
    reason: str | None = None
    retry_after_s: float | None = None
    traceback: str | None = None


def status_of(error: GaplessError) -> int:
    """Return the HTTP status of an error."""
    for kind, status in _STATUS:
        if isinstance(error, kind):
            return status
    return HTTPStatus.INTERNAL_SERVER_ERROR


def problem_of(error: GaplessError, status: int | None = None) -> Problem:
    """Return what a client is told of an error; `status` where it is not the error's own."""
    status = status_of(error) if status is None else status
    body = ErrorBody.of(error)
    return Problem(
        type="about:blank",
        title=HTTPStatus(status).phrase,
        status=status,
        detail=body.message,
        ok=False,
        code=body.code,
        message=body.message,
        reason=body.reason,
        retry_after_s=body.retry_after_s,
        traceback=getattr(error, "traceback", None) or None,
    )


def headers_of(problem: Problem) -> Mapping[str, str]:
    """Return the headers that go with a problem document."""
    if problem.status == HTTPStatus.UNAUTHORIZED:
        return _UNAUTHORIZED
    if problem.retry_after_s is None:
        return _PLAIN
    return {
        **_PLAIN,
        "retry-after": str(min(_LONGEST_PAUSE_S, max(1, round(problem.retry_after_s)))),
    }


# What is told back of a request must not be taken for a page.
_PLAIN: Final = MappingProxyType({"cache-control": "no-store", "x-content-type-options": "nosniff"})
# RFC 9110, 11.6.1: whoever is refused is told what kind of credentials there are.
_UNAUTHORIZED: Final = MappingProxyType({**_PLAIN, "www-authenticate": 'Bearer realm="gapless"'})


def encoded(problem: Problem) -> bytes:
    """Return a problem document as JSON."""
    return msgspec.json.encode(problem)
