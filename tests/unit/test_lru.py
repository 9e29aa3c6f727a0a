"""What is kept by how lately it was used, and how much it weighs."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from gapless.lru import Lru


def test_what_was_used_longest_ago_goes_first() -> None:
    """A value that was asked for stays in place of one that was not."""
    kept: Lru[str, int] = Lru(2)
    kept.put("a", 1)
    kept.put("b", 2)
    assert kept.get("a") == 1
    kept.put("c", 3)
    assert list(kept) == ["a", "c"]


def test_looking_is_not_using() -> None:
    """What was only looked at goes as if it had not been."""
    kept: Lru[str, int] = Lru(2)
    kept.put("a", 1)
    kept.put("b", 2)
    assert kept.peek("a") == 1
    kept.put("c", 3)
    assert "a" not in kept
    assert kept.peek("a") is None


def test_what_is_kept_may_be_nothing() -> None:
    """A set is kept by its keys: one put again is used, one that goes leaves no weight behind."""
    kept: Lru[str, None] = Lru(2)
    kept.put("a", None)
    kept.put("b", None)
    kept.put("a", None)
    kept.put("c", None)
    assert list(kept) == ["a", "c"]
    kept.drop("a")
    kept.drop("c")
    assert kept.size == 0


def test_values_come_in_the_order_of_their_use() -> None:
    """The one used longest ago comes first, and looking at all of them uses none."""
    kept: Lru[str, int] = Lru(3)
    for key, value in (("a", 1), ("b", 2), ("c", 3)):
        kept.put(key, value)
    kept.get("a")
    assert list(kept.values()) == [2, 3, 1]
    assert list(reversed(kept.values())) == [1, 3, 2]


def test_what_alone_weighs_too_much_stays_until_something_comes_beside_it() -> None:
    """An answer that is being worked with is not lost for its size."""
    kept: Lru[str, int] = Lru(10)
    kept.put("large", 1, 50)
    assert kept.get("large") == 1
    kept.put("small", 2, 1)
    assert list(kept) == ["small"]


def test_each_that_goes_is_told() -> None:
    """Dropped, forced out, or replaced by another value; not where the same one is put again."""
    gone: list[tuple[str, int]] = []
    kept: Lru[str, int] = Lru(2, lambda key, value: gone.append((key, value)))
    kept.put("a", 1)
    kept.put("a", 1, 2)
    assert not gone
    kept.put("a", 2)
    kept.put("b", 3)
    kept.put("c", 4)
    assert kept.drop("b") == 3
    assert kept.drop("b") is None
    assert gone == [("a", 1), ("a", 2), ("b", 3)]


@given(st.lists(st.tuples(st.integers(0, 5), st.integers(0, 9), st.booleans())))
def test_it_weighs_what_its_values_weigh(steps: list[tuple[int, int, bool]]) -> None:
    """Whatever is put and dropped, the sum is that of what is there, and within the limit."""
    kept: Lru[int, int] = Lru(12)
    weights: dict[int, int] = {}
    for key, weight, put in steps:
        if put:
            kept.put(key, weight, weight)
            weights[key] = weight
        else:
            kept.drop(key)
        assert kept.size == sum(weights[one] for one in kept)
        assert kept.size <= 12 or len(kept) == 1
