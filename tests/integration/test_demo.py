"""`gapless demo` as people run it, and that it tells when what it shows does not hold."""

from __future__ import annotations

import io
import os
import subprocess
import sys
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import replace

import pytest

from gapless.app import RunningHub, running_hub
from gapless.cli.demo import stay_off_proxies
from gapless.cli.stage import DemoClock, OpenHub
from gapless.cli.tour import EX_DATE, RATIO, SYMBOL, perform
from gapless.clock import Clock
from gapless.config import SampleSettings, Settings
from gapless.shell.wording import console_on
from gapless.simulator.happenings import Restatement, Split
from gapless.simulator.instruments import equity
from gapless.simulator.market import Market
from support.wire import PATIENCE_S

STEPS = 12


def run(**environ: str) -> subprocess.CompletedProcess[str]:
    """Run the demo in a process of its own, its output piped."""
    return subprocess.run(
        [sys.executable, "-m", "gapless", "demo"],
        env={**os.environ, **environ},
        capture_output=True,
        encoding="utf-8",
        timeout=PATIENCE_S,
        check=False,
    )


@pytest.mark.slow
def test_the_demo_holds() -> None:
    """Every step is ticked, nothing is coloured, nothing is logged, and the exit code is 0."""
    ran = run(PYTHONIOENCODING="utf-8")
    assert ran.returncode == 0, ran.stdout + ran.stderr
    assert ran.stderr == ""
    assert "\x1b" not in ran.stdout
    assert "✗" not in ran.stdout
    assert f"{STEPS} of {STEPS} steps held" in ran.stdout
    assert "20 answers of 1,009 records · 1 upstream request in all" in ran.stdout
    assert "$ gapless query provider sample search ticker=AAPL" in ran.stdout
    assert all(len(line) <= 80 for line in ran.stdout.splitlines())


@pytest.mark.slow
def test_the_demo_needs_neither_unicode_nor_a_direct_way_out() -> None:
    """It is plain where the terminal is, and a proxy of the environment is left alone."""
    nowhere = "http://127.0.0.1:9"
    ran = run(PYTHONIOENCODING="ascii", http_proxy=nowhere, ALL_PROXY=nowhere)
    assert ran.returncode == 0, ran.stdout + ran.stderr
    assert ran.stdout.isascii()


async def played(market: Market | None = None, open_hub: OpenHub = running_hub) -> tuple[bool, str]:
    """Play the tour; return whether it held, and what was seen."""
    stream = io.StringIO()
    held = await perform(console_on(stream), True, open_hub, market)
    return held, stream.getvalue()


@pytest.mark.slow
async def test_a_split_that_does_not_happen_fails_the_demo() -> None:
    """Where upstream does not rewrite its past, what is shown of it is crossed out."""
    held, seen = await played(Market([equity(SYMBOL)]))
    assert not held
    assert "✗ the one request for the gap took the past along" in seen
    assert f"{STEPS - 1} of {STEPS} steps held" in seen
    assert "What did not hold: step 8" in seen


async def test_a_stitched_answer_that_is_not_whole_fails_the_demo() -> None:
    """A revision that no rule lets the hub notice makes it differ from a fresh fetch: told."""
    market = Market([equity(SYMBOL)])
    market.add(Split(SYMBOL, EX_DATE, RATIO))
    unseen = Restatement(SYMBOL, EX_DATE.replace(month=3, day=3), 0.0, close=1.5)

    @asynccontextmanager
    async def forgetful(
        settings: Settings, *, clock: Clock | None = None
    ) -> AsyncIterator[RunningHub]:
        if settings.db.endswith("fresh.db"):
            market.add(unseen)
        async with running_hub(settings, clock=clock) as hub:
            yield hub

    held, seen = await played(market, forgetful)
    assert not held
    assert "✗ equal, record for record" in seen


async def test_a_provider_that_is_not_there_ends_the_demo() -> None:
    """An error instead of an answer is shown, and nothing is claimed after it."""

    @asynccontextmanager
    async def without_sample(
        settings: Settings, *, clock: Clock | None = None
    ) -> AsyncIterator[RunningHub]:
        async with running_hub(
            replace(settings, sample=SampleSettings(enabled=False)), clock=clock
        ) as hub:
            yield hub

    held, seen = await played(open_hub=without_sample)
    assert not held
    assert "✗ the tour ends here" in seen
    assert "0 of 1 step held" in seen


def test_the_demo_clock_leaps_and_goes_on() -> None:
    """A leap moves both clocks ahead by as much, and neither ever goes back."""
    clock = DemoClock(1_000_000)
    before, monotonic = clock.now_ms(), clock.monotonic()
    assert 1_000_000 <= before < 1_060_000
    clock.leap_to(100_000_000)
    assert 100_000_000 <= clock.now_ms() < 100_060_000
    assert clock.monotonic() - monotonic >= 98_000
    assert clock.now_s() == pytest.approx(clock.now_ms() / 1000, abs=1)


def test_proxies_are_kept_off_this_machine(monkeypatch: pytest.MonkeyPatch) -> None:
    """What was excepted from a proxy before still is."""
    monkeypatch.setenv("no_proxy", "example.com")
    monkeypatch.delenv("NO_PROXY", raising=False)
    stay_off_proxies()
    assert os.environ["no_proxy"] == "example.com,127.0.0.1"
    assert os.environ["NO_PROXY"] == "127.0.0.1"
    monkeypatch.delenv("NO_PROXY")
