"""What a range search means: its series, its range in milliseconds, its provider's reach."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import NamedTuple
from zoneinfo import ZoneInfo

from msgspec import Struct, structs

from gapless.domain.freshness import Freshness
from gapless.domain.intervals import Interval
from gapless.domain.planning import Reach
from gapless.domain.series import SeriesKey
from gapless.errors import InvalidQuery
from gapless.lru import Lru
from gapless.protocol.messages import (
    DateRange,
    Filter,
    Param,
    Ticker,
)
from gapless.protocol.times import ALL, check_range, is_local, parse_instant, parse_range
from gapless.providers.base import DAY_MS, Derived, Provider, ProviderInfo, Traits
from gapless.store.base import TickerState
from gapless.zones import EARLIEST, LATEST, zone_named

_DEFAULT_WINDOW_MS = 30 * DAY_MS
_SECOND_MS = 1_000
_LONGEST_NAME = 100
_LONGEST_FILTER = 1_000
_MOST_FILTERS = 100
_SHOWN = 60
# Words that name series, and what they name.
_MOST_KEYS = 10_000
# So much longer than its days are counted may be what two months or two years back from now are.
_UNEVEN_MS = 4 * DAY_MS


@dataclass(frozen=True, slots=True)
class Dates:
    """Bounds of which one at least is the beginning of a day in the ticker's time zone.

    `now` is when they were said, milliseconds UTC; `data_start` what an empty start means.
    """

    start: str
    end: str
    now: int
    data_start: int

    def within(self, zone: ZoneInfo | None) -> tuple[Interval, bool]:
        """Return the range that they mean in a time zone (`None`: UTC).

        And whether the same words mean the same there at any later time.
        """
        return _meant(self.start, self.end, self.now, self.data_start, zone)

    def anywhere(self) -> Interval:
        """Return a range that has all they can mean, whatever the time zone is."""
        start = self.data_start
        if self.start and self.start.lower() != ALL:
            start = max(start, min(self._read(self.start)) - _aside(self.start))
        end = min(max(self._read(self.end or "now")) + _aside(self.end), present(self.now))
        return Interval(start, max(start, end))

    def _read(self, text: str) -> list[int]:
        return [parse_instant(text, now_ms=self.now, zone=zone) for zone in (EARLIEST, LATEST)]


def _meant(
    start: str, end: str, now: int, data_start: int, zone: ZoneInfo | None
) -> tuple[Interval, bool]:
    """Return the range of two bounds, and whether they mean the same at any later time."""
    start_ms, end_ms, absolute = parse_range(start, end, now_ms=now, zone=zone)
    begin = data_start if start_ms is None else start_ms
    until = min(end_ms, present(now))
    # What lies ahead is neither fetched nor missing: such a range is empty, and whole.
    return Interval(begin, max(begin, until)), absolute and end_ms <= until


def _aside(text: str) -> int:
    """Return how far a bound may be from what it is in the zones where days begin first and last.

    Between them a date begins at other times, but no farther; what is reckoned from today's may be
    of the one day or the other.
    """
    return DAY_MS if is_local(text) and not text[:1].isdigit() else 0


class Adjusted(NamedTuple):
    """A series that is made of the one which is looked up, and how."""

    key: SeriesKey
    how: Derived


def source_of(key: SeriesKey, traits: Traits) -> tuple[SeriesKey, Adjusted | None]:
    """Return the series that has the records of one, and what is to be made of them, if anything.

    `traits` are those of `key`.
    """
    if traits.derived is None:
        return key, None
    return key.sibling(traits.derived.source), Adjusted(key, traits.derived)


class RangeSearch(Struct, frozen=True):
    """A series and the asked range, which never ends after the second it was asked in.

    `absolute`: the same words mean the same range at any later time. `others` are filters that
    the stitched entity must match besides. `fresh`: how fresh it is wanted (stitching rule 10).
    `dates`: what was said of a range whose bounds depend on the ticker's time zone; `asked` is what
    they mean in `zone`, or, where that is not known, as wide as it may be. `latitude`: where
    upstream does not serve that far back, so many milliseconds of its beginning are left out, with
    `None` all that is not held (stitching rule 15). `adjusted`: what is to be made of the records;
    `key` is that of the series which has them.
    """

    key: SeriesKey
    asked: Interval
    absolute: bool
    others: tuple[Filter, ...] = ()
    fresh: Freshness = Freshness.CHECK
    dates: Dates | None = None
    zone: str | None = None
    latitude: int | None = 0
    adjusted: Adjusted | None = None

    def placed(self, ticker: TickerState) -> RangeSearch | None:
        """Return the search with its range as it is in its ticker's time zone.

        `None`: what is known of the ticker does not tell it.
        """
        if self.dates is None:
            return self
        name = ticker.zone
        if name is not None and name == self.zone:
            return self
        zone = zone_named(name)
        if zone is None:
            return None
        asked, absolute = self.dates.within(zone)
        return structs.replace(self, asked=asked, absolute=absolute, zone=name)

    def placed_in_utc(self) -> RangeSearch:
        """Return the search with its range as it is where nobody knows of a time zone."""
        if self.dates is None:
            return self
        asked, _ = self.dates.within(None)
        return structs.replace(self, asked=asked, absolute=False)


class Named(NamedTuple):
    """What words name: the series that is looked up, its `margin`, what is made of it, if anything.

    For the margin see `Traits`.
    """

    key: SeriesKey
    margin: int
    adjusted: Adjusted | None


class Keys:
    """Series by the words that name them, as they were read before.

    `zone_of` tells the time zone of a series' ticker where that is at hand.
    """

    def __init__(self, zone_of: Callable[[SeriesKey], str | None] = lambda key: None) -> None:
        self.zone_of = zone_of
        self._known: Lru[tuple[Provider, str, tuple[tuple[str, str], ...]], Named] = Lru(_MOST_KEYS)

    def named(self, provider: Provider, ticker: str, params: Mapping[str, str]) -> Named:
        """Return the series that a ticker and parameters name; raises what `series_key` does."""
        words = (provider, ticker, tuple(params.items()))
        found = self._known.get(words)
        if found is None:
            key = series_key(provider, ticker, params)
            traits = provider.traits(key)
            source, adjusted = source_of(key, traits)
            found = Named(source, traits.margin, adjusted)
            self._known.put(words, found)
        return found

    def forget(self, provider: str) -> None:
        """Forget what was read for a provider of this name."""
        for words in list(self._known):
            if words[0].info.name == provider:
                self._known.drop(words)


def range_search(
    provider: Provider,
    filters: Sequence[Filter],
    now: int,
    fresh: str | None = None,
    keys: Keys | None = None,
) -> RangeSearch | None:
    """Read the filters of a search; `None` where they name no ticker.

    `fresh` is a word of the protocol, `None` where none was said. `keys` are those that were read
    before. Raises `InvalidQuery` for a bad range, ticker or parameter, one that is given twice, and
    for a range without a ticker, unless the provider reads such requests itself; for how fresh what
    is no range is wanted.
    """
    keys = keys or Keys()
    if len(filters) > _MOST_FILTERS:
        raise InvalidQuery(f"{len(filters):,} filters are too many; {_MOST_FILTERS} are the most")
    ticker: Ticker | None = None
    dates: DateRange | None = None
    params: dict[str, str] = {}
    others: list[Filter] = []
    for item in filters:
        if isinstance(item, Ticker):
            if ticker is not None:
                raise InvalidQuery("a range search is about one ticker; ask for each by itself")
            ticker = item
        elif isinstance(item, DateRange):
            if dates is not None:
                raise InvalidQuery("a range search has one date range; ask for each by itself")
            dates = item
        elif isinstance(item, Param):
            if item.name.lower() in params:
                raise InvalidQuery(f"the parameter {item.name!r} is given twice")
            params[item.name.lower()] = item.value
        else:
            _bounded(item)
            others.append(item)
    if ticker is None:
        if (dates is not None or params) and not provider.info.entities:
            named = "a date range" if dates is not None else f"parameter {next(iter(params))!r}"
            raise InvalidQuery(f"{named} needs a ticker; add ticker=… to the search")
        if fresh is not None:
            raise no_range(fresh)
        return None
    key, margin, adjusted = keys.named(provider, ticker.value, params)
    wanted = Freshness.CHECK if fresh is None else Freshness(fresh)
    said: Dates | None = None
    zone: str | None = None
    latitude: int | None = margin
    if dates is None:
        asked, absolute = default_range(provider.info, now), False
    else:
        start, end = dates.start, dates.end
        data_start = beginning(provider.info, now)
        latitude = _latitude(start, margin)
        if provider.info.zoned and (is_local(start) or is_local(end)):
            said, zone = Dates(start, end, now, data_start), keys.zone_of(key)
            where = zone_named(zone)
            if where is None:
                zone = None
                check_range(start, end, now_ms=now)
                asked, absolute = said.anywhere(), False
            else:
                asked, absolute = said.within(where)
        else:
            asked, absolute = _meant(start, end, now, data_start, None)
    return RangeSearch(key, asked, absolute, tuple(others), wanted, said, zone, latitude, adjusted)


def _latitude(start: str, margin: int) -> int | None:
    """Return how much of a range may be left out that begins where `start` says; `None`: any."""
    if start.lower() == ALL:
        return None
    if not start or start[:1].isdigit() or not margin:
        return 0
    return margin + (_UNEVEN_MS if is_local(start) else 0)


def no_range(fresh: str) -> InvalidQuery:
    """Return the error of a request that says how fresh it wants what never ages."""
    return InvalidQuery(
        f"fresh={fresh} goes with a search by ticker alone: only a range is fetched anew"
    )


def series_key(provider: Provider, ticker: str, params: Mapping[str, str]) -> SeriesKey:
    """Return the canonical key; raise `InvalidQuery` for what cannot be a ticker or parameter.

    Keys are remembered and echoed, so that their length is bounded before any provider sees them.
    """
    for what, text in (("ticker", ticker), *params.items()):
        if len(text) > _LONGEST_NAME:
            raise InvalidQuery(
                f"{what} {shortened(text)} has {len(text):,} characters; "
                f"{_LONGEST_NAME} are the most"
            )
    return provider.key(ticker, params)


def shortened(text: str) -> str:
    """Return a client's text as it is quoted in an error: never much longer than a line."""
    return repr(text) if len(text) <= _SHOWN else f"{text[:_SHOWN]!r}…"


