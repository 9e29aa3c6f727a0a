"""Where values come from: defaults < TOML file < environment (`GAPLESS_SECTION__NAME`) < flags.

Apart from the settings themselves; pure but for reading the one file.
"""

from __future__ import annotations

import difflib
import math
import re
import tomllib
import types
from collections.abc import Iterable, Iterator, Mapping
from pathlib import Path
from typing import Any, Literal, NamedTuple, TypeAlias, get_args, get_origin, get_type_hints

from gapless.config.addresses import check_fallback_url, check_http_url, parse_address
from gapless.config.settings import KIB, MIB, PREFIX, Option, Settings, options, variable_of
from gapless.errors import ConfigError
from gapless.texts import masked, printable

# Settings of earlier versions that nothing heeds any more: files with them go on working.
RETIRED = frozenset({"cache.basis_ttl_s", "fetch.max_bumps"})
CLIENT_VARIABLES = ("GAPLESS_CONFIG", "GAPLESS_TOKEN", "GAPLESS_URL")


class Origin(NamedTuple):
    """Where a value came from; `name` is the file, the variable or the flag."""

    kind: Literal["default", "file", "environment", "flag"]
    name: str = ""

    def __str__(self) -> str:
        """Return both in one phrase, such as `flag --tcp`."""
        return f"{self.kind} {self.name}".strip()


Origins: TypeAlias = Mapping[str, Origin]


def load_settings(
    flags: Mapping[str, object],
    environ: Mapping[str, str],
    config_file: Path | str | None = None,
) -> tuple[Settings, Origins]:
    """Return the settings and, for each dotted key, where its value came from.

    `flags` are keyed like the settings (`db`, `tcp`); a value of `None` was not given. Settings
    that are retired have an origin and no value, so that a hub can say that it ignores them.
    Without `config_file` the one that `GAPLESS_CONFIG` names is read, if any. Paths in the file
    are relative to its folder, others to the working directory. Raises `ConfigError` for what
    is unknown, has no usable value, or contradicts another setting.
    """
    known = {option.key: option for option in options()}
    values: dict[str, object] = {}
    origins = dict.fromkeys(known, Origin("default"))

    file = config_file or environ.get("GAPLESS_CONFIG")
    if file:
        path = Path(file).expanduser().absolute()
        origin = Origin("file", str(path))
        for key, raw in _from_tables(_read_toml(path), known, origin):
            origins[key] = origin
            if key not in RETIRED:
                values[key] = _convert(known[key], raw, origin, path.parent)
    for key, text in _from_environ(environ, known):
        if key in RETIRED:
            origins[key] = Origin("environment", variable_of(key))
            continue
        origin = Origin("environment", known[key].variable)
        values[key] = _convert(known[key], text, origin, Path.cwd())
        origins[key] = origin
    for key, raw in flags.items():
        if raw is None:
            continue
        origin = Origin("flag", f"--{key.replace('_', '-')}")
        if key not in known:
            raise ConfigError(f"--{key} is no setting{_nearest(key, known)}")
        values[key] = _convert(known[key], raw, origin, Path.cwd())
        origins[key] = origin

    settings = _build(values)
    _check_together(settings, origins)
    return settings, origins


def refuse_exposure(settings: Settings) -> None:
    """Raise `ConfigError` if others could reach the hub and it would not ask them for a token."""
    if settings.auth:
        return
    for key, text in (("tcp", settings.tcp), ("http", settings.http)):
        if text != "off" and not parse_address(text).is_loopback:
            raise ConfigError(
                f"{key} = {text} can be reached from other machines, and without authentication "
                "anyone there could use the hub and load code into it: add --auth, or listen on "
                "127.0.0.1"
            )


def shown_values(settings: Settings) -> dict[str, str | int | float | bool | None]:
    """Return dotted key → value as it may be shown: passwords are masked, paths are text."""
    shown: dict[str, str | int | float | bool | None] = {}
    for option in options():
        value: Any = settings
        for name in option.key.split("."):
            value = getattr(value, name)
        shown[option.key] = masked(str(value)) if isinstance(value, (str, Path)) else value
    return shown


def _read_toml(path: Path) -> dict[str, Any]:
    try:
        return tomllib.loads(path.read_text("utf-8"))
    except OSError as error:
        raise ConfigError(f"the settings file {path} cannot be read: {error.strerror}") from error
    except (tomllib.TOMLDecodeError, UnicodeDecodeError) as error:
        raise ConfigError(f"the settings file {path} is no valid TOML: {error}") from error


def _from_tables(
    table: Mapping[str, Any],
    known: Mapping[str, Option],
    origin: Origin,
    prefix: str = "",
) -> Iterator[tuple[str, object]]:
    sections = {key.rpartition(".")[0] for key in known} - {""}
    for name, value in table.items():
        key = prefix + name
        if key in known or key in RETIRED:
            yield key, value
        elif key not in sections:
            raise ConfigError(
                f"{printable(key)} in {origin.name} is no setting"
                f"{_nearest(key, [*sections, *known])}"
            )
        elif isinstance(value, dict):
            yield from _from_tables(value, known, origin, f"{key}.")
        else:
            raise ConfigError(f"{key} in {origin.name} is a section: write [{key}]")


def _from_environ(
    environ: Mapping[str, str], known: Mapping[str, Option]
) -> Iterator[tuple[str, str]]:
    by_variable = {option.variable: key for key, option in known.items()}
    retired = {variable_of(key): key for key in RETIRED}
    for name, text in environ.items():
        if name in by_variable or name in retired:
            yield by_variable.get(name) or retired[name], text
        elif name.startswith(PREFIX) and name not in CLIENT_VARIABLES:
            near = _nearest(name, [*by_variable, *CLIENT_VARIABLES])
            raise ConfigError(f"{printable(name)} in the environment is no setting{near}")


