"""The example providers, and every piece of code in docs/providers.md, in a running hub."""

from __future__ import annotations

import asyncio
import json
import os
import re
import subprocess
import sys
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager
from dataclasses import dataclass, replace
from datetime import UTC, date, datetime
from pathlib import Path
from typing import Any

import httpx
import polars as pl
import pytest
from structlog.testing import capture_logs

from gapless.app import RunningHub, running_hub
from gapless.clock import Clock
from gapless.config import Settings
from gapless.config.settings import LimitSettings, YahooSettings
from support.clock import ManualClock
from support.examples import FOLDER, Api, example, serving
from support.wire import PATIENCE_S, PATIENT

DOCS = Path(__file__).parents[2] / "docs" / "providers.md"
HUB = "http://127.0.0.1:7070"
# Code that a page shows has its file's name in the last words before it.
CODE = re.compile(r"`(\w+\.py)`[^`\n]*:\n\n```python\n(.*?)^```$", re.MULTILINE | re.DOTALL)


@dataclass(frozen=True, slots=True)
class Door:
    """A running hub and a client of its HTTP door."""

    running: RunningHub
    client: httpx.AsyncClient

    async def post(self, path: str, body: Any = None, status: int = 200) -> Any:
        """Send JSON; return that of the answer, which has this status."""
        response = await self.client.post(path, **({} if body is None else {"json": body}))
        assert response.status_code == status, response.text
        return response.json()

    async def load(self, file: Path, **more: Any) -> str:
        """Load a provider's file; return the name it has."""
        answer = await self.post("/plugins/load", {"file": str(file), **more})
        assert answer["ok"], answer
        return str(answer["name"])

    async def ask(self, line: str) -> dict[str, Any]:
        """Ask a line of the query language; return the answer, whatever it is."""
        message = {"data_as": "array", "query": {"type": "Line", "payload": {"line": line}}}
        answer: dict[str, Any] = (await self.client.post("/v1/query", json=message)).json()
        return answer

    async def entities(self, line: str) -> list[dict[str, Any]]:
        """Ask; return the entities of the answer, which must be a good one."""
        answer = await self.ask(line)
        assert answer["ok"], answer
        result: list[dict[str, Any]] = answer["result"]
        return result

    async def rows(self, line: str) -> list[dict[str, Any]]:
        """Ask; return the records of the one entity that is answered."""
        (entity,) = await self.entities(line)
        rows: list[dict[str, Any]] = entity["data"]
        return rows

    async def refusal(self, line: str) -> dict[str, Any]:
        """Ask what cannot be had; return the error."""
        answer = await self.ask(line)
        assert not answer["ok"], answer
        error: dict[str, Any] = answer["error"]
        return error


@asynccontextmanager
async def hub(folder: Path, clock: Clock | None = None, **changes: Any) -> AsyncIterator[Door]:
    """Run a hub that has the sample alone; it may log no error."""
    settings = replace(
        Settings(
            db=str(folder / "hub.db"),
            tcp="127.0.0.1:0",
            http="127.0.0.1:0",
            base=folder,
            yahoo=YahooSettings(enabled=False),
            plugins=PATIENT.plugins,
        ),
        **changes,
    )
    with capture_logs() as logs:
        async with running_hub(settings, clock=clock) as running:
            assert running.http is not None
            async with httpx.AsyncClient(
                base_url=running.http, timeout=PATIENCE_S, trust_env=False
            ) as client:
                yield Door(running, client)
    assert [one for one in logs if one["log_level"] == "error"] == []


# The examples


