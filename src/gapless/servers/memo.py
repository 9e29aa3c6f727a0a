"""Answers by the bytes of their request: a held range asked for again is not even decoded.

Only for absolute ranges, and only as long as the very same would be answered (stitching rule
19): each memo hangs on the series in memory that it was made from.
"""

from __future__ import annotations

import re
from dataclasses import dataclass

from gapless.auth.directory import Grant
from gapless.hub.answers import Answer
from gapless.hub.series import Validity
from gapless.lru import Lru
from gapless.servers.wire import ID_HEAD, AnswerLine

# A request id that can be echoed without being looked at any closer, at the head of its line.
_HEAD = re.compile(
    rb'\{"request_id":("[ !#-\[\]-~]{0,256}"|-?(?:0|[1-9][0-9]{0,17})|null|true|false),'
)
_LONGEST_KEY = 4_096


@dataclass(frozen=True, slots=True)
class Memo:
    """A ready answer: what stands before and after its time, and until when it holds.

    `count` is how many records it has. `grant` is that of the token in the request itself, which
    goes before the connection's.
    """

    body: bytes
    ending: bytes
    count: int
    fresh_until: int | None
    validity: Validity
    grant: Grant | None


class Memos:
    """Ready answers by what follows the id in the line, least recently used first."""

    def __init__(self, limit: int) -> None:
        # How many answers were given from here, and how many records were in them.
        self.hits = 0
        self.points = 0
        self._memos: Lru[bytes, Memo] = Lru(limit)

    def reply(
        self, line: bytes, now_ms: int, grant: Grant | None, counted: bool = True
    ) -> list[bytes] | None:
        """Return the parts of the answer to a line, if it is memorised, holds, and may be read.

        `grant` is that of the connection. Unless it is `counted`, the request is counted
        elsewhere; its records are here.
        """
        match = _HEAD.match(line)
        if match is None:
            return None
        rest = line[match.end() :]
        memo = self._memos.get(rest)
        if memo is None:
            return None
        if memo.validity.current and (memo.fresh_until is None or now_ms < memo.fresh_until):
            holder = memo.grant or grant
            if holder is None or not holder.admits(now_ms):
                # Why not is said where the line is read.
                return None
            self.hits += counted
            self.points += memo.count
            return [ID_HEAD, match[1], memo.body, b"%d" % now_ms, memo.ending]
        self._memos.drop(rest)
        return None

    def put(
        self, line: bytes, answer: Answer, ready: AnswerLine, now_ms: int, grant: Grant | None
    ) -> None:
        """Keep the answer to a line, if it may be given again; for `grant` see `Memo`."""
        match = _HEAD.match(line)
        if match is None:
            return
        rest = line[match.end() :]
        until = answer.fresh_until
        if len(rest) > _LONGEST_KEY or (until is not None and until <= now_ms):
            return
        parts = (ready.head, *ready.records, ready.tail)
        # Long ones are not even put together.
        if sum(map(len, parts)) > self._memos.limit // 16 or not answer.series.current:
            return
        body = b"".join(parts)
        memo = Memo(body, ready.ending, answer.count, until, answer.series.validity, grant)
        self._memos.put(rest, memo, len(body) + len(rest))
