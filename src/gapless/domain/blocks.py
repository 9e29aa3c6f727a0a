"""Records as bytes: runs that are sliced without being parsed, and how they are laid into blocks.

A run holds the JSON text of its records joined by commas, the records' timestamps, byte offsets
and running hashes, so that any sub-range is a slice and its etag a difference (stitching rules
17 and 18).
"""

from __future__ import annotations

import struct
from array import array
from bisect import bisect_left
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from itertools import accumulate, count, islice
from operator import add, lt
from typing import Any

import msgspec
import xxhash

from gapless.domain.coverage import Coverage
from gapless.domain.intervals import Interval, covers, subtract
from gapless.domain.spans import Spans

AT_ONCE = 1_024
"""So many records are worked on in C at once.

That takes a fraction of a millisecond, in which no other thread has the interpreter.
"""

_MASK = (1 << 64) - 1
# Magic, number of records, checksum of the text and of what follows.
_HEAD = struct.Struct("<4sIQ")
_MAGIC = b"gli1"


class Run:
    """An immutable run of records, ascending in time.

    `text` has no brackets. `times[i]` is milliseconds UTC, `offsets[i]` where record i begins
    (one more entry than records: where a further one would begin), `hashes[i]` the sum modulo
    2⁶⁴ of the xxh3-64 of the records before i.
    """

    __slots__ = ("hashes", "offsets", "text", "times")

    def __init__(
        self,
        text: bytes,
        times: Sequence[int],
        offsets: Sequence[int],
        hashes: Sequence[int],
    ) -> None:
        self.text = text
        self.times = times
        self.offsets = offsets
        self.hashes = hashes

    def __len__(self) -> int:
        return len(self.times)

    def __eq__(self, other: object) -> bool:
        return (
            isinstance(other, Run)
            and self.text == other.text
            and list(self.times) == list(other.times)
        )

    __hash__ = None  # type: ignore[assignment]  # compared by content in tests, never a key

    @classmethod
    def of(cls, records: Iterable[tuple[int, bytes]]) -> Run:
        """Make a run from (milliseconds, JSON text) pairs that ascend in time."""
        times, offsets, hashes = array("q"), array("q", [0]), array("Q", [0])
        texts: list[bytes] = []
        at = total = 0
        for time, text in records:
            texts.append(text)
            times.append(time)
            at += len(text) + 1
            offsets.append(at)
            total = (total + xxhash.xxh3_64_intdigest(text)) & _MASK
            hashes.append(total)
        return cls(b",".join(texts), times, offsets, hashes)

    @classmethod
    def of_texts(cls, times: Sequence[int], texts: Sequence[bytes]) -> Run:
        """Make the run that `of` would of the same pairs; many of them in a third of the time."""
        offsets, hashes = array("q", [0]), array("Q", [0])
        at = total = 0
        for first in range(0, len(texts), AT_ONCE):
            part = texts[first : first + AT_ONCE]
            ends = list(accumulate(map(len, part), initial=at))
            sums = list(accumulate(map(xxhash.xxh3_64_intdigest, part), initial=total))
            at, total = ends[-1], sums[-1] & _MASK
            # Between two there is a comma.
            offsets.extend(map(add, ends[1:], count(first + 1)))
            hashes.extend([one & _MASK for one in sums[1:]])
        return cls(b",".join(texts), array("q", times), offsets, hashes)

    def bounds(self, interval: Interval) -> tuple[int, int]:
        """Return the indices `[i, j)` of the records whose time lies in `interval`."""
        i = bisect_left(self.times, interval.start)
        return i, bisect_left(self.times, interval.end, i)

    def cut(self, interval: Interval) -> Run:
        """Return the run of the records that lie in `interval`."""
        i, j = self.bounds(interval)
        if i == 0 and j == len(self):
            return self
        base, zero = self.offsets[i], self.hashes[i]
        return Run(
            self.joined(i, j),
            array("q", self.times[i:j]),
            array("q", [offset - base for offset in self.offsets[i : j + 1]]),
            array("Q", [(total - zero) & _MASK for total in self.hashes[i : j + 1]]),
        )

    def joined(self, i: int, j: int) -> bytes:
        """Return the text of the records `[i, j)`, joined by commas."""
        return self.text[self.offsets[i] : self.offsets[j] - 1] if i < j else b""

    def sum(self, i: int, j: int) -> int:
        """Return the hash of the records `[i, j)`; see `etag`."""
        return (self.hashes[j] - self.hashes[i]) & _MASK

    def record(self, i: int) -> bytes:
        """Return the JSON text of one record."""
        return self.text[self.offsets[i] : self.offsets[i + 1] - 1]

    def row(self, i: int) -> dict[str, Any]:
        """Return one record, parsed."""
        row: dict[str, Any] = msgspec.json.decode(self.record(i))
        return row

    def at(self, time: int) -> dict[str, Any] | None:
        """Return the record of this instant, parsed; `None`: there is none."""
        i = bisect_left(self.times, time)
        return self.row(i) if i < len(self) and self.times[i] == time else None

    def records(self) -> Iterable[tuple[int, bytes]]:
        """Yield (milliseconds, JSON text) of each record."""
        for i in range(len(self)):
            yield self.times[i], self.record(i)

    def index(self) -> bytes:
        """Return times, offsets and hashes packed, as they are stored beside the text."""
        packed = b"".join(
            (
                array("q", self.times).tobytes(),
                array("q", self.offsets).tobytes(),
                array("Q", self.hashes).tobytes(),
            )
        )
        return _HEAD.pack(_MAGIC, len(self), _checksum(self.text, packed)) + packed

    @classmethod
    def load(cls, text: bytes, index: bytes) -> Run:
        """Return the run that `text` and `index` were stored from; nothing is parsed.

        Raises `ValueError` where a byte of either is not what was stored: the database itself
        keeps no checksums, and a flipped bit would be a wrong price.
        """
        if len(index) < _HEAD.size:
            raise ValueError("the index of a block is cut short")
        magic, count, checksum = _HEAD.unpack_from(index)
        view = memoryview(index)[_HEAD.size :]
        times_end, offsets_end = 8 * count, 8 * (2 * count + 1)
        if magic != _MAGIC or len(view) != 8 * (3 * count + 2):
            raise ValueError("the index of a block does not fit its count")
        if checksum != _checksum(text, view):
            raise ValueError("a block is not what was stored")
        return cls(
            text,
            view[:times_end].cast("q"),
            view[times_end:offsets_end].cast("q"),
            view[offsets_end:].cast("Q"),
        )

    @classmethod
    def concat(cls, runs: Sequence[Run]) -> Run:
        """Return the records of all runs as one; they must ascend from run to run."""
        runs = [run for run in runs if len(run)]
        if len(runs) == 1:
            return runs[0]
        times, offsets, hashes = array("q"), array("q", [0]), array("Q", [0])
        for run in runs:
            at, total = offsets[-1], hashes[-1]
            times.extend(run.times)
            offsets.extend(at + offset for offset in run.offsets[1:])
            hashes.extend((total + value) & _MASK for value in run.hashes[1:])
        return cls(b",".join(run.text for run in runs), times, offsets, hashes)


