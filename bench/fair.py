"""Whether everybody is served alike: any words for a range, one bar more, a fetch of another's.

A held range in words that the hub has not heard yet, in each shape that clients send; a gap of one
bar beside what is held; and what a held range takes while somebody else has a long one fetched.
"""

from __future__ import annotations

import json
import time
from collections.abc import Iterator
from contextlib import ExitStack
from dataclasses import dataclass
from itertools import count
from math import ceil
from pathlib import Path
from statistics import median
from zlib import crc32

import msgspec

from figures import Comparison, Figure, Readings, Side, Wanted
from frames import load_plugin
from hub_only import TICKERS
from loading import read_latencies
from plugin_fetch import Fetched, check_bars, fetched, held_files, while_loading
from processes import NotMeasured, Server, on_core, settle
from questions import (
    DAY_S,
    Files,
    Range,
    Record,
    Shape,
    WrongAnswer,
    as_it_is,
    asking,
    held_question,
    in_other_words,
    read_answer,
    slice_of,
    whole_history,
)

TICKER, RECORDS = "AAPL", 252
#: More than the memory for ready answers has room for, which is a quarter of `hot_bytes`.
LINES = 2_048
SETTINGS = """\
[cache]
hot_bytes = "64MiB"

[sample]
rate = 1e6
burst = 1000000
"""
CONNECTIONS, DEPTHS = 16, (1, 16)
#: Of a stretch of days some are held; after them comes one more in each round.
STRETCH, HELD = 160, 100
#: Of the answers beside fetches, from which their p99 is told.
SAMPLES = 1_000
_TS_MS, DAY_MS = 1_757_030_400_000, 86_400_000


def _spaced(line: bytes) -> bytes:
    """As Python's json.dumps writes it."""
    return json.dumps(json.loads(line)).encode() + b"\n"


def _older(line: bytes) -> bytes:
    """As the older client sends it, which says what time it is."""
    asked = json.loads(line)
    envelope = {
        "request_id": asked["request_id"],
        "v": 1,
        # Another one with each line is all that matters.
        "ts_ms": _TS_MS + crc32(line) % DAY_MS,
        "return_address": None,
        "auth": None,
        "query": asked["query"],
    }
    return json.dumps(envelope).encode() + b"\n"


def _query_line(line: bytes) -> bytes:
    """As a line of the query language."""
    asked = json.loads(line)
    payload = asked["query"]["payload"]
    ticker, dates = payload["request"]["SearchEntities"]["query"]
    start, end = dates["DateRange"].values()
    text = f"provider {payload['provider']} search ticker={ticker['Ticker']} date={start}..{end}"
    asked["query"] = {"type": "Line", "payload": {"line": text}}
    return msgspec.json.encode(asked) + b"\n"


SHAPES: dict[str, Shape] = {
    "by json.dumps": _spaced,
    "with a ts_ms": _older,
    "compact, id first": as_it_is,
    "as a Line": _query_line,
}
WORDS_WANTED = {
    (shape, depth): Wanted(f"252 held records in new words, {shape}, {depth} deep, CPU", "µs", 45)
    for shape in SHAPES
    for depth in DEPTHS
}
GAP_WANTED = {
    what: Wanted(f"a gap of one bar, {what}", "ms", 1.5) for what in ("CPU of the hub", "time")
}
KINDS = ("a plugin", "the hub itself")
BESIDE_WANTED = {
    kind: Wanted(f"p99 beside a fetch by {kind} to undisturbed", "×", 3, quiet=True)
    for kind in KINDS
}
WANTED = (*WORDS_WANTED.values(), *GAP_WANTED.values(), *BESIDE_WANTED.values())


def measure_fair(compared: Comparison, records: int) -> Iterator[list[Figure]]:
    """Measure all sides in turn; `records` is how long the fetch is that others are beside."""
    histories, figures = _words(compared)
    yield figures
    yield _gaps(compared, histories)
    for kind in KINDS:
        yield _beside(compared, kind, records)


# New words


def _words(compared: Comparison) -> tuple[dict[str, list[Record]], list[Figure]]:
    """Ask in each shape in turn; return the histories of the sample as well."""
    readings = Readings("new words")
    with ExitStack() as stack:
        hubs: dict[Side, Server] = {}
        files: dict[tuple[Side, str], Files] = {}
        histories: dict[str, list[Record]] = {}
        for side in compared.sides:
            hub = hubs[side] = side.start(compared.folder, "words", SETTINGS)
            stack.callback(hub.stop)
            with asking(hub) as ask:
                histories = {ticker: whole_history(ask, ticker) for ticker in TICKERS}
            for shape in SHAPES:
                files[side, shape] = _files(hub, histories[TICKER], shape, compared.folder)
        for _, side in compared.turns():
            for (shape, depth), wanted in WORDS_WANTED.items():
                asked = files[side, shape]
                sample = compared.sample(hubs[side], asked, CONNECTIONS, depth)
                sample = readings.sound(side, hubs[side], sample)
                readings.add(side, wanted.name, sample.cpu_us)
    figures = [readings.waiting(), *map(readings.wanted, WORDS_WANTED.values())]
    return histories, figures


def _files(hub: Server, history: list[Record], name: str, folder: Path) -> Files:
    shape = SHAPES[name]
    ranges = in_other_words(history, TICKER, RECORDS, LINES)
    with asking(hub, shape) as ask:
        question = held_question(ask, ranges, {TICKER: history}).shaped(shape)
    return question.write(folder / f"{hub.name}-{list(SHAPES).index(name)}")


# One bar more


@dataclass(frozen=True, slots=True)
class _Stretch:
    """Days that are held, and each day after them: the range it is asked by and its record."""

    held: Range
    more: list[tuple[Range, Record]]


