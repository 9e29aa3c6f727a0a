"""Passwords and tokens, searched for where they must not be: after all tests have run.

Tokens give themselves away by their prefix, and all passwords of the tests by a word in them. In
databases, logs, errors and whatever else the tests leave in their folders there must be none.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from pathlib import Path
from typing import Final

from support.people import MARK, TOKEN_STARTS

_TOKEN: Final = re.compile(
    rb"(?:" + b"|".join(start.encode() for start in TOKEN_STARTS) + rb")[A-Za-z0-9_.-]{30,}"
)
_PASSWORD: Final = re.compile(MARK.encode() + rb"[ +][a-z]+")
# Profiles of browsers hold the cookie that the browser was given, and what was typed into it.
_NOT_OURS: Final = "browser"
_LARGEST: Final = 256 << 20


def secrets_in(data: bytes) -> Iterator[str]:
    """Yield what could be used by whoever finds it, cut short."""
    for pattern in (_TOKEN, _PASSWORD):
        for match in pattern.finditer(data):
            yield match[0][:24].decode() + "…"


class Search:
    """What was found so far, and where."""

    def __init__(self) -> None:
        self.found: list[str] = []
        self.files = 0

    def look(self, where: str, *texts: str) -> None:
        """Look through texts, such as what a test has logged."""
        for text in texts:
            self.found += [f"{where}: {one}" for one in secrets_in(text.encode("utf-8", "replace"))]

    def look_through(self, folder: Path) -> None:
        """Look through all files under a folder."""
        for path in folder.rglob("*"):
            if _NOT_OURS in path.parts or not path.is_file() or path.is_symlink():
                continue
            try:
                if path.stat().st_size > _LARGEST:
                    continue
                data = path.read_bytes()
            except OSError:
                continue
            self.files += 1
            self.found += [f"{path}: {one}" for one in secrets_in(data)]
