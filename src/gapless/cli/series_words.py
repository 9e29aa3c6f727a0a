"""A series and a range of it as words of a command: `AAPL 2024-01-01..2024-02-01 interval=1h`.

Apart, because commands that ask a hub read them as those do that look into a database.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Annotated, TypeAlias
from zoneinfo import ZoneInfo

from cyclopts import Parameter

from gapless.cli.exits import UsageError
from gapless.errors import InvalidQuery
from gapless.protocol.language import KEY_ALIASES, SEARCH_KEYS, range_bounds
from gapless.protocol.times import RangeBounds, check_range, parse_range

# A range such as -30d looks like a flag.
Words: TypeAlias = Annotated[str, Parameter(allow_leading_hyphen=True)]
_EXPECTED = (
    "expected a range as A..B with dates or instants, such as 2025-01-01..2025-02-01, a time back "
    "from now, such as 30d, 1y or ytd, or a parameter of the provider, such as interval=1h"
)


@dataclass(frozen=True, slots=True)
class SeriesWords:
    """What the words say; `bounds` are the texts of a range, `None` where none was named."""

    bounds: tuple[str, str] | None
    params: Mapping[str, str]

    def within(self, now: int, zone: ZoneInfo | None) -> RangeBounds | None:
        """Return the range in milliseconds UTC, `None` where none was named.

        Bare dates are days of a zone (`None`: UTC). Raises `UsageError` for an empty range.
        """
        if self.bounds is None:
            return None
        try:
            return parse_range(*self.bounds, now_ms=now, zone=zone)
        except InvalidQuery as error:
            raise UsageError(error.message) from None


def series_words(words: Sequence[str], now: int) -> SeriesWords:
    """Read the words behind a ticker: a range, and parameters, in any order.

    Raises `UsageError` for what is neither, for what is there twice, and for bounds that are no
    instants.
    """
    bounds: tuple[str, str] | None = None
    params: dict[str, str] = {}
    for word in words:
        key, equals, value = word.partition("=")
        key = key.lower()
        if equals and KEY_ALIASES.get(key, key) in SEARCH_KEYS:
            raise UsageError(f"`{word}` is no parameter of a provider; {_EXPECTED}")
        if equals and key:
            if key in params:
                raise UsageError(f"the parameter `{key}` is there more than once")
            params[key] = value
            continue
        found = range_bounds(word)
        if found is None:
            raise UsageError(f"`{word}` is none of what may stand there; {_EXPECTED}")
        if bounds is not None:
            raise UsageError(f"`{word}` is a second range; name one")
        bounds = found
    if bounds is not None:
        try:
            check_range(*bounds, now_ms=now)
        except InvalidQuery as error:
            raise UsageError(error.message) from None
    return SeriesWords(bounds, params)