async def test_daylight(tmp_path: Path) -> None:
    """Ranges are asked for by their gaps; ids and reports go to the provider as they are."""
    async with hub(tmp_path) as door:
        assert await door.load(FOLDER / "minimal.py") == "daylight"
        line = "provider daylight search ticker=52.52,13.40 date="
        first = await door.ask(f"{line}2024-02-01..2024-03-01")
        assert first["stitch"]["upstream_requests"] == 1
        wider = await door.ask(f"{line}2024-01-01..2024-04-01")
        assert wider["stitch"]["upstream_requests"] == 2
        assert wider["stitch"]["cached"] == [["2024-02-01T00:00:00Z", "2024-03-01T00:00:00Z"]]
        (entity,) = wider["result"]
        assert len(entity["data"]) == 91
        assert [row for row in entity["data"] if row in first["result"][0]["data"]] == (
            first["result"][0]["data"]
        )
        assert (await door.refusal("provider daylight search ticker=Berlin date=-3d.."))[
            "reason"
        ] == "unknown_ticker"

        (today,) = await door.entities("provider daylight get 52.52,13.40")
        assert (today["id"], today["source"], today["state"]) == (
            "daylight:52.52,13.40",
            "daylight",
            "ready",
        )
        (report,) = await door.entities("provider daylight report url=geo:52.52,13.40")
        assert [row["what"] for row in report["data"]] == ["shortest day", "longest day"]
        stored = await door.entities("provider daylight all")
        assert {today["id"], report["id"]} <= {one["id"] for one in stored}


