"""Plugins are loaded, replaced, remembered, watched and let go, and leave nothing behind."""

from __future__ import annotations

import asyncio
import gc
import hashlib
import os
import resource
import subprocess
import sys
from pathlib import Path
from typing import Any

import msgspec
import pytest

from gapless.errors import InvalidQuery, NotFound, PluginNotLoaded
from gapless.hub.plugins import PluginSpec
from gapless.store.base import RememberedPlugin
from support.clock import ManualClock
from support.plugins import (
    JANUARY,
    SOURCES,
    alive,
    children,
    open_files,
    plugged,
    until,
)
from support.providers import SteadyProvider
from support.stores import store_of
from support.wire import PATIENT, but, records, request, search

VERSION = """
class Provider:
    def name(self): return "versioned"
    def fetch(self, ticker, start, end): return [{{"timestamp": start, "version": {version}}}]
"""


async def version(hub: Any, ticker: str) -> int:
    """Return which version of the code answers; each ticker is asked for once."""
    async with hub.client() as wire:
        (row,) = records(await wire.ask(search("versioned", ticker, *JANUARY)))
        found: int = row["version"]
        return found


# Loading


async def test_what_is_told_of_a_plugin(tmp_path: Path) -> None:
    """Its file and the hash of that, what it can do, how it is."""
    async with plugged(tmp_path, clock=ManualClock(1_700_000_000_000)) as hub:
        status = await hub.load("steady")
        file = hub.base / "steady.py"
        digest = hashlib.sha256(file.read_bytes()).hexdigest()
        assert status.pid is not None
        assert alive(status.pid)
        assert msgspec.json.decode(msgspec.json.encode(status)) == {
            "name": "steady",
            "state": "running",
            "contract": ["ranged"],
            "module": "steady",
            "file": str(file),
            "class": "Provider",
            "base": str(hub.base),
            "watch": False,
            "remembered": True,
            "pid": status.pid,
            "calls": 0,
            "crashes": 0,
            "restarts": 0,
            "sha256": digest,
            "loaded_at": "2023-11-14T22:13:20Z",
            "last_error": None,
            "traceback": None,
        }
        assert hub.plugins.status() == [status]
        said = next(one for one in hub.door.logs if one["event"] == "plugin loaded")
        assert (said["plugin"], said["sha256"]) == ("steady", digest)


async def test_a_file_is_loaded_with_what_lies_beside_it(tmp_path: Path) -> None:
    """By a path from the base or an absolute one; the folder is where it imports from."""
    async with plugged(tmp_path) as hub:
        folder = hub.base / "deep"
        folder.mkdir()
        (folder / "helper.py").write_text("VERSION = 7\n")
        file = folder / "my-plugin.py"
        file.write_text("from helper import VERSION\n" + VERSION.format(version="VERSION"))
        for path in ("deep/my-plugin.py", str(file)):
            status = await hub.plugins.load(PluginSpec(file=path))
            assert (status.name, status.file, status.module) == ("versioned", str(file), None)
        assert await version(hub, "x") == 7
        files = hub.provider("versioned").loaded.files
        assert files.keys() == {str(folder / "helper.py"), str(file)}


@pytest.mark.parametrize("folder", ["provider", "providers"])
async def test_modules_are_found_in_the_usual_folders(tmp_path: Path, folder: str) -> None:
    """`<base>/provider` and `<base>/providers` count as `<base>` does."""
    async with plugged(tmp_path) as hub:
        package = hub.base / folder / "package"
        package.mkdir(parents=True)
        (package / "__init__.py").write_text("")
        (package / "inner.py").write_text(VERSION.format(version=3))
        status = await hub.plugins.load(PluginSpec(module="package.inner"))
        assert status.name == "versioned"


async def test_another_base_may_be_named(tmp_path: Path) -> None:
    """A request may say where its module is; several classes may be of one file."""
    async with plugged(tmp_path) as hub:
        other = tmp_path / "other"
        other.mkdir()
        source = VERSION.format(version=1) + "class Second(Provider): pass\n"
        (other / "elsewhere.py").write_text(source)
        spec = PluginSpec(module="elsewhere", project_base_dir=str(other))
        assert (await hub.plugins.load(spec)).base == str(other)
        second = msgspec.structs.replace(spec, class_="Second", name="second")
        await hub.plugins.load(second)
        assert hub.door.hub.registry.names() == ["second", "versioned"]


