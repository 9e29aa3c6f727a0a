"""How long is measured, and everything that was: what ends up in results.json."""

from __future__ import annotations

from dataclasses import dataclass, field

from checks import Checks
from client import Bulks
from client_asks import Got
from days import Days
from figures import Figure
from flat import Pieces
from frames import Frames
from frugality import Frugality
from grid import Measured
from hub_only import Restart, Scale
from idle import Idle
from plugin_fetch import Fetching
from plugin_loads import Loads, Reloads
from tokens import Tokens
from web import Web


@dataclass(frozen=True, slots=True)
class Plan:
    """How long to measure: rounds and seconds of a cell, starts, idle connections.

    `web_seconds`: of a run of wrk. `fetch_rounds`: of fetches from a plugin; `reloads` of one.
    `asks`: by the client in a round; `openbb_tickers`: how many OpenBB reads, which takes long.
    `check_rounds`: tickers that are fetched first and again. `side_rounds`: of `flat` and `fair`.
    """

    rounds: int
    seconds: float
    token_rounds: int
    scale_rounds: int
    starts: int
    web_rounds: int
    web_seconds: int
    frame_rounds: int
    fetch_rounds: int
    load_rounds: int
    reloads: int
    ask_rounds: int
    asks: int
    bulk_rounds: int
    check_rounds: int
    openbb_tickers: int
    side_rounds: int
    pieces: Pieces
    idle: int = 2000
    few: int = 10
    many: int = 100_000
    rows: int = 1_000_000
    fetched: int = 100_000


FULL = Plan(
    rounds=2,
    seconds=1.5,
    token_rounds=9,
    scale_rounds=5,
    starts=10,
    web_rounds=5,
    web_seconds=2,
    frame_rounds=5,
    fetch_rounds=9,
    load_rounds=3,
    reloads=100,
    ask_rounds=21,
    asks=200,
    bulk_rounds=5,
    check_rounds=15,
    openbb_tickers=100,
    side_rounds=5,
    pieces=Pieces(blocks=5_000, islands=10_000, ends=1_000),
)
QUICK = Plan(
    rounds=1,
    seconds=0.3,
    token_rounds=7,
    scale_rounds=3,
    starts=5,
    web_rounds=2,
    web_seconds=1,
    frame_rounds=2,
    fetch_rounds=3,
    load_rounds=1,
    reloads=20,
    ask_rounds=7,
    asks=200,
    bulk_rounds=3,
    check_rounds=5,
    openbb_tickers=25,
    side_rounds=2,
    pieces=Pieces(blocks=5_000, islands=1_000, ends=100),
)


@dataclass(slots=True)
class Results:
    """What has been measured so far, what could not be, and the wrong answers."""

    grid: list[Measured] = field(default_factory=list)
    tokens: list[Tokens] = field(default_factory=list)
    days: list[Days] = field(default_factory=list)
    scale: list[Scale] = field(default_factory=list)
    restart: Restart | None = None
    idle: list[Idle] = field(default_factory=list)
    web: list[Web] = field(default_factory=list)
    frames: Frames | None = None
    fetches: list[Fetching] = field(default_factory=list)
    loads: list[Loads] = field(default_factory=list)
    reloads: Reloads | None = None
    asks: Got | None = None
    bulks: Bulks | None = None
    checks: Checks | None = None
    frugality: list[Frugality] = field(default_factory=list)
    flat: list[Figure] = field(default_factory=list)
    fair: list[Figure] = field(default_factory=list)
    left_out: list[str] = field(default_factory=list)
    wrong: list[str] = field(default_factory=list)


def problems_of(results: Results) -> list[str]:
    """Everything that came back other than it should have."""
    found = list(results.wrong)
    for row in results.grid:
        if row.problems:
            where = f"{row.records} records, {row.connections} connections, {row.depth} in flight"
            found.append(
                f"{row.server}, {where}: {row.problems} wrong or lost. {row.first_problem}"
            )
    for one in results.tokens:
        if one.problems:
            found.append(f"Tokens, {one.way}: {one.problems} wrong or lost. {one.first_problem}")
    for way in results.days:
        if way.problems:
            found.append(f"Days, {way.way}: {way.problems} wrong or lost. {way.first_problem}")
    for scale in results.scale:
        if scale.problems:
            found.append(
                f"{scale.few} or {scale.many} series: {scale.problems}. {scale.first_problem}"
            )
    for web in results.web:
        if web.problems:
            found.append(f"{web.asked}, in {web.problems} runs: {web.first_problem}")
    beside: list[Fetching | Loads] = [*results.fetches, *results.loads]
    for held in beside:
        if held.problems:
            found.append(
                f"Held requests beside plugins: {held.problems} wrong or lost. {held.first_problem}"
            )
    if results.frames is not None:
        found += results.frames.wrong
    if results.asks is not None:
        found += results.asks.wrong
    if results.bulks is not None:
        found += results.bulks.wrong
    for user in results.frugality:
        if untrue := user.first.wrong + user.after.wrong:
            found.append(f"{user.user}: {untrue} answers were ready and not what upstream served")
    if results.reloads is not None and results.reloads.lost:
        lost = results.reloads.lost
        found.append(f"{len(lost)} requests to a plugin lost beside its reloads. {lost[0]}")
    return found
