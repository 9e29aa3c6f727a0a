"""The faults of `make mutants`: each still has the one place in the sources that it is put into."""

from __future__ import annotations

import tomllib
from pathlib import Path
from typing import Any

import pytest

import gapless

SOURCES = Path(gapless.__file__).parent
TESTS = Path(__file__).parents[1]
MUTANTS = tomllib.loads((TESTS / "mutants.toml").read_text())["mutant"]


@pytest.mark.parametrize("mutant", MUTANTS, ids=lambda one: one["name"])
def test_a_fault_has_its_place(mutant: dict[str, Any]) -> None:
    """What it replaces is there once, and so are the tests that are to catch it."""
    assert (SOURCES / mutant["file"]).read_text().count(mutant["old"]) == 1
    assert mutant["new"] != mutant["old"]
    for name in mutant["tests"].split():
        if not name.startswith("-"):
            assert (TESTS.parent / name.partition("::")[0]).exists()
