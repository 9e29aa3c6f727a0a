"""Many tickers at once, put together into one frame; whichever client asks."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Iterable, Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Literal, NamedTuple, Protocol, TypeAlias

from gapless.client.conversations import Conversations
from gapless.client.failures import (
    PartlyFailed,
    TimedOut,
    UnexpectedAnswer,
    Unreachable,
)
from gapless.client.pages import Pages
from gapless.client.progress import progress_bar
from gapless.client.requests import Instant, ParamValue, fresh_of
from gapless.client.results import Found, stitch_of
from gapless.client.shortfalls import shortfall
from gapless.client.stack import Stack
from gapless.client.steps import Conversation, T
from gapless.errors import (
    Forbidden,
    GaplessError,
    InvalidQuery,
    MissingToken,
    ProviderNotFound,
    Unauthorized,
)
from gapless.protocol.messages import Fresh

if TYPE_CHECKING:
    import polars as pl

OnError: TypeAlias = Literal["raise", "skip"]

# What a message lists of many.
_TOLD = 5
# What fails for one fails for all.
_FOR_ALL = (MissingToken, Unauthorized)
# So many failures alike, at least, before all are given up.
_ENOUGH = 8
# What fails for one is likely to fail for all, so that the first few decide.
_LIKELY_FOR_ALL = (InvalidQuery, ProviderNotFound, Forbidden)
# A body of more bytes is decoded away from the loop, which others may want meanwhile.
_LARGE_BYTES = 1 << 22


class Running(Protocol):
    """Takes the steps of a conversation."""

    def __call__(self, conversation: Conversation[T], /) -> Awaitable[T]:
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
    fresh: Fresh | None = None


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
    fresh_of(many.fresh)
    if conversations.info is None and tickers:
        # Once, before all others would do so together.
        await run(conversations.greeting())
    stack = Stack(tickers)
    failures = _Failures(min(max(concurrency, _ENOUGH), len(tickers)))
    shortfalls: dict[str, str] = {}
    coming = iter(tickers)

    async def ask(ticker: str) -> tuple[pl.DataFrame, str | None]:
        came = await run(
            conversations.columns(
                many.provider,
                ticker,
                many.start,
                many.end,
                many.params,
                strict=many.strict,
                fresh=many.fresh,
                timeout=many.timeout,
            )
        )
        return await _decoded(came), _short(ticker, came)

    async def work() -> None:
        for ticker in coming:
            try:
                try:
                    frame, short = await ask(ticker)
                except UnexpectedAnswer:
                    if not conversations.web.usable:
                        raise
                    conversations.web.give_up("what answers sends no records")
                    frame, short = await ask(ticker)
            except GaplessError as error:
                failures.add(ticker, error)
                stack.put(ticker, None)
            else:
                failures.over()
                stack.put(ticker, frame)
                if short is not None:
                    shortfalls[ticker] = short
            advance()

    with progress_bar(f"{many.provider}", len(tickers), progress) as advance:
        try:
            async with asyncio.TaskGroup() as group:
                for _ in range(min(concurrency, len(tickers))):
                    group.create_task(work())
        except* GaplessError as found:
            # One of them says it for all.
            error = found.exceptions[0]
            if not (isinstance(error, TimedOut) and failures.any_came):
                raise error from None
            given_up = TimedOut(f"given up, for others were in vain: {error.message}")
            for ticker in stack.lacking:
                stack.put(ticker, None)
                failures.told.setdefault(ticker, given_up)
    frame = await asyncio.to_thread(stack.frame)
    if failures.told and on_error == "raise":
        raise PartlyFailed(_failed(failures.told, len(tickers)), failures.told, frame)
    short = [shortfalls[ticker] for ticker in tickers if ticker in shortfalls]
    if failures.told:
        short.append(_failed(failures.told, len(tickers)))
    return Gathered(frame, tuple(_few(short)))


class _Failures:
    """What went wrong with which ticker; `add` raises what goes wrong with all of them.

    That is what says so itself, and what the first `enough` answers say alike. A hub that falls
    silent is given up after as many in a row. `any_came`: there was an answer before.
    """

    def __init__(self, enough: int) -> None:
        self.told: dict[str, GaplessError] = {}
        self._enough = enough
        self.any_came = False
        self._alike = 0
        self._last = ""

    def over(self) -> None:
        """Take note of an answer: what failed before was not for all."""
        self.any_came = True
        self._alike = 0

    def add(self, ticker: str, error: GaplessError) -> None:
        """Take note of a failure."""
        if isinstance(error, _FOR_ALL):
            raise error
        if isinstance(error, Unreachable) and not isinstance(error, TimedOut):
            raise error
        self.told[ticker] = error
        said = f"{error.code} {error.message}"
        self._alike = self._alike + 1 if said == self._last else 1
        self._last = said
        counts = isinstance(error, TimedOut) or (
            isinstance(error, _LIKELY_FOR_ALL) and not self.any_came
        )
        if counts and self._alike >= self._enough:
            raise error


async def _decoded(came: Found | Pages) -> pl.DataFrame:
    parts = came.bodies if isinstance(came, Pages) else (memoryview(came.entity.data),)
    if sum(map(len, parts)) > _LARGE_BYTES:
        return await asyncio.to_thread(came.frame)
    return came.frame()


def _short(ticker: str, came: Found | Pages) -> str | None:
    """Return in a sentence what a ticker's records are less than; `None`: they are all there."""
    if came.state == "ready":
        return None
    stitch = stitch_of(came.stitch if isinstance(came, Found) else came.stitch())
    error = next((one.message for one in stitch.why), "")
    return shortfall(ticker, came.state, error, stitch)


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
