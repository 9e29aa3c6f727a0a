"""The command line: arguments to settings to work, errors to one sentence and an exit code."""

from __future__ import annotations

import os
import sys
from collections.abc import Sequence
from typing import TYPE_CHECKING

from gapless import __version__
from gapless.cli.exits import Exit, exit_code
from gapless.errors import GaplessError
from gapless.observability import masked, printable

if TYPE_CHECKING:
    from cyclopts import App

__all__ = ["build_app", "main"]

_HELP = """\
A data provider hub: answers from what it holds and fetches only the gaps.

Start a hub with "gapless serve", then ask it, for example with
"gapless query 'provider sample search ticker=AAPL date=30d'".

Exit codes: 0 done, 1 failure, 2 usage, 69 unreachable, 75 rate-limited, 77 denied,
78 configuration.
"""


def build_app() -> App:
    """Return the parser with every command; each room registers its own."""
    from cyclopts import App

    from gapless.cli import cache, coverage, db, demo, doctor, query, serve, settings

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
    coverage.register(app)
    cache.register(app)
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
    from cyclopts import CycloptsError

    try:
        result = build_app()(sys.argv[1:] if argv is None else list(argv))
        sys.stdout.flush()
    except CycloptsError as error:
        print(f"gapless: {printable(str(error))}\ntry: gapless --help", file=sys.stderr)
        return Exit.USAGE
    except GaplessError as error:
        # A message may point at a word in a line below it.
        lines = masked(error.message).split("\n")
        print("gapless: " + "\n".join(map(printable, lines)), file=sys.stderr)
        if error.retry_after_s is not None:
            print(f"gapless: try again in {error.retry_after_s:g} s", file=sys.stderr)
        return exit_code(error)
    except KeyboardInterrupt:
        return Exit.INTERRUPTED
    except BrokenPipeError:
        # Whoever read stdout has left; Python would complain again when it flushes at exit.
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return Exit.FAILURE
    return result if isinstance(result, int) else Exit.OK


def _version() -> None:
    """Print the version."""
    print(f"gapless {__version__}")