EMPTY = Run.of(())


def _checksum(text: bytes, packed: bytes | memoryview) -> int:
    digest = xxhash.xxh3_64(text)
    digest.update(packed)
    return digest.intdigest()


def text_hash(text: bytes) -> int:
    """Return the hash of one record's text (stitching rule 18)."""
    return xxhash.xxh3_64_intdigest(text)


def etag(total: int) -> str:
    """Return 16 hex digits of a sum of record hashes (stitching rule 18)."""
    return f"{total & _MASK:016x}"


class Block(msgspec.Struct, frozen=True, gc=False):
    """A stored run: the covered interval it belongs to, and whether it is final.

    `number` is the store's name for it, `None` for one that is not stored yet. `sum` is the sum of
    its records' hashes (stitching rule 18).
    """

    start: int
    end: int
    final: bool
    count: int
    first: int
    last: int
    number: int | None = None
    sum: int = 0

    @property
    def interval(self) -> Interval:
        """The covered interval whose records it holds."""
        return Interval(self.start, self.end)


@dataclass(frozen=True, slots=True)
class NewBlock:
    """A run on its way into the store, with the interval that will be its block's."""

    interval: Interval
    final: bool
    run: Run

    def block(self) -> Block:
        """Return the block it becomes."""
        return Block(
            *self.interval,
            final=self.final,
            count=len(self.run),
            first=self.run.times[0],
            last=self.run.times[-1],
            sum=self.run.sum(0, len(self.run)),
        )


