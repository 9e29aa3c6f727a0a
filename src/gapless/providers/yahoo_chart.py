"""Yahoo's chart format: from the body of an answer to records, or to what the answer is instead.

Pure, and apart from the provider, so that recorded answers can be read without a network. The
quirks of the format, each seen in recorded answers:

1. Stamps: a day is stamped at its session's local open, currencies and coins at local midnight,
   longer bars at the local midnight of their first day. The current `gmtoffset` tells no date.
2. The live row: the newest row is stamped at the last trade. Of a day it may come twice, past
   period2 or before period1; intraday it is a snapshot of the price, without volume.
3. The live row beside a week's or month's own row may be in that row already, or not yet.
4. Null rows, whole or without prices, are filled later.
5. No bars: no `timestamp` at all, and an empty `quote`.
6. Rows of the pre- and post-market come unasked at times; they have no volume.
7. adjclose may be infinite, written as no JSON allows or as a string.
"""

from __future__ import annotations

import json
import math
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from datetime import date, datetime, timedelta
from typing import Any, TypeVar
from zoneinfo import ZoneInfo

import msgspec

from gapless.domain.intervals import Interval
from gapless.providers.base import Record
from gapless.providers.yahoo_sessions import (
    BAR_MS,
    DAY_S,
    PERIODS,
    Hours,
    period_first,
    zone_named,
)

# A live row is stamped at the last trade or at the last poll, some minutes apart at most.
_NEAR_S = 3600
# 1900 to 2200: what is stamped outside is no time.
_SANE_STAMPS = (-2_208_988_800 - 400 * DAY_S, 7_258_118_400)
_INT64 = 1 << 63
_NO_NUMBERS = frozenset({"NaN", "Infinity", "-Infinity", "+Infinity"})


class Bar(msgspec.Struct, frozen=True, gc=False):
    """A record: `timestamp` in Unix seconds, prices, and `volume` as a whole number.

    What upstream leaves null is `None`; so is `adjclose` of intraday bars, which have none.
    """

    timestamp: int
    open: float | None
    high: float | None
    low: float | None
    close: float | None
    adjclose: float | None
    volume: int | None

    @property
    def null(self) -> bool:
        """Whether it has no closing price: upstream has yet to fill it (quirk 4)."""
        return self.close is None


class Period(msgspec.Struct, frozen=True):
    """A stretch of trading, Unix seconds, end exclusive."""

    start: int
    end: int


class Current(msgspec.Struct, frozen=True):
    """The latest or coming trading day."""

    regular: Period | None = None


class ChartMeta(msgspec.Struct, frozen=True, rename="camel"):
    """What an answer says of its instrument; all but two fields may be absent."""

    symbol: str
    data_granularity: str
    currency: str | None = None
    instrument_type: str | None = None
    exchange_timezone_name: str | None = None
    regular_market_time: int | None = None
    current_trading_period: Current | None = None
    trading_periods: Any = None


class _Quote(msgspec.Struct):
    open: list[float | None] | None = None
    high: list[float | None] | None = None
    low: list[float | None] | None = None
    close: list[float | None] | None = None
    volume: list[int | float | None] | None = None


class _Adjusted(msgspec.Struct):
    adjclose: list[float | None] | None = None


class _Indicators(msgspec.Struct):
    quote: list[_Quote | None] | None = None
    adjclose: list[_Adjusted | None] | None = None


class _Result(msgspec.Struct):
    meta: ChartMeta
    indicators: _Indicators
    timestamp: list[int] | None = None


class Refusal(msgspec.Struct, frozen=True):
    """Upstream's own error: its code and what it says about it."""

    code: str | None = None
    description: str | None = None


class _Chart(msgspec.Struct):
    result: list[_Result] | None = None
    error: Refusal | None = None


class _Finance(msgspec.Struct):
    error: Refusal | None = None


class _Envelope(msgspec.Struct):
    chart: _Chart | None = None
    finance: _Finance | None = None


class NoChart(ValueError):
    """The body is no chart answer; the message says why, to end a sentence with."""


@dataclass(frozen=True, slots=True)
class Chart:
    """A checked answer: its meta and its rows in upstream's order, quirks and all."""

    meta: ChartMeta
    rows: Sequence[Bar]


