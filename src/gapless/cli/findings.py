"""What `gapless doctor` reports: one finding a line, whichever part of it looked."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

Level = Literal["ok", "note", "problem"]


@dataclass(frozen=True, slots=True)
class Finding:
    """One line of the report: how it is, about what, what was found, what to do about it."""

    level: Level
    about: str
    said: str
    advice: str = ""
