"""What gapless takes for granted of Yahoo's chart endpoint, put so that an answer can disprove it.

Pure: which requests to make, and what their answers show. Whoever makes them hands the answers
in. Apart from the reader in yahoo_chart.py, which copes with what it is given and tells nobody
that upstream has become another one.
"""

from __future__ import annotations

import re
import struct
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Final, Literal

from gapless.domain.coverage import CLOCKS_APART_MS
from gapless.providers.yahoo_evidence import (
    NEAR_S,
    Chart,
    Odd,
    Question,
    Seen,
    Unseen,
    decoded,
    dug,
    local_second,
    local_time,
    told,
)
from gapless.providers.yahoo_sessions import DAY_S
from gapless.zones import zone_named

MOST_REQUESTS: Final = 10
"""How many requests all questions take together, at the most."""

CLOCKS_AGREE_S: Final = CLOCKS_APART_MS // 1_000
"""Clocks that differ by more are told of (stitching rule 1)."""

_NOBODY: Final = "NOSUCHTICKER0"
_SPLIT: Final = datetime(2020, 8, 31, 13, 30, tzinfo=UTC)
_OPENING_S: Final = 34_200
_LONG_DAYS: Final = 99 * 365
_HALF_HOUR: Final = 1_800
_TOLERANCE: Final = 1e-4
_PRICES: Final = ("open", "high", "low", "close")
_META: Final = (
    "symbol",
    "dataGranularity",
    "exchangeTimezoneName",
    "instrumentType",
    "currency",
    "firstTradeDate",
    "regularMarketTime",
)


@dataclass(frozen=True, slots=True)
class Verdict:
    """What became of one assumption; `seen` is what speaks against it, or why it is not known."""

    outcome: Literal["holds", "broken", "unseen"]
    says: str
    seen: str = ""


@dataclass(frozen=True, slots=True)
class Assumption:
    """A sentence about upstream, and the answers that show whether it is true.

    `broken_by` is given the answers to the questions `needs` and returns what speaks against it.
    """

    needs: tuple[str, ...]
    says: str
    broken_by: Callable[..., str | None]


def questions(now_s: int) -> Iterator[Question]:
    """Yield what to ask; after each answer `follow_up` may have one more."""
    yield Question(
        "bounds",
        "two weeks of daily bars around a split",
        "1d",
        _at(2020, 8, 24, 13, 30),
        _at(2020, 9, 4, 13, 30),
    )
    yield Question(
        "long", "99 years of daily bars up to now", "1d", now_s - _LONG_DAYS * DAY_S, now_s
    )
    yield Question(
        "week",
        "weeks from a Wednesday on",
        "1wk",
        _at(2021, 3, 3, 10),
        _at(2021, 3, 31, 4),
    )
    yield Question(
        "month",
        "months with dividends",
        "1mo",
        _at(2021, 2, 1, 10),
        _at(2021, 6, 1, 4),
    )
    yield Question("empty", "a weekend", "1d", _at(2021, 1, 2), _at(2021, 1, 3, 12))
    yield Question(
        "before",
        "a week before the first trade",
        "1d",
        _at(1970, 1, 5),
        _at(1970, 1, 12),
        refused=True,
    )
    yield Question(
        "unknown",
        "a ticker that there is not",
        "1d",
        _at(2021, 1, 4),
        _at(2021, 1, 8),
        ticker=_NOBODY,
        refused=True,
    )
    yield Question(
        "hours",
        "hourly bars that begin beyond the look-back",
        "1h",
        now_s - 731 * DAY_S,
        now_s,
        refused=True,
    )
    yield Question(
        "minutes",
        "nine days of minutes in one request",
        "1m",
        now_s - 9 * DAY_S,
        now_s,
        refused=True,
    )


def follow_up(seen: Seen) -> Question | None:
    """Return the question that only an answer makes possible: about a session that was one."""
    if seen.question.name != "long":
        return None
    try:
        chart = Chart(seen)
        openings = [stamp for stamp in chart.settled if local_second(stamp) == _OPENING_S]
    except (Odd, Unseen):
        return None
    # The last but one is over, whatever the hour, and no half-day ends before half past twelve.
    if len(openings) < 2 or openings[-2] < seen.at_s - 30 * DAY_S:
        return None
    opening = openings[-2]
    return Question(
        "session",
        "three hours of half-hourly bars of one session",
        "30m",
        opening,
        opening + 6 * _HALF_HOUR,
    )


