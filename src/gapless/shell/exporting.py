"""A result into a file, whole or not at all."""

from __future__ import annotations

import io
import os
import shutil
from pathlib import Path

import msgspec

from gapless.client.results import Result
from gapless.errors import GaplessError, InvalidQuery
from gapless.texts import printable

SUFFIXES = (".csv", ".json", ".ndjson", ".arrow", ".parquet")


def export(result: Result, path: Path) -> int:
    """Write the records to a file in the format of its ending; return how many there are.

    Raises `InvalidQuery` for an ending that is none of them, and `GaplessError` where the file
    cannot be written; what was there before then stays.
    """
    content = _content(result, path.suffix.lower())
    part = path.with_name(f".{path.name}.{os.getpid()}.part")
    try:
        try:
            part.write_bytes(content)
            if path.exists():
                shutil.copymode(path, part)
            part.replace(path)
        finally:
            part.unlink(missing_ok=True)
    except ValueError as error:
        raise InvalidQuery(f"{printable(str(path))} is no name of a file: {error}") from error
    except OSError as error:
        raise GaplessError(f"{printable(str(path))} cannot be written: {error.strerror}") from error
    return len(result)


def _content(result: Result, suffix: str) -> bytes:
    import polars as pl

    buffer = io.BytesIO()
    match suffix:
        case ".json":
            return msgspec.json.encode(result.records) + b"\n"
        case ".ndjson":
            return msgspec.json.Encoder().encode_lines(result.records)
        case ".csv":
            result.to_polars().write_csv(buffer)
        case ".parquet":
            result.to_polars().write_parquet(buffer)
        case ".arrow":
            # The oldest flavour is what every reader takes.
            result.to_polars().write_ipc_stream(buffer, compat_level=pl.CompatLevel.oldest())
        case _:
            raise InvalidQuery(
                f"which format is {suffix or 'that'}? Endings: {', '.join(SUFFIXES)}"
            )
    return buffer.getvalue()
