"""Answers as they are shown to a person: a head, a bar of what was held and fetched, a table."""

from __future__ import annotations

import math
import sys
from collections.abc import Iterator, Mapping, Sequence
from datetime import UTC, datetime, tzinfo
from typing import TYPE_CHECKING, Any

from rich.cells import cell_len, set_cell_size
from rich.console import Console, Group, RenderableType
from rich.padding import Padding
from rich.table import Table
from rich.text import Text

from gapless.client.facts import Facts
from gapless.client.failures import UnexpectedAnswer
from gapless.client.results import Result, Span, Stitch
from gapless.errors import InvalidQuery
from gapless.instants import format_instant
from gapless.protocol.times import parse_instant
from gapless.shell import bars, charts
from gapless.shell.bars import Shade, legend, ranged_bar
from gapless.shell.commands import COMMANDS, usage_of
from gapless.shell.wording import bounds_text, count_text, instant_text
from gapless.texts import printable
from gapless.zones import zone_named

if TYPE_CHECKING:
    import polars as pl

_WIDEST_BAR = 100
_DAY_US = 86_400_000_000
_STATES: Mapping[str, str] = {"ready": "green", "partial": "red", "stale": "yellow"}
_LONGEST_VALUE = 2_000
_FEWEST_COLUMNS = 3
# How wide texts in a table may be, the more the better.
_TEXT_WIDTHS = (60, 30, 15, 8)
# What four decimals would all but wipe out, or write as a row of digits that mean nothing.
_TINY, _HUGE = 0.001, 1e15
_WIDEST_USAGE = 40
_NOTES = (
    ("split", "S", "split"),
    ("dividend", "D", "dividend"),
    ("capital_gain", "G", "capital gain"),
)
_QUERIES = (
    ("providers", "the names of the providers"),
    ("provider NAME search ticker=T date=A..B", "a history; date=30d: the last 30 days"),
    ("… fresh=held|check|now", "of a history: as it is held, what is due (the default), anew"),
    ("provider NAME search KEY=VALUE …", "what is stored: id, source, state, tags, updated, url"),
    ("provider NAME get ID", "one entity"),
    ("provider NAME get-many ID1,ID2,…", "those that are stored"),
    ("provider NAME all limit=N", "what is stored"),
    ("provider NAME describe TICKER", "what is known of it: time zone, currency, name"),
    ("provider NAME report url=URL", "for plugins that have reports"),
    ("QUERY | COMMAND", "hand the answer to a command of the system, as JSON"),
)


def result_view(
    result: Result, rows: int, width: int, *, vertical: bool, blocks: bool
) -> Iterator[RenderableType]:
    """Yield what is shown of a result: its head, its bar, and the first of its records."""
    zone = _zone(result)
    yield _head(result, zone)
    yield Text(printable(result.id), style="dim")
    stitch = result.stitch
    if stitch is not None:
        yield from stitch_view(stitch, width, blocks, zone)
    if result.last_error:
        yield Text(printable(result.last_error), style="red")
    try:
        frame = result.to_polars()
    except UnexpectedAnswer:
        yield Text(printable(str(result.data))[:_LONGEST_VALUE])
        return
    if not frame.height:
        yield Text("no records", style="dim")
        return
    shown = min(rows, frame.height)
    yield (
        vertical_view(frame.head(shown))
        if vertical
        else table_view(frame.head(shown), width, blocks)
    )
    said = count_text(frame.height, "row")
    if shown < frame.height:
        said += f", the first {shown:,} shown; all of them: :export FILE, or :set rows N"
    yield Text(said, style="dim")


def results_view(results: Sequence[Result]) -> RenderableType:
    """Return several entities as a table, a row each."""
    rows = [
        {"id": one.id, "records": _count(one), "state": one.state, "updated": one.updated_at}
        for one in results
    ]
    return Group(listing(rows), Text(count_text(len(results), "row"), style="dim"))