@dataclass(frozen=True, slots=True)
class Relayout:
    """Which blocks go and which pieces come when an interval is replaced."""

    removed: tuple[Block, ...]
    added: tuple[NewBlock, ...]


def relayout(
    blocks: Spans[Block],
    coverage: Spans[Coverage],
    interval: Interval,
    fresh: Run,
    load: Callable[[Sequence[Block]], Sequence[Run]],
    limit: int,
) -> Relayout:
    """Lay `fresh` into `interval` (stitching rules 6 and 17).

    `blocks` are the series' blocks over the interval with their neighbours, `coverage` what will be
    known there afterwards, `limit` the most records of a block. What the blocks held in `interval`
    goes; their rests stay. A block whose records are the very same afterwards is left as it is.
    Final neighbours with nothing unknown between them become one block while they are small. `load`
    reads the runs of blocks, and is called only for those that change and of which something stays,
    and for those that reach beyond `interval`.
    """
    changed: list[Block] = []
    others: list[Block] = []
    for block in blocks:
        keeps = not block.interval.overlaps(interval) or _unchanged(
            block, coverage, interval, fresh, load
        )
        (others if keeps else changed).append(block)
    # What is not in the interval is not asked about: it is nobody's but its block's.
    kept = Spans(block for block in others if block.interval.overlaps(interval))
    pieces = _fresh_pieces(coverage, interval, kept, fresh)
    for block in changed:
        left = Interval(block.start, min(block.end, interval.start))
        right = Interval(max(block.start, interval.end), block.end)
        rests = [rest for rest in (left, right) if not rest.empty]
        (run,) = load([block]) if rests else (EMPTY,)
        for rest in rests:
            stays = run.cut(rest)
            if len(stays):
                pieces.append(NewBlock(rest, block.final, stays))
    groups: list[_Group] = []
    layout: list[Block | NewBlock] = [*others, *pieces]
    for one in sorted(layout, key=lambda each: each.interval):
        if groups and groups[-1].takes(one, limit, coverage):
            groups[-1].add(one)
        else:
            groups.append(_Group(one))
    joined = [block for group in groups if len(group.parts) > 1 for block in group.blocks]
    runs = dict(zip(joined, load(joined), strict=True)) if joined else {}
    made = [group.piece(runs) for group in groups if group.changes]
    added = [part for piece in made for part in _split(piece, limit)]
    return Relayout((*changed, *joined), tuple(added))


class _Group:
    """Neighbours that become one block; a single block stays as it is."""

    __slots__ = ("count", "parts")

    def __init__(self, first: Block | NewBlock) -> None:
        self.parts = [first]
        self.count = _count(first)

    @property
    def blocks(self) -> list[Block]:
        """Those that are stored."""
        return [one for one in self.parts if isinstance(one, Block)]

    @property
    def changes(self) -> bool:
        """Whether there is anything to be written."""
        return len(self.parts) > 1 or isinstance(self.parts[0], NewBlock)

    def takes(self, other: Block | NewBlock, limit: int, coverage: Spans[Coverage]) -> bool:
        """Whether the next neighbour becomes one block with them; one of all is to be written."""
        if isinstance(other, Block) and not self.changes:
            return False
        counts = (self.count, _count(other))
        small = min(counts) <= limit // 4 and sum(counts) <= limit
        return small and _mergeable(self.parts[-1], other, coverage)

    def add(self, other: Block | NewBlock) -> None:
        """Take the next neighbour in."""
        self.parts.append(other)
        self.count += _count(other)

    def piece(self, runs: Mapping[Block, Run]) -> NewBlock:
        """Return what is to be written; `runs` has those of its blocks."""
        first, last = self.parts[0], self.parts[-1]
        whole = Interval(first.interval.start, last.interval.end)
        run = Run.concat(
            [one.run if isinstance(one, NewBlock) else runs[one] for one in self.parts]
        )
        return NewBlock(whole, first.final, run)


