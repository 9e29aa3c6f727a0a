"""What a hub answered: records in whatever form they are wanted, and a true word on how they came.

Nothing here goes back to the hub, and nothing is parsed before somebody asks for it.
"""

from __future__ import annotations

import html
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Any, NamedTuple

import msgspec
from msgspec import Raw

from gapless.client import frames
from gapless.client.facts import Facts, facts_of
from gapless.client.failures import UnexpectedAnswer
from gapless.client.pages import Pages

if TYPE_CHECKING:
    import polars as pl

_NULL = b"null"
# How many rows a notebook shows of a result.
_SHOWN_ROWS = 8


class Span(NamedTuple):
    """A half-open range of time, both ends in UTC."""

    start: datetime
    end: datetime

    def __str__(self) -> str:
        return f"{_short(self.start)}..{_short(self.end)}"


@dataclass(frozen=True, slots=True)
class Why:
    """Why a range is missing, doubtful, or older than it should be.

    `reason` is a word of the protocol: that of a failure, or one of its `DOUBTS`.
    """

    span: Span
    reason: str
    message: str


@dataclass(frozen=True, slots=True)
class Stitch:
    """How an answer was put together: `cached`, `fetched` and `missing` make up what was asked.

    `upstream_requests` is how many requests upstream this answer took. `state` is `ready`,
    `partial` or `stale`. `changed_at` is when upstream last changed, withdrew or added a record
    of the range that was final then, in UTC; `None`: never, as far as is known. A copy that is
    older than that is not what the hub has.
    """

    cached: tuple[Span, ...]
    fetched: tuple[Span, ...]
    missing: tuple[Span, ...]
    upstream_requests: int
    state: str
    why: tuple[Why, ...] = ()
    changed_at: datetime | None = None

    @property
    def asked(self) -> Span | None:
        """The whole range, as far as it reaches up to now."""
        spans = (*self.cached, *self.fetched, *self.missing)
        if not spans:
            return None
        return Span(min(span.start for span in spans), max(span.end for span in spans))


class EntityBox(msgspec.Struct, frozen=True):
    """An entity as it came; `tags` and `data` are JSON still, or JSON in a string."""

    id: str
    source: str = ""
    tags: Raw = Raw(_NULL)
    data: Raw = Raw(_NULL)
    etag: str = ""
    fetched_at: str = ""
    refresh_after: str = ""
    updated_at: str = ""
    state: str = "ready"
    last_error: str = ""


class _WireWhy(msgspec.Struct, rename={"from_": "from"}):
    from_: str
    to: str
    reason: str = ""
    message: str = ""


class _WireStitch(msgspec.Struct):
    cached: list[tuple[str, str]] = []
    fetched: list[tuple[str, str]] = []
    missing: list[tuple[str, str]] = []
    why: list[_WireWhy] = []
    upstream_requests: int = 0
    state: str = "ready"
    changed_at: str | None = None


_ENTITIES = msgspec.json.Decoder(list[EntityBox])
_STITCH = msgspec.json.Decoder(_WireStitch)
_TEXTS = msgspec.json.Decoder(list[str])


def entities_in(result: bytes) -> list[EntityBox]:
    """Return the entities of an answer; raise `UnexpectedAnswer` for what are none."""
    try:
        return _ENTITIES.decode(result)
    except (msgspec.DecodeError, UnicodeDecodeError) as error:
        raise UnexpectedAnswer(f"the hub's answer holds no entities: {error}") from error


def tags_of(entity: EntityBox) -> list[str]:
    """Return the tags of an entity; raise `ValueError` for what are none."""
    text = _unwrapped(entity.tags)
    return _TEXTS.decode(text) if text != _NULL else []


class Found(NamedTuple):
    """An entity as it came, the stitch of its answer, and its records where they came apart.

    `facts` are its ticker's, in JSON; `dates` is the time zone in which its records have dates.
    """

    entity: EntityBox
    stitch: bytes = _NULL
    pages: Pages | None = None
    facts: bytes = _NULL
    dates: str | None = None

    @property
    def state(self) -> str:
        """`ready`, `partial` or `stale`."""
        return self.entity.state if self.pages is None else self.pages.state

    def frame(self) -> pl.DataFrame:
        """Return the records with `timestamp` as it is, in Unix seconds."""
        if self.pages is not None:
            return self.pages.frame()
        frame = frames.from_text(_unwrapped(self.entity.data), self.dates)
        if not frame.width and self.stitch != _NULL:
            # A range without records: it has times all the same, and programs sort by them.
            return frames.empty(self.dates)
        return frame


