"""Answers of upstream as files that tests can read: scrubbed of who asked, numbered, one each.

A file is `{"request": {"url"}, "response": {"status", "headers", "bodyJson"}}`; a body that is no
chart's JSON is a text, `body`.
"""

from __future__ import annotations

import os
import re
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, Final

import msgspec

from gapless.errors import GaplessError
from gapless.providers.yahoo_evidence import Seen, decoded
from gapless.texts import printable

# What the answer is about; all others may tell who asked, from where, or by which way.
_KEPT_HEADERS: Final = ("age", "cache-control", "content-type", "date", "retry-after")
_ADDRESS: Final = re.compile(
    r"\b(?:\d{1,3}\.){3}\d{1,3}\b"
    r"|(?<![\w:])(?:[0-9A-Fa-f]{1,4}:){3,7}[0-9A-Fa-f]{1,4}\b"
    r"|(?<![\w:])(?:[0-9A-Fa-f]{1,4}:){1,6}:(?:[0-9A-Fa-f]{1,4}:?){0,6}"
)
_NUMBERED: Final = re.compile(r"(\d+)_.*\.json")


class Recordings:
    """A folder of recorded answers; it is made where it is not there."""

    def __init__(self, folder: Path) -> None:
        """Raise `GaplessError` where there can be no such folder."""
        self.folder = folder
        try:
            folder.mkdir(parents=True, exist_ok=True)
            numbers = (_NUMBERED.fullmatch(path.name) for path in folder.iterdir())
            self._next = 1 + max((int(found[1]) for found in numbers if found), default=0)
        except OSError as error:
            raise _unwritable(folder, error) from error

    def keep(self, target: str, seen: Seen) -> Path:
        """Write the answer to a request for `target` to a file of its own; return its path."""
        asked = seen.question
        when = datetime.fromtimestamp(seen.at_s, UTC)
        name = f"{asked.ticker}_{asked.interval}_{asked.name}_rec{when:%Y-%m}.json"
        path = self.folder / f"{self._next:02d}_{name}"
        part = path.with_name(f".{path.name}.{os.getpid()}.part")
        try:
            try:
                part.write_bytes(recording(target, seen))
                part.replace(path)
            finally:
                part.unlink(missing_ok=True)
        except OSError as error:
            raise _unwritable(path, error) from error
        self._next += 1
        return path


def recording(target: str, seen: Seen) -> bytes:
    """Return an answer as it is recorded; `target` is path and query of the request."""
    response: dict[str, Any] = {
        "status": seen.status,
        "headers": {name: seen.headers[name] for name in _KEPT_HEADERS if name in seen.headers},
    }
    document = decoded(seen)
    if isinstance(document, dict) and document.keys() <= {"chart", "finance"}:
        response["bodyJson"] = msgspec.Raw(seen.body)
    else:
        # Pages that are shown to programs often say to whom.
        response["body"] = _ADDRESS.sub("ADDRESS", seen.body.decode("utf-8", "replace"))
    return msgspec.json.encode({"request": {"url": target}, "response": response})


def _unwritable(path: Path, error: OSError) -> GaplessError:
    return GaplessError(f"{printable(str(path))} cannot be written: {error.strerror}")
