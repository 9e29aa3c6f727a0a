"""One symbol's days and minutes as its source has them, whatever happens to the data later.

Apart from book.py because markets that differ only in what happens may share it, and with it the
costly part: the drawn minutes.
"""

from __future__ import annotations

from gapless.simulator.instruments import Calendar, Instrument, Session
from gapless.simulator.prices import Minutes, PriceSource, Row, draw_minutes, symbol_seed

_MINUTES_KEPT = 512
"""Days whose minutes are remembered: two years of hourly bars would else hold 100 MB."""


class Tape:
    """An instrument with its calendar and price source."""

    def __init__(self, instrument: Instrument, source: PriceSource) -> None:
        self.instrument = instrument
        self.source = source
        self.calendar = Calendar(instrument)
        self.first_day = source.first_day(self.calendar)
        self._seed = symbol_seed(instrument.symbol, 7)
        self._minutes: dict[tuple[int, int, Row], Minutes] = {}

    def session(self, day: int) -> Session | None:
        """Return the session of `day`, or `None`."""
        return self.source.session(self.calendar, day)

    def row(self, day: int) -> Row:
        """Return the source's row of `day`, which has a session."""
        return self.source.row(self.instrument, day)

    def minutes(self, session: Session, row: Row) -> Minutes:
        """Return the minutes of a session whose whole is `row` (revised or not)."""
        count = (session.close_s - session.open_s) // 60
        key = (session.day, count, row)
        known = self._minutes.get(key)
        if known is None:
            known = draw_minutes(self._seed, session.day, row, count)
            if len(self._minutes) >= _MINUTES_KEPT:
                del self._minutes[next(iter(self._minutes))]
            self._minutes[key] = known
        return known
