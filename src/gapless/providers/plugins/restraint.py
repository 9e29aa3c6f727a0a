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
    with suppress(OSError, ValueError):
        resource.setrlimit(resource.RLIMIT_AS, (launch.memory_bytes, launch.memory_bytes))
    with suppress(OSError, ValueError):
        resource.setrlimit(resource.RLIMIT_CORE, (0, 0))
    if not sys.platform.startswith("linux"):
        return stand_back()
    with suppress(OSError):
        Path("/proc/self/oom_score_adj").write_text("500", "ascii")
    import ctypes

    with suppress(AttributeError, OSError):
        # A hub that is killed takes its plugins along, even those that spin.
        ctypes.CDLL(None).prctl(_PR_SET_PDEATHSIG, _SIGKILL, 0, 0, 0)
    if os.getppid() != launch.parent:
        os._exit(0)
    return stand_back()


def stand_back(pid: int = 0) -> bool:
    """Give a process (0: this one) and its session a low priority; return whether that is done.

    The hub does so as soon as the process is there, the process itself where that was refused. A
    session of its own is a scheduling group of its own on most Linux systems, within which alone
    a process's priority counts. Only a few such changes a second are allowed, so that it may have
    to be tried again.
    """
    with suppress(OSError):
        os.setpriority(os.PRIO_PROCESS, pid, _NICE)
    if not sys.platform.startswith("linux"):
        return True
    try:
        Path("/proc", str(pid or "self"), "autogroup").write_text(str(_NICE), "ascii")
    except OSError as error:
        return error.errno != errno.EAGAIN
    return True
