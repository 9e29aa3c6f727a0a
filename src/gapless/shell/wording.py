"""How instants, sizes and counts are put into words for a terminal, and what it can print."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TextIO

from rich.console import Console

from gapless.instants import DAY_MS, format_instant

# A range as long as this is told in days.
_LONG_MS = 60 * DAY_MS
_UNITS: Mapping[str, int] = {"days": 86_400, "h": 3_600, "min": 60}


def console_on(stream: TextIO) -> Console:
    """Return a console that prints text as it is; colour only where the stream is a terminal."""
    return Console(file=stream, highlight=False, markup=False, emoji=False)


def bounds_text(whole: tuple[int, int]) -> tuple[str, str]:
    """Return both ends as people write them: days, with the minute where minutes matter."""
    start, end = whole
    precise = end - start < _LONG_MS and any(bound % DAY_MS for bound in whole)
    return instant_text(start, precise), instant_text(end, precise)


def instant_text(at_ms: int, precise: bool = True) -> str:
    """Return an instant as `YYYY-MM-DD`, with `HH:MM` where it is to be precise."""
    text = format_instant(at_ms)
    return f"{text[:10]} {text[11:16]}" if precise else text[:10]


def age_text(passed_ms: int) -> str:
    """Return how long ago something was, in one unit: `3 h`."""
    seconds = max(0, passed_ms // 1000)
    for unit, length in _UNITS.items():
        if seconds >= 2 * length:
            return f"{seconds // length} {unit}"
    return f"{seconds} s"


def size_text(size: int) -> str:
    """Return a number of bytes as people say it."""
    value = float(size)
    for unit in ("bytes", "KiB", "MiB", "GiB"):
        if value < 1024:
            return f"{value:.0f} {unit}" if unit == "bytes" else f"{value:.1f} {unit}"
        value /= 1024
    return f"{value:.1f} TiB"


def count_text(count: int, noun: str) -> str:
    """Return `1 record`, `2,000 records`."""
    plural = noun if count == 1 or noun == "series" else f"{noun}s"
    return f"{count:,} {plural}"


def takes_blocks(stream: TextIO) -> bool:
    """Whether the stream can print more than ASCII."""
    try:
        "█▓▒▁▄·✓✗×".encode(stream.encoding or "ascii")
    except (UnicodeEncodeError, LookupError):
        return False
    return True