@pytest.mark.slow
async def test_a_folder_of_files(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Three formats are three tickers, a sheet is a series of its own, what is missing is told."""
    days = [date(2024, 1, day) for day in range(1, 11)]
    frame = pl.DataFrame({"date": days, "close": [day.day / 4 for day in days]})
    frame.write_csv(tmp_path / "one.csv")
    frame.write_parquet(tmp_path / "two.parquet")
    frame.write_excel(tmp_path / "three.xlsx", worksheet="prices")
    monkeypatch.setenv("PRICES_FOLDER", str(tmp_path))
    expected = [
        {
            "timestamp": int(datetime(2024, 1, day, tzinfo=UTC).timestamp()),
            "close": day / 4,
        }
        for day in range(3, 8)
    ]
    async with hub(tmp_path) as door:
        assert await door.load(FOLDER / "files.py") == "files"
        tags = set()
        for ticker in ("one", "two", "three"):
            line = f"provider files search ticker={ticker} date=2024-01-03..2024-01-08"
            (entity,) = await door.entities(line)
            assert entity["data"] == expected
            tags.add(entity["etag"])
        assert len(tags) == 1
        assert len(await door.rows("provider files search ticker=one date=..")) == 10

        (entity,) = await door.entities(
            "provider files search ticker=three sheet=prices date=2024-01-03..2024-01-08"
        )
        assert entity["id"].startswith("files:three?sheet=prices:")
        assert entity["data"] == expected
        error = await door.refusal("provider files search ticker=three sheet=other date=..")
        assert (error["reason"], "other" in error["message"]) == ("upstream_rejected", True)
        error = await door.refusal("provider files search ticker=four date=..")
        assert error["reason"] == "unknown_ticker"
        assert "there are: one, three, two" in error["message"]


async def test_rows_that_are_appended_are_seen(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The last thirty days are read again, what is older is not."""
    file = tmp_path / "X.csv"
    file.write_text("date,n\n2024-01-02,1\n2024-03-01,2\n", "utf-8")
    monkeypatch.setenv("PRICES_FOLDER", str(tmp_path))
    now = datetime(2024, 3, 10, 12, tzinfo=UTC)
    clock = ManualClock(int(now.timestamp() * 1000))
    line = "provider files search ticker=X date=2024-01-01..now"
    async with hub(tmp_path, clock) as door:
        await door.load(FOLDER / "files.py")
        assert [row["n"] for row in await door.rows(line)] == [1, 2]
        file.write_text("date,n\n2024-01-02,9\n2024-03-01,2\n2024-03-09,3\n", "utf-8")
        clock.advance(2)
        answer = await door.ask(line)
        assert [row["n"] for row in answer["result"][0]["data"]] == [1, 2, 3]
        ((start, _),) = answer["stitch"]["fetched"]
        assert start.startswith("2024-02-09")


@pytest.mark.parametrize("ending", [".csv", ".xlsx", ".parquet"])
async def test_an_export_is_read_again_as_it_was(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, ending: str
) -> None:
    """A series out of the hub into a file and back is the same to the last digit: equal etags."""
    export = example("export")
    folder = tmp_path / "prices"
    monkeypatch.setenv("PRICES_FOLDER", str(folder))
    monkeypatch.setenv("no_proxy", "127.0.0.1")
    # Several pages: an export is whole whatever one answer may have.
    async with hub(tmp_path, limits=LimitSettings(max_records=100)) as door:
        code = await asyncio.to_thread(
            export.main,
            [
                *("sample", "AAPL", "2010-01-01", "2011-01-01", str(folder / f"AAPL{ending}")),
                *("--http", str(door.running.http), "--param", "interval=1d"),
            ],
        )
        assert code == 0
        await door.load(FOLDER / "files.py")
        for months in (
            "2010-01-01..2010-05-01",
            "2010-05-01..2010-09-01",
            "2010-09-01..2011-01-01",
        ):
            (original,) = await door.entities(f"provider sample search ticker=AAPL date={months}")
            (again,) = await door.entities(f"provider files search ticker=AAPL date={months}")
            assert len(original["data"]) > 80
            assert again["data"] == original["data"]
            assert again["etag"] == original["etag"]


@pytest.mark.slow
async def test_the_export_as_a_command(tmp_path: Path) -> None:
    """It runs by itself, tells what it wrote, and hands on what the hub says against it."""
    async with hub(tmp_path) as door:
        for ticker, code, says in (
            ("IBM", 0, "252 records"),
            ("IMB", 1, "sample has no ticker 'IMB'"),
        ):
            ran = await asyncio.to_thread(
                subprocess.run,
                [
                    *(sys.executable, str(FOLDER / "export.py"), "sample", ticker),
                    *("2010-01-01", "2011-01-01", str(tmp_path / f"{ticker}.csv")),
                    *("--http", str(door.running.http)),
                ],
                env={**os.environ, "no_proxy": "127.0.0.1"},
                capture_output=True,
                encoding="utf-8",
                timeout=PATIENCE_S,
                check=False,
            )
            assert (ran.returncode, ran.stdout) == (code, "")
            assert says in ran.stderr
    assert pl.read_csv(tmp_path / "IBM.csv").height == 252
    assert not (tmp_path / "IMB.csv").exists()


@pytest.fixture
def api(monkeypatch: pytest.MonkeyPatch) -> Iterator[Api]:
    """Run an API on loopback that is described by the bundled TOML file."""
    monkeypatch.setenv("no_proxy", "127.0.0.1")
    with serving() as served:
        yield served


async def test_json_over_http(tmp_path: Path, api: Api, monkeypatch: pytest.MonkeyPatch) -> None:
    """The bundled TOML file makes a provider: gaps only, parameters apart, refusals told."""
    told = (FOLDER / "json_http.toml").read_text("utf-8")
    config = tmp_path / "rates.toml"
    config.write_text(told.replace("https://api.frankfurter.dev", api.url), "utf-8")
    monkeypatch.setenv("JSON_HTTP_CONFIG", str(config))
    days = [f"2024-01-{day:02d}" for day in range(1, 32)]
    api.answers({"rates": {day: {"EUR": 0.5, "GBP": 0.25} for day in days}})
    async with hub(tmp_path) as door:
        assert await door.load(FOLDER / "json_http.py") == "frankfurter"
        line = "provider frankfurter search ticker=USD date="
        assert len(await door.rows(f"{line}2024-01-10..2024-01-20")) == 10
        assert len(await door.rows(f"{line}2024-01-05..2024-01-25")) == 20
        # Gaps are asked for beside one another, in any order.
        assert sorted(api.paths) == [
            f"/v1/2024-01-{start}..2024-01-{last}?base=USD&symbols=EUR"
            for start, last in (("05", "09"), ("10", "19"), ("20", "24"))
        ]
        rows = await door.rows(f"{line}2024-01-10..2024-01-12 quote=GBP")
        assert [row["rate"] for row in rows] == [0.25, 0.25]
        api.status = 404
        error = await door.refusal("provider frankfurter search ticker=XXX date=2024-01-01..")
        assert error["reason"] == "unknown_ticker"
        api.status, api.headers = 403, {}
        error = await door.refusal("provider frankfurter search ticker=YYY date=2024-01-01..")
        assert error["reason"] == "upstream_rejected"
        assert "403" in error["message"]


async def test_a_second_json_source(tmp_path: Path, api: Api) -> None:
    """Two lines beside json_http.py are a provider of their own."""
    for name in ("json_http.py", "json_http.toml"):
        (tmp_path / name).write_bytes((FOLDER / name).read_bytes())
    (tmp_path / "coins.toml").write_text(
        f'name = "coins"\nurl = "{api.url}/{{ticker}}"\ntime = "at"\ntimes = "s"\n', "utf-8"
    )
    lines = re.findall(r"^    (import json_http\n    class .+)$", _docstring(), re.MULTILINE)
    (tmp_path / "coins.py").write_text(lines[0].replace("\n    ", "\n"), "utf-8")
    api.answers([{"at": 1704153600, "usd": 42000.5}])
    async with hub(tmp_path) as door:
        assert await door.load(tmp_path / "coins.py") == "coins"
        assert await door.rows("provider coins search ticker=btc date=2024-01-01..2024-02-01") == [
            {"timestamp": 1704153600, "usd": 42000.5}
        ]


def _docstring() -> str:
    return str(example("json_http").__doc__)


async def test_spreadsheets(tmp_path: Path) -> None:
    """A path in a search or a report becomes entities that stay; other paths are refused."""
    book = tmp_path / "book.xlsx"
    pl.DataFrame({"name": ["a", "b"], "n": [1, 2]}).write_excel(book, worksheet="Names")
    async with hub(tmp_path) as door:
        assert await door.load(FOLDER / "spreadsheet.py") == "spreadsheet"
        for line in (f"search url={book}", f"report url={book}", f"search id={book}"):
            (entity,) = await door.entities(f"provider spreadsheet {line}")
            assert entity["data"] == [{"name": "a", "n": 1}, {"name": "b", "n": 2}]
            assert entity["id"] == f"spreadsheet:{book}#Names"
            assert entity["source"] == "spreadsheet"
            assert f"url={book}" in entity["tags"]
        for path, says in ((tmp_path, "directory"), (tmp_path / "no.csv", "no file")):
            error = await door.refusal(f"provider spreadsheet search url={path}")
            assert error["reason"] == "upstream_rejected"
            assert says in error["message"]
        error = await door.refusal("provider spreadsheet search ticker=x date=2024-01-01..")
        assert (error["reason"], "no tickers" in error["message"]) == ("upstream_rejected", True)
        book.unlink()
        # What was read stays, as it was.
        assert await door.entities(f"provider spreadsheet get {entity['id']}") == [entity]
        assert await door.entities("provider spreadsheet all") == [entity]


# The page


def pieces() -> list[tuple[str, str]]:
    """Return every piece of Python on the page, each with the name of its file."""
    text = DOCS.read_text("utf-8")
    found = [(match[1], match[2]) for match in CODE.finditer(text)]
    assert len(found) == text.count("```python"), "a piece of code has no name before it"
    return found


def write(folder: Path, *names: str) -> None:
    """Write the last piece of each of these names."""
    for name, code in pieces():
        if name in names:
            (folder / name).write_text(code, "utf-8")


async def test_the_first_provider_of_the_page(tmp_path: Path) -> None:
    """What a newcomer does step by step comes out as the page says."""
    text = DOCS.read_text("utf-8")
    commands = re.findall(rf"^curl -X (\w+) {HUB}(\S+)", text, re.MULTILINE)
    assert commands == [
        ("POST", "/plugins/load"),
        ("POST", "/v1/plugins/moon/reload"),
        ("DELETE", "/v1/series/moon/phase"),
    ]
    (shown,) = re.findall(r"^2024-01-01 +(\S+)$", text, re.MULTILINE)
    (line,) = re.findall(r"^gapless query '(.+)'$", text, re.MULTILINE)
    first, second = (code for name, code in pieces() if name == "moon.py")
    file = tmp_path / "moon.py"
    async with hub(tmp_path) as door:
        file.write_text(first, "utf-8")
        (body,) = re.findall(r"-d (\"\{.+\}\")$", text, re.MULTILINE)
        told = json.loads(body.strip('"').replace("\\", "").replace("$PWD", str(tmp_path)))
        assert await door.post("/plugins/load", told) == {"ok": True, "name": "moon"}
        rows = await door.rows(line)
        assert len(rows) == 31
        assert (rows[0]["timestamp"], rows[0]["phase"]) == (1704067200, float(shown))
        wider = await door.ask(line.replace("2024-01-01..2024-02-01", "2023-12-01..2024-03-01"))
        assert wider["stitch"]["upstream_requests"] == 2

        file.write_text(second, "utf-8")
        assert (await door.post("/v1/plugins/moon/reload"))["name"] == "moon"
        assert "lit" not in (await door.rows(line))[0]
        response = await door.client.delete("/v1/series/moon/phase")
        assert response.status_code == 200
        rows = await door.rows(line)
        assert len(rows) == 31
        # The moon was full in the evening of the 25th.
        assert max(rows, key=lambda row: row["lit"])["timestamp"] in (1706140800, 1706227200)


ANSWERS = {
    "frames.py": ("search ticker=x date=2024-01-01..2024-01-03", 48),
    "tide.py": ("search ticker=x interval=60m date=2024-01-01..2024-01-03", 48),
    "waiting.py": ("search ticker=x date=2024-01-01..2024-01-03", 2),
    "words.py": ("report url=the/tide", 2),
}


@pytest.mark.share(1)
@pytest.mark.parametrize("name", list(ANSWERS))
async def test_the_providers_of_the_page(tmp_path: Path, name: str) -> None:
    """Each can be loaded as it stands, under its own name, and answers."""
    write(tmp_path, name)
    line, count = ANSWERS[name]
    async with hub(tmp_path) as door:
        stem = name.removesuffix(".py")
        assert await door.load(tmp_path / name) == stem
        assert len(await door.rows(f"provider {stem} {line}")) == count


async def test_the_errors_of_the_page(tmp_path: Path) -> None:
    """An exception's reason and pause are what the caller gets."""
    write(tmp_path, "failing.py")
    async with hub(tmp_path) as door:
        await door.load(tmp_path / "failing.py")
        error = await door.refusal("provider failing search ticker=x date=2024-01-01..2024-02-01")
        assert (error["reason"], "there is only busy" in error["message"]) == (
            "unknown_ticker",
            True,
        )
        error = await door.refusal(
            "provider failing search ticker=busy date=2024-01-01..2024-02-01"
        )
        assert error["reason"] == "rate_limited"
        assert error["retry_after_s"] == 30


@pytest.mark.slow
def test_the_test_of_the_page(tmp_path: Path) -> None:
    """It runs as it stands, beside its provider."""
    write(tmp_path, "moon.py", "test_moon.py")
    ran = subprocess.run(
        [sys.executable, "-m", "pytest", "-q", "-p", "no:cacheprovider", str(tmp_path)],
        cwd=tmp_path,
        capture_output=True,
        encoding="utf-8",
        timeout=PATIENCE_S,
        check=False,
    )
    assert ran.returncode == 0, ran.stdout + ran.stderr
    assert "1 passed" in ran.stdout


def test_every_piece_of_the_page_is_run() -> None:
    """No piece of code stands there that no test here takes."""
    assert {name for name, _ in pieces()} == {"moon.py", "test_moon.py", "failing.py", *ANSWERS}
