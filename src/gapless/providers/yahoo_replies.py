"""What an answer of Yahoo's means: a chart, that there is nothing, or which error.

Pure, and apart from the provider, which brings the answers in.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import UTC, datetime
from email.utils import parsedate_to_datetime

from gapless.errors import (
    BadUpstreamReply,
    OutOfWindow,
    ProviderError,
    RateLimited,
    UnknownTicker,
    UpstreamRejected,
    UpstreamUnavailable,
)
from gapless.providers import yahoo_chart, yahoo_rows
from gapless.providers.yahoo_chart import Chart, NoChart, NoJson, Refusal


@dataclass(frozen=True, slots=True)
class Reply:
    """A whole HTTP answer; `host` is who gave it, `headers` have their names in lower case."""

    host: str
    status: int
    body: bytes
    headers: Mapping[str, str] = field(default_factory=dict)

    @property
    def retry_after(self) -> str | None:
        """When it may be asked again, as it was said."""
        return self.headers.get("retry-after")

    @property
    def location(self) -> str | None:
        """Where else it is to be found."""
        return self.headers.get("location")

    @property
    def date(self) -> str | None:
        """When it was made, by the clock of whoever made it."""
        return self.headers.get("date")

    @property
    def age(self) -> str | None:
        """For how many seconds it has been kept since."""
        return self.headers.get("age")


def judge(
    reply: Reply, ticker: str, interval: str, asked: tuple[int, int], now_ms: int
) -> Chart | None:
    """Return the chart in a reply, or `None` for "there is nothing"; raise what else it means.

    The body counts for more than the status: upstream sends charts' errors with any status, and
    pages that are no chart with 200. What is JSON and no answer to what was `asked`, period1 and
    period2, says something of this series alone (stitching rules 6 and 8).
    """
    who = f"Yahoo ({reply.host})"
    if reply.status == 429 or _says_too_many(reply.body):
        raise RateLimited(
            f"{who} refuses for now: too many requests from this address",
            retry_after_s=retry_after(reply.retry_after, now_ms),
        )
    if 300 <= reply.status < 400:
        raise UpstreamUnavailable(
            f"{who} redirects to {_excerpt(reply.location or 'nowhere')}, which is not followed"
        )
    try:
        found = yahoo_chart.read(reply.body, ticker, interval)
        if isinstance(found, Chart):
            yahoo_rows.check_answers(found, interval, asked)
    except NoChart as error:
        if reply.status >= 500 or (reply.status >= 400 and isinstance(error, NoJson)):
            raise UpstreamUnavailable(
                f"{who} answered HTTP {reply.status}: {_excerpt(reply.body)}",
                retry_after_s=retry_after(reply.retry_after, now_ms),
            ) from error
        if isinstance(error, NoJson):
            raise UpstreamUnavailable(
                f"{who} answered something that is no chart: {error}: {_excerpt(reply.body)}"
            ) from error
        raise BadUpstreamReply(
            f"{who} answered for {ticker} what is no chart of it: {error}; nothing of it is kept"
        ) from error
    if isinstance(found, Refusal):
        if _is_empty(reply.status, found):
            return None
        raise _refused(who, reply, found, ticker, now_ms)
    if reply.status != 200:
        kind = UpstreamUnavailable if reply.status >= 500 else BadUpstreamReply
        raise kind(f"{who} answered a chart of {ticker}, but with HTTP {reply.status}")
    return found


def retry_after(header: str | None, now_ms: int) -> float | None:
    """Return the seconds that a `Retry-After` header names, by number or date; else `None`."""
    if header is None:
        return None
    text = header.strip()
    if re.fullmatch(r"\d{1,9}", text):
        return float(text)
    when = _date_of(text)
    if when is None:
        return None
    return max(0.0, (when - datetime.fromtimestamp(now_ms / 1000, UTC)).total_seconds())


def upstream_now(reply: Reply, chart: Chart | None, own_ms: int) -> int | None:
    """Return upstream's now in milliseconds UTC (stitching rule 1); `None`: nothing tells it.

    The latest of its `Date` (plus `Age`), the newest stamp and the market time. Without a `Date`
    stamps tell it only where they are past `own_ms`: those of an old range are no present.
    """
    newest = _newest_stamp(chart)
    said = _date_ms(reply)
    if said is None:
        return newest if newest is not None and newest > own_ms else None
    return said if newest is None else max(said, newest)


def _newest_stamp(chart: Chart | None) -> int | None:
    if chart is None:
        return None
    told = [stamp for stamp in (chart.newest, chart.meta.regular_market_time) if stamp is not None]
    return max(told) * 1000 if told else None


def _date_ms(reply: Reply) -> int | None:
    """Return when an answer was sent by its own word, plus how long it lay on the way."""
    when = _date_of(reply.date or "")
    if when is None:
        return None
    age = (reply.age or "").strip()
    seconds = int(age) if re.fullmatch(r"\d{1,9}", age) else 0
    return round(when.timestamp() * 1000) + seconds * 1000


def _date_of(text: str) -> datetime | None:
    """Return the instant that an HTTP date names; `None` where it is none."""
    try:
        when = parsedate_to_datetime(text.strip())
    except (ValueError, TypeError, OverflowError):
        return None
    return when.replace(tzinfo=UTC) if when.tzinfo is None else when


def _is_empty(status: int, refusal: Refusal) -> bool:
    """Whether upstream says that the range lies wholly before the first trade."""
    said = (refusal.description or "").lower()
    return status < 500 and said.startswith("data doesn't exist for startdate")


def _refused(who: str, reply: Reply, refusal: Refusal, ticker: str, now_ms: int) -> ProviderError:
    """Return the error for what upstream states in its own form."""
    said = _excerpt(refusal.description or refusal.code or "no reason given")
    code = (refusal.code or "").lower()
    if reply.status >= 500:
        return UpstreamUnavailable(
            f"{who} answered HTTP {reply.status}: {said}",
            retry_after_s=retry_after(reply.retry_after, now_ms),
        )
    if reply.status == 404 or code == "not found":
        return UnknownTicker(f"Yahoo knows no ticker {ticker}: {said}")
    if reply.status == 422 or code == "unprocessable entity":
        return OutOfWindow(f"Yahoo no longer serves that range of {ticker}: {said}")
    return UpstreamRejected(f"{who} rejected the request for {ticker}: {said}")


def _says_too_many(body: bytes) -> bool:
    return (
        len(body) < 1000
        and not body.lstrip().startswith(b"{")
        and (b"too many requests" in body.lower())
    )


def _excerpt(text: str | bytes, limit: int = 160) -> str:
    """Return the beginning of what upstream sent, on one line and without markup."""
    if isinstance(text, bytes):
        text = text[: 8 * limit].decode("utf-8", "replace")
    plain = " ".join(re.sub(r"<[^>]*>", " ", text).split())
    printable = "".join(char if char.isprintable() else "\ufffd" for char in plain)
    return printable[:limit] or "nothing"
