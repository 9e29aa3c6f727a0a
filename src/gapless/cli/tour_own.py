"""The last part of the demo's tour: HTTP in bulk, and a provider that is loaded meanwhile.

Apart from the rest, because it asks as other programs do, over another door.
"""

from __future__ import annotations

import asyncio
import io
import urllib.request
from collections.abc import Mapping

import msgspec

from gapless.cli.show import Show
from gapless.cli.stage import Stage, session
from gapless.domain.intervals import Interval
from gapless.errors import GaplessError

_TIMEOUT_S = 70.0
# The mean length of a month from new moon to new moon, and one new moon (Meeus, Astronomical
# Algorithms, chapter 49).
MOON = """\
from datetime import datetime, timedelta, timezone

NEW = datetime(2000, 1, 6, 18, 14, tzinfo=timezone.utc)

class Provider:
    def name(self):
        return "moon"

    def fetch(self, ticker, start, end):
        for day in range((end - start).days):
            at = start + timedelta(days=day)
            age = (at - NEW) / timedelta(days=29.530588853) % 1
            yield [{"timestamp": at, "phase": round(age, 3)}]
"""


async def own_tour(show: Show, stage: Stage) -> None:
    """A Parquet file by its address, and a class that becomes a provider."""
    show.chapter("And for other programs: HTTP, and providers of your own.")
    async with stage.hub("tour.db", http="127.0.0.1:0") as hub, session(hub.tcp) as client:
        assert hub.http is not None
        show.step("A history as a Parquet file, for whatever reads an address")
        url = f"{hub.http}/v1/data/sample/AAPL.parquet?end=2010-12-01"
        show.command("curl", "-O", f"'{url}'")
        body, headers = await asyncio.to_thread(_asked, url)
        rows = await asyncio.to_thread(_rows, body)
        requests = int(headers["gapless-upstream-requests"])
        show.count(1, requests)
        spans = f"cached {headers['gapless-cached']}, fetched {headers['gapless-fetched']}"
        show.note(spans.replace("T00:00:00Z", ""))
        same = await client.ask("provider sample search ticker=AAPL date=..2010-12-01")
        show.check(
            f"{len(rows):,} rows, of which only the gap was fetched; TCP has the same",
            requests == 1 and len(rows) > 1_000 and rows == list(same.records),
        )
        show.step("A class of your own becomes a provider, while the hub runs")
        (stage.folder / "moon.py").write_text(MOON, "utf-8")
        show.code(MOON.partition("class")[1] + MOON.partition("class")[2])
        load = '{"file": "moon.py"}'
        show.command("curl", "--json", f"'{load}'", f"{hub.http}/plugins/load")
        name = await asyncio.to_thread(_loaded, f"{hub.http}/plugins/load", load.encode())
        line = "provider moon search ticker=phase date=2025-01-01..2025-02-01"
        first = await show.ask(client, line)
        wider = await show.ask(client, line.replace("2025-02-01", "2025-03-01"))
        show.check(
            "it was asked for what was missing, and for nothing else",
            name == "moon"
            and len(wider.records) == 59
            and wider.cached == (first.asked,)
            and wider.fetched == (Interval(first.asked.end, wider.asked.end),),
        )


def _asked(url: str, body: bytes | None = None) -> tuple[bytes, Mapping[str, str]]:
    """Ask over HTTP and return body and headers; it blocks."""
    headers = {} if body is None else {"content-type": "application/json"}
    request = urllib.request.Request(url, body, headers)
    with urllib.request.urlopen(request, timeout=_TIMEOUT_S) as answer:
        return answer.read(), {name.lower(): value for name, value in answer.headers.items()}


def _loaded(url: str, body: bytes) -> str:
    answer = msgspec.json.decode(_asked(url, body)[0])
    if not answer["ok"]:
        raise GaplessError(f"the plugin was not loaded: {answer}")
    return str(answer["name"])


def _rows(body: bytes) -> list[dict[str, object]]:
    import polars as pl

    # Tables have the days of bars besides.
    return pl.read_parquet(io.BytesIO(body)).drop("date").to_dicts()
