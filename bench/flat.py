"""What a request costs by how long its series is, and into how many pieces it falls.

One hub, three series, the very same 252 minutes of each: what lies around them is all that differs.
Then the same of series that are not in memory, and what it costs to make one island after another.
"""

from __future__ import annotations

import shutil
import time
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path

import msgspec

from bars import MINUTE_S, START_S, bars
from figures import Comparison, Figure, Readings, Side, Wanted
from frames import load_plugin
from plugin_fetch import check_bars, fetched
from processes import NotMeasured, Server, on_core, settle
from questions import (
    Files,
    Range,
    Record,
    WrongAnswer,
    asking,
    held_question,
    in_other_words,
    of_provider,
    read_answer,
)
from web import get

SHORT, LONG, OTHER, ISLANDS = "SHORT", "LONG", "OTHER", "ISLANDS"
RECORDS = 252
BLOCK_RECORDS, HELD_BLOCKS = 100, 5
HELD = BLOCK_RECORDS * HELD_BLOCKS
#: More than the memory for ready answers has room for, which is a quarter of `hot_bytes`.
LINES, COLD_LINES = 2_048, 64
SETTINGS = f'[cache]\nblock_records = {BLOCK_RECORDS}\nhot_bytes = "{{hot}}"\n'
WARM, COLD = SETTINGS.format(hot="64MiB"), SETTINGS.format(hot="16KiB")
#: What one request of the filling brings.
FILLED_AT_ONCE = 50_000
#: From the beginning of an island, which is a minute long, to that of the next.
APART_S = 10 * MINUTE_S
HELD_WANTED = {
    (ticker, what): Wanted(
        f"252 held records, of many {series} to few blocks, {what}", "×", 1.15, quiet=what == "p50"
    )
    for ticker, series in ((LONG, "blocks"), (ISLANDS, "islands"))
    for what in ("CPU", "p50")
}
COLD_WANTED = Wanted("252 records not in memory, of many blocks, CPU", "ms", 1.0)
MADE_WANTED = {
    what: Wanted(f"an island, the last of many to the first, {what}", "×", 1.5)
    for what in ("CPU", "time")
}
WANTED = (*MADE_WANTED.values(), *HELD_WANTED.values(), COLD_WANTED)


class Pieces(msgspec.Struct, frozen=True):
    """How large the series are that are compared.

    `ends` is how many islands are made to be measured, the first ones and the last.
    """

    blocks: int
    islands: int
    ends: int


class _Listed(msgspec.Struct, frozen=True):
    ticker: str
    records: int
    blocks: int


class _Listing(msgspec.Struct, frozen=True):
    series: list[_Listed]


def measure_flat(compared: Comparison, pieces: Pieces) -> Iterator[list[Figure]]:
    """Fill one database and copy it, so that all sides have the same; measure each in turn."""
    (one, *others), folder = compared.sides, compared.folder
    _fill(one, folder, pieces)
    for other in others:
        shutil.copyfile(one.db(folder, "flat"), other.db(folder, "flat"))
    with _started(compared, WARM) as hubs:
        yield _made(compared, hubs, pieces)
        yield _held(compared, hubs, pieces)
    with _started(compared, COLD) as hubs:
        yield _cold(compared, hubs, pieces)


@contextmanager
def _started(compared: Comparison, settings: str) -> Iterator[dict[Side, Server]]:
    with ExitStack() as stack:
        hubs = {}
        for side in compared.sides:
            hubs[side] = side.start(compared.folder, "flat", settings)
            stack.callback(hubs[side].stop)
        yield hubs


# What is in the series


def _middle(pieces: Pieces) -> int:
    """When the minutes begin that all the series have, Unix seconds."""
    return START_S + pieces.blocks // 2 * BLOCK_RECORDS * MINUTE_S


def _island(pieces: Pieces, number: int) -> Range:
    """One of the islands, half of which lie behind the minutes that all the series have."""
    behind = number - pieces.islands // 2
    start = _middle(pieces) + behind * APART_S
    if behind >= 0:
        start += (HELD + 1) * MINUTE_S
    return Range(ISLANDS, start, start + MINUTE_S, 1)


