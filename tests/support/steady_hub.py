"""`gapless serve` with the steady provider beside the sample, in a process of its own.

`python -m support.steady_hub --db FILE --tcp HOST:PORT --http HOST:PORT --config FILE`. What it
has is made where it is asked for and takes no time to speak of, so that what a hub takes is its
own.
"""

from __future__ import annotations

import argparse
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

import uvloop

from gapless.app import RunningHub, running_hub, tune_malloc, tune_threads
from gapless.cli.serve import serve_until_signal
from gapless.config import Settings
from gapless.config.loading import load_settings
from gapless.observability import configure_logging
from support.providers import SteadyProvider

MINUTE_MS = 60_000


def minutes() -> SteadyProvider:
    """Return the provider: a record a minute."""
    return SteadyProvider(step=MINUTE_MS)


@asynccontextmanager
async def with_minutes(settings: Settings) -> AsyncIterator[RunningHub]:
    """Run a hub with one provider more."""
    async with running_hub(settings) as running:
        running.hub.registry.put(minutes())
        yield running


def main() -> None:
    """Run the hub until a signal ends it."""
    parser = argparse.ArgumentParser(description=__doc__)
    for flag in ("--db", "--tcp", "--http", "--config"):
        parser.add_argument(flag, required=True)
    asked = vars(parser.parse_args())
    settings, _ = load_settings(asked, {}, asked.pop("config"))
    configure_logging(settings.log.level, settings.log.format)
    tune_malloc()
    tune_threads()
    uvloop.run(serve_until_signal(settings, with_minutes))


if __name__ == "__main__":
    main()
