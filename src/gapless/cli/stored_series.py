"""Which stored series and which range of it the words of a command mean, by what is stored.

A database may be without a hub, and then nobody else can tell.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from gapless.cli.series_words import SeriesWords
from gapless.config import Settings
from gapless.domain.intervals import Interval
from gapless.domain.series import SeriesKey, span_text
from gapless.errors import NotFound
from gapless.store.base import SeriesState
from gapless.zones import zone_named


@dataclass(frozen=True, slots=True)
class StoredRange:
    """A stored series, and a range of it; `interval` `None`: all of it."""

    state: SeriesState
    interval: Interval | None

    @classmethod
    def of(cls, state: SeriesState, asked: SeriesWords, now: int) -> StoredRange:
        """Return the range that was asked for; bare dates are days of the ticker's exchange."""
        bounds = asked.within(now, zone_named(state.ticker.zone))
        if bounds is None:
            return cls(state, None)
        first = min((row.start for row in state.coverage), default=bounds.end_ms)
        start = first if bounds.start_ms is None else bounds.start_ms
        return cls(state, Interval(start, bounds.end_ms))

    @property
    def key(self) -> SeriesKey:
        """The series."""
        return self.state.key

    @property
    def id(self) -> str:
        """The range as ids spell it, or the series where all of it is meant."""
        text = self.key.text
        return text if self.interval is None else f"{text}:{span_text(self.interval)}"

    @property
    def what(self) -> str:
        """The same in words."""
        return f"all of {self.id}" if self.interval is None else self.id

    @property
    def known(self) -> bool:
        """Whether anything is known of the range."""
        interval = self.interval
        return interval is None or any(
            row.interval.overlaps(interval) for row in self.state.coverage
        )


def with_params(
    found: Sequence[SeriesState], ticker: str, params: Mapping[str, str]
) -> SeriesState:
    """Return that of a ticker's series which has these parameters; raise `NotFound`.

    A ticker that differs only in capitals stands back behind the one that was written.
    """
    hits = [state for state in found if dict(state.key.params) == dict(params)]
    hits = [state for state in hits if state.key.ticker == ticker] or hits
    if len(hits) != 1:
        held = ", ".join(state.key.text for state in found)
        if hits:
            raise NotFound(f"that may be one of {held}; write the ticker as it stands there")
        raise NotFound(f"none with these parameters is held; of {ticker} there are {held}")
    return hits[0]


def stored_params(
    provider: str, ticker: str, params: Mapping[str, str], settings: Settings
) -> Mapping[str, str]:
    """Return parameters as series are stored with: without defaults, in one spelling.

    Those of a plugin only its own process knows, and they stay as they are. Raises
    `InvalidQuery` for one that the provider does not know.
    """
    from gapless.app import providers

    for one in providers(settings):
        if one.info.name == provider:
            return dict(one.key(ticker, params).params)
    return params