def _stretches(ticker: str, history: list[Record], rounds: int) -> list[_Stretch]:
    if rounds >= STRETCH - HELD:
        raise NotMeasured(f"There are only {STRETCH - HELD} days after a stretch.")
    found = []
    for first in range(0, len(history) - STRETCH, STRETCH):
        held = slice_of(history, ticker, first, HELD)
        more, end = [], held.end
        for record in history[first + HELD : first + HELD + rounds]:
            start, end = end, record["timestamp"] + DAY_S
            more.append((Range(ticker, start, end, 1), record))
        found.append(_Stretch(held, more))
    return found


def _gaps(compared: Comparison, histories: dict[str, list[Record]]) -> list[Figure]:
    """Ask for the day after each stretch; the sample's fetch, which is at once, is counted in."""
    readings = Readings("one bar")
    stretches = [
        stretch
        for ticker, history in histories.items()
        for stretch in _stretches(ticker, history, compared.rounds)
    ]
    with ExitStack() as stack:
        stack.enter_context(on_core(compared.load.cores.load))
        hubs: dict[Side, Server] = {}
        for side in compared.sides:
            hubs[side] = side.start(compared.folder, "gaps", SETTINGS)
            stack.callback(hubs[side].stop)
            with asking(hubs[side]) as ask:
                for stretch in stretches:
                    read_answer(ask(stretch.held.request("held")), "held")
        for number, side in compared.turns():
            used, times = _one_more(hubs[side], [stretch.more[number] for stretch in stretches])
            for what, value in (("CPU of the hub", used), ("time", median(times))):
                readings.add(side, GAP_WANTED[what].name, value)
    return [*map(readings.wanted, GAP_WANTED.values())]


def _one_more(hub: Server, more: list[tuple[Range, Record]]) -> tuple[float, list[float]]:
    """Have each of these fetched; return the hub's CPU of one, and the time of each, in ms."""
    lines, times = [], []
    with asking(hub) as ask:
        before = settle(hub.pid)
        for asked, _ in more:
            began = time.perf_counter()
            lines.append(ask(asked.request("more")))
            times.append((time.perf_counter() - began) * 1e3)
        used = settle(hub.pid).since(before)
    for (asked, record), line in zip(more, lines, strict=True):
        records, stitch = read_answer(line, "more")
        if records != [record] or stitch.upstream_requests != 1:
            raise WrongAnswer(f"{hub.name}: {asked}: {records}, {stitch}")
    return used / 1e6 / len(more), times


# Beside a fetch


def _beside(compared: Comparison, kind: str, records: int) -> list[Figure]:
    """Ask for a held range alone, and while bars are fetched for another connection."""
    folder = compared.folder
    readings = Readings(f"a fetch by {kind}")
    alone_name, beside_name = f"p99 without a fetch by {kind}", f"p99 beside a fetch by {kind}"
    slowest_name, samples_name = f"the slowest beside a fetch by {kind}", f"answers beside {kind}"
    with ExitStack() as stack:
        stack.enter_context(on_core(compared.load.cores.load))
        hubs: dict[Side, Server] = {}
        files: dict[Side, Files] = {}
        for side in compared.sides:
            if kind == "a plugin":
                hub = side.start(folder, "beside")
            else:
                hub = side.start_inside(folder, "inside")
            stack.callback(hub.stop)
            if kind == "a plugin":
                load_plugin(hub)
            hubs[side], files[side] = hub, held_files(hub, folder / hub.name)
            # The first one imports what the others need.
            fetched(hub, "WARM", records)
        tickers = count()
        for _, side in compared.turns():
            hub = hubs[side]
            alone = readings.sound(side, hub, compared.sample(hub, files[side]))
            times = _times_beside(compared, hub, files[side], records, tickers)
            p99 = _p99(times)
            readings.add(side, alone_name, alone.p99_us)
            readings.add(side, beside_name, p99)
            readings.add(side, slowest_name, max(times))
            readings.add(side, samples_name, len(times))
            readings.add(side, BESIDE_WANTED[kind].name, p99 / alone.p99_us)
    samples = readings.total(samples_name, "")
    fewest = min(samples.now, samples.now if samples.before is None else samples.before)
    if fewest < SAMPLES:
        raise NotMeasured(f"Beside fetches by {kind} there were only {fewest:.0f} answers.")
    return [
        readings.figure(alone_name, "µs"),
        readings.figure(beside_name, "µs"),
        readings.figure(slowest_name, "µs"),
        samples,
        readings.waiting(),
        readings.wanted(BESIDE_WANTED[kind]),
    ]


def _times_beside(
    compared: Comparison, hub: Server, files: Files, records: int, tickers: Iterator[int]
) -> list[float]:
    """What answers took, in µs, whose requests were sent while a fetch was under way."""
    fetches: list[tuple[str, Fetched]] = []

    def fetch() -> None:
        ticker = f"T{next(tickers):05}"
        fetches.append((ticker, fetched(hub, ticker, records)))

    latencies = compared.folder / "latencies"
    seconds = 2 * compared.seconds
    sample, _ = while_loading(compared.load, hub, files, 1, seconds, fetch, latencies)
    if sample.problems:
        raise WrongAnswer(f"{hub.name}: {sample.problems} wrong: {sample.first_problem}")
    for ticker, one in fetches:
        check_bars(one.line, ticker, records)
    found = [
        took / 1e3
        for sent, took in read_latencies(latencies)
        if any(one.sent_ns <= sent < one.answered_ns for _, one in fetches)
    ]
    if not found:
        raise NotMeasured(f"{hub.name}: no held range was asked for while a fetch was under way.")
    return found


def _p99(times: list[float]) -> float:
    """The time that 99 of 100 did not pass."""
    return sorted(times)[ceil(len(times) * 0.99) - 1]