def stitch_view(stitch: Stitch, width: int, blocks: bool, zone: tzinfo = UTC) -> Iterator[Text]:
    """Yield a bar of what was cached, fetched and missing, and what its shades mean.

    Its ends are told as clocks in `zone` show them.
    """
    asked = stitch.asked
    if asked is None:
        return
    parts: list[tuple[Shade, tuple[int, int]]] = [
        (shade, _ms(span, zone))
        for shade, spans in (
            (bars.CACHED, stitch.cached),
            (bars.FETCHED, stitch.fetched),
            (bars.MISSING, stitch.missing),
        )
        for span in spans
    ]
    text, shades = ranged_bar(parts, _ms(asked, zone), min(width, _WIDEST_BAR), blocks)
    yield text
    order = [bars.CACHED, bars.FETCHED, bars.PARTLY, bars.MISSING]
    told = legend([shade for shade in order if shade in shades], blocks, width)
    requests = stitch.upstream_requests
    noun = "request" if requests == 1 else "requests"
    yield Text.assemble(told, "  ", (f"{requests} upstream {noun}", "dim"))
    for why in stitch.why:
        yield Text(f"{why.span}: {printable(why.message)}", style="yellow")


def table_view(frame: pl.DataFrame, width: int, blocks: bool) -> Text:
    """Return a frame as polars prints it, no wider than the terminal."""
    import polars as pl

    looks = {
        "tbl_rows": -1,
        "tbl_hide_dataframe_shape": True,
        "tbl_hide_column_data_types": True,
        "tbl_formatting": "UTF8_FULL_CONDENSED" if blocks else "ASCII_FULL_CONDENSED",
        "tbl_width_chars": 10_000,
        "fmt_str_lengths": 1_000,
        "float_precision": 4,
        "thousands_separator": ",",
        "tbl_cell_numeric_alignment": "RIGHT",
    }
    # A number in two lines is none: columns in the middle go first, then what texts have to say.
    fewest = min(frame.width, _FEWEST_COLUMNS)
    tries = [(columns, _TEXT_WIDTHS[0]) for columns in range(frame.width, fewest, -1)]
    tries += [(fewest, longest) for longest in _TEXT_WIDTHS]
    tries += [(columns, _TEXT_WIDTHS[-1]) for columns in range(fewest - 1, -1, -1)]
    text, cut_to, shown = "", 0, frame
    for columns, longest in tries:
        if longest != cut_to:
            cut_to, shown = longest, _fitted(frame, longest, "…" if blocks else "...")
        with pl.Config(**looks, tbl_cols=columns):  # type: ignore[arg-type]  # each by its name
            text = str(shown)
        if max(map(cell_len, text.split("\n"))) <= width:
            break
    return Text(text, no_wrap=True, overflow="crop")


def help_view() -> Iterator[RenderableType]:
    """Yield what can be typed."""
    yield Text("Queries", style="bold")
    yield _two_columns(_QUERIES)
    yield Text("Commands; what is clear need not be written out", style="bold")
    yield _two_columns([(usage_of(one), one.about) for one in COMMANDS.values()])
    yield Text(
        "Tab completes, arrows go back in history, Ctrl-C ends a request, Ctrl-D leaves.",
        style="dim",
    )


def _two_columns(rows: Sequence[tuple[str, str]]) -> Padding:
    table = Table.grid(padding=(0, 2))
    table.add_column(overflow="fold", max_width=_WIDEST_USAGE)
    table.add_column(overflow="fold")
    for left, right in rows:
        table.add_row(Text(left), Text(right))
    return Padding(table, (0, 0, 0, 2))


