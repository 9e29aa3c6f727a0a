"""Yahoo Finance as a provider: what it declares, one request to the chart endpoint, its errors.

What an answer means is in yahoo_replies.py, its form in yahoo_chart.py, where its rows belong in
yahoo_rows.py, what it tells of its instrument in yahoo_facts.py, and what may still change in
yahoo_sessions.py; here is all that touches the network.
"""

from __future__ import annotations

import re
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import partial
from typing import Any
from urllib.parse import quote, urlencode

from curl_cffi import CurlOpt
from curl_cffi.requests import AsyncSession, Response
from curl_cffi.requests.exceptions import RequestException

from gapless.computing import computed
from gapless.config.checks import parse_check
from gapless.config.settings import YahooSettings
from gapless.domain.actions import COLUMNS as ACTION_COLUMNS
from gapless.domain.adjusting import Adjustment
from gapless.domain.comparing import Basis
from gapless.domain.intervals import Interval
from gapless.domain.series import SeriesKey
from gapless.errors import (
    InvalidQuery,
    ProviderError,
    UpstreamUnavailable,
    UpstreamUnreachable,
)
from gapless.providers import yahoo_actions, yahoo_facts, yahoo_replies, yahoo_rows, yahoo_sessions
from gapless.providers.base import (
    DAY_MS,
    Clocks,
    Derived,
    DueMoments,
    Fetched,
    Pace,
    Param,
    ProviderInfo,
    Provisional,
    Record,
    Traits,
    canonical_params,
)
from gapless.providers.yahoo_chart import Chart
from gapless.providers.yahoo_replies import Reply
from gapless.providers.yahoo_sessions import BAR_MS, HOUR_MS, Awaited
from gapless.zones import zone_named

_DATA_START_MS = -2_208_988_800_000
# Of a hundred years it gives no days at all.
_FARTHEST_MS = 99 * 365 * DAY_MS
_DEFAULT_INTERVAL = "1d"
_ACTIONS = "actions"
_ACTIONS_PARAMS = (("data", _ACTIONS),)
_ADJUST = "adjust"
_BASIS = Basis()
_TICKER = re.compile(r"[A-Z0-9^][A-Z0-9.\-=^&_+$!]{0,31}")
_LOOK_BACK_DAYS: Mapping[str, int] = {
    "1m": 30,
    # Upstream speaks of 60 days, but serves about 43.
    "2m": 43,
    "5m": 60,
    "15m": 60,
    "30m": 60,
    "90m": 60,
    "1h": 730,
    "4h": 730,
}
# The look-back ends when upstream reads a request, and by its clock.
_MARGIN_MS = HOUR_MS
_MAX_SPAN_DAYS: Mapping[str, int] = {"1m": 7}
_STICK_S = 60.0
# About what a bar takes of an answer.
_ROW_BYTES = 100

# libcurl's codes: https://curl.se/libcurl/c/libcurl-errors.html
_UNREACHED = frozenset({5, 6, 7})
_NO_TLS = frozenset({35, 60})
_TIMED_OUT = 28
_FAILURES: Mapping[int, str] = {
    5: "the name of the proxy cannot be resolved",
    6: "its name cannot be resolved",
    7: "it cannot be connected to",
    16: "the HTTP/2 connection broke",
    18: "its answer ended too early",
    35: "no TLS connection came about",
    52: "it closed the connection without an answer",
    55: "the connection broke",
    56: "the connection was reset",
    60: "its TLS certificate is not valid",
    61: "its answer cannot be unpacked",
    92: "the HTTP/2 stream broke",
}
_TOO_LARGE = 63
_CONNECTING = re.compile(r"\b(connection|resolving|connect(ing)?) timed? ?out", re.IGNORECASE)


class Hosts:
    """Which of two hosts to ask: hosts disagree at times, so that one is stayed with a while.

    `monotonic` returns seconds that never go back.
    """

    def __init__(self, base: str, fallback: str | None, monotonic: Callable[[], float]) -> None:
        self._base = base
        self._fallback = None if fallback == base else fallback
        self._monotonic = monotonic
        self._until = float("-inf")

    def current(self) -> str:
        """Return the host to ask now: the fallback for a minute after `base` failed."""
        if self._fallback is not None and self._monotonic() < self._until:
            return self._fallback
        return self._base

    def failed(self, host: str) -> str | None:
        """Note that `host` could not be reached; return the one to ask instead, if any."""
        if host != self._base or self._fallback is None:
            self._until = float("-inf")
            return None
        self._until = self._monotonic() + _STICK_S
        return self._fallback


class _Unreached(Exception):
    """The host was not reached at all, so that another one may be asked instead."""


