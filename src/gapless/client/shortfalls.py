"""What an answer is less than that was asked for, in sentences: the texts of warnings."""

from __future__ import annotations

from collections.abc import Iterator

from gapless.client.holdings import Refreshed
from gapless.client.results import Result, Stitch


def shortfall(name: str, state: str, error: str, stitch: Stitch | None) -> str:
    """Return in a sentence what an answer that is not `ready` is less than."""
    because = f": {error}" if error else ""
    if state == "stale":
        return f"{name} may be out of date{because}"
    missing = f"; missing: {', '.join(map(str, stitch.missing))}" if stitch else ""
    return f"{name} is incomplete{because}{missing}"


def shortfalls(*results: Result | Refreshed) -> Iterator[str]:
    """Yield in sentences what answers that are not `ready` are less than."""
    for one in results:
        if one.state != "ready":
            yield shortfall(one.id, one.state, one.last_error, one.stitch)
