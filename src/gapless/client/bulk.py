"""Many tickers at once, put together into one frame; whichever client asks."""

from __future__ import annotations

import asyncio
import warnings
from collections.abc import Awaitable, Iterable, Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Literal, NamedTuple, Protocol, TypeAlias

from gapless.client import frames
from gapless.client.conversations import Conversation, Conversations
from gapless.client.failures import NotReadyWarning, PartlyFailed, Unreachable
from gapless.client.progress import progress_bar
from gapless.client.requests import Instant, ParamValue
from gapless.client.results import Result, shortfall
from gapless.errors import GaplessError, InvalidQuery, MissingToken, Unauthorized

if TYPE_CHECKING:
    import polars as pl

OnError: TypeAlias = Literal["raise", "skip"]

# A frame is wanted, and that comes sooner as columns even where JSON is not much.
_INLINE_RECORDS = 200
_OWN_TICKER = "ticker_"
# What a message lists of many.
_TOLD = 5
# What fails for one fails for all.
_FOR_ALL = (Unreachable, MissingToken, Unauthorized)


class Running(Protocol):
    """Takes the steps of a conversation."""

    def __call__(self, conversation: Conversation[Result], /) -> Awaitable[Result]:
        """Return what the conversation comes to."""


@dataclass(frozen=True, slots=True)
class Many:
    """What is asked for each of many tickers."""

    provider: str
    tickers: Iterable[str]
    start: Instant | None
    end: Instant | None
    params: Mapping[str, ParamValue | None]
    strict: bool = False
    timeout: float | None = None


class Gathered(NamedTuple):
    """The frame of what came, and in sentences what it is less than."""

    frame: pl.DataFrame
    shortfalls: tuple[str, ...]


async def gather(
    conversations: Conversations,
    run: Running,
    many: Many,
    *,
    concurrency: int,
    on_error: OnError,
    progress: bool | None,
) -> Gathered:
    """Ask for all tickers, `concurrency` at a time; see `Client.search_many`."""
    tickers = _checked(many.tickers, concurrency, on_error)
    if conversations.info is None and tickers:
        # Once, before all others would do so together.
        await run(conversations.greeting())  # type: ignore[arg-type]
    results: dict[str, Result] = {}
    failures: dict[str, GaplessError] = {}
    coming = iter(tickers)

    async def work() -> None:
        for ticker in coming:
            talk = conversations.search(
                many.provider,
                ticker,
                many.start,
                many.end,
                many.params,
                strict=many.strict,
                timeout=many.timeout,
                inline_records=_INLINE_RECORDS,
            )
            try:
                results[ticker] = await run(talk)
            except _FOR_ALL:
                raise
            except GaplessError as error:
                failures[ticker] = error
            advance()

    with progress_bar(f"{many.provider}", len(tickers), progress) as advance:
        try:
            async with asyncio.TaskGroup() as group:
                for _ in range(min(concurrency, len(tickers))):
                    group.create_task(work())
        except* GaplessError as found:
            # One of them says it for all.
            raise found.exceptions[0] from None
    there = [(ticker, results[ticker]) for ticker in tickers if ticker in results]
    frame = await asyncio.to_thread(one_frame, there)
    if failures and on_error == "raise":
        raise PartlyFailed(_failed(failures, len(tickers)), failures, frame)
    shortfalls = [text for _, result in there if (text := shortfall(result)) is not None]
    if failures:
        shortfalls.append(_failed(failures, len(tickers)))
    return Gathered(frame, tuple(_few(shortfalls)))


def all_told(gathered: Gathered) -> pl.DataFrame:
    """Return the frame; warn the caller of the function that calls this of what is not ready."""
    for text in gathered.shortfalls:
        warnings.warn(text, NotReadyWarning, stacklevel=3)
    return gathered.frame


def one_frame(results: Iterable[tuple[str, Result]]) -> pl.DataFrame:
    """Put the records of many tickers one below the other, the ticker as first column."""
    import polars as pl

    names: list[str] = []
    heights: list[int] = []
    found: list[pl.DataFrame] = []
    for ticker, result in results:
        frame = result.undated()
        if frame.width:
            names.append(ticker)
            heights.append(frame.height)
            found.append(frame)
    if not found:
        instants = pl.Datetime("us", "UTC")
        return pl.DataFrame(schema={"ticker": pl.String, "timestamp": instants})
    # Which ticker each row is of as a number first: that repeats faster than a text.
    number = pl.DataFrame(
        {"at": range(len(names)), "n": heights}, schema={"at": pl.UInt32, "n": pl.UInt32}
    ).select(pl.col("at").repeat_by("n").explode(empty_as_null=False))
    column = pl.Series("ticker", names, dtype=pl.String).gather(number.to_series())
    whole = frames.dated(frames.together(found))
    if "ticker" in whole.columns:
        # The records have a column of that name themselves.
        whole = whole.rename({"ticker": _OWN_TICKER})
    return whole.insert_column(0, column)


def _checked(tickers: Iterable[str], concurrency: int, on_error: str) -> list[str]:
    """Return the tickers, each once; raise `InvalidQuery` for what makes no sense."""
    if isinstance(tickers, str):
        raise InvalidQuery(f"tickers={tickers!r}: expected a list of tickers")
    if concurrency < 1:
        raise InvalidQuery(f"concurrency={concurrency!r}: expected at least 1")
    if on_error not in ("raise", "skip"):
        raise InvalidQuery(f"on_error={on_error!r}: expected 'raise' or 'skip'")
    return list(dict.fromkeys(tickers))


def _failed(failures: Mapping[str, GaplessError], asked: int) -> str:
    told = [f"{ticker}: {error.message}" for ticker, error in failures.items()]
    more = f"; and {len(told) - _TOLD} more" if len(told) > _TOLD else ""
    return f"{len(told)} of {asked} tickers failed: {'; '.join(told[:_TOLD])}{more}"


def _few(texts: list[str]) -> list[str]:
    if len(texts) <= _TOLD:
        return texts
    return [*texts[:_TOLD], f"{len(texts) - _TOLD} more answers are not ready"]
