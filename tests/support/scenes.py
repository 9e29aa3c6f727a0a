"""A world set to a given hour, whose requests and answers read like the rules they show.

Apart from the world, which knows nothing of dates: here instants are ISO text in UTC, an interval
is `2025-06-02..2025-06-07T13:30`, a request upstream is that with its purpose before it.
"""

from __future__ import annotations

import asyncio
import json
from collections.abc import AsyncIterator, Iterable
from contextlib import asynccontextmanager
from dataclasses import replace
from datetime import UTC, date, datetime
from pathlib import Path
from typing import Any

import msgspec

from gapless.config import Settings, YahooSettings
from gapless.domain.coverage import Coverage
from gapless.domain.intervals import Interval
from gapless.errors import ProviderError
from gapless.hub.answers import Answer
from gapless.hub.hub import Hub
from gapless.instants import format_instant
from gapless.protocol.messages import DateRange, Param, ProviderRequest, SearchEntities, Ticker
from gapless.providers.registry import Registry
from gapless.providers.yahoo import YahooProvider
from gapless.simulator.book import Bar
from gapless.simulator.faults import Fault
from gapless.simulator.instruments import equity
from gapless.simulator.market import Market
from gapless.simulator.prices import RandomWalk
from gapless.simulator.quirks import Quirks
from gapless.store.sqlite import open_store
from support.history import COLUMNS
from support.stores import store_of
from support.wire import PATIENCE_S
from support.world import Ledger, LedgerStore, World, request

PRICES = RandomWalk(3)
# Upstream understands, and refuses for good: the one failure that is not tried again.
REJECTED = Fault(
    "400",
    status=400,
    body=b'{"chart":{"result":null,"error":{"code":"Bad Request","description":"No."}}}',
    content_type="application/json",
)


def record(bar: Bar) -> dict[str, Any]:
    """Return a true bar as the provider's record."""
    return {"timestamp": bar.t, **{name: getattr(bar, name) for name in COLUMNS}}


def seconds(text: str) -> float:
    """Return UTC seconds of an ISO date or time."""
    return datetime.fromisoformat(text).replace(tzinfo=UTC).timestamp()


def ms(text: str) -> int:
    """Return UTC milliseconds of an ISO date or time."""
    return round(seconds(text) * 1000)


def said(at_ms: int) -> str:
    """Return an instant as briefly as it can be written."""
    text = datetime.fromtimestamp(at_ms / 1000, UTC).isoformat().removesuffix("+00:00")
    return text.removesuffix("T00:00:00").removesuffix(":00" if "T" in text else "-")


def spans(intervals: Iterable[Interval]) -> list[str]:
    """Return intervals as text."""
    return [f"{said(one.start)}..{said(one.end)}" for one in intervals]


def told(answer: Answer) -> list[dict[str, Any]]:
    """Return an answer's records."""
    found: list[dict[str, Any]] = json.loads(answer.text())
    return found


def reasons(answer: Answer) -> list[tuple[str, str]]:
    """Return what an answer has to say, as (interval, reason)."""
    return [(spans([one.interval])[0], one.reason) for one in answer.why]


def why(answer: Answer, span: str) -> str:
    """Return what an answer says of one interval."""
    return "; ".join(one.message for one in answer.why if spans([one.interval]) == [span])


def parts(answer: Answer) -> dict[str, list[str]]:
    """Return the three parts of the asked range that are not empty (stitching rule 14)."""
    named = {"cached": answer.cached, "fetched": answer.fetched, "missing": answer.missing}
    return {name: spans(intervals) for name, intervals in named.items() if intervals}


