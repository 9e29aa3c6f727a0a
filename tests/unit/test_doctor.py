"""`gapless doctor`: each finding by itself, and the report as a whole."""

from __future__ import annotations

import asyncio
import json
import os
import resource
import socket
from pathlib import Path

import pytest

from gapless import __version__
from gapless.cli import doctor, main
from gapless.cli.exits import Exit
from gapless.cli.findings import Finding
from gapless.cli.hub_findings import hub
from gapless.clock import SystemClock
from gapless.config import Settings
from gapless.config.settings import YahooSettings
from gapless.domain.blocks import EMPTY
from gapless.domain.coverage import Coverage, Outcome
from gapless.domain.intervals import Interval
from gapless.domain.series import SeriesKey
from gapless.instants import DAY_MS
from gapless.servers.descriptors import KEPT
from gapless.store.base import Change, Replacement
from gapless.store.sqlite import FileLock, open_store
from gapless.store.sqlite_file import engine_of


@pytest.fixture(autouse=True)
def own_environment(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """Keep the caller's settings, proxies and data directory out of the tests."""
    for name in [*os.environ]:
        if name.startswith("GAPLESS_") or name.lower().endswith("_proxy"):
            monkeypatch.delenv(name)
    monkeypatch.setenv("XDG_DATA_HOME", str(tmp_path / "data"))
    # What resolves everywhere, and is on this machine.
    monkeypatch.setenv("GAPLESS_YAHOO__BASE_URL", "http://localhost:9")


@pytest.fixture
def free_port() -> int:
    """Return a port that nobody listens on."""
    with socket.create_server(("127.0.0.1", 0)) as listener:
        port: int = listener.getsockname()[1]
    return port


def levels(findings: list[Finding]) -> dict[str, str]:
    """Return the worst level of each subject."""
    order = ["ok", "note", "problem"]
    result: dict[str, str] = {}
    for one in findings:
        worst = max(order.index(one.level), order.index(result.get(one.about, "ok")))
        result[one.about] = order[worst]
    return result


@pytest.mark.parametrize(
    ("version", "level"),
    [
        ((3, 6, 23), "ok"),
        ((3, 7, 0), "note"),
        ((3, 40, 1), "note"),
        ((3, 51, 2), "note"),
        ((3, 51, 3), "ok"),
        ((3, 53, 0), "ok"),
    ],
)
def test_sqlite_versions_with_the_wal_bug_are_noted(version: tuple[int, ...], level: str) -> None:
    """Versions 3.7.0 to 3.51.2 are named, with what keeps a hub safe from them."""
    found = doctor.engine(engine_of(version))
    assert found.level == level
    assert (level == "ok") or "one connection that writes" in found.said


def test_a_library_that_is_not_there_is_a_problem() -> None:
    """What gapless stands on is listed; what is absent is named."""
    assert "msgspec" in doctor.libraries(["msgspec"]).said
    found = doctor.libraries(["msgspec", "no-such-library"])
    assert (found.level, found.said) == ("problem", "not installed: no-such-library")


def test_open_files() -> None:
    """A hard limit below what the settings want is noted, with what becomes of them."""
    assert doctor.open_files(1, 1).level == "ok"
    _, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    if hard == resource.RLIM_INFINITY:
        pytest.skip("this machine has no limit on open files")
    found = doctor.open_files(hard - KEPT, 1)
    assert found.level == "note"
    assert f"a hub takes {hard - KEPT - 1:,} connections over TCP and 1 over HTTP" in found.said
    assert f"ulimit -Hn {hard + 1}" in (found.advice or "")
    assert doctor.open_files(hard - KEPT, 0).level == "ok"


def test_file_systems_are_told_apart(tmp_path: Path) -> None:
    """The nearest mount point counts, however it is spelled."""
    mounts = tmp_path / "mounts"
    share = tmp_path / "a share"
    share.mkdir()
    spelled = str(share).replace(" ", "\\040")
    mounts.write_text(f"/dev/sda / ext4 rw 0 0\nserver:/x {spelled} nfs4 rw 0 0\nodd\n")
    assert doctor.filesystem(share, mounts) == "nfs4"
    assert doctor.filesystem(tmp_path, mounts) == "ext4"
    assert doctor.filesystem(tmp_path, tmp_path / "none") is None


def test_a_name_that_cannot_be_resolved_is_a_problem(monkeypatch: pytest.MonkeyPatch) -> None:
    """A host is looked up, not asked; behind a proxy not even that."""
    assert doctor.name_resolves("http://localhost:9").level == "ok"
    found = doctor.name_resolves("https://no-such-host.invalid")
    assert found.level == "problem"
    assert "cannot be resolved" in found.said
    monkeypatch.setenv("HTTPS_PROXY", "http://me:secret@proxy:3128")
    found = doctor.name_resolves("https://no-such-host.invalid")
    assert found.level == "ok"
    assert "secret" not in found.said


def test_a_database_that_is_to_be_made(tmp_path: Path) -> None:
    """A file that is not there yet is no problem where it can be made."""
    found = list(doctor.database(tmp_path / "new" / "hub.db"))
    assert found[0].level == "ok"
    assert "not there yet" in found[0].said
    assert not (tmp_path / "new").exists()


def test_a_database_is_looked_at(tmp_path: Path) -> None:
    """Sound, empty and damaged files are told apart, and none is changed."""
    sound, empty, damaged = (tmp_path / name for name in ("sound.db", "empty.db", "damaged.db"))
    asyncio.run(open_store(sound).close())
    assert levels(list(doctor.database(sound)))["database"] == "ok"
    empty.touch()
    assert levels(list(doctor.database(empty)))["database"] == "note"
    damaged.write_bytes(sound.read_bytes()[:4096] + b"\xff" * 8192)
    before = damaged.read_bytes()
    assert levels(list(doctor.database(damaged)))["database"] == "problem"
    assert damaged.read_bytes() == before


def test_what_is_due_is_told(tmp_path: Path) -> None:
    """Of providers that revise: how many series, and when the next is; of others nothing ages."""
    path = tmp_path / "hub.db"
    assert list(doctor.due(path, Settings())) == []
    now = SystemClock().now_ms()

    async def fill() -> None:
        store = await asyncio.to_thread(open_store, path)
        for ticker, age in (("OLD", 90 * DAY_MS), ("NEW", 0)):
            key = SeriesKey("yahoo_finance", ticker)
            row = Coverage(0, 1000, Outcome.EMPTY, now - age)
            await store.apply(Change(key, (Replacement(Interval(0, 1000), EMPTY, (row,)),)))
        sample = SeriesKey("sample", "AAPL")
        row = Coverage(0, 1000, Outcome.EMPTY, 1)
        await store.apply(Change(sample, (Replacement(Interval(0, 1000), EMPTY, (row,)),)))
        await store.close()

    asyncio.run(fill())
    (found,) = doctor.due(path, Settings())
    assert (found.level, found.about) == ("ok", "due")
    assert found.said.startswith("1 of 2 series of yahoo_finance have something that is fetched")
    assert "; next at 2" in found.said
    never = Settings(yahoo=YahooSettings(check="never"))
    (found,) = doctor.due(path, never)
    assert found.said == (
        "0 of 2 series of yahoo_finance have something that is fetched again when it is asked for"
    )


def test_a_hub_that_has_the_database_and_is_silent_is_a_problem(
    tmp_path: Path, free_port: int
) -> None:
    """A lock that is held without anybody at the socket is told, with who holds it."""
    path = tmp_path / "hub.db"
    settings = Settings(db=str(path), tcp=f"127.0.0.1:{free_port}")
    assert [one.level for one in hub(path, settings, {})] == ["note"]
    lock = FileLock(path)
    lock.acquire("process 4711")
    (found,) = hub(path, settings, {})
    lock.release()
    assert found.level == "problem"
    assert "process 4711" in found.said


def test_the_report(
    tmp_path: Path,
    free_port: int,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    """A line a finding, or JSON; exit 1 only where there is a problem."""
    monkeypatch.setenv("GAPLESS_TCP", f"127.0.0.1:{free_port}")
    path = tmp_path / "hub.db"
    asyncio.run(open_store(path).close())
    assert main(["doctor", "--db", str(path)]) == Exit.OK
    out = capsys.readouterr().out
    assert "\x1b" not in out
    assert f"ok       gapless     {__version__} on Python" in out
    assert out.endswith("all is well\n")
    monkeypatch.setenv("GAPLESS_YAHOO__BASE_URL", "https://no-such-host.invalid")
    assert main(["doctor", "--db", str(path), "-o", "json"]) == Exit.FAILURE
    told = json.loads(capsys.readouterr().out)
    assert told["ok"] is False
    assert [one["about"] for one in told["findings"] if one["level"] == "problem"] == ["upstream"]
    monkeypatch.setenv("GAPLESS_YAHOO__ENABLED", "no")
    assert main(["doctor", "--db", str(path)]) == Exit.OK
    assert "turned off" in capsys.readouterr().out


def test_settings_that_are_wrong_are_a_problem(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """What cannot be read is reported like all else."""
    monkeypatch.setenv("GAPLESS_LOG__LEVEL", "loud")
    assert main(["doctor"]) == Exit.FAILURE
    assert "log.level (environment GAPLESS_LOG__LEVEL)" in capsys.readouterr().out
