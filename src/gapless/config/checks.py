"""The setting `cache.check`: when what a provider may revise is fetched again."""

from __future__ import annotations

import re
from typing import Literal

from gapless.errors import ConfigError
from gapless.texts import printable

Check = float | Literal["session", "never"]
"""Once a session of the exchange, after so many seconds, or never."""

_SECONDS = {"s": 1, "m": 60, "h": 3_600, "d": 86_400}


def parse_check(text: str) -> Check:
    """Read `session`, `never`, or a duration such as `6h` in seconds; raise `ConfigError`."""
    said = text.strip().lower()
    if said == "session":
        return "session"
    if said == "never":
        return "never"
    found = re.fullmatch(r"([0-9]{1,9})([smhd])", said)
    if found is None or int(found[1]) == 0:
        raise ConfigError(
            f"{printable(text)!r} is neither session, a duration such as 6h, nor never"
        )
    return float(int(found[1]) * _SECONDS[found[2]])
