"""The demo's tour: each step asks a real hub over a real socket and says what was to hold."""

from __future__ import annotations

import asyncio
import tempfile
from collections.abc import Sequence
from datetime import date
from itertools import pairwise
from pathlib import Path

from rich.console import Console

from gapless.cli.show import Show
from gapless.cli.stage import DemoClock, OpenHub, Reply, Stage, instant, session
from gapless.cli.tour_own import own_tour
from gapless.config import FetchSettings
from gapless.domain.intervals import Interval
from gapless.errors import GaplessError
from gapless.shell.wording import bounds_text
from gapless.simulator.happenings import Split
from gapless.simulator.instruments import equity
from gapless.simulator.market import Market
from gapless.simulator.server import YahooSimulator

FRIDAY, WEDNESDAY = "2025-06-06T22:00:00Z", "2025-06-11T22:00:00Z"
SYMBOL, RATIO, EX_DATE = "ACME", 4, date(2025, 6, 9)
CROWD = 20

_IMPATIENT = FetchSettings(deadline_s=1.0)
_SAMPLE = "provider sample search"
_YAHOO = "provider yahoo_finance search"


async def perform(
    console: Console, blocks: bool, open_hub: OpenHub, market: Market | None = None
) -> bool:
    """Play the tour on a console; return whether every step held.

    `open_hub` is `running_hub`; `market` is what the simulated upstream serves.
    """
    show = Show(console, blocks)
    show.opening()
    clock = DemoClock(instant(FRIDAY))
    market = split_market() if market is None else market
    with tempfile.TemporaryDirectory(prefix="gapless-demo-") as folder:
        async with YahooSimulator(market, clock=clock.now_s) as upstream:
            stage = Stage(Path(folder), clock, open_hub, lambda: upstream.base_url)
            try:
                await sample_tour(show, stage)
                await split_tour(show, stage, upstream)
                await own_tour(show, stage)
            except (GaplessError, OSError, ValueError, LookupError) as error:
                show.broke(error)
    show.closing()
    return show.held


def split_market() -> Market:
    """Return a market with one share, which is split four for one on the Monday of the tour."""
    market = Market([equity(SYMBOL)])
    market.add(Split(SYMBOL, EX_DATE, RATIO))
    return market


async def sample_tour(show: Show, stage: Stage) -> None:
    """Gaps, and nothing but gaps: cold, again, wider, a weekend, many at once, a restart."""
    async with stage.hub("tour.db") as hub, session(hub.tcp) as client:
        show.step("Nothing is held yet: the whole range is fetched")
        cold = await show.ask(client, f"{_SAMPLE} ticker=AAPL date=2010-01-04..2010-07-01")
        show.check(
            "all of it came from upstream, in 1 request",
            cold.fetched == (cold.asked,) and cold.requests == 1 and len(cold.records) > 100,
        )
        show.step("The same again: nothing is asked upstream")
        again = await show.ask(client, f"{_SAMPLE} ticker=AAPL date=2010-01-04..2010-07-01")
        show.check(
            "the same records, 0 upstream requests",
            again.requests == 0 and not again.fetched and again.etag == cold.etag,
        )
        show.step("A wider range: only the two gaps are fetched, and stitched on")
        wider = await show.ask(client, f"{_SAMPLE} ticker=AAPL date=2009-07-01..2010-12-01")
        gaps = (
            Interval(wider.asked.start, cold.asked.start),
            Interval(cold.asked.end, wider.asked.end),
        )
        show.check(
            f"2 upstream requests: {' and '.join(_span(gap) for gap in gaps)}",
            wider.fetched == gaps and wider.cached == (cold.asked,) and wider.requests == 2,
        )
        times = [record["timestamp"] for record in wider.records]
        show.check(
            "one answer in order, no record twice, what was held in the midst of it",
            times == sorted(set(times)) and _within(cold.records, wider.records),
        )
        show.step("A weekend: asked once, then known to be empty")
        line = f"{_SAMPLE} ticker=AAPL date=2011-01-08..2011-01-10"
        first = await show.ask(client, line)
        second = await show.ask(client, line, again=True)
        show.check(
            "no records is an answer too: 1 upstream request, then 0",
            (first.requests, second.requests) == (1, 0)
            and not first.records
            and not second.records,
        )
        show.step(f"{CROWD} programs ask at once for what nobody has")
        line = f"{_SAMPLE} ticker=MSFT date=2008-01-01..2012-01-01"
        replies = await crowd(hub.tcp, line)
        show.asked(line)
        show.replies(replies)
        show.check(
            f"upstream was asked once, and the {CROWD} answers are equal",
            sum(reply.requests for reply in replies) == 1
            and len({reply.etag for reply in replies}) == 1,
        )
    show.step("The hub is stopped and started again: everything is still there")
    async with stage.hub("tour.db") as hub, session(hub.tcp) as client:
        after = await show.ask(client, f"{_SAMPLE} ticker=AAPL date=2009-07-01..2010-12-01")
        show.check(
            "the same records from the database file, 0 upstream requests",
            after.requests == 0 and after.etag == wider.etag and not after.fetched,
        )


