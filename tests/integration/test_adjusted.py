"""Bars as they were traded, and less dividends, on every door; and where they cannot be had."""

from __future__ import annotations

import asyncio
import io
import json
from datetime import date
from pathlib import Path
from typing import Any

import polars as pl
import pytest

import gapless
from gapless.domain.intervals import Interval
from gapless.errors import InvalidQuery, NotFound, ProviderError
from gapless.hub.answers import Answer
from gapless.protocol.messages import (
    DateRange,
    Filter,
    GetEntity,
    Param,
    ProviderRequest,
    SearchEntities,
    Ticker,
)
from gapless.providers.sample import SampleProvider
from gapless.simulator.happenings import Absent, Dividend, Split
from gapless.simulator.instruments import equity
from gapless.simulator.market import Market
from support.asking import asking
from support.exchanges import exchange
from support.scenes import PRICES, REJECTED, Scene, ms, parts, scene, seconds, told
from support.web import web

SPLIT = Split("AAA", date(2024, 6, 10), 4)
PAID = Dividend("AAA", date(2024, 9, 10), 0.5)
JUNE = ("2024-06-03", "2024-06-15")
BASE = "/v1/data/yahoo_finance/AAA"


async def ask(world: Scene, *bounds: str, fresh: Any = None, **params: str) -> Answer:
    """Ask for bars, after forgetting what was asked upstream before."""
    world.asked.clear()
    filters: list[Filter] = [Param(name, value) for name, value in params.items()]
    query = (Ticker("AAA"), DateRange(*bounds), *filters)
    request = ProviderRequest("yahoo_finance", SearchEntities(query), fresh=fresh)
    answer = await world.hub.answer(world.hub.question(request))
    assert isinstance(answer, Answer)
    return answer


async def test_as_traded_asks_once_for_all_up_to_now(tmp_path: Path) -> None:
    """Cold it is one request, held it is none; and nothing of it is stored a second time."""
    async with scene(tmp_path, "2025-08-10T18:30") as world:
        world.market.add(SPLIT)
        for requests in (1, 0, 0):
            answer = await ask(world, *JUNE, adjust="none")
            assert (answer.state, answer.why, len(world.asked)) == ("ready", (), requests)
            assert answer.requests == requests
            assert list(parts(answer)) == ["fetched" if requests else "cached"]
            assert answer.key.text == "yahoo_finance:AAA?adjust=none"
            closes = [row["close"] for row in told(answer)]
            held = [row["close"] for row in world.truth("2024-06-03", "2024-06-15")]
            assert closes == [*(close * 4 for close in held[:5]), *held[5:]]
            await world.restart()
        figures = await world.hub.statistics()
        # Prices and the actions beside them.
        assert figures["series"] == 2


async def test_a_split_that_is_told_late_changes_nothing_of_what_was_traded(tmp_path: Path) -> None:
    """Before upstream knows of it, in the session in which it does, and on the day after."""
    async with scene(tmp_path, "2024-06-11T21:00") as world:
        # Upstream learns of it two days late, in the middle of a session.
        world.market.add(Split("AAA", date(2024, 6, 10), 4, seen_s=seconds("2024-06-12T17:00")))
        before = told(await ask(world, *JUNE, adjust="none"))
        assert len(before) == 7
        for at in ("2024-06-12T16:00", "2024-06-12T18:00", "2024-06-13T14:00", "2024-06-13T21:00"):
            world.at(at)
            now = told(await ask(world, *JUNE, adjust="none"))
            for row, was in zip(now, before[:5], strict=False):
                assert row["close"] == pytest.approx(was["close"], rel=1e-6)
        assert told(await ask(world, *JUNE))[0]["close"] == pytest.approx(before[0]["close"] / 4)


async def test_splits_that_cannot_be_asked_for_are_an_error(tmp_path: Path) -> None:
    """What was traded is never guessed; less dividends is as stale as what it is made of."""
    async with scene(tmp_path, "2025-08-08T18:30") as world:
        world.market.add(SPLIT)
        await ask(world, *JUNE)
        world.sim.faults.fail_always(REJECTED)
        with pytest.raises(ProviderError, match=r"adjust=none takes all splits up to now"):
            await ask(world, *JUNE, adjust="none")
        with pytest.raises(ProviderError, match=r"takes all splits up to now"):
            await ask(world, *JUNE, adjust="none", fresh="held")
        answer = await ask(world, *JUNE, adjust="all")
        assert (answer.state, len(told(answer))) == ("ready", 10)
        world.at("2025-08-11T18:30")
        answer = await ask(world, *JUNE, adjust="all")
        assert answer.state == "stale"
        world.sim.faults.clear()
        world.at("2025-08-12T18:30")
        assert (await ask(world, *JUNE, adjust="none")).state == "ready"
        # As it is held, it costs nothing, however old it is.
        world.at("2025-09-01T18:30")
        answer = await ask(world, *JUNE, adjust="none", fresh="held")
        assert (answer.state, world.asked) == ("stale", [])


