"""Ready answers to requests for data, by the very bytes that asked for them.

Like the memos of the TCP door (stitching rule 19), each hangs on the series in memory that it was
made from, and is kept only for what would be answered again just so.
"""

from __future__ import annotations

from collections.abc import AsyncGenerator, Sequence
from dataclasses import dataclass

from gapless.hub.series import Validity
from gapless.lru import Lru

Tags = tuple[bytes, ...]
Headers = Sequence[tuple[bytes, bytes]]
# Path, query, and the two headers that choose a form of answer.
Asked = tuple[bytes, bytes, bytes, bytes]


@dataclass(frozen=True, slots=True)
class Reply:
    """A whole answer: status, headers, and a body in one piece or in several that come in turn.

    `tags` are the entity tags by which a client may say that it has it, the first the one that it
    is told; none where the data may yet change. `cached` and `fetched` count its records.
    """

    status: int
    headers: Headers
    body: bytes | AsyncGenerator[bytes, None]
    tags: Tags = ()
    cached: int = 0
    fetched: int = 0


@dataclass(frozen=True, slots=True)
class Memo:
    """A reply that may be given again, and until when; `None`: until the series changes."""

    reply: Reply
    fresh_until: int | None
    validity: Validity


class Replies:
    """Memos, least recently used first, at most `limit` bytes of bodies."""

    def __init__(self, limit: int) -> None:
        self._memos: Lru[Asked, Memo] = Lru(limit)

    @property
    def most(self) -> int:
        """The largest body that is kept."""
        return self._memos.limit // 2

    def find(self, asked: Asked, now_ms: int) -> Reply | None:
        """Return the reply that is kept for a request, if it still holds."""
        memo = self._memos.get(asked)
        if memo is None:
            return None
        if memo.validity.current and (memo.fresh_until is None or now_ms < memo.fresh_until):
            return memo.reply
        self._memos.drop(asked)
        return None

    def keep(
        self,
        asked: Asked,
        reply: Reply,
        fresh_until: int | None,
        validity: Validity,
        now_ms: int,
    ) -> None:
        """Keep a reply with a body in one piece, if it may be given again and is not too large."""
        assert isinstance(reply.body, bytes)
        size = len(reply.body) + sum(map(len, asked)) + 2_500
        if size > self.most or (fresh_until is not None and fresh_until <= now_ms):
            return
        self._memos.put(asked, Memo(reply, fresh_until, validity), size)