def verdicts(seen: Mapping[str, Seen], latest: str) -> Iterator[Verdict]:
    """Yield what the answer to the question `latest` shows, together with those before it."""
    answer = seen[latest]
    if answer.complaint is not None and not answer.question.refused:
        says = f"{answer.question.about}: answered with a chart"
        yield Verdict("broken", says, answer.complaint)
    for assumption in ASSUMPTIONS:
        if latest in assumption.needs and seen.keys() >= set(assumption.needs):
            yield _verdict(assumption, [seen[name] for name in assumption.needs])


def clock_verdict(seen: Sequence[Seen]) -> Verdict:
    """Return whether all answers tell upstream's time."""
    says = "every answer has a Date"
    without = [one.question.about for one in seen if one.clock_s is None]
    if without:
        return Verdict("broken", says, f"none that can be read with {'; '.join(without)}")
    return Verdict("holds", says)


def clock_ahead_s(seen: Sequence[Seen]) -> int | None:
    """Return by how many seconds upstream's clock is ahead of the own one, as far as is told."""
    ahead = [round(one.clock_s - one.at_s) for one in seen if one.clock_s is not None]
    return min(ahead, key=abs, default=None)


def _verdict(assumption: Assumption, answers: Sequence[Seen]) -> Verdict:
    try:
        seen = assumption.broken_by(*answers)
    except Odd as odd:
        seen = str(odd)
    except Unseen as unseen:
        return Verdict("unseen", assumption.says, str(unseen))
    return Verdict("holds" if seen is None else "broken", assumption.says, seen or "")


# What speaks against each assumption


def _at(*parts: int) -> int:
    year, month, day, *rest = parts
    hour, minute, *_ = [*rest, 0, 0]
    return int(datetime(year, month, day, hour, minute, tzinfo=UTC).timestamp())


def _nearest(stamps: Sequence[int], to: int) -> str:
    if not stamps:
        return "there are no bars"
    return f"the nearest is stamped {told(min(stamps, key=lambda one: abs(one - to)))}"


def _lower(seen: Seen) -> str | None:
    chart, period1 = Chart(seen), seen.question.period1
    return None if period1 in chart.stamps else _nearest(chart.stamps, period1)


def _upper(seen: Seen) -> str | None:
    chart, period2 = Chart(seen), seen.question.period2
    return None if period2 in chart.stamps else _nearest(chart.stamps, period2)


def _no_upper(seen: Seen) -> str | None:
    chart, period2 = Chart(seen), seen.question.period2
    late = [stamp for stamp in chart.settled if stamp >= period2]
    return f"one is stamped {told(late[0])}" if late else None


def _openings(seen: Seen) -> str | None:
    odd = [stamp for stamp in Chart(seen).settled if local_second(stamp) != _OPENING_S]
    return f"one is stamped {told(odd[0])}" if odd else None


def _columns(seen: Seen) -> str | None:
    chart = Chart(seen)
    for name in _PRICES:
        prices = (one for one in chart.column(name) if one is not None)
        odd = next((one for one in prices if not isinstance(one, int | float)), None)
        if odd is not None:
            return f"{name} has {str(odd)[:40]!r}"
    chart.column("adjclose")
    whole = (type(one) is int or one is None for one in chart.column("volume"))
    return None if all(whole) else "a volume is no whole number"


def _single(seen: Seen) -> str | None:
    chart = Chart(seen)
    for name in (*_PRICES, "adjclose"):
        for value in chart.column(name):
            if isinstance(value, float) and not _is_single(value):
                return f"{name} has {value!r}"
    return None


def _is_single(value: float) -> bool:
    try:
        return bool(struct.unpack("f", struct.pack("f", value))[0] == value)
    except OverflowError:
        return False


def _split(seen: Seen) -> str | None:
    ex_date = int(_SPLIT.timestamp())
    found = Chart(seen).events("splits").get(str(ex_date))
    if found is None:
        return f"there is none at {told(ex_date)}"
    new, old, when = (dug(found, name) for name in ("numerator", "denominator", "date"))
    if (new, old, when) != (4, 1, ex_date):
        return f"it says {new} for {old}, date {when}"
    return None


