"""What happens to a symbol's data: actions, revisions, holes that heal, answers that go wrong.

Each names the instants from which and until which upstream shows it, in UTC seconds of the
simulator's clock. What happens to the data themselves is worked out in book.py, what is served of
them in serving.py, and how an answer that goes wrong is written in chart.py.
"""

from __future__ import annotations

from dataclasses import dataclass
from datetime import date
from fractions import Fraction
from math import inf
from typing import Literal


@dataclass(frozen=True, slots=True)
class Split:
    """`numerator` new shares for `denominator` old ones, from the session of `ex_date` on.

    Shown from `seen_s` (UTC seconds; default: the ex-date's open) until `gone_s`: every earlier
    price is then divided by the ratio and every earlier volume multiplied. Of a continuous source
    the rows from the ex-date on are divided from the beginning, as they were traded: add a split
    before its ex-date is served, with the instant it is to show as `seen_s`. `mistaken`: upstream
    is wrong, the split was never traded, and the rows from the ex-date on know nothing of it.
    """

    symbol: str
    ex_date: date
    numerator: int
    denominator: int = 1
    seen_s: float | None = None
    gone_s: float | None = None
    mistaken: bool = False

    @property
    def ratio(self) -> Fraction:
        """New shares per old share."""
        return Fraction(self.numerator, self.denominator)


@dataclass(frozen=True, slots=True)
class Dividend:
    """A dividend of `amount` per share, in the shares of `ex_date`.

    From `seen_s` (default: the ex-date's open) until `gone_s` the adjclose of every earlier day is
    multiplied by 1 - amount / close of the day before. A dividend whose amount is corrected is
    two: one is gone when the other is seen.
    """

    symbol: str
    ex_date: date
    amount: float
    seen_s: float | None = None
    gone_s: float | None = None


@dataclass(frozen=True, slots=True)
class CapitalGain:
    """What a fund pays out of its gains: to prices the same as a `Dividend`, by another name."""

    symbol: str
    ex_date: date
    amount: float
    seen_s: float | None = None
    gone_s: float | None = None


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


@dataclass(frozen=True, slots=True)
class Correction:
    """One bar of one interval is another from `seen_s` until `heals_s` (`None`: for good).

    The columns are factors; `None` makes a value null. `flat`: every price is the close, as in a
    bar without trade. Bars of other intervals do not show it, so parts need not add up to the
    whole. A bar that was wrong at first has `seen_s` at the beginning and heals.
    """

    symbol: str
    interval: str
    stamp_s: int
    seen_s: float = -inf
    heals_s: float | None = None
    open: float | None = 1.0
    high: float | None = 1.0
    low: float | None = 1.0
    close: float | None = 1.0
    volume: float | None = 1.0
    adjclose: float | None = 1.0
    flat: bool = False


@dataclass(frozen=True, slots=True)
class Absent:
    """Rows stamped in `[start_s, end_s)` are not served from `from_s` until `heals_s`.

    Without bounds the whole answer is empty: 200 without a `timestamp`. `intervals`: of these
    alone (default: of all); longer bars are absent by their own stamps and still hold the days.
    The actions of an absent stretch are not named; what they do to other rows stays.
    """

    symbol: str
    start_s: float = -inf
    end_s: float = inf
    from_s: float = -inf
    heals_s: float | None = None
    intervals: frozenset[str] | None = None


@dataclass(frozen=True, slots=True)
class Cut:
    """An answer has at most `rows` rows from `from_s` until `heals_s`: its first or its last.

    The live row does not count: it comes unless the end is cut off. Actions are named as far as
    the rows reach. `intervals` as of `Absent`.
    """

    symbol: str
    rows: int
    keeps: Literal["first", "last"] = "first"
    from_s: float = -inf
    heals_s: float | None = None
    intervals: frozenset[str] | None = None


@dataclass(frozen=True, slots=True)
class Delisted:
    """Upstream does not know the symbol from `from_s` until `heals_s`: 404."""

    symbol: str
    from_s: float = -inf
    heals_s: float | None = None


@dataclass(frozen=True, slots=True)
class Odd:
    """A symbol's answers are no answers to the question from `from_s` until `heals_s`.

    `meta`: fields of meta with the JSON that stands in their place, such as `("symbol", b"null")`;
    b"" leaves a field out. `lacks`: columns that are not there. `values`: columns with the JSON
    that stands in the first row, such as `("volume", b"9223372036854775808")`. `stamps`: `outside`:
    every row lies before the asked range; `one`: every row has the first one's stamp; `reversed`:
    the rows come in the wrong order. `repeats`: how many times each row comes. The rows are
    otherwise those that would have been served.
    """

    symbol: str
    from_s: float = -inf
    heals_s: float | None = None
    meta: tuple[tuple[str, bytes], ...] = ()
    lacks: frozenset[str] = frozenset()
    values: tuple[tuple[str, bytes], ...] = ()
    stamps: Literal["true", "outside", "one", "reversed"] = "true"
    repeats: int = 1


Hole = NullRow | MissingRow
Payout = Dividend | CapitalGain
Action = Split | Payout
Change = Action | Restatement | Hole
"""What changes the data themselves."""
Serving = Correction | Absent | Cut | Delisted | Odd
"""What changes which of the data are served, and how."""
Happening = Change | Serving


def span(what: Happening, opens_s: float) -> tuple[float, float]:
    """Return from when until when (exclusive) upstream shows what happens, in UTC seconds.

    `opens_s`: when an action shows that does not say it: its ex-date's open.
    """
    if isinstance(what, Action):
        seen_s = opens_s if what.seen_s is None else what.seen_s
        return seen_s, inf if what.gone_s is None else what.gone_s
    if isinstance(what, Restatement):
        return what.seen_s, inf
    begin_s = what.seen_s if isinstance(what, Correction) else what.from_s
    return begin_s, inf if what.heals_s is None else what.heals_s
