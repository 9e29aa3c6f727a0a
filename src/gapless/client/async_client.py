"""`AsyncClient`: a hub from coroutines; the same conversations as `Client`, the same names."""

from __future__ import annotations

import ssl
from collections.abc import Iterable, Sequence
from types import TracebackType
from typing import TYPE_CHECKING, Any, Literal, Self, overload

from gapless.client.async_transport import AsyncTransport
from gapless.client.bulk import Many, OnError, gather
from gapless.client.facts import Facts
from gapless.client.holdings import Coverage, Plan, Refreshed
from gapless.client.hub_client import HubClient
from gapless.client.provider_details import ProviderDetails
from gapless.client.requests import Instant, ParamValue, SeriesRange, Stored, provider_line, since
from gapless.client.results import Result
from gapless.client.shortfalls import shortfalls
from gapless.client.talk import HubInfo, Patience
from gapless.protocol.messages import Fresh

if TYPE_CHECKING:
    import polars as pl


class AsyncClient(HubClient):
    """A hub, asked by coroutines; the arguments, methods and errors are those of `Client`.

    Requests share one connection and do not wait for one another: ask for many at once with
    `asyncio.gather`, or by `search_many`. It belongs to the event loop in which it is first used.
    """

    def __init__(
        self,
        address: str | None = None,
        *,
        token: str | None = None,
        http: str | Literal[False] | None = None,
        timeout: float = 60.0,
        connect_timeout: float = 10.0,
        retries: int = 2,
        tls: ssl.SSLContext | None = None,
    ) -> None:
        super().__init__(address, token, http, Patience(timeout, connect_timeout, retries))
        self._transport = AsyncTransport(self._conversations, tls)

    # About the hub

    async def ping(self) -> HubInfo:
        """Ask the hub who it is; needs no token."""
        return await self._transport.run(self._conversations.greeting())

    @overload
    async def providers(self, *, details: Literal[False] = False) -> list[str]: ...
    @overload
    async def providers(self, *, details: Literal[True]) -> list[ProviderDetails]: ...
    @overload
    async def providers(self, *, details: bool) -> list[str] | list[ProviderDetails]: ...
    async def providers(self, *, details: bool = False) -> list[str] | list[ProviderDetails]:
        """Return the names of the providers, sorted.

        With `details` what each declares and how it fares instead, which only HTTP has.
        """
        if details:
            return await self._transport.run(self._conversations.provider_details())
        return await self._transport.run(self._conversations.providers())

    async def list_providers(self) -> list[str]:
        """Return the names of the providers, sorted; `providers` by an older name."""
        return await self.providers()

    async def describe(self, provider: str, ticker: str, *, timeout: float | None = None) -> Facts:
        """Return what is known of a ticker beside its records: time zone, currency, name.

        The hub asks upstream only where nothing is known of it yet.
        """
        talk = self._conversations.describe(provider, ticker, timeout=timeout)
        return await self._transport.run(talk)

    # Histories

    async def search(
        self,
        provider: str,
        ticker: str,
        start: Instant | None = None,
        end: Instant | None = None,
        *,
        period: str | None = None,
        strict: bool = False,
        fresh: Fresh | None = None,
        timeout: float | None = None,
        **params: ParamValue | None,
    ) -> Result:
        """Return the history of a ticker in `[start, end)`, from what is held and what is not.

        Bounds are texts (`2025-09-05`, RFC 3339, `-30d`, `now`), dates, or datetimes with a time
        zone; without `end` up to now, without both the last 30 days. `period` says it as a time
        back from now instead: `"30d"`, `"3mo"`, `"1y"`, `"ytd"`, `"max"`. Other keywords are
        parameters of the provider, such as `interval="1h"`. `strict`: an answer that would be
        partial is an error. `fresh`: `"held"` fetches nothing for its age alone, `"check"` (the
        default) what is due, `"now"` everything anew.
        """
        start, end = since(start, end, period)
        talk = self._conversations.search(
            provider, ticker, start, end, params, strict=strict, fresh=fresh, timeout=timeout
        )
        result = await self._transport.run(talk)
        self._warn(shortfalls(result))
        return result

    async def search_many(
        self,
        provider: str,
        tickers: Iterable[str],
        start: Instant | None = None,
        end: Instant | None = None,
        *,
        period: str | None = None,
        strict: bool = False,
        fresh: Fresh | None = None,
        concurrency: int = 16,
        on_error: OnError = "raise",
        progress: bool | None = None,
        timeout: float | None = None,
        **params: ParamValue | None,
    ) -> pl.DataFrame:
        """Return the histories of many tickers as one frame, with the ticker as first column."""
        start, end = since(start, end, period)
        gathered = await gather(
            self._conversations,
            self._transport.run,
            Many(provider, tickers, start, end, params, strict, timeout, fresh),
            concurrency=concurrency,
            on_error=on_error,
            progress=progress,
        )
        self._warn(gathered.shortfalls)
        return gathered.frame

    # What is held, of which only HTTP tells

    async def plan(
        self,
        provider: str,
        ticker: str,
        start: Instant | None = None,
        end: Instant | None = None,
        *,
        period: str | None = None,
        timeout: float | None = None,
        **params: ParamValue | None,
    ) -> Plan:
        """Return what a request for a range would fetch, and why; nothing is fetched."""
        asked = SeriesRange(provider, ticker, params, *since(start, end, period))
        return await self._transport.run(self._conversations.plan(asked, timeout=timeout))

    async def coverage(
        self,
        provider: str,
        ticker: str,
        *,
        timeout: float | None = None,
        **params: ParamValue | None,
    ) -> Coverage:
        """Return what is known of a series: intervals with their outcome, age and due time."""
        asked = SeriesRange(provider, ticker, params)
        return await self._transport.run(self._conversations.coverage(asked, timeout=timeout))

    async def refresh(
        self,
        provider: str,
        ticker: str,
        start: Instant | None = None,
        end: Instant | None = None,
        *,
        period: str | None = None,
        timeout: float | None = None,
        **params: ParamValue | None,
    ) -> Refreshed:
        """Fetch a range anew, held or not; return how that went, without the records."""
        asked = SeriesRange(provider, ticker, params, *since(start, end, period))
        talk = self._conversations.refresh(asked, timeout=timeout)
        refreshed = await self._transport.run(talk)
        self._warn(shortfalls(refreshed))
        return refreshed

    async def forget(
        self,
        provider: str,
        ticker: str,
        start: Instant | None = None,
        end: Instant | None = None,
        *,
        period: str | None = None,
        timeout: float | None = None,
        **params: ParamValue | None,
    ) -> int:
        """Forget a range of a series, without bounds all of it; return how many records went."""
        asked = SeriesRange(provider, ticker, params, *since(start, end, period))
        return await self._transport.run(self._conversations.forget(asked, timeout=timeout))

    # Entities

    async def get(self, provider: str, id: str, *, timeout: float | None = None) -> Result:
        """Return one entity by its id, such as that of an earlier result."""
        result = await self._transport.run(self._conversations.get(provider, id, timeout=timeout))
        self._warn(shortfalls(result))
        return result

    async def get_many(
        self, provider: str, ids: Iterable[str], *, timeout: float | None = None
    ) -> list[Result]:
        """Return those of these entities that are stored, in the order asked."""
        return await self._transport.run(
            self._conversations.get_many(provider, ids, timeout=timeout)
        )

    async def entities(
        self,
        provider: str,
        *,
        limit: int | None = None,
        offset: int = 0,
        timeout: float | None = None,
    ) -> list[Result]:
        """Return what is stored of a provider, by id; all of it, or `limit`."""
        return await self._transport.run(
            self._conversations.entities(provider, limit, offset, timeout=timeout)
        )

    async def find(
        self,
        provider: str,
        *,
        id: str | None = None,
        source: str | None = None,
        state: str | None = None,
        tags: Sequence[str] = (),
        url: str | None = None,
        updated: tuple[Instant | None, Instant | None] | None = None,
        limit: int | None = None,
        timeout: float | None = None,
    ) -> list[Result]:
        """Return the stored entities of a provider for which all of that holds."""
        wanted = Stored(id, source, state, tags, url, updated)
        talk = self._conversations.find(provider, wanted, limit, timeout=timeout)
        return await self._transport.run(talk)

    async def report(
        self, provider: str, url: str, *, timeout: float | None = None
    ) -> list[Result]:
        """Return a report of a provider that has such a thing."""
        return await self._transport.run(self._conversations.report(provider, url, timeout=timeout))

    # Lines of the query language

    async def query(
        self, line: str, *, strict: bool = False, timeout: float | None = None
    ) -> list[Result]:
        """Return what a line of the query language asks for: a range is one result.

        For the names of the providers there is `providers`.
        """
        talk = self._conversations.query(line, strict=strict, timeout=timeout)
        results = await self._transport.run(talk)
        self._warn(shortfalls(*results))
        return results

    # The same, as users of older clients send them

    async def send_line(
        self,
        line: str,
        *,
        token: str | None = None,
        timeout: float | None = None,
        **envelope: Any,
    ) -> dict[str, Any]:
        """Ask what a line of the query language says; return the hub's whole answer.

        It is what the wire has: `result` a list of entities whose `data` is a text of JSON.
        `token` is shown for this once. `envelope` has further keys of the request, such as
        `data_as="array"` or `strict=True`.
        """
        talk = self._conversations.line(line, token=token, timeout=timeout, envelope=envelope)
        return await self._transport.run(talk)

    async def provider(self, line: str, *, timeout: float | None = None) -> dict[str, Any]:
        """Ask a line that begins with a provider's name: `sample search ticker=AAPL`."""
        return await self.send_line(provider_line(line), timeout=timeout)

    # Over HTTP

    async def fetch(
        self, method: str, target: str, body: Any = None, *, timeout: float | None = None
    ) -> Any:
        """Send a request to the hub's HTTP door; return the JSON that it answers, decoded.

        `target` is a path with its query, such as `/v1/series`; `body` is sent as JSON. For what
        TCP has not and no method does: series, plugins (see `/docs` of the hub). Only `GET` is
        sent again.
        """
        talk = self._conversations.fetch(method, target, body, timeout=timeout)
        return (await self._transport.run(talk)).json()

    # The client itself

    async def aclose(self) -> None:
        """Close all connections; a client that is used again opens new ones."""
        await self._transport.close()

    async def __aenter__(self) -> Self:
        """Return itself, once the hub is reached."""
        try:
            await self.ping()
        except BaseException:
            await self.aclose()
            raise
        return self

    async def __aexit__(
        self,
        exc_type: type[BaseException] | None,
        exc: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        """Close all connections."""
        await self.aclose()
