"""Put faults into the sources, one at a time, and see whether a test catches each.

    make mutants                          # each against the tests that are named beside it
    make mutants ARGS="--oracle 200"      # each against so many histories of the lively upstream
    make mutants ARGS="--only doubt"      # those with this word in their names

Apart from the tests because it changes what they import: it works in a copy of the project. It
ends with 1 if a fault is caught by none.
"""

from __future__ import annotations

import argparse
import os
import shutil
import subprocess
import sys
import tempfile
import tomllib
from dataclasses import dataclass
from pathlib import Path

ROOT = Path(__file__).parents[1]
LIVELY = "tests/property/test_lively_upstream.py"
SEED = "1"


@dataclass(frozen=True, slots=True)
class Mutant:
    """A fault: in `file` of the package `old` is replaced by `new`; `tests` are to catch it."""

    name: str
    file: str
    old: str
    new: str
    tests: str


def main() -> int:
    """Run the mutants that are wanted, and say of each what caught it."""
    parser = argparse.ArgumentParser(description="put faults into the sources, one at a time")
    parser.add_argument("--oracle", type=int, metavar="N", help="histories to play instead")
    parser.add_argument("--only", default="", metavar="WORD", help="those with it in their names")
    args = parser.parse_args()
    table = tomllib.loads((ROOT / "tests/mutants.toml").read_text())
    mutants = [Mutant(**one) for one in table["mutant"] if args.only in one["name"]]
    if not mutants:
        parser.error(f"none has {args.only!r} in its name")
    with tempfile.TemporaryDirectory() as folder:
        copy = Path(folder) / "gapless"
        made = shutil.ignore_patterns(".git", ".venv", "__pycache__", ".hypothesis", "out")
        shutil.copytree(ROOT, copy, ignore=made)
        missed = [one for one in mutants if not caught(one, copy, args.oracle)]
    print(f"{len(mutants) - len(missed)} of {len(mutants)} are caught")
    return 1 if missed else 0


def caught(mutant: Mutant, copy: Path, histories: int | None) -> bool:
    """Return whether a test fails with a fault in the copy; and print which."""
    path = copy / "src/gapless" / mutant.file
    text = path.read_text()
    if text.count(mutant.old) != 1:
        print(f"{mutant.name}: stands {text.count(mutant.old)} times in {mutant.file}", flush=True)
        return False
    path.write_text(text.replace(mutant.old, mutant.new))
    paths = f"{copy / 'src'}{os.pathsep}{copy / 'tests'}"
    environment = {**os.environ, "PYTHONPATH": paths, "HYPOTHESIS_PROFILE": "quick"}
    tests = mutant.tests.split()
    if histories is not None:
        environment |= {"LIVING_SEQUENCES": str(histories), "HYPOTHESIS_PROFILE": "soak"}
        tests = [LIVELY, f"--hypothesis-seed={SEED}", "-m", "soak"]
    command = [
        sys.executable,
        "-m",
        "pytest",
        "-x",
        "-q",
        "--timeout=60",
        "-p",
        "no:cacheprovider",
        *tests,
    ]
    done = subprocess.run(
        command, cwd=copy, env=environment, capture_output=True, text=True, check=False
    )
    path.write_text(text)
    failed = [line for line in done.stdout.splitlines() if line.startswith(("FAILED", "ERROR"))]
    if done.returncode == 1:
        by = failed[0].split(" - ")[0].split("::")[-1] if failed else "a test that hung"
    elif done.returncode == 0:
        by = f"nothing in {' '.join(tests)}"
    else:
        by = f"the tests could not be run: {done.stderr.strip()}"
    print(f"{mutant.name}: {by}", flush=True)
    return done.returncode == 1


if __name__ == "__main__":
    sys.exit(main())
