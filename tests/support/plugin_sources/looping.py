"""An asynchronous plugin: every method is awaited, many calls run beside one another."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from datetime import datetime
from typing import Any


class Provider:
    """Its calls wait for one another, which only works if they run at once."""

    def __init__(self) -> None:
        self.here = 0
        self.all_here = asyncio.Event()

    async def name(self) -> str:
        return "looping"

    async def describe(self) -> dict[str, Any]:
        await asyncio.sleep(0)
        return {"title": "Asynchronous"}

    async def fetch(
        self, ticker: str, start: datetime, end: datetime
    ) -> AsyncIterator[dict[str, Any]]:
        if ticker.startswith("MEET"):
            self.here += 1
            if self.here == 3:
                self.all_here.set()
            await self.all_here.wait()
        if ticker == "LONG":
            await asyncio.sleep(3_600)
        if ticker == "BLOCK":
            while True:
                pass
        yield {"timestamp": start, "ticker": ticker}