def _fitted(frame: pl.DataFrame, longest: int, dots: str) -> pl.DataFrame:
    """Return the frame as a terminal can show it: texts and names of columns are cut short.

    Instants and numbers are whole, also those that polars would round to nothing.
    """
    import polars as pl

    def fit(text: str) -> str:
        text = printable(text)
        if cell_len(text) <= longest:
            return text
        return set_cell_size(text, longest - len(dots)).rstrip() + dots

    found: dict[str, pl.Series] = {}
    for column in _dayed(frame).get_columns():
        name, kind = column.name, column.dtype
        is_instant = name == "timestamp" and frame.schema[name].is_temporal()
        shown = name if is_instant else fit(name)
        while shown in found:
            # Names may differ in what cannot be shown alone.
            shown += "'"
        if kind.is_float() and not _is_usual(column):
            numbers = [_number(value) for value in column]
            widest = max(map(len, numbers))
            column = pl.Series([number.rjust(widest) for number in numbers])
        elif not (is_instant or kind.is_numeric() or kind.is_temporal()):
            texts = [None if value is None else fit(str(value)) for value in column.to_list()]
            column = pl.Series(texts, dtype=pl.String)
        found[shown] = column
    return pl.DataFrame(found)


def _is_usual(column: pl.Series) -> bool:
    """Whether four decimals say enough of all numbers of a column."""
    sizes = column.abs()
    odd = (sizes > 0) & ((sizes < _TINY) | (sizes >= _HUGE)) & sizes.is_finite()
    return not odd.any()


def _number(value: float | None) -> str:
    if value is None:
        return "null"
    return f"{value:,.4f}" if value == 0 or _TINY <= abs(value) < _HUGE else f"{value:.5g}"


def vertical_view(frame: pl.DataFrame) -> Text:
    """Return a frame with a line for each value, as for records that are too wide for a table."""
    frame = _dayed(frame)
    widest = max(map(cell_len, map(printable, frame.columns)), default=0)
    text = Text()
    for number, row in enumerate(frame.iter_rows(named=True), 1):
        text.append(f"— {number} " + "—" * widest + "\n", style="dim")
        for name, value in row.items():
            shown = printable(name)
            text.append(" " * (widest - cell_len(shown)) + shown, style="bold")
            text.append(f"  {printable(str(value))[:_LONGEST_VALUE]}\n")
    text.right_crop(1)
    return text


def listing(rows: Sequence[Mapping[str, Any]]) -> Table:
    """Return rows of few columns as a table without frames."""
    table = Table(box=None, pad_edge=False, header_style="bold")
    columns = list(dict.fromkeys(key for row in rows for key in row))
    for column in columns:
        numeric = any(isinstance(row.get(column), int | float) for row in rows)
        table.add_column(
            Text(printable(column)), justify="right" if numeric else "left", overflow="fold"
        )
    for row in rows:
        table.add_row(*(Text(_cell(row.get(column))) for column in columns))
    return table


def coverage_view(
    coverage: Mapping[str, Any], width: int, blocks: bool
) -> Iterator[RenderableType]:
    """Yield what the hub knows of a series, as `/v1/coverage` tells it."""
    intervals = coverage.get("coverage") or []
    name = printable(str(coverage.get("id")))
    held = count_text(int(coverage.get("records") or 0), "record")
    yield Text.assemble((name, "bold"), f"  {held}")
    if not intervals:
        yield Text("nothing is known of it", style="dim")
        return
    parts = [(_shade(one), (_ms_of(one["start"]), _ms_of(one["end"]))) for one in intervals]
    whole = (min(span[0] for _, span in parts), max(span[1] for _, span in parts))
    text, shades = ranged_bar(parts, whole, min(width, _WIDEST_BAR), blocks)
    yield text
    yield legend(sorted(shades, key=lambda shade: shade.rank), blocks, width)


def facts_view(facts: Facts) -> Table:
    """Return what is known of a ticker as lines; what is not is left out."""
    hours = facts.session
    session = f"{hours.open:%H:%M}..{hours.close:%H:%M}" if hours.open and hours.close else None
    first = facts.first_trade
    if first is not None:
        first = first.astimezone(zone_named(facts.zone) or UTC)
    told = {
        "name": facts.name,
        "kind": facts.kind,
        "exchange": facts.exchange,
        "currency": facts.currency,
        "time zone": facts.zone,
        "session": session,
        "first trade": None if first is None else f"{first:%Y-%m-%d}",
    }
    table = Table.grid(padding=(0, 2))
    for what, fact in told.items():
        if fact is not None:
            table.add_row(Text(what, style="dim"), Text(printable(fact)))
    if not table.row_count:
        table.add_row(Text("nothing is known of it", style="dim"))
    return table


