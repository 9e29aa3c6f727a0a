"""Yahoo's chart format: from the body of an answer to its rows, or to what the answer is instead.

Pure, and apart from the provider, so that recorded answers can be read without a network. An
answer can be anything: what gets past this room is of the asked ticker and interval, has its
columns, and no value in it that is no number. Where its rows belong is in yahoo_rows.py. The
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
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from itertools import islice
from typing import Any, TypeGuard, TypeVar

import msgspec

from gapless.providers.yahoo_sessions import DAY_S, PERIODS

# 1900 to 2200: what is stamped outside is no time.
_SANE_STAMPS = (-2_208_988_800 - 400 * DAY_S, 7_258_118_400)
_INT64 = 1 << 63
# What a float holds whole numbers up to.
_LARGEST = 1 << 1023
# What stands for a number that is none until it is made null.
_NO_NUMBER = "NaN"


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
    """What an answer says of its instrument; all but two fields may be absent.

    What is nonsense in it is absent, too.
    """

    symbol: str
    data_granularity: str
    currency: str | None = None
    instrument_type: str | None = None
    exchange_timezone_name: str | None = None
    regular_market_time: int | None = None
    current_trading_period: Current | None = None
    trading_periods: Any = None
    exchange_name: str | None = None
    long_name: str | None = None
    short_name: str | None = None
    first_trade_date: int | None = None

    @property
    def last_trade_ms(self) -> int | None:
        """When it was last traded, milliseconds UTC; `None`: not told."""
        return None if self.regular_market_time is None else self.regular_market_time * 1000


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
    events: Any = None


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
    """The body is no chart that can be used; the message says why, to end a sentence with."""


class NoJson(NoChart):
    """The body is no JSON at all, such as a page, or an answer that was cut."""


@dataclass(frozen=True, slots=True)
class Chart:
    """A checked answer: its meta and its rows in upstream's order, quirks and all.

    `newest` is the latest stamp of a row; `bad` are those of rows in which a value was no number,
    and is null. `events` are as they came.
    """

    meta: ChartMeta
    rows: Sequence[Bar]
    newest: int | None = None
    bad: frozenset[int] = frozenset()
    events: Any = None


_Item = TypeVar("_Item")

_DECODER = msgspec.json.Decoder(_Envelope)


def read(body: bytes, ticker: str, interval: str) -> Chart | Refusal:
    """Return the chart of that ticker and interval, or the error upstream states instead.

    Raises `NoChart` for everything else, so that nothing malformed gets any further. A single
    value that is no number is null, and its row in `bad` (stitching rule 6).
    """
    envelope, bad = _decode(body)
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
    rows, huge = _rows(result, adjusted=interval == "1d" or interval in PERIODS)
    stamps = frozenset(rows[at].timestamp for at in bad | huge if at < len(rows))
    newest = max(result.timestamp) if result.timestamp else None
    return Chart(_sane(result.meta), rows, newest, stamps, result.events)


def sane_time(value: object) -> TypeGuard[int]:
    """Whether it is an instant, in Unix seconds, that there may have been."""
    low, high = _SANE_STAMPS
    return type(value) is int and low <= value <= high


def sane(period: Period | None) -> bool:
    """Whether it is a stretch of time that there may have been."""
    return (
        period is not None
        and sane_time(period.start)
        and sane_time(period.end)
        and period.start < period.end
    )


def _sane(meta: ChartMeta) -> ChartMeta:
    """Return what an answer says of its instrument without the times that cannot be."""
    last_trade, first_trade = meta.regular_market_time, meta.first_trade_date
    current = meta.current_trading_period
    return msgspec.structs.replace(
        meta,
        regular_market_time=last_trade if sane_time(last_trade) else None,
        first_trade_date=first_trade if sane_time(first_trade) else None,
        current_trading_period=current if current and sane(current.regular) else None,
    )


def _decode(body: bytes) -> tuple[_Envelope, frozenset[int]]:
    """Return what was answered, and the numbers of the rows in which a value is no number.

    Decoded strictly, and on failure once more with what is no number, and what is nonsense in the
    meta, as null.
    """
    try:
        return _DECODER.decode(body), frozenset()
    except (msgspec.MsgspecError, RecursionError, UnicodeDecodeError):
        pass
    try:
        lenient = json.loads(body, parse_constant=lambda _: _NO_NUMBER, parse_float=_finite)
    except (ValueError, RecursionError) as error:
        raise NoJson("it is no JSON") from error
    bad = _without_no_numbers(lenient)
    _without_nonsense(lenient)
    try:
        return msgspec.convert(lenient, _Envelope), bad
    except (msgspec.ValidationError, RecursionError) as error:
        raise NoChart(f"{error}"[:200]) from error


def _finite(text: str) -> float | str:
    value = float(text)
    return value if math.isfinite(value) else _NO_NUMBER


def _without_no_numbers(value: Any) -> frozenset[int]:
    """Make what is no number in the columns null; return the rows that it stood in (quirk 7)."""
    bad: set[int] = set()
    try:
        indicators = value["chart"]["result"][0]["indicators"]
        for columns in (*indicators["quote"], *indicators.get("adjclose", ())):
            for name, column in columns.items():
                if isinstance(column, list):
                    wrong = {at for at, item in enumerate(column) if not _is_number(item)}
                    columns[name] = [
                        None if at in wrong else item for at, item in enumerate(column)
                    ]
                    bad |= wrong
    except (AttributeError, IndexError, KeyError, TypeError):
        # Not the shape of a chart; the conversion that follows says so.
        pass
    return frozenset(bad)


def _is_number(item: Any) -> bool:
    """Whether it is null or a number, of which `True` is none, nor what no float can hold."""
    if item is None or item.__class__ is float:
        return True
    return item.__class__ is int and abs(item) < _LARGEST


def _without_nonsense(value: Any) -> None:
    """Take fields of a wrong type out of the meta, those excepted that an answer must have."""
    try:
        meta = value["chart"]["result"][0]["meta"]
        for known in msgspec.structs.fields(ChartMeta):
            if known.required or known.encode_name not in meta:
                continue
            try:
                msgspec.convert(meta[known.encode_name], known.type)
            except msgspec.ValidationError:
                del meta[known.encode_name]
    except (AttributeError, IndexError, KeyError, TypeError):
        # As above.
        pass


def _rows(result: _Result, *, adjusted: bool) -> tuple[list[Bar], set[int]]:
    """Return the rows, and the numbers of those with a volume that is too large to keep."""
    stamps = result.timestamp or []
    quote = _only(result.indicators.quote)
    if quote is None:
        quote = _Quote()
    prices = {"open": quote.open, "high": quote.high, "low": quote.low, "close": quote.close}
    if not stamps:
        if any(prices.values()) or quote.volume:
            raise NoChart("it has prices without times")
        return [], set()
    _check_times(stamps)
    count = len(stamps)
    adjclose: Sequence[float | None] | None = [None] * count
    if adjusted:
        of_days = _only(result.indicators.adjclose)
        adjclose = of_days.adjclose if of_days else None
    volume, huge = _whole_numbers(quote.volume)
    columns = {**prices, "adjclose": adjclose, "volume": volume}
    absent = [name for name, column in columns.items() if column is None]
    if absent:
        raise NoChart(f"it has times without {', '.join(absent)}")
    whole: list[Sequence[Any]] = [column or () for column in columns.values()]
    if any(len(column) != count for column in whole):
        raise NoChart(f"its columns are not all of {count} rows")
    return list(map(Bar, stamps, *whole)), huge


def _check_times(stamps: Sequence[int]) -> None:
    """Raise `NoChart` for times that are those of no history."""
    if not (sane_time(min(stamps)) and sane_time(max(stamps))):
        raise NoChart("its times are out of all bounds")
    if all(map(int.__lt__, stamps, islice(stamps, 1, None))):
        return
    # One step back is the live row of a day before (quirk 2); more than two are no history.
    if sum(map(int.__gt__, stamps, stamps[1:])) > 2:
        raise NoChart("its times are out of order")
    # The live row may come on its session's stamp, too.
    if len(set(stamps)) < len(stamps):
        stamp, times = Counter(stamps).most_common(1)[0]
        if times > 2:
            raise NoChart(f"it has the time {stamp} {times} times")


def _only(items: list[_Item | None] | None) -> _Item | None:
    """Return the one entry of a list that has at most one."""
    if items and len(items) > 1:
        raise NoChart("it has several sets of columns")
    return items[0] if items else None


def _whole_numbers(
    column: list[int | float | None] | None,
) -> tuple[list[int | None] | None, set[int]]:
    """Return volumes as whole numbers, null where one is too large to keep, and where that is."""
    if column is None:
        return None, set()
    whole = [item if item is None or item.__class__ is int else round(item) for item in column]
    known = [item for item in whole if item is not None]
    if not known or -_INT64 <= min(known) <= max(known) < _INT64:
        return whole, set()
    huge = {
        at for at, item in enumerate(whole) if item is not None and not -_INT64 <= item < _INT64
    }
    return [None if at in huge else item for at, item in enumerate(whole)], huge
