"""What is known of a ticker beside its bars, on every door; and what follows when it changes."""

from __future__ import annotations

import json
from datetime import UTC, date, datetime, time
from pathlib import Path
from typing import Any

import pytest

import gapless
from gapless.protocol.language import format_line, parse_line
from gapless.protocol.messages import Describe
from gapless.providers.sample import SampleProvider
from gapless.simulator.instruments import equity
from gapless.simulator.market import Market
from gapless.simulator.prices import RandomWalk
from support.asking import asking
from support.exchanges import exchange
from support.web import web
from support.wire import connect

FIRST = date(2023, 1, 3)
NOW = "2025-03-10T22:00:00Z"
FACTS: dict[str, Any] = {
    "zone": "Europe/Berlin",
    "currency": "EUR",
    "kind": "EQUITY",
    "session": {"open": "09:00", "close": "17:30"},
}
NOTHING = dict.fromkeys(("zone", "currency", "kind", "exchange", "name", "first_trade"))
DAYS = "start=2024-04-02&end=2024-04-06"
PATH = f"/v1/data/yahoo_finance/EUDE?{DAYS}"


def listed(zone: str = "Europe/Berlin") -> Market:
    """Return a market with one share."""
    return Market(
        [equity("EUDE", tz=zone, hours=(32_400, 63_000), currency="EUR", first_trade=FIRST)],
        prices=RandomWalk(3),
    )


def some(facts: dict[str, Any]) -> dict[str, Any]:
    """Return the facts that this test knows."""
    return {name: facts[name] for name in FACTS}


async def test_every_door_describes(tmp_path: Path) -> None:
    """Upstream is asked once, by its cheapest request; then everybody is told the same."""
    async with (
        exchange(tmp_path, listed(), NOW) as at,
        asking("sync", at.hub.tcp_port) as client,
        await connect(at.hub.tcp_port) as wire,
    ):
        told = await wire.ask(
            {"type": "Describe", "payload": {"provider": "yahoo_finance", "ticker": "eude"}}
        )
        assert (told["ok"], told["kind"], told["provider"]) == (True, "Describe", "yahoo_finance")
        assert some(told["result"]) == FACTS
        assert told["result"]["first_trade"] == 1_672_732_800
        line = await wire.ask(
            {"type": "Line", "payload": {"line": "provider yahoo_finance describe EUDE"}}
        )
        over_http = (await at.hub.get("/v1/series/yahoo_finance/EUDE")).json()
        assert line["result"] == over_http == told["result"]
        facts = await client.describe("yahoo_finance", "EUDE")
        assert (facts.zone, facts.currency) == ("Europe/Berlin", "EUR")
        assert facts.first_trade == datetime(2023, 1, 3, 8, tzinfo=UTC)
        assert facts.session == gapless.TradingHours(time(9), time(17, 30))
        assert at.asked == 1
        body = {"query": {"type": "Describe", "payload": {"provider": "sample", "ticker": "X"}}}
        problem = (await at.hub.client.post("/v1/query", json=body)).json()
        assert problem["error"]["code"] == "provider_not_found"


async def test_ranges_tell_facts_where_they_are_asked_for(tmp_path: Path) -> None:
    """Beside the stitch, in a header, and in the client's result; held or not, memorised or not."""
    async with (
        exchange(tmp_path, listed(), NOW) as at,
        asking("async", at.hub.tcp_port) as client,
        await connect(at.hub.tcp_port) as wire,
    ):
        bounds = {"start": "2024-04-02", "end": "2024-04-06"}

        async def ask(interval: str, **keys: Any) -> dict[str, Any]:
            param = {"name": "interval", "value": interval}
            filters = [{"Ticker": "EUDE"}, {"DateRange": bounds}, {"Param": param}]
            search = {"SearchEntities": {"query": filters, "limit": None}}
            payload = {"provider": "yahoo_finance", "request": search}
            return await wire.ask({"type": "ProviderRequest", "payload": payload}, **keys)

        for _ in range(3):
            told = await ask("1d", facts=True)
            assert some(told["facts"]) == FACTS
            assert told["dates"] == "Europe/Berlin"
            told = await ask("1h", facts=True)
            assert some(told["facts"]) == FACTS
            assert told["dates"] is None
            assert not {"facts", "dates"} & (await ask("1d")).keys()
        header = json.loads((await at.hub.get(PATH)).headers["gapless-facts"])
        assert header == told["facts"]
        result = await client.search("yahoo_finance", "EUDE", "2024-04-02", "2024-04-06")
        assert result.facts == await client.describe("yahoo_finance", "EUDE")
        many = await client.search("yahoo_finance", "EUDE", "2023-02-01", "2024-04-06")
        assert many.facts == result.facts


