"""Providers loaded over HTTP while the hub answers: what is said, what is kept, what goes on."""

from __future__ import annotations

import asyncio
from pathlib import Path
from typing import Any

import pytest

from gapless.app import running_hub
from gapless.config import Settings, YahooSettings
from gapless.providers.sample import SampleProvider
from support.extent import share
from support.web import Web, web
from support.wire import PATIENT, connect, records, search

GOOD = """
class Provider:
    def name(self):
        return "numbers"

    def fetch(self, ticker, start, end):
        return [{"timestamp": start, "value": %s}]
"""
PATH = "/v1/data/numbers/A?start=2020-01-01&end=2020-01-02"


def write(folder: Path, text: str, name: str = "numbers.py") -> dict[str, Any]:
    """Write a plugin's file; return the body that loads it."""
    file = folder / name
    file.parent.mkdir(parents=True, exist_ok=True)
    file.write_text(text)
    return {"file": str(file)}


async def values(opened: Web, path: str = PATH) -> list[Any]:
    """Return the values of what the plugin is asked for now, held or not."""
    await opened.client.delete("/v1/series/numbers/A")
    return [row["value"] for row in (await opened.get(path)).json()]


async def test_load_ask_change_reload_let_go(tmp_path: Path) -> None:
    """A plugin's whole life, as somebody who writes one goes through it."""
    async with web(tmp_path, SampleProvider()) as opened:
        body = write(tmp_path, GOOD % 1)
        assert await opened.send("POST", "/plugins/load", body) == {"ok": True, "name": "numbers"}
        assert (await opened.get("/providers")).json()["providers"] == ["numbers", "sample"]
        assert await values(opened) == [1]
        write(tmp_path, GOOD % 2)
        assert await values(opened) == [1]
        status = await opened.send("POST", "/v1/plugins/numbers/reload")
        assert (status["name"], status["state"]) == ("numbers", "running")
        assert await values(opened) == [2]
        listed = (await opened.get("/v1/plugins")).json()["plugins"]
        assert [one["name"] for one in listed] == ["numbers"]
        assert (await opened.get("/v1/plugins/numbers")).json()["sha256"] == status["sha256"]
        [ours] = [
            one
            for one in (await opened.get("/v1/providers")).json()["providers"]
            if one["name"] == "numbers"
        ]
        assert (ours["built_in"], ours["health"]) == (False, "ok")
        await opened.send("DELETE", "/v1/plugins/numbers")
        await opened.get(PATH, 404)
        [left] = (await opened.get("/v1/series")).json()["series"]
        assert (left["id"], left["records"]) == ("numbers:A", 1)
        assert (await opened.get("/v1/coverage/numbers/A")).json()["id"] == "numbers:A"
        assert await opened.send("DELETE", "/v1/series/numbers/A") == {"records": 1}
        gone = await opened.send("DELETE", "/v1/series/numbers/A", status=404)
        assert "there is no provider 'numbers'" in gone["message"]
        await opened.get("/v1/plugins/numbers", 404)
        await opened.send("POST", "/v1/plugins/numbers/reload", status=404)
        await opened.send("DELETE", "/v1/plugins/numbers", status=404)


BROKEN: dict[str, tuple[str, str]] = {
    "a syntax error": ("class Provider(:\n", "SyntaxError"),
    "an import that fails": ("import no_such_module\n", "no_such_module"),
    "an error in the body": ("1 / 0\n", "ZeroDivisionError"),
    "an error in the constructor": (
        f"{GOOD % 1}\n    def __init__(self):\n        raise ValueError('no key')\n",
        "no key",
    ),
    "no class of that name": ("class Other:\n    pass\n", "Other"),
    "neither contract": ("class Provider:\n    def hello(self): ...\n", "fetch"),
    "an exit": ("import sys\nsys.exit(3)\n", "SystemExit"),
}


@pytest.mark.share(2)
@pytest.mark.parametrize("kind", BROKEN)
async def test_what_cannot_be_loaded_is_told(tmp_path: Path, kind: str) -> None:
    """With the plugin's own traceback, and what ran before runs on."""
    text, said = BROKEN[kind]
    async with web(tmp_path) as opened:
        await opened.send("POST", "/plugins/load", write(tmp_path, GOOD % 1))
        write(tmp_path, text)
        for path, body in (
            ("/v1/plugins/numbers/reload", None),
            ("/plugins/load", {"file": str(tmp_path / "numbers.py"), "name": "numbers"}),
        ):
            problem = await opened.send("POST", path, body, status=422)
            assert problem["code"] == "provider_request_failed"
            assert problem["reason"] == "plugin_error"
            assert said in problem["message"] + problem.get("traceback", "")
            assert "runner.py" not in problem.get("traceback", "")
        assert await values(opened) == [1]
        status = (await opened.get("/v1/plugins/numbers")).json()
        assert status["state"] == "running"
        assert said in status["last_error"] + (status["traceback"] or "")


