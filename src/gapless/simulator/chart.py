"""The chart endpoint: a request and an instant in, status, headers and body out. Pure.

Behaviour as recorded from upstream; quirks.py has the switches.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import date
from math import isinf
from urllib.parse import parse_qs, unquote, urlsplit

import msgspec

from gapless.simulator.book import Bar
from gapless.simulator.happenings import Dividend
from gapless.simulator.instruments import DAY, period_start
from gapless.simulator.market import INTRADAY, PERIODS, Market
from gapless.simulator.meta import VALID_RANGES, Meta
from gapless.simulator.quirks import Quirks
from gapless.simulator.rows import Window, chart_rows

PATH = "/v8/finance/chart/"
VALID_INTERVALS = "1m, 2m, 5m, 15m, 30m, 60m, 90m, 1h, 4h, 1d, 5d, 1wk, 1mo, 3mo"
JSON_HEADERS: Mapping[str, str] = {
    "content-type": "application/json;charset=utf-8",
    "cache-control": "max-age=0, private",
    "vary": "Origin,Accept-Encoding",
    "server": "ATS",
    "age": "0",
    "referrer-policy": "no-referrer-when-downgrade",
    "x-content-type-options": "nosniff",
}
_INFINITY = "\x00infinity"
_MONTHS = {"1mo": 1, "3mo": 3, "6mo": 6, "1y": 12, "2y": 24, "5y": 60, "10y": 120}


@dataclass(frozen=True, slots=True)
class Query:
    """A parsed chart request; bounds in UTC seconds as asked, `None` where not given."""

    symbol: str
    interval: str = "1d"
    period1: int | None = None
    period2: int | None = None
    range: str = ""
    events: frozenset[str] = frozenset()
    pre_post: bool = False


@dataclass(frozen=True, slots=True)
class Answer:
    """A whole answer. `served`: it says what is held, be it nothing: 200, or 400 no data."""

    status: int
    body: bytes
    headers: Mapping[str, str] = field(default_factory=lambda: JSON_HEADERS)
    served: bool = False


def problem(status: int, code: str, description: str, *, served: bool = False) -> Answer:
    """Return an error answer in upstream's form."""
    error = {"code": code, "description": description}
    body = msgspec.json.encode({"chart": {"result": None, "error": error}})
    return Answer(status, body, served=served)


def parse(target: str) -> Query | Answer:
    """Parse the target of a GET request; what cannot be parsed becomes its error answer."""
    parts = urlsplit(target)
    if not parts.path.startswith(PATH):
        return Answer(404, b"<html><body>Not Found</body></html>", {"content-type": "text/html"})
    given = {name: values[-1] for name, values in parse_qs(parts.query).items()}
    bounds: dict[str, int | None] = {"period1": None, "period2": None}
    for name in bounds:
        text = given.get(name)
        if text is None:
            continue
        try:
            bounds[name] = int(text)
        except ValueError:
            return problem(400, "Bad Request", f"Invalid input - {name} is not a number: {text}")
    kinds = given.get("events", "").replace("|", ",").split(",")
    return Query(
        symbol=unquote(parts.path[len(PATH) :]).upper(),
        interval=given.get("interval", "1d"),
        period1=bounds["period1"],
        period2=bounds["period2"],
        range=given.get("range", ""),
        events=frozenset(kind for kind in kinds if kind),
        pre_post=given.get("includePrePost", "").lower() == "true",
    )


def answer(market: Market, quirks: Quirks, query: Query, now_s: float, edge: int = 0) -> Answer:
    """Return what upstream's host `edge` answers at `now_s`."""
    window = _window(market, query, market.seen_by(edge, now_s))
    if isinstance(window, Answer):
        return window
    refused = _refused(market, quirks, window)
    if refused is not None:
        return refused
    rows = chart_rows(market, quirks, window)
    result: dict[str, object] = {"meta": Meta(market, quirks, window).fields(rows, query.range)}
    if rows:
        result["timestamp"] = [bar.t for bar in rows]
    events = _events(market, query, window)
    if events:
        result["events"] = events
    result["indicators"] = _indicators(quirks, rows, daily=window.interval not in INTRADAY)
    body = msgspec.json.encode({"chart": {"result": [result], "error": None}})
    if quirks.infinite_adjclose_on:
        body = body.replace(msgspec.json.encode(_INFINITY), quirks.infinity_token)
    return Answer(200, body, served=True)


