"""An empty store of each kind, for what every store does."""

from __future__ import annotations

import asyncio
import shutil
from collections.abc import AsyncIterator
from pathlib import Path

import pytest

from gapless.store.base import Store
from support.stores import KINDS, Open, opened


@pytest.fixture(params=list(KINDS), scope="session")
def make(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Open:
    """Return what opens an empty store in a folder: a copy of one that was made once."""
    factory = KINDS[request.param]
    template = tmp_path_factory.mktemp("template") / "hub.db"

    async def prepare() -> None:
        await factory(template).close()

    asyncio.run(prepare())

    def copy(folder: Path) -> Store:
        path = folder / "hub.db"
        shutil.copyfile(template, path)
        return factory(path)

    return copy


@pytest.fixture
async def store(make: Open, tmp_path: Path) -> AsyncIterator[Store]:
    """Return an empty store."""
    async with opened(make, tmp_path) as one:
        yield one