_Item = TypeVar("_Item")

_DECODER = msgspec.json.Decoder(_Envelope)


def read(body: bytes, ticker: str, interval: str) -> Chart | Refusal:
    """Return the chart of that ticker and interval, or the error upstream states instead.

    Raises `NoChart` for everything else, so that nothing malformed gets any further.
    """
    envelope = _decode(body)
    if envelope.chart is None:
        if envelope.finance is not None and envelope.finance.error is not None:
            return envelope.finance.error
        raise NoChart("there is no chart in it")
    if envelope.chart.error is not None:
        return envelope.chart.error
    results = envelope.chart.result
    if results is None or len(results) != 1:
        raise NoChart(f"it holds {len(results or ())} results instead of one")
    result = results[0]
    if result.meta.symbol.upper() != ticker:
        raise NoChart(f"it is of {result.meta.symbol[:32]!r} instead of {ticker!r}")
    granularity = "1h" if result.meta.data_granularity == "60m" else result.meta.data_granularity
    if granularity != interval:
        raise NoChart(f"its bars are of {granularity[:32]!r} instead of {interval!r}")
    return Chart(result.meta, _rows(result, daily=not _intraday(interval)))


def remember(meta: ChartMeta, earlier: Mapping[str, Any]) -> dict[str, Any]:
    """Return what is worth knowing at the next fetch: zone, hours of the local day, kind.

    A half-day must not shorten the hours for good, so that known hours only ever widen; they are
    left out where they are not known. Beside them stand those told last: an exchange that opens
    later than it once did is asked when it does (stitching rule 9).
    """
    zone = zone_named(meta.exchange_timezone_name)
    found: dict[str, Any] = {"symbol": meta.symbol}
    if meta.currency is not None:
        found["currency"] = meta.currency
    if meta.instrument_type is not None:
        found["kind"] = meta.instrument_type
    if zone is None:
        return {**earlier, **found}
    found["tz"] = zone.key
    regular = meta.current_trading_period and meta.current_trading_period.regular
    known = _local_hours(regular, Hours(zone)) if regular else None
    told = known or _last_told(earlier, zone)
    if told:
        found["last_open_s"], found["last_close_s"] = told
    opens, closes = earlier.get("open_s"), earlier.get("close_s")
    if earlier.get("tz") == zone.key and isinstance(opens, int) and isinstance(closes, int):
        known = (min(known[0], opens), max(known[1], closes)) if known else (opens, closes)
    if known:
        found["open_s"], found["close_s"] = known
    return found


def _last_told(earlier: Mapping[str, Any], zone: ZoneInfo) -> tuple[int, int] | None:
    """Return the hours that an earlier answer told for the same zone."""
    opens, closes = earlier.get("last_open_s"), earlier.get("last_close_s")
    if earlier.get("tz") == zone.key and isinstance(opens, int) and isinstance(closes, int):
        return opens, closes
    return None


def records(chart: Chart, interval: str, asked: Interval, known: Mapping[str, Any]) -> list[Record]:
    """Return the chart's records in `asked`: sorted, one a stamp, live rows put in their place.

    `known` is what `remember` returned for this chart.
    """
    hours = Hours.of(known)
    if interval in PERIODS:
        bars: Iterable[Bar] = _by_period(chart, interval, hours)
    elif interval == "1d":
        bars = _by_session(chart, hours)
    else:
        bars = _within_sessions(chart, interval, hours)
    unique = {bar.timestamp * 1000: bar for bar in bars}
    return [
        Record(time, unique[time]) for time in sorted(unique) if asked.start <= time < asked.end
    ]


def _by_session(chart: Chart, hours: Hours) -> list[Bar]:
    """Return daily rows with the live one on its session's stamp (quirks 1 and 2)."""
    bars = list(chart.rows)
    at = _live_index(chart)
    if at is None:
        return bars
    live = bars.pop(at)
    day = hours.day(live.timestamp * 1000)
    for i, twin in enumerate(bars):
        if abs(twin.timestamp - live.timestamp) < DAY_S and hours.day(twin.timestamp * 1000) == day:
            # The earlier stamp is the session's; the later row knows more, unless it is null.
            first, later = (twin, live) if twin.timestamp <= live.timestamp else (live, twin)
            values = first if later.null else later
            bars[i] = msgspec.structs.replace(values, timestamp=first.timestamp)
            return bars
    stamp = _session_stamp(chart.meta, bars, day, hours)
    bars.append(msgspec.structs.replace(live, timestamp=min(stamp, live.timestamp)))
    return bars