def plan_view(plan: Mapping[str, Any]) -> Iterator[RenderableType]:
    """Yield what a request would fetch, as `/v1/plan` tells it."""
    gaps = plan.get("gaps") or []
    if not gaps and (plan.get("unserved") or plan.get("doubted")):
        what = "what is not held is in doubt, or not served any more"
        yield Text(f"nothing would be fetched: {what}", style="yellow")
        return
    if not gaps:
        yield Text("nothing would be fetched: all of it is held and fresh", style="green")
        return
    yield listing(
        [
            {"from": _plain(one["start"]), "to": _plain(one["end"]), "why": one.get("why")}
            for one in gaps
        ]
    )
    requests = count_text(int(plan.get("upstream_requests") or 0), "upstream request")
    yield Text(f"{requests} at least", style="dim")


def actions_id(result: Result) -> str | None:
    """Return the id of the actions up to the last record of an answer; `None`: it is no range."""
    source, _, rest = result.id.partition(":")
    series, _, bounds = rest.partition(":")
    ticker = series.partition("?")[0]
    times = _times(result.to_polars().drop("date", strict=False))
    if result.stitch is None or not times or math.isnan(times[-1]):
        return None
    start, _, _ = bounds.partition("..")
    return f"{source}:{ticker}?data=actions:{start}..{format_instant(round(times[-1]) * 1000 + 1)}"


def notes_of(actions: Result | None, frame: pl.DataFrame) -> list[charts.Note]:
    """Return what is told of actions below the chart of a frame, by its days where it has some."""
    if actions is None:
        return []
    told = actions.to_polars()
    times = _times(told if "date" in frame.columns else told.drop("date", strict=False))
    return [
        charts.Note(at, letter, what)
        for name, letter, what in _NOTES
        for at, record in zip(times, actions.records, strict=True)
        if record.get(name)
    ]


def chart_view(frame: pl.DataFrame, column: str | None, canvas: charts.Canvas) -> Text:
    """Return a frame drawn: candles where it has prices, or one column as a line.

    Raises `InvalidQuery` for a column that is not there or has no numbers.
    """
    import polars as pl

    if frame.height == 0:
        raise InvalidQuery("there are no records to draw")
    numeric = [
        name for name, kind in frame.schema.items() if kind.is_numeric() and name != "timestamp"
    ]
    prices = ["open", "high", "low", "close"]
    if column is None and all(name in numeric for name in prices):
        there = frame.filter(*(pl.col(name).is_finite() for name in prices))
        if there.height:
            made = [charts.Bar(*map(float, row)) for row in there.select(prices).iter_rows()]
            drawn = charts.candles(made, _times(there), canvas)
            return _titled(drawn, canvas.title, "open, high, low, close")
    chosen = column or next(iter(numeric), None)
    if chosen is None or chosen not in numeric:
        known = printable(", ".join(numeric)) or "none"
        what = f"no numbers in a column '{printable(chosen)}'" if chosen else "no numbers to draw"
        raise InvalidQuery(f"there are {what}; columns with numbers: {known}")
    there = frame.filter(pl.col(chosen).is_finite())
    if not there.height:
        raise InvalidQuery(f"all values of {printable(chosen)} are null")
    drawn = charts.line([float(value) for value in there[chosen]], _times(there), canvas)
    return _titled(drawn, canvas.title, chosen)


def _titled(drawn: Text, name: str | None, what: str) -> Text:
    if name is None:
        return drawn
    title = Text.assemble((printable(name), "bold"), f"  {printable(what)}", "\n")
    return title.append_text(drawn)


def _zone(result: Result) -> tzinfo:
    """Return the time zone in which the records have dates; UTC where they have none."""
    try:
        dated = "date" in result.to_polars().columns
    except UnexpectedAnswer:
        dated = False
    facts = result.facts if dated else None
    return zone_named(None if facts is None else facts.zone) or UTC


