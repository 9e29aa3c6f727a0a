"""What all tests share: the loop they run on, how hard properties are tried, a watch on the loop.

Helpers that only some tests need are in `support`, imported by name.
"""

from __future__ import annotations

import secrets
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from blockbuster import BlockBuster, blockbuster_ctx
from hypothesis import settings

from support.extent import EXTENT, FULL, QUICK, SOAK
from support.searching import Search

TESTS = Path(__file__).parent
SEARCH = Search()
BY_FOLDER = {"property": "property", "soak": "soak", "faults": "faults"}

# A slow machine is no reason to fail; a failure prints what repeats it.
settings.register_profile(FULL, deadline=None, print_blob=True)
settings.register_profile(QUICK, settings.get_profile(FULL))
settings.register_profile(SOAK, settings.get_profile(FULL), max_examples=5_000)
settings.load_profile(EXTENT)


@pytest.hookimpl(tryfirst=True)
def pytest_configure(config: pytest.Config) -> None:
    """Choose the seed of the property tests here, so that it can be told at the end."""
    if config.getoption("hypothesis_seed") is None:
        config.option.hypothesis_seed = str(secrets.randbits(32))


def pytest_terminal_summary(terminalreporter: pytest.TerminalReporter) -> None:
    """Tell the seed of the property tests."""
    seed = terminalreporter.config.getoption("hypothesis_seed")
    terminalreporter.write_line(f"to repeat the property tests: --hypothesis-seed={seed}")
    if SEARCH.files:
        told = f"{len(SEARCH.found)} passwords and tokens"
        terminalreporter.write_line(f"{told} found in {SEARCH.files:,} files that were left")
    for found in SEARCH.found:
        terminalreporter.write_line(f"  {found}", red=True)


def pytest_runtest_logreport(report: pytest.TestReport) -> None:
    """Note what of a test's output, log and failure should be nowhere: see `searching`."""
    texts = [text for _, text in report.sections]
    SEARCH.look(report.nodeid, *texts, str(report.longrepr or ""))


def pytest_sessionfinish(session: pytest.Session) -> None:
    """Search all that the tests have left behind for passwords and tokens, once for all workers."""
    if hasattr(session.config, "workerinput"):
        return
    factory = getattr(session.config, "_tmp_path_factory", None)
    if factory is not None and session.testscollected != 1:
        SEARCH.look_through(factory.getbasetemp())
    if SEARCH.found:
        session.exitstatus = pytest.ExitCode.TESTS_FAILED


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Mark tests by the folder they are in, and as slow what is beyond the share of its cases."""
    cases: dict[tuple[Path, str], list[pytest.Item]] = {}
    for item in items:
        folder = item.path.relative_to(TESTS).parts[0]
        if folder in BY_FOLDER:
            item.add_marker(BY_FOLDER[folder])
        if item.get_closest_marker("share") is not None:
            cases.setdefault((item.path, item.name.partition("[")[0]), []).append(item)
    for same in cases.values():
        marker = same[0].get_closest_marker("share")
        assert marker is not None
        count = min(marker.args[0], len(same))
        chosen = {len(same) * i // count for i in range(count)}
        for at, item in enumerate(same):
            if at not in chosen:
                item.add_marker("slow")


@pytest.fixture(scope="session")
def anyio_backend() -> tuple[str, dict[str, Any]]:
    """Run async tests as the hub runs: asyncio on uvloop."""
    return "asyncio", {"use_uvloop": True}


@pytest.fixture(autouse=True)
def unblocked_loop() -> Iterator[BlockBuster]:
    """Fail where the hub blocks the event loop: by I/O, a lock, a sleep."""
    with blockbuster_ctx(
        scanned_modules=["gapless"], excluded_modules=["gapless.cli", "gapless.simulator"]
    ) as watch:
        for function in watch.functions.values():
            # Time zones are read once each, and are a few hundred bytes.
            function.can_block_in("zoneinfo/_tzpath.py", "find_tzfile")
            function.can_block_in("zoneinfo/_common.py", ("load_tzdata", "load_data", "from_file"))
            # Where imports come late, the first one reads files.
            function.can_block_in("<frozen importlib._bootstrap>", "_find_and_load")
            # Nobody is served yet, or any more, while a hub opens and closes.
            function.can_block_in("gapless/app.py", "running_hub")
            function.can_block_in("gapless/servers/control.py", ("open", "close"))
            function.can_block_in("gapless/servers/http/door.py", "open")
        yield watch
