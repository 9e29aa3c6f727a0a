"""What the hub allows itself, by name.

Apart, because the hub and its parts take it alike.
"""

from __future__ import annotations

from dataclasses import dataclass, field

from gapless.hub.ageing import Checks
from gapless.hub.upstream import Limits


@dataclass(frozen=True, slots=True)
class Options:
    """What the hub allows itself; seconds, bytes and counts by name."""

    upstream: Limits = Limits()
    hot_bytes: int = 256 << 20
    checks: Checks = field(default_factory=Checks)
    join_distance_s: float = 0
    max_gaps: int = 64
    max_records: int = 1_000_000
    max_entities: int = 1_000
    default_entities: int = 100
    max_listing_bytes: int = 4 << 20