BAD_SPECS: list[tuple[str, PluginSpec, str]] = [
    ("neither", PluginSpec(), 'loaded from a "module" or from a "file": give one of them'),
    ("both", PluginSpec(module="a", file="a.py"), "give one of them"),
    (
        "a URL",
        PluginSpec(file="https://example.org/a.py"),
        "file is a URL; code is loaded from thi",
    ),
    ("a file URL", PluginSpec(file="file:///a.py"), "file is a URL"),
    ("no such file", PluginSpec(file="none.py"), "there is no file"),
    ("a folder", PluginSpec(file="folder.py"), "there is no file"),
    ("another ending", PluginSpec(file="a.txt"), "does not end in .py"),
    ("a link to another ending", PluginSpec(file="link.py"), "does not end in .py"),
    ("a loop of links", PluginSpec(file="loop.py"), "there is no file|cannot be followed"),
    ("an empty path", PluginSpec(file=""), "is no path"),
    ("a null", PluginSpec(file="a\0.py"), "is no path"),
    ("a long path", PluginSpec(file="a" * 5_000), "is no path"),
    ("a long name", PluginSpec(file="a" * 300 + ".py"), "there is no file|cannot be followed"),
    ("a path as module", PluginSpec(module="../a"), "cannot be the name of a module"),
    ("an empty module", PluginSpec(module=""), "cannot be the name of a module"),
    ("a class", PluginSpec(module="a", class_="os.system"), "cannot be the name of a class"),
    ("no folder", PluginSpec(module="a", project_base_dir="none"), "is no folder"),
    ("a folder's URL", PluginSpec(module="a", project_base_dir="http://x"), "is a URL"),
    ("a name", PluginSpec(module="versioned", name="Upper"), "begins with a letter"),
    ("a long alias", PluginSpec(module="versioned", name="x" * 41), "has 1 to 40 small letters"),
    ("an id's sign", PluginSpec(module="versioned", name="a:b"), "has 1 to 40 small letters"),
    ("a built-in", PluginSpec(module="versioned", name="steady"), "'steady' is built in"),
    ("one that calls itself so", PluginSpec(module="posing"), "'steady' is built in"),
    ("one of a bad name", PluginSpec(module="misnamed"), "cannot be called 'Mis named'"),
    ("one of no name", PluginSpec(module="nameless"), "does not say what it is called"),
]


@pytest.mark.parametrize(("spec", "why"), [c[1:] for c in BAD_SPECS], ids=[c[0] for c in BAD_SPECS])
async def test_bad_requests_are_refused(tmp_path: Path, spec: PluginSpec, why: str) -> None:
    """Nothing is loaded or remembered, and no process is left over."""
    async with plugged(tmp_path, SteadyProvider()) as hub:
        hub.put("versioned", VERSION.format(version=1))
        nameless = "class Provider:\n    def fetch(self, ticker, start, end): pass\n"
        hub.put("nameless", nameless)
        hub.put("posing", nameless + "    def name(self): return 'steady'\n")
        hub.put("misnamed", nameless + "    def name(self): return 'Mis named'\n")
        (hub.base / "folder.py").mkdir()
        (hub.base / "a.txt").write_text("")
        (hub.base / "link.py").symlink_to(hub.base / "a.txt")
        (hub.base / "loop.py").symlink_to(hub.base / "loop.py")
        with pytest.raises(InvalidQuery, match=why):
            await hub.plugins.load(spec)
        assert hub.plugins.status() == []
        assert await store_of(hub.door.hub).plugins() == []
        assert isinstance(hub.door.hub.registry.get("steady"), SteadyProvider)


def code(*lines: str) -> str:
    """Return lines as a file."""
    return "\n".join(lines) + "\n"


CLASS = ("class Provider:", "    fetch = print")
CHAINED = ("try:", "    1 / 0", "except ZeroDivisionError as e:", "    raise OSError('no') from e")

