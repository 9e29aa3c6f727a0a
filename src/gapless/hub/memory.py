"""The memory tier: series and runs that were used last, as the store shows them.

Everything in it can be read again from the store. It is bounded in bytes; what was asked for
longest ago goes first.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping

from gapless.domain.blocks import Run
from gapless.domain.intervals import Interval
from gapless.domain.series import SeriesKey
from gapless.hub.series import HotRun, Series, Validity
from gapless.lru import Lru
from gapless.store.base import SeriesState, Snapshot

# What the objects around a series, a row of its coverage and one of its blocks take, measured
# with tracemalloc.
_SERIES_BYTES = 2_500
_ROW_BYTES = 250
_BLOCK_BYTES = 300
# What is known of series, by which answers that are kept ready know that they hold, may take this
# part of the limit beside their runs.
_DIRECTORIES = 8


class Reading:
    """A read of the store that is under way; a change made meanwhile outdates it."""

    __slots__ = ("key", "outdated")

    def __init__(self, key: SeriesKey) -> None:
        self.key = key
        self.outdated = False


class Memory:
    """What is known of series, and runs by the numbers of their blocks, at most `limit` bytes.

    Numbers of blocks are never used twice, so that a run is the same whatever becomes of its
    series. A series may be known in a part only: what of it was asked for, and a little about it.
    """

    def __init__(self, limit: int) -> None:
        self.hits = 0
        self.misses = 0
        self._series: Lru[SeriesKey, Series] = Lru(limit // _DIRECTORIES, _end)
        self._runs: Lru[int, HotRun] = Lru(limit - limit // _DIRECTORIES)
        self._reading: dict[SeriesKey, list[Reading]] = {}

    def __len__(self) -> int:
        return len(self._series)

    @property
    def limit(self) -> int:
        """Bytes that it may take."""
        return self._series.limit + self._runs.limit

    @property
    def size(self) -> int:
        """Bytes that it takes, about."""
        return self._series.size + self._runs.size

    def zone_of(self, key: SeriesKey) -> str | None:
        """Return the time zone of a series' ticker, if the series is in memory and it is known."""
        series = self._series.peek(key)
        return None if series is None else series.state.ticker.zone

    def get(self, key: SeriesKey) -> Series | None:
        """Return what is known of a series, without runs, and mark it as used."""
        return self._series.get(key)

    def run(self, number: int) -> HotRun | None:
        """Return the run of a block, and mark it as used."""
        return self._runs.get(number)

    def with_runs(self, series: Series, interval: Interval) -> Series | None:
        """Return a series with its runs over an interval; `None`: they are not all in memory.

        Which blocks lie there must be known.
        """
        runs: dict[int, HotRun] = {}
        get = self._runs.get
        for block in series.state.blocks.over(interval):
            assert block.number is not None
            run = get(block.number)
            if run is None:
                return None
            runs[block.number] = run
        return Series(series.state, series.validity, runs)

    def begin_read(self, key: SeriesKey) -> Reading:
        """Say that the store is about to be read for a series."""
        reading = Reading(key)
        self._reading.setdefault(key, []).append(reading)
        return reading

    def give_up(self, reading: Reading) -> None:
        """Say that a read of the store came to nothing."""
        readings = self._reading[reading.key]
        readings.remove(reading)
        if not readings:
            del self._reading[reading.key]

    def end_read(self, reading: Reading, snapshot: Snapshot) -> Series:
        """Keep what was read, and return it; what was read of it at the same version stays known.

        A series that was changed meanwhile is not kept. It is whole all the same, as it was when
        its reader had asked already; it is only not current any more.
        """
        self.give_up(reading)
        if reading.outdated:
            runs = {number: HotRun(run) for number, run in snapshot.runs.items()}
            return Series(snapshot.state, Validity(current=False), runs)
        known = self._series.peek(reading.key)
        state, validity = snapshot.state, Validity()
        if known is not None and known.state.version == state.version:
            state, validity = known.state.with_parts(state), known.validity
        return self._keep(state, validity, self._kept(snapshot.runs))

    def changed(self, snapshot: Snapshot) -> Series:
        """Keep a series as a change has just left it; what it has not touched stays known."""
        state = snapshot.state
        for reading in self._reading.get(state.key, ()):
            reading.outdated = True
        known = self._series.peek(state.key)
        if known is not None:
            known.validity.current = False
            if known.state.version == snapshot.before:
                stay = {block.number for block in state.blocks}
                for part in state.blocks.known:
                    for block in known.state.blocks.over(part):
                        if block.number is not None and block.number not in stay:
                            self._runs.drop(block.number)
                state = known.state.with_parts(state)
        return self._keep(state, Validity(), self._kept(snapshot.runs))

    def add_runs(self, runs: Mapping[int, Run]) -> Mapping[int, HotRun]:
        """Keep runs by the numbers of their blocks, and return them as they are kept."""
        return self._kept(runs)

    def drop(self, key: SeriesKey) -> None:
        """Let a series go, and outdate reads of it."""
        for reading in self._reading.get(key, ()):
            reading.outdated = True
        self._series.drop(key)

    def forget(self, provider: str) -> None:
        """Let all series of a provider go, and outdate every read of them."""
        for key in [*self._series, *self._reading]:
            if key.provider == provider:
                self.drop(key)

    def keys(self) -> Iterable[SeriesKey]:
        """Return the series of which something is in memory, longest unused first."""
        return iter(self._series)

    def _keep(self, state: SeriesState, validity: Validity, runs: Mapping[int, HotRun]) -> Series:
        weight = _SERIES_BYTES + _ROW_BYTES * len(state.coverage) + _BLOCK_BYTES * len(state.blocks)
        known = self._series.peek(state.key)
        if known is not None and known.validity is validity:
            known.state = state
            self._series.put(state.key, known, weight)
        else:
            self._series.put(state.key, Series(state, validity), weight)
        return Series(state, validity, runs)

    def _kept(self, runs: Mapping[int, Run]) -> Mapping[int, HotRun]:
        found: dict[int, HotRun] = {}
        for number, run in runs.items():
            hot = self._runs.get(number)
            if hot is None:
                hot = HotRun(run)
                self._runs.put(number, hot, hot.size)
            found[number] = hot
        return found


def _end(key: SeriesKey, series: Series) -> None:
    """Say that what was made of a series need not hold any more."""
    series.validity.current = False
