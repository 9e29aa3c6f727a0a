"""Settings: precedence, what is refused and how, and that nothing secret is shown."""

from __future__ import annotations

import io
import json
import logging
from collections.abc import Iterator
from pathlib import Path

import pytest
import structlog

from gapless.config import (
    RETIRED,
    Address,
    Settings,
    YahooSettings,
    load_settings,
    options,
    parse_address,
    parse_check,
    refuse_exposure,
    shown_values,
)
from gapless.errors import ConfigError
from gapless.observability import configure_logging
from gapless.texts import masked, printable


@pytest.fixture
def file(tmp_path: Path) -> Path:
    """A settings file that sets three rates and a relative path."""
    path = tmp_path / "gapless.toml"
    path.write_text('db = "data/x.db"\n[yahoo]\nrate = 3\nburst = 30\n[sample]\nrate = 4.5\n')
    return path


def test_defaults() -> None:
    """Without anything given the settings are the defaults, and say so."""
    settings, origins = load_settings({}, {})
    assert settings == Settings()
    assert {origin.kind for origin in origins.values()} == {"default"}
    assert set(origins) == {option.key for option in options()} == set(shown_values(settings))


def test_every_setting_tells_what_it_is_for() -> None:
    """Each setting has a sentence, and each number that is an amount its unit."""
    for option in options():
        assert option.doc, option.key
        if option.key.endswith("_s"):
            assert option.unit == "seconds", option.key
        if option.key.endswith("_bytes"):
            assert option.unit == "bytes", option.key


def test_each_source_wins_over_the_one_before(file: Path) -> None:
    """Defaults < file < environment < flags, each with its origin."""
    settings, origins = load_settings(
        {"tcp": "127.0.0.1:1", "http": None},
        {
            "GAPLESS_YAHOO__BURST": "40",
            "GAPLESS_TCP": "127.0.0.1:2",
            "GAPLESS_HTTP": "off",
            "PATH": "/bin",
        },
        file,
    )
    assert (settings.yahoo.rate, settings.yahoo.burst) == (3.0, 40)
    assert (settings.tcp, settings.http) == ("127.0.0.1:1", "off")
    assert str(origins["yahoo.rate"]) == f"file {file}"
    assert str(origins["yahoo.burst"]) == "environment GAPLESS_YAHOO__BURST"
    assert str(origins["tcp"]) == "flag --tcp"
    assert str(origins["http"]) == "environment GAPLESS_HTTP"
    assert str(origins["sample.burst"]) == "default"


def test_file_named_by_the_environment(file: Path) -> None:
    """GAPLESS_CONFIG names the file; its relative paths count from its own folder."""
    settings, _ = load_settings({}, {"GAPLESS_CONFIG": str(file)})
    assert settings.sample.rate == 4.5
    assert settings.db == str(file.parent / "data/x.db")


def test_variables_of_the_clients_are_known() -> None:
    """What the clients read is no error for the hub."""
    load_settings({}, {"GAPLESS_URL": "tcp://127.0.0.1:1", "GAPLESS_TOKEN": "t"})


def test_a_setting_that_is_retired_is_ignored(tmp_path: Path) -> None:
    """Whatever a file or the environment says of it: it has an origin to be told, and no value."""
    path = tmp_path / "old.toml"
    path.write_text("[cache]\nbasis_ttl_s = 'soon'\n[fetch]\nmax_bumps = -1\ndeadline_s = 7\n")
    settings, origins = load_settings({}, {"GAPLESS_FETCH__MAX_BUMPS": "many"}, path)
    assert settings.fetch.deadline_s == 7.0
    assert str(origins["cache.basis_ttl_s"]) == f"file {path}"
    assert str(origins["fetch.max_bumps"]) == "environment GAPLESS_FETCH__MAX_BUMPS"
    known = {option.key for option in options()}
    assert not RETIRED & known
    assert set(shown_values(settings)) == known
    assert set(origins) == known | RETIRED


