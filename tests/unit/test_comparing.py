"""What the difference between a held bar and its fresh copy means, in tables."""

from __future__ import annotations

from typing import Any

import pytest

from gapless.domain.comparing import (
    Basis,
    BasisChange,
    Comparison,
    Ratio,
    Restatement,
    Row,
    Same,
    Tolerance,
    comparable,
    compare,
    rescale,
)

BASIS = Basis()
INTRADAY = Basis(adjusted=None)


def bar(price: float = 100.0, adjclose: float | None = 95.0, volume: Any = 10_000) -> Row:
    """Return a bar around a price."""
    row: dict[str, Any] = {
        "open": price,
        "high": price * 1.1,
        "low": price * 0.9,
        "close": price * 1.05,
        "volume": volume,
    }
    if adjclose is not None:
        row["adjclose"] = adjclose
    return row


def edited(row: Row, **columns: Any) -> Row:
    """Return a bar with some columns changed."""
    return {**row, **columns}


HELD = bar()
CASES: list[tuple[str, Row, Row | None, Comparison]] = [
    ("the same", HELD, bar(), Same()),
    ("within tolerance", HELD, bar(100.009, 95.009, 10_049), Same()),
    ("rounded otherwise", HELD, edited(HELD, high=110.0000001), Same()),
    (
        "split 2:1",
        HELD,
        bar(50.0, 47.5, 20_000),
        BasisChange(Ratio(0.5, 0.5, 2.0)),
    ),
    (
        "split 20:1, volume rounded",
        bar(volume=9_999),
        bar(5.0, 4.75, 200_000),
        BasisChange(Ratio(0.05, 0.05, 20.0)),
    ),
    (
        "reverse split 1:10",
        HELD,
        bar(1_000.0, 950.0, 1_000),
        BasisChange(Ratio(10.0, 10.0, 0.1)),
    ),
    ("dividend", HELD, bar(adjclose=94.05), BasisChange(Ratio(adjusted=0.99))),
    (
        "split and dividend",
        HELD,
        bar(50.0, 47.025, 20_000),
        BasisChange(Ratio(0.5, 0.495, 2.0)),
    ),
    ("volume restated alone", HELD, bar(volume=12_000), Restatement()),
    ("volume appears", bar(volume=0), bar(volume=5), Restatement()),
    ("volume vanishes", HELD, bar(volume=None), Restatement()),
    ("one price restated", HELD, edited(HELD, close=105.5), Restatement()),
    ("prices halve, volume stays", HELD, bar(50.0, 47.5, 10_000), Restatement()),
    ("prices and volume double", HELD, bar(200.0, 190.0, 20_000), Restatement()),
    ("dividend and volume", HELD, bar(adjclose=94.05, volume=12_000), Restatement()),
    ("withdrawn", HELD, None, Restatement()),
    ("null by now", HELD, edited(HELD, close=None), Restatement()),
    ("zero by now", HELD, edited(HELD, low=0.0), Restatement()),
    ("a column is gone", HELD, {"close": 105.0}, Restatement()),
    ("adjclose is gone", HELD, bar(adjclose=None), Restatement()),
    ("no volume on a currency", bar(volume=0), bar(volume=0), Same()),
    (
        "another basis without volume",
        bar(volume=0),
        bar(50.0, 47.5, 0),
        BasisChange(Ratio(0.5, 0.5, 2.0)),
    ),
    (
        "no adjclose at all",
        bar(adjclose=None),
        bar(25.0, None, 40_000),
        BasisChange(Ratio(0.25, 1.0, 4.0)),
    ),
    ("negative prices", bar(-37.0, -37.0), bar(-37.0, -37.0), Same()),
]


@pytest.mark.parametrize(("name", "held", "fresh", "expected"), CASES, ids=[c[0] for c in CASES])
def test_compare(name: str, held: Row, fresh: Row | None, expected: Comparison) -> None:
    """One ratio that explains all is a change of basis, anything else a restatement (rule 11)."""
    found = compare(held, fresh, BASIS, Tolerance())
    assert type(found) is type(expected), name
    if isinstance(found, BasisChange) and isinstance(expected, BasisChange):
        one, two = found.ratio, expected.ratio
        assert (one.price, one.adjusted, one.volume) == pytest.approx(
            (two.price, two.adjusted, two.volume), rel=1e-9
        )


def test_a_basis_that_names_no_adjusted_column() -> None:
    """What the basis does not name is not compared."""
    assert compare(bar(), bar(adjclose=1.0), INTRADAY, Tolerance()) == Same()
    only_close = Basis(prices=("close",), adjusted=None, volume=None)
    assert compare({"close": 2.0}, {"close": 1.0}, only_close, Tolerance()) == BasisChange(
        Ratio(price=0.5, volume=2.0)
    )


NOT_COMPARABLE: list[tuple[str, Row]] = [
    ("a null price", edited(HELD, open=None)),
    ("a zero price", edited(HELD, open=0)),
    ("not a number", edited(HELD, open=float("nan"))),
    ("infinite", edited(HELD, open=float("inf"))),
    ("a truth", edited(HELD, open=True)),
    ("text", edited(HELD, open="1")),
    ("nothing", {}),
]


@pytest.mark.parametrize(("name", "row"), NOT_COMPARABLE)
def test_comparable(name: str, row: Row) -> None:
    """A bar is compared only if each of its prices is a number other than zero."""
    assert not comparable(row, BASIS), name
    assert comparable(bar(volume=None, adjclose=None), BASIS)


def test_rescale_leaves_alone_what_says_nothing() -> None:
    """Nulls, zeros and other columns stay as they are, volume stays whole, the row is copied."""
    row = {"open": None, "high": 10, "low": 0, "close": 4.0, "volume": 7, "adjclose": None, "x": 1}
    kept = dict(row)
    assert rescale(row, BASIS, Ratio(0.5, 0.4, 3.5)) == {
        "open": None,
        "high": 5.0,
        "low": 0,
        "close": 2.0,
        "volume": 24,
        "adjclose": None,
        "x": 1,
    }
    assert row == kept


def test_ratios_follow_one_another() -> None:
    """The ratio over two changes is their product, column by column."""
    assert Ratio(0.5, 0.25, 2.0).then(Ratio(0.5, 0.5, 4.0)) == Ratio(0.25, 0.125, 8.0)
