"""Where the rows of a chart belong: one record for each bar, on its own stamp, inside the range.

Pure, and apart from the format, which yahoo_chart.py reads; the quirks are numbered there.
"""

from __future__ import annotations

from bisect import bisect_left, bisect_right
from collections.abc import Iterable, Mapping, Sequence
from datetime import date, datetime, timedelta
from typing import Any

import msgspec

from gapless.domain.intervals import Interval
from gapless.providers import yahoo_actions
from gapless.providers.base import BadValues, Record
from gapless.providers.yahoo_chart import Bar, Chart, ChartMeta, NoChart, Period, sane
from gapless.providers.yahoo_facts import whole
from gapless.providers.yahoo_sessions import (
    BAR_MS,
    DAY_S,
    PERIODS,
    Hours,
    period_first,
)

# A live row is stamped at the last trade or at the last poll, some minutes apart at most.
_NEAR_S = 3600
# Where clocks changed, the stamp of a period may be an hour or two before its first midnight.
_BEFORE_MIDNIGHT_S = 7200
_BAD_SHOWN = 5


def check_answers(chart: Chart, interval: str, asked: tuple[int, int]) -> None:
    """Raise `NoChart` if none of the rows is of what was asked for (stitching rule 6).

    `asked` are period1 and period2, Unix seconds; a bar around them counts as asked. The live row
    may lie anywhere, and so may a single row beside it.
    """
    bar = BAR_MS[interval] // 1000
    live = _live_index(chart)
    if len(chart.rows) - (live is not None) > 1 and not any(
        asked[0] - bar <= row.timestamp <= asked[1] + bar
        for at, row in enumerate(chart.rows)
        if at != live
    ):
        raise NoChart(f"none of its {len(chart.rows)} rows is of the time that was asked for")


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
    at = _live_index(chart)
    if at is None:
        return list(chart.rows)
    live = chart.rows[at]
    day = hours.day(live.timestamp * 1000)
    # One that comes twice is one.
    others = [bar for bar in chart.rows if bar.timestamp != live.timestamp]
    twins = [
        bar
        for bar in others
        if abs(bar.timestamp - live.timestamp) < DAY_S and hours.day(bar.timestamp * 1000) == day
    ]
    if twins:
        # The earliest stamp is the session's; the latest row that is not null knows most.
        known = sorted([*twins, live], key=lambda bar: bar.timestamp)
        values = next((bar for bar in reversed(known) if not bar.null), known[-1])
        session = msgspec.structs.replace(values, timestamp=known[0].timestamp)
        return [*(bar for bar in others if bar not in twins), session]
    stamp = _session_stamp(chart.meta, others, day, hours)
    return [*others, msgspec.structs.replace(live, timestamp=min(stamp, live.timestamp))]


def _live_index(chart: Chart) -> int | None:
    """Return where the row is that is stamped at the last trade: as a rule the last one."""
    rows, last_trade = chart.rows, chart.meta.regular_market_time
    if last_trade is None:
        return len(rows) - 1 if rows else None
    # An old range has none, and need not be looked through for it.
    if chart.newest is None or last_trade - chart.newest >= _NEAR_S:
        return None
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
        sessions.setdefault(hours.day(period.start * 1000), []).append(whole(period, hours))
    auctions = _auctions(chart, sessions, step, hours)
    bars: list[Bar] = []
    for bar in chart.rows:
        local = datetime.fromtimestamp(bar.timestamp, hours.zone)
        second = local.hour * 3600 + local.minute * 60 + local.second
        day = local.date()
        if day in sessions:
            # A session that began the day before may last beyond midnight.
            periods = sessions[day] + sessions.get(day - timedelta(days=1), [])
            inside = bar.timestamp in auctions or any(
                period.start <= bar.timestamp < period.end for period in periods
            )
            begin = periods[0].start
        else:
            # Rows outside the hours have no volume; one that has some is of a longer day.
            inside = hours.open_s <= second < hours.close_s or bool(bar.volume)
            begin = bar.timestamp - second + hours.open_s
        off_grid = bar.timestamp % 60 != 0 or (bar.timestamp - begin) % step != 0
        if inside and not (off_grid and _snapshot(bar, chart.meta.regular_market_time)):
            bars.append(bar)
    return bars