def _history(pieces: Pieces, ticker: str) -> list[Record]:
    middle = _middle(pieces)
    return bars(ticker, middle, middle + HELD * MINUTE_S).to_dicts()


def _fill(side: Side, folder: Path, pieces: Pieces) -> None:
    """Have a hub fetch all of it, but for the islands that are made to be measured."""
    middle, records = _middle(pieces), pieces.blocks * BLOCK_RECORDS
    hub = side.start(folder, "flat", WARM)
    try:
        load_plugin(hub)
        for ticker in (SHORT, ISLANDS):
            check_bars(fetched(hub, ticker, HELD, middle).line, ticker, HELD, middle)
        for ticker in (LONG, OTHER):
            for first in range(0, records, FILLED_AT_ONCE):
                count, start = min(FILLED_AT_ONCE, records - first), START_S + first * MINUTE_S
                check_bars(fetched(hub, ticker, count, start).line, ticker, count, start)
        _make(hub, [_island(pieces, number) for number in range(pieces.islands - pieces.ends)])
        listing = msgspec.json.decode(get(hub, "/v1/series?provider=bars"), type=_Listing)
    finally:
        hub.stop()
    blocks = {one.ticker: one.blocks for one in listing.series}
    wanted = {SHORT: HELD_BLOCKS, LONG: pieces.blocks, OTHER: pieces.blocks}
    if not wanted.items() <= blocks.items():
        raise NotMeasured(f"The series have {blocks} blocks, not {wanted}.")


# What is measured


def _make(hub: Server, islands: list[Range]) -> tuple[float, float]:
    """Make islands one after the other; return the hub's CPU and the time of each, milliseconds."""
    lines = []
    with asking(hub, of_provider("bars")) as ask:
        before = settle(hub.pid)
        began = time.perf_counter()
        for island in islands:
            lines.append(ask(island.request("island")))
        took = time.perf_counter() - began
        used = settle(hub.pid).since(before)
    for island, line in zip(islands, lines, strict=True):
        records, stitch = read_answer(line, "island")
        wanted = bars(island.ticker, island.start, island.end).to_dicts()
        if records != wanted or stitch.upstream_requests != 1:
            raise WrongAnswer(f"{hub.name}: {island}: {records}, {stitch}")
    return used / 1e6 / len(islands), took * 1e3 / len(islands)


def _made(compared: Comparison, hubs: dict[Side, Server], pieces: Pieces) -> list[Figure]:
    """Make the first islands of a series and the last of another one, a part in each round."""
    readings = Readings("islands")
    step, left = pieces.ends // compared.rounds, pieces.islands - pieces.ends
    ends = {
        "first": [_as_of("FIRST", _island(pieces, number)) for number in range(pieces.ends)],
        "last": [_island(pieces, left + number) for number in range(pieces.ends)],
    }
    names = {end: f"an island, the {end} {pieces.ends:,} of {pieces.islands:,}" for end in ends}
    with on_core(compared.load.cores.load):
        for hub in hubs.values():
            # The first one imports, and reads what is known of the series.
            _make(hub, [_as_of("WARM", _island(pieces, 0))])
            _ask_held(hub, _island(pieces, 0))
        for number, side in compared.turns():
            taken = {}
            for end, islands in ends.items():
                part = islands[number * step : (number + 1) * step]
                taken[end] = _make(hubs[side], part)
                for what, value in zip(("CPU", "time"), taken[end], strict=True):
                    readings.add(side, f"{names[end]}, {what}", value)
            both = zip(taken["first"], taken["last"], strict=True)
            for wanted, (first, last) in zip(MADE_WANTED.values(), both, strict=True):
                readings.add(side, wanted.name, last / first)
    figures = [
        readings.figure(f"{name}, {what}", "ms")
        for what in ("CPU", "time")
        for name in names.values()
    ]
    return [*figures, *map(readings.wanted, MADE_WANTED.values())]


