"""Where HTTP has what it has of a series: for the hub that tells it, and for clients that know."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Final
from urllib.parse import quote, urlencode

DATA_PATH: Final = "/v1/data/"
COVERAGE_PATH: Final = "/v1/coverage/"
SERIES_PATH: Final = "/v1/series/"
DATA_KEYS: Final = ("start", "end", "columns", "strict", "fresh", "format", "limit", "cursor")
"""What the route takes itself; any other key of its query is a parameter of the provider."""


def arrow_path(
    provider: str, ticker: str, bounds: Mapping[str, str], params: Mapping[str, str]
) -> str:
    """Return the path and query at which records are had as an Arrow stream.

    `bounds` has the keys of the route's own. The format is named because the end of a ticker
    would otherwise be read as one.
    """
    return series_path(DATA_PATH, provider, ticker, {**bounds, **params, "format": "arrow"})


def series_path(prefix: str, provider: str, ticker: str, values: Mapping[str, str]) -> str:
    """Return the path of a series behind one of the prefixes, with the keys of its query.

    Raises `UnicodeEncodeError` for half a character, which no path can have.
    """
    path = f"{prefix}{quote(provider, safe='')}/{quote(ticker, safe='')}"
    return f"{path}?{urlencode(values)}" if values else path
