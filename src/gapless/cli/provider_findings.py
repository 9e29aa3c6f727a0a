"""What `gapless doctor` finds between a hub and its providers: clocks, and series that fail.

Apart from what it finds of the hub itself, for it asks by the client, which is slow to import.
"""

from __future__ import annotations

from collections.abc import Iterator

from gapless.cli.findings import Finding
from gapless.client.client import Client
from gapless.domain.coverage import CLOCKS_APART_MS
from gapless.errors import GaplessError


def provider_findings(url: str, token: str | None, patience_s: float) -> Iterator[Finding]:
    """Yield what is amiss between the hub and where its data come from, if its HTTP tells that."""
    try:
        with Client(
            url,
            token=token,
            timeout=patience_s,
            connect_timeout=patience_s,
            retries=0,
        ) as client:
            told = client.providers(details=True)
    except GaplessError:
        # It is off, or elsewhere, or wants another token, which is told above.
        return
    for one in told:
        skew = one.clock_skew_s
        if skew is not None and abs(skew) * 1000 > CLOCKS_APART_MS:
            where = "ahead of" if skew > 0 else "behind"
            yield Finding(
                "problem",
                "clocks",
                f"the clock of {one.name}'s upstream is {abs(skew):,.0f} s {where} the hub's",
                "set the clock of the hub's machine, by NTP if that can be",
            )
        if one.failing_series:
            such = f", such as {one.failures[0].id}" if one.failures else ""
            said = f": {one.failures[0].error.message}" if one.failures else ""
            yield Finding(
                "note",
                "series",
                f"{one.failing_series:,} series of {one.name} fail by themselves{such}{said}",
                "others are answered; GET /v1/providers tells until when these are left alone",
            )
