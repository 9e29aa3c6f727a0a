"""What has happened to one range search so far, from its first look to its answer.

Apart from the hub, which decides what happens next.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field

import structlog

from gapless.domain.believing import Suspicion
from gapless.domain.intervals import Interval, intersect
from gapless.domain.planning import Plan
from gapless.domain.series import SeriesKey
from gapless.errors import (
    Forbidden,
    GaplessError,
    InternalError,
    ProviderError,
    QuotaExceeded,
    StoreError,
    UpstreamUnavailable,
)
from gapless.hub.callers import ANYBODY, Caller
from gapless.hub.leases import Filled, Lease
from gapless.hub.upstream import Tally
from gapless.providers.base import BadValues

_log = structlog.get_logger("gapless.hub")

# How often somebody else's failure is nobody's reason to fail; more is a busy hour.
_MOST_EXCUSED = 3


def not_allowed(key: SeriesKey) -> Forbidden:
    """Return the error of a caller for whom upstream is not asked for a part of a series."""
    return Forbidden(
        f"a part of {key.text} is not held, and having it fetched takes the scope fetch; ask with "
        "a token that has it"
    )


def not_checked(key: SeriesKey) -> Forbidden:
    """Return the error of a caller for whom what is held is not fetched again."""
    return Forbidden(
        f"what is held of {key.text} is due to be fetched again, which takes the scope fetch; ask "
        "with a token that has it"
    )


def as_held(key: SeriesKey) -> ProviderError:
    """Return the error that stands for a check which was not wanted."""
    return ProviderError(
        f"{key.text} was asked for as it is held (fresh=held)", reason="check_pending"
    )


def not_believed() -> UpstreamUnavailable:
    """Return the error of a range of which nothing is held, for upstream's word is in doubt."""
    return UpstreamUnavailable(
        "upstream answered that it has nothing of that range, which is not believed yet; it is "
        "asked again later",
        reason=Suspicion.EMPTY.reason,
    )


@dataclass(frozen=True, slots=True)
class Failure:
    """A range that could not be fetched, and why."""

    interval: Interval
    error: GaplessError


@dataclass(slots=True)
class Course:
    """On whose behalf; what was fetched and what failed, what that cost, how often all became due.

    `patience`: how many seconds it waits for what is held to be fetched again; `None`: to its end.
    `gaps` are all that were seen not to be held, `answered` what upstream has answered for, unless
    all has become due since. `restated`: how often a price showed another past; `renamed`: how
    often an action did. `unchecked`: why what is not fresh is not fetched again any more.
    """

    caller: Caller = ANYBODY
    patience: float | None = None

    gaps: list[Interval] = field(default_factory=list)
    answered: list[Interval] = field(default_factory=list)
    fetched: list[Interval] = field(default_factory=list)
    bad_values: list[BadValues] = field(default_factory=list)
    failures: list[Failure] = field(default_factory=list)
    tallies: list[Tally] = field(default_factory=list)
    restated: int = 0
    renamed: int = 0
    unchecked: GaplessError | None = None
    begun: bool = False
    excused: int = 0

    @property
    def requests(self) -> int:
        """How many requests it has cost upstream."""
        return sum(tally.requests for tally in self.tallies)

    def brought(self, filled: Filled) -> None:
        """Note how a task ended that brought a part of what is asked.

        One change may show by a price first, and by its name in the next answer.
        """
        self.restated += filled.restated and not filled.by_name
        self.renamed += filled.by_name

    @property
    def times_due(self) -> int:
        """How often what is stored has become due again."""
        return max(self.restated, self.renamed)

    def due_again(self) -> None:
        """Note that all that was stored before is due: what is asked of it is fetched, as wanted.

        Also where it was wanted as it is held, for now it may be of two pasts.
        """
        self.answered.clear()
        self.unchecked = None

    def failed(
        self,
        lease: Lease,
        gaps: Sequence[Interval],
        old: Sequence[Interval],
        error: GaplessError,
    ) -> None:
        """Note that a task failed; raise what no answer can be true after."""
        if isinstance(error, StoreError | InternalError):
            # What upstream said is not stored.
            _log.error("nothing could be stored", error=error.message)
            raise error
        self.failures.extend(Failure(part, error) for part in intersect(gaps, lease.intervals))
        if intersect(old, lease.intervals):
            self.unchecked = error

    def pending(self, key: SeriesKey) -> None:
        """Note that what is held is being fetched again, and was waited for long enough."""
        self.unchecked = ProviderError(
            f"{key.text} is being fetched again, which takes longer than an answer waits for it "
            "(cache.check_wait_s)",
            reason="check_pending",
        )

    def excuses(self, lease: Lease, error: GaplessError) -> bool:
        """Whether a task failed for what others had asked too much of, so that it is tried anew."""
        if not isinstance(error, QuotaExceeded) or lease.tally.callers[0] == self.caller:
            return False
        self.excused += 1
        return self.excused <= _MOST_EXCUSED

    def denied(self, key: SeriesKey, gaps: Sequence[Interval]) -> None:
        """Note that the caller may not have these fetched."""
        self.failures.extend(Failure(gap, not_allowed(key)) for gap in gaps)

    def doubted(self, gaps: Sequence[Interval]) -> None:
        """Note what upstream has answered for otherwise than is believed yet."""
        self.failures.extend(Failure(gap, not_believed()) for gap in gaps)

    def give_up(self, wanted: Plan, key: SeriesKey) -> None:
        """Answer with what is held: upstream will not settle on one past (stitching rule 13)."""
        error = UpstreamUnavailable(
            f"{key.provider} changed the past of {key.ticker} {self.times_due} times while this "
            "was answered; try again later"
        )
        self.failures.extend(Failure(gap, error) for gap in wanted.gaps)
        self.unchecked = error
