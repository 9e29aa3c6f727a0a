"""What a plugin says wrongly stays its own matter: others, and what is held, are kept from it."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from gapless.errors import InvalidQuery, PluginNotLoaded
from gapless.hub.plugins import PluginSpec
from gapless.providers.sample import SampleProvider
from gapless.store.base import RememberedPlugin
from support.clock import ManualClock
from support.plugins import JANUARY, fails, plugged, until
from support.providers import SteadyProvider
from support.stores import store_of
from support.wire import records, request, search

STEPS = """
class Provider:
    def describe(self):
        return {{"params": [{{"name": "step", "default": "{default}", "choices": ["1h", "10m"]}}]}}

    def fetch(self, ticker, start, end, step):
        return [{{"timestamp": start, "step": step}}]
"""
RAISING = """
import asyncio
import os


class Provider:
    def fetch(self, ticker, start, end):
        if ticker == "long":
            raise ValueError("x" * 5_000_000 + "\\n" + "y" * 5_000_000)
        if ticker == "crash":
            os._exit(1)
        return [{"timestamp": start}]
"""
CANCELLING = """
import asyncio


class Provider:
    async def fetch(self, ticker, start, end):
        raise asyncio.CancelledError
"""
NOTES = """
class Provider:
    def fetch_entities(self, request):
        if "GetEntity" in request:
            return [{"id": request["GetEntity"]["id"], "data": [{"said": 1}]}]
        return [{"id": "steady:A:2024-01-01T00:00:00Z..2024-01-03T00:00:00Z", "data": []}]
"""


def described(said: str) -> str:
    """Return a plugin whose `describe()` returns this."""
    return (
        f"class Provider:\n    def describe(self):\n        return {said}\n\n"
        "    def fetch(self, ticker, start, end):\n        return [{'timestamp': start}]\n"
    )


async def test_a_default_stays_what_it_is(tmp_path: Path) -> None:
    """What is held under it is of the old one; also after a restart, until it is unloaded."""
    async with plugged(tmp_path) as hub, hub.client() as wire:
        await hub.write("steps", STEPS.format(default="1h"))
        held = records(await wire.ask(search("steps", "A", *JANUARY)))
        assert [row["step"] for row in held] == ["1h"]
        hub.put("steps", STEPS.format(default="10m"))
        with pytest.raises(InvalidQuery, match="'step' was '1h' and is '10m' now"):
            await hub.plugins.reload("steps")
        assert records(await wire.ask(search("steps", "A", *JANUARY))) == held
    async with plugged(tmp_path) as hub:
        await hub.plugins.restore()
        assert "was '1h' and is '10m'" in str(hub.status("steps").last_error)
        assert len(hub.door.logged("error")) == 1
        hub.put("steps", STEPS.format(default="1h"))
        assert (await hub.plugins.reload("steps")).state == "running"
        await hub.plugins.unload("steps")
        await hub.write("steps", STEPS.format(default="10m"))


async def test_a_failed_plugin_takes_no_built_in_provider_with_it(tmp_path: Path) -> None:
    """One that was remembered under the name of a provider that has come back meanwhile."""
    async with plugged(tmp_path) as hub:
        hub.put("mine", described("{}"))
        spec = f'{{"module": "mine", "project_base_dir": "{hub.base}"}}'
        await store_of(hub.door.hub).save_plugin(RememberedPlugin("sample", spec, "never"))
    async with plugged(tmp_path, SampleProvider()) as hub, hub.client() as wire:
        await hub.plugins.restore()
        assert len(hub.door.logged("error")) == 1
        assert hub.status("sample").state == "failed"
        await hub.plugins.unload("sample")
        answer = await wire.ask(search("sample", "IBM", "2010-01-01", "2010-02-01"))
        assert len(records(answer)) == 19


@pytest.mark.parametrize("span", ["'500000w'", "1e300", f"'{'9' * 400}w'"])
async def test_for_ever_is_long_enough(tmp_path: Path, span: str) -> None:
    """A span beyond all dates is a thousand years; what is held under it can be told."""
    async with plugged(tmp_path) as hub, hub.client() as wire:
        await hub.write(
            "patient", described(f"{{'refresh_after': {span}, 'final_after': '100000w'}}")
        )
        for _ in range(2):
            assert len(records(await wire.ask(search("patient", "A", *JANUARY)))) == 1


@pytest.mark.parametrize("said", ["{'rate': 10**400}", "{'title': '\\ud800'}"])
async def test_what_cannot_be_sent_is_named(tmp_path: Path, said: str) -> None:
    """Rather than that its process ended."""
    async with plugged(tmp_path) as hub:
        with pytest.raises(PluginNotLoaded, match=r"describe\(\) say cannot be sent"):
            await hub.write("odd", described(said))


async def test_long_texts_of_exceptions_are_cut(tmp_path: Path) -> None:
    """In the answer, and in the log, whose lines would hold everybody up."""
    async with plugged(tmp_path) as hub, hub.client() as wire:
        await hub.write("raising", RAISING)
        error = await fails(wire, "raising", "long")
        assert len(error["message"]) < 1_000
        [logged] = [one for one in hub.door.logs if one["event"] == "a plugin raised"]
        assert len(logged["exception"]) < 10_000
        assert "raise ValueError" in logged["exception"]


async def test_a_new_process_that_runs_new_code_is_told_of(tmp_path: Path) -> None:
    """A file that changed without a reload is what a restart runs: the log and status say so."""
    async with plugged(tmp_path, clock=ManualClock()) as hub, hub.client() as wire:
        before = await hub.write("raising", RAISING)
        hub.put("raising", RAISING + "\n# changed\n")
        await fails(wire, "raising", "crash")
        await until(lambda: hub.status("raising").state == "running")
        assert hub.status("raising").sha256 != before.sha256
        [said] = [one for one in hub.door.logs if "file has changed" in one["event"]]
        assert (said["before"], said["sha256"]) == (before.sha256, hub.status("raising").sha256)


async def test_a_range_of_too_many_requests_is_refused(tmp_path: Path) -> None:
    """`max_span` may be a slip of the hand."""
    async with plugged(tmp_path) as hub, hub.client() as wire:
        await hub.write("narrow", described("{'max_span': 1}"))
        error = await fails(wire, "narrow", "A")
        assert error["reason"] == "upstream_rejected"
        assert "would take 2,678,400 requests; 10,000 are the most" in error["message"]


async def test_ids_that_look_like_those_of_ranges(tmp_path: Path) -> None:
    """A plugin may have some of its own, but none of another's."""
    async with plugged(tmp_path, SteadyProvider()) as hub, hub.client() as wire:
        await hub.write("notes", NOTES)
        for id in ("doc:a:b..c", "notes:a:b..c", "C:\\x:1..2"):
            answer = await wire.ask(request("notes", "GetEntity", id=id))
            assert answer["ok"], answer
            assert [one["id"] for one in answer["result"]] == [id]
        answer = await wire.ask(
            request("notes", "SearchEntities", query=[{"ById": "x"}], limit=None)
        )
        assert "is the id of a range of steady" in answer["error"]["message"]