async def test_who_tells_nothing_is_not_asked_for_it(tmp_path: Path) -> None:
    """Of the sample nothing is known beside its prices; its days are those of UTC."""
    async with web(tmp_path, SampleProvider()) as opened:
        told = (await opened.get("/v1/series/sample/AAPL")).json()
        assert told == {**NOTHING, "session": {"open": None, "close": None}}
        async with asking("sync", opened.tcp_port) as client:
            facts = await client.describe("sample", "AAPL")
            assert facts == gapless.Facts(**NOTHING, session=gapless.TradingHours(None, None))
            result = await client.search("sample", "AAPL", "2010-01-04", "2010-01-06")
            assert [str(day) for day in result.to_polars()["date"]] == ["2010-01-04", "2010-01-05"]
        assert (await opened.hub.statistics())["upstream_requests"] == 1


@pytest.mark.parametrize(
    ("ticker", "error", "said"),
    [
        ("NOPE", gapless.UnknownTicker, "NOPE"),
        ("a b", gapless.InvalidQuery, "is no Yahoo ticker"),
        ("", gapless.InvalidQuery, "expected a text"),
    ],
)
async def test_what_is_no_ticker_is_said(
    tmp_path: Path, ticker: str, error: type[gapless.GaplessError], said: str
) -> None:
    """An error of the kind that a search for it has."""
    async with (
        exchange(tmp_path, listed(), NOW) as at,
        asking("sync", at.hub.tcp_port) as client,
    ):
        with pytest.raises(error, match=said):
            await client.describe("yahoo_finance", ticker)
        assert at.asked <= 1


async def test_a_zone_that_changes_changes_the_days(tmp_path: Path) -> None:
    """What was kept ready for words is made again, and a copy of it is not called the same."""
    async with exchange(tmp_path, listed(), NOW) as at:
        was = await at.hub.get(PATH)
        again = await at.hub.get(PATH)
        assert was.headers["gapless-range"] == again.headers["gapless-range"]
        assert again.headers["gapless-range"].startswith("2024-04-01T22:00:00Z..")
        tag = again.headers["etag"]
        unchanged = await at.hub.client.get(PATH, headers={"if-none-match": tag})
        assert unchanged.status_code == 304
        # The ticker is listed in New York from now on.
        at.market.enlist(
            equity("EUDE", tz="America/New_York", hours=(34_200, 57_600), first_trade=FIRST)
        )
        at.clock.advance(2 * 86_400)
        changed = await at.hub.client.get(PATH, headers={"if-none-match": tag})
        assert changed.status_code == 200
        assert changed.headers["gapless-range"].startswith("2024-04-02T04:00:00Z..")
        assert json.loads(changed.headers["gapless-facts"])["zone"] == "America/New_York"


def test_a_description_is_a_query_of_the_language() -> None:
    """It is read as written, whichever way the ticker is said."""
    for line in ("provider yahoo_finance describe ^GDAXI", "provider y DESCRIBE ticker='A B'"):
        query = parse_line(line)
        assert isinstance(query, Describe)
        assert parse_line(format_line(query)) == query
    with pytest.raises(gapless.InvalidQuery, match="`describe` takes one ticker"):
        parse_line("provider y describe A B")
