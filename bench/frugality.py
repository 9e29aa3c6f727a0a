"""What it costs upstream to keep ranges right: requests and bytes, user by user, in virtual time.

A hub in this process and the simulator over real sockets, on one clock. `python frugality.py`
prints the table alone; with another checkout's `src` in PYTHONPATH it is that of its hub, so all
that is used here of the hub has been there for long.
"""

from __future__ import annotations

import asyncio
import sys
import tempfile
from collections.abc import AsyncIterator, Awaitable, Callable, Iterable, Iterator
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from datetime import UTC, date, datetime, timedelta
from itertools import islice
from pathlib import Path

import msgspec
from gapless.config import YahooSettings
from gapless.errors import GaplessError, InvalidQuery
from gapless.hub.answers import Answer
from gapless.hub.hub import Hub
from gapless.observability import configure_logging
from gapless.protocol.language import parse_line
from gapless.protocol.messages import ProviderRequest
from gapless.providers.registry import Registry
from gapless.providers.yahoo import YahooProvider
from gapless.simulator.chart import Query, answer, parse
from gapless.simulator.happenings import Dividend, Split
from gapless.simulator.instruments import Session, equity
from gapless.simulator.market import Market
from gapless.simulator.prices import RandomWalk
from gapless.simulator.server import YahooSimulator
from gapless.store.sqlite import open_store
from rich.console import Console

from report import console, table_of

DAY_S = 86_400.0
YEAR_S = 365 * DAY_S
#: An hour inside of what upstream serves of minutes, so that all of it is there.
MINUTES_S = 30 * DAY_S - 2 * 3600
#: New York's.
HOLIDAYS = frozenset(
    date(*day)
    for day in (
        *((2024, 7, 4), (2024, 9, 2), (2024, 11, 28), (2024, 12, 25), (2025, 1, 1), (2025, 1, 20)),
        *((2025, 2, 17), (2025, 4, 18), (2025, 5, 26), (2025, 6, 19), (2025, 7, 4), (2025, 9, 1)),
        *((2025, 11, 27), (2025, 12, 25), (2026, 1, 1), (2026, 1, 19), (2026, 2, 16), (2026, 4, 3)),
        *((2026, 5, 25), (2026, 6, 19)),
    )
)
FIRST_DAY = date(2025, 6, 2)
THANKSGIVING = date(2025, 11, 27)
PRICES = RandomWalk(7)


@dataclass(slots=True)
class Cost:
    """What some requests of a user came to: answers, requests upstream, bytes of their bodies.

    `refused` are the answers that were errors, `not_ready` those that said of themselves that they
    are partial or stale; `wrong` were `ready` and not what upstream served at that moment.
    """

    answers: int = 0
    requests: int = 0
    body_bytes: int = 0
    refused: int = 0
    not_ready: int = 0
    wrong: int = 0


@dataclass(frozen=True, slots=True)
class Frugality:
    """One user: `first` is what was asked for to begin with, `after` all that is counted."""

    user: str
    first: Cost
    after: Cost


class VirtualClock:
    """The hub's and the simulator's time; sleeping moves it on without waiting."""

    def __init__(self) -> None:
        self.now_s = 0.0

    def __call__(self) -> float:
        return self.now_s

    def now_ms(self) -> int:
        return round(self.now_s * 1000)

    def monotonic(self) -> float:
        return self.now_s

    async def sleep(self, seconds: float) -> None:
        # Whole milliseconds, for the hub knows no others.
        self.now_s = round(self.now_s + seconds, 3)
        await asyncio.sleep(0)