def _divided(seen: Seen) -> str | None:
    closes = Chart(seen).closes()
    ex_date = int(_SPLIT.timestamp())
    before = max((stamp for stamp in closes if stamp < ex_date), default=None)
    if before is None or ex_date not in closes:
        raise Unseen("the two days are not there")
    ratio = closes[before] / closes[ex_date] if closes[ex_date] else 0.0
    return (
        None if 0.7 < ratio < 1.4 else f"the close of the day before is {ratio:.3g} times as high"
    )


def _facts(seen: Seen) -> str | None:
    meta = Chart(seen).meta
    absent = [name for name in _META if meta.get(name) is None]
    period = dug(meta, "currentTradingPeriod", "regular")
    if not all(type(dug(period, name)) is int for name in ("start", "end")):
        absent.append("currentTradingPeriod.regular")
    if absent:
        return f"there is no {', '.join(absent)}"
    if zone_named(meta["exchangeTimezoneName"]) is None:
        return f"{str(meta['exchangeTimezoneName'])[:40]!r} is no time zone"
    told = meta["symbol"], meta["dataGranularity"]
    if told != (seen.question.ticker, seen.question.interval):
        return f"it is of {told[0]!r} and {told[1]!r}"
    return None


def _whole(seen: Seen) -> str | None:
    chart = Chart(seen)
    granularity, first = chart.meta.get("dataGranularity"), chart.meta.get("firstTradeDate")
    if granularity != seen.question.interval:
        return f"its bars are of {granularity!r}"
    stamps = chart.stamps
    if not stamps:
        return "there are no bars"
    if type(first) is int and abs(stamps[0] - first) > 5 * DAY_S:
        return f"it begins at {told(stamps[0])}, and the first trade was at {told(first)}"
    years = (stamps[-1] - stamps[0]) / (365.25 * DAY_S)
    if len(stamps) < 240 * years:
        return f"it has {len(stamps):,} bars for {years:.0f} years"
    return None


def _live(seen: Seen) -> str | None:
    chart = Chart(seen)
    recent, last = chart.stamps[-20:], chart.last_trade
    odd = [
        stamp
        for stamp in recent
        if local_second(stamp) != _OPENING_S and (last is None or abs(stamp - last) >= NEAR_S)
    ]
    if odd:
        return f"a row is stamped {told(odd[-1])}, and the last trade was at " + (
            "a time that is not told" if last is None else told(last)
        )
    if not recent:
        return "there are no bars"
    if all(local_second(stamp) == _OPENING_S for stamp in recent):
        raise Unseen("there is no such row now; ask while a session is open, or soon after it")
    return None


def _none_ahead(seen: Seen) -> str | None:
    chart, clock = Chart(seen), seen.clock_s
    if clock is None:
        raise Unseen("there is no Date")
    newest = max([*chart.stamps, chart.last_trade or 0])
    if newest > clock + CLOCKS_AGREE_S:
        return f"{told(newest)} is told at {told(clock)}"
    return None


def _same(short: Seen, long: Seen) -> str | None:
    one, other = Chart(short).closes(), Chart(long).closes()
    shared = sorted(one.keys() & other.keys())
    if not shared:
        raise Unseen("no bar came with both requests")
    for stamp in shared:
        if abs(one[stamp] - other[stamp]) > _TOLERANCE * abs(other[stamp]):
            return f"the close of {told(stamp)} is {one[stamp]} and {other[stamp]}"
    return None


def _unadjusted(seen: Seen) -> str | None:
    return None if Chart(seen).adjusted is None else "there is an adjclose"


def _grid(seen: Seen) -> str | None:
    chart, period1 = Chart(seen), seen.question.period1
    odd = [stamp for stamp in chart.settled if (stamp - period1) % _HALF_HOUR]
    return f"one is stamped {told(odd[0])}" if odd else None


def _weekday(seen: Seen) -> str | None:
    wanted = local_time(seen.question.period1).weekday()
    stamps = Chart(seen).settled
    odd = [stamp for stamp in stamps if local_time(stamp).weekday() != wanted]
    if odd:
        return f"one is stamped {told(odd[0])}, a {local_time(odd[0]):%A}"
    return None if stamps else "there are no bars"


def _first_of_month(seen: Seen) -> str | None:
    stamps = Chart(seen).settled
    odd = [stamp for stamp in stamps if (local_time(stamp).day, local_second(stamp)) != (1, 0)]
    if odd:
        return f"one is stamped {told(odd[0])}"
    return None if stamps else "there are no bars"


