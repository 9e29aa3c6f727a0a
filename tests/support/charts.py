"""A simulated market of all kinds, and its chart answers as rows."""

from __future__ import annotations

import json
from datetime import UTC, date, datetime
from typing import Any

from gapless.simulator.book import Bar
from gapless.simulator.chart import Query, answer, parse
from gapless.simulator.happenings import (
    Happening,
)
from gapless.simulator.instruments import Instrument, coin, currency_pair, equity, fund
from gapless.simulator.market import Market
from gapless.simulator.prices import RandomWalk
from gapless.simulator.quirks import Quirks

HOUR, DAY = 3600, 86_400
PLAIN = Quirks.none()
RIYADH = Instrument(
    "2222.SR",
    tz="Asia/Riyadh",
    open_local_s=10 * HOUR,
    close_local_s=15 * HOUR,
    weekdays=frozenset({6, 0, 1, 2, 3}),
    currency="SAR",
    exchange="SAU",
    closing_auction=True,
)
MARKET = Market(
    [
        equity(
            "AAPL",
            first_trade=date(1980, 12, 12),
            early_closes={date(2026, 11, 27): 13 * HOUR},
        ),
        equity("MSFT"),
        equity("ALL.AX", tz="Australia/Sydney", hours=(10 * HOUR, 16 * HOUR), currency="AUD"),
        currency_pair("EURUSD=X"),
        coin("BTC-USD"),
        fund("VFIAX"),
        RIYADH,
    ],
    prices=RandomWalk(5),
    edge_lags_s=(0.0, 600.0),
)


def at(text: str) -> int:
    """Return the UTC seconds of an ISO instant."""
    return int(datetime.fromisoformat(text).replace(tzinfo=UTC).timestamp())


NOW = at("2026-11-20T23:00")
"""A Friday evening, the New York session over."""
START = at("2026-10-20T00:00")


def market(*happenings: Happening) -> Market:
    """Return a market to which this happens."""
    fresh = MARKET.fresh()
    fresh.add(*happenings)
    return fresh


def ask(
    world: Market,
    symbol: str = "AAPL",
    *,
    now: float = NOW,
    edge: int = 0,
    quirks: Quirks = PLAIN,
    **given: object,
) -> tuple[int, Any]:
    """Return status and decoded body of one request; by default daily bars and all actions."""
    asked = {"period1": START, "period2": int(now), "events": "div,splits,capitalGains", **given}
    target = "&".join(f"{name}={value}" for name, value in asked.items())
    query = parse(f"/v8/finance/chart/{symbol}?{target}")
    assert isinstance(query, Query)
    found = answer(world, quirks, query, now, edge)
    return found.status, json.loads(found.body)


def result(world: Market, symbol: str = "AAPL", **given: Any) -> Any:
    """Return the one result of a request that succeeds."""
    status, body = ask(world, symbol, **given)
    assert status == 200, body
    return body["chart"]["result"][0]


def rows(found: Any) -> dict[int, tuple[Any, ...]]:
    """Return a result's rows by stamp: open, high, low, close, volume, adjclose."""
    quote = found["indicators"]["quote"][0]
    stamps = found.get("timestamp", [])
    columns = [quote.get(name, []) for name in ("open", "high", "low", "close", "volume")]
    columns.append(found["indicators"].get("adjclose", [{}])[0].get("adjclose") or [None] * 9999)
    return {t: tuple(column[i] for column in columns) for i, t in enumerate(stamps)}


def values(bar: Bar) -> tuple[Any, ...]:
    """Return a bar as `rows` does."""
    return bar.open, bar.high, bar.low, bar.close, bar.volume, bar.adjclose
