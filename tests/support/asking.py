"""Both Python clients behind one face: every call awaitable, whether the client waits or not."""

from __future__ import annotations

import asyncio
import inspect
import warnings
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator, Mapping
from contextlib import asynccontextmanager, contextmanager
from types import TracebackType
from typing import Any, Self

import gapless

KINDS: Mapping[str, type[gapless.Client] | type[gapless.AsyncClient]] = {
    "sync": gapless.Client,
    "async": gapless.AsyncClient,
}
"""The clients by what tests call them."""


class Asker:
    """A client of either kind; its methods by their names, each to be awaited.

    One that blocks does so in a thread, for the hub is in the loop. The frame that calls the
    client is in this file: that is where warnings must point.
    """

    def __init__(self, client: gapless.Client | gapless.AsyncClient) -> None:
        self.client = client

    def __getattr__(self, name: str) -> Callable[..., Awaitable[Any]]:
        method = getattr(self.client, name)
        blocks = isinstance(self.client, gapless.Client)

        async def call(*args: Any, **kwargs: Any) -> Any:
            def blocking() -> Any:
                return method(*args, **kwargs)

            if blocks:
                return await asyncio.to_thread(blocking)
            if inspect.iscoroutinefunction(method):
                return await method(*args, **kwargs)
            return method(*args, **kwargs)

        return call

    async def close(self) -> None:
        """Close the client."""
        if isinstance(self.client, gapless.Client):
            await asyncio.to_thread(self.client.close)
        else:
            await self.client.aclose()

    async def enter(self) -> None:
        """Begin as `with` and `async with` do."""
        if isinstance(self.client, gapless.Client):
            await asyncio.to_thread(self.client.__enter__)
        else:
            await self.client.__aenter__()

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(
        self,
        exc_type: type[BaseException] | None,
        exc: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        await self.close()


@contextmanager
def cautioned() -> Iterator[list[str]]:
    """Yield what clients warn of in the block; each warning points at the line that calls one."""
    texts: list[str] = []
    with warnings.catch_warnings(record=True) as told:
        warnings.simplefilter("always")
        yield texts
    assert {one.filename for one in told} <= {__file__}
    texts += [str(one.message) for one in told]


@asynccontextmanager
async def asking(kind: str, address: str | int | None, **options: Any) -> AsyncIterator[Asker]:
    """Yield a client of this kind; `address` may be a port of this machine."""
    if isinstance(address, int):
        address = f"127.0.0.1:{address}"
    async with Asker(KINDS[kind](address, **options)) as asker:
        yield asker
