"""Exit codes: how a script learns what became of a command, after BSD's sysexits."""

from __future__ import annotations

from enum import IntEnum

from gapless.client.failures import Unreachable
from gapless.errors import (
    ConfigError,
    Conflict,
    Forbidden,
    GaplessError,
    InvalidQuery,
    MissingToken,
    Overloaded,
    ProviderError,
    RateLimited,
    Unauthorized,
)


class Exit(IntEnum):
    """What the process says when it ends."""

    OK = 0
    FAILURE = 1
    USAGE = 2
    UNREACHABLE = 69
    RATE_LIMITED = 75
    DENIED = 77
    CONFIG = 78
    INTERRUPTED = 130


class UsageError(GaplessError):
    """The command line asks for what makes no sense; the parser cannot know."""


_CODES: tuple[tuple[type[GaplessError], Exit], ...] = (
    (UsageError, Exit.USAGE),
    # A kind of the next one, though what was typed makes sense.
    (Conflict, Exit.FAILURE),
    (InvalidQuery, Exit.USAGE),
    (Unreachable, Exit.UNREACHABLE),
    (RateLimited, Exit.RATE_LIMITED),
    (Overloaded, Exit.RATE_LIMITED),
    (MissingToken, Exit.DENIED),
    (Unauthorized, Exit.DENIED),
    (Forbidden, Exit.DENIED),
    (ConfigError, Exit.CONFIG),
)


def exit_code(error: GaplessError) -> Exit:
    """Return the exit code for an error."""
    if isinstance(error, ProviderError) and error.reason == Forbidden.code:
        # All of it was asked for, and what is missing of it may not be fetched.
        return Exit.DENIED
    for kind, code in _CODES:
        if isinstance(error, kind):
            return code
    return Exit.FAILURE