@dataclass(slots=True)
class Trial:
    """A hub that began with nothing, an upstream, their clock, and the cost of what is asked."""

    market: Market
    clock: VirtualClock
    simulator: YahooSimulator
    hub: Hub
    cost: Cost = field(default_factory=Cost)

    def counted(self) -> Cost:
        """Return the cost up to now, and begin anew."""
        found, self.cost = self.cost, Cost()
        return found

    async def ask(
        self,
        ticker: str,
        back_s: float = YEAR_S,
        interval: str = "1d",
        end_s: float | None = None,
        fresh: str = "",
    ) -> None:
        """Ask for what reaches back so far from now or `end_s`; hold it against what upstream has.

        Raises `InvalidQuery` where the hub does not know what it is asked for.
        """
        end = int(self.clock.now_s if end_s is None else end_s)
        start = end - int(back_s)
        line = f"provider yahoo_finance search ticker={ticker} date={_text(start)}..{_text(end)} "
        line += f"interval={interval}" + (f" fresh={fresh}" if fresh else "")
        request = parse_line(line)
        assert isinstance(request, ProviderRequest)
        self.cost.answers += 1
        try:
            came = await self.hub.answer(self.hub.question(request))
        except InvalidQuery:
            raise
        except GaplessError:
            self.cost.refused += 1
            return
        assert isinstance(came, Answer)
        if came.state != "ready":
            self.cost.not_ready += 1
        elif self.market.instrument(ticker) is not None:
            self.cost.wrong += not self._is_true(came, ticker, interval, start, end)

    def _is_true(self, came: Answer, ticker: str, interval: str, start: int, end: int) -> bool:
        rows = msgspec.json.decode(came.text())
        bars = self.market.bars(ticker, interval, start, end, self.clock.now_s)
        names = ("open", "high", "low", "close", "adjclose", "volume")
        true = [
            {"timestamp": bar.t, **{name: getattr(bar, name) for name in names}} for bar in bars
        ]
        return bool(rows == true)

    def tally(self) -> None:
        """Count what went upstream since the last time; before the market changes or ends."""
        for one in self.simulator.requests:
            asked = parse(one.target)
            assert isinstance(asked, Query)
            # An answer follows from the market and the instant alone.
            made = answer(self.market, self.simulator.quirks, asked, one.t, one.edge)
            self.cost.requests += 1
            self.cost.body_bytes += len(made.body)
        self.simulator.clear_requests()


User = Callable[[Trial], Awaitable[Cost]]


def _text(seconds: int) -> str:
    return datetime.fromtimestamp(seconds, UTC).strftime("%Y-%m-%dT%H:%M:%SZ")


def a_market(tickers: Iterable[str]) -> Market:
    """Shares with a dividend every quarter, of each on other days, and of the first a split."""
    names = list(tickers)
    market = Market([equity(name, holidays=HOLIDAYS) for name in names], prices=PRICES)
    for number, name in enumerate(names):
        day = date(2025, 1, 6) + timedelta(days=number % 91)
        while day < date(2026, 7, 1):
            trading = day.toordinal()
            while market.session(name, trading) is None:
                trading += 1
            market.add(Dividend(name, date.fromordinal(trading), 0.25))
            day += timedelta(days=91)
    market.add(Split(names[0], date(2026, 3, 2), 4))
    return market


@asynccontextmanager
async def a_trial(market: Market, folder: Path) -> AsyncIterator[Trial]:
    """Run a hub on an empty database and an upstream that answers at any pace."""
    clock = VirtualClock()
    store = await asyncio.to_thread(open_store, folder / "frugality.db")
    try:
        async with YahooSimulator(market, clock=clock) as simulator:
            settings = YahooSettings(
                base_url=simulator.base_url, fallback_url=None, rate=1e6, burst=1_000_000
            )
            provider = YahooProvider(settings, monotonic=clock.monotonic)
            hub = Hub(store, Registry([provider]), clock, seed=0)
            try:
                yield Trial(market, clock, simulator, hub)
            finally:
                await hub.close()
    finally:
        await store.close()


def sessions(market: Market, first: date = FIRST_DAY) -> Iterator[Session]:
    """Yield the trading days from a date on."""
    ticker = market.symbols[0]
    day = first.toordinal()
    while True:
        found = market.session(ticker, day)
        if found is not None:
            yield found
        day += 1


