"""The switches for how the endpoint garbles what it truly holds.

Apart from chart.py so that a test can name a quirk without the machinery behind it.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import date
from typing import Literal

_HOUR = 3600


def lookback_days() -> dict[str, int]:
    """Return how many days back each intraday interval reaches."""
    middle = dict.fromkeys(("2m", "5m", "15m", "30m", "90m"), 60)
    return {"1m": 30, **middle, "60m": 730, "1h": 730, "4h": 730}


def span_days() -> dict[str, int]:
    """Return the longest span in days of one request, where there is a limit."""
    return {"1m": 8}


@dataclass(frozen=True, slots=True)
class Quirks:
    """How upstream behaves; `dataclasses.replace` makes a variant.

    The defaults are upstream on an ordinary day. `Quirks.none()` only cuts ranges as upstream
    does; `Quirks.all()` has every quirk that does not contradict another.
    """

    period2_inclusive_daily: bool = True
    """A 1d bar stamped exactly at period2 comes back."""
    period2_inclusive_intraday: bool = False
    """The same for intraday bars."""
    weeks_from_period1: bool = True
    """Weeks begin on the weekday of period1 instead of Monday."""
    live_row: bool = True
    """The latest session's row is stamped at regularMarketTime (intraday: an extra snapshot)."""
    live_settles_s: float = 20 * _HOUR
    """How long after its session's close the live row stays."""
    live_duplicate: bool = False
    """1d: the live day comes twice, first on its session's stamp with a smaller volume."""
    live_past_period2: bool = False
    """The live row comes although it lies (up to 20 h) past period2."""
    live_before_period1: bool = False
    """The live row comes although it lies before period1."""
    live_in_period: Literal["left_out", "included"] = "left_out"
    """1wk, 1mo, 3mo: whether the period's own row already holds the live day."""
    no_bars: Literal["adjclose_absent", "adjclose_empty"] = "adjclose_empty"
    """What an answer without bars looks like (intraday never has an adjclose)."""
    pre_post_unasked: bool = False
    """Rows before and after the session come without being asked for."""
    first_bar_volume_zero: bool = False
    """The first intraday bar of a session has volume 0."""
    infinite_adjclose_on: frozenset[date] = frozenset()
    """1d: days whose adjclose is infinite."""
    infinity_token: bytes = b"Infinity"
    """How infinity is written: `Infinity` is no JSON, `1e999` is."""
    zero_low_on: frozenset[date] = frozenset()
    """1d: days whose low is 0.0."""
    null_meta: frozenset[str] = frozenset()
    """Fields of meta that are null."""
    absent_meta: frozenset[str] = frozenset()
    """Fields of meta that are left out."""
    lookback_days: Mapping[str, int] = field(default_factory=lookback_days)
    """How far back an interval reaches; beyond it: 422."""
    span_days: Mapping[str, int] = field(default_factory=span_days)
    """The longest span of one request; beyond it: 422."""
    day_span_years: int | None = None
    """1d: the longest span of one request in years (upstream's is 100); beyond it: 422."""
    events_ahead: bool = False
    """An action that is shown before its ex-date is named before it too."""
    date_header: bool = True
    """Every answer has a `Date`, from the simulator's clock."""
    date_skew_s: float = 0.0
    """How far the `Date` is ahead of the simulator's clock; all else goes by the clock."""
    age_s: int = 0
    """How old a cache in between says the answer is: `Age`, and a `Date` that much earlier."""

    @classmethod
    def none(cls) -> Quirks:
        """Return the quirks of an upstream without live rows and with Monday weeks."""
        return cls(weeks_from_period1=False, live_row=False)

    @classmethod
    def all(cls) -> Quirks:
        """Return every quirk at once."""
        shaky = frozenset({"currency", "regularMarketPrice", "chartPreviousClose"})
        return cls(
            period2_inclusive_intraday=True,
            live_duplicate=True,
            live_past_period2=True,
            live_before_period1=True,
            no_bars="adjclose_absent",
            pre_post_unasked=True,
            first_bar_volume_zero=True,
            null_meta=shaky,
            absent_meta=frozenset({"tradingPeriods", "firstTradeDate"}),
            day_span_years=100,
        )