class Result:
    """One answer: an entity, its records, and its stitch.

    Frames have the records' columns, `timestamp` as an instant in UTC with microseconds; whole
    numbers are Int64, others Float64, nested values their JSON text. `records` are as the wire
    has them, `timestamp` in Unix seconds. Where there are very many, they come as columns, and
    what a record lacked is then None in it. Frames of bars of a day or longer have a column `date`
    behind `timestamp`: the day of each where it is traded, of a week or month its first one.

    Anything that takes Arrow streams takes a result: `pl.DataFrame(result)`,
    `pa.table(result)`, `duckdb.sql("select * from result")`.
    """

    def __init__(self, found: Found) -> None:
        self._found = found
        self._entity = found.entity
        self._pages = found.pages
        # A `Raw` is equal to nothing.
        self._stitch_text = bytes(found.stitch)
        self._stitch: Stitch | None = None
        self._frame: pl.DataFrame | None = None
        self._records: list[dict[str, Any]] | None = None

    @property
    def id(self) -> str:
        """The entity's id, by which it can be asked for again."""
        return self._entity.id

    @property
    def source(self) -> str:
        """The provider."""
        return self._entity.source

    @property
    def tags(self) -> list[str]:
        """What it is found by, such as `ticker=AAPL`."""
        return tags_of(self._entity)

    @property
    def ticker(self) -> str | None:
        """The ticker, where it is a range of one."""
        return self._tag("ticker")

    @property
    def start(self) -> datetime | None:
        """Where the range begins, in UTC."""
        return _instant(self._tag("from"))

    @property
    def end(self) -> datetime | None:
        """Where the range ends, itself not included, in UTC."""
        return _instant(self._tag("to"))

    @property
    def etag(self) -> str:
        """16 hex digits over the records: equal data, equal etag, on every machine."""
        return self._pages.etag if self._pages is not None else self._entity.etag

    @property
    def state(self) -> str:
        """`ready`, `partial` (a part could not be had) or `stale` (older than it should be)."""
        return self._found.state

    @property
    def last_error(self) -> str:
        """What upstream said, where the state is not `ready`."""
        return self._entity.last_error

    @property
    def fetched_at(self) -> datetime | None:
        """When the oldest part of it was fetched, in UTC."""
        return _instant(self._entity.fetched_at)

    @property
    def updated_at(self) -> datetime | None:
        """When it was last changed, in UTC."""
        return _instant(self._entity.updated_at)

    @property
    def refresh_after(self) -> datetime | None:
        """From when on asking again may bring something else; `None`: all of it is final."""
        return _instant(self._entity.refresh_after)

    @property
    def stitch(self) -> Stitch | None:
        """How it was put together; `None` for an entity that was stored as it is."""
        if self._stitch is None and self._stitch_text != _NULL:
            self._stitch = stitch_of(self._stitch_text)
        return self._stitch

    @property
    def facts(self) -> Facts | None:
        """What is known of its ticker: time zone, currency, name; `None` where it is of none."""
        text = self._found.facts
        if text == _NULL and self._pages is not None:
            text = self._pages.headers.get("gapless-facts", "null").encode()
        return facts_of(text)

    @property
    def data(self) -> Any:
        """What the entity holds, decoded: mostly a list of records."""
        if self._pages is not None:
            return self.records
        text = _unwrapped(self._entity.data)
        try:
            return msgspec.json.decode(text)
        except (msgspec.DecodeError, UnicodeDecodeError):
            # A plugin may store whatever text it likes.
            return text.decode(errors="replace")

    @property
    def records(self) -> list[dict[str, Any]]:
        """The records in the order of time; raises `UnexpectedAnswer` where it holds none."""
        if self._records is None:
            if self._pages is not None:
                self._records = frames.undated(self._found.frame()).to_dicts()
            else:
                data = self.data
                if not isinstance(data, list) or not all(isinstance(one, dict) for one in data):
                    raise UnexpectedAnswer(f"{self.id} holds no records; see its `data`")
                self._records = data
        return self._records

    def to_polars(self) -> pl.DataFrame:
        """Return the records as a polars frame."""
        if self._frame is None:
            self._frame = frames.dated(self._found.frame())
        return self._frame.clone()

    def to_arrow(self) -> Any:
        """Return the records as a `pyarrow.Table`; needs `pip install 'gapless[arrow]'`."""
        return frames.to_arrow(self.to_polars())

    def to_pandas(self) -> Any:
        """Return the records as a `pandas.DataFrame`; needs `pip install 'gapless[pandas]'`."""
        return frames.to_pandas(self.to_polars())

    def __arrow_c_stream__(self, requested_schema: object = None) -> object:
        """Hand the records on as an Arrow stream."""
        return self.to_polars().__arrow_c_stream__(requested_schema)

    def __len__(self) -> int:
        return self.to_polars().height if self._pages is not None else len(self.records)

    def __bool__(self) -> bool:
        """An answer is one, also without records."""
        return True

    def __iter__(self) -> Iterator[dict[str, Any]]:
        return iter(self.records)

    def __repr__(self) -> str:
        text = f"<gapless.Result {self.id} {self.state}"
        stitch = self.stitch
        if stitch is None:
            return f"{text}>"
        noun = "record" if len(self) == 1 else "records"
        parts = [f"{len(self):,} {noun}"]
        for name in ("cached", "fetched", "missing"):
            spans: tuple[Span, ...] = getattr(stitch, name)
            if spans:
                parts.append(f"{name} {', '.join(map(str, spans))}")
        return f"{text}: {'; '.join(parts)}>"

    def _repr_html_(self) -> str:
        """Return a small table and the coverage bar, for notebooks."""
        try:
            table = _html_table(self.to_polars())
        except UnexpectedAnswer:
            table = f"<pre>{html.escape(str(self.data)[:1_000])}</pre>"
        title = f"<b>{html.escape(self.id)}</b> · {html.escape(self.state)}"
        if self.last_error:
            title += f" · {html.escape(self.last_error)}"
        bar = _html_bar(self.stitch) if self.stitch is not None else ""
        return f"<div><p>{title}</p>{bar}{table}</div>"

    def _tag(self, name: str) -> str | None:
        prefix = f"{name}="
        for tag in self.tags:
            if tag.startswith(prefix):
                return tag.removeprefix(prefix)
        return None


