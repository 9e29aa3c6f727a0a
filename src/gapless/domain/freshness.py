"""How fresh a request wants its answer (stitching rule 10)."""

from __future__ import annotations

from enum import StrEnum


class Freshness(StrEnum):
    """What is fetched of what is held.

    `HELD`: nothing for its age alone; what is only not fresh is answered as it is held, `stale`.
    `CHECK`: what is due. `NOW`: everything that upstream serves.
    """

    HELD = "held"
    CHECK = "check"
    NOW = "now"
