"""A hub from coroutines: several ranges at once on one connection.

gapless serve
python examples/client/loop.py
"""

from __future__ import annotations

import asyncio

import gapless


async def main() -> None:
    """Print how many records each year has."""
    async with gapless.AsyncClient() as hub:
        years = range(2003, 2013)
        asked = [hub.search("sample", "IBM", f"{y}-01-01", f"{y + 1}-01-01") for y in years]
        for year, result in zip(years, await asyncio.gather(*asked), strict=True):
            print(year, len(result), result.state)


if __name__ == "__main__":
    asyncio.run(main())