def evening(session: Session) -> float:
    """An hour after the close."""
    return session.close_s + 3600.0


def evenings(trial: Trial, first: int, end: int) -> Iterator[float]:
    """The evenings of these sessions, counted from 0."""
    return map(evening, islice(sessions(trial.market), first, end))


def through_the_day(session: Session) -> tuple[float, ...]:
    """Five times of a day: after the opening, three times more, and in the evening."""
    opening, close = session.open_s, session.close_s
    return opening + 1800.0, opening + 7200.0, opening + 14_400.0, close - 900.0, evening(session)


# The users


async def every_evening(trial: Trial) -> Cost:
    """A year up to now, on each of 250 evenings."""
    return await _first_and_then(trial, evenings(trial, 0, 250))


async def five_times_a_day(trial: Trial) -> Cost:
    """A year up to now, five times on each of 250 days."""
    days = islice(sessions(trial.market), 250)
    return await _first_and_then(trial, (at_s for day in days for at_s in through_the_day(day)))


async def _first_and_then(trial: Trial, times: Iterator[float], first: int = 1) -> Cost:
    """Ask at each of the times; what the `first` ones cost is returned."""
    await _at(trial, islice(times, first))
    found = trial.counted()
    await _at(trial, times)
    return found


async def _at(trial: Trial, times: Iterable[float], ticker: str = "T000") -> None:
    for at_s in times:
        trial.clock.now_s = at_s
        await trial.ask(ticker)
        trial.tally()


async def once_a_week(trial: Trial) -> Cost:
    """A year of each of 500 tickers, on the evenings of five Fridays."""
    fridays = (one for one in sessions(trial.market) if date.fromordinal(one.day).weekday() == 4)
    first = Cost()
    for session in islice(fridays, 5):
        trial.clock.now_s = evening(session)
        await _each(trial, trial.market.symbols)
        trial.tally()
        if not first.answers:
            first = trial.counted()
    return first


@dataclass(frozen=True, slots=True)
class AtTheOpening:
    """A year of each of 500 tickers, held since the evening, by three users half an hour after.

    Up to now, or `final`: up to the evening before that, of which all is final. Each of the users
    begins elsewhere, so that each is the first to ask for a third of them. `fresh`: how fresh
    they want it.
    """

    final: bool = False
    fresh: str = ""

    async def __call__(self, trial: Trial) -> Cost:
        before, held_on, asked_on = islice(sessions(trial.market), 3)
        trial.clock.now_s = evening(held_on)
        tickers = trial.market.symbols
        await _each(trial, tickers)
        trial.tally()
        first = trial.counted()
        trial.clock.now_s = asked_on.open_s + 1800.0
        # Not a day more than is held: the beginning would be a gap.
        back_s = YEAR_S - 2 * DAY_S if self.final else YEAR_S
        end_s = evening(before) if self.final else None
        third = len(tickers) // 3
        orders = [tickers[i * third :] + tickers[: i * third] for i in range(3)]
        await asyncio.gather(*(_each(trial, order, back_s, end_s, self.fresh) for order in orders))
        trial.tally()
        return first


async def _each(
    trial: Trial,
    tickers: Iterable[str],
    back_s: float = YEAR_S,
    end_s: float | None = None,
    fresh: str = "",
) -> None:
    for ticker in tickers:
        await trial.ask(ticker, back_s, end_s=end_s, fresh=fresh)


async def minutes(trial: Trial) -> Cost:
    """All the minutes that upstream serves, up to now, on each of 22 evenings."""
    first = Cost()
    for at_s in evenings(trial, 0, 22):
        trial.clock.now_s = at_s
        await trial.ask("T000", MINUTES_S, "1m")
        trial.tally()
        if not first.answers:
            first = trial.counted()
    return first