@dataclass(slots=True)
class _Call:
    """One `fetch`: which host it keeps to, how many requests it has taken, and upstream's now."""

    host: str
    may_move: bool
    requests: int = 0
    upstream_now: int | None = None


class YahooProvider:
    """Yahoo's chart endpoint as a `Provider`; see `Provider` for what the methods promise."""

    def __init__(
        self, settings: YahooSettings, monotonic: Callable[[], float] = time.monotonic
    ) -> None:
        self.settings = settings
        self._hosts = Hosts(
            settings.base_url.rstrip("/"),
            settings.fallback_url.rstrip("/") if settings.fallback_url else None,
            monotonic,
        )
        self._session: AsyncSession[Response] | None = None
        self._info = ProviderInfo(
            name="yahoo_finance",
            title="Yahoo Finance",
            params=(
                Param(
                    name="interval",
                    default=_DEFAULT_INTERVAL,
                    choices=tuple(BAR_MS),
                    aliases={"60m": "1h"},
                    help="How long a bar is; minutes and hours reach back a limited time only.",
                ),
                Param(
                    name="adjust",
                    default="split",
                    choices=("split", *Adjustment),
                    help="Prices less splits, as upstream has them; less dividends as well (all); "
                    "or as they were traded on the day (none).",
                ),
                Param(
                    name="data",
                    default="prices",
                    choices=("prices", _ACTIONS),
                    help="Prices, or the dividends, splits and capital gains by their ex-dates.",
                ),
            ),
            columns=("open", "high", "low", "close", "adjclose", "volume"),
            pace=Pace(settings.rate, settings.burst),
            data_start=_DATA_START_MS,
            revises=True,
            zoned=True,
            farthest=_FARTHEST_MS,
            basis=_BASIS,
            check=None if settings.check is None else parse_check(settings.check),
        )

    @property
    def info(self) -> ProviderInfo:
        """What it declares."""
        return self._info

    def key(self, ticker: str, params: Mapping[str, str]) -> SeriesKey:
        """Return the key with the ticker in capitals; raise `InvalidQuery` for what is none."""
        canonical = ticker.upper()
        if _TICKER.fullmatch(canonical) is None:
            raise InvalidQuery(
                f"{ticker[:40]!r} is no Yahoo ticker: "
                "up to 32 letters, digits and . - = ^ & _ + $ !"
            )
        if any(name.lower() == "interval" and value == "5d" for name, value in params.items()):
            raise InvalidQuery(
                "interval=5d is not supported: no rule says where Yahoo's five-day bars begin; "
                "ask for 1d or 1wk"
            )
        given = canonical_params(self._info, params)
        if given.get("data") == _ACTIONS and "interval" in given:
            raise InvalidQuery(
                f"data={_ACTIONS} takes no interval but {_DEFAULT_INTERVAL}: actions are known by "
                "their ex-dates; leave interval out"
            )
        _check_adjust(given)
        return SeriesKey.of(self._info.name, canonical, given)

    def traits(self, key: SeriesKey) -> Traits:
        """Return the limits; `look_back` stays an hour inside what upstream serves."""
        if key.params == _ACTIONS_PARAMS:
            return _ACTIONS_TRAITS
        traits = _TRAITS[key.param("interval", _DEFAULT_INTERVAL)]
        adjust = key.param(_ADJUST, "")
        if not adjust:
            return traits
        source = tuple(one for one in key.params if one[0] != _ADJUST)
        return replace(traits, derived=Derived(source, Adjustment(adjust), _BASIS))

    async def fetch(
        self, key: SeriesKey, interval: Interval, now_ms: int, meta: Mapping[str, Any]
    ) -> Fetched:
        """Ask for `interval` once; raise the `ProviderError` that says why it is not served.

        It takes a second request (and says so in `requests`) in three cases: the first host
        cannot be reached, upstream asks for a crumb, or the first answer of a series reveals a
        time zone in which its weeks or months were asked from the wrong day.
        """
        call = _Call(self._hosts.current(), may_move=True)
        try:
            return await self._fetch(call, key, interval, now_ms, meta)
        except ProviderError as error:
            error.requests = max(1, call.requests)
            raise

    async def reply(self, target: str) -> Reply:
        """Return the host's answer to one request as it came, for whoever looks at upstream itself.

        There is no second try. Raises `UpstreamUnavailable` where there is no whole answer.
        """
        try:
            return await self._get(_Call(self._hosts.current(), may_move=False), target)
        except _Unreached as unreached:
            raise UpstreamUnavailable(str(unreached)) from unreached

    async def _fetch(
        self,
        call: _Call,
        key: SeriesKey,
        interval: Interval,
        now_ms: int,
        meta: Mapping[str, Any],
    ) -> Fetched:
        name = key.param("interval", _DEFAULT_INTERVAL)
        asked = yahoo_sessions.request_range(name, interval, zone_named(meta.get("tz")))
        chart = await self._chart(call, key.ticker, name, asked, now_ms)
        if chart is not None:
            zone = zone_named(chart.meta.exchange_timezone_name)
            if zone is not None and not yahoo_sessions.aligned(name, asked[0], zone):
                asked = yahoo_sessions.request_range(name, interval, zone)
                chart = await self._chart(call, key.ticker, name, asked, now_ms)
        clocks = Clocks.of(now_ms, call.upstream_now)
        found = self._empty(name, interval, meta, clocks)
        if chart is not None:
            read = partial(self._read, chart, name, interval, meta, clocks)
            found = await computed(len(chart.rows), read)
        return replace(
            found,
            requests=call.requests,
            upstream_now=call.upstream_now,
            known_until=clocks.earlier,
        )

    def _empty(
        self, name: str, interval: Interval, meta: Mapping[str, Any], clocks: Clocks
    ) -> Fetched:
        """Return what is known where upstream says that there is nothing."""
        provisional = self._provisional(name, interval, (), meta, clocks, None)
        # That nothing was traded tells that nothing was paid or split, either.
        return Fetched(provisional=provisional, meta=dict(meta) or None, actions=())

    def _read(
        self,
        chart: Chart,
        name: str,
        interval: Interval,
        meta: Mapping[str, Any],
        clocks: Clocks,
    ) -> Fetched:
        """Return what a chart says about `interval`."""
        known = yahoo_facts.remember(chart.meta, meta)
        records = yahoo_rows.records(chart, name, interval, known)
        awaited = yahoo_sessions.awaited_session(
            name, interval, records, known, clocks.earlier, chart.meta.last_trade_ms
        )
        zone = zone_named(known.get("tz"))
        return Fetched(
            records=records,
            provisional=self._provisional(name, interval, records, known, clocks, awaited),
            meta=known,
            bad_values=yahoo_rows.bad_values(chart, name, records),
            facts=yahoo_facts.facts(chart.meta, clocks.due_from),
            actions=yahoo_actions.actions(chart.events, zone, clocks.due_from),
        )

    def _provisional(
        self,
        name: str,
        interval: Interval,
        records: Sequence[Record],
        known: Mapping[str, Any],
        clocks: Clocks,
        awaited: Awaited | None,
    ) -> tuple[Provisional, ...]:
        intraday = name in _LOOK_BACK_DAYS
        refresh_s = self.settings.refresh_intraday_s if intraday else self.settings.refresh_daily_s
        return yahoo_sessions.provisional(
            name,
            interval,
            records,
            known,
            clocks.earlier,
            round(refresh_s * 1000),
            round(self.settings.refresh_null_s * 1000),
            due_from=clocks.due_from,
            awaited=awaited,
        )

    def due_moments(self, meta: Mapping[str, Any], now_ms: int) -> DueMoments:
        """Return when what is held was due last and is next, by the exchange's sessions."""
        return yahoo_sessions.due_moments(meta, now_ms)

    async def aclose(self) -> None:
        """Let go of connections."""
        session, self._session = self._session, None
        if session is not None:
            await session.close()

    async def _chart(
        self, call: _Call, ticker: str, name: str, asked: tuple[int, int], now_ms: int
    ) -> Chart | None:
        """Return the chart, `None` where upstream knows that there is none; raise otherwise."""
        target = target_of(ticker, name, asked)
        reply = await self._send(call, target)
        if reply.status == 401:
            reply = await self._send(call, target)
        judge = partial(yahoo_replies.judge, reply, ticker, name, asked, now_ms)
        chart = await computed(len(reply.body) // _ROW_BYTES, judge)
        call.upstream_now = yahoo_replies.upstream_now(reply, chart, now_ms)
        return chart

    async def _send(self, call: _Call, target: str) -> Reply:
        """Send one request, and once more to the other host if this one cannot be reached."""
        movable, call.may_move = call.may_move, False
        try:
            return await self._get(call, target)
        except _Unreached as unreached:
            # A host that has answered is not left any more: hosts disagree at times.
            other = self._hosts.failed(call.host)
            if other is None or not movable:
                raise UpstreamUnreachable(str(unreached)) from unreached
            call.host = other
        try:
            return await self._get(call, target)
        except _Unreached as unreached:
            self._hosts.failed(call.host)
            raise UpstreamUnreachable(str(unreached)) from unreached

    async def _get(self, call: _Call, target: str) -> Reply:
        call.requests += 1
        if self._session is None:
            self._session = self._open()
        url = call.host + target
        plain = url.startswith("http://")
        try:
            reply = await self._session.get(
                url,
                quote=False,
                allow_redirects=False,
                discard_cookies=True,
                # Over plain HTTP libcurl would first ask to upgrade to HTTP/2.
                http_version="v1" if plain else None,
            )
        except RequestException as error:
            raise self._translated(error, call.host) from error
        return Reply(
            host=call.host,
            status=reply.status_code,
            body=reply.content,
            headers={
                name.lower(): value for name, value in reply.headers.items() if value is not None
            },
        )

    def _open(self) -> AsyncSession[Response]:
        settings = self.settings
        # A time-out given to the session adds connecting and reading up; libcurl's own are plain.
        options: dict[CurlOpt, Any] = {
            CurlOpt.CONNECTTIMEOUT_MS: round(settings.connect_timeout_s * 1000),
            CurlOpt.TIMEOUT_MS: round(settings.timeout_s * 1000),
            # The only limit that holds for what is unpacked, too.
            CurlOpt.MAXFILESIZE_LARGE: settings.max_body_bytes,
        }
        if settings.impersonate:
            return AsyncSession(impersonate="chrome", curl_options=options)
        return AsyncSession(headers={"User-Agent": "gapless"}, curl_options=options)

    def _translated(self, error: RequestException, host: str) -> Exception:
        """Return what a failure to get an answer is in our terms."""
        code = int(error.code)
        if code == _TIMED_OUT:
            if _CONNECTING.search(str(error)):
                return _Unreached(
                    f"Yahoo ({host}) was not reached within {self.settings.connect_timeout_s:g} s"
                )
            return UpstreamUnavailable(
                f"Yahoo ({host}) did not answer in full within {self.settings.timeout_s:g} s"
            )
        if code == _TOO_LARGE:
            return UpstreamUnavailable(
                f"Yahoo ({host}) answered more than {self.settings.max_body_bytes >> 20} MiB; "
                "the answer was dropped"
            )
        what = _FAILURES.get(code, f"the transfer failed (curl error {code})")
        if code in _UNREACHED:
            return _Unreached(f"Yahoo ({host}) was not reached: {what}")
        if code in _NO_TLS:
            return UpstreamUnreachable(f"Yahoo ({host}) was not reached: {what}")
        return UpstreamUnavailable(f"Yahoo ({host}) did not answer: {what}")


def _traits(interval: str) -> Traits:
    """Return what holds for bars of an interval."""
    back, span = _LOOK_BACK_DAYS.get(interval), _MAX_SPAN_DAYS.get(interval)
    return Traits(
        bar=BAR_MS[interval],
        look_back=None if back is None else back * DAY_MS - _MARGIN_MS,
        margin=0 if back is None else _MARGIN_MS,
        max_span=None if span is None else span * DAY_MS,
        actions=_ACTIONS_PARAMS,
        all_actions=interval == _DEFAULT_INTERVAL,
    )


# Made once: they are looked at for each answer.
_TRAITS: Mapping[str, Traits] = {interval: _traits(interval) for interval in BAR_MS}
# Actions come with daily bars, so that they are never asked for by themselves.
_ACTIONS_TRAITS = Traits(bar=DAY_MS, carrier=(), columns=ACTION_COLUMNS)


def _check_adjust(given: Mapping[str, str]) -> None:
    """Raise `InvalidQuery` for bars that cannot be had on the basis that is asked for."""
    adjust, interval = given.get(_ADJUST), given.get("interval", _DEFAULT_INTERVAL)
    if adjust is None:
        return
    if given.get("data") == _ACTIONS:
        raise InvalidQuery(f"{_ADJUST}= is about prices, and data={_ACTIONS} has none")
    short = interval in _LOOK_BACK_DAYS
    if adjust == Adjustment.ALL and not short:
        return
    if adjust == Adjustment.NONE and interval == _DEFAULT_INTERVAL:
        return
    if adjust == Adjustment.ALL:
        why = "upstream has no adjusted close of bars that are shorter than a day"
    elif short:
        why = "whether upstream divides such bars by a split depends on when they are asked for"
    else:
        why = "such a bar may have days before a split and after it"
    raise InvalidQuery(
        f"{_ADJUST}={adjust} cannot be had of {interval}: {why}; leave it out, or ask for 1d"
    )


def target_of(ticker: str, interval: str, asked: tuple[int, int]) -> str:
    """Return path and query of a request for a chart; `asked` is `period1` and `period2`."""
    query = urlencode(
        {
            "period1": asked[0],
            "period2": asked[1],
            "interval": interval,
            "events": "div,splits,capitalGains",
            "includePrePost": "false",
        },
        safe=",",
    )
    return f"/v8/finance/chart/{quote(ticker, safe='=')}?{query}"