def _nearest(name: str, candidates: Iterable[str]) -> str:
    """Return the end of a sentence that names the candidate most like `name`, if one is."""
    by_lower = {candidate.lower(): candidate for candidate in candidates}
    near = difflib.get_close_matches(name.lower(), by_lower, n=1)
    return f"; did you mean {by_lower[near[0]]}?" if near else "; see: gapless config show"


_TRUTH = {"true": True, "yes": True, "on": True, "1": True} | {
    "false": False,
    "no": False,
    "off": False,
    "0": False,
}
_SIZE = re.compile(r"(\d+)\s*(B|KiB|MiB|GiB)", re.IGNORECASE)
_FACTORS = {"b": 1, "kib": KIB, "mib": MIB, "gib": 1 << 30}


def _convert(option: Option, raw: object, origin: Origin, folder: Path) -> object:
    """Return `raw` as the option's type; raise a `ConfigError` that says what it should be."""
    text = raw.strip() if isinstance(raw, str) and origin.kind != "file" else None
    value: object
    try:
        if option.type is bool:
            value = _TRUTH[text.lower()] if text is not None else _exactly(bool, raw)
        elif option.type is int:
            value = _whole_number(option, raw, text)
        elif option.type is float:
            value = float(text) if text is not None else float(_exactly((int, float), raw))
            if not math.isfinite(value):
                raise ValueError
        elif option.type is Path:
            value = folder / Path(_exactly((str, Path), raw)).expanduser()
        elif option.type == Path | None:
            named = str(_exactly((str, Path), raw)).strip()
            value = None if named.lower() in ("", "none") else folder / Path(named).expanduser()
        elif get_origin(option.type) is Literal:
            value = _exactly(str, raw).strip().lower()
            if value not in get_args(option.type):
                raise ValueError
        else:
            value = str(_exactly((str, Path), raw)).strip()
            if _is_optional(option.type) and value.lower() in ("", "none"):
                value = None
    except (ValueError, KeyError, OverflowError, RuntimeError):
        raise ConfigError(_complaint(option, raw, origin)) from None
    if isinstance(value, int | float) and option.least is not None and value < option.least:
        raise ConfigError(_complaint(option, raw, origin))
    if isinstance(value, str):
        try:
            if option.check is not None:
                option.check(value)
        except ConfigError as error:
            raise ConfigError(f"{option.key} ({origin}): {error.message}") from None
        if option.key == "db" and "://" not in value:
            value = str(folder / Path(value).expanduser())
        elif option.check in (check_http_url, check_fallback_url):
            value = value.rstrip("/")
    return value


def _exactly(kind: Any, raw: object) -> Any:
    """Return `raw` if it is of `kind`; `True` is no number."""
    if not isinstance(raw, kind) or (isinstance(raw, bool) and kind is not bool):
        raise ValueError
    return raw


def _whole_number(option: Option, raw: object, text: str | None) -> int:
    if isinstance(raw, str) and option.unit == "bytes":
        size = _SIZE.fullmatch(raw.strip())
        if size is not None:
            return int(size[1]) * _FACTORS[size[2].lower()]
    return int(text) if text is not None else int(_exactly(int, raw))


def _is_optional(hint: Any) -> bool:
    return types.NoneType in get_args(hint)


def _complaint(option: Option, raw: object, origin: Origin) -> str:
    if option.type is bool:
        wanted = "true or false"
    elif option.type is int:
        wanted = "a whole number"
        if option.unit == "bytes":
            wanted += " of bytes, or a size such as 64MiB,"
    elif option.type is float:
        wanted = f"a number{' of seconds' if option.unit == 'seconds' else ''}"
    elif get_origin(option.type) is Literal:
        wanted = "one of: " + ", ".join(get_args(option.type))
    else:
        wanted = "text"
    if option.least is not None:
        wanted = f"{wanted.rstrip(',')}, {option.least:g} or more"
    given = masked(printable(str(raw)))[:100]
    return f"{option.key} ({origin}) needs {wanted}; it is {given!r}"


def _build(values: Mapping[str, object]) -> Settings:
    """Make the settings of dotted values; what is not there keeps its default."""
    top: dict[str, Any] = {}
    sections: dict[str, dict[str, Any]] = {}
    for key, value in values.items():
        section, _, name = key.rpartition(".")
        (sections.setdefault(section, {}) if section else top)[name] = value
    hints = get_type_hints(Settings)
    return Settings(**top, **{name: hints[name](**given) for name, given in sections.items()})


def _check_together(settings: Settings, origins: Origins) -> None:
    if (settings.tls_cert is None) != (settings.tls_key is None):
        raise ConfigError("TLS takes both a certificate and its key: --tls-cert and --tls-key")
    values = shown_values(settings)
    for smaller, larger in (
        ("limits.default_entities", "limits.max_entities"),
        ("fetch.breaker_cooldown_s", "fetch.breaker_cooldown_max_s"),
        ("yahoo.connect_timeout_s", "yahoo.timeout_s"),
    ):
        low, high = values[smaller], values[larger]
        assert isinstance(low, int | float)
        assert isinstance(high, int | float)
        if low > high:
            raise ConfigError(
                f"{smaller} = {low} ({origins[smaller]}) is above "
                f"{larger} = {high} ({origins[larger]})"
            )