async def test_a_module_is_found_by_its_base(tmp_path: Path) -> None:
    """In the folder, or in its `provider` or `providers`; elsewhere, what was searched is told."""
    async with web(tmp_path / "hub") as opened:
        base = tmp_path / "project"
        for number, place in enumerate(("", "provider", "providers")):
            write(base / place, GOOD % number, f"made{number}.py")
            body = {"module": f"made{number}", "project_base_dir": str(base), "name": "numbers"}
            assert (await opened.send("POST", "/plugins/load", body))["ok"]
            assert await values(opened) == [number]
        body = {"module": "nowhere.to_be_found", "project_base_dir": str(base)}
        problem = await opened.send("POST", "/plugins/load", body, status=422)
        for folder in (base, base / "provider", base / "providers"):
            assert str(folder) in problem["message"]


@pytest.mark.share(3)
@pytest.mark.parametrize(
    ("body", "said"),
    [
        ({}, "module"),
        ({"module": "a", "file": "b.py"}, "module"),
        ({"file": "https://example.com/x.py"}, "is a URL"),
        ({"file": "nothing.py"}, "nothing.py"),
        ({"file": "."}, "."),
        ({"file": "notes.txt"}, ".py"),
        ({"file": "numbers.py", "name": "Bad Name"}, "Bad Name"),
        ({"file": "numbers.py", "name": "sample"}, "sample"),
        ({"file": "numbers.py", "nmae": "x"}, "nmae"),
        ({"file": "numbers.py", "class": 5}, "class"),
    ],
)
async def test_what_makes_no_sense_is_refused(
    tmp_path: Path, body: dict[str, Any], said: str
) -> None:
    """With a sentence that names it; nothing is loaded."""
    (tmp_path / "notes.txt").write_text("x")
    async with web(tmp_path, SampleProvider()) as opened:
        write(tmp_path, GOOD % 1)
        problem = await opened.send("POST", "/plugins/load", body, status=400)
        assert said in problem["message"]
        assert (await opened.get("/providers")).json()["providers"] == ["sample"]


async def test_plugins_come_back_before_anybody_can_ask(tmp_path: Path) -> None:
    """After a restart they are there when TCP opens; one that is broken by then says so."""
    settings = Settings(
        db=str(tmp_path / "hub.db"),
        tcp="127.0.0.1:0",
        http="127.0.0.1:0",
        base=tmp_path,
        yahoo=YahooSettings(enabled=False),
        plugins=PATIENT.plugins,
    )
    async with running_hub(settings) as hub:
        for name in ("numbers", "others"):
            spec = write(tmp_path, GOOD % 1, f"{name}.py")
            async with await connect(int(str(hub.http).rpartition(":")[2])) as wire:
                body = f'{{"file": "{spec["file"]}", "name": "{name}"}}'
                await wire.send(
                    f"POST /plugins/load HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n"
                    f"Content-Type: application/json\r\nContent-Length: {len(body)}\r\n\r\n"
                    f"{body}".encode()
                )
                assert b"200 OK" in await wire.rest()
    write(tmp_path, "broken(", "others.py")
    async with running_hub(settings) as hub, await connect(hub.port) as wire:
        answer = await wire.ask(search("numbers", "A", "2020-01-01", "2020-01-02"))
        assert [row["value"] for row in records(answer)] == [1]
        lost = await wire.ask(search("others", "A", "2020-01-01", "2020-01-02"))
        assert lost["error"]["code"] == "provider_not_found"
        assert "SyntaxError" in lost["error"]["message"]


async def test_loading_holds_up_nobody(tmp_path: Path) -> None:
    """Requests go on while plugins are loaded and reloaded, and none is lost."""
    async with web(tmp_path, SampleProvider()) as opened, await connect(opened.tcp_port) as wire:
        body = write(tmp_path, GOOD % 1)
        done = asyncio.Event()
        answered = 0

        async def ask() -> None:
            nonlocal answered
            while not done.is_set():
                answer = await wire.ask(search("sample", "IBM", "2010-01-01", "2010-02-01"))
                assert len(records(answer)) == 19
                answered += 1

        asking = asyncio.create_task(ask())
        for _ in range(share(2, of=5)):
            await opened.send("POST", "/plugins/load", body)
            await opened.send("POST", "/v1/plugins/numbers/reload")
        done.set()
        await asking
        assert answered > 100
