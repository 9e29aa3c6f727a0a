"""How much of a large body is made at once: about as much as its client soon takes."""

from __future__ import annotations

from typing import Final

LEAST_BYTES: Final = 64 << 10
FIRST_BYTES: Final = 1 << 20
MOST_BYTES: Final = 4 << 20
_PIECE_S: Final = 0.25
_MOST_GROWTH: Final = 2.0


class Window:
    """The bytes of records that are read at once for one client, a block at the least.

    A client that takes a piece in less than a quarter of a second is sent larger ones, up to
    `MOST_BYTES`, and the next is made while it takes this one. One that takes longer is sent
    smaller ones: what waits for it is memory that others do without.
    """

    __slots__ = ("keeps_up", "size")

    def __init__(self, size: int = FIRST_BYTES) -> None:
        self.size = size
        self.keeps_up = True
        """Whether the client took the latest piece as fast as pieces are to be taken."""

    def taken(self, seconds: float) -> None:
        """Note how long the client took for a piece."""
        self.keeps_up = seconds <= _PIECE_S
        self.size = next_size(self.size, seconds)


def next_size(size: int, seconds: float) -> int:
    """Return how many bytes the next piece has, where one of `size` was taken in `seconds`."""
    growth = min(_MOST_GROWTH, _PIECE_S / max(seconds, 1e-6))
    return max(LEAST_BYTES, min(int(size * growth), MOST_BYTES))