def default_range(info: ProviderInfo, now: int) -> Interval:
    """Return the last 30 days, before now or before the end of the provider's data."""
    end = present(now) if info.data_end is None else min(present(now), info.data_end)
    return Interval(max(beginning(info, now), end - _DEFAULT_WINDOW_MS), end)


def beginning(info: ProviderInfo, now: int) -> int:
    """Return from when on a provider has data."""
    if info.farthest is None:
        return info.data_start
    return max(info.data_start, present(now) - info.farthest)


def present(now: int) -> int:
    """Return now floored to the second (stitching rule 1)."""
    return now - now % _SECOND_MS


def reach(provider: Provider, key: SeriesKey, now: int) -> Reach:
    """Return what the provider can serve of a series now."""
    return reach_of(provider.info, provider.traits(key), now)


def reach_of(info: ProviderInfo, traits: Traits, now: int) -> Reach:
    """Return what a provider can serve now of a series with these traits."""
    start = beginning(info, now)
    look_back = traits.look_back
    return Reach(
        data_start=start,
        data_end=present(now) if info.data_end is None else info.data_end,
        served_from=start if look_back is None else present(now) - look_back,
    )


def _bounded(item: Filter) -> None:
    """Refuse a filter that would cost the database more than any entity is worth."""
    texts = item.texts()
    if len(texts) > _MOST_FILTERS:
        raise InvalidQuery(f"{len(texts):,} tags are too many; {_MOST_FILTERS} are the most")
    for text in texts:
        if len(text) > _LONGEST_FILTER:
            raise InvalidQuery(
                f"{shortened(text)} has {len(text):,} characters; a filter has "
                f"{_LONGEST_FILTER} at the most"
            )