def _unwrapped(raw: Raw) -> bytes:
    """Return JSON that may have come in a string, as it does from hubs that know no arrays."""
    text = bytes(raw)
    if text.startswith(b'"'):
        inner: str = msgspec.json.decode(text)
        return inner.encode()
    return text


def stitch_of(text: bytes) -> Stitch:
    """Return a stitch by its JSON; raise `UnexpectedAnswer`."""
    try:
        wire = _STITCH.decode(text)
        return Stitch(
            _spans(wire.cached),
            _spans(wire.fetched),
            _spans(wire.missing),
            wire.upstream_requests,
            wire.state,
            tuple(
                Why(_spans([(one.from_, one.to)])[0], one.reason, one.message) for one in wire.why
            ),
            _instant(wire.changed_at),
        )
    except (msgspec.DecodeError, UnicodeDecodeError, ValueError) as error:
        raise UnexpectedAnswer(f"the hub's stitch is none: {error}") from error


def _spans(pairs: list[tuple[str, str]]) -> tuple[Span, ...]:
    return tuple(
        Span(datetime.fromisoformat(start), datetime.fromisoformat(end)) for start, end in pairs
    )


def _instant(text: str | None) -> datetime | None:
    if not text:
        return None
    try:
        return datetime.fromisoformat(text).astimezone(UTC)
    except ValueError:
        return None


def _short(instant: datetime) -> str:
    text = instant.astimezone(UTC).isoformat().replace("+00:00", "Z")
    return text.removesuffix("T00:00:00Z")


_COLOURS: Mapping[str, str] = {"cached": "#2e9e5b", "fetched": "#3b82c4", "missing": "#d64545"}


def _html_bar(stitch: Stitch) -> str:
    """Return the asked range as a bar, each part as long as it is, and what its colours mean."""
    asked = stitch.asked
    if asked is None or asked.start == asked.end:
        return ""
    whole = (asked.end - asked.start).total_seconds()
    pieces = sorted(
        (span, name) for name in _COLOURS for span in getattr(stitch, name) if span.start < span.end
    )
    cells = "".join(
        f'<span title="{name} {span}" style="background:{_COLOURS[name]};'
        f'width:{100 * (span.end - span.start).total_seconds() / whole:.3f}%"></span>'
        for span, name in pieces
    )
    there = [name for name in _COLOURS if getattr(stitch, name)]
    legend = " ".join(
        f'<span style="color:{_COLOURS[name]}">&#9632;</span> {name}' for name in there
    )
    return (
        f'<div style="display:flex;height:10px;max-width:40em">{cells}</div>'
        f"<p><small>{_short(asked.start)} … {_short(asked.end)} &nbsp; {legend}; "
        f"{stitch.upstream_requests} upstream request"
        f"{'' if stitch.upstream_requests == 1 else 's'}</small></p>"
    )


def _html_table(frame: pl.DataFrame) -> str:
    import polars as pl

    with pl.Config(tbl_rows=_SHOWN_ROWS):
        # What notebooks call; it has no other name.
        return frame._repr_html_()