async def test_bars_that_upstream_has_lost_are_not_told_as_traded(tmp_path: Path) -> None:
    """They are of before a split that came since, and nobody divides them any more."""
    async with scene(tmp_path, "2024-06-03T21:00") as world:
        lost = Absent(
            "AAA",
            seconds("2024-01-01"),
            seconds("2024-03-01"),
            from_s=seconds("2024-06-04T00:00"),
        )
        world.market.add(lost)
        world.market.add(SPLIT)
        for at in ("2024-06-03T21:00", "2024-06-04T21:00", "2024-06-05T14:00", "2024-06-10T21:00"):
            world.at(at)
            await ask(world, "2024-01-02", "")
        for fresh in (None, "held", "now"):
            with pytest.raises(ProviderError, match="which splits are in them is not known"):
                await ask(world, "2024-02-26", "2024-03-06", adjust="none", fresh=fresh)
        bars = ("2024-03-04", "2024-03-08")
        as_traded = [row["close"] for row in told(await ask(world, *bars, adjust="none"))]
        divided = [row["close"] for row in told(await ask(world, *bars))]
        assert as_traded == [close * 4 for close in divided]


@pytest.mark.parametrize("start", ["1900-01-01", "0001-01-01", "", "max"])
async def test_all_there_is_is_told_as_traded(tmp_path: Path, start: str) -> None:
    """Splits are known from where the data begin; before that there is nothing to undo."""
    async with scene(tmp_path, "2025-08-08T18:30") as world:
        world.market.add(SPLIT)
        for requests in (1, 0):
            answer = await ask(world, start, "", adjust="none")
            assert (answer.state, len(world.asked)) == ("ready", requests)
            assert told(answer)[0]["close"] == 4 * world.truth("2023-01-03")[0]["close"]
        early = await ask(world, "1900-01-01", "1920-01-01", adjust="none")
        assert (early.state, told(early), world.asked) == ("ready", [], [])


async def test_splits_that_were_forgotten_are_fetched_again(tmp_path: Path) -> None:
    """As it is held, it is an error that says so; otherwise one request brings them."""
    async with scene(tmp_path, "2025-08-08T18:30") as world:
        world.market.add(SPLIT)
        first = told(await ask(world, *JUNE, adjust="none"))
        key = world.hub.registry.get("yahoo_finance").key("AAA", {"data": "actions"})
        await world.hub.holdings.delete(key)
        with pytest.raises(ProviderError, match="what is held does not tell them"):
            await ask(world, *JUNE, adjust="none", fresh="held")
        assert world.asked == []
        answer = await ask(world, *JUNE, adjust="none")
        assert (told(answer), len(world.asked)) == (first, 1)


async def test_a_gap_that_is_filled_for_it_is_told_as_fetched(tmp_path: Path) -> None:
    """Also where what is known of splits has to be fetched again behind it."""
    async with scene(tmp_path, "2025-08-08T18:30") as world:
        await ask(world, "2024-01-02", "")
        key = world.hub.registry.get("yahoo_finance").key("AAA", {})
        await world.hub.holdings.delete(key, Interval(*map(ms, JUNE)))
        answer = await ask(world, *JUNE, adjust="none")
        assert answer.requests == len(world.asked) > 0
        assert parts(answer)["fetched"] == ["2024-06-03T04:00..2024-06-15"]


async def test_ids_name_the_basis(tmp_path: Path) -> None:
    """The id of an answer is answered with the same bars; one that cannot be told is not found."""
    async with scene(tmp_path, "2025-08-08T18:30") as world:
        world.market.add(SPLIT)
        world.market.add(PAID)
        await ask(world, *JUNE)
        bounds = "2024-06-03T04:00:00Z..2024-06-15T04:00:00Z"

        async def view(adjust: str) -> Answer:
            request = GetEntity(f"yahoo_finance:AAA?adjust={adjust}:{bounds}")
            found = await world.hub.answer(
                world.hub.question(ProviderRequest("yahoo_finance", request))
            )
            assert not isinstance(found, Answer)
            (entity,) = found.entities
            assert isinstance(entity, Answer)
            return entity

        assert told(await view("all")) == told(await ask(world, *JUNE, adjust="all"))
        with pytest.raises(NotFound, match="not wholly held"):
            await view("none")
        answer = await ask(world, *JUNE, adjust="none")
        assert told(await view("none")) == told(answer)
        with pytest.raises(NotFound):
            await view("half")


@pytest.mark.parametrize(
    ("params", "said"),
    [
        ({"adjust": "none", "interval": "1wk"}, "days before a split and after it"),
        ({"adjust": "none", "interval": "1mo"}, "days before a split and after it"),
        ({"adjust": "all", "interval": "15m"}, "no adjusted close of bars that are shorter"),
        ({"adjust": "none", "interval": "1h"}, "depends on when they are asked for"),
        ({"adjust": "all", "data": "actions"}, "is about prices, and data=actions has none"),
        ({"adjust": "half"}, "choose one of: split, none, all"),
    ],
)
async def test_what_cannot_be_had_is_refused(
    tmp_path: Path, params: dict[str, str], said: str
) -> None:
    """The error says why, and nothing is asked upstream."""
    async with scene(tmp_path, "2025-08-08T18:30") as world:
        with pytest.raises(InvalidQuery, match=said):
            await ask(world, *JUNE, **params)
        assert world.asked == []


