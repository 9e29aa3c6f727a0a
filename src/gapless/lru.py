"""What was used last, up to a limit: the one way in which anything here is kept and let go again.

Everything that is remembered and can be had again is bounded like this, by count or by bytes.
"""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Callable, Hashable, Iterator
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
    """

    __slots__ = ("_let_go", "_values", "limit", "size")

    def __init__(self, limit: int, let_go: Callable[[K, V], None] = _nothing) -> None:
        self.limit = limit
        self.size = 0
        """What all of them weigh."""
        self._let_go = let_go
        self._values: OrderedDict[K, tuple[V, int]] = OrderedDict()

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
        if found is None:
            return None
        self._values.move_to_end(key)
        return found[0]

    def peek(self, key: K) -> V | None:
        """Return a value without using it; `None`: there is none."""
        found = self._values.get(key)
        return None if found is None else found[0]

    def put(self, key: K, value: V, weight: int = 1) -> None:
        """Keep a value as the one used last, and let go of what there is no room for any more."""
        found = self._values.pop(key, None)
        if found is not None:
            self.size -= found[1]
            if found[0] is not value:
                self._let_go(key, found[0])
        self._values[key] = (value, weight)
        self.size += weight
        while self.size > self.limit and len(self._values) > 1:
            self.drop(next(iter(self._values)))

    def drop(self, key: K) -> V | None:
        """Let a value go, and return it; `None`: there is none."""
        found = self._values.pop(key, None)
        if found is None:
            return None
        self.size -= found[1]
        self._let_go(key, found[0])
        return found[0]
