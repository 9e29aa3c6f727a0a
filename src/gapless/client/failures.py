"""What can go wrong between a client and a hub, beside what the hub itself answers with.

GaplessError
├── Unreachable                     no hub answers
│   ├── ConnectionLost              the connection broke; what was asked may have been done
│   ├── TimedOut                    it is there, and silent for too long
│   └── HttpUnusable                it answers over TCP, and is not where HTTP should be
├── UnexpectedAnswer                what answers is no hub
├── PartlyFailed                    some of many tickers failed
└── MissingDependency               a library that is only needed for this is not installed
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import TYPE_CHECKING

from gapless.errors import GaplessError, InternalError, ProviderError

if TYPE_CHECKING:
    import polars as pl


class Unreachable(GaplessError):
    """No hub answers at the address, or it stopped answering."""


class ConnectionLost(Unreachable):
    """The connection broke before the answer was complete."""


class TimedOut(Unreachable):
    """The hub was silent for longer than the timeout; the request was given up."""


class HttpUnusable(Unreachable):
    """The hub cannot be asked over HTTP: another one is at that address, or none.

    What was asked, with the token, is sent to no other hub. `fact` says it without what to do.
    """

    def __init__(self, message: str, *, fact: str = "") -> None:
        super().__init__(message)
        self.fact = fact


class UnexpectedAnswer(GaplessError):
    """What answers at the address does not speak the hub's protocol."""


class PartlyFailed(GaplessError):
    """Some of many tickers failed: `failures` has their errors, `frame` what the others have."""

    def __init__(
        self, message: str, failures: Mapping[str, GaplessError], frame: pl.DataFrame
    ) -> None:
        super().__init__(message)
        self.failures = dict(failures)
        self.frame = frame

    def __reduce__(self) -> tuple[object, ...]:
        """Return what it is made of, for copies."""
        return type(self), (self.message, self.failures, self.frame)


class MissingDependency(GaplessError, ImportError):
    """A library that this call needs is not installed; the message has the pip command."""


class NotReadyWarning(UserWarning):
    """An answer is `partial` or `stale`: less, or older, than what was asked for."""


class HttpUnusedWarning(UserWarning):
    """The hub is not where its HTTP should be: this client asks it over TCP alone.

    `fact` says it without what to do.
    """

    def __init__(self, message: str, *, fact: str = "") -> None:
        super().__init__(message)
        self.fact = fact


def error_of(error: object) -> GaplessError:
    """Return the error of the tree for an answer's `error` object: by reason, or by code."""
    fields = error if isinstance(error, dict) else {}
    code, reason = fields.get("code"), fields.get("reason")
    message = str(fields.get("message") or "the hub gave no reason")
    retry = fields.get("retry_after_s")
    kind: type[GaplessError] = InternalError if code == InternalError.code else GaplessError
    for candidate in _descendants(GaplessError):
        if candidate.code != code or code == GaplessError.code:
            continue
        if kind is GaplessError:
            kind = candidate
        known = candidate.default_reason
        if known is not None and known == reason and issubclass(candidate, ProviderError):
            kind = candidate
    if kind is GaplessError and code is not None:
        message = f"{message} ({code})"
    return kind(
        message,
        reason=reason if isinstance(reason, str) else None,
        retry_after_s=retry if isinstance(retry, int | float) else None,
    )


def _descendants(kind: type[GaplessError]) -> Iterator[type[GaplessError]]:
    for child in kind.__subclasses__():
        yield child
        yield from _descendants(child)