def _ex_dates(seen: Seen) -> str | None:
    chart = Chart(seen)
    dividends = chart.events("dividends")
    stamps = set(map(str, chart.stamps))
    for key, event in dividends.items():
        amount, when = dug(event, "amount"), dug(event, "date")
        if not isinstance(amount, int | float) or type(when) is not int:
            return f"the one at {key[:20]} has amount {amount!r} and date {when!r}"
        if key not in stamps:
            return f"the one of {told(when)} is at {key[:20]}, which is no bar's stamp"
        if local_time(when).date().replace(day=1) != local_time(int(key)).date():
            return f"the one at {told(int(key))} is of {told(when)}"
    return None if dividends else "there are none"


def _empty(seen: Seen) -> str | None:
    chart = Chart(seen)
    if chart.has("timestamp"):
        return f"it has timestamps: {', '.join(map(told, chart.stamps[:3])) or 'none'}"
    return None if chart.quote == [{}] else "its quote is not [{}]"


def _refusal(status: int, code: str, pattern: str) -> Callable[[Seen], str | None]:
    """Return the check of an error in upstream's form."""

    def broken_by(seen: Seen) -> str | None:
        refusal = dug(decoded(seen), "chart", "error")
        told_code, description = dug(refusal, "code"), dug(refusal, "description")
        if (
            seen.status == status
            and told_code == code
            and isinstance(description, str)
            and re.search(pattern, description)
        ):
            return None
        if not isinstance(refusal, dict):
            return f"it answers HTTP {seen.status}, and no error of its own form"
        return f"it answers HTTP {seen.status}, {told_code}: {str(description)[:160]}"

    return broken_by


ASSUMPTIONS: Final = (
    Assumption(("bounds",), "a daily bar stamped at period1 comes back", _lower),
    Assumption(("bounds",), "a daily bar stamped at period2 comes back", _upper),
    Assumption(("bounds",), "daily bars are stamped at their session's opening", _openings),
    Assumption(("bounds",), "rows have all columns, and volumes are whole numbers", _columns),
    Assumption(("bounds",), "prices have single precision", _single),
    Assumption(("bounds",), "a split is told with its ex-date and its shares", _split),
    Assumption(("bounds",), "prices from before a split are divided by it", _divided),
    Assumption(
        ("bounds",), "meta tells ticker, interval, zone, kind, hours and last trade", _facts
    ),
    Assumption(("long",), "99 years of daily bars come at once, from the first trade on", _whole),
    Assumption(("long",), "the live row is stamped at the last trade", _live),
    Assumption(("long",), "nothing is stamped ahead of upstream's clock", _none_ahead),
    Assumption(("bounds", "long"), "a bar is the same, whichever range it is asked in", _same),
    Assumption(("session",), "an intraday bar stamped at period1 comes back", _lower),
    Assumption(("session",), "an intraday bar stamped at period2 does not come back", _no_upper),
    Assumption(("session",), "intraday bars lie on a grid from the opening on", _grid),
    Assumption(("session",), "intraday bars have no adjclose", _unadjusted),
    Assumption(("week",), "weeks begin on the weekday of period1", _weekday),
    Assumption(("month",), "months are stamped at local midnight of the 1st", _first_of_month),
    Assumption(
        ("month",), "a dividend is keyed by the bar that it falls in, with its ex-date", _ex_dates
    ),
    Assumption(("empty",), "no bars: a chart without timestamp, and an empty quote", _empty),
    Assumption(
        ("before",),
        "before the first trade: HTTP 400, data doesn't exist",
        _refusal(400, "Bad Request", "^Data doesn't exist for startDate"),
    ),
    Assumption(
        ("unknown",),
        "an unknown ticker: HTTP 404, not found",
        _refusal(404, "Not Found", ""),
    ),
    Assumption(
        ("hours",),
        "hourly bars reach 730 days back; what begins before: HTTP 422",
        _refusal(422, "Unprocessable Entity", r"within the last 730 days"),
    ),
    Assumption(
        ("minutes",),
        "a request has 8 days of minutes at the most; more: HTTP 422",
        _refusal(422, "Unprocessable Entity", r"Only 8 days worth"),
    ),
)