async def split_tour(show: Show, stage: Stage, upstream: YahooSimulator) -> None:
    """The past changes under a cache: a split, and an upstream that goes away."""
    show.chapter(
        "Now Yahoo Finance, simulated: an upstream that rewrites its past. "
        "It is Friday, 6 June 2025."
    )
    async with stage.hub("tour.db") as hub, session(hub.tcp) as client:
        show.step(f"Friday evening: a history of {SYMBOL}")
        friday = await show.ask(client, f"{_YAHOO} ticker={SYMBOL} date=2025-01-02..2025-06-06")
        show.check(
            "all of it came from upstream, in 1 request",
            friday.fetched == (friday.asked,) and friday.requests == 1,
        )
        stage.clock.leap_to(instant(WEDNESDAY))
        show.chapter(
            f"On Monday {SYMBOL} is split {RATIO} for 1: upstream divides all its earlier prices. "
            "A cache that only appends would show a crash. It is Wednesday now."
        )
        line = f"{_YAHOO} ticker={SYMBOL} date=2025-01-02..2025-06-11"
        show.step("Wednesday: three days more are asked for")
        stitched = await show.ask(client, line)
        show.prices(friday, stitched)
        show.check(
            "the one request for the gap took the past along, all divided now",
            stitched.state == "ready"
            and stitched.requests == 1
            and _ratios(friday, stitched) == {float(RATIO)},
        )
        show.check("no cliff: no day moves by more than 20 %", _steepest(stitched) < 0.2)
        show.step("Is that right? A second hub, with an empty database, fetches it all")
        async with stage.hub("fresh.db") as other, session(other.tcp) as stranger:
            fresh = await show.ask(stranger, line)
        show.check(
            f"equal, record for record: etag {fresh.etag} here and there",
            fresh.etag == stitched.etag and list(fresh.records) == list(stitched.records),
        )
    show.step("Upstream goes away: what is held is answered, what is missing is said")
    async with stage.hub("tour.db", _IMPATIENT) as hub, session(hub.tcp) as client:
        line = f"{_YAHOO} ticker={SYMBOL} date=2024-10-01..2025-06-11"
        await upstream.refuse()
        try:
            partial = await show.ask(client, line)
        finally:
            await upstream.accept()
        show.check(
            f"state {partial.state}: {len(partial.records)} records, and the hole is named",
            partial.state == "partial"
            and [hole.start for hole in partial.missing] == [partial.asked.start]
            and _within(stitched.records, partial.records),
        )
        healed = await show.ask(client, line, again=True)
        show.check(
            "upstream is back: only the hole is fetched",
            healed.state == "ready"
            and healed.fetched == partial.missing
            and _within(stitched.records, healed.records),
        )


async def crowd(address: str, line: str) -> list[Reply]:
    """Ask the same of a hub over many connections at once."""

    async def one() -> Reply:
        async with session(address) as one_of_them:
            return await one_of_them.ask(line)

    return await asyncio.gather(*(one() for _ in range(CROWD)))


def _span(interval: Interval) -> str:
    return "..".join(bounds_text(interval))


def _within(part: Sequence[object], whole: Sequence[object]) -> bool:
    """Whether `part` is a run of `whole`."""
    if not part or part[0] not in whole:
        return False
    at = whole.index(part[0])
    return list(whole[at : at + len(part)]) == list(part)


def _ratios(before: Reply, after: Reply) -> set[float]:
    """Return by what earlier prices were divided, to two places, over all common records."""
    now = {record["timestamp"]: record["close"] for record in after.records}
    return {
        round(record["close"] / now[record["timestamp"]], 2)
        for record in before.records
        if record["timestamp"] in now
    }


def _steepest(reply: Reply) -> float:
    """Return the largest change from one day's close to the next, as a share."""
    closes = [record["close"] for record in reply.records]
    return max(
        (abs(later / earlier - 1) for earlier, later in pairwise(closes)),
        default=1.0,
    )