def test_a_setting_like_a_retired_one_is_unknown(tmp_path: Path) -> None:
    """Only the very names that there were are ignored, and none of them is suggested."""
    path = tmp_path / "x.toml"
    path.write_text("[fetch]\nmax_bump = 2\n")
    with pytest.raises(ConfigError, match=r"fetch\.max_bump") as caught:
        load_settings({}, {}, path)
    assert "max_bumps" not in caught.value.message
    with pytest.raises(ConfigError, match="GAPLESS_CACHE__BASIS_TTL in the environment") as caught:
        load_settings({}, {"GAPLESS_CACHE__BASIS_TTL": "1"})
    assert "BASIS_TTL_S" not in caught.value.message


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("session", "session"),
        (" Session ", "session"),
        ("never", "never"),
        ("1s", 1.0),
        ("90m", 5_400.0),
        ("6h", 21_600.0),
        ("2D", 172_800.0),
    ],
)
def test_when_what_may_be_revised_is_checked(text: str, expected: object) -> None:
    """Once a session, never, or after a duration, in seconds."""
    assert parse_check(text) == expected


@pytest.mark.parametrize("text", ["", "6", "h", "0h", "-1h", "1.5h", "6 h", "6w", "sessions", "٣h"])
def test_what_is_no_check(text: str) -> None:
    """A unit is needed, and more than none of it; what was said is named."""
    with pytest.raises(ConfigError, match="neither session, a duration such as 6h, nor never"):
        parse_check(text)


@pytest.mark.parametrize(
    ("text", "near"),
    [
        ("[yahoo]\nbase-url = 'http://x'", "yahoo.base_url"),
        ("[yaho]\nrate = 1", "yahoo"),
        ("max_line_bytes = 2048", "limits.max_line_bytes"),
        ("[limits]\nmax_line_byte = 2048", "limits.max_line_bytes"),
    ],
)
def test_unknown_key_in_the_file(tmp_path: Path, text: str, near: str) -> None:
    """An unknown key is named with its file and the nearest known one."""
    path = tmp_path / "x.toml"
    path.write_text(text)
    with pytest.raises(ConfigError) as caught:
        load_settings({}, {}, path)
    assert str(path) in caught.value.message
    assert caught.value.message.endswith(f"did you mean {near}?")


@pytest.mark.parametrize(
    ("name", "near"),
    [
        ("GAPLESS_YAHOO_BASE_URL", "GAPLESS_YAHOO__BASE_URL"),
        ("GAPLESS_tcp", "GAPLESS_TCP"),
        ("GAPLESS_CONFG", "GAPLESS_CONFIG"),
    ],
)
def test_unknown_variable(name: str, near: str) -> None:
    """An unknown variable of ours is an error that names the nearest known one."""
    with pytest.raises(ConfigError, match=f"{name} in the environment.*did you mean {near}"):
        load_settings({}, {name: "1"})


@pytest.mark.parametrize(
    ("name", "value", "sentence"),
    [
        ("FETCH__DEADLINE_S", "nan", "a number of seconds, 0.001 or more"),
        ("FETCH__DEADLINE_S", "soon", "a number of seconds"),
        ("FETCH__BREAKER_FAILURES", "2.5", "a whole number, 1 or more"),
        ("CACHE__HOT_BYTES", "-1", "0 or more"),
        ("CACHE__HOT_BYTES", "12 apples", "64MiB"),
        ("LOG__LEVEL", "loud", "one of: debug, info, warning, error"),
        ("AUTH", "", "true or false"),
        ("TCP", "7000", "no HOST:PORT"),
        ("TCP", "::1:7000", r"\[ADDRESS\]:PORT"),
        ("TCP", "127.0.0.1:65536", "no HOST:PORT"),
        ("DB", " ", "empty"),
        ("YAHOO__BASE_URL", "ftp://x", "no http:// or https://"),
        ("YAHOO__BASE_URL", "http://x:port", "no http:// or https://"),
        ("CACHE__CHECK", "daily", "neither session, a duration such as 6h, nor never"),
        ("CACHE__CHECK_BARS", "0", "a whole number, 1 or more"),
        ("CACHE__CHECK_WAIT_S", "-1", "0 or more"),
        ("CACHE__MAX_GAPS", "0", "a whole number, 1 or more"),
        ("LIMITS__MAX_ENTITIES", "99", r"limits.default_entities = 100 \(default\) is above"),
    ],
)
def test_unusable_value(name: str, value: str, sentence: str) -> None:
    """A value that cannot be used is refused with where it came from and what is wanted."""
    with pytest.raises(ConfigError, match=sentence) as caught:
        load_settings({}, {f"GAPLESS_{name}": value})
    assert f"environment GAPLESS_{name}" in caught.value.message


