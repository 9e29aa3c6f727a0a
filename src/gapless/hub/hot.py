"""The memory tier: series as the store last showed them, with the runs of blocks in use.

Everything in it can be read again from the store. It is bounded in bytes; what was asked for
longest ago goes first.
"""

from __future__ import annotations

from array import array
from collections import OrderedDict
from collections.abc import Iterable, Mapping
from itertools import accumulate, pairwise
from operator import add

from gapless.domain.blocks import Run
from gapless.domain.intervals import Interval
from gapless.domain.series import SeriesKey
from gapless.protocol.messages import escape_text
from gapless.providers.base import DueMoments
from gapless.store.base import SeriesState, Snapshot

# What the objects around a series and around a run take, measured with tracemalloc.
_SERIES_BYTES = 2_500
_RUN_BYTES = 600


class HotRun:
    """A run in memory, with its pre-escaped form from its second use on.

    The wire shows records inside a JSON string; escaping a run once makes every later answer a
    slice (stitching rule 17).
    """

    __slots__ = ("_escaped", "_offsets", "_used", "run")

    def __init__(self, run: Run) -> None:
        self.run = run
        self._escaped: bytes | None = None
        self._offsets: array[int] | None = None
        self._used = False

    @property
    def size(self) -> int:
        """Bytes it takes, about."""
        escaped = 0 if self._escaped is None else len(self._escaped) + 8 * len(self.run)
        return _RUN_BYTES + len(self.run.text) + 24 * len(self.run) + escaped

    def escaped(self, i: int, j: int) -> bytes:
        """Return the records `[i, j)` joined by commas, as they stand inside a JSON string."""
        if i >= j:
            return b""
        if self._escaped is None or self._offsets is None:
            if not self._used:
                self._used = True
                return escape_text(self.run.joined(i, j))
            self._prepare()
            assert self._escaped is not None and self._offsets is not None
        return self._escaped[self._offsets[i] : self._offsets[j] - 1]

    def _prepare(self) -> None:
        text, offsets = self.run.text, self.run.offsets
        edges = list(offsets)
        count = text.count
        shifts = [count(b'"', i, j) for i, j in pairwise(edges)]
        if b"\\" in text:
            backslashes = (count(b"\\", i, j) for i, j in pairwise(edges))
            shifts = list(map(add, shifts, backslashes))
        moved = map(add, edges, accumulate(shifts, initial=0))
        # In this order, for another thread may be reading.
        self._offsets = array("q", moved)
        self._escaped = escape_text(text)


class Validity:
    """Whether a series in memory is still what the store shows.

    An object of its own, so that what was made of a series can ask without keeping it in memory.
    """

    __slots__ = ("current",)

    def __init__(self) -> None:
        self.current = True


class HotSeries:
    """A series in memory; `current` turns false when the store has moved on or it was let go."""

    __slots__ = ("moments", "runs", "size", "state", "validity")

    def __init__(self, state: SeriesState) -> None:
        self.state = state
        self.runs: dict[int, HotRun] = {}
        self.validity = Validity()
        self.size = 0
        # When it was due last and is due next, as of some instant.
        self.moments: tuple[int, DueMoments | None] = (0, None)

    @property
    def current(self) -> bool:
        """Whether it is still what the store shows."""
        return self.validity.current

    def lacking(self, interval: Interval) -> list[int]:
        """Return the numbers of the blocks over `interval` whose runs are not in memory."""
        return [
            block.number
            for block in self.state.blocks
            if block.number is not None
            and block.number not in self.runs
            and block.interval.overlaps(interval)
        ]


class Ticket:
    """A read of the store that is under way; a change made meanwhile outdates it."""

    __slots__ = ("key", "outdated")

    def __init__(self, key: SeriesKey) -> None:
        self.key = key
        self.outdated = False


