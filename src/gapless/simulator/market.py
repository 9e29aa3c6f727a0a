"""The simulated market: which bars upstream truly holds at an instant, and which of them it serves.

Pure but for what it remembers, and independent of the hub, so that tests can take its answers
as the truth. How upstream garbles them on the way out is chart.py's matter.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence

from gapless.errors import NotFound
from gapless.simulator.book import Bar, Book
from gapless.simulator.happenings import Action, Happening
from gapless.simulator.instruments import Calendar, Instrument, Session
from gapless.simulator.prices import PriceSource, RandomWalk
from gapless.simulator.tape import Tape
from gapless.simulator.view import View


class Market:
    """Instruments, their prices, and what upstream shows of them when.

    `prices` serves every instrument that `series` has no source of its own for (default: a
    `RandomWalk`). `edge_lags_s`: the hosts disagree: edge k shows the world as it was that many
    seconds ago. `float32`: prices are rounded to single precision, as upstream's are.
    """

    def __init__(
        self,
        instruments: Iterable[Instrument] = (),
        *,
        prices: PriceSource | None = None,
        series: Mapping[str, PriceSource] | None = None,
        edge_lags_s: Sequence[float] = (0.0,),
        float32: bool = True,
    ) -> None:
        self._prices = prices if prices is not None else RandomWalk()
        self._float32 = float32
        self._books: dict[str, Book] = {}
        self.edge_lags_s = tuple(edge_lags_s)
        for instrument in instruments:
            self.enlist(instrument, (series or {}).get(instrument.symbol))

    def fresh(self) -> Market:
        """Return a market of the same instruments and prices to which nothing has happened.

        It shares what was worked out of calendars and prices, so it costs next to nothing.
        """
        other = Market(prices=self._prices, edge_lags_s=self.edge_lags_s, float32=self._float32)
        for symbol, book in self._books.items():
            other._books[symbol] = Book(book.tape, single=self._float32)
        return other

    def enlist(self, instrument: Instrument, prices: PriceSource | None = None) -> None:
        """Add or replace an instrument, with prices of its own if given."""
        source = prices if prices is not None else self._prices
        self._books[instrument.symbol] = Book(Tape(instrument, source), single=self._float32)

    def delist(self, symbol: str) -> None:
        """Remove a symbol: upstream knows it no longer."""
        self._books.pop(symbol, None)

    def add(self, *happenings: Happening, delays_s: Mapping[int, float] | None = None) -> None:
        """Make something happen. Raises `NotFound` for a symbol that is not listed.

        `delays_s`: by how many seconds an edge shows it, and its end, later than the others,
        beside the edge's own lag: so hosts may be on different sides of one change alone.
        """
        for what in happenings:
            self._book(what.symbol).add(what, delays_s or {})

    def happenings(self, symbol: str) -> list[Happening]:
        """Return all that ever happens to a symbol, whenever it shows. Raises `NotFound`."""
        return self._book(symbol).happenings()

    @property
    def symbols(self) -> tuple[str, ...]:
        """The listed symbols."""
        return tuple(self._books)

    def instrument(self, symbol: str) -> Instrument | None:
        """Return the instrument, or `None` if it is not listed."""
        book = self._books.get(symbol)
        return None if book is None else book.tape.instrument

    def calendar(self, symbol: str) -> Calendar:
        """Return the calendar of a symbol. Raises `NotFound`."""
        return self._book(symbol).calendar

    def session(self, symbol: str, day: int) -> Session | None:
        """Return the session of a day, or `None` where there is none. Raises `NotFound`."""
        return self._book(symbol).tape.session(day)

    def first_session(self, symbol: str) -> Session:
        """Return the first session that ever was. Raises `NotFound`."""
        book = self._book(symbol)
        return book.calendar.hours(book.first_day)

    def view(self, symbol: str, at_s: float, edge: int = 0) -> View:
        """Return a symbol as `edge` shows it; `at_s`: its lag taken off. Raises `NotFound`."""
        return View(self._book(symbol), at_s, edge)

    def seen_by(self, edge: int, at_s: float) -> float:
        """Return the instant whose world `edge` shows at `at_s`."""
        return at_s - self.edge_lags_s[edge]

    def bars(
        self, symbol: str, interval: str, start_s: float, end_s: float, at_s: float, edge: int = 0
    ) -> list[Bar]:
        """Return the true bars stamped in `[start_s, end_s)` as upstream knows them at `at_s`.

        A bar is there once its stamp lies before `at_s`. The forming bar has its session's
        stamp; longer bars hold the whole period so far, whatever the range. Raises `NotFound`
        for an unknown symbol and `Unsupported` for an unknown interval.
        """
        return self.view(symbol, self.seen_by(edge, at_s), edge).bars(interval, start_s, end_s)

    def served(
        self, symbol: str, interval: str, start_s: float, end_s: float, at_s: float, edge: int = 0
    ) -> list[Bar]:
        """Return the rows that `edge` serves at `at_s` of one request for `[start_s, end_s)`.

        These are the true bars, corrected, without what is absent, and cut short: what an answer
        holds before it is garbled. Raises as `bars` does; of a delisted symbol there is nothing.
        """
        view = self.view(symbol, self.seen_by(edge, at_s), edge)
        servings = view.servings(interval)
        bars = view.bars(interval, start_s, end_s)
        return [] if servings.delisted else servings.rows(bars)

    def turns(self, symbol: str, start_s: float, end_s: float) -> list[float]:
        """Return when in `[start_s, end_s]` anything that happens shows or ceases at any edge.

        Between two turns a bar that is over stays as it is. What time alone brings, such as new
        bars, forming bars and their end, is no turn. Ascending, each once. Raises `NotFound`.
        """
        book = self._book(symbol)
        found = {
            turn_s + lag_s
            for edge, lag_s in enumerate(self.edge_lags_s)
            for turn_s in book.edges_of_spans(edge)
        }
        return sorted(turn_s for turn_s in found if start_s <= turn_s <= end_s)

    def events(self, symbol: str, at_s: float) -> list[tuple[int, Action, float]]:
        """Return what is shown at `at_s` as `(ex-date's open, action, amount)`, as a view does."""
        return self.view(symbol, at_s).events()

    def _book(self, symbol: str) -> Book:
        book = self._books.get(symbol)
        if book is None:
            raise NotFound(f"The simulated market does not list {symbol!r}.")
        return book