async def test_a_cancellation_of_its_own_is_the_plugins_error(tmp_path: Path) -> None:
    """Only what the hub gave up took too long."""
    async with plugged(tmp_path) as hub, hub.client() as wire:
        await hub.write("cancelling", CANCELLING)
        error = await fails(wire, "cancelling", "A")
        assert error["reason"] == "plugin_error"
        assert "plugin cancelling raised CancelledError (cancelling.py:" in error["message"]


@pytest.mark.slow
async def test_remembered_plugins_are_loaded_a_few_at_a_time(tmp_path: Path) -> None:
    """However many there are, none waits for the others within its own time."""
    count = 8 * (os.cpu_count() or 1)
    running = tmp_path / "running"
    running.mkdir()
    source = (
        "import os, pathlib, time\n"
        f"here = pathlib.Path({str(running)!r})\n"
        "mark = here / str(os.getpid())\n"
        "mark.touch()\n"
        "most = len(list(here.iterdir()))\n"
        "time.sleep(0.02)\n"
        "mark.unlink()\n"
    )
    async with plugged(tmp_path) as hub:
        for number in range(count):
            hub.put(f"p{number}", source + described("{'title': str(most)}"))
            await hub.plugins.load(PluginSpec(module=f"p{number}", name=f"p{number}"))
    async with plugged(tmp_path) as hub:
        await hub.plugins.restore()
        assert {one.state for one in hub.plugins.status()} == {"running"}
        titles = [hub.provider(f"p{number}").info.title for number in range(count)]
        assert max(map(int, titles)) <= 2 * (os.cpu_count() or 1)
