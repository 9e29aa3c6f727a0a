"""DataFrames to plain columns: polars, pandas, and whatever else speaks Arrow.

Apart because each library has its own words for the same things. None of them is imported here
before a plugin has returned something of it; pandas does without pyarrow.
"""

from __future__ import annotations

import sys
from collections.abc import Sequence
from dataclasses import dataclass
from itertools import compress
from typing import Any

from gapless.domain.blocks import AT_ONCE
from gapless.providers.plugins.values import (
    FIRST_S,
    LAST_S,
    PLAIN,
    BadReply,
    clean,
    instant,
    no_instant,
    text_key,
    type_name,
)

TIME = "timestamp"
_DAY = r"^\d{4}-\d{2}-\d{2}$"
_SECOND = r"^\d{4}-\d{2}-\d{2}T\d{2}:\d{2}:[0-5]\dZ$"


@dataclass(frozen=True, slots=True)
class Table:
    """The records of a frame that lie in the asked range, column by column.

    `names` and `columns` are without the time; `times` are milliseconds UTC. `dropped` lay outside
    of the range, the first of them at `stray`.
    """

    times: list[int]
    names: tuple[str, ...]
    columns: list[Sequence[Any]]
    dropped: int
    stray: int | None


def table(value: Any, time_column: str, start: int, end: int) -> Table | None:
    """Return what of a frame lies in `[start, end)`; `None` where the value is no frame.

    Raises `BadReply` that names the column.
    """
    pandas: Any = sys.modules.get("pandas")
    if pandas is not None and isinstance(value, pandas.DataFrame):
        return _of_pandas(value, time_column, start, end)
    polars: Any = sys.modules.get("polars")
    if polars is not None and isinstance(value, polars.LazyFrame):
        value = value.collect()
    if hasattr(value, "__arrow_c_stream__") and not isinstance(value, type):
        import polars as pl

        if not isinstance(value, pl.DataFrame):
            try:
                value = pl.DataFrame(value)
            except Exception as error:
                raise BadReply(
                    f"the {type_name(value)} cannot be read as a table: {error}"
                ) from error
        return _of_polars(pl, value, time_column, start, end)
    return None


# polars


def _of_polars(pl: Any, frame: Any, time_column: str, start: int, end: int) -> Table:
    if time_column not in frame.columns:
        raise _no_time_column(time_column, frame.columns)
    times = _polars_times(pl, frame.get_column(time_column))
    if isinstance(times, list):
        times = pl.Series(times, dtype=pl.Int64)
    inside = (times >= start) & (times < end)
    dropped, stray = 0, None
    if not inside.all():
        outside = times.filter(~inside)
        dropped, stray = len(outside), outside[0]
        frame, times = frame.filter(inside), times.filter(inside)
    names = tuple(name for name in frame.columns if name not in (time_column, TIME))
    columns = [_polars_values(pl, frame.get_column(name)) for name in names]
    return Table(_polars_listed(times), names, columns, dropped, stray)


def _polars_times(pl: Any, column: Any) -> Any:
    """Return the times of a column in milliseconds, as a series or a list."""
    kind = column.dtype
    if column.null_count():
        nulls = column.is_null().arg_max()
        raise _no_instant(column.name, nulls, None)
    if kind.is_signed_integer() and kind != pl.Int128:
        return _seconds(column.cast(pl.Int64)) * 1000
    if kind == pl.Datetime:
        per_ms = {"ns": 1_000_000, "us": 1_000, "ms": 1}[kind.time_unit]
        whole = column.cast(pl.Int64)
        return whole if per_ms == 1 else whole // per_ms
    if kind == pl.Date:
        return column.cast(pl.Int64) * 86_400_000
    if kind.is_float():
        milliseconds = _seconds(column.cast(pl.Float64)) * 1000
        return milliseconds.round(0, mode="half_to_even").cast(pl.Int64)
    if kind == pl.String:
        quick = _polars_texts(pl, column)
        if quick is not None:
            return quick
    return _instants(column.name, _polars_listed(column))


