"""The settings: every limit by its name, with its default and what it is for.

Apart from where values come from, so that this file reads as the list that it is.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import MISSING, dataclass, field, fields, is_dataclass
from pathlib import Path
from typing import Any, Literal, NamedTuple, get_type_hints

from platformdirs import user_data_path

from gapless.config.addresses import (
    check_fallback_url,
    check_http_address,
    check_http_url,
    check_not_empty,
    parse_address,
)
from gapless.config.checks import parse_check

KIB, MIB = 1 << 10, 1 << 20
PREFIX = "GAPLESS_"
YAHOO_URL = "https://query1.finance.yahoo.com"
YAHOO_FALLBACK_URL = "https://query2.finance.yahoo.com"


def _about(
    doc: str,
    unit: str = "",
    least: float | None = None,
    check: Callable[[str], object] | None = None,
) -> dict[str, Any]:
    """Return a field's metadata: its sentence, its unit, its least value, a check of its text."""
    return {"doc": doc, "unit": unit, "least": least, "check": check}


def _setting(
    default: Any,
    doc: str,
    *,
    unit: str = "",
    least: float | None = None,
    check: Callable[[str], object] | None = None,
) -> Any:
    return field(default=default, metadata=_about(doc, unit, least, check))


def default_db() -> str:
    """Return the database's path in the user's data directory; nothing is created."""
    return str(user_data_path("gapless", appauthor=False) / "gapless.db")


@dataclass(frozen=True, slots=True, kw_only=True)
class LimitSettings:
    """What one client, one request and one shutdown may take."""

    max_line_bytes: int = _setting(
        MIB,
        "longest request line; a longer one ends its connection",
        unit="bytes",
        least=KIB,
    )
    max_unsent_bytes: int = _setting(
        8 * MIB,
        "unsent bytes of a connection beyond which further answers are held back",
        unit="bytes",
        least=KIB,
    )
    slow_reader_s: float = _setting(
        60.0,
        "a client for which something waits, and whose system has acknowledged nothing for so "
        "long, is closed",
        unit="seconds",
        least=0.001,
    )
    slow_reader_yields_s: float = _setting(
        10.0,
        "after so long it is closed as soon as a newcomer would be turned away for want of its "
        "connection",
        unit="seconds",
        least=0.001,
    )
    max_connections: int = _setting(
        10_000, "connections open at once; fewer where the limit on open files is lower", least=1
    )
    max_in_flight: int = _setting(256, "requests of one connection worked on at once", least=1)
    max_records: int = _setting(1_000_000, "records in one answer", least=1)
    max_entities: int = _setting(1000, "entities in one listing, whatever limit= says", least=1)
    default_entities: int = _setting(100, "entities in one listing without limit=", least=1)
    max_listing_bytes: int = _setting(
        4 * MIB, "a listing stops here and says where to go on", unit="bytes", least=KIB
    )
    shutdown_s: float = _setting(
        10.0, "how long a stop waits for requests under way", unit="seconds", least=0
    )


@dataclass(frozen=True, slots=True, kw_only=True)
class CacheSettings:
    """What is kept at hand, and how long it counts as known."""

    hot_bytes: int = _setting(
        256 * MIB,
        "memory for blocks that are answered without the database; what is kept ready beside "
        "them takes up to as much again",
        unit="bytes",
        least=0,
    )
    block_records: int = _setting(2000, "records in one stored block", least=1)
    unknown_ticker_s: float = _setting(
        900.0,
        "how long an unknown ticker is not asked for again",
        unit="seconds",
        least=0,
    )
    check: str = _setting(
        "session",
        "when what a provider may revise is fetched again: once a `session` of its exchange, after "
        "a duration such as 6h, or `never`",
        check=parse_check,
    )
    check_bars: int = _setting(
        40_000, "bars that one request brings at the most, with what is taken along", least=1
    )
    check_wait_s: float = _setting(
        5.0,
        "how long an answer that is held waits for what is fetched again",
        unit="seconds",
        least=0,
    )
    join_distance_s: float = _setting(
        0.0, "gaps this near to each other are fetched as one", unit="seconds", least=0
    )
    max_gaps: int = _setting(
        64,
        "gaps of one answer that are fetched apart; of more, the nearest to each other are joined",
        least=1,
    )