class HotTier:
    """Series by key, least recently used first, at most `limit` bytes.

    A series that has to make room leaves its runs and stays, light: what was made of it, such as
    a ready answer, still knows that it holds. There are a sixteenth of `limit` of these beside.
    """

    def __init__(self, limit: int) -> None:
        self.limit = limit
        self.size = 0
        self.hits = 0
        self.misses = 0
        self._entries: OrderedDict[SeriesKey, HotSeries] = OrderedDict()
        self._light: OrderedDict[SeriesKey, HotSeries] = OrderedDict()
        self._most_light = limit // 16 // _SERIES_BYTES
        self._reading: dict[SeriesKey, list[Ticket]] = {}

    def __len__(self) -> int:
        return len(self._entries)

    def zone_of(self, key: SeriesKey) -> str | None:
        """Return the time zone of a series' ticker, if the series is in memory and it is known."""
        entry = self._entries.get(key)
        return None if entry is None else entry.state.ticker.zone

    def get(self, key: SeriesKey) -> HotSeries | None:
        """Return a series and mark it as used."""
        entry = self._entries.get(key)
        if entry is not None:
            self._entries.move_to_end(key)
            return entry
        entry = self._light.get(key)
        if entry is not None:
            self._light.move_to_end(key)
        return entry

    def begin_read(self, key: SeriesKey) -> Ticket:
        """Say that the store is about to be read for a series."""
        ticket = Ticket(key)
        self._reading.setdefault(key, []).append(ticket)
        return ticket

    def end_read(self, ticket: Ticket, snapshot: Snapshot | None) -> HotSeries | None:
        """Keep what was read, unless the series was changed meanwhile: then return `None`."""
        tickets = self._reading[ticket.key]
        tickets.remove(ticket)
        if not tickets:
            del self._reading[ticket.key]
        if snapshot is None or ticket.outdated:
            return None
        known = self._known(ticket.key)
        if known is not None and known.state.version == snapshot.state.version:
            self.add_runs(known, snapshot.runs)
            return known
        return self._insert(snapshot)

    def changed(self, snapshot: Snapshot) -> HotSeries:
        """Keep a series as a change has just left it; runs that are still its blocks' stay."""
        key = snapshot.state.key
        for ticket in self._reading.get(key, ()):
            ticket.outdated = True
        before = self._known(key)
        entry = self._insert(snapshot)
        if before is not None:
            numbers = {block.number for block in snapshot.state.blocks}
            kept = {number: run for number, run in before.runs.items() if number in numbers}
            for number, run in kept.items():
                entry.runs.setdefault(number, run)
            self._weigh(entry)
        return entry

    def add_runs(self, entry: HotSeries, runs: Mapping[int, Run]) -> None:
        """Keep more runs of a series."""
        for number, run in runs.items():
            entry.runs.setdefault(number, HotRun(run))
        key = entry.state.key
        if self._light.get(key) is entry:
            del self._light[key]
            self._entries[key] = entry
            entry.size = 0
        self._weigh(entry)

    def drop(self, key: SeriesKey) -> None:
        """Let a series go, and outdate reads of it."""
        for ticket in self._reading.get(key, ()):
            ticket.outdated = True
        self._remove(key)

    def forget(self, provider: str) -> None:
        """Let all series of a provider go, and outdate every read of them."""
        for key in [*self._entries, *self._light, *self._reading]:
            if key.provider == provider:
                self.drop(key)

    def keys(self) -> Iterable[SeriesKey]:
        """Return the series in memory."""
        return self._entries.keys()

    def _insert(self, snapshot: Snapshot) -> HotSeries:
        key = snapshot.state.key
        self._remove(key)
        entry = HotSeries(snapshot.state)
        entry.runs = {number: HotRun(run) for number, run in snapshot.runs.items()}
        self._entries[key] = entry
        self._weigh(entry)
        return entry

    def _known(self, key: SeriesKey) -> HotSeries | None:
        return self._entries.get(key) or self._light.get(key)

    def _remove(self, key: SeriesKey) -> None:
        entry = self._entries.pop(key, None)
        if entry is not None:
            self.size -= entry.size
        else:
            entry = self._light.pop(key, None)
        if entry is not None:
            entry.validity.current = False

    def _lighten(self, key: SeriesKey) -> None:
        """Let the runs of a series go; who still holds it as it was has them until then."""
        entry = self._entries.pop(key)
        self.size -= entry.size
        if not self._most_light:
            entry.validity.current = False
            return
        light = HotSeries(entry.state)
        light.validity = entry.validity
        self._light[key] = light
        if len(self._light) > self._most_light:
            self._remove(next(iter(self._light)))

    def _weigh(self, entry: HotSeries) -> None:
        """Account for an entry anew, twice its escaped form included, and make room."""
        # An escaped run is about as long again; counting it before it is made keeps the bound.
        size = _SERIES_BYTES + sum(2 * run.size for run in entry.runs.values())
        if self._entries.get(entry.state.key) is entry:
            self.size += size - entry.size
        entry.size = size
        while self.size > self.limit and len(self._entries) > 1:
            oldest = next(iter(self._entries))
            if self._entries[oldest] is entry:
                self._entries.move_to_end(oldest)
                continue
            self._lighten(oldest)
