"""`gapless demo`: a tour of what stitching means, on servers of its own, without network."""

from __future__ import annotations

import io
import os
import sys

from cyclopts import App

from gapless.observability import configure_logging
from gapless.shell.wording import console_on, takes_blocks

_LOG_LINES = 15


def register(app: App) -> None:
    """Add `demo` to the command line."""
    app.command(demo)


def demo() -> int:
    """Take a tour: see what is fetched, what is not, and that the answers are right.

    It runs hubs of its own on free ports, on a database that it throws away, with the bundled
    sample data and a simulated Yahoo Finance; nothing of yours is touched, and no network is
    used. It takes some seconds, and exits 1 if anything it shows did not hold.
    """
    import uvloop

    from gapless.app import running_hub
    from gapless.cli.tour import perform

    log = io.StringIO()
    configure_logging("info", "text", log)
    stay_off_proxies()
    blocks = takes_blocks(sys.stdout)
    held = uvloop.run(perform(console_on(sys.stdout), blocks, running_hub))
    if not held:
        print("\nthe end of the hubs' log:", file=sys.stderr)
        for line in log.getvalue().splitlines()[-_LOG_LINES:]:
            print(f"  {line}", file=sys.stderr)
    return 0 if held else 1


def stay_off_proxies() -> None:
    """Keep requests to the simulated upstream from going to a proxy of the environment."""
    for name in ("no_proxy", "NO_PROXY"):
        there = os.environ.get(name)
        os.environ[name] = f"{there},127.0.0.1" if there else "127.0.0.1"
