"""The command line: arguments to settings to work, errors to one sentence and an exit code."""

from __future__ import annotations

import math
import os
import sys
from collections.abc import Sequence
from typing import TYPE_CHECKING

from gapless import __version__
from gapless.cli.exits import Exit, exit_code
from gapless.errors import GaplessError, UpstreamUnavailable
from gapless.texts import masked, printable

if TYPE_CHECKING:
    from cyclopts import App, CycloptsError

__all__ = ["build_app", "main"]

_HELP = """\
A data provider hub: answers from what it holds and fetches only the gaps.

Start a hub with "gapless serve", then ask it, for example with
"gapless query 'provider sample search ticker=AAPL date=2010-01-01..2011-01-01'".

Exit codes: 0 done, 1 failure, 2 usage, 69 unreachable, 75 rate-limited, 77 denied,
78 configuration, 130 interrupted.
"""


def build_app() -> App:
    """Return the parser with every command; each room registers its own."""
    from cyclopts import App

    from gapless.cli import (
        accounts,
        cache,
        coverage,
        db,
        demo,
        doctor,
        query,
        refresh,
        serve,
        settings,
        shell,
    )

    app = App(
        name="gapless",
        help=_HELP,
        help_format="markdown",
        version=f"gapless {__version__}",
        version_flags=["--version", "-V"],
        result_action="return_value",
        exit_on_error=False,
        print_error=False,
        suppress_keyboard_interrupt=False,
    )
    serve.register(app)
    query.register(app)
    refresh.register(app)
    shell.register(app)
    coverage.register(app)
    cache.register(app)
    accounts.register(app)
    db.register(app)
    settings.register(app)
    doctor.register(app)
    demo.register(app)
    app.command(_version, name="version")
    return app


def main(argv: Sequence[str] | None = None) -> int:
    """Run one command and return its exit code; `argv` is without the program's name.

    What gapless can name ends in one sentence on stderr; only a fault of ours shows a traceback.
    """
    try:
        return _run(sys.argv[1:] if argv is None else list(argv))
    except KeyboardInterrupt:
        # The terminal has echoed `^C`; the prompt goes below it.
        print(file=sys.stderr)
        return Exit.INTERRUPTED


def _run(argv: list[str]) -> int:
    from cyclopts import CycloptsError

    try:
        result = build_app()(argv)
        sys.stdout.flush()
    except CycloptsError as error:
        print(f"gapless: {_misuse(error)}", file=sys.stderr)
        return Exit.USAGE
    except GaplessError as error:
        # A message may point at a word in a line below it.
        lines = masked(error.message).split("\n")
        print("gapless: " + "\n".join(map(printable, lines)), file=sys.stderr)
        if error.retry_after_s is not None:
            seconds = math.ceil(error.retry_after_s)
            print(f"gapless: try again in {seconds} s", file=sys.stderr)
        if error.reason == UpstreamUnavailable.default_reason:
            print("to look into it: gapless doctor", file=sys.stderr)
        return exit_code(error)
    except BrokenPipeError:
        # Whoever read stdout has left; Python would complain again when it flushes at exit.
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return Exit.FAILURE
    return result if isinstance(result, int) else Exit.OK


def _misuse(error: CycloptsError) -> str:
    """Return what the parser complains of, and where the help for that command is."""
    from cyclopts import UnusedCliTokensError

    command = " ".join(["gapless", *(error.command_chain or ())])
    if isinstance(error, UnusedCliTokensError) and error.unused_tokens:
        noun = "argument" if len(error.unused_tokens) == 1 else "arguments"
        tokens = ", ".join(f"'{printable(token)}'" for token in error.unused_tokens)
        return f"{command} takes no {noun} {tokens}; see: {command} --help"
    return f"{printable(str(error))}\ntry: {command} --help"


def _version() -> None:
    """Print the version."""
    print(f"gapless {__version__}")
