"""Where HTTP has the records of a series: for the hub that tells it, and for clients that know."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Final
from urllib.parse import quote, urlencode

DATA_PATH: Final = "/v1/data/"
DATA_KEYS: Final = ("start", "end", "columns", "strict", "fresh", "format", "limit", "cursor")
"""What the route takes itself; any other key of its query is a parameter of the provider."""


def arrow_path(
    provider: str, ticker: str, bounds: Mapping[str, str], params: Mapping[str, str]
) -> str:
    """Return the path and query at which records are had as an Arrow stream.

    `bounds` has the keys of the route's own. The format is named because the end of a ticker
    would otherwise be read as one.
    """
    values = {**bounds, **params, "format": "arrow"}
    return f"{DATA_PATH}{quote(provider, safe='')}/{quote(ticker, safe='')}?{urlencode(values)}"
