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
from gapless.simulator.happenings import CapitalGain, Odd, Split
from gapless.simulator.instruments import DAY, period_start
from gapless.simulator.market import Market
from gapless.simulator.meta import VALID_RANGES, Meta
from gapless.simulator.quirks import Quirks
from gapless.simulator.rows import Window, chart_rows
from gapless.simulator.serving import Servings
from gapless.simulator.view import INTRADAY, PERIODS

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
    """A whole answer, with so many rows.

    `served`: it says what is held, be it nothing: 200, or 400 no data.
    """

    status: int
    body: bytes
    headers: Mapping[str, str] = field(default_factory=lambda: JSON_HEADERS)
    served: bool = False
    rows: int = 0


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
    window = _window(market, query, market.seen_by(edge, now_s), edge)
    if isinstance(window, Answer):
        return window
    refused = _refused(market, quirks, window)
    if refused is not None:
        return refused
    servings = window.view(market).servings(window.interval)
    true = chart_rows(market, quirks, window)
    rows = true
    for odd in servings.odd:
        rows = _restamped(odd, rows, window)
    result: dict[str, object] = {"meta": Meta(market, quirks, window).fields(rows, query.range)}
    if rows:
        result["timestamp"] = [bar.t for bar in rows]
    asked = _Asked(quirks, window, servings, query.events)
    events = asked.events(market, true)
    if events:
        result["events"] = events
    result["indicators"] = asked.indicators(rows)
    body = msgspec.json.encode({"chart": {"result": [result], "error": None}})
    return Answer(200, body, served=True, rows=len(rows))


def _window(market: Market, query: Query, at_s: float, edge: int) -> Window | Answer:
    """Return what is asked for, or the error answer to what makes no sense."""
    interval = query.interval
    wrong = None
    if interval not in INTRADAY and interval not in ("1d", *PERIODS):
        wrong = f"interval={interval} is not supported. Valid intervals: [{VALID_INTERVALS}]"
    elif query.range and query.range not in VALID_RANGES:
        wrong = f"range={query.range} is not supported. Valid ranges: [{', '.join(VALID_RANGES)}]"
    if wrong is not None:
        return problem(400, "Bad Request", f"Invalid input - {wrong}")
    unknown = problem(404, "Not Found", "No data found, symbol may be delisted")
    if market.instrument(query.symbol) is None:
        return unknown
    if market.view(query.symbol, at_s, edge).servings(interval).delisted:
        return unknown
    start_s, end_s = _bounds(market, query, at_s)
    if start_s > end_s:
        wrong = f"startDate = {start_s}, endDate = {end_s}"
        return problem(
            400, "Bad Request", f"Invalid input - start date cannot be after end date. {wrong}"
        )
    return Window(query.symbol, interval, start_s, end_s, at_s, query.pre_post, edge)


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
        session = market.view(query.symbol, at_s).session_before(start_s)
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
    years = quirks.day_span_years
    if years is not None and window.interval == "1d" and end_s - start_s > years * 365.25 * DAY:
        text += f"Only {years} years worth of day granularity data are allowed to be fetched "
        return problem(422, "Unprocessable Entity", text + "per request.")
    if end_s < market.first_session(window.symbol).open_s or start_s > at_s:
        text = f"Data doesn't exist for startDate = {start_s}, endDate = {end_s}"
        return problem(400, "Bad Request", text, served=True)
    return None


def _restamped(odd: Odd, rows: list[Bar], window: Window) -> list[Bar]:
    """Return the rows on the stamps that an odd answer puts them on."""
    rows = [bar for bar in rows for _ in range(odd.repeats)]
    if not rows or odd.stamps == "true":
        return rows
    if odd.stamps == "reversed":
        return rows[::-1]
    if odd.stamps == "one":
        return [msgspec.structs.replace(bar, t=rows[0].t) for bar in rows]
    # The last row lies ten days before period1.
    back_s = max(rows[-1].t, window.end_s) - window.start_s + 10 * DAY
    return [msgspec.structs.replace(bar, t=bar.t - back_s) for bar in rows]


@dataclass(frozen=True, slots=True)
class _Asked:
    """What the parts of one answer go by."""

    quirks: Quirks
    window: Window
    servings: Servings
    kinds: frozenset[str]

    def indicators(self, rows: list[Bar]) -> dict[str, object]:
        daily = self.window.interval not in INTRADAY
        if not rows:
            empty: dict[str, object] = {"quote": [{}]}
            if daily and self.quirks.no_bars == "adjclose_empty":
                empty["adjclose"] = [{}]
            return empty
        columns: dict[str, list[object]] = {
            "open": [bar.open for bar in rows],
            "high": [bar.high for bar in rows],
            "low": [bar.low for bar in rows],
            "close": [bar.close for bar in rows],
            "volume": [bar.volume for bar in rows],
        }
        if daily:
            infinity = msgspec.Raw(self.quirks.infinity_token)
            columns["adjclose"] = [
                infinity if bar.adjclose is not None and isinf(bar.adjclose) else bar.adjclose
                for bar in rows
            ]
        for odd in self.servings.odd:
            for name, token in odd.values:
                columns[name][0] = msgspec.Raw(token)
            for name in odd.lacks:
                columns.pop(name, None)
        adjusted = columns.pop("adjclose", None)
        found: dict[str, object] = {"quote": [columns]}
        if adjusted is not None:
            found["adjclose"] = [{"adjclose": adjusted}]
        return found

    def events(self, market: Market, rows: list[Bar]) -> dict[str, dict[str, object]]:
        """Return the actions of the range, keyed by the stamp of the bar they fall in."""
        window = self.window
        view = window.view(market)
        begin_s, end_s = self.servings.reach(rows)
        begin_s, end_s = max(begin_s, window.start_s), min(end_s, window.end_s)
        if not self.quirks.events_ahead:
            end_s = min(end_s, window.at_s)
        found: dict[str, dict[str, object]] = {}
        for ex_s, action, amount in view.events():
            if not begin_s <= ex_s <= end_s or self.servings.hides(ex_s):
                continue
            key = str(ex_s)
            if window.interval in PERIODS:
                first = period_start(window.interval, action.ex_date.toordinal())
                key = str(view.calendar.midnight(first))
            if isinstance(action, Split):
                if self.kinds & {"split", "splits"}:
                    found.setdefault("splits", {})[key] = {
                        "date": ex_s,
                        "numerator": float(action.numerator),
                        "denominator": float(action.denominator),
                        "splitRatio": f"{action.numerator}:{action.denominator}",
                    }
            elif isinstance(action, CapitalGain):
                if "capitalGains" in self.kinds:
                    found.setdefault("capitalGains", {})[key] = {"amount": amount, "date": ex_s}
            elif self.kinds & {"div", "dividends"}:
                found.setdefault("dividends", {})[key] = {"amount": amount, "date": ex_s}
        return found