class Scene(World):
    """A hub of its own settings, and an upstream that lists the shares AAA and NEW."""

    def __init__(
        self,
        market: Market,
        now: str,
        folder: Path,
        template: Path,
        quirks: Quirks | None,
        settings: Settings,
        yahoo: dict[str, Any],
    ) -> None:
        super().__init__(market, seconds(now), folder, template, quirks)
        self._settings = settings
        self._yahoo = yahoo

    def at(self, text: str) -> None:
        """Let time pass until then."""
        assert seconds(text) >= self.clock.now_s, "time does not go back"
        self.clock.now_s = seconds(text)

    def wait(self, s: float) -> None:
        """Let seconds pass."""
        self.clock.now_s += s

    async def ask(
        self,
        start: str,
        end: str = "",
        interval: str = "1d",
        ticker: str = "AAA",
        strict: bool = False,
    ) -> Answer:
        """Ask for a range (no end: up to now) after forgetting what was asked upstream before."""
        return await self._ask(self.request(start, end, interval, ticker), strict)

    async def anew(self, start: str, end: str = "", interval: str = "1d") -> Answer:
        """Ask for all of a range to be fetched again, as `ask` does."""
        request = self.request(start, end, interval)
        return await self._ask(msgspec.structs.replace(request, fresh="now"))

    async def held(self, start: str, end: str = "", interval: str = "1d") -> Answer:
        """Ask for what is held of a range alone, as `ask` does."""
        request = self.request(start, end, interval)
        return await self._ask(msgspec.structs.replace(request, fresh="held"))

    async def actions(self, start: str, end: str = "", ticker: str = "AAA") -> Answer:
        """Ask for the actions of a range, as `ask` does for prices."""
        until = ms(end) if end else self.clock.now_ms() // 1000 * 1000
        bounds = DateRange(format_instant(ms(start)), format_instant(until))
        query = (Ticker(ticker), bounds, Param("data", "actions"))
        return await self._ask(ProviderRequest("yahoo_finance", SearchEntities(query)))

    async def _ask(self, request: ProviderRequest, strict: bool = False) -> Answer:
        self.asked.clear()
        self.sim.clear_requests()
        answer = await self.hub.answer(self.hub.question(request, strict))
        assert isinstance(answer, Answer)
        if not any(one.fault for one in self.sim.requests):
            assert answer.requests == len(self.sim.requests), "it says what it cost"
        return answer

    async def refused(self, start: str, end: str = "", **asked: Any) -> ProviderError:
        """Ask, and return the error that is the answer."""
        try:
            answer = await self.ask(start, end, **asked)
        except ProviderError as error:
            return error
        raise AssertionError(f"it was answered: {answer.state} {parts(answer)}")

    def request(
        self, start: str, end: str = "", interval: str = "1d", ticker: str = "AAA"
    ) -> ProviderRequest:
        """Return the request for a range."""
        until = ms(end) if end else self.clock.now_ms() // 1000 * 1000
        return request(ticker, interval, ms(start), until)

    @property
    def upstream(self) -> list[str]:
        """What the last request asked upstream, in order; a failure is marked by `!`."""
        return [
            ("!" if one.error is not None else "") + f"{one.purpose} {spans([one.interval])[0]}"
            for one in self.asked
        ]

    def truth(
        self, start: str, end: str = "", interval: str = "1d", ticker: str = "AAA"
    ) -> list[dict[str, Any]]:
        """Return the records that upstream has in a range now."""
        until = seconds(end) if end else self.clock.now_s
        bars = self.market.bars(ticker, interval, seconds(start), until, self.clock.now_s)
        return [record(bar) for bar in bars]

    async def whole(self, start: str, end: str = "", interval: str = "1d") -> list[dict[str, Any]]:
        """Return what one whole fetch by a hub that holds nothing gives now."""
        answer = await self.fresh(self.request(start, end, interval))
        assert answer.state == "ready"
        return told(answer)

    async def wait_for_upstream(self, s: float = PATIENCE_S) -> None:
        """Let each request have so many seconds of the machine's own time from now on."""
        provider = self.hub.registry.get("yahoo_finance")
        assert isinstance(provider, YahooProvider)
        provider.settings = replace(provider.settings, timeout_s=s)
        # Connections keep what they were made with.
        await provider.aclose()

    async def known(self, interval: str = "1d", ticker: str = "AAA") -> tuple[Coverage, ...]:
        """Return the series' coverage as it is stored."""
        provider = self.hub.registry.get("yahoo_finance")
        snapshot = await store_of(self.hub).read(provider.key(ticker, {"interval": interval}))
        return tuple(snapshot.state.coverage)

    async def _hub(self, path: Path, ledger: Ledger, watched: bool = True) -> Hub:
        urls = self.sim.base_urls
        hosts = {"base_url": urls[0], "fallback_url": urls[1] if len(urls) > 1 else None}
        pace = {"rate": 1000.0, "burst": 1000, "timeout_s": PATIENCE_S}
        settings = YahooSettings(**{**hosts, **pace, **self._yahoo})
        store = await asyncio.to_thread(open_store, path)
        return Hub(
            LedgerStore(store, ledger, self.clock),
            Registry([YahooProvider(settings, monotonic=self.clock.monotonic)]),
            self.clock,
            self._settings,
            observe=self.asked.append if watched else lambda asked: None,
            seed=0,
        )


@asynccontextmanager
async def scene(
    folder: Path,
    now: str,
    *,
    quirks: Quirks | None = None,
    lags: tuple[float, ...] = (0.0,),
    settings: Settings | None = None,
    **yahoo: Any,
) -> AsyncIterator[Scene]:
    """Set a scene: `lags` are the seconds by which each host is behind, `yahoo` its settings."""
    market = Market(
        [
            equity("AAA", first_trade=date(2023, 1, 3)),
            equity("NEW", first_trade=date(2025, 6, 2)),
        ],
        prices=PRICES,
        edge_lags_s=lags,
    )
    template = folder / "template.db"
    await (await asyncio.to_thread(open_store, template)).close()
    world = Scene(market, now, folder, template, quirks, settings or Settings(), yahoo)
    await world.open()
    try:
        yield world
    finally:
        await world.close()