@dataclass(frozen=True, slots=True, kw_only=True)
class FetchSettings:
    """How patient the hub is with upstream."""

    deadline_s: float = _setting(
        20.0,
        "one request upstream: the wait for its turn, all tries and the pauses between them",
        unit="seconds",
        least=0.001,
    )
    breaker_failures: int = _setting(
        5, "failures in a row after which a provider is left alone", least=1
    )
    breaker_cooldown_s: float = _setting(
        60.0, "how long it is left alone the first time", unit="seconds", least=0
    )
    breaker_cooldown_max_s: float = _setting(
        900.0, "how long it is left alone at most", unit="seconds", least=0
    )


@dataclass(frozen=True, slots=True, kw_only=True)
class ApiSettings:
    """The HTTP server."""

    hosts: str = _setting(
        "",
        "names, separated by commas, by which requests may address the server besides "
        "localhost, loopback addresses and the address it listens on",
    )
    receive_s: float = _setting(
        10.0, "how long a request may take to arrive", unit="seconds", least=0.001
    )
    max_head_bytes: int = _setting(
        64 * KIB, "request line and headers together", unit="bytes", least=KIB
    )
    max_body_bytes: int = _setting(4 * MIB, "largest request body", unit="bytes", least=KIB)
    max_unsent_bytes: int = _setting(
        512 * MIB,
        "bytes of large answers that wait for their clients to read them; further ones wait, and "
        "nobody has more of it than is left to others",
        unit="bytes",
        least=MIB,
    )
    max_connections: int = _setting(
        2_000, "connections open at once; fewer where the limit on open files is lower", least=1
    )
    max_streams: int = _setting(
        4,
        "pieces of answers of over 50,000 records that are read and made at once, in turns by "
        "user, or by connection where there are no users",
        least=1,
    )


@dataclass(frozen=True, slots=True, kw_only=True)
class AccessSettings:
    """Users and tokens; what is here counts with `auth` on."""

    access_token_s: float = _setting(
        4 * 3_600.0, "how long an access token is good", unit="seconds", least=1
    )
    refresh_token_s: float = _setting(
        28 * 86_400.0, "how long a refresh token is good", unit="seconds", least=1
    )
    session_s: float = _setting(
        12 * 3_600.0, "how long a browser stays signed in", unit="seconds", least=1
    )
    max_sign_ins: int = _setting(
        100, "how many times a user is signed in at once; the oldest gives way", least=1
    )
    rate: float = _setting(10_000.0, "requests a second of one user; 0: any number", least=0)
    burst: int = _setting(20_000, "requests of one user at once after a rest", least=1)
    proxies: str = _setting(
        "",
        "addresses, separated by commas, of proxies whose X-Forwarded-For is believed: failed "
        "sign-ins are counted by the address that it ends with",
    )
    token_s: float = _setting(
        5.0,
        "how long a connection may take to show a valid token",
        unit="seconds",
        least=0.001,
    )
    max_bytes_before_token: int = _setting(
        64 * KIB, "what a connection may send and be sent before that", unit="bytes", least=KIB
    )


@dataclass(frozen=True, slots=True, kw_only=True)
class PluginSettings:
    """Providers that are loaded while the hub runs, each in a process of its own."""

    load_s: float = _setting(
        10.0, "how long a plugin may take to be imported", unit="seconds", least=0.001
    )
    deadline_s: float = _setting(
        20.0, "how long one of its calls may take", unit="seconds", least=0.001
    )
    kill_after_s: float = _setting(
        2.0, "its process is killed so long after a missed deadline", unit="seconds", least=0
    )
    max_reply_bytes: int = _setting(256 * MIB, "largest reply of a call", unit="bytes", least=KIB)
    memory_bytes: int = _setting(
        4096 * MIB,
        "address space of its process; polars needs 1024MiB",
        unit="bytes",
        least=64 * MIB,
    )
    max_crashes: int = _setting(
        5, "crashes within a minute after which a plugin is disabled", least=1
    )
    entry_points: bool = _setting(
        True, "whether providers of installed packages (gapless.providers) are loaded"
    )