def _auctions(
    chart: Chart, sessions: Mapping[date, Sequence[Period]], step: int, hours: Hours
) -> frozenset[int]:
    """Return the stamps of closing auctions: each on the grid, just where its session ended.

    A row there may be the snapshot, or the first of the post-market. It is neither where trading
    went on for a minute, and nothing but the live row follows on that day.
    """
    last_trade = chart.meta.regular_market_time
    if last_trade is None:
        return frozenset()
    stamps = sorted({bar.timestamp for bar in chart.rows})
    found: set[int] = set()
    for day, periods in sessions.items():
        end = periods[-1].end
        at = bisect_left(stamps, end)
        if stamps[at : at + 1] != [end] or (end - periods[0].start) % step or last_trade < end + 60:
            continue
        after = stamps[at + 1 : at + 2]
        if all(
            hours.day(stamp * 1000) != day or abs(stamp - last_trade) < _NEAR_S for stamp in after
        ):
            found.add(end)
    return frozenset(found)


def _snapshot(bar: Bar, last_trade: int | None) -> bool:
    """Whether a row is nothing but the last price, or no price, at the time of the last trade."""
    if bar.volume or len({bar.open, bar.high, bar.low, bar.close} - {None}) > 1:
        return False
    return last_trade is None or abs(bar.timestamp - last_trade) < _NEAR_S


def _by_period(chart: Chart, interval: str, hours: Hours) -> list[Bar]:
    """Return one row a week, month or quarter, on its first local midnight (quirks 1 and 3).

    Of several rows of a period the first is the period's own. It may lack the latest day as long as
    the live row stands beside it, over a weekend and beyond its end.
    """
    found: dict[int, Bar] = {}
    # Without the time of the last trade it is not known which row is the live one.
    at = None if chart.meta.regular_market_time is None else _live_index(chart)
    live = None if at is None else chart.rows[at]
    for bar in chart.rows:
        stamp = _period_stamp(interval, bar, hours)
        held = found.get(stamp)
        if held is None or bar.timestamp <= held.timestamp:
            found[stamp] = bar
    if live is not None:
        stamp = _period_stamp(interval, live, hours)
        own = found[stamp]
        if own.timestamp < live.timestamp and _one_side(chart, interval, live, hours):
            found[stamp] = _so_far(own, live)
    return [msgspec.structs.replace(bar, timestamp=stamp) for stamp, bar in found.items()]


def _period_stamp(interval: str, bar: Bar, hours: Hours) -> int:
    return hours.at(_first_day(interval, bar, hours)) // 1000


def _first_day(interval: str, bar: Bar, hours: Hours) -> date:
    return period_first(interval, hours.day((bar.timestamp + _BEFORE_MIDNIGHT_S) * 1000))


def _one_side(chart: Chart, interval: str, live: Bar, hours: Hours) -> bool:
    """Whether no action lies between the first day of the live row's period and its own.

    Otherwise the one row may be of before it, and the other of after it.
    """
    first = _first_day(interval, live, hours)
    day = hours.day(live.timestamp * 1000)
    return not any(
        first < hours.day(action["timestamp"] * 1000) <= day
        for action in yahoo_actions.actions(chart.events, hours.zone, live.timestamp * 1000)
    )


def _so_far(own: Bar, live: Bar) -> Bar:
    """Return the row of a period and that of its latest day as one.

    Whether the day's volume is in the period's cannot be told, so that nothing is added up.
    """
    if own.null or live.null:
        return live if own.null else own
    highs = [bar.high for bar in (own, live) if bar.high is not None]
    lows = [bar.low for bar in (own, live) if bar.low is not None]
    return msgspec.structs.replace(
        own,
        high=max(highs, default=None),
        low=min(lows, default=None),
        close=live.close,
        adjclose=live.adjclose,
    )


def bad_values(chart: Chart, interval: str, placed: Sequence[Record]) -> BadValues | None:
    """Return which of the records have a value that was no number; `None`: none has.

    A live row is told by the stamp that it was put on, and one that was dropped not at all.
    """
    times = [record.time for record in placed]
    found: set[int] = set()
    for stamp in chart.bad:
        at = bisect_right(times, stamp * 1000) - 1
        if interval in PERIODS or interval == "1d":
            at = bisect_right(times, (stamp + _BEFORE_MIDNIGHT_S) * 1000) - 1
        elif at >= 0 and times[at] != stamp * 1000:
            continue
        if at >= 0 and None in msgspec.structs.astuple(placed[at].row):
            found.add(times[at])
    return BadValues(len(found), tuple(sorted(found)[:_BAD_SHOWN])) if found else None


def _regular_periods(value: Any, depth: int = 4) -> Iterable[Period]:
    """Return the regular sessions from any form of `tradingPeriods`; none where it is absent."""
    if isinstance(value, dict) and "start" in value and "end" in value:
        try:
            period = msgspec.convert(value, Period)
        except msgspec.ValidationError:
            return
        if sane(period):
            yield period
    elif isinstance(value, dict) and depth:
        yield from _regular_periods(value.get("regular"), depth - 1)
    elif isinstance(value, list) and depth:
        for item in value:
            yield from _regular_periods(item, depth - 1)
