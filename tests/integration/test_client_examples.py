"""The example programs that ask a hub run as they are, before a real one."""

from __future__ import annotations

import asyncio
import sys
from pathlib import Path

import pytest

from support.commands import environment, hub
from support.wire import PATIENCE_S

FOLDER = Path(__file__).parents[2] / "examples" / "client"
EXPECTED = {
    "history.py": "252 records; upstream requests: 1",
    "many.py": "1.322116",
    "loop.py": "2012 250 ready",
    "older.py": "True sample:MSFT:2012-01-01T00:00:00Z..2012-02-01T00:00:00Z",
}


def test_every_example_is_run() -> None:
    """None is left out below."""
    assert {path.name for path in FOLDER.glob("*.py")} == set(EXPECTED)


@pytest.mark.share(1)
@pytest.mark.parametrize("name", EXPECTED)
async def test_an_example(tmp_path: Path, name: str) -> None:
    """It ends well and prints what it should."""
    async with hub(tmp_path / "a.db") as running:
        process = await asyncio.create_subprocess_exec(
            *(sys.executable, "-W", "error", str(FOLDER / name)),
            stdout=asyncio.subprocess.PIPE,
            stderr=asyncio.subprocess.PIPE,
            env=environment(GAPLESS_URL=running.tcp),
        )
        async with asyncio.timeout(PATIENCE_S):
            out, err = await process.communicate()
        assert process.returncode == 0, err.decode()
        assert EXPECTED[name] in out.decode()
