"""When an exchange trades, where bars are stamped, and from when on they are final.

Pure functions of what is known of a series (`meta`) and of the hour: no I/O, no clock. Apart
from the chart's format, because finality is the one thing that must never be wrong.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from datetime import UTC, date, datetime, time, timedelta
from typing import Any, NamedTuple, TypeGuard
from zoneinfo import ZoneInfo

from gapless.domain.intervals import Interval
from gapless.providers.base import DAY_MS, DueMoments, Provisional, Record
from gapless.zones import midnight_ms, zone_named

MINUTE_MS = 60_000
HOUR_MS = 3_600_000
DAY_S = 86_400

# Nominal milliseconds a bar; the order is the one shown to people.
BAR_MS: Mapping[str, int] = {
    "1m": MINUTE_MS,
    "2m": 2 * MINUTE_MS,
    "5m": 5 * MINUTE_MS,
    "15m": 15 * MINUTE_MS,
    "30m": 30 * MINUTE_MS,
    "1h": HOUR_MS,
    "90m": 90 * MINUTE_MS,
    "4h": 4 * HOUR_MS,
    "1d": DAY_MS,
    "1wk": 7 * DAY_MS,
    "1mo": 30 * DAY_MS,
    "3mo": 91 * DAY_MS,
}
PERIODS = frozenset({"1wk", "1mo", "3mo"})

SETTLING_MS = DAY_MS
# Hours that span less may be those of a half-day, and whole days end so much later at the most.
_HALF_DAY_S = 6 * 3600
_REST_OF_DAY_S = 4 * 3600
INTRADAY_SETTLING_MS = 30 * MINUTE_MS
LATE_PRINTS_MS = 30 * MINUTE_MS
NULL_SETTLING_MS = 7 * DAY_MS
_MAX_NULL_SPANS = 4
_AWAITED_LEAST_MS = 15 * MINUTE_MS
_AWAITED_MOST_MS = 6 * HOUR_MS
_AWAITED_SESSIONS = 5
# Upstream registers what changes the past before a session, and is done with it soon after.
DUE_AFTER_OPENING_MS = 15 * MINUTE_MS

_CURRENCY = "CURRENCY"
_FUND = "MUTUALFUND"
_ROUND_THE_CLOCK = frozenset({"CRYPTOCURRENCY", _CURRENCY, "FUTURE"})
_SATURDAY_SUNDAY = frozenset({5, 6})
_FRIDAY_SATURDAY = frozenset({4, 5})
# Tel Aviv moved from Sunday-Thursday to Monday-Friday in 2026: only Saturday is sure.
_WEEKENDS: Mapping[str, frozenset[int]] = {
    "Asia/Jerusalem": frozenset({5}),
    "Asia/Tel_Aviv": frozenset({5}),
    "Asia/Riyadh": _FRIDAY_SATURDAY,
    "Asia/Kuwait": _FRIDAY_SATURDAY,
    "Asia/Qatar": _FRIDAY_SATURDAY,
    "Asia/Bahrain": _FRIDAY_SATURDAY,
    "Asia/Muscat": _FRIDAY_SATURDAY,
    "Asia/Amman": _FRIDAY_SATURDAY,
    "Asia/Baghdad": _FRIDAY_SATURDAY,
    "Asia/Dhaka": _FRIDAY_SATURDAY,
    "Africa/Cairo": _FRIDAY_SATURDAY,
}


@dataclass(frozen=True, slots=True)
class Hours:
    """A series' trading day: `open_s` and `close_s` are seconds of the local day.

    `weekend` are the weekdays (Monday = 0) on which there is never a session. What is not known
    is taken to be a whole day, every day, which only makes bars final later.
    """

    zone: ZoneInfo
    open_s: int = 0
    close_s: int = DAY_S
    weekend: frozenset[int] = frozenset()

    @classmethod
    def of(cls, meta: Mapping[str, Any]) -> Hours:
        """Read the hours from a series' meta; every field of it may be absent or nonsense."""
        zone = zone_named(meta.get("tz"))
        kind = meta.get("kind")
        if zone is None or not isinstance(kind, str) or kind in _ROUND_THE_CLOCK:
            weekend: frozenset[int] = frozenset()
        else:
            weekend = _WEEKENDS.get(zone.key, _SATURDAY_SUNDAY)
        opens, closes = _day_hours(meta.get("open_s"), meta.get("close_s"))
        return cls(zone or ZoneInfo("UTC"), opens, closes, weekend)

    def day(self, at_ms: int) -> date:
        """Return the local date of an instant."""
        return datetime.fromtimestamp(at_ms // 1000, self.zone).date()

    def second(self, at_ms: int) -> int:
        """Return the second of the local day, as clocks there show it."""
        local = datetime.fromtimestamp(at_ms // 1000, self.zone)
        return local.hour * 3600 + local.minute * 60 + local.second

    def at(self, day: date, second: int = 0) -> int:
        """Return the instant at which clocks there show that second of `day`."""
        if not second:
            return midnight_ms(day, self.zone)
        naive = datetime.combine(day, time()) + timedelta(seconds=second)
        return int(naive.replace(tzinfo=self.zone).timestamp()) * 1000

    def trades(self, day: date) -> bool:
        """Whether `day` may have a session; a holiday counts as one that may."""
        return day.weekday() not in self.weekend

    def opening(self, day: date) -> int:
        """Return when the session of `day` opens, if it has one."""
        return self.at(day, self.open_s)

    def closing(self, day: date) -> int:
        """Return when the session of `day` closes, if it has one."""
        return self.at(day, self.close_s)

    def latest_closing(self, day: date) -> int:
        """Return when the session of `day` has closed, though the hours may be of a half-day."""
        if self.close_s - self.open_s >= _HALF_DAY_S:
            return self.closing(day)
        return self.at(day, min(self.close_s + _REST_OF_DAY_S, DAY_S))

    def may_be_open(self, now_ms: int) -> bool:
        """Whether trades may come in: from the open until half an hour after the close."""
        today = self.day(now_ms)
        return any(
            self.trades(day) and self.opening(day) <= now_ms < self.closing(day) + LATE_PRINTS_MS
            for day in (_shifted(today, -1), today)
        )

    def next_opening(self, now_ms: int) -> int:
        """Return the next instant after `now_ms` at which a session may open."""
        day = self.day(now_ms)
        while not self.trades(day) or self.opening(day) <= now_ms:
            day = _shifted(day, 1)
        return self.opening(day)


def period_first(name: str, day: date) -> date:
    """Return the first day of the week (Monday), month or quarter; of other bars `day` itself."""
    if name == "1wk":
        return _shifted(day, -day.weekday())
    if name == "1mo":
        return day.replace(day=1)
    if name == "3mo":
        return date(day.year, (day.month - 1) // 3 * 3 + 1, 1)
    return day


def period_next(name: str, first: date) -> date:
    """Return the first day of the period after the one that begins on `first`."""
    if name == "1wk":
        return _shifted(first, 7)
    if name in ("1mo", "3mo"):
        # 31 or 93 days on is always in the next period.
        return period_first(name, _shifted(first, 31 if name == "1mo" else 93))
    return _shifted(first, 1)


def request_range(name: str, asked: Interval, zone: ZoneInfo | None) -> tuple[int, int]:
    """Return `period1` and `period2` (Unix seconds) that bring every bar stamped in `asked`.

    Upstream begins weeks on period1's weekday and cuts the first and the last period to the
    window. So longer bars are asked from the first day of the period before, at 10:00 UTC,
    which is that day in the time zone of every exchange (UTC-10 to +13:59), to the end of the
    last period. `zone` `None`: not known yet; the end is then late enough for any.
    """
    if name not in PERIODS:
        return asked.start // 1000, -(-asked.end // 1000)
    first = period_first(name, datetime.fromtimestamp(asked.start // 1000, UTC).date())
    first = period_first(name, _shifted(first, -1))
    begin = int(datetime.combine(first, time(10), UTC).timestamp())
    if zone is not None and not aligned(name, begin, zone):
        begin = Hours(zone).at(first, DAY_S // 2) // 1000
    if zone is not None:
        last = period_first(name, Hours(zone).day(asked.end - 1))
        return begin, Hours(zone).at(period_next(name, last)) // 1000
    latest = Hours(ZoneInfo("UTC")).day(asked.end - 1 + 14 * HOUR_MS)
    after = period_next(name, period_first(name, latest))
    return begin, int(datetime.combine(after, time(12), UTC).timestamp())


def aligned(name: str, period1: int, zone: ZoneInfo) -> bool:
    """Whether `period1` lies on the first local day of a period, so that bars are whole."""
    day = datetime.fromtimestamp(period1, zone).date()
    return name not in PERIODS or day == period_first(name, day)


def final_until(name: str, hours: Hours, now_ms: int) -> int:
    """Return the instant before which no bar can change any more (stitching rule 3).

    Daily and longer bars are final 24 h after the close of their last session, and never before
    their last local day is over. Intraday bars are final half an hour after their end; as their
    grid differs among exchanges (lunch breaks), the bound is that of a bar on any minute.
    """
    if name not in PERIODS and name != "1d":
        newest_final = now_ms - INTRADAY_SETTLING_MS - BAR_MS[name]
        return newest_final // MINUTE_MS * MINUTE_MS + MINUTE_MS
    first = period_first(name, hours.day(now_ms))
    earliest = first
    # Days settle out of order over a weekend, so that the walk does not stop at a settled one.
    for _ in range(4 if name == "1d" else 2):
        first = period_first(name, _shifted(first, -1))
        if settles_at(name, hours, first) > now_ms:
            earliest = first
    return hours.at(earliest)


def settles_at(name: str, hours: Hours, first: date) -> int:
    """Return when the daily or longer bar that begins on `first` is final."""
    after = period_next(name, first)
    over = hours.at(after)
    last = _shifted(after, -1)
    for _ in range(7):
        if last < first:
            return over
        if hours.trades(last):
            return max(over, hours.latest_closing(last) + SETTLING_MS)
        last = _shifted(last, -1)
    return over


def provisional(
    name: str,
    asked: Interval,
    records: Sequence[Record],
    meta: Mapping[str, Any],
    now_ms: int,
    refresh_ms: int,
    refresh_null_ms: int = HOUR_MS,
    *,
    due_from: int | None = None,
    awaited: Awaited | None = None,
) -> tuple[Provisional, ...]:
    """Return the parts of `asked` that may still change, in order (stitching rule 3).

    The tail from `final_until` on is due again after `refresh_ms` while a session may be open.
    Otherwise it is due when the next one may open, or before that when its first bar becomes
    final. A null row of the last seven days is provisional by itself, due after
    `refresh_null_ms`. `records` are those of `asked`, sorted, with `open` to `close` in `row`.
    What lies past `now_ms` in `asked` is provisional, too: upstream cannot know it yet. `due_from`
    is the instant that due moments are reckoned from, if that is not `now_ms`. `awaited`: the
    session whose bar has yet to come; the tail begins no later than there, and is due again after
    as long as its close is past, at least 15 min, at most 6 h.
    """
    hours = Hours.of(meta)
    due_from = now_ms if due_from is None else due_from
    bound = final_until(name, hours, now_ms)
    if awaited is not None:
        bound = min(bound, awaited.start)
    tail = Interval(max(asked.start, bound), asked.end)
    settled = Interval(asked.start, min(asked.end, bound))
    spans = [
        Provisional(span.start, span.end, due_from + refresh_null_ms)
        for span in _null_spans(name, hours, records, settled, now_ms)
    ]
    if not tail.empty:
        first = next((record.time for record in records if record.time >= tail.start), None)
        due = _tail_due(name, hours, first, due_from, refresh_ms)
        if awaited is not None:
            past = due_from - awaited.close
            due = min(due, due_from + min(max(past, _AWAITED_LEAST_MS), _AWAITED_MOST_MS))
        spans.append(Provisional(tail.start, tail.end, due))
    return tuple(spans)


class Awaited(NamedTuple):
    """The last closed session, whose bar upstream has yet to bring; milliseconds UTC.

    `start`: where the bar's stamp can be from on; `close`: when the session closed.
    """

    start: int
    close: int


def awaited_session(
    name: str,
    asked: Interval,
    records: Sequence[Record],
    meta: Mapping[str, Any],
    now_ms: int,
    last_trade: int | None,
) -> Awaited | None:
    """Return the last closed session if its bar is asked for and has not come (stitching rule 3).

    `last_trade` is when upstream last saw a trade, milliseconds UTC. If that was before the
    session, there was none, funds excepted, whose price comes in the evening. Who had no bar for
    five sessions is waited for no longer.
    """
    hours = Hours.of(meta)
    if zone_named(meta.get("tz")) is None:
        return None
    if meta.get("kind") == _CURRENCY:
        hours = replace(hours, weekend=_SATURDAY_SUNDAY)
    day = hours.day(now_ms)
    while not hours.trades(day) or hours.closing(day) > now_ms:
        day = _shifted(day, -1)
    opening, closing = hours.opening(day), hours.closing(day)
    if name in PERIODS:
        first = period_first(name, day)
        bar = Interval(hours.at(first), hours.at(period_next(name, first)))
        reach = Interval(bar.start, bar.start + 1)
    elif name == "1d":
        bar = Interval(hours.at(day), hours.at(_shifted(day, 1)))
        reach = Interval(opening, opening + 1)
    else:
        bar = reach = Interval(opening, closing)
    if asked.start > reach.start or asked.end < reach.end:
        return None
    with_values = (one.time for one in reversed(records) if not _is_null(one.row))
    newest = next((time for time in with_values if time < bar.end), None)
    if newest is not None and newest >= bar.start:
        return None
    if last_trade is not None and last_trade < opening and meta.get("kind") != _FUND:
        return None
    known = [at for at in (newest, last_trade) if at is not None]
    since = max(known) if known else asked.start - 1
    missed = day
    for _ in range(_AWAITED_SESSIONS - 1):
        missed = _shifted(missed, -1)
        while not hours.trades(missed):
            missed = _shifted(missed, -1)
    return Awaited(bar.start, closing) if hours.opening(missed) <= since else None


def due_moments(meta: Mapping[str, Any], now_ms: int) -> DueMoments:
    """Return the latest opening and 15 min that is not after now, and the next (stitching rule 9).

    The openings are those of the series' exchange, at the hour that upstream told last; around
    the clock local midnight, for currencies not on Saturday and Sunday. A holiday counts as a
    session. Without a known time zone: 24 hours from now.
    """
    hours = _due_hours(meta)
    if hours is None:
        return DueMoments.daily(now_ms)

    def due(day: date) -> int:
        return hours.opening(day) + DUE_AFTER_OPENING_MS

    today = hours.day(now_ms)
    last = _shifted(today, 1)
    while not hours.trades(last) or due(last) > now_ms:
        last = _shifted(last, -1)
    coming = _shifted(last, 1)
    while not hours.trades(coming):
        coming = _shifted(coming, 1)
    return DueMoments(due(last), due(coming))


def _due_hours(meta: Mapping[str, Any]) -> Hours | None:
    """Return the hours by which a series is due; `None`: its time zone is not known."""
    hours = Hours.of(meta)
    if zone_named(meta.get("tz")) is None:
        return None
    kind, told = meta.get("kind"), meta.get("last_open_s")
    if kind in _ROUND_THE_CLOCK:
        weekend = _SATURDAY_SUNDAY if kind == _CURRENCY else frozenset[int]()
        return replace(hours, open_s=0, weekend=weekend)
    return replace(hours, open_s=told) if _is_second(told) else hours


def _is_second(value: object) -> TypeGuard[int]:
    return type(value) is int and 0 <= value < DAY_S


def _tail_due(name: str, hours: Hours, first: int | None, now_ms: int, refresh_ms: int) -> int:
    """Return when the tail whose first bar is stamped `first` is to be fetched again."""
    soon = now_ms + refresh_ms
    if hours.may_be_open(now_ms):
        return soon
    due = hours.next_opening(now_ms)
    if first is not None:
        if name in PERIODS or name == "1d":
            settled = settles_at(name, hours, period_first(name, hours.day(first)))
        else:
            settled = first + BAR_MS[name] + INTRADAY_SETTLING_MS
        due = min(due, settled)
    return max(due, soon)


def _null_spans(
    name: str, hours: Hours, records: Sequence[Record], within: Interval, now_ms: int
) -> Iterable[Interval]:
    """Return the spans of the recent null rows, joined where only null rows lie between."""
    spans: list[Interval] = []
    for i, time_ms in _recent_nulls(records, within, now_ms - NULL_SETTLING_MS):
        if name in PERIODS:
            end = hours.at(period_next(name, period_first(name, hours.day(time_ms))))
        else:
            end = time_ms + BAR_MS[name]
        if i + 1 < len(records):
            end = min(end, records[i + 1].time)
        end = min(end, within.end)
        if spans and (spans[-1].end >= time_ms or _is_null(records[i - 1].row)):
            spans[-1] = Interval(spans[-1].start, end)
        else:
            spans.append(Interval(time_ms, end))
    if len(spans) > _MAX_NULL_SPANS:
        # Each span is a request of its own once due; a ticker that hardly trades has hundreds.
        return [Interval(spans[0].start, spans[-1].end)]
    return spans


def _recent_nulls(
    records: Sequence[Record], within: Interval, since_ms: int
) -> Iterator[tuple[int, int]]:
    """Yield index and time of the null rows in `within` that are younger than `since_ms`."""
    at = len(records)
    while at and records[at - 1].time > since_ms:
        at -= 1
    for i in range(at, len(records)):
        time_ms = records[i].time
        if within.start <= time_ms < within.end and _is_null(records[i].row):
            yield i, time_ms


def _day_hours(opens: object, closes: object) -> tuple[int, int]:
    if isinstance(opens, int) and isinstance(closes, int) and 0 <= opens < closes <= DAY_S:
        return opens, closes
    return 0, DAY_S


def _is_null(row: Any) -> bool:
    return row.open is None or row.high is None or row.low is None or row.close is None


def _shifted(day: date, days: int) -> date:
    return date.fromordinal(day.toordinal() + days)
