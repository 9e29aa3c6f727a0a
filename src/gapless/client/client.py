"""`Client`: a hub from code that waits; `async_client` is for code that does not."""

from __future__ import annotations

import asyncio
import ssl
import threading
from collections.abc import Coroutine, Iterable, Sequence
from concurrent.futures import Future
from types import TracebackType
from typing import TYPE_CHECKING, Any, Literal, Self, TypeVar, overload

from gapless.client.async_transport import AsyncTransport
from gapless.client.bulk import Gathered, Many, OnError, gather
from gapless.client.facts import Facts
from gapless.client.holdings import Coverage, Plan, Refreshed
from gapless.client.hub_client import HubClient
from gapless.client.provider_details import ProviderDetails
from gapless.client.requests import Instant, ParamValue, SeriesRange, Stored, provider_line, since
from gapless.client.results import Result
from gapless.client.shortfalls import shortfalls
from gapless.client.talk import HubInfo, Patience
from gapless.client.transport import Transport
from gapless.protocol.messages import Fresh

if TYPE_CHECKING:
    import polars as pl

T = TypeVar("T")


def connect(
    address: str | None = None,
    *,
    token: str | None = None,
    http: str | Literal[False] | None = None,
    timeout: float = 60.0,
    connect_timeout: float = 10.0,
    retries: int = 2,
    tls: ssl.SSLContext | None = None,
) -> Client:
    """Return a client that has reached its hub; see `Client` for the arguments and errors."""
    client = Client(
        address,
        token=token,
        http=http,
        timeout=timeout,
        connect_timeout=connect_timeout,
        retries=retries,
        tls=tls,
    )
    try:
        client.ping()
    except BaseException:
        client.close()
        raise
    return client