@pytest.mark.parametrize(
    "text",
    [
        "auth = 'true'",
        "tcp = 7000",
        "limits = 3",
        "[yahoo]\nburst = true",
        "[yahoo]\nburst = 2.0",
        "[yahoo]\nrate = '2'",
        "[yahoo.rate]\nx = 1",
        "[yahoo",
        "[log]\nlevel = 3",
    ],
)
def test_wrong_type_in_the_file(tmp_path: Path, text: str) -> None:
    """TOML has types of its own, so another type is a mistake; the file is named."""
    path = tmp_path / "x.toml"
    path.write_text(text)
    with pytest.raises(ConfigError) as caught:
        load_settings({}, {}, path)
    assert str(path) in caught.value.message


def test_missing_and_unreadable_file(tmp_path: Path) -> None:
    """A settings file that is named must be there and be text."""
    with pytest.raises(ConfigError, match="cannot be read: No such file"):
        load_settings({}, {}, tmp_path / "none.toml")
    (tmp_path / "x.toml").write_bytes(b"\xff\xfe")
    with pytest.raises(ConfigError, match="no valid TOML"):
        load_settings({}, {}, tmp_path / "x.toml")


def test_sizes_and_truth_values() -> None:
    """Sizes take a unit, truth values the usual words."""
    settings, _ = load_settings(
        {},
        {
            "GAPLESS_CACHE__HOT_BYTES": "2 GiB",
            "GAPLESS_LIMITS__MAX_LINE_BYTES": "64kib",
            "GAPLESS_SAMPLE__ENABLED": "off",
            "GAPLESS_LOG__LEVEL": "WARNING",
        },
    )
    assert settings.cache.hot_bytes == 2 << 30
    assert settings.limits.max_line_bytes == 64 << 10
    assert settings.sample.enabled is False
    assert settings.log.level == "warning"


def test_stand_in_for_yahoo_has_no_fallback() -> None:
    """Changing base_url leaves nothing that would ask the real host, unless it is wanted."""
    assert YahooSettings().fallback_url == "https://query2.finance.yahoo.com"
    assert YahooSettings(base_url="http://127.0.0.1:9").fallback_url is None
    settings, _ = load_settings({}, {"GAPLESS_YAHOO__BASE_URL": "http://127.0.0.1:9/"})
    assert (settings.yahoo.base_url, settings.yahoo.fallback_url) == ("http://127.0.0.1:9", None)
    both = {
        "GAPLESS_YAHOO__BASE_URL": "http://127.0.0.1:9",
        "GAPLESS_YAHOO__FALLBACK_URL": "http://127.0.0.1:8",
    }
    assert load_settings({}, both)[0].yahoo.fallback_url == "http://127.0.0.1:8"
    none = {"GAPLESS_YAHOO__FALLBACK_URL": "none"}
    assert load_settings({}, none)[0].yahoo.fallback_url is None


@pytest.mark.parametrize(
    ("text", "address", "loopback"),
    [
        ("127.0.0.1:0", Address("127.0.0.1", 0), True),
        ("localhost:7000", Address("localhost", 7000), True),
        ("[::1]:7000", Address("::1", 7000), True),
        ("0.0.0.0:7000", Address("0.0.0.0", 7000), False),
        ("[::]:7000", Address("::", 7000), False),
        ("example.org:7000", Address("example.org", 7000), False),
        ("127.0.0.1.example.org:7000", Address("127.0.0.1.example.org", 7000), False),
    ],
)
def test_addresses(text: str, address: Address, loopback: bool) -> None:
    """An address is read, written back the same, and known to be local or not."""
    assert parse_address(text) == address
    assert str(address) == text
    assert address.is_loopback is loopback