def _live_index(chart: Chart) -> int | None:
    """Return where the row is that is stamped at the last trade: as a rule the last one."""
    rows, last_trade = chart.rows, chart.meta.regular_market_time
    if last_trade is None:
        return len(rows) - 1 if rows else None
    for i in range(len(rows) - 1, -1, -1):
        if abs(rows[i].timestamp - last_trade) < _NEAR_S:
            return i
    return None


def _session_stamp(meta: ChartMeta, others: Sequence[Bar], day: date, hours: Hours) -> int:
    """Return the stamp that the bar of `day` has once its session is over."""
    current = meta.current_trading_period
    regular = current.regular if current else None
    if regular and hours.day(regular.start * 1000) == day:
        return regular.start
    if others:
        return hours.at(day, hours.second(others[-1].timestamp * 1000)) // 1000
    return hours.opening(day) // 1000


def _within_sessions(chart: Chart, interval: str, hours: Hours) -> list[Bar]:
    """Return intraday rows without the snapshot and without pre- and post-market (quirks 2, 6)."""
    step = BAR_MS[interval] // 1000
    sessions: dict[date, list[Period]] = {}
    for period in _regular_periods(chart.meta.trading_periods):
        sessions.setdefault(hours.day(period.start * 1000), []).append(_whole(period, hours))
    bars: list[Bar] = []
    for bar in chart.rows:
        local = datetime.fromtimestamp(bar.timestamp, hours.zone)
        second = local.hour * 3600 + local.minute * 60 + local.second
        day = local.date()
        if day in sessions:
            # A session that began the day before may last beyond midnight.
            periods = sessions[day] + sessions.get(day - timedelta(days=1), [])
            inside = any(period.start <= bar.timestamp < period.end for period in periods)
            begin = periods[0].start
        else:
            # Rows outside the hours have no volume; one that has some is of a longer day.
            inside = hours.open_s <= second < hours.close_s or bool(bar.volume)
            begin = bar.timestamp - second + hours.open_s
        off_grid = bar.timestamp % 60 != 0 or (bar.timestamp - begin) % step != 0
        if inside and not (off_grid and _snapshot(bar, chart.meta.regular_market_time)):
            bars.append(bar)
    return bars


def _snapshot(bar: Bar, last_trade: int | None) -> bool:
    """Whether a row is nothing but the last price, or no price, at the time of the last trade."""
    if bar.volume or not bar.open == bar.high == bar.low == bar.close:
        return False
    return last_trade is None or abs(bar.timestamp - last_trade) < _NEAR_S


def _by_period(chart: Chart, interval: str, hours: Hours) -> list[Bar]:
    """Return one row a week, month or quarter, on its first local midnight (quirks 1 and 3).

    Of several rows of a period the first is the period's own; the live row beside it may be in
    it already, so that nothing is ever added up.
    """
    found: dict[int, Bar] = {}
    for bar in chart.rows:
        # Where clocks changed, upstream's midnight may be 22:00 or 23:00 of the day before.
        day = hours.day((bar.timestamp + 7200) * 1000)
        stamp = hours.at(period_first(interval, day)) // 1000
        held = found.get(stamp)
        if held is None or bar.timestamp <= held.timestamp:
            found[stamp] = bar
    return [msgspec.structs.replace(bar, timestamp=stamp) for stamp, bar in found.items()]


def _intraday(interval: str) -> bool:
    return interval != "1d" and interval not in PERIODS


