"""gapless: a data provider hub that answers from what it holds and fetches only the gaps.

For programs that ask a hub:

    with gapless.connect("127.0.0.1:7000") as hub:
        history = hub.search("sample", "AAPL", "2010-01-01", "2011-01-01")
        frame = history.to_polars()
"""

from __future__ import annotations

import importlib
from collections.abc import Mapping
from types import MappingProxyType
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from gapless.client.async_client import AsyncClient
    from gapless.client.builder import (
        AuthConfig,
        ClientBuilder,
        send_parsed_query_line_with_auth,
    )
    from gapless.client.client import Client, connect
    from gapless.client.facts import Facts, TradingHours
    from gapless.client.failures import (
        ConnectionLost,
        HttpUnusable,
        HttpUnusedWarning,
        MissingDependency,
        NotReadyWarning,
        PartlyFailed,
        TimedOut,
        UnexpectedAnswer,
        Unreachable,
    )
    from gapless.client.holdings import Coverage, Covered, Doubt, Gap, Plan, Refreshed
    from gapless.client.provider_details import (
        Breaker,
        FailingSeries,
        Pacing,
        Parameter,
        ProviderDetails,
    )
    from gapless.client.results import Result, Span, Stitch, Why
    from gapless.client.talk import HubInfo
    from gapless.errors import (
        BadPluginReply,
        BadUpstreamReply,
        ConfigError,
        Forbidden,
        GaplessError,
        InternalError,
        InvalidEnvelope,
        InvalidJson,
        InvalidQuery,
        LineTooLong,
        MissingToken,
        NotFound,
        OutOfWindow,
        Overloaded,
        PluginCrashed,
        PluginFailed,
        PluginTimeout,
        ProviderError,
        ProviderNotFound,
        RateLimited,
        TooLarge,
        Unauthorized,
        UnknownTicker,
        Unsupported,
        UpstreamRejected,
        UpstreamUnavailable,
    )

__version__ = "0.1.0"

__all__ = [  # noqa: RUF022 - grouped by use, not by alphabet
    "__version__",
    # a hub, asked
    "connect",
    "Client",
    "AsyncClient",
    "HubInfo",
    # what it answers
    "Result",
    "Stitch",
    "Span",
    "Why",
    "Facts",
    "TradingHours",
    "NotReadyWarning",
    "HttpUnusedWarning",
    # what it tells of what it holds
    "Plan",
    "Gap",
    "Coverage",
    "Covered",
    "Doubt",
    "Refreshed",
    # and of its providers
    "ProviderDetails",
    "Parameter",
    "Pacing",
    "Breaker",
    "FailingSeries",
    # the older client's names
    "AuthConfig",
    "ClientBuilder",
    "send_parsed_query_line_with_auth",
    # what goes wrong
    "GaplessError",
    "ConfigError",
    "Unreachable",
    "ConnectionLost",
    "TimedOut",
    "HttpUnusable",
    "UnexpectedAnswer",
    "PartlyFailed",
    "MissingDependency",
    # what the hub says is wrong: one for each code of the wire
    "InvalidJson",
    "InvalidEnvelope",
    "LineTooLong",
    "MissingToken",
    "Unauthorized",
    "Forbidden",
    "InvalidQuery",
    "ProviderNotFound",
    "NotFound",
    "Unsupported",
    "TooLarge",
    "Overloaded",
    "InternalError",
    # and one for each reason why a provider fails
    "ProviderError",
    "RateLimited",
    "UpstreamUnavailable",
    "BadUpstreamReply",
    "UpstreamRejected",
    "UnknownTicker",
    "OutOfWindow",
    "PluginCrashed",
    "PluginTimeout",
    "PluginFailed",
    "BadPluginReply",
]

# Where names live that are not errors; commands start quicker without what they do not use.
_HOMES: Mapping[str, str] = MappingProxyType(
    {
        "connect": "gapless.client.client",
        "Client": "gapless.client.client",
        "AsyncClient": "gapless.client.async_client",
        "HubInfo": "gapless.client.talk",
        "Result": "gapless.client.results",
        "Stitch": "gapless.client.results",
        "Span": "gapless.client.results",
        "Why": "gapless.client.results",
        "Facts": "gapless.client.facts",
        "TradingHours": "gapless.client.facts",
        "Plan": "gapless.client.holdings",
        "Gap": "gapless.client.holdings",
        "Coverage": "gapless.client.holdings",
        "Covered": "gapless.client.holdings",
        "Doubt": "gapless.client.holdings",
        "Refreshed": "gapless.client.holdings",
        "ProviderDetails": "gapless.client.provider_details",
        "Parameter": "gapless.client.provider_details",
        "Pacing": "gapless.client.provider_details",
        "Breaker": "gapless.client.provider_details",
        "FailingSeries": "gapless.client.provider_details",
        "AuthConfig": "gapless.client.builder",
        "ClientBuilder": "gapless.client.builder",
        "send_parsed_query_line_with_auth": "gapless.client.builder",
        "NotReadyWarning": "gapless.client.failures",
        "HttpUnusedWarning": "gapless.client.failures",
        "Unreachable": "gapless.client.failures",
        "ConnectionLost": "gapless.client.failures",
        "TimedOut": "gapless.client.failures",
        "HttpUnusable": "gapless.client.failures",
        "UnexpectedAnswer": "gapless.client.failures",
        "PartlyFailed": "gapless.client.failures",
        "MissingDependency": "gapless.client.failures",
    }
)


def __getattr__(name: str) -> Any:
    if name not in __all__:
        raise AttributeError(f"module 'gapless' has no attribute {name!r}")
    value = getattr(importlib.import_module(_HOMES.get(name, "gapless.errors")), name)
    globals()[name] = value
    return value


def __dir__() -> list[str]:
    return sorted(__all__)
