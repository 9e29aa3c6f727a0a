"""Commands as they are typed, run beside the loop, and a hub that they are about."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass
from pathlib import Path

import pytest

from gapless.app import RunningHub, running_hub
from gapless.cli import main
from gapless.cli.stage import session
from gapless.config import Settings, YahooSettings

LINE = "provider sample search ticker=IBM date=2010-01-01..2011-01-01"
RECORDS = 252


@dataclass(frozen=True, slots=True)
class Ran:
    """What became of a command."""

    code: int
    out: str
    err: str


class Commands:
    """Runs commands beside the loop, as another process would."""

    def __init__(self, capsys: pytest.CaptureFixture[str]) -> None:
        self._capsys = capsys

    async def __call__(self, *argv: str) -> Ran:
        self._capsys.readouterr()
        code = await asyncio.to_thread(main, list(argv))
        captured = self._capsys.readouterr()
        return Ran(code, captured.out, captured.err)


@asynccontextmanager
async def filled(path: Path) -> AsyncIterator[RunningHub]:
    """Run a hub that has fetched a year of a ticker."""
    settings = Settings(
        db=str(path), tcp="127.0.0.1:0", http="off", yahoo=YahooSettings(enabled=False)
    )
    async with running_hub(settings) as hub, session(hub.tcp) as client:
        await client.ask(LINE)
        yield hub
