"""The one error tree: every error a person or a program can meet, each with its wire code.

    GaplessError
    ├── RequestError                    what a client sent cannot be served
    │   ├── InvalidJson                 invalid_json
    │   ├── InvalidEnvelope             invalid_envelope
    │   ├── LineTooLong                 line_too_long
    │   ├── MissingToken                missing_token
    │   ├── Unauthorized                unauthorized
    │   ├── Forbidden                   forbidden
    │   ├── InvalidQuery                invalid_query
    │   ├── ProviderNotFound            provider_not_found
    │   ├── NotFound                    not_found
    │   ├── Unsupported                 unsupported
    │   ├── TooLarge                    too_large
    │   ├── Conflict                    invalid_query: what is there already stands against it
    │   └── Overloaded                  overloaded
    │       └── QuotaExceeded           overloaded: it is this client who asks too much
    ├── ProviderError                   provider_request_failed, with a reason
    │   ├── RateLimited                 rate_limited
    │   ├── UpstreamUnavailable         upstream_unavailable
    │   │   └── UpstreamUnreachable     upstream_unavailable: there is no connection at all
    │   ├── BadUpstreamReply            bad_upstream_reply
    │   ├── UpstreamRejected            upstream_rejected
    │   ├── UnknownTicker               unknown_ticker
    │   ├── OutOfWindow                 out_of_window
    │   ├── PluginCrashed               plugin_crashed
    │   ├── PluginTimeout               plugin_timeout
    │   ├── PluginFailed                plugin_error
    │   ├── PluginNotLoaded             plugin_error, with the plugin's own traceback
    │   └── BadPluginReply              bad_plugin_reply
    ├── StoreError                      internal: the database cannot do it
    │   ├── DatabaseInUse
    │   ├── DatabaseNewer
    │   ├── DatabaseDamaged
    │   └── DiskFull
    ├── ConfigError                     a setting is wrong
    └── InternalError                   internal: a fault of ours

Foreign errors are translated where they come in (store, providers, sockets), so that nothing
above those rooms needs to know which library raised them.
"""

from __future__ import annotations

import copy
from typing import ClassVar, Self


class GaplessError(Exception):
    """Something that gapless can name: what happened, to what, and what to do.

    `code` and `kind` are the wire's (`kind` `None`: that of the request which failed); `reason`
    and `retry_after_s` are on the wire only where they say something.
    """

    code: ClassVar[str] = "internal"
    kind: ClassVar[str | None] = None
    default_reason: ClassVar[str | None] = None

    def __init__(
        self,
        message: str,
        *,
        reason: str | None = None,
        retry_after_s: float | None = None,
    ) -> None:
        super().__init__(message)
        self.message = message
        self.reason = reason if reason is not None else self.default_reason
        self.retry_after_s = retry_after_s

    def again(self) -> Self:
        """Return the error anew, to be kept or raised once more.

        A raised error holds its traceback, and with it all that was in use where it was raised.
        """
        return copy.copy(self)


class RequestError(GaplessError):
    """What a client sent cannot be served as it is."""


class InvalidJson(RequestError):
    """The line is no JSON object."""

    code = "invalid_json"
    kind = "InvalidJson"


class InvalidEnvelope(RequestError):
    """The line is JSON, but no request envelope; the message names the field by its path."""

    code = "invalid_envelope"
    kind = "InvalidJson"


class LineTooLong(RequestError):
    """A line is over the limit; the connection ends after this error."""

    code = "line_too_long"
    kind = "InvalidJson"


class MissingToken(RequestError):
    """Authentication is on and the request carries no token."""

    code = "missing_token"
    kind = "Unauthorized"


class Unauthorized(RequestError):
    """The token is not valid (any more)."""

    code = "unauthorized"
    kind = "Unauthorized"


class Forbidden(RequestError):
    """The token's role does not allow this."""

    code = "forbidden"
    kind = "Unauthorized"


class InvalidQuery(RequestError):
    """A range, parameter, limit or query line makes no sense."""

    code = "invalid_query"


class ProviderNotFound(RequestError):
    """No provider of that name is registered."""

    code = "provider_not_found"


class NotFound(RequestError):
    """No such entity is stored."""

    code = "not_found"


class Unsupported(RequestError):
    """The provider cannot do that."""

    code = "unsupported"


class TooLarge(RequestError):
    """The answer would pass a limit; the message says how to page."""

    code = "too_large"


class Conflict(InvalidQuery):
    """What is there already stands against it."""


class Overloaded(RequestError):
    """A limit is reached for now; try again."""

    code = "overloaded"


class QuotaExceeded(Overloaded):
    """The client has used up its own share for now; others have theirs."""


class ProviderError(GaplessError):
    """The provider failed; `reason` says how, `requests` how many it had sent upstream by then."""

    code = "provider_request_failed"
    default_reason: ClassVar[str | None] = "upstream_unavailable"
    retryable: ClassVar[bool] = False
    requests: int = 1


class RateLimited(ProviderError):
    """Upstream refuses because it was asked too often."""

    default_reason = "rate_limited"
    retryable = True


class UpstreamUnavailable(ProviderError):
    """Upstream did not answer, or not with anything usable."""

    default_reason: ClassVar[str | None] = "upstream_unavailable"
    retryable = True


class UpstreamUnreachable(UpstreamUnavailable):
    """No connection to upstream came about, whatever it was to be asked."""

    # On the wire it is the same; read from there it is its base.
    default_reason = None

    def __init__(self, message: str, *, retry_after_s: float | None = None) -> None:
        super().__init__(
            message, reason=UpstreamUnavailable.default_reason, retry_after_s=retry_after_s
        )


class BadUpstreamReply(ProviderError):
    """What upstream answered is no answer to what it was asked; nothing of it is stored."""

    default_reason = "bad_upstream_reply"


class UpstreamRejected(ProviderError):
    """Upstream understood the request and will not serve it."""

    default_reason = "upstream_rejected"


class UnknownTicker(ProviderError):
    """Upstream knows no such ticker."""

    default_reason = "unknown_ticker"


class OutOfWindow(ProviderError):
    """Upstream no longer serves that far back."""

    default_reason = "out_of_window"


class PluginCrashed(ProviderError):
    """The plugin's process ended."""

    default_reason = "plugin_crashed"


class PluginTimeout(ProviderError):
    """The plugin did not answer within its deadline."""

    default_reason = "plugin_timeout"


class PluginFailed(ProviderError):
    """The plugin raised."""

    default_reason = "plugin_error"


class PluginNotLoaded(ProviderError):
    """A plugin cannot be loaded; what ran before runs on. `traceback` is the plugin's own text."""

    # On the wire it is the plugin's failure; read from there it is one.
    default_reason = None

    def __init__(self, message: str, *, traceback: str = "") -> None:
        super().__init__(message, reason=PluginFailed.default_reason)
        self.traceback = traceback


class BadPluginReply(ProviderError):
    """What the plugin returned is no answer; nothing of it is stored."""

    default_reason = "bad_plugin_reply"


class StoreError(GaplessError):
    """The database cannot do what was asked of it."""


class DatabaseInUse(StoreError):
    """Another hub holds the database."""


class DatabaseNewer(StoreError):
    """A newer gapless wrote the database."""


class DatabaseDamaged(StoreError):
    """The database file is damaged; it is left untouched."""


class DiskFull(StoreError):
    """There is no room to write."""


class ConfigError(GaplessError):
    """A setting is unknown or has no usable value."""


class InternalError(GaplessError):
    """A fault of ours; the log has the details."""
