"""Bases: what is rescaled by the ratio that was found stands on the new basis."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from gapless.domain.comparing import (
    Basis,
    BasisChange,
    Ratio,
    Restatement,
    Same,
    Tolerance,
    compare,
    rescale,
)

BASIS, TOLERANCE = Basis(), Tolerance()
prices = st.floats(0.01, 100_000)
bars = st.fixed_dictionaries(
    {
        "open": prices,
        "high": prices,
        "low": prices,
        "close": prices,
        "adjclose": prices,
        "volume": st.integers(100_000, 10**12),
    }
)
steps = st.sampled_from([0.05, 0.1, 1 / 3, 0.5, 2 / 3, 1.5, 2.0, 3.0, 10.0])
dividends = st.floats(0.5, 0.999)


@given(bars, steps, dividends)
def test_a_ratio_leads_from_the_old_basis_to_the_new(
    held: dict[str, float], step: float, dividend: float
) -> None:
    """A bar rescaled by the ratio that was found is the same as its fresh copy."""
    fresh = rescale(held, BASIS, Ratio(step, step * dividend, 1 / step))
    found = compare(held, fresh, BASIS, TOLERANCE)
    assert isinstance(found, BasisChange)
    assert found.ratio.price == pytest.approx(step)
    assert compare(rescale(held, BASIS, found.ratio), fresh, BASIS, TOLERANCE) == Same()
    back = compare(fresh, held, BASIS, TOLERANCE)
    assert isinstance(back, BasisChange)
    assert found.ratio.then(back.ratio).price == pytest.approx(1.0)


@given(bars, steps, st.sampled_from(["open", "high", "low", "close"]), st.floats(1.01, 2))
def test_one_price_that_differs_is_a_restatement(
    held: dict[str, float], step: float, column: str, error: float
) -> None:
    """No ratio explains a bar of which one price went its own way."""
    fresh = rescale(held, BASIS, Ratio(step, step, 1 / step))
    fresh[column] *= error
    assert compare(held, fresh, BASIS, TOLERANCE) == Restatement()


@given(
    bars,
    st.dictionaries(
        st.sampled_from(["open", "high", "low", "close", "adjclose", "volume"]),
        st.one_of(st.none(), st.floats(), st.integers(-(2**63), 2**63), st.booleans(), st.text()),
    ),
)
def test_nothing_upstream_says_breaks_a_comparison(
    held: dict[str, float], said: dict[str, object]
) -> None:
    """Whatever a fresh copy says, there is a verdict, and a bar is the same as itself."""
    assert isinstance(
        compare(held, {**held, **said}, BASIS, TOLERANCE), (Same, BasisChange, Restatement)
    )
    assert compare(held, held, BASIS, TOLERANCE) == Same()
