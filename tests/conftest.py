"""What all tests share: the loop they run on, how hard properties are tried, a watch on the loop.

Helpers that only some tests need are in `support`, imported by name.
"""

from __future__ import annotations

import os
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from blockbuster import BlockBuster, blockbuster_ctx
from hypothesis import settings

TESTS = Path(__file__).parent
BY_FOLDER = {"property": "property", "soak": "soak", "faults": "faults"}

# A slow machine is no reason to fail; a failure prints what repeats it.
settings.register_profile("quick", deadline=None, print_blob=True)
settings.register_profile("soak", settings.get_profile("quick"), max_examples=5_000)
settings.load_profile(os.environ.get("HYPOTHESIS_PROFILE", "quick"))


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Mark tests by the folder they are in."""
    for item in items:
        folder = item.path.relative_to(TESTS).parts[0]
        if folder in BY_FOLDER:
            item.add_marker(BY_FOLDER[folder])


@pytest.fixture(scope="session")
def anyio_backend() -> tuple[str, dict[str, Any]]:
    """Run async tests as the hub runs: asyncio on uvloop."""
    return "asyncio", {"use_uvloop": True}


@pytest.fixture(autouse=True)
def unblocked_loop() -> Iterator[BlockBuster]:
    """Fail where gapless blocks the event loop: by I/O, a lock, a sleep."""
    with blockbuster_ctx(scanned_modules=["gapless"]) as watch:
        yield watch
