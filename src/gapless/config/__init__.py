"""Settings: every limit by its name, what it is for, and where its value came from.

Only `app` and `cli` read them. Everything below is handed what holds for it, as sections from
`gapless.config.settings`: plain values, each with the one default that there is.
"""

from gapless.config.addresses import Address, database_path, parse_address
from gapless.config.checks import parse_check
from gapless.config.loading import (
    RETIRED,
    Origin,
    Origins,
    load_settings,
    refuse_exposure,
    shown_values,
)
from gapless.config.settings import (
    AccessSettings,
    ApiSettings,
    CacheSettings,
    FetchSettings,
    LimitSettings,
    LogSettings,
    Option,
    PluginSettings,
    SampleSettings,
    Settings,
    YahooSettings,
    default_db,
    options,
)

__all__ = [
    "RETIRED",
    "AccessSettings",
    "Address",
    "ApiSettings",
    "CacheSettings",
    "FetchSettings",
    "LimitSettings",
    "LogSettings",
    "Option",
    "Origin",
    "Origins",
    "PluginSettings",
    "SampleSettings",
    "Settings",
    "YahooSettings",
    "database_path",
    "default_db",
    "load_settings",
    "options",
    "parse_address",
    "parse_check",
    "refuse_exposure",
    "shown_values",
]