class Client(HubClient):
    """A hub, asked by code that waits for its answers; for any number of threads.

    `address` is `HOST:PORT` or a URL: `gapless://TOKEN@HOST:PORT`, `tls://HOST:PORT` for a hub
    that speaks TLS; without it that of `GAPLESS_URL`, or 127.0.0.1:7000. `token` goes before that
    of the address, and that before `GAPLESS_TOKEN`. `http` is the base address of the hub's HTTP
    door where it is not the one that the hub names; `False`: HTTP is not used. `timeout` is the
    longest silence in seconds while an answer is awaited; every call takes one of its own, too.
    `retries` is how often a request is sent again after its connection broke or the hub was
    overloaded; a report is never. `tls` says by whom the hub must be vouched for.

    Connections are opened when they are needed, and kept. Every call raises `GaplessError`: the
    hub's own errors by their kinds, `Unreachable` where no hub answers, `TimedOut`,
    `UnexpectedAnswer`. An answer that is not `ready` comes with a `NotReadyWarning`.
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
        self._tls = tls
        self._transport = Transport(self._conversations, tls)

    # About the hub

    def ping(self) -> HubInfo:
        """Ask the hub who it is; needs no token."""
        return self._transport.run(self._conversations.greeting())

    @overload
    def providers(self, *, details: Literal[False] = False) -> list[str]: ...
    @overload
    def providers(self, *, details: Literal[True]) -> list[ProviderDetails]: ...
    @overload
    def providers(self, *, details: bool) -> list[str] | list[ProviderDetails]: ...
    def providers(self, *, details: bool = False) -> list[str] | list[ProviderDetails]:
        """Return the names of the providers, sorted.

        With `details` what each declares and how it fares instead, which only HTTP has.
        """
        if details:
            return self._transport.run(self._conversations.provider_details())
        return self._transport.run(self._conversations.providers())

    def list_providers(self) -> list[str]:
        """Return the names of the providers, sorted; `providers` by an older name."""
        return self.providers()

    def describe(self, provider: str, ticker: str, *, timeout: float | None = None) -> Facts:
        """Return what is known of a ticker beside its records: time zone, currency, name.

        The hub asks upstream only where nothing is known of it yet.
        """
        talk = self._conversations.describe(provider, ticker, timeout=timeout)
        return self._transport.run(talk)

    # Histories

    def search(
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
        result = self._transport.run(talk)
        self._warn(shortfalls(result))
        return result

    def search_many(
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
        """Return the histories of many tickers as one frame, with the ticker as first column.

        They are asked for together, `concurrency` at a time, and come in the order of `tickers`.
        `progress` shows a bar on stderr; by default where that is a terminal or a notebook. If
        some of them fail, `PartlyFailed` is raised in the end: it has the errors and the frame
        of the others. With `on_error="skip"` they are left out, with a warning.
        """
        start, end = since(start, end, period)
        # By a loop in a thread of its own, which works inside a running one as well.
        transport = AsyncTransport(self._conversations, self._tls)

        async def all_of_them() -> Gathered:
            try:
                return await gather(
                    self._conversations,
                    transport.run,
                    Many(provider, tickers, start, end, params, strict, timeout, fresh),
                    concurrency=concurrency,
                    on_error=on_error,
                    progress=progress,
                )
            finally:
                await transport.close()

        gathered = _in_a_loop_of_its_own(all_of_them())
        self._warn(gathered.shortfalls)
        return gathered.frame

    # What is held, of which only HTTP tells

    def plan(
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
        """Return what a request for a range would fetch, and why; nothing is fetched.

        The arguments are those of `search`. Only HTTP has it, as all that is about what is held.
        """
        asked = SeriesRange(provider, ticker, params, *since(start, end, period))
        return self._transport.run(self._conversations.plan(asked, timeout=timeout))

    def coverage(
        self,
        provider: str,
        ticker: str,
        *,
        timeout: float | None = None,
        **params: ParamValue | None,
    ) -> Coverage:
        """Return what is known of a series: intervals with their outcome, age and due time."""
        asked = SeriesRange(provider, ticker, params)
        return self._transport.run(self._conversations.coverage(asked, timeout=timeout))

    def refresh(
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
        """Fetch a range anew, held or not; return how that went, without the records.

        The arguments are those of `search`. It is asked for once, however it ends. `timeout` is
        the longest silence in seconds: a long range takes as long as upstream does.
        """
        asked = SeriesRange(provider, ticker, params, *since(start, end, period))
        talk = self._conversations.refresh(asked, timeout=timeout)
        refreshed = self._transport.run(talk)
        self._warn(shortfalls(refreshed))
        return refreshed

    def forget(
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
        """Forget a range of a series, without bounds all of it; return how many records went.

        What is asked for again is fetched again. It is asked for once, however it ends.
        """
        asked = SeriesRange(provider, ticker, params, *since(start, end, period))
        return self._transport.run(self._conversations.forget(asked, timeout=timeout))

    # Entities

    def get(self, provider: str, id: str, *, timeout: float | None = None) -> Result:
        """Return one entity by its id, such as that of an earlier result."""
        result = self._transport.run(self._conversations.get(provider, id, timeout=timeout))
        self._warn(shortfalls(result))
        return result

    def get_many(
        self, provider: str, ids: Iterable[str], *, timeout: float | None = None
    ) -> list[Result]:
        """Return those of these entities that are stored, in the order asked."""
        return self._transport.run(self._conversations.get_many(provider, ids, timeout=timeout))

    def entities(
        self,
        provider: str,
        *,
        limit: int | None = None,
        offset: int = 0,
        timeout: float | None = None,
    ) -> list[Result]:
        """Return what is stored of a provider, by id; all of it, or `limit`."""
        return self._transport.run(
            self._conversations.entities(provider, limit, offset, timeout=timeout)
        )

    def find(
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
        return self._transport.run(talk)

    def report(self, provider: str, url: str, *, timeout: float | None = None) -> list[Result]:
        """Return a report of a provider that has such a thing."""
        return self._transport.run(self._conversations.report(provider, url, timeout=timeout))

    # Lines of the query language

    def query(
        self, line: str, *, strict: bool = False, timeout: float | None = None
    ) -> list[Result]:
        """Return what a line of the query language asks for: a range is one result.

        For the names of the providers there is `providers`.
        """
        talk = self._conversations.query(line, strict=strict, timeout=timeout)
        results = self._transport.run(talk)
        self._warn(shortfalls(*results))
        return results

    # The same, as users of older clients send them

    def send_line(
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
        return self._transport.run(talk)

    def provider(self, line: str, *, timeout: float | None = None) -> dict[str, Any]:
        """Ask a line that begins with a provider's name: `sample search ticker=AAPL`."""
        return self.send_line(provider_line(line), timeout=timeout)

    # Over HTTP

    def fetch(
        self, method: str, target: str, body: Any = None, *, timeout: float | None = None
    ) -> Any:
        """Send a request to the hub's HTTP door; return the JSON that it answers, decoded.

        `target` is a path with its query, such as `/v1/series`; `body` is sent as JSON. For what
        TCP has not and no method does: series, plugins (see `/docs` of the hub). Only `GET` is
        sent again.
        """
        return self._transport.run(
            self._conversations.fetch(method, target, body, timeout=timeout)
        ).json()

    # The client itself

    def close(self) -> None:
        """Close all connections; a client that is used again opens new ones."""
        self._transport.close()

    def __enter__(self) -> Self:
        """Return itself."""
        return self

    def __exit__(
        self,
        exc_type: type[BaseException] | None,
        exc: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        """Close all connections."""
        self.close()


def _in_a_loop_of_its_own(work: Coroutine[Any, Any, T]) -> T:
    """Run a coroutine in a thread; an interrupt here ends it there."""
    import uvloop

    loop = uvloop.new_event_loop()
    task = loop.create_task(work)
    done: Future[T] = Future()

    def run() -> None:
        try:
            with asyncio.Runner(loop_factory=lambda: loop) as runner:
                done.set_result(runner.run(_awaited(task)))
        except BaseException as error:
            done.set_exception(error)

    thread = threading.Thread(target=run, name="gapless-search-many", daemon=True)
    thread.start()
    try:
        return done.result()
    except BaseException:
        if not done.done():
            loop.call_soon_threadsafe(task.cancel)
        raise
    finally:
        thread.join()


async def _awaited(task: asyncio.Task[T]) -> T:
    return await task
