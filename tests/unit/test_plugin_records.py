"""From what a plugin returns to the text that is stored: lists, frames, and what is refused."""

from __future__ import annotations

import math
import sys
from collections.abc import Callable, Iterator, Mapping, Sequence
from datetime import UTC, date, datetime, timedelta, timezone
from decimal import Decimal
from enum import Enum, IntEnum
from typing import Any

import msgspec
import numpy as np
import pandas as pd
import polars as pl
import pytest
from hypothesis import given
from hypothesis import strategies as st

from gapless.domain.blocks import Run, encode
from gapless.instants import format_instant
from gapless.providers.plugins.records import RecordSink
from gapless.providers.plugins.values import LAST_S, BadReply

# 2020 and 2021.
START, END = 1_577_836_800_000, 1_640_995_200_000
ROOMY = 1 << 30
DAY = datetime(2020, 3, 1, tzinfo=UTC)
DAY_S = 1_583_020_800


class Side(str, Enum):  # noqa: UP042  # its text is not what str() says
    LEFT = "left"


class Level(IntEnum):
    HIGH = 3


class OnlyArrow:
    """A table that speaks nothing but Arrow."""

    def __init__(self, frame: pl.DataFrame) -> None:
        self._frame = frame

    def __arrow_c_stream__(self, requested_schema: object = None) -> object:
        return self._frame.__arrow_c_stream__(requested_schema)