def _head(result: Result, zone: tzinfo) -> Text:
    state = result.state
    text = Text.assemble(("ok", "bold green"), f" ProviderRequest {printable(result.source)}")
    if result.ticker is not None:
        text.append(f" {printable(result.ticker)}", style="bold")
    if result.start is not None and result.end is not None:
        start, end = bounds_text((_local(result.start, zone), _local(result.end, zone)))
        text.append(f" from {start} to {end}")
    text.append(f" {printable(state)}", style=_STATES.get(state, ""))
    facts = result.facts
    told = () if facts is None else (facts.zone, facts.currency)
    for fact in filter(None, told):
        text.append(f", {printable(fact)}", style="dim")
    changed = None if result.stitch is None else result.stitch.changed_at
    if changed is not None:
        text.append(f", changed upstream {instant_text(_at(changed))}", style="dim")
    return text


def _count(result: Result) -> int | None:
    try:
        return len(result)
    except UnexpectedAnswer:
        return None


def _dayed(frame: pl.DataFrame) -> pl.DataFrame:
    """Return the frame with its instants as people read them: days, where all are midnights.

    Where the records have dates, these are what people read.
    """
    import polars as pl

    if frame.schema.get("date") == pl.Date and "timestamp" in frame.columns:
        return frame.drop("timestamp")
    column = frame.schema.get("timestamp")
    if not isinstance(column, pl.Datetime):
        return frame
    instants = pl.col("timestamp")
    at = instants.to_physical()
    midnights = frame.select((at % _DAY_US == 0).all()).item()
    whole = frame.select((at % 60_000_000 == 0).all()).item()
    pattern = "%Y-%m-%d" if midnights else "%Y-%m-%d %H:%M" if whole else "%Y-%m-%d %H:%M:%S%.f"
    return frame.with_columns(instants.dt.strftime(pattern))


def _times(frame: pl.DataFrame) -> list[float]:
    """Return the instants in seconds, those of days their midnights; NaN where there is none."""
    import polars as pl

    if frame.schema.get("date") == pl.Date:
        days = frame["date"].cast(pl.Int32).to_list()
        return [math.nan if day is None else day * 86_400.0 for day in days]
    column = frame["timestamp"] if "timestamp" in frame.columns else None
    if column is None or not isinstance(column.dtype, pl.Datetime):
        return [math.nan] * frame.height
    return [math.nan if value is None else value / 1e6 for value in column.to_physical()]


def _cell(value: object) -> str:
    if value is None:
        return ""
    if isinstance(value, bool):
        return "yes" if value else "no"
    if isinstance(value, datetime):
        return instant_text(_at(value))
    if isinstance(value, int):
        return f"{value:,}"
    if isinstance(value, float):
        return f"{value:,.4g}"
    return printable(str(value))


def _plain(instant: object) -> str:
    return str(instant).removesuffix("T00:00:00Z")


def _ms(span: Span, zone: tzinfo = UTC) -> tuple[int, int]:
    return _local(span.start, zone), _local(span.end, zone)


def _local(instant: datetime, zone: tzinfo) -> int:
    """Return what clocks in a zone show, in milliseconds as if it were UTC."""
    return _at(instant.astimezone(zone).replace(tzinfo=UTC))


def _at(instant: datetime) -> int:
    return round(instant.timestamp() * 1_000)


def _ms_of(text: str) -> int:
    return parse_instant(text, now_ms=0)


def _shade(interval: Mapping[str, Any]) -> Shade:
    if interval.get("outcome") == "empty":
        return bars.EMPTY
    if interval.get("outcome") == "out_of_window":
        return bars.OUT_OF_WINDOW
    if interval.get("fresh") is False:
        return bars.DUE
    return bars.PROVISIONAL if interval.get("refresh_after") else bars.HELD


def console() -> Console:
    """Return what the shell prints on: colours on a terminal only, texts as they are."""
    return Console(file=sys.stdout, highlight=False, markup=False, emoji=False, soft_wrap=False)