@pytest.mark.parametrize("key", ["tcp", "http"])
def test_exposure_without_authentication(key: str) -> None:
    """A bind that others can reach is refused as long as nobody has to show a token."""
    settings, _ = load_settings({key: "0.0.0.0:7000"}, {})
    with pytest.raises(ConfigError, match="other machines"):
        refuse_exposure(settings)
    settings, _ = load_settings({key: "0.0.0.0:7000", "auth": True}, {})
    refuse_exposure(settings)


def test_passwords_are_masked() -> None:
    """A database URL keeps its password to itself, in what is shown and in complaints."""
    url = "postgresql://me:s3cret@db.example/gapless?password=s3cret&x=1"
    settings, _ = load_settings({"db": url}, {})
    assert settings.db == url
    assert shown_values(settings)["db"] == "postgresql://me:***@db.example/gapless?password=***&x=1"
    assert masked("http://127.0.0.1:7000/a@b") == "http://127.0.0.1:7000/a@b"
    assert masked("x://u:p@ss@h/") == "x://u:***@h/"
    with pytest.raises(ConfigError) as caught:
        load_settings({}, {"GAPLESS_YAHOO__BASE_URL": "ftp://me:s3cret@x"})
    assert "s3cret" not in caught.value.message


def test_printable() -> None:
    """Terminal escapes are spelled out, other text is as it was."""
    assert printable("Ünïcode 株") == "Ünïcode 株"
    assert printable("a\x1b[2Jb\n") == "a\\x1b[2Jb\\n"


@pytest.fixture
def logging_restored() -> Iterator[None]:
    """Put the process's logging back as it was."""
    root = logging.getLogger()
    handlers, level = root.handlers[:], root.level
    yield
    root.handlers[:] = handlers
    root.setLevel(level)
    structlog.reset_defaults()


@pytest.mark.usefixtures("logging_restored")
def test_json_log() -> None:
    """Our lines and the libraries' have one shape, respect the level and hold no secret."""
    stream = io.StringIO()
    configure_logging("info", "json", stream)
    log = structlog.get_logger()
    log.debug("unseen")
    log.info("seen", token="s3cret", db="postgresql://me:s3cret@h/x")
    logging.getLogger("library").warning("from %s", "a library")
    logging.getLogger("library").info("unseen")
    ours, theirs = (json.loads(line) for line in stream.getvalue().splitlines())
    assert (ours["event"], ours["level"], ours["token"]) == ("seen", "info", "***")
    assert ours["db"] == "postgresql://me:***@h/x"
    assert (theirs["event"], theirs["logger"]) == ("from a library", "library")
    assert ours["timestamp"].endswith("Z")


@pytest.mark.usefixtures("logging_restored")
def test_text_log() -> None:
    """Text has no colour where no terminal is, one line an event, and plain tracebacks."""
    stream = io.StringIO()
    configure_logging("warning", "text", stream)
    log = structlog.get_logger()
    log.info("unseen")
    log.warning("seen", ticker="\x1b[2J\nforged")
    try:
        raise ValueError("why")
    except ValueError:
        log.exception("failed")
    text = stream.getvalue()
    assert "\x1b" not in text
    assert "unseen" not in text
    assert "\nforged" not in text
    assert "ValueError: why" in text


@pytest.mark.usefixtures("logging_restored")
@pytest.mark.parametrize("form", ["json", "text"])
def test_a_traceback_tells_no_secrets(form: str) -> None:
    """Neither by local variables nor by what an error says."""
    stream = io.StringIO()
    configure_logging("info", form, stream)
    token = "gapless_at_" + "x" * 43
    hidden = "a password that nobody tells"
    try:
        raise ValueError(f"no such token {token}")
    except ValueError:
        structlog.get_logger("test").exception("it failed", user="ann")
        logging.getLogger("other").exception("so did this")
    text = stream.getvalue()
    assert "no such token gapless_at_***" in text
    assert token not in text
    assert hidden not in text
    assert text.count("ValueError") >= 2
