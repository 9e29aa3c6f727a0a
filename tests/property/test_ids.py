"""Ids of views: what a key spells is taken apart into the same key."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from gapless.domain.series import SeriesKey, parse_view_id

words = st.text(
    st.one_of(st.sampled_from(":?%&= .\n/+#"), st.characters(exclude_categories=["Cs"])),
    min_size=1,
    max_size=12,
)
names = st.text(st.sampled_from("abcdefghijklmnopqrstuvwxyz_"), min_size=1, max_size=8)


@given(names, words, st.dictionaries(words, words, max_size=3), words, words)
def test_keys_survive_their_ids(
    provider: str, ticker: str, params: dict[str, str], other: str, value: str
) -> None:
    """An id leads back to its key, whatever is in ticker and parameters (stitching rule 20)."""
    key = SeriesKey.of(provider, ticker, params)
    view = parse_view_id(f"{key.text}:2024-01-01T00:00:00Z..now")
    assert view is not None
    assert SeriesKey(view.source, view.ticker, view.params) == key
    assert (view.start, view.end) == ("2024-01-01T00:00:00Z", "now")
    changed = SeriesKey.of(provider, ticker, {**params, other: value})
    assert (changed.text == key.text) == (changed == key)


@given(st.text(st.sampled_from("ab:?%&=. "), max_size=20))
def test_no_text_breaks_the_parser(text: str) -> None:
    """Any text is a view or is not; what is one spells a key that means the same again."""
    view = parse_view_id(text)
    if view is not None:
        key = SeriesKey(view.source, view.ticker, view.params)
        again = parse_view_id(f"{key.text}:{view.start}..{view.end}")
        assert again == view
