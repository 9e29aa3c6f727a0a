"""The floors of the house, as `docs/architecture.md` draws them, against the imports there are."""

from __future__ import annotations

import ast
import subprocess
import sys
import tomllib
from pathlib import Path

import pytest

from support.wire import PATIENCE_S

ROOT = Path(__file__).parents[2]
SOURCE = ROOT / "src" / "gapless"
MODULES = sorted(SOURCE.rglob("*.py"))


def rooms() -> set[str]:
    """Return the modules and packages directly under gapless."""
    return {path.stem for path in SOURCE.glob("*.py")} | {
        path.parent.name for path in SOURCE.glob("*/__init__.py")
    }


def loaded_by(module: str) -> set[str]:
    """Return the names of all modules that a fresh interpreter has after importing one."""
    code = f"import sys, {module}; print(*sys.modules)"
    done = subprocess.run(
        [sys.executable, "-c", code], capture_output=True, text=True, check=True, timeout=PATIENCE_S
    )
    return set(done.stdout.split())


def test_the_contracts_are_kept() -> None:
    """Imports point down only, and what must stay pure is pure."""
    command = Path(sys.executable).with_name("lint-imports")
    done = subprocess.run(
        [command, "--no-logo", "--no-cache"],
        cwd=ROOT,
        capture_output=True,
        text=True,
        check=False,
        timeout=PATIENCE_S,
    )
    assert done.returncode == 0, done.stdout + done.stderr


def test_the_picture_shows_every_room() -> None:
    """The page names each room in its table, and no floor has a room that it does not name."""
    page = (ROOT / "docs" / "architecture.md").read_text("utf-8")
    for room in rooms() - {"__init__", "__main__"}:
        assert f"| `{room}` |" in page or f"| `{room}.py` |" in page, room


def test_every_room_that_exists_is_on_a_floor() -> None:
    """The contract names each room once."""
    config = tomllib.loads((ROOT / "pyproject.toml").read_text("utf-8"))
    floors = config["tool"]["importlinter"]["contracts"][0]["layers"]
    named = [room.strip(" ()") for floor in floors for room in floor.split("|")]
    assert len(named) == len(set(named))
    assert rooms() - {"__init__"} <= set(named)


@pytest.mark.parametrize("module", ["gapless.protocol.language", "gapless.domain.planning"])
def test_what_is_pure_brings_no_machinery(module: str) -> None:
    """The protocol and the domain can be used without a loop, a socket or a database."""
    assert not loaded_by(module) & {"asyncio", "socket", "sqlalchemy", "sqlite3", "uvloop"}


def test_a_client_is_light() -> None:
    """A program that only asks a hub loads none of what a hub is made of."""
    heavy = {"asyncio", "polars", "sqlalchemy", "curl_cffi", "structlog", "gapless.hub"}
    assert not loaded_by("gapless.client.connection") & heavy


@pytest.mark.parametrize("path", MODULES, ids=lambda path: str(path.relative_to(SOURCE)))
def test_every_module_says_what_it_is_for(path: Path) -> None:
    """Each opens with a docstring."""
    assert ast.get_docstring(ast.parse(path.read_text("utf-8"))), f"{path} has no docstring"
