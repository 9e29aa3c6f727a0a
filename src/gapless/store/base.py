"""What a store does for the hub, whatever database lies under it."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any, Protocol

from gapless.domain.believing import Doubt
from gapless.domain.blocks import Block, Run
from gapless.domain.coverage import Coverage, Written
from gapless.domain.intervals import Interval
from gapless.domain.series import SeriesKey
from gapless.domain.spans import Spans
from gapless.instants import format_instant


class Superseded(Exception):
    """The series is not any more what a change was planned on; plan again (stitching rule 7)."""


@dataclass(frozen=True, slots=True)
class TickerState:
    """What is known of a ticker, whichever of its series told it (stitching rule 21).

    `facts` as its provider tells them, told by the answer to a request sent at `told`, milliseconds
    UTC; `version` is the number of the commit that changed them last. What was written to any of
    its series by a commit before `due_before` is due (rule 11).
    """

    facts: Mapping[str, Any] = field(default_factory=dict)
    told: int = 0
    version: int = 0
    due_before: int = 0

    @property
    def zone(self) -> str | None:
        """The name of the time zone in which it is traded; `None`: not known."""
        return self.facts.get("zone")


@dataclass(frozen=True, slots=True)
class SeriesState:
    """A series as one snapshot of the store shows it; `number` `None`: nothing is stored.

    `version` is the number of the commit that changed it last. What was written by a commit before
    `due_before` may stand on another basis (stitching rule 11), by what was seen of the series or
    of its `ticker`. `changed` is the number of the last
    commit by which a final price was another one than before. `created` is when it was made,
    milliseconds UTC: one that was forgotten and fetched again is another series. Of a long series
    only a part of its `coverage` and `blocks` may be told, with neighbours; `doubts` ascend.
    """

    key: SeriesKey
    number: int | None = None
    version: int = 0
    due_before: int = 0
    changed: int = 0
    meta: Mapping[str, Any] = field(default_factory=dict)
    coverage: Spans[Coverage] = field(default_factory=Spans)
    blocks: Spans[Block] = field(default_factory=Spans)
    doubts: tuple[Doubt, ...] = ()
    created: int = 0
    ticker: TickerState = TickerState()

    def count(self, interval: Interval) -> int:
        """Count the records of the blocks over `interval`, those beyond its edges included."""
        return sum(block.count for block in self.blocks.over(interval))

    def knows(self, interval: Interval) -> bool:
        """Whether all coverage and blocks over an interval are told."""
        return self.coverage.knows(interval) and self.blocks.knows(interval)

    def with_parts(self, other: SeriesState) -> SeriesState:
        """Return another state of the series with what this one tells beside its parts."""
        return replace(
            other,
            coverage=self.coverage.merged(other.coverage),
            blocks=self.blocks.merged(other.blocks),
        )


@dataclass(frozen=True, slots=True)
class Snapshot:
    """A series, or a part of it, and the runs of some of its blocks by number, read together.

    After a change: what was touched by it, the runs that it has written, and `before`, the version
    that it was made on; `actions` is what it has made of the ticker's actions, and `siblings` are
    the ticker's other series, if what is known of it has changed.
    """

    state: SeriesState
    runs: Mapping[int, Run]
    before: int = 0
    actions: Snapshot | None = None
    siblings: tuple[SeriesKey, ...] = ()


@dataclass(frozen=True, slots=True)
class Replacement:
    """An interval whose records and coverage are replaced (stitching rule 6).

    `coverage` lies within `interval`; its commit is set when the change is made.
    `planned` is what was known there when it was planned, by the commits that had written it: a
    copy that is older than what has been written since is not stored (stitching rule 7). `None`:
    it replaces whatever is there.
    """

    interval: Interval
    run: Run
    coverage: tuple[Coverage, ...]
    planned: tuple[Written, ...] | None = None


@dataclass(frozen=True, slots=True)
class Gone:
    """What upstream is believed not to have any more; what is held there is kept as it is.

    `at` is when it was asked last, milliseconds UTC (stitching rule 6).
    """

    intervals: tuple[Interval, ...] = ()
    at: int = 0


@dataclass(frozen=True, slots=True)
class News:
    """What an answer told of a ticker beside its bars (stitching rule 21).

    `facts` (`None`: none) by a request sent at `told`, milliseconds UTC: what was asked earlier
    never replaces them. `actions` is the change of the ticker's series of actions. `due`: all that
    was written to any series of the ticker before is due (stitching rule 11).
    """

    told: int
    facts: Mapping[str, Any] | None = None
    actions: Change | None = None
    due: bool = False


@dataclass(frozen=True, slots=True)
class Change:
    """What is done to a series in one transaction, on the condition that it is still as planned.

    `revises`: what is known of the series ages, so that it is told apart by its commits.
    `due_before`: what was written by an earlier commit is due (stitching rule 11); the number only
    ever grows. `planned_due` is what it was when the change was planned (`None`: whatever it is):
    where more has become due since, what came may be as old. `restates`: a final price that it
    replaces was another one. Doubts over `answered` end, `doubts` are new (stitching rule 6).
    `news` is what came beside the records.
    """

    key: SeriesKey
    replacements: tuple[Replacement, ...]
    revises: bool = False
    due_before: int = 0
    restates: bool = False
    gone: Gone = Gone()
    answered: tuple[Interval, ...] = ()
    doubts: tuple[Doubt, ...] = ()
    meta: Mapping[str, Any] | None = None
    at: int = 0
    planned_due: int | None = None
    news: News | None = None


@dataclass(frozen=True, slots=True)
class Removal:
    """What was forgotten of a series in one step: how many records, and by which commit.

    `commit` `None`: there was nothing to forget. `series`: the series itself went. `more`: there is
    more to forget, in another step.
    """

    records: int = 0
    commit: int | None = None
    series: bool = False
    more: bool = False


@dataclass(frozen=True, slots=True)
class StoredEntity:
    """A row of the entities table as the wire shows it; `tags` and `data` are JSON text."""

    id: str
    source: str
    tags: str
    data: str
    etag: str
    fetched_at: str
    refresh_after: str
    state: str
    last_error: str
    updated_at: str


def sortable(ms: int) -> str:
    """Return an instant in RFC 3339 so that texts sort as the instants do: always three digits."""
    whole, milliseconds = divmod(ms, 1_000)
    return f"{format_instant(whole * 1_000)[:-1]}.{milliseconds:03d}Z"


@dataclass(frozen=True, slots=True)
class EntityFilter:
    """Which stored entities are meant; what is `None` or empty does not narrow.

    `tags` must all match. `updated` is a pair of bounds in milliseconds UTC,
    half open.
    """

    ids: tuple[str, ...] | None = None
    source: str | None = None
    also_source: str | None = None
    state: str | None = None
    tags: tuple[str, ...] = ()
    updated: tuple[int | None, int | None] = (None, None)


@dataclass(frozen=True, slots=True)
class SeriesSummary:
    """A stored series in figures; instants are milliseconds UTC, `None` where nothing is known.

    `start` and `end` bound its coverage, `fetched_at` is the age of the oldest part of it,
    `updated_at` of the newest.
    """

    key: SeriesKey
    records: int
    blocks: int
    start: int | None
    end: int | None
    fetched_at: int | None
    updated_at: int | None


@dataclass(frozen=True, slots=True)
class RememberedPlugin:
    """A plugin that comes back after a restart: its name, and how to load it, as JSON text."""

    name: str
    spec: str
    loaded_at: str


@dataclass(frozen=True, slots=True)
class Figures:
    """What the store holds, counted."""

    series: int
    blocks: int
    records: int
    bytes: int


class Store(Protocol):
    """A store. Reads see one snapshot each; changes are one transaction each."""

    async def warm(self) -> SeriesKey | None:
        """Prepare what the first read would otherwise pay for; return any series there is."""
        ...

    async def read(
        self, key: SeriesKey, load: Interval | None = None, about: Interval | None = None
    ) -> Snapshot:
        """Return the series over `load` and a little about it, with its runs there.

        Unless there are many: then without them. `None`: all of the series, without any run.
        `about`: an interval around `load` over which it is to be known; with all runs over `load`
        then, however many.
        """
        ...

    async def directory(self, key: SeriesKey, interval: Interval) -> Snapshot:
        """Return the series over an interval and a little about it, without any run."""
        ...

    async def runs(self, numbers: Sequence[int]) -> Mapping[int, Run]:
        """Return runs by block number; a block that is gone is left out."""
        ...

    async def apply(self, change: Change) -> Snapshot:
        """Make a change and return what it has touched of the series, with the new blocks' runs.

        Raises `Superseded` where the series has moved on, or what is replaced was written or
        forgotten since it was planned, and `DiskFull` where there is no room; then nothing of it
        is stored.
        """
        ...

    async def entities(
        self, wanted: EntityFilter, limit: int, offset: int = 0, max_bytes: int | None = None
    ) -> Sequence[StoredEntity]:
        """Return stored entities ordered by id, at most `limit` and about `max_bytes` of them."""
        ...

    async def save_entities(self, entities: Iterable[StoredEntity]) -> None:
        """Store entities as they are; one of the same id and source is replaced.

        Raises `InvalidQuery` where an id belongs to another source or to a series; then none of
        them is stored.
        """
        ...

    async def all_series(self, provider: str | None = None) -> Sequence[SeriesState]:
        """Return every series by its key."""
        ...

    async def summaries(
        self, provider: str | None, after: SeriesKey | None, limit: int
    ) -> Sequence[SeriesSummary]:
        """Return at most `limit` series that follow `after`, in an order of the store's own."""
        ...

    async def delete(self, key: SeriesKey, interval: Interval | None = None) -> Removal:
        """Forget a range of a series (`None`: all of it), in one step as much as is done at once.

        Where it is all of it, the series goes with the last step.
        """
        ...

    async def aged(self, before: int) -> Sequence[SeriesKey]:
        """Return the series of which something was fetched before that instant."""
        ...

    async def prune(self, key: SeriesKey, before: int) -> Removal:
        """Forget what of a series was fetched before that instant, in one step.

        Where that is all of it, the series goes with the last step.
        """
        ...

    async def plugins(self) -> Sequence[RememberedPlugin]:
        """Return the remembered plugins by name."""
        ...

    async def save_plugin(self, plugin: RememberedPlugin) -> None:
        """Remember a plugin; one of the same name is replaced."""
        ...

    async def forget_plugin(self, name: str) -> bool:
        """Forget a plugin; return whether it was remembered."""
        ...

    async def figures(self) -> Figures:
        """Count what is stored."""
        ...

    async def close(self) -> None:
        """Finish what is being written and let go of the database."""
        ...
