"""From what a plugin returns to a run: the records' final text, times, offsets and hashes.

Runs in the plugin's process, so that the hub parses nothing and its loop is not held up.
"""

from __future__ import annotations

from bisect import bisect_left
from collections.abc import Callable, Mapping, Sequence
from functools import lru_cache
from itertools import islice
from typing import Any

import msgspec

from gapless.domain.blocks import AT_ONCE, Run, ascending, ascii_text
from gapless.domain.intervals import Interval
from gapless.providers.plugins import frames
from gapless.providers.plugins.values import (
    PLAIN,
    BadReply,
    OutOfOrder,
    clean,
    instant,
    no_instant,
    seconds,
    shown,
    text_key,
    type_name,
)

TIME = "timestamp"
# What an iterator yields is sent on when there is so much of it.
_MANY = 16_000
HandOn = Callable[[Run, Interval], None]
"""Takes all that there is of a part of a range."""
# To be given lists: of an iterator msgspec 0.22 never lets go, nor that of what is behind it.
_encode_lines = msgspec.json.Encoder().encode_lines


class RecordSink:
    """Takes what a plugin returns, in one piece or many, for the range `[start, end)`.

    What lies outside of it is counted as `dropped` and not kept; `stray` is the first such
    instant. `hand_on` is given what an iterator has yielded, before its end.
    """

    def __init__(
        self,
        time_column: str,
        start: int,
        end: int,
        most_bytes: int,
        hand_on: HandOn | None = None,
    ) -> None:
        self.dropped = 0
        self.doubled = 0
        self.stray: int | None = None
        self._time = time_column
        self._start, self._end = start, end
        self.most_bytes = most_bytes
        self._bytes = 0
        self._seen = 0
        self._times: list[int] = []
        self._texts: list[bytes] = []
        self._hand_on = hand_on
        self._handed_on: int | None = None

    def take(self, value: Any) -> None:
        """Take a list of dicts, a frame, or an iterator of either; `None` is nothing.

        Raises `BadReply` for anything else, naming the record and the column.
        """
        if value is None:
            return
        if isinstance(value, list | tuple):
            self._rows(value)
        elif (table := frames.table(value, self._time, self._start, self._end)) is not None:
            self._columns(table)
        elif hasattr(value, "__next__"):
            for item in value:
                self.item(item)
                self.hand_on()
        else:
            raise BadReply(
                f"a {type_name(value)} is no answer; return a list of dicts, a DataFrame "
                "or an iterator of them"
            )

    def item(self, value: Any) -> None:
        """Take what an iterator yields, which may be a single record too."""
        if isinstance(value, dict):
            self._rows((value,))
        elif hasattr(value, "__next__"):
            raise BadReply("an iterator of iterators is no answer; yield records, lists or frames")
        else:
            self.take(value)

    def hand_on(self, many: int = _MANY) -> None:
        """Let what an iterator has yielded so far go, if that is much, and in the order of time.

        Where it is not, the rest is kept together to be sorted at the end. Of what lies before the
        first record nothing is said: it may come yet.
        """
        times = self._times
        if self._hand_on is None or len(times) <= many:
            return
        until = times[-1]
        count = bisect_left(times, until)
        # A list of several stretches may go back far behind its beginning.
        in_order = ascending(times[: count + 1]) and min(islice(times, count, None)) >= until
        if not in_order or count <= many // 2:
            self._hand_on = None
            return
        start = times[0] if self._handed_on is None else self._handed_on
        self._hand_on(Run.of_texts(times[:count], self._texts[:count]), Interval(start, until))
        self._handed_on = until
        del times[:count], self._texts[:count]
        self._bytes = sum(map(len, self._texts)) + 24 * len(times)

    def rescue(self) -> None:
        """Let what has come before a failure go, where what came before it went."""
        if self._handed_on is not None:
            self.hand_on(1)

    def run(self) -> Run:
        """Return all that was taken in the order of time; of several of one time the last."""
        times, texts = self._times, self._texts
        if not ascending(times):
            # Sorting is stable: of several of one time the last stays last.
            order = sorted(range(len(times)), key=times.__getitem__)
            kept = [
                i
                for i, after in zip(order, [*order[1:], None], strict=True)
                if after is None or times[i] != times[after]
            ]
            self.doubled = len(order) - len(kept)
            times = [times[i] for i in kept]
            texts = [texts[i] for i in kept]
        return Run.of_texts(times, texts)

    def _rows(self, rows: Sequence[Any]) -> None:
        key = self._time
        times: list[int] = []
        kept: list[dict[str, Any]] = []
        for row in rows:
            number = self._seen
            self._seen += 1
            if not isinstance(row, dict):
                raise BadReply(f"record {number} is a {type_name(row)}, not a dict")
            if key not in row:
                raise BadReply(
                    f"record {number} has no time column {key!r}; it has: {_listed(row)}"
                )
            ms = instant(row[key])
            if ms is None:
                raise BadReply(f"record {number}: {key!r} {no_instant(row[key])}")
            if not self._start <= ms < self._end:
                self._drop(1, ms)
                continue
            record: dict[str, Any] = {TIME: seconds(ms)}
            for name, value in row.items():
                if name in (key, TIME):
                    continue
                if type(name) is not str:
                    name = text_key(name, f"record {number}")
                if type(value) not in PLAIN:
                    value = clean(value, f"column {name!r} of record {number}")
                record[name] = value
            times.append(ms)
            kept.append(record)
        self._add(times, kept)

    def _columns(self, table: frames.Table) -> None:
        if table.dropped:
            self._drop(table.dropped, table.stray)
        self._seen += len(table.times) + table.dropped
        stamps = [t / 1000 if t % 1000 else t // 1000 for t in table.times]
        make = _row_maker(table.names)
        rows: list[Any] = []
        for at in range(0, len(stamps), AT_ONCE):
            parts = [column[at : at + AT_ONCE] for column in (stamps, *table.columns)]
            rows += map(make, *parts)
        self._add(table.times, rows)

    def _add(self, times: list[int], rows: list[Any]) -> None:
        if self._handed_on is not None and times and min(times) < self._handed_on:
            raise OutOfOrder("an iterator yielded a record that lies before others of long ago")
        texts: list[bytes] = []
        for at in range(0, len(rows), AT_ONCE):
            part = _texts(rows[at : at + AT_ONCE])
            self._bytes += sum(map(len, part))
            texts += part
        # Beside the text of each there is its time, and what a line's end was.
        self._bytes += 25 * len(times)
        if self._bytes > self.most_bytes:
            raise BadReply(
                f"its reply has more than the {self.most_bytes:,} bytes that one may have "
                "(plugins.max_reply_bytes); return less at once: describe() may set max_span"
            )
        if self._times:
            self._times.extend(times)
            self._texts.extend(texts)
        else:
            self._times, self._texts = times, texts

    def _drop(self, count: int, at: int | None) -> None:
        self.dropped += count
        if self.stray is None:
            self.stray = at


def _texts(rows: list[Any]) -> list[bytes]:
    """Return the text of each record; raise `BadReply` for what is none."""
    try:
        data = _encode_lines(rows)
    except (TypeError, ValueError, UnicodeError) as error:
        # Lone surrogates, for one, are no text in JSON.
        raise BadReply(f"its records cannot be written as JSON: {error}") from error
    texts = data.split(b"\n")
    # The text ends with a line's end.
    texts.pop()
    return texts if data.isascii() else [ascii_text(text) for text in texts]


def _listed(row: Mapping[Any, Any]) -> str:
    return ", ".join(shown(key) for key in list(row)[:20]) or "nothing"


@lru_cache(maxsize=16)
def _row_maker(names: tuple[str, ...]) -> Callable[..., Any]:
    """Return what makes a record of a time and the values of these columns, quickest first."""
    fields = [f"f{number}" for number in range(len(names) + 1)]
    try:
        return msgspec.defstruct(
            "Row",
            fields,
            rename=dict(zip(fields, (TIME, *names), strict=True)),
            frozen=True,
            gc=False,
        )
    except ValueError:
        # A name that JSON has to escape.
        keys = (TIME, *names)
        return lambda *values: dict(zip(keys, values, strict=True))