async def test_a_provider_that_cannot_says_so(tmp_path: Path) -> None:
    """It has no such parameter."""
    async with web(tmp_path, SampleProvider()) as opened:
        problem = await opened.get("/v1/data/sample/AAPL?adjust=all", 400)
        assert "sample has no parameter 'adjust'" in problem.json()["detail"]


async def test_every_door_and_format_has_them(tmp_path: Path) -> None:
    """JSON, tables, pages and both clients tell the same bars, and tables the days of them."""
    market = Market([equity("AAA", first_trade=date(2023, 1, 3))], prices=PRICES)
    market.add(SPLIT)
    market.add(PAID)
    days = {"start": JUNE[0], "end": JUNE[1]}
    async with (
        exchange(tmp_path, market, "2025-08-08T18:30:00Z") as at,
        asking("sync", at.hub.tcp_port) as client,
    ):
        for adjust in ("all", "none"):
            path = f"{BASE}?start={JUNE[0]}&end={JUNE[1]}&adjust={adjust}"
            plain = await at.hub.get(f"{BASE}?start={JUNE[0]}&end={JUNE[1]}")
            whole = await at.hub.get(path)
            rows: list[dict[str, Any]] = whole.json()
            assert len(rows) == 10
            assert rows != plain.json()
            assert whole.headers["etag"] != plain.headers["etag"]
            again = await at.hub.client.get(path, headers={"if-none-match": whole.headers["etag"]})
            assert again.status_code == 304
            found = await client.search("yahoo_finance", "AAA", *JUNE, adjust=adjust)
            assert found.records == rows
            assert f"adjust={adjust}" in found.tags
            frame = pl.read_ipc_stream(
                io.BytesIO((await at.hub.get(f"{path}&format=arrow")).content)
            )
            assert frame.drop("date").to_dicts() == rows
            assert [str(day) for day in frame["date"]][::9] == ["2024-06-03", "2024-06-14"]
            assert frame["date"].to_list() == found.to_polars()["date"].to_list()
            pages: list[dict[str, Any]] = []
            link: str | None = f"{path}&limit=4"
            while link is not None:
                page = await at.hub.get(link)
                pages += page.json()
                assert page.headers["gapless-records"] == str(len(page.json()))
                following = page.links.get("next")
                link = None if following is None else following["url"]
            assert pages == rows
            line = f"provider yahoo_finance search ticker=AAA date={JUNE[0]}..{JUNE[1]}"
            (said,) = await client.query(f"{line} adjust={adjust}")
            assert said.records == rows
            view = await client.get("yahoo_finance", found.id)
            assert view.records == rows
            frames = await client.search_many("yahoo_finance", ["AAA"], **days, adjust=adjust)
            assert frames.drop("ticker").equals(found.to_polars())
        assert at.asked == 2


async def test_what_is_made_of_others_is_not_held_itself(tmp_path: Path) -> None:
    """Coverage and forgetting name what they are made of; a plan is that of the bars."""
    market = Market([equity("AAA", first_trade=date(2023, 1, 3))], prices=PRICES)
    async with (
        exchange(tmp_path, market, "2025-08-08T18:30:00Z") as at,
        asking("async", at.hub.tcp_port) as client,
    ):
        await client.search("yahoo_finance", "AAA", *JUNE, adjust="all")
        for call in (client.coverage, client.forget):
            with pytest.raises(gapless.InvalidQuery, match=r"is made of yahoo_finance:AAA when"):
                await call("yahoo_finance", "AAA", adjust="all")
        plan = await client.plan("yahoo_finance", "AAA", *JUNE, adjust="all")
        assert plan.gaps == ()
        # As traded takes all splits up to now.
        plan = await client.plan("yahoo_finance", "AAA", *JUNE, adjust="none")
        (gap,) = plan.gaps
        assert str(gap.span) == "2024-06-15T12:00:00Z..2025-08-08T18:30:00Z"
        await client.search("yahoo_finance", "AAA", *JUNE, adjust="none")
        plan = await client.plan("yahoo_finance", "AAA", *JUNE, adjust="none")
        assert plan.gaps == ()
        assert await client.forget("yahoo_finance", "AAA", *JUNE) == 10


async def test_many_at_once_are_made_of_one_request(tmp_path: Path) -> None:
    """Whoever asks for whatever form of a range meanwhile waits for the same bars."""
    market = Market([equity("AAA", first_trade=date(2023, 1, 3))], prices=PRICES)
    market.add(SPLIT)
    async with exchange(tmp_path, market, "2025-08-08T18:30:00Z") as at:
        path = f"{BASE}?start={JUNE[0]}&adjust="
        replies = await asyncio.gather(
            *(at.hub.get(path + form) for form in ("none", "all", "split", "none") * 4)
        )
        assert {len(json.loads(one.content)) for one in replies} == {310}
        assert at.asked == 1