def _window(market: Market, query: Query, at_s: float) -> Window | Answer:
    """Return what is asked for, or the error answer to what makes no sense."""
    interval = query.interval
    wrong = None
    if interval not in INTRADAY and interval not in ("1d", *PERIODS):
        wrong = f"interval={interval} is not supported. Valid intervals: [{VALID_INTERVALS}]"
    elif query.range and query.range not in VALID_RANGES:
        wrong = f"range={query.range} is not supported. Valid ranges: [{', '.join(VALID_RANGES)}]"
    if wrong is not None:
        return problem(400, "Bad Request", f"Invalid input - {wrong}")
    if market.instrument(query.symbol) is None:
        return problem(404, "Not Found", "No data found, symbol may be delisted")
    start_s, end_s = _bounds(market, query, at_s)
    if start_s > end_s:
        wrong = f"startDate = {start_s}, endDate = {end_s}"
        return problem(
            400, "Bad Request", f"Invalid input - start date cannot be after end date. {wrong}"
        )
    return Window(query.symbol, interval, start_s, end_s, at_s, query.pre_post)


def _bounds(market: Market, query: Query, at_s: float) -> tuple[int, int]:
    """Return period1 and period2: as asked, or worked out from `range`."""
    end_s = int(at_s) if query.period2 is None else query.period2
    if query.period1 is not None:
        return query.period1, end_s
    first = market.first_session(query.symbol)
    calendar = market.calendar(query.symbol)
    today = date.fromordinal(calendar.day_of(end_s))
    wanted = query.range or "1d"
    if wanted == "max":
        return first.open_s, end_s
    if wanted == "ytd":
        return calendar.midnight(date(today.year, 1, 1).toordinal()), end_s
    if wanted in _MONTHS:
        months = today.year * 12 + today.month - 1 - _MONTHS[wanted]
        day = date(months // 12, months % 12 + 1, 1).toordinal() + min(today.day, 28) - 1
        return calendar.midnight(day), end_s
    start_s = end_s
    for _ in range(int(wanted[:-1])):
        session = market.last_session(query.symbol, start_s)
        if session is None:
            break
        start_s = session.open_s
    return start_s, end_s


def _refused(market: Market, quirks: Quirks, window: Window) -> Answer | None:
    """Return the error answer where upstream has nothing to give for the range as a whole."""
    start_s, end_s, at_s = window.start_s, window.end_s, window.at_s
    shown = "1h" if window.interval == "60m" else window.interval
    text = f"{shown} data not available for startTime={start_s} and endTime={end_s}. "
    reach = quirks.lookback_days.get(window.interval)
    if reach is not None and start_s < at_s - reach * DAY:
        text += f"The requested range must be within the last {reach} days."
        return problem(422, "Unprocessable Entity", text)
    span = quirks.span_days.get(window.interval)
    if span is not None and min(end_s, at_s) - start_s > span * DAY:
        text += f"Only {span} days worth of {shown} granularity data are allowed to be fetched "
        return problem(422, "Unprocessable Entity", text + "per request.")
    if end_s < market.first_session(window.symbol).open_s or start_s > at_s:
        text = f"Data doesn't exist for startDate = {start_s}, endDate = {end_s}"
        return problem(400, "Bad Request", text, served=True)
    return None


def _indicators(quirks: Quirks, rows: list[Bar], *, daily: bool) -> dict[str, object]:
    if not rows:
        empty: dict[str, object] = {"quote": [{}]}
        if daily and quirks.no_bars == "adjclose_empty":
            empty["adjclose"] = [{}]
        return empty
    quote = {
        "open": [bar.open for bar in rows],
        "high": [bar.high for bar in rows],
        "low": [bar.low for bar in rows],
        "close": [bar.close for bar in rows],
        "volume": [bar.volume for bar in rows],
    }
    found: dict[str, object] = {"quote": [quote]}
    if daily:
        adjusted: list[object] = [bar.adjclose for bar in rows]
        for i, bar in enumerate(rows):
            if bar.adjclose is not None and isinf(bar.adjclose):
                adjusted[i] = _INFINITY
        found["adjclose"] = [{"adjclose": adjusted}]
    return found


def _events(market: Market, query: Query, window: Window) -> dict[str, dict[str, object]]:
    """Return dividends and splits of the range, keyed by the stamp of the bar they fall in."""
    wants_dividends = bool(query.events & {"div", "dividends"})
    wants_splits = bool(query.events & {"split", "splits"})
    calendar = market.calendar(window.symbol)
    found: dict[str, dict[str, object]] = {}
    for ex_s, event, amount in market.events(window.symbol, window.at_s):
        if not window.start_s <= ex_s <= min(window.end_s, window.at_s):
            continue
        key = str(ex_s)
        if window.interval in PERIODS:
            key = str(calendar.midnight(period_start(window.interval, event.ex_date.toordinal())))
        if isinstance(event, Dividend):
            if wants_dividends:
                found.setdefault("dividends", {})[key] = {"amount": amount, "date": ex_s}
        elif wants_splits:
            found.setdefault("splits", {})[key] = {
                "date": ex_s,
                "numerator": float(event.numerator),
                "denominator": float(event.denominator),
                "splitRatio": f"{event.numerator}:{event.denominator}",
            }
    return found
