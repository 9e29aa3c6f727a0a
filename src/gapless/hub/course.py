"""What has happened to one range search so far, from its first look to its answer.

Apart from the hub, which decides what happens next.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field

import structlog

from gapless.domain.intervals import Interval, intersect
from gapless.domain.planning import Plan
from gapless.domain.series import SeriesKey
from gapless.errors import GaplessError, InternalError, StoreError, UpstreamUnavailable
from gapless.hub.answers import Failure
from gapless.hub.flights import Filled
from gapless.hub.upstream import Tally

_log = structlog.get_logger("gapless.hub")


@dataclass(slots=True)
class Course:
    """What was fetched and what failed, what that cost, and how often the basis changed."""

    fetched: list[Interval] = field(default_factory=list)
    failures: list[Failure] = field(default_factory=list)
    tallies: list[Tally] = field(default_factory=list)
    bumps: int = 0
    unverified: GaplessError | None = None
    begun: bool = False

    @property
    def requests(self) -> int:
        """How many requests it has cost upstream."""
        return sum(tally.requests for tally in self.tallies)

    def brought(self, filled: Filled) -> None:
        """Note what a task achieved."""
        self.fetched.extend(filled.intervals)
        self.bumps += filled.basis_changed

    def failed(self, interval: Interval, gaps: Sequence[Interval], error: GaplessError) -> None:
        """Note that a task over `interval` failed; raise what no answer can be true after."""
        if isinstance(error, StoreError | InternalError):
            # What upstream said is not stored.
            _log.error("nothing could be stored", error=error.message)
            raise error
        self.failures.extend(Failure(part, error) for part in intersect(gaps, [interval]))

    def give_up(self, wanted: Plan, key: SeriesKey) -> None:
        """Answer with what is held of one basis: upstream will not settle on one (rule 13)."""
        error = UpstreamUnavailable(
            f"{key.provider} served {key.ticker} on changing bases "
            f"{self.bumps} times while this was answered; try again later"
        )
        self.failures.extend(Failure(gap, error) for gap in wanted.gaps)
        self.unverified = error
