"""The command line as tests type at it."""

from __future__ import annotations

import os
from collections.abc import Iterator
from pathlib import Path

import pytest
from structlog.testing import capture_logs

from support.command_line import Commands


@pytest.fixture
def gapless(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> Iterator[Commands]:
    """Yield what runs commands, with no settings but their flags; hubs' logs go elsewhere."""
    for name in [*os.environ]:
        if name.startswith("GAPLESS_") or name.lower().endswith("_proxy"):
            monkeypatch.delenv(name)
    monkeypatch.setenv("XDG_DATA_HOME", str(tmp_path / "data"))
    with capture_logs():
        yield Commands(capsys)
