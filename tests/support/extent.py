"""How much is tried of what is slow by nature: a share in `make test`, all in `make test-all`."""

from __future__ import annotations

import os

QUICK, FULL, SOAK = "quick", "full", "soak"
EXTENT = os.environ.get("HYPOTHESIS_PROFILE", FULL)
"""The name of the hypothesis profile, which the make targets choose; all of it without one."""


def share(quick: int, *, of: int, soak: int | None = None) -> int:
    """Return how many times: `quick` in `make test`, otherwise `of`, for a soak so many more."""
    if EXTENT == SOAK and soak is not None:
        return soak
    return quick if EXTENT == QUICK else of
