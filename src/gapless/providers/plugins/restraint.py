"""What a process gives up before its plugin is loaded: priority, memory, outliving the hub.

Apart because it is about the system and nothing else.
"""

from __future__ import annotations

import errno
import os
import resource
import sys
from contextlib import suppress
from pathlib import Path

from gapless.providers.plugins.messages import Launch

_NICE = 10
_PR_SET_PDEATHSIG, _SIGKILL = 1, 9


def restrain(launch: Launch) -> bool:
    """Stand back behind the hub: in priority, in memory, and in how long to live.

    Returns whether the priority is as low as it should be.
    """
    with suppress(OSError):
        os.nice(_NICE)
    with suppress(OSError, ValueError):
        resource.setrlimit(resource.RLIMIT_AS, (launch.memory_bytes, launch.memory_bytes))
    with suppress(OSError, ValueError):
        resource.setrlimit(resource.RLIMIT_CORE, (0, 0))
    if not sys.platform.startswith("linux"):
        return True
    with suppress(OSError):
        Path("/proc/self/oom_score_adj").write_text("500", "ascii")
    import ctypes

    with suppress(AttributeError, OSError):
        # A hub that is killed takes its plugins along, even those that spin.
        ctypes.CDLL(None).prctl(_PR_SET_PDEATHSIG, _SIGKILL, 0, 0, 0)
    if os.getppid() != launch.parent:
        os._exit(0)
    return stand_back()


def stand_back() -> bool:
    """Give the process's session a low priority, too; return whether that is done.

    A session of its own is a scheduling group of its own on most Linux systems, within which alone
    a process's priority counts. Only a few such changes a second are allowed, so that it may have
    to be tried again.
    """
    try:
        Path("/proc/self/autogroup").write_text(str(_NICE), "ascii")
    except OSError as error:
        return error.errno != errno.EAGAIN
    return True