@dataclass(frozen=True, slots=True, kw_only=True)
class YahooSettings:
    """The Yahoo Finance provider."""

    enabled: bool = _setting(True, "whether the provider is there")
    base_url: str = _setting(YAHOO_URL, "where its requests go", check=check_http_url)
    fallback_url: str | None = _setting(
        "auto",
        "where they go when that fails; none for nowhere; auto is Yahoo's second host, "
        "and none where base_url was changed",
        check=check_fallback_url,
    )
    impersonate: bool = _setting(True, "speak TLS and HTTP as a browser does; Yahoo wants it")
    rate: float = _setting(2.0, "requests a second in the long run", least=0.001)
    burst: int = _setting(20, "requests that may go at once after a rest", least=1)
    connect_timeout_s: float = _setting(
        5.0, "name resolution and connecting", unit="seconds", least=0.001
    )
    timeout_s: float = _setting(10.0, "one request as a whole", unit="seconds", least=0.001)
    max_body_bytes: int = _setting(
        64 * MIB, "largest response, decompressed", unit="bytes", least=KIB
    )
    refresh_daily_s: float = _setting(
        900.0,
        "how long a still-forming bar of a day or more is good",
        unit="seconds",
        least=0,
    )
    refresh_intraday_s: float = _setting(
        60.0,
        "how long a still-forming bar within the day is good",
        unit="seconds",
        least=0,
    )
    refresh_null_s: float = _setting(
        3600.0,
        "when a bar that came without values is asked for again",
        unit="seconds",
        least=0,
    )
    check: str | None = _setting(
        None, "as cache.check, for this provider alone; none: cache.check", check=parse_check
    )

    def __post_init__(self) -> None:
        """Resolve `auto`."""
        # Whoever points base_url at a stand-in must not have requests leak to the real host.
        if self.fallback_url == "auto":
            changed = self.base_url != YAHOO_URL
            object.__setattr__(self, "fallback_url", None if changed else YAHOO_FALLBACK_URL)


@dataclass(frozen=True, slots=True, kw_only=True)
class SampleSettings:
    """The bundled sample provider."""

    enabled: bool = _setting(True, "whether the provider is there")
    rate: float = _setting(50.0, "requests a second in the long run", least=0.001)
    burst: int = _setting(200, "requests that may go at once after a rest", least=1)


@dataclass(frozen=True, slots=True, kw_only=True)
class LogSettings:
    """The log, on stderr."""

    level: Literal["debug", "info", "warning", "error"] = _setting("info", "what is logged")
    format: Literal["text", "json"] = _setting("text", "for people or for machines")


@dataclass(frozen=True, slots=True, kw_only=True)
class Settings:
    """All settings of a hub. `Settings()` has the defaults."""

    db: str = field(
        default_factory=default_db,
        metadata=_about("database file, or its URL", check=check_not_empty),
    )
    tcp: str = _setting("127.0.0.1:7000", "HOST:PORT for line-JSON over TCP", check=parse_address)
    http: str = _setting("127.0.0.1:7070", "HOST:PORT for HTTP, or off", check=check_http_address)
    auth: bool = _setting(False, "whether requests need a token")
    tls_cert: Path | None = field(
        default=None, metadata=_about("certificate chain (PEM): both ports speak TLS")
    )
    tls_key: Path | None = field(
        default=None, metadata=_about("its private key (PEM), without a pass phrase")
    )
    base: Path = field(
        default_factory=Path.cwd,
        metadata=_about("directory that the relative paths of plugins begin at"),
    )
    limits: LimitSettings = field(default_factory=LimitSettings)
    cache: CacheSettings = field(default_factory=CacheSettings)
    fetch: FetchSettings = field(default_factory=FetchSettings)
    api: ApiSettings = field(default_factory=ApiSettings)
    access: AccessSettings = field(default_factory=AccessSettings)
    plugins: PluginSettings = field(default_factory=PluginSettings)
    yahoo: YahooSettings = field(default_factory=YahooSettings)
    sample: SampleSettings = field(default_factory=SampleSettings)
    log: LogSettings = field(default_factory=LogSettings)


class Option(NamedTuple):
    """One setting as the docs list it: dotted key, type, default, sentence and unit."""

    key: str
    type: Any
    default: Any
    doc: str
    unit: str
    least: float | None
    check: Callable[[str], object] | None

    @property
    def variable(self) -> str:
        """The environment variable that sets it."""
        return variable_of(self.key)


def variable_of(key: str) -> str:
    """Return the environment variable that sets a dotted key."""
    return PREFIX + key.replace(".", "__").upper()


def options() -> Iterator[Option]:
    """Yield every setting, in the order of the docs: the top ones, then section by section."""
    yield from _options_of(Settings, "")


def _options_of(kind: type, prefix: str) -> Iterator[Option]:
    hints = get_type_hints(kind)
    sections: list[tuple[str, type]] = []
    for item in fields(kind):
        hint = hints[item.name]
        if is_dataclass(hint):
            assert isinstance(hint, type)
            sections.append((f"{prefix}{item.name}.", hint))
            continue
        factory = item.default_factory
        default = item.default if factory is MISSING else factory()
        yield Option(prefix + item.name, hint, default, **item.metadata)
    for name, hint in sections:
        yield from _options_of(hint, name)