def _seconds(column: Any) -> Any:
    """Return the column; raise `BadReply` at the first number that is no instant in seconds."""
    # Its order puts what is no number above all numbers.
    instants = (column >= FIRST_S) & (column <= LAST_S)
    if not instants.all():
        row = (~instants).arg_max()
        raise _no_instant(column.name, row, column[row])
    return column


def _polars_texts(pl: Any, column: Any) -> Any:
    """Read the two commonest spellings all at once; `None` where a text is none of them."""
    try:
        if column.str.contains(_DAY).all():
            return column.str.to_date("%Y-%m-%d").cast(pl.Int64) * 86_400_000
        if column.str.contains(_SECOND).all():
            return column.str.to_datetime("%Y-%m-%dT%H:%M:%SZ", time_unit="ms").cast(pl.Int64)
    except pl.exceptions.PolarsError:
        # One that does not exist; it is named where they are read one by one.
        return None
    return None


def _polars_values(pl: Any, column: Any) -> Sequence[Any]:
    kind = column.dtype
    if kind.is_numeric() and not kind.is_decimal():
        return _polars_listed(column)
    if kind in (pl.Boolean, pl.String, pl.Categorical, pl.Enum, pl.Null):
        return _polars_listed(column)
    return _cleaned(column.name, _polars_listed(column))


def _polars_listed(column: Any) -> list[Any]:
    """Return the values of a column; others may have the interpreter meanwhile."""
    values: list[Any] = []
    for at in range(0, len(column), AT_ONCE):
        values += column.slice(at, AT_ONCE).to_list()
    return values


# pandas


def _of_pandas(frame: Any, time_column: str, start: int, end: int) -> Table:
    for name in frame.columns:
        text_key(name, "the frame")
    labels = [str.__str__(name) for name in frame.columns]
    twice = {name for name in labels if labels.count(name) > 1}
    if twice:
        raise BadReply(f"the frame has more than one column {min(twice)!r}")
    if time_column in labels:
        time = frame[time_column]
    elif frame.index.name == time_column or hasattr(frame.index, "tz_localize"):
        time = frame.index
    else:
        raise _no_time_column(time_column, labels)
    times = _pandas_times(time_column, time)
    names = tuple(name for name in labels if name not in (time_column, TIME))
    columns = [_pandas_values(name, frame[name]) for name in names]
    inside = [start <= ms < end for ms in times]
    dropped = inside.count(False)
    if not dropped:
        return Table(times, names, columns, 0, None)
    return Table(
        list(compress(times, inside)),
        names,
        [list(compress(column, inside)) for column in columns],
        dropped,
        times[inside.index(False)],
    )


def _pandas_times(name: str, values: Any) -> list[int]:
    kind = getattr(values.dtype, "kind", "O")
    if kind == "M" and not values.isna().any():
        if getattr(values.dtype, "tz", None) is not None:
            localized = values.dt if hasattr(values, "dt") else values
            values = localized.tz_convert(None)
        plain = values.to_numpy().astype("datetime64[ms]").astype("int64")
        return list(plain.tolist())
    return _instants(name, values.tolist())


def _pandas_values(name: str, values: Any) -> Sequence[Any]:
    kind = values.dtype
    if getattr(kind, "kind", "O") in "biuf" and type(kind).__module__.startswith("numpy"):
        return list(values.tolist())
    return _cleaned(name, values.tolist())


# both


def _instants(name: str, values: Sequence[Any]) -> list[int]:
    times: list[int] = []
    for row, value in enumerate(values):
        ms = instant(value)
        if ms is None:
            raise _no_instant(name, row, value)
        times.append(ms)
    return times


def _cleaned(name: str, values: Sequence[Any]) -> list[Any]:
    return [
        value if type(value) in PLAIN else clean(value, f"column {name!r}, row {row},")
        for row, value in enumerate(values)
    ]


def _no_instant(name: str, row: int, value: Any) -> BadReply:
    return BadReply(f"column {name!r}, row {row}, {no_instant(value)}")


def _no_time_column(name: str, columns: Sequence[str]) -> BadReply:
    return BadReply(
        f"the frame has no time column {name!r}; it has: {', '.join(columns[:20]) or 'none'}; "
        "describe() may name another one as time_column"
    )