async def delisted(trial: Trial) -> Cost:
    """A year up to now, on each of 60 evenings after upstream has forgotten the ticker."""
    await _at(trial, evenings(trial, 0, 5))
    held = trial.counted()
    trial.market.delist("T000")
    await _at(trial, evenings(trial, 5, 65))
    return held


async def unknown(trial: Trial) -> Cost:
    """A year up to now of a ticker that upstream does not know, on each of 60 evenings."""
    await _at(trial, evenings(trial, 0, 60), "NOBODY")
    return Cost()


async def holiday(trial: Trial) -> Cost:
    """A year up to now, held since the evening before, five times on a holiday."""
    before = next(sessions(trial.market, THANKSGIVING - timedelta(days=1)))
    times = [evening(before), *(at_s + DAY_S for at_s in through_the_day(before))]
    return await _first_and_then(trial, iter(times))


MANY = tuple(f"T{number:03}" for number in range(500))
ONE = ("T000", "T001")
USERS: tuple[tuple[str, tuple[str, ...], User], ...] = (
    ("one ticker, 250 evenings", ONE, every_evening),
    ("one ticker, 250 days, five times a day", ONE, five_times_a_day),
    ("500 tickers, five Fridays", MANY, once_a_week),
    ("500 tickers at the opening, up to now", MANY, AtTheOpening()),
    ("the same, fresh=held", MANY, AtTheOpening(fresh="held")),
    ("500 tickers at the opening, final", MANY, AtTheOpening(final=True)),
    ("the same, final, fresh=held", MANY, AtTheOpening(final=True, fresh="held")),
    ("1m, all there is, 22 evenings", ONE, minutes),
    ("a delisted ticker, 60 evenings", ONE, delisted),
    ("an unknown ticker, 60 evenings", ONE, unknown),
    ("a holiday, five times", ONE, holiday),
)


def measure_frugality(leave_out: Callable[[str], None]) -> list[Frugality]:
    """Let each user ask a hub of their own for what they ask for, and count."""
    # What upstream refuses is counted, and need not be said as well.
    configure_logging("error", "text")
    found = []
    for name, tickers, user in USERS:
        with tempfile.TemporaryDirectory(prefix="gapless-frugality-") as folder:
            try:
                found.append(asyncio.run(_of(name, a_market(tickers), user, Path(folder))))
            except InvalidQuery as error:
                leave_out(f"{name}: this hub does not know how: {error}")
    return found


async def _of(name: str, market: Market, user: User, folder: Path) -> Frugality:
    async with a_trial(market, folder) as trial:
        first = await user(trial)
        return Frugality(name, first, trial.counted())


def print_frugality(to: Console, rows: list[Frugality]) -> None:
    """Print what each user's asking came to upstream."""
    table = table_of(to, "What goes upstream: requests, and MB of their answers' bodies")
    table.add_column("")
    for heading in (
        "first",
        "requests",
        "MB",
        "then",
        "requests",
        "MB",
        "refused",
        "not ready",
        "untrue",
    ):
        table.add_column(heading, justify="right")
    for row in rows:
        figures = [
            text
            for cost in (row.first, row.after)
            for text in (f"{cost.answers:,}", f"{cost.requests:,}", f"{cost.body_bytes / 1e6:,.2f}")
        ]
        after = row.after
        table.add_row(
            row.user, *figures, f"{after.refused:,}", f"{after.not_ready:,}", f"{after.wrong:,}"
        )
    to.print(table)


def main() -> int:
    """Measure and print the table alone; 1 if an answer was `ready` and untrue."""
    to = console()

    def left_out(why: str) -> None:
        to.print(f"Left out: {why}", highlight=False, markup=False)

    rows = measure_frugality(left_out)
    print_frugality(to, rows)
    return 1 if any(row.first.wrong or row.after.wrong for row in rows) else 0


if __name__ == "__main__":
    sys.exit(main())
