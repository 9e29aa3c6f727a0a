"""Programs of the system that some tests need."""

from __future__ import annotations

import os
import shutil

import pytest


def program(name: str, package: str) -> str:
    """Return the path of a program; where it is absent, skip, saying how to get it.

    In CI everything is installed, so that there it is a failure.
    """
    found = shutil.which(name)
    if found is not None:
        return found
    why = f"{name} is not installed; get it with: apt-get install {package}"
    if os.environ.get("CI"):
        pytest.fail(why)
    pytest.skip(why)
