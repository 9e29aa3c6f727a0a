"""What was used last, up to a limit: the one way in which anything here is kept and let go again.

Everything that is remembered and can be had again is bounded like this, by count or by bytes.
"""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Callable, Hashable, Iterator, Reversible
from typing import Generic, TypeVar

K = TypeVar("K", bound=Hashable)
V = TypeVar("V")


def _nothing(key: object, value: object) -> None:
    pass


class Lru(Generic[K, V]):
    """Values by key, each of a weight, that together weigh at most `limit`.

    Where there are more, the one goes first that was used longest ago; a single one that weighs
    more than `limit` stays alone until something else is put beside it. `let_go` is told of each
    that is dropped, forced out or replaced by another one.

    For one thread: what is found here by several is to be found before the work goes to them.
    """

    __slots__ = ("_let_go", "_values", "_weights", "limit", "peek", "size")

    def __init__(self, limit: int, let_go: Callable[[K, V], None] = _nothing) -> None:
        self.limit = limit
        self.size = 0
        """What all of them weigh."""
        self._let_go = let_go
        self._values: OrderedDict[K, V] = OrderedDict()
        self._weights: dict[K, int] = {}
        # The very method of the dictionary: requests are looked up with it.
        self.peek: Callable[[K], V | None] = self._values.get
        """Return a value without using it; `None`: there is none."""

    def __len__(self) -> int:
        return len(self._values)

    def __contains__(self, key: object) -> bool:
        return key in self._values

    def __iter__(self) -> Iterator[K]:
        """Yield the keys, longest unused first."""
        return iter(self._values)

    def get(self, key: K) -> V | None:
        """Return a value and mark it as used; `None`: there is none."""
        found = self._values.get(key)
        if found is not None:
            self._values.move_to_end(key)
        return found

    def values(self) -> Reversible[V]:
        """Return the values, longest unused first; looking is not using."""
        return self._values.values()

    def put(self, key: K, value: V, weight: int = 1) -> None:
        """Keep a value as the one used last, and let go of what there is no room for any more."""
        if self._values.get(key) is not value:
            self.drop(key)
        self.size += weight - self._weights.get(key, 0)
        self._values[key] = value
        self._weights[key] = weight
        self._values.move_to_end(key)
        while self.size > self.limit and len(self._values) > 1:
            self.drop(next(iter(self._values)))

    def drop(self, key: K) -> V | None:
        """Let a value go, and return it; `None`: there is none."""
        if key not in self._values:
            return None
        found = self._values.pop(key)
        self.size -= self._weights.pop(key)
        self._let_go(key, found)
        return found