def _as_of(ticker: str, asked: Range) -> Range:
    return Range(ticker, asked.start, asked.end, asked.records)


def _ask_held(hub: Server, asked: Range) -> None:
    with asking(hub, of_provider("bars")) as ask:
        _, stitch = read_answer(ask(asked.request("held")), "held")
    if stitch.upstream_requests:
        raise WrongAnswer(f"{hub.name}: {asked} should be held by now: {stitch}")


def _words(hub: Server, folder: Path, pieces: Pieces, tickers: tuple[str, ...], many: int) -> Files:
    """Ranges of held records in so many words, those of the tickers in turn."""
    shape = of_provider("bars")
    histories = {ticker: _history(pieces, ticker) for ticker in tickers}
    each = [in_other_words(histories[one], one, RECORDS, many // len(tickers)) for one in tickers]
    ranges = [asked for together in zip(*each, strict=True) for asked in together]
    with asking(hub, shape) as ask:
        question = held_question(ask, ranges, histories).shaped(shape)
    return question.write(folder / f"{hub.name}-{'-'.join(tickers)}")


def _held(compared: Comparison, hubs: dict[Side, Server], pieces: Pieces) -> list[Figure]:
    readings = Readings("held records")
    tickers = {
        SHORT: "5 blocks",
        LONG: f"{pieces.blocks:,} blocks",
        ISLANDS: f"{pieces.islands:,} islands",
    }
    files = {
        (side, ticker): _words(hub, compared.folder, pieces, (ticker,), LINES)
        for side, hub in hubs.items()
        for ticker in tickers
    }
    names = {ticker: f"252 held records of {series}" for ticker, series in tickers.items()}
    for number, side in compared.turns():
        order = list(tickers)[number % 3 :] + list(tickers)[: number % 3]
        found = {}
        for ticker in order:
            sample = compared.sample(hubs[side], files[side, ticker])
            found[ticker] = readings.sound(side, hubs[side], sample)
            readings.add(side, f"{names[ticker]}, CPU", sample.cpu_us)
            readings.add(side, f"{names[ticker]}, p50", sample.p50_us)
        short = found[SHORT]
        for (ticker, what), wanted in HELD_WANTED.items():
            long = found[ticker]
            ratio = long.cpu_us / short.cpu_us if what == "CPU" else long.p50_us / short.p50_us
            readings.add(side, wanted.name, ratio)
    figures = [
        readings.figure(f"{name}, {what}", "µs")
        for what in ("CPU", "p50")
        for name in names.values()
    ]
    return [*figures, readings.waiting(), *map(readings.wanted, HELD_WANTED.values())]


def _cold(compared: Comparison, hubs: dict[Side, Server], pieces: Pieces) -> list[Figure]:
    """Ask for two long series in turn, where there is memory for neither."""
    readings = Readings("not in memory")
    files = {
        side: _words(hub, compared.folder, pieces, (LONG, OTHER), COLD_LINES)
        for side, hub in hubs.items()
    }
    time_name = "252 records not in memory, of many blocks, p50"
    for _, side in compared.turns():
        hub, before = hubs[side], _misses(hubs[side])
        sample = readings.sound(side, hub, compared.sample(hub, files[side]))
        missed = _misses(hub) - before
        if missed < sample.answered:
            raise NotMeasured(f"{hub.name}: of {sample.answered} answers only {missed} were cold.")
        readings.add(side, COLD_WANTED.name, sample.cpu_us / 1e3)
        readings.add(side, time_name, sample.p50_us / 1e3)
    return [readings.figure(time_name, "ms"), readings.waiting(), readings.wanted(COLD_WANTED)]


def _misses(hub: Server) -> int:
    """How often a series was not in memory, as the hub counts it."""
    for line in get(hub, "/metrics").decode().splitlines():
        name, _, value = line.partition(" ")
        if name.removesuffix("_total") == "gapless_hot_misses":
            return int(float(value))
    raise NotMeasured(f"{hub.name} does not count what it reads from the database.")
