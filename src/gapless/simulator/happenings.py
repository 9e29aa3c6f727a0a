"""What happens to a symbol's data: splits, dividends, revisions, holes that heal.

Each names the instant from which upstream shows it; what is shown is decided in market.py.
"""

from __future__ import annotations

from dataclasses import dataclass
from datetime import date
from fractions import Fraction


@dataclass(frozen=True, slots=True)
class Split:
    """`numerator` new shares for `denominator` old ones, from the session of `ex_date` on.

    Shown from `seen_s` (UTC seconds; default: the ex-date's open): every earlier price is then
    divided by the ratio and every earlier volume multiplied. Of a continuous source the rows from
    the ex-date on are divided from the beginning, as they were traded: add a split before its
    ex-date is served, with the instant it is to show as `seen_s`.
    """

    symbol: str
    ex_date: date
    numerator: int
    denominator: int = 1
    seen_s: float | None = None

    @property
    def ratio(self) -> Fraction:
        """New shares per old share."""
        return Fraction(self.numerator, self.denominator)


@dataclass(frozen=True, slots=True)
class Dividend:
    """A dividend of `amount` per share, in the shares of `ex_date`.

    From `seen_s` (default: the ex-date's open) the adjclose of every earlier day is multiplied
    by 1 - amount / close of the day before.
    """

    symbol: str
    ex_date: date
    amount: float
    seen_s: float | None = None


@dataclass(frozen=True, slots=True)
class Restatement:
    """A revision of one day: from `seen_s` its fields are multiplied by these factors.

    Every bar that contains the day shows it. Dividend factors keep the close first printed.
    """

    symbol: str
    day: date
    seen_s: float
    open: float = 1.0
    high: float = 1.0
    low: float = 1.0
    close: float = 1.0
    volume: float = 1.0


@dataclass(frozen=True, slots=True)
class NullRow:
    """A row whose fields are null from `from_s` until `heals_s` (`None`: for good).

    `day` picks a daily bar, which longer bars then leave out; `stamp_s` instead picks the
    intraday bar with that stamp. `partly`: prices null, volume set.
    """

    symbol: str
    day: date | None = None
    stamp_s: int | None = None
    from_s: float = float("-inf")
    heals_s: float | None = None
    partly: bool = False


@dataclass(frozen=True, slots=True)
class MissingRow:
    """A row that is not there at all from `from_s` until `heals_s`; else as `NullRow`."""

    symbol: str
    day: date | None = None
    stamp_s: int | None = None
    from_s: float = float("-inf")
    heals_s: float | None = None


Hole = NullRow | MissingRow
Happening = Split | Dividend | Restatement | NullRow | MissingRow
