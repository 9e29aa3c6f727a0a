"""Yahoo's endpoint as the simulator speaks it, with as many shares as are asked for: a program.

`python upstream.py TICKERS`: they are named T0000, T0001 and so on, and trade every weekday. A
process of its own, so that what upstream computes is not counted as the hub's.
"""

from __future__ import annotations

import asyncio
import sys

import uvloop
from gapless.simulator.instruments import equity
from gapless.simulator.market import Market
from gapless.simulator.prices import RandomWalk
from gapless.simulator.server import YahooSimulator


def ticker_of(number: int) -> str:
    """The name of one of the shares."""
    return f"T{number:04}"


async def serve(tickers: int) -> None:
    """Answer until the process is ended."""
    market = Market([equity(ticker_of(i)) for i in range(tickers)], prices=RandomWalk(1))
    async with YahooSimulator(market) as simulator:
        print(f"upstream ready tcp={simulator.base_url.removeprefix('http://')}", flush=True)
        await asyncio.Event().wait()


if __name__ == "__main__":
    uvloop.run(serve(int(sys.argv[1])))
