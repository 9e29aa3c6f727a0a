"""What a hub tells of a series without its records: what is known of it, what would be fetched.

The values are decoded as they come: instants are aware datetimes in UTC, ranges half open.
"""

from __future__ import annotations

from collections.abc import Iterable
from datetime import datetime

from msgspec import Raw, Struct

from gapless.client.results import Span, Stitch, stitch_of

# How many ranges of a kind are shown of a value.
_SHOWN = 5


class Gap(Struct, frozen=True):
    """A range that would be fetched, and why.

    `why`: `not_held` (nothing is known of it), `due` (it was provisional, and its time has come)
    or `not_fresh` (it is held, and may have changed upstream since).
    """

    start: datetime
    end: datetime
    why: str

    @property
    def span(self) -> Span:
        """The range."""
        return Span(self.start, self.end)

    def __repr__(self) -> str:
        return f"<gapless.Gap {self.span} {self.why}>"


class Plan(Struct, frozen=True):
    """What a request for a range would do now; nothing was done.

    `cached` is held, `gaps` would be fetched, by `upstream_requests` at the least; of these, what
    is `not_fresh` is held as well. `unserved` is neither held nor served any more, `doubted` is in
    doubt and not asked for yet. `next_due` is when what is fresh then is to be fetched again;
    `None`: it does not age.
    """

    id: str
    cached: tuple[Span, ...]
    gaps: tuple[Gap, ...]
    unserved: tuple[Span, ...] = ()
    doubted: tuple[Span, ...] = ()
    upstream_requests: int = 0
    next_due: datetime | None = None

    def __repr__(self) -> str:
        parts = [
            *_listed("cached", self.cached),
            *_listed("fetches", (f"{gap.span} ({gap.why})" for gap in self.gaps)),
            *_listed("unserved", self.unserved),
            *_listed("doubted", self.doubted),
            _counted(self.upstream_requests, "upstream request"),
        ]
        return f"<gapless.Plan {self.id}: {'; '.join(parts)}>"


class Covered(Struct, frozen=True):
    """What is known of an interval of a series, and until when.

    `outcome`: `held`, `empty` (known to have no records) or `out_of_window` (not served any
    more). `refresh_after` `None`: it is final. Not `fresh`: it is fetched again when it is next
    asked for. `mark`: `rescaled` or `unverified`, where that is to be said of it.
    """

    start: datetime
    end: datetime
    outcome: str
    fetched_at: datetime
    refresh_after: datetime | None = None
    fresh: bool = True
    mark: str | None = None

    @property
    def span(self) -> Span:
        """The interval."""
        return Span(self.start, self.end)

    def __repr__(self) -> str:
        return f"<gapless.Covered {self}>"

    def __str__(self) -> str:
        said = [self.outcome, *([] if self.fresh else ["not fresh"]), *filter(None, [self.mark])]
        return f"{self.span} {', '.join(said)}"


class Doubt(Struct, frozen=True):
    """What upstream said that is not believed yet.

    `why`: `unconfirmed_loss` or `unconfirmed_empty`. It was said at `since`, and is asked again
    at `next_try`.
    """

    start: datetime
    end: datetime
    why: str
    since: datetime
    next_try: datetime

    @property
    def span(self) -> Span:
        """The interval."""
        return Span(self.start, self.end)

    def __repr__(self) -> str:
        return f"<gapless.Doubt {self.span} {self.why}>"


class Coverage(Struct, frozen=True, rename={"intervals": "coverage"}):
    """What is known of a series, interval by interval; what lies between two is not held.

    `version` is another one after each change. `next_due` is when what is fresh now is to be
    fetched again; `None`: it does not age.
    """

    id: str
    version: int
    records: int
    intervals: tuple[Covered, ...]
    doubts: tuple[Doubt, ...] = ()
    next_due: datetime | None = None

    def __repr__(self) -> str:
        parts = [
            _counted(self.records, "record"),
            *_few(self.intervals),
            *_listed("doubted", (one.span for one in self.doubts)),
        ]
        return f"<gapless.Coverage {self.id}: {'; '.join(parts)}>"


class Refreshed(Struct, frozen=True):
    """What came of fetching a range anew, without its records.

    What of it was held before is `cached` in the stitch, though it was fetched again.
    """

    id: str
    stitch: Stitch

    @property
    def state(self) -> str:
        """`ready`, `partial` (a part could not be had) or `stale` (upstream failed)."""
        return self.stitch.state

    @property
    def last_error(self) -> str:
        """What upstream said, where the state is not `ready`."""
        if self.state == "ready" or not self.stitch.why:
            return ""
        return self.stitch.why[0].message

    def __repr__(self) -> str:
        stitch = self.stitch
        parts = [
            *_listed("missing", stitch.missing),
            _counted(stitch.upstream_requests, "upstream request"),
        ]
        return f"<gapless.Refreshed {self.id} {self.state}: {'; '.join(parts)}>"


class RefreshTold(Struct, frozen=True):
    """The answer to a refresh as it comes."""

    id: str
    stitch: Raw

    def refreshed(self) -> Refreshed:
        """Return it as a value; raise `UnexpectedAnswer` for a stitch that is none."""
        return Refreshed(self.id, stitch_of(self.stitch))


class DeletionTold(Struct, frozen=True):
    """The answer to a deletion as it comes."""

    records: int


def _listed(name: str, ranges: Iterable[object]) -> list[str]:
    """Return a part of a value's text, or none where there are no such ranges."""
    found = _few(ranges)
    return [f"{name} {', '.join(found)}"] if found else []


def _few(ranges: Iterable[object]) -> list[str]:
    """Return the first few as text, and how many more there are."""
    found = list(map(str, ranges))
    more = [f"{len(found) - _SHOWN:,} more"] if len(found) > _SHOWN else []
    return [*found[:_SHOWN], *more]


def _counted(count: int, noun: str) -> str:
    return f"{count:,} {noun}{'' if count == 1 else 's'}"
