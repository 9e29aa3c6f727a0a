"""Records as data frames: one shape, whether they came as JSON over TCP or as Arrow over HTTP.

polars does the work; pandas and pyarrow are only looked for where somebody wants theirs.
"""

from __future__ import annotations

import io
from collections.abc import Iterable, Sequence
from typing import TYPE_CHECKING, Any

import msgspec

from gapless.client.failures import MissingDependency, UnexpectedAnswer
from gapless.protocol.columns import DATE, Schema, frame_of_text

if TYPE_CHECKING:
    import polars as pl

_MICROSECONDS = 1_000_000
# The years from 1 to 9999, in Unix seconds.
_SAYABLE = (-62_135_596_800, 253_402_300_799)


def from_text(text: bytes, dates: str | None = None) -> pl.DataFrame:
    """Return a JSON array of records as a frame; raise `UnexpectedAnswer` for another one.

    `dates` is the time zone in which they have dates; `None`: they have none.
    """
    text = text.strip()
    if not (text.startswith(b"[") and text.endswith(b"]")):
        raise UnexpectedAnswer("these are no records: they are no array")
    try:
        return frame_of_text(text[1:-1], known=Schema(dates=dates))
    except (msgspec.DecodeError, UnicodeDecodeError) as error:
        raise UnexpectedAnswer(f"these are no records: {error}") from error


def from_streams(bodies: Sequence[bytes]) -> pl.DataFrame:
    """Return Arrow streams that follow one another as one frame."""
    import polars as pl

    try:
        frames = [pl.read_ipc_stream(io.BytesIO(body)) for body in bodies]
        _check_kinds(frames)
        return together(frames)
    except (pl.exceptions.PolarsError, OSError, ValueError) as error:
        raise UnexpectedAnswer(f"the records over HTTP are no Arrow stream: {error}") from error


def _check_kinds(pages: Sequence[pl.DataFrame]) -> None:
    """Raise `UnexpectedAnswer` where pages have values of kinds that do not go together.

    Each page has the kinds of its own records. Whole numbers give way to others, and what has no
    values to anything; a truth value is no number, and a text no nested value.
    """
    import polars as pl

    if len(pages) < 2:
        return
    kinds: dict[str, set[str]] = {}
    for page in pages:
        for name, kind in page.schema.items():
            if kind != pl.Null:
                kinds.setdefault(name, set()).add("number" if kind.is_numeric() else str(kind))
    for name, found in kinds.items():
        if len(found) > 1:
            raise UnexpectedAnswer(
                f"column {name!r} is of other kinds on other pages ({', '.join(sorted(found))}); "
                "ask for shorter ranges, or for JSON"
            )


def empty(dates: str | None = None) -> pl.DataFrame:
    """Return the frame of no records: of their columns one is known for certain.

    So is that of the dates, where they have some.
    """
    import polars as pl

    return pl.DataFrame(schema={"timestamp": pl.Null, **({} if dates is None else {DATE: pl.Date})})


def undated(frame: pl.DataFrame) -> pl.DataFrame:
    """Return the frame without the column of dates, which is no column of the records."""
    import polars as pl

    return frame.drop(DATE) if frame.schema.get(DATE) == pl.Date else frame


def together(frames: Iterable[pl.DataFrame]) -> pl.DataFrame:
    """Put frames one below the other; what one has no column or no values for is null."""
    import polars as pl

    found = list(frames)
    if len(found) == 1:
        return found[0]
    if not found:
        return pl.DataFrame()
    if all(frame.schema == found[0].schema for frame in found):
        return pl.concat(found)
    return pl.concat(found, how="diagonal_relaxed")


def dated(frame: pl.DataFrame) -> pl.DataFrame:
    """Return the frame with `timestamp`, in Unix seconds, as instants in UTC."""
    import polars as pl

    kind = frame.schema.get("timestamp")
    column = pl.col("timestamp")
    if kind == pl.Float64:
        column = (column * _MICROSECONDS).round()
    elif kind == pl.Int64:
        column = column * _MICROSECONDS
    elif kind != pl.Null:
        return frame
    if (
        kind != pl.Null
        and frame.select(~pl.col("timestamp").is_between(*_SAYABLE)).to_series().any()
    ):
        # Beyond what an instant can say it stays the number it is.
        return frame
    instants = pl.Datetime("us", "UTC")
    return frame.with_columns(column.cast(pl.Int64).cast(instants).alias("timestamp"))


def to_arrow(frame: pl.DataFrame) -> Any:
    """Return the frame as a `pyarrow.Table`; raise `MissingDependency`."""
    try:
        return frame.to_arrow()
    except ModuleNotFoundError as error:
        raise _missing("pyarrow", "arrow") from error


def to_pandas(frame: pl.DataFrame) -> Any:
    """Return the frame as a `pandas.DataFrame`; raise `MissingDependency`."""
    try:
        return frame.to_pandas()
    except ModuleNotFoundError as error:
        raise _missing(error.name or "pandas", "pandas") from error


def _missing(library: str, extra: str) -> MissingDependency:
    return MissingDependency(
        f"this needs {library}, which is not installed: pip install 'gapless[{extra}]'"
    )