BROKEN: list[tuple[str, str, str, str]] = [
    ("syntax", code("class Provider"), "SyntaxError: expected ':' (broken.py:1)", "class Provider"),
    ("import", code("import no_such"), "No module named 'no_such' (broken.py:1)", "import no_such"),
    ("raising", code("x = {}['a']"), "KeyError: 'a' (broken.py:1)", "x = {}['a']"),
    ("chained", code(*CHAINED), "OSError: no (broken.py:4)", "ZeroDivisionError: division by zero"),
    ("exit", code("import sys", "sys.exit(3)"), "SystemExit: 3 (broken.py:2)", "sys.exit(3)"),
    ("no class", code("class Other: pass", "X = int"), "'Provider'; its classes are: Other", ""),
    (
        "a number",
        code("Provider = 5"),
        "a int, but no class, 'Provider'; its classes are: none",
        "",
    ),
    (
        "no method",
        code("class Provider:", "    def get(self): pass"),
        "neither fetch(ticker, start, end) nor fetch_entities(request); it has: get",
        "",
    ),
    (
        "no instance",
        code(*CLASS, "    def __init__(self, x): pass"),
        "TypeError: Provider.__init__() missing 1 required positional argument: 'x'",
        "TypeError",
    ),
    (
        "a method that takes something else",
        code("class Provider:", "    def fetch(self, ticker): pass"),
        "fetch(ticker) cannot be called as fetch(ticker, start, end)",
        "",
    ),
    (
        "a method that takes nothing",
        code(*CLASS, "    def fetch_entities(self): pass"),
        "fetch_entities() cannot be called as fetch_entities(request)",
        "",
    ),
    (
        "a name",
        code(*CLASS, "    def name(self): return 5"),
        "name() returned a int: 5; it must be text",
        "",
    ),
    (
        "a description",
        code(*CLASS, "    def describe(self): return []"),
        "describe() returned a list, not a dict",
        "",
    ),
    (
        "a key of it",
        code(*CLASS, "    def describe(self): return {'title': 5}"),
        "describe(): title is 5; it must be text",
        "",
    ),
    (
        "a type in it",
        code(*CLASS, "    def describe(self): return {'title': print}"),
        "describe() is a builtin_function_or_method",
        "",
    ),
    ("a crash", code("import os", "os._exit(7)"), "exited with status 7 before the plugin was", ""),
    (
        "a slow one",
        code("import time", "time.sleep(3_600)"),
        "was not loaded within 0.6 s (plug",
        "",
    ),
    (
        "a slow instance",
        code("import time", *CLASS, "    def __init__(self): time.sleep(3_600)"),
        "was not loaded within 0.6 s",
        "",
    ),
]


@pytest.mark.share(6)
@pytest.mark.parametrize(
    ("source", "why", "traceback"), [c[1:] for c in BROKEN], ids=[c[0] for c in BROKEN]
)
async def test_what_cannot_be_loaded_says_why(
    tmp_path: Path, source: str, why: str, traceback: str
) -> None:
    """A sentence with the place in the plugin, and the plugin's own traceback, not ours."""
    slow = why.startswith("was not loaded within")
    settings = but(PATIENT, plugins={"load_s": 0.6}) if slow else PATIENT
    async with plugged(tmp_path, settings=settings) as hub:
        hub.put("broken", source)
        with pytest.raises(PluginNotLoaded) as caught:
            await hub.plugins.load(PluginSpec(module="broken", name="broken"))
        assert why in caught.value.message
        assert caught.value.reason == "plugin_error"
        assert traceback in caught.value.traceback
        assert "gapless" not in caught.value.traceback
        assert bool(caught.value.traceback) == bool(traceback)
        assert hub.plugins.status() == []
        assert hub.door.hub.registry.names() == []


async def test_a_module_that_is_not_found_says_where_it_was_looked_for(tmp_path: Path) -> None:
    """The folders are named, and what to try."""
    async with plugged(tmp_path) as hub:
        (hub.base / "providers").mkdir()
        for module in ("nowhere", "nowhere.inner"):
            with pytest.raises(PluginNotLoaded) as caught:
                await hub.plugins.load(PluginSpec(module=module))
            assert caught.value.message == (
                f"there is no module 'nowhere' in {hub.base}, {hub.base}/providers, nor in the "
                'hub\'s environment; put it there, say where it is with "project_base_dir", or '
                'give its path as "file"'
            )


