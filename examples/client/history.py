"""One history as a data frame, and how it was put together.

gapless serve
python examples/client/history.py AAPL
"""

from __future__ import annotations

import sys

import gapless


def main(ticker: str) -> None:
    """Print the closing prices of a year, and what of them had to be fetched."""
    with gapless.connect() as hub:
        year = hub.search("sample", ticker, "2010-01-01", "2011-01-01")
        frame = year.to_polars()
        print(frame.select("timestamp", "close", "volume").head())
        stitch = year.stitch
        assert stitch is not None
        print(f"{len(year)} records; upstream requests: {stitch.upstream_requests}")
        for span in stitch.fetched:
            print("fetched", span)


if __name__ == "__main__":
    main(sys.argv[1] if len(sys.argv) > 1 else "AAPL")
