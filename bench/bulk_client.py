"""A program that reads many tickers by `Client.search_many` into one frame, whenever it is told to.

`python bulk_client.py`: on stdin a line of JSON (`Task`), then a line for each reading; prints
`{}` once it is ready, then a line of JSON (`Reading`) for each.
"""

from __future__ import annotations

import sys
import time

import gapless
import msgspec
import polars as pl

from daily import bars, traded_days


class Task(msgspec.Struct, frozen=True):
    """Whom to ask, for which tickers, from which day to which."""

    address: str
    tickers: list[str]
    start: str
    end: str


class Reading(msgspec.Struct, frozen=True):
    """One reading: how long it took, how many rows came; the rivals' programs print the same.

    `requests`: how many went out that should not have: to upstream, or to any network.
    """

    seconds: float
    rows: int
    requests: int
    wrong: str = ""


def main() -> None:
    """Read as often as there are lines."""
    task = msgspec.json.decode(sys.stdin.readline(), type=Task)
    days = traded_days()
    wanted = pl.concat(
        bars(ticker, days).insert_column(0, pl.repeat(ticker, days.len(), eager=True))
        for ticker in task.tickers
    )
    wanted.columns = ["ticker", *bars("", days.head(0)).columns]
    client = gapless.Client(task.address)
    print("{}", flush=True)
    for _ in sys.stdin:
        began = time.perf_counter()
        frame = client.search_many("daily", task.tickers, task.start, task.end, progress=False)
        seconds = time.perf_counter() - began
        undated = frame.with_columns(pl.col("timestamp").dt.epoch("s"))
        wrong = "" if undated.equals(wanted) else "the frame is not the one that was made"
        asked = _asked_upstream(client, task)
        reading = Reading(seconds, frame.height, asked, wrong)
        print(msgspec.json.encode(reading).decode(), flush=True)
        del frame, undated


def _asked_upstream(client: gapless.Client, task: Task) -> int:
    """How many requests upstream an answer takes; of one ticker, which stands for all."""
    stitch = client.search("daily", task.tickers[-1], task.start, task.end).stitch
    return 0 if stitch is None else stitch.upstream_requests


if __name__ == "__main__":
    main()
