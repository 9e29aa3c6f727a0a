r"""The tables of a CSV or Excel file, by its path: each sheet becomes an entity.

    gapless query 'provider spreadsheet search url=/data/positions.xlsx'
    gapless query 'provider spreadsheet report url=/data/positions.xlsx'
    gapless query 'provider spreadsheet get "/data/positions.xlsx#Sheet2"'

An entity's `data` has a sheet's rows, in their order, by the names in its first row; dates are
ISO 8601 texts, and cells that hold no number where one belongs are null. The file is read anew with
every search and report. What was read stays in the hub: `provider spreadsheet all` lists it, and
`get` with an entity's id returns it as it was.

Whoever may ask the hub may so read every CSV and Excel file that the hub's user can read, unless
SPREADSHEET_FOLDER in the hub's environment names a folder: then only what lies below it is read.
Excel files need `pip install fastexcel`. Load it into a running hub:

    curl -X POST http://127.0.0.1:7070/plugins/load -H 'Content-Type: application/json' \
      -d "{\"file\": \"$PWD/examples/providers/spreadsheet.py\"}"
"""

from __future__ import annotations

import json
import os
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import polars as pl

ENDINGS = (".csv", ".xlsx")
LARGEST = 100 << 20


class Refused(Exception):
    """The path leads to nothing that can be read; `reason` makes it one of the hub's errors."""

    reason = "upstream_rejected"


class Provider:
    """The entity contract, for files: a search or a report names one by its path."""

    def __init__(self) -> None:
        folder = os.environ.get("SPREADSHEET_FOLDER")
        self.folder = Path(folder).resolve() if folder else None

    def name(self) -> str:
        """Return the name that it is loaded under if no other is given."""
        return "spreadsheet"

    def fetch_entities(self, request: dict[str, Any]) -> list[dict[str, Any]]:
        """Return an entity for each sheet of the file that a request names."""
        ((kind, body),) = request.items()
        if kind == "GetReport":
            return self.read(body["url"])
        if kind == "GetEntity":
            return self.read(body["id"])[:1]
        if kind != "SearchEntities":
            return []
        asked = {key: value for one in body["query"] for key, value in one.items()}
        if "Ticker" in asked:
            raise Refused("a spreadsheet has no tickers; search with url=/path/to/file.xlsx")
        path = asked.get("ByUrl") or asked.get("ById")
        if path is None:
            raise Refused("which file? search with url=/path/to/file.xlsx")
        return self.read(path)

    def read(self, name: str) -> list[dict[str, Any]]:
        """Return the sheets of a file; `FILE#SHEET` is one of them."""
        path, sheet = self.find(name.removeprefix("spreadsheet:").removeprefix("file://"))
        found = tables(path)
        if sheet is not None and sheet not in found:
            raise Refused(f"{path} has no sheet {sheet!r}; it has: {', '.join(found)}")
        return [
            entity(path, title, frame)
            for title, frame in found.items()
            if sheet is None or title == sheet
        ]

    def find(self, name: str) -> tuple[Path, str | None]:
        """Return the file, and the sheet if one is named."""
        path, sheet = Path(name), None
        if not path.exists() and "#" in name:
            text, _, sheet = name.rpartition("#")
            path = Path(text)
        if not path.is_absolute():
            raise Refused(f"{name!r} is no full path; it should begin with /")
        path = path.resolve()
        if self.folder is not None and not path.is_relative_to(self.folder):
            raise Refused(f"{path} is not below {self.folder}, the only folder that is read")
        if path.is_dir():
            raise Refused(f"{path} is a directory; name one of its files")
        if path.suffix.lower() not in ENDINGS:
            raise Refused(f"{path} is no {' or '.join(ENDINGS)} file")
        if not path.is_file():
            raise Refused(f"there is no file {path}")
        size = path.stat().st_size
        if size > LARGEST:
            raise Refused(f"{path} has {size:,} bytes; only files up to {LARGEST:,} are read")
        return path, sheet


def tables(path: Path) -> dict[str, pl.DataFrame]:
    """Return the tables of a file by their sheets' names; that of a CSV file is its stem."""
    try:
        if path.suffix.lower() == ".xlsx":
            return pl.read_excel(path, sheet_id=0, raise_if_empty=False)
        if not path.stat().st_size:
            return {path.stem: pl.DataFrame()}
        return {path.stem: pl.read_csv(path, infer_schema_length=None)}
    except Exception as error:  # the Excel reader's errors have no common class
        line = (str(error).splitlines() or [type(error).__name__])[0]
        raise Refused(f"{path} cannot be read: {line}") from error


def entity(path: Path, sheet: str, frame: pl.DataFrame) -> dict[str, Any]:
    """Return a sheet as an entity, updated when its file was."""
    changed = datetime.fromtimestamp(path.stat().st_mtime, UTC)
    return {
        "id": f"spreadsheet:{path}#{sheet}",
        # `url=` finds an entity by the tag of that name.
        "tags": json.dumps([f"url={path}", f"sheet={sheet}", f"rows={len(frame)}"]),
        "data": frame.write_json(),
        "updated_at": changed.isoformat(),
    }
