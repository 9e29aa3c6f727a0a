"""The meta block of a chart answer: what upstream says about the instrument and its hours.

Apart from chart.py, as it follows from the market alone and not from the rows' quirks.
"""

from __future__ import annotations

import msgspec

from gapless.simulator.book import Bar
from gapless.simulator.instruments import Kind, Session
from gapless.simulator.market import Market
from gapless.simulator.quirks import Quirks
from gapless.simulator.rows import POST_S, PRE_S, Window, regular_market_time
from gapless.simulator.view import INTRADAY

VALID_RANGES = ("1d", "5d", "1mo", "3mo", "6mo", "1y", "2y", "5y", "10y", "ytd", "max")


class Meta:
    """The meta block of one answer."""

    def __init__(self, market: Market, quirks: Quirks, window: Window) -> None:
        self.market, self.quirks, self.window = market, quirks, window
        self.view = window.view(market)
        self.calendar = self.view.calendar
        self.instrument = self.calendar.instrument

    def fields(self, rows: list[Bar], range_name: str) -> dict[str, object]:
        """Return the block for an answer with these rows, asked by range or (`""`) by bounds."""
        symbol, at_s, calendar = self.window.symbol, self.window.at_s, self.calendar
        servings = self.view.servings("1d")
        offset, zone = calendar.offset(at_s)
        session = self.view.session_before(at_s)
        today = calendar.day_of(at_s)
        latest = None
        if session is not None:
            bars = self.view.daily(session.day, session.day)
            latest = servings.one(bars[0][1]) if bars else None
        meta: dict[str, object] = {
            "currency": self.instrument.currency,
            "symbol": symbol,
            "exchangeName": self.instrument.exchange,
            "fullExchangeName": self.instrument.exchange,
            "instrumentType": self.instrument.kind.value,
            "firstTradeDate": self.market.first_session(symbol).open_s,
            "hasPrePostMarketData": not self.instrument.round_the_clock,
            "gmtoffset": offset,
            "timezone": zone,
            "exchangeTimezoneName": self.instrument.tz,
        }
        if session is not None:
            meta["regularMarketTime"] = regular_market_time(self.view, session)
        if latest is not None:
            meta["regularMarketPrice"] = _shown(latest.close)
            meta["regularMarketDayHigh"] = _shown(latest.high)
            meta["regularMarketDayLow"] = _shown(latest.low)
            meta["regularMarketVolume"] = latest.volume
        meta["longName"] = meta["shortName"] = f"{symbol} (simulated)"
        before = self._close_before(calendar.day_of(self.window.start_s))
        if before is not None:
            meta["chartPreviousClose"] = before
        if self.window.interval in INTRADAY:
            meta["previousClose"] = before
            meta["scale"] = 3
        meta["priceHint"] = 4 if self.instrument.kind is Kind.CURRENCY else 2
        coming = next(
            (day for day in range(today, today + 10) if self.market.session(symbol, day)), today
        )
        meta["currentTradingPeriod"] = {
            name: self._period(*hours) for name, hours in self._around(coming).items()
        }
        if self.window.interval in INTRADAY:
            meta["tradingPeriods"] = self._trading_periods(rows)
        meta["dataGranularity"] = "1h" if self.window.interval == "60m" else self.window.interval
        meta["range"] = range_name
        meta["validRanges"] = VALID_RANGES
        for name in self.quirks.null_meta & meta.keys():
            meta[name] = None
        for name in self.quirks.absent_meta:
            meta.pop(name, None)
        for odd in servings.odd:
            for name, token in odd.meta:
                if token:
                    meta[name] = msgspec.Raw(token)
                else:
                    meta.pop(name, None)
        return meta

    def _close_before(self, day: int) -> float | None:
        bars = self.view.daily(day - 10, day - 1)
        return _shown(bars[-1][1].close) if bars else None

    def _trading_periods(self, rows: list[Bar]) -> object:
        days = dict.fromkeys(self.calendar.day_of(bar.t) for bar in rows)
        around = [self._around(day) for day in days]
        if not self.window.pre_post:
            return [[self._period(*hours["regular"])] for hours in around]
        return {
            name: [[self._period(*hours[name])] for hours in around]
            for name in ("pre", "post", "regular")
        }

    def _around(self, day: int) -> dict[str, tuple[int, int]]:
        session: Session = self.calendar.hours(day)
        begin, end = session.open_s - PRE_S, session.close_s + POST_S
        if self.instrument.round_the_clock:
            last = session.close_s - 60
            return {
                "pre": (session.open_s, session.open_s),
                "regular": (session.open_s, last),
                "post": (last, last),
            }
        return {
            "pre": (begin, session.open_s),
            "regular": (session.open_s, session.close_s),
            "post": (session.close_s, end),
        }

    def _period(self, start_s: int, end_s: int) -> dict[str, object]:
        offset, zone = self.calendar.offset(start_s)
        return {"timezone": zone, "start": start_s, "end": end_s, "gmtoffset": offset}


def _shown(price: float | None) -> float | None:
    return None if price is None else round(price, 4)