def _decode(body: bytes) -> _Envelope:
    """Decode strictly, and on failure once more with `NaN`, `Infinity` and `1e999` as null."""
    try:
        return _DECODER.decode(body)
    except (msgspec.MsgspecError, RecursionError, UnicodeDecodeError):
        pass
    try:
        lenient = json.loads(body, parse_constant=lambda _: None, parse_float=_finite)
        return msgspec.convert(_without_no_numbers(lenient), _Envelope)
    except msgspec.ValidationError as error:
        raise NoChart(f"{error}"[:200]) from error
    except (ValueError, RecursionError) as error:
        raise NoChart("it is no JSON") from error


def _finite(text: str) -> float | None:
    value = float(text)
    return value if math.isfinite(value) else None


def _without_no_numbers(value: Any) -> Any:
    """Return the answer with `"NaN"` and the like in its columns as null (quirk 7)."""
    try:
        indicators = value["chart"]["result"][0]["indicators"]
        for columns in (*indicators["quote"], *indicators.get("adjclose", ())):
            for name, column in columns.items():
                if isinstance(column, list):
                    columns[name] = [
                        None if isinstance(item, str) and item in _NO_NUMBERS else item
                        for item in column
                    ]
    except (AttributeError, IndexError, KeyError, TypeError):
        # Not the shape of a chart; the conversion that follows says so.
        pass
    return value


def _rows(result: _Result, *, daily: bool) -> list[Bar]:
    stamps = result.timestamp or []
    quote = _only(result.indicators.quote)
    if quote is None:
        quote = _Quote()
    prices = [quote.open, quote.high, quote.low, quote.close]
    if not stamps:
        if any(prices) or quote.volume:
            raise NoChart("it has prices without times")
        return []
    low, high = _SANE_STAMPS
    if min(stamps) < low or max(stamps) > high:
        raise NoChart("its times are out of all bounds")
    # One step back is the live row of a day before (quirk 2); more than two are no history.
    if sum(map(int.__gt__, stamps, stamps[1:])) > 2:
        raise NoChart("its times are out of order")
    count = len(stamps)
    nothing: list[None] = [None] * count
    if any(column is None for column in prices):
        raise NoChart("it has times without prices")
    adjusted = _only(result.indicators.adjclose) if daily else None
    adjclose = (adjusted.adjclose if adjusted else None) or nothing
    volume = _whole_numbers(quote.volume) or nothing
    columns = [column or [] for column in prices] + [adjclose, volume]
    if any(len(column) != count for column in columns):
        raise NoChart(f"its columns are not all of {count} rows")
    return list(map(Bar, stamps, *columns))


def _only(items: list[_Item | None] | None) -> _Item | None:
    """Return the one entry of a list that has at most one."""
    if items and len(items) > 1:
        raise NoChart("it has several sets of columns")
    return items[0] if items else None


def _whole_numbers(column: list[int | float | None] | None) -> list[int | None] | None:
    """Return volumes as whole numbers; raise `NoChart` where one is too large to keep."""
    if column is None:
        return None
    whole = [item if item is None or item.__class__ is int else round(item) for item in column]
    if any(item is not None and not -_INT64 <= item < _INT64 for item in whole):
        raise NoChart("it has a volume beyond 64 bits")
    return whole


def _regular_periods(value: Any) -> Iterable[Period]:
    """Return the regular sessions from any form of `tradingPeriods`; none where it is absent."""
    if isinstance(value, dict):
        if "start" in value and "end" in value:
            try:
                yield msgspec.convert(value, Period)
            except msgspec.ValidationError:
                return
        else:
            yield from _regular_periods(value.get("regular"))
    elif isinstance(value, list):
        for item in value:
            yield from _regular_periods(item)


def _whole(period: Period, hours: Hours) -> Period:
    """Return the period up to midnight where upstream ends the day at 23:59."""
    if hours.second(period.end * 1000) == DAY_S - 60:
        return Period(period.start, period.end + 60)
    return period


def _local_hours(regular: Period, hours: Hours) -> tuple[int, int] | None:
    """Return open and close as seconds of the local day, if they lie in one."""
    whole = _whole(regular, hours)
    opens, closes = hours.second(whole.start * 1000), hours.second(whole.end * 1000)
    same_day = hours.day(whole.start * 1000) == hours.day(whole.end * 1000 - 1)
    if closes == 0:
        closes = DAY_S
    return (opens, closes) if same_day and opens < closes else None