async def test_a_process_that_cannot_be_started(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """What the system says is told; neither a socket nor a process is left over."""
    async with plugged(tmp_path) as hub:
        hub.put("versioned", VERSION.format(version=1))
        monkeypatch.setattr(sys, "executable", str(tmp_path / "none"))
        files = []
        for _ in range(3):
            with pytest.raises(PluginNotLoaded, match="/none could be started: "):
                await hub.plugins.load(PluginSpec(module="versioned"))
            files.append(open_files())
        # The first may have opened what the loop keeps.
        assert files[2] == files[1]


async def test_a_start_that_is_given_up_leaves_nothing(tmp_path: Path) -> None:
    """Neither a process nor one of its pipes, whose end would be warned of here."""
    async with plugged(tmp_path) as hub:
        hub.put("versioned", VERSION.format(version=1))
        before = children()
        for _ in range(10):
            loading = asyncio.ensure_future(hub.plugins.load(PluginSpec(module="versioned")))
            await until(lambda: children() > before)
            loading.cancel()
            with pytest.raises(asyncio.CancelledError):
                await loading
            assert children() == before
        gc.collect()


# Replacing


async def test_a_failed_load_leaves_what_ran_before(tmp_path: Path) -> None:
    """The same process answers on, and the status tells what went wrong."""
    async with plugged(tmp_path) as hub:
        hub.put("versioned", VERSION.format(version=1))
        before = await hub.plugins.load(PluginSpec(module="versioned"))
        hub.put("versioned", "1 / 0\n")
        with pytest.raises(PluginNotLoaded):
            await hub.plugins.load(PluginSpec(module="versioned", name="versioned"))
        with pytest.raises(PluginNotLoaded, match="ZeroDivisionError"):
            await hub.plugins.reload("versioned")
        after = hub.status("versioned")
        assert (after.state, after.pid) == ("running", before.pid)
        assert after.last_error == "ZeroDivisionError: division by zero (versioned.py:1)"
        assert "1 / 0" in str(after.traceback)
        assert await version(hub, "x") == 1
        hub.put("versioned", VERSION.format(version=2))
        assert (await hub.plugins.reload("versioned")).last_error is None
        assert await version(hub, "y") == 2


async def test_a_reload_shows_the_new_code_at_once(tmp_path: Path) -> None:
    """Also where the file has the size and the time of before, and what it imports has."""
    async with plugged(tmp_path) as hub:
        hub.put("versioned", "import helper\n" + VERSION.format(version="helper.VERSION"))
        helper = hub.put("helper", "VERSION = 1\n")
        stamp = helper.stat().st_mtime_ns
        await hub.plugins.load(PluginSpec(module="versioned"))
        assert await version(hub, "x1") == 1
        for number in range(2, 5):
            hub.put("helper", f"VERSION = {number}\n")
            os.utime(helper, ns=(stamp, stamp))
            await hub.plugins.reload("versioned")
            assert await version(hub, f"x{number}") == number
        assert not list(hub.base.rglob("*.pyc"))


async def test_calls_under_way_end_with_the_old_code(tmp_path: Path) -> None:
    """They are answered, and only then their process goes."""
    slow = code(
        "import time, pathlib",
        "class Provider:",
        "    def name(self): return 'versioned'",
        "    def fetch(self, ticker, start, end):",
        "        here = pathlib.Path(__file__).parent",
        "        (here / 'arrived').touch()",
        "        while not (here / 'go').exists(): time.sleep(0.002)",
        "        return [{'timestamp': start, 'version': 1}]",
    )
    async with plugged(tmp_path) as hub:
        first = await hub.write("versioned", slow)
        assert first.pid is not None
        under_way = asyncio.ensure_future(version(hub, "x"))
        await until((hub.base / "arrived").exists)
        await hub.write("versioned", VERSION.format(version=2))
        assert await version(hub, "y") == 2
        assert alive(first.pid)
        (hub.base / "go").touch()
        assert await under_way == 1
        await until(lambda: first.pid is not None and not alive(first.pid))


async def test_loads_of_one_name_come_one_after_the_other(tmp_path: Path) -> None:
    """However many are asked for at once, one plugin is left, and it runs the newest code."""
    async with plugged(tmp_path) as hub:
        hub.put("versioned", VERSION.format(version=1))
        await hub.plugins.load(PluginSpec(module="versioned"))
        hub.put("versioned", VERSION.format(version=2))
        await asyncio.gather(
            *(hub.plugins.load(PluginSpec(module="versioned")) for _ in range(3)),
            *(hub.plugins.reload("versioned") for _ in range(3)),
        )
        assert len(hub.plugins.status()) == 1
        assert await version(hub, "x") == 2


async def test_a_file_that_changes_is_loaded_again(tmp_path: Path) -> None:
    """With `watch`, also when a module that it imports changes; what is broken is told."""
    async with plugged(tmp_path) as hub:
        hub.put("helper", "VERSION = 1\n")
        source = "import helper\n" + VERSION.format(version="helper.VERSION")
        before = await hub.write("versioned", source, watch=True)
        hub.put("helper", "VERSION = 2\n")
        await until(lambda: hub.status("versioned").pid != before.pid)
        assert await version(hub, "x") == 2
        hub.put("helper", "VERSION =\n")
        await until(lambda: hub.status("versioned").last_error is not None)
        assert "SyntaxError" in str(hub.status("versioned").last_error)
        hub.put("helper", "VERSION = 3\n")
        await until(lambda: hub.status("versioned").last_error is None)
        assert await version(hub, "y") == 3


# Remembering


async def test_plugins_come_back_after_a_restart(tmp_path: Path) -> None:
    """With what was stored of them; one that is unloaded does not."""
    async with plugged(tmp_path) as hub, hub.client() as wire:
        await hub.load("steady")
        await hub.load("notes", name="aliased", watch=True)
        await hub.load("looping")
        await hub.plugins.unload("looping")
        assert len(records(await wire.ask(search("steady", "abc", *JANUARY)))) == 31
    async with plugged(tmp_path) as hub, hub.client() as wire:
        await hub.plugins.restore()
        assert [(one.name, one.state) for one in hub.plugins.status()] == [
            ("aliased", "running"),
            ("steady", "running"),
        ]
        assert hub.status("aliased").watch
        answer = await wire.ask(search("steady", "abc", *JANUARY))
        assert (len(records(answer)), answer["stitch"]["fetched"]) == (31, [])


async def test_one_that_does_not_come_back_is_named(tmp_path: Path) -> None:
    """The others do; a client is told why, and what is loaded in its place takes over."""
    async with plugged(tmp_path) as hub:
        await hub.load("steady")
        await hub.write("broken", VERSION.format(version=1))
        await store_of(hub.door.hub).save_plugin(RememberedPlugin("odd", "{", "never"))
    async with plugged(tmp_path) as hub, hub.client() as wire:
        hub.put("broken", "raise OSError('no key')\n")
        await hub.plugins.restore()
        assert len(hub.door.logged("error")) == 2
        assert {one.name: one.state for one in hub.plugins.status()} == {
            "broken": "failed",
            "odd": "failed",
            "steady": "running",
        }
        assert hub.status("broken").last_error == "OSError: no key (broken.py:1)"
        assert "no key" in str(hub.status("broken").traceback)
        error = (await wire.ask(search("broken", "x", *JANUARY)))["error"]
        assert error["code"] == "provider_not_found"
        assert "a plugin that cannot be loaded: OSError: no key" in error["message"]
        hub.put("broken", VERSION.format(version=2))
        assert (await hub.plugins.reload("broken")).state == "running"
        with pytest.raises(InvalidQuery, match="give one of them"):
            await hub.plugins.reload("odd")
        await hub.plugins.unload("odd")
        assert [one.name for one in hub.plugins.status()] == ["broken", "steady"]
        assert records(await wire.ask(search("broken", "x", *JANUARY)))[0]["version"] == 2


async def test_a_plugin_that_is_unloaded_is_gone(tmp_path: Path) -> None:
    """From the providers, the processes and the memory; what was stored of it stays."""
    async with plugged(tmp_path) as hub, hub.client() as wire:
        status = await hub.load("steady")
        assert status.pid is not None
        for _ in range(3):
            assert len(records(await wire.ask(search("steady", "abc", *JANUARY)))) == 31
        await hub.plugins.unload("steady")
        # Nor is an answer that was kept ready given any more.
        gone = await wire.ask(search("steady", "abc", *JANUARY))
        assert gone["error"]["code"] == "provider_not_found"
        await until(lambda: status.pid is not None and not alive(status.pid))
        assert hub.plugins.status() == []
        answer = await wire.ask(request("steady", "GetAllEntities", limit=None, offset=None))
        assert answer["error"]["code"] == "provider_not_found"
        assert (await hub.door.hub.statistics())["records"] == 31
        for work in (hub.plugins.unload("steady"), hub.plugins.reload("steady")):
            with pytest.raises(NotFound, match="there is no plugin 'steady'"):
                await work


# Installed packages


async def test_providers_of_installed_packages(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """They are found by their entry point and not remembered; a name that is taken stays so."""
    site = tmp_path / "site"
    info = site / "acme_prices-1.0.dist-info"
    info.mkdir(parents=True)
    (info / "METADATA").write_text("Metadata-Version: 2.1\nName: acme-prices\nVersion: 1.0\n")
    (info / "entry_points.txt").write_text(
        "[gapless.providers]\n"
        "acme = acme_prices:Acme\n"
        "versioned = acme_prices:Acme\n"
        "builtin = acme_prices:Acme\n"
        "broken = acme_prices:Missing\n"
    )
    source = VERSION.format(version=5).replace("Provider", "Acme")
    (site / "acme_prices.py").write_text(source)
    monkeypatch.syspath_prepend(str(site))
    async with plugged(tmp_path, SteadyProvider("builtin")) as hub, hub.client() as wire:
        await hub.write("versioned", VERSION.format(version=1))
        await hub.plugins.find_entry_points()
        assert hub.door.hub.registry.names() == ["acme", "builtin", "versioned"]
        assert records(await wire.ask(search("acme", "x", *JANUARY)))[0]["version"] == 5
        assert await version(hub, "x") == 1
        assert not hub.status("acme").remembered
        assert [one.name for one in await store_of(hub.door.hub).plugins()] == ["versioned"]
        taken = [one for one in hub.door.logs if "its name is taken" in one["event"]]
        assert sorted(one["provider"] for one in taken) == ["builtin", "versioned"]
        (error,) = hub.door.logged("error")
        assert "cannot be loaded" in error


# What it costs


async def test_what_a_plugins_process_loads_is_light() -> None:
    """An interpreter that serves a plain plugin has none of what a hub is made of."""
    code = "import sys, gapless.providers.plugins.runner; print(*sys.modules)"
    process = await asyncio.create_subprocess_exec(
        *(sys.executable, "-c", code), stdout=asyncio.subprocess.PIPE
    )
    said, _ = await process.communicate()
    heavy = {"asyncio", "polars", "pandas", "numpy", "sqlalchemy", "structlog", "curl_cffi", "ssl"}
    heavy |= {"gapless.hub", "gapless.store", "gapless.providers.base", "importlib.metadata"}
    assert process.returncode == 0
    assert not heavy & set(said.decode().split())


@pytest.mark.slow
async def test_a_hundred_reloads_leave_nothing_behind(tmp_path: Path) -> None:
    """No process, no open file, and no memory that grows with them."""
    async with plugged(tmp_path) as hub:
        hub.put("versioned", VERSION.format(version=1))
        await hub.plugins.load(PluginSpec(module="versioned"))

        async def settled(files: int | None) -> int:
            pid = hub.status("versioned").pid
            await until(lambda: not hub.plugins.leaving)
            if files is not None:
                await until(lambda: open_files() <= files)
            gc.collect()
            assert pid is not None
            return resident()

        for _ in range(20):
            await hub.plugins.reload("versioned")
        before = await settled(None)
        files = open_files()
        for _ in range(80):
            await hub.plugins.reload("versioned")
        after = await settled(files)
        assert await version(hub, "x") == 1
        assert after - before < 4 << 20
        assert resident(hub.status("versioned").pid) < 100 << 20


def resident(pid: int | None = None) -> int:
    """Return a process's resident memory in bytes; of this one unless another is named."""
    of = Path("/proc", "self" if pid is None else str(pid), "statm")
    return int(of.read_text().split()[1]) * resource.getpagesize()


def processor_s(pid: int | None) -> float:
    """Return the seconds of the processor that a process has used."""
    after_name = Path("/proc", str(pid), "stat").read_text().rpartition(")")[2].split()
    return sum(map(int, after_name[11:13])) / os.sysconf("SC_CLK_TCK")


def bare_s() -> float:
    """Return the seconds of the processor that an interpreter with asyncio and msgspec takes."""
    program = (sys.executable, "-c", "import asyncio, msgspec")
    with subprocess.Popen(program) as process:
        _, status, used = os.wait4(process.pid, 0)
        process.returncode = os.waitstatus_to_exitcode(status)
    assert process.returncode == 0
    return used.ru_utime + used.ru_stime


async def test_a_plugin_starts_about_as_quickly_as_an_interpreter(tmp_path: Path) -> None:
    """Of its processor's time, in the same minutes: a busy machine takes more for either."""
    async with plugged(tmp_path) as hub:
        await hub.load("steady")
        ratios = []
        for _ in range(5):
            bare = await asyncio.to_thread(bare_s)
            await hub.plugins.reload("steady")
            ratios.append(processor_s(hub.status("steady").pid) / bare)
        assert min(ratios) < 2


async def test_the_test_plugins_are_what_users_would_write() -> None:
    """None of them imports anything of ours."""
    for path in SOURCES.glob("*.py"):
        assert "gapless" not in path.read_text()
