"""Instants as they are written: integer milliseconds UTC to RFC 3339.

Below everything, for ids and tags of the domain are spelled with it as well as answers.
"""

from __future__ import annotations

from datetime import datetime, timedelta
from functools import lru_cache

SECOND_MS = 1_000
DAY_MS = 86_400 * SECOND_MS
# Naive on purpose: offsets are taken off before anything is subtracted.
_EPOCH = datetime(1970, 1, 1)  # noqa: DTZ001


# Bounds and times of fetches are written again and again.
@lru_cache(maxsize=8_192)
def format_instant(ms: int) -> str:
    """Write milliseconds UTC as RFC 3339 with `Z`; a fraction only where there are milliseconds.

    Raises OverflowError outside the years 1 to 9999.
    """
    seconds, rest = divmod(ms, SECOND_MS)
    text = (_EPOCH + timedelta(0, seconds)).isoformat()
    return f"{text}.{rest:03d}Z" if rest else text + "Z"