def _unchanged(
    block: Block,
    coverage: Spans[Coverage],
    interval: Interval,
    fresh: Run,
    load: Callable[[Sequence[Block]], Sequence[Run]],
) -> bool:
    """Whether a block holds of `interval` what came, and is as final as it was."""
    rows = coverage.over(block.interval)
    if any(row.final is not block.final for row in rows):
        return False
    if not covers([row.interval for row in rows], block.interval):
        return False
    if not block.final and len(rows) > 1:
        return False
    part = block.interval.intersection(interval)
    i, j = fresh.bounds(part)
    if part == block.interval:
        alike = (j - i, fresh.sum(i, j)) == (block.count, block.sum)
        return alike and (fresh.times[i], fresh.times[j - 1]) == (block.first, block.last)
    (run,) = load([block])
    k, m = run.bounds(part)
    return (j - i, fresh.sum(i, j)) == (m - k, run.sum(k, m))


def _fresh_pieces(
    coverage: Spans[Coverage], interval: Interval, kept: Spans[Block], fresh: Run
) -> list[NewBlock]:
    """Cut the fetched records along the coverage rows they lie in, without what is kept."""
    pieces: list[NewBlock] = []
    for row in coverage.over(interval):
        part = row.interval.intersection(interval)
        for rest in subtract([part], (block.interval for block in kept.over(part))):
            run = fresh.cut(rest)
            if len(run):
                pieces.append(NewBlock(rest, row.final, run))
    return pieces


def _count(one: Block | NewBlock) -> int:
    return one.count if isinstance(one, Block) else len(one.run)


def _mergeable(one: Block | NewBlock, other: Block | NewBlock, coverage: Spans[Coverage]) -> bool:
    """Whether both are final, and all between them is known and final."""
    if not (one.final and other.final):
        return False
    start = min(one.interval.end, other.interval.end)
    end = max(one.interval.start, other.interval.start)
    between = coverage.over(Interval(start, end))
    return all(row.final for row in between) and covers(
        (row.interval for row in between), Interval(start, end)
    )


def _split(piece: NewBlock, limit: int) -> list[NewBlock]:
    """Cut a piece of more than `limit` records into even parts."""
    count = len(piece.run)
    if count <= limit:
        return [piece]
    parts = -(-count // limit)
    edges = [count * part // parts for part in range(parts + 1)]
    starts = [piece.interval.start, *(piece.run.times[edge] for edge in edges[1:-1])]
    ends = [*starts[1:], piece.interval.end]
    return [
        replace(piece, interval=part, run=piece.run.cut(part))
        for part in (Interval(start, end) for start, end in zip(starts, ends, strict=True))
    ]


_encoder = msgspec.json.Encoder()


def encode(row: Mapping[str, Any] | msgspec.Struct) -> bytes:
    """Return a record's JSON text: ASCII, no spaces, shortest floats (stitching rule 17)."""
    return ascii_text(_encoder.encode(row))


def encode_all(rows: Sequence[Mapping[str, Any] | msgspec.Struct]) -> list[bytes]:
    """Return what `encode` returns of each; many of them in a fraction of the time.

    They are there as a whole, for of an iterator msgspec 0.22 never lets go.
    """
    texts: list[bytes] = []
    for first in range(0, len(rows), AT_ONCE):
        # In JSON text each line break is an escape.
        lines = _encoder.encode_lines(rows[first : first + AT_ONCE])
        texts += ascii_text(lines).splitlines()
    return texts


def ascending(times: Sequence[int]) -> bool:
    """Whether each of these instants is later than the one before it."""
    for first in range(0, len(times), AT_ONCE):
        part = times[first : first + AT_ONCE + 1]
        if not all(map(lt, part, islice(part, 1, None))):
            return False
    return True


def ascii_text(text: bytes) -> bytes:
    """Return JSON text with every character beyond ASCII spelled as JSON's escapes."""
    if text.isascii():
        return text
    return "".join(char if char < "\x80" else _escaped(char) for char in text.decode()).encode(
        "ascii"
    )


def _escaped(char: str) -> str:
    """Return a character beyond ASCII as JSON's UTF-16 escapes."""
    units = char.encode("utf-16-be")
    return "".join(f"\\u{units[i]:02x}{units[i + 1]:02x}" for i in range(0, len(units), 2))
