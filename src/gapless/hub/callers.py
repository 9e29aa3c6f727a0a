"""On whose behalf upstream is asked, as far as the hub needs to know."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final


@dataclass(frozen=True, slots=True)
class Caller:
    """Who asks: the `name` that shares are counted by, and whether it may go upstream.

    `share`: it has a share of each provider's pace, beside those of others.
    """

    name: str
    may_fetch: bool = True
    share: bool = True


ANYBODY: Final = Caller("anybody", share=False)
"""Whoever asks where nobody is told apart."""