@pytest.mark.parametrize("form", ["list", "frame", "iterator"])
def test_what_was_taken_is_let_go(form: str) -> None:
    """A process that answers for long is no larger for it."""
    times = range(START // 1000, START // 1000 + 2_000)

    def take() -> None:
        frame = pl.DataFrame({"timestamp": times, "a": [t / 7 for t in times], "b": times})
        whole = {"list": frame.to_dicts(), "frame": frame, "iterator": iter([frame])}
        assert len(taken(whole[form]).run()) == len(times)

    for _ in range(3):
        take()
    before = sys.getallocatedblocks()
    for _ in range(10):
        take()
    assert sys.getallocatedblocks() - before < len(times)


def taken(value: Any, time_column: str = "timestamp") -> RecordSink:
    """Return the sink that has taken a value."""
    sink = RecordSink(time_column, START, END, ROOMY)
    sink.take(value)
    return sink


def rows(value: Any, time_column: str = "timestamp") -> list[dict[str, Any]]:
    """Return the records that a value becomes."""
    run = taken(value, time_column).run()
    return [run.row(i) for i in range(len(run))]


def frame_of(column: Any) -> pl.DataFrame:
    """Return a frame of one record with this column."""
    return pl.DataFrame({"timestamp": [DAY_S], "x": column})


TIMES: list[tuple[str, Any, int | float]] = [
    ("seconds", DAY_S, DAY_S),
    ("seconds and milliseconds", DAY_S + 0.25, DAY_S + 0.25),
    ("seconds that are whole", float(DAY_S), DAY_S),
    ("a decimal", Decimal(DAY_S), DAY_S),
    ("an aware datetime", DAY, DAY_S),
    ("another zone", datetime(2020, 3, 1, 2, tzinfo=timezone(timedelta(hours=2))), DAY_S),
    ("a naive datetime", datetime(2020, 3, 1), DAY_S),  # noqa: DTZ001
    ("microseconds", DAY.replace(microsecond=1_999), DAY_S + 0.001),
    ("a date", date(2020, 3, 1), DAY_S),
    ("text", "2020-03-01T00:00:00Z", DAY_S),
    ("text of another zone", "2020-03-01T02:00:00.5+02:00", DAY_S + 0.5),
    ("text of a day", "2020-03-01", DAY_S),
    ("text without zone", "2020-03-01 00:00:00", DAY_S),
    ("text with a space", "2020-03-01 01:00:00+01:00", DAY_S),
    ("numpy", np.datetime64("2020-03-01T00:00:00.000001", "ns"), DAY_S),
    ("a number of numpy", np.int64(DAY_S), DAY_S),
    ("another one", np.float64(DAY_S + 0.5), DAY_S + 0.5),
    ("pandas", pd.Timestamp("2020-03-01T01:00", tz="Europe/Paris"), DAY_S),
]

VALUES: list[tuple[str, Any, Any]] = [
    ("a number", 1.5, 1.5),
    ("a large one", 2**63 - 1, 2**63 - 1),
    ("not a number", math.nan, None),
    ("infinity", -math.inf, None),
    ("a decimal", Decimal("0.1"), 0.1),
    ("truth", True, True),
    ("nothing", None, None),
    ("text", 'Zürich "😀"', 'Zürich "😀"'),
    ("a list", [1, math.nan, (Decimal(2),)], [1, None, [2.0]]),
    ("a dict", {"a": {"b": DAY}}, {"a": {"b": "2020-03-01T00:00:00Z"}}),
    ("a datetime", DAY.replace(microsecond=5), "2020-03-01T00:00:00.000005Z"),
    ("a date", date(2020, 3, 1), "2020-03-01"),
    ("numpy's number", np.float32(0.5), 0.5),
    ("numpy's integer", np.int8(-3), -3),
    ("numpy's truth", np.True_, True),
    ("numpy's time", np.datetime64("2020-03-01", "ns"), "2020-03-01T00:00:00Z"),
    ("numpy's array", np.array([[1.5, math.nan]]), [[1.5, None]]),
    ("pandas' nothing", pd.NA, None),
    ("pandas' no time", pd.NaT, None),
    ("an enumeration of texts", Side.LEFT, "left"),
    ("an enumeration of numbers", Level.HIGH, 3),
]


@pytest.mark.parametrize(("value", "expected"), [c[1:] for c in TIMES], ids=[c[0] for c in TIMES])
def test_times(value: Any, expected: float) -> None:
    """Each spelling of an instant becomes Unix seconds, whole where they are."""
    (row,) = rows([{"timestamp": value, "x": 1}])
    assert row == {"timestamp": expected, "x": 1}
    assert type(row["timestamp"]) is type(expected)


@pytest.mark.parametrize(("value", "expected"), [c[1:] for c in VALUES], ids=[c[0] for c in VALUES])
def test_values(value: Any, expected: Any) -> None:
    """Each value becomes what JSON has for it."""
    assert rows([{"timestamp": DAY_S, "x": value}]) == [{"timestamp": DAY_S, "x": expected}]


REFUSED: list[tuple[str, Any, str]] = [
    ("a number", 5, "a int is no answer; return a list of dicts, a DataFrame or an iterator"),
    ("a dict", {"timestamp": [1]}, "a dict is no answer"),
    ("a text", "[]", "a str is no answer"),
    ("a list of lists", [[1, 2]], "record 0 is a list, not a dict"),
    ("no time", [{"timestamp": DAY_S}, {"date": 1}], "record 1 has no time column 'timestamp'; it"),
    ("null as time", [{"timestamp": None}], "record 0: 'timestamp' is no time: None, a NoneType"),
    ("truth as time", [{"timestamp": True}], "'timestamp' is no time: True, a bool"),
    ("a relative time", [{"timestamp": "-30d"}], "'timestamp' is no time: '-30d', a str"),
    ("no number as time", [{"timestamp": math.nan}], "'timestamp' is no time: nan"),
    (
        "milliseconds",
        [{"timestamp": 1_600_000_000_000}],
        "beyond the year 9999 and looks like m",
    ),
    (
        "a float of them",
        [{"timestamp": 1.6e12}],
        "9999 and looks like milliseconds; give",
    ),
    ("microseconds", [{"timestamp": 1_600_000_000_000_000}], "looks like microseconds; give Unix"),
    ("nanoseconds", [{"timestamp": 1_600_000_000_000_000_000}], "looks like nanoseconds; give U"),
    ("too much of a number", [{"timestamp": 10**400}], "is no time: 1000"),
    ("numpy's nanoseconds", [{"timestamp": np.int64(1.6e18)}], "looks like nanoseconds"),
    (
        "milliseconds of polars",
        pl.DataFrame({"timestamp": [1, 10**12]}),
        "row 1, is no time: 1000",
    ),
    ("its floats", pl.DataFrame({"timestamp": [1.0, -1e12]}), "row 1, is no time: -10000"),
    ("milliseconds of pandas", pd.DataFrame({"timestamp": [10**12]}), "looks like milliseconds"),
    ("no time of pandas", [{"timestamp": pd.NaT}], "'timestamp' is no time: NaT"),
    ("an object", [{"timestamp": DAY_S, "x": object()}], "column 'x' of record 0 is a object"),
    ("bytes", [{"timestamp": DAY_S, "x": b"x"}], "column 'x' of record 0 is a bytes: b'x'"),
    ("a set in a list", [{"timestamp": DAY_S, "x": [{1}]}], "column 'x' of record 0 is a set"),
    ("a duration", [{"timestamp": DAY_S, "x": timedelta(1)}], "is a datetime.timedelta"),
    ("numpy's duration", [{"timestamp": DAY_S, "x": np.timedelta64(1, "s")}], "timedelta64[s]"),
    ("a key", [{"timestamp": DAY_S, 5: 1}], "record 0 has the key 5, a int; keys must be text"),
    ("a lone surrogate", [{"timestamp": DAY_S, "x": "\ud800"}], "cannot be written as JSON"),
    (
        "polars without time",
        pl.DataFrame({"date": [1]}),
        "no time column 'timestamp'; it has: date",
    ),
    (
        "polars' null",
        pl.DataFrame({"timestamp": [DAY_S, None]}),
        "'timestamp', row 1, is no time: N",
    ),
    (
        "polars' nan",
        pl.DataFrame({"timestamp": [1.0, math.nan]}),
        "row 1, is no time: nan, a float",
    ),
    ("polars' truth", pl.DataFrame({"timestamp": [True]}), "row 0, is no time: True, a bool"),
    (
        "polars' text",
        pl.DataFrame({"timestamp": ["2020-02-30"]}),
        "row 0, is no time: '2020-02-30'",
    ),
    ("polars' bytes", frame_of([b"x"]), "column 'x', row 0, is a bytes"),
    ("polars' duration", frame_of([timedelta(1)]), "column 'x', row 0, is a datetime.timedelta"),
    (
        "pandas without time",
        pd.DataFrame({"date": [1]}),
        "no time column 'timestamp'; it has: date",
    ),
    ("pandas' key", pd.DataFrame({"timestamp": [1], 0: [2]}), "the frame has the key 0, a int"),
    ("pandas' object", pd.DataFrame({"timestamp": [DAY_S], "x": [object()]}), "'x', row 0, is a o"),
    ("pandas' nulls", pd.DataFrame({"timestamp": [pd.NaT]}), "'timestamp', row 0, is no time: NaT"),
    ("a bad stream", iter([5]), "a int is no answer"),
    ("streams of streams", iter([iter([])]), "an iterator of iterators is no answer"),
]


@pytest.mark.parametrize(("value", "why"), [c[1:] for c in REFUSED], ids=[c[0] for c in REFUSED])
def test_what_is_refused(value: Any, why: str) -> None:
    """The message names the record or column, and the type."""
    with pytest.raises(BadReply) as caught:
        taken(value)
    assert why in str(caught.value)


def test_two_columns_of_one_name_are_refused() -> None:
    """Pandas has them; a record cannot."""
    frame = pd.DataFrame([[DAY_S, 1, 2]], columns=["timestamp", "x", "x"])
    with pytest.raises(BadReply, match="more than one column 'x'"):
        taken(frame)


@pytest.mark.parametrize("nothing", [None, [], (), iter([]), iter([None, []])])
def test_nothing_is_an_answer(nothing: Any) -> None:
    """There is known to be nothing."""
    assert len(taken(nothing).run()) == 0


@pytest.mark.parametrize("kind", [pl.DataFrame, pd.DataFrame])
def test_an_empty_frame_is_an_answer(kind: Callable[[Any], Any]) -> None:
    """Whatever the types of its columns are."""
    assert len(taken(kind({"timestamp": [], "x": []})).run()) == 0


def test_a_time_column_of_another_name_becomes_the_first() -> None:
    """A column `timestamp` beside it gives way."""
    said = [{"x": 1, "timestamp": "not a time", "date": date(2020, 3, 1), "y": 2}]
    expected = [{"timestamp": DAY_S, "x": 1, "y": 2}]
    for value in (said, pl.DataFrame(said), pd.DataFrame(said)):
        found = rows(value, "date")
        assert found == expected
        assert list(found[0]) == ["timestamp", "x", "y"]


def test_what_lies_outside_is_dropped() -> None:
    """The range is half open; the first instant that is dropped is kept to be told."""
    times = [START - 1_000, START, END - 1_000, END, LAST_S * 1000]
    said = [{"timestamp": time // 1000, "x": 1} for time in times]
    for value in (
        said,
        pl.DataFrame(said),
        pd.DataFrame(said),
        iter(said),
        OnlyArrow(pl.DataFrame(said)),
    ):
        sink = taken(value)
        assert list(sink.run().times) == [START, END - 1_000]
        assert (sink.dropped, sink.stray) == (3, START - 1_000)


def test_of_one_time_the_last_wins() -> None:
    """Whatever order they come in, also across the pieces of an iterator."""
    pieces = [
        [{"timestamp": DAY_S + 5, "x": 1}, {"timestamp": DAY_S, "x": 2}],
        pl.DataFrame({"timestamp": [DAY_S + 9, DAY_S], "x": [3, 4]}),
        {"timestamp": DAY_S + 5, "x": 5},
    ]
    sink = taken(iter(pieces))
    run = sink.run()
    assert [run.row(i) for i in range(len(run))] == [
        {"timestamp": DAY_S, "x": 4},
        {"timestamp": DAY_S + 5, "x": 5},
        {"timestamp": DAY_S + 9, "x": 3},
    ]
    assert sink.doubled == 2


def test_a_reply_has_a_size() -> None:
    """It ends as soon as it is too large, however much an iterator would still bring."""

    def endless() -> Iterator[dict[str, Any]]:
        while True:
            yield {"timestamp": DAY_S, "x": "x" * 1_000}

    sink = RecordSink("timestamp", START, END, 100_000)
    with pytest.raises(BadReply, match=r"more than the 100,000 bytes .*max_reply_bytes"):
        sink.take(endless())


def test_names_that_json_escapes() -> None:
    """A column's name may be any text."""
    odd = 'a "b"\\\n'
    expected = [{"timestamp": DAY_S, odd: 1.5}]
    assert rows(pl.DataFrame(expected)) == expected
    assert rows(pd.DataFrame(expected)) == expected


POLARS_TIMES: list[tuple[str, pl.Series]] = [
    ("seconds", pl.Series([DAY_S], dtype=pl.Int32)),
    ("unsigned seconds", pl.Series([DAY_S], dtype=pl.UInt64)),
    ("floats", pl.Series([float(DAY_S)])),
    ("dates", pl.Series([date(2020, 3, 1)])),
    ("milliseconds", pl.Series([DAY], dtype=pl.Datetime("ms", "UTC"))),
    ("nanoseconds", pl.Series([DAY.replace(tzinfo=None)], dtype=pl.Datetime("ns"))),
    ("a zone", pl.Series([DAY], dtype=pl.Datetime("us", "UTC")).dt.convert_time_zone("Asia/Tokyo")),
    ("text of days", pl.Series(["2020-03-01"])),
    ("text of seconds", pl.Series(["2020-03-01T00:00:00Z"])),
    ("text of either", pl.Series(["2020-03-01T01:00:00.000+01:00"])),
    ("text in categories", pl.Series(["2020-03-01"], dtype=pl.Categorical)),
]


@pytest.mark.parametrize("column", [c[1] for c in POLARS_TIMES], ids=[c[0] for c in POLARS_TIMES])
def test_times_of_polars(column: pl.Series) -> None:
    """Each type that can hold an instant is read."""
    assert rows(pl.DataFrame({"timestamp": column})) == [{"timestamp": DAY_S}]


def test_instants_before_1970_are_cut_the_same_way() -> None:
    """A microsecond before a millisecond belongs to the one before it, in lists and frames."""
    early = datetime(1965, 1, 1, 0, 0, 0, 999, tzinfo=UTC)
    for value in (
        [{"timestamp": early}],
        pl.DataFrame({"timestamp": [early]}),
        pd.DataFrame({"timestamp": [early]}),
    ):
        sink = RecordSink("timestamp", -(10**15), END, ROOMY)
        sink.take(value)
        assert list(sink.run().times) == [-157_766_400_000]


PANDAS_TIMES: list[tuple[str, Any]] = [
    ("naive", pd.to_datetime(["2020-03-01"])),
    ("a zone", pd.to_datetime(["2020-03-01T01:00"]).tz_localize("Europe/Paris")),
    ("nanoseconds", pd.to_datetime(["2020-03-01"]).astype("datetime64[ns]")),
    ("seconds", pd.to_datetime(["2020-03-01"]).astype("datetime64[s]")),
]


@pytest.mark.parametrize("index", [c[1] for c in PANDAS_TIMES], ids=[c[0] for c in PANDAS_TIMES])
def test_times_of_pandas(index: pd.DatetimeIndex) -> None:
    """A DatetimeIndex is the time where no column is; a column may hold the same."""
    expected = [{"timestamp": DAY_S, "x": 1}]
    assert rows(pd.DataFrame({"x": [1]}, index=index)) == expected
    assert rows(pd.DataFrame({"x": [1]}, index=index.rename("Date"))) == expected
    assert rows(pd.DataFrame({"x": [1], "timestamp": index})) == expected
    assert rows(pd.DataFrame({"timestamp": index.astype(object), "x": [1]})) == expected


def test_an_index_of_that_name_is_the_time() -> None:
    """Numbers in it are Unix seconds, as in a column."""
    frame = pd.DataFrame({"timestamp": [DAY_S], "x": [1]}).set_index("timestamp")
    assert rows(frame) == [{"timestamp": DAY_S, "x": 1}]


def test_missing_values_of_frames() -> None:
    """What polars and pandas call missing is null, whatever the column's type."""
    expected = [
        {"timestamp": DAY_S, "i": 1, "f": 0.5, "t": "a", "b": True, "d": "2020-03-01T00:00:00Z"},
        {"timestamp": DAY_S + 1, "i": None, "f": None, "t": None, "b": None, "d": None},
    ]
    polars = pl.DataFrame(
        {
            "timestamp": [DAY_S, DAY_S + 1],
            "i": [1, None],
            "f": [0.5, math.nan],
            "t": ["a", None],
            "b": [True, None],
            "d": [DAY, None],
        }
    )
    pandas = pd.DataFrame(
        {
            "timestamp": [DAY_S, DAY_S + 1],
            "i": pd.array([1, None], dtype="Int64"),
            "f": [0.5, math.nan],
            "t": ["a", None],
            "b": pd.array([True, None], dtype="boolean"),
            "d": pd.to_datetime(["2020-03-01", None]).tz_localize("UTC"),
        }
    )
    assert rows(polars) == expected
    assert rows(pandas) == expected
    assert rows(polars.lazy()) == expected


NESTED = pl.DataFrame(
    {
        "timestamp": [DAY_S],
        "list": [[1.5, math.nan]],
        "struct": [{"a": DAY}],
        "decimal": [Decimal("0.10")],
        "category": pl.Series(["x"], dtype=pl.Categorical),
    }
)


def test_nested_and_odd_columns() -> None:
    """Lists, structs, decimals and categories become what JSON has."""
    assert rows(NESTED) == [
        {
            "timestamp": DAY_S,
            "list": [1.5, None],
            "struct": {"a": "2020-03-01T00:00:00Z"},
            "decimal": 0.1,
            "category": "x",
        }
    ]


# Any records, by any way, are the run that their texts make.

FLOATS = st.floats(width=64)
TEXT = st.text(st.characters(exclude_categories=["Cs"]), max_size=8)
COLUMNS: Mapping[str, tuple[st.SearchStrategy[Any], Any]] = {
    "f": (FLOATS, pl.Float64),
    "i": (st.integers(-(2**63), 2**63 - 1), pl.Int64),
    "t": (TEXT, pl.String),
    "b": (st.booleans(), pl.Boolean),
    "of": (st.none() | FLOATS, pl.Float64),
    "oi": (st.none() | st.integers(-(2**63), 2**63 - 1), pl.Int64),
    "ot": (st.none() | TEXT, pl.String),
}
TIME = st.integers(START, END - 1)


@st.composite
def tables(draw: st.DrawFn) -> tuple[list[int], dict[str, list[Any]]]:
    """Return ascending times and columns of as many values."""
    whole = draw(st.booleans())
    times = sorted(draw(st.sets(TIME, max_size=6)))
    if whole:
        times = sorted({time // 1000 * 1000 for time in times})
    count = len(times)
    names = draw(st.lists(st.sampled_from(list(COLUMNS)), unique=True))
    return times, {
        name: draw(st.lists(COLUMNS[name][0], min_size=count, max_size=count)) for name in names
    }


def spelled(times: Sequence[int], spelling: str) -> list[Any]:
    """Return instants as a plugin may spell them."""
    if spelling == "numbers":
        return [time / 1000 for time in times]
    if spelling == "datetimes":
        epoch = datetime(1970, 1, 1, tzinfo=UTC)
        return [epoch + timedelta(milliseconds=time) for time in times]
    return [format_instant(time) for time in times]


@given(tables(), st.sampled_from(["numbers", "datetimes", "texts"]))
def test_all_ways_lead_to_one_run(
    table: tuple[list[int], dict[str, list[Any]]], spelling: str
) -> None:
    """A list, polars, pandas, Arrow or an iterator: the texts are those of `Run.of`."""
    times, columns = table

    def null(value: Any) -> Any:
        return None if isinstance(value, float) and not math.isfinite(value) else value

    expected = Run.of(
        (
            time,
            encode(
                {"timestamp": time / 1000 if time % 1000 else time // 1000}
                | {name: null(values[i]) for name, values in columns.items()}
            ),
        )
        for i, time in enumerate(times)
    )
    said = {"when": spelled(times, spelling), **columns}
    records = [dict(zip(said, values, strict=True)) for values in zip(*said.values(), strict=True)]
    when = {"numbers": pl.Float64, "datetimes": pl.Datetime("ms", "UTC"), "texts": pl.String}
    schema = {"when": when[spelling], **{name: COLUMNS[name][1] for name in columns}}
    polars = pl.DataFrame(said, schema=schema)
    objects = pd.DataFrame({name: pd.Series(values, dtype=object) for name, values in said.items()})
    ways: dict[str, Any] = {
        "list": records,
        "records": iter(records),
        "lists": iter([records[:2], records[2:]]),
        "polars": polars,
        "slices": iter([polars[:1], polars[1:]]),
        "pandas": objects,
        "arrow": polars.to_arrow(),
        "stream": OnlyArrow(polars),
    }
    for way, value in ways.items():
        run = taken(value, "when").run()
        assert run == expected, way
        assert run.index() == expected.index(), way


@given(st.lists(st.tuples(TIME, st.binary(max_size=20))))
def test_a_run_of_texts_is_a_run_of_pairs(pairs: list[tuple[int, bytes]]) -> None:
    """The quick way makes the same run, index included."""
    quick = Run.of_texts([time for time, _ in pairs], [text for _, text in pairs])
    slow = Run.of(pairs)
    assert quick == slow
    assert quick.index() == slow.index()


@given(st.lists(FLOATS.filter(math.isfinite), min_size=1, max_size=20))
def test_floats_are_exact(values: list[float]) -> None:
    """Every bit of a float comes through, by a frame as by a list."""
    times = [DAY_S + i for i in range(len(values))]
    for value in (
        [{"timestamp": t, "x": x} for t, x in zip(times, values, strict=True)],
        pl.DataFrame(
            {"timestamp": times, "x": values}, schema={"timestamp": pl.Int64, "x": pl.Float64}
        ),
        pd.DataFrame({"timestamp": times, "x": values}),
    ):
        run = taken(value).run()
        texts = msgspec.json.decode(b"[" + run.text + b"]")
        assert [row["x"] for row in texts] == values
        assert [math.copysign(1, row["x"]) for row in texts] == [
            math.copysign(1, x) for x in values
        ]
