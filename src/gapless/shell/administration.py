"""What the shell asks over HTTP: how the hub fares, what it holds, its plugins; and its looks."""

from __future__ import annotations

import time
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any, Final
from urllib.parse import quote, urlencode

from rich.console import RenderableType
from rich.text import Text

from gapless.client.client import Client
from gapless.errors import GaplessError, InvalidQuery, NotFound
from gapless.protocol.language import parse_line
from gapless.protocol.messages import (
    DateRange,
    Param,
    ProviderRequest,
    SearchEntities,
    Ticker,
)
from gapless.shell import rendering
from gapless.shell.commands import Call
from gapless.shell.completion import Known
from gapless.texts import printable

NAMES: Final = frozenset({"providers", "plugins", "coverage", "plan", "loadpy", "reload", "unload"})
_MOST_TICKERS: Final = 20_000


def ask(call: Call, client: Client) -> Any:
    """Return what a command that asks over HTTP comes to, as the hub answers it."""
    fetch = client.fetch
    match call.command.name:
        case "providers":
            call.none()
            return fetch("GET", "/v1/providers")["providers"]
        case "plugins":
            call.none()
            return fetch("GET", "/v1/plugins")["plugins"]
        case "coverage":
            return _coverage(call, client)
        case "plan":
            return fetch("POST", "/v1/plan", _plan_body(call))
        case "loadpy":
            return fetch("POST", "/plugins/load", _load_body(call), timeout=300.0)
        case "reload":
            target = f"/v1/plugins/{quote(call.one(), safe='')}/reload"
            return fetch("POST", target, timeout=300.0)
    target = f"/v1/plugins/{quote(call.one(), safe='')}"
    fetch("DELETE", target, timeout=60.0)
    return {"name": call.one()}


def _coverage(call: Call, client: Client) -> Any:
    if len(call.words) < 2:
        raise call.misuse()
    provider, ticker = (quote(text, safe="") for text in call.texts[:2])
    params = urlencode(call.pairs(call.words[2:]))
    target = f"/v1/coverage/{provider}/{ticker}" + (f"?{params}" if params else "")
    try:
        return client.fetch("GET", target)
    except NotFound:
        return {"id": f"{call.texts[0]}:{call.texts[1]}", "records": 0, "coverage": []}


def view(call: Call, data: Any, width: int, blocks: bool) -> Iterator[RenderableType]:
    """Yield how what `ask` returned is shown to a person."""
    name = call.command.name
    match name:
        case "providers":
            rows = [
                {
                    "provider": one["name"],
                    "health": one["health"],
                    "requests": one["requests"],
                    "last fetch": one["last_fetch"] or "never",
                    "parameters": ", ".join(param["name"] for param in one["params"]),
                }
                for one in data
            ]
            yield rendering.listing(rows)
        case "plugins":
            if not data:
                yield Text("none is loaded; see :help loadpy", style="dim")
            else:
                yield rendering.listing([_plugin_row(one) for one in data])
        case "coverage":
            yield from rendering.coverage_view(data, width, blocks)
        case "plan":
            yield from rendering.plan_view(data)
        case "loadpy" | "reload":
            yield f"{name.removesuffix('py')}ed {printable(data['name'])}"
        case "unload":
            yield f"unloaded {printable(data['name'])}"


def known(client: Client, saved: tuple[str, ...]) -> Known:
    """Return what is known of the hub by now; never raises, for nothing hangs on it."""
    try:
        told = client.fetch("GET", "/v1/providers", timeout=5.0)["providers"]
        params = {
            one["name"]: {param["name"]: choices_of(param) for param in one["params"]}
            for one in told
        }
        plugins = tuple(one["name"] for one in told if not one["built_in"])
        return Known(tuple(params), params, _tickers(client), plugins, saved)
    except (GaplessError, KeyError, TypeError):
        pass
    try:
        return Known(tuple(client.providers()), saved=saved)
    except GaplessError:
        return Known(saved=saved)


def choices_of(param: Mapping[str, Any]) -> tuple[str, ...]:
    """Return what a parameter may be, other spellings included; nothing: any text."""
    choices = tuple(param.get("choices") or ())
    return (*choices, *(param.get("aliases") or ())) if choices else ()


def _plugin_row(plugin: Mapping[str, Any]) -> dict[str, Any]:
    wanted = ("name", "state", "health", "contract", "file", "module", "pid", "restarts")
    told = {key: plugin[key] for key in wanted if plugin.get(key) is not None}
    return {
        key: ", ".join(map(str, value)) if isinstance(value, list) else str(value)
        for key, value in told.items()
    }


def path_of(text: str) -> Path:
    """Return the path that a person wrote; raise `InvalidQuery` for the home of nobody."""
    try:
        return Path(text).expanduser()
    except RuntimeError:
        raise InvalidQuery(f"{printable(text)}: there is no such user") from None


def _load_body(call: Call) -> dict[str, str]:
    """Return what the loader is told; paths are those of this shell's folder."""
    told = call.pairs()
    if ("file" in told) == ("module" in told):
        raise call.misuse("name one of file and module")
    body = {"class": told.get("class", "Provider")}
    if "name" in told:
        body["name"] = told["name"]
    if "file" in told:
        body["file"] = str(path_of(told["file"]).resolve())
    else:
        body["module"] = told["module"]
        if "base" in told:
            body["project_base_dir"] = str(path_of(told["base"]).resolve())
    return body


def _plan_body(call: Call) -> dict[str, Any]:
    parsed = parse_line(call.text, now_ms=time.time_ns() // 1_000_000)
    if not isinstance(parsed, ProviderRequest) or not isinstance(parsed.request, SearchEntities):
        raise call.misuse("a search by ticker is planned")
    if parsed.fresh not in (None, "check"):
        raise call.misuse("what is due is planned: leave fresh= out")
    body: dict[str, Any] = {"provider": parsed.provider, "params": {}}
    for item in parsed.request.query:
        match item:
            case Ticker(value):
                body["ticker"] = value
            case DateRange(start, end):
                body.update(start=start or None, end=end or None)
            case Param(name, value):
                body["params"][name] = value
            case _:
                raise call.misuse("a search by ticker, date and parameters is planned")
    if "ticker" not in body:
        raise call.misuse("the query names no ticker")
    return {key: value for key, value in body.items() if value is not None}


def _tickers(client: Client) -> dict[str, tuple[str, ...]]:
    found: dict[str, list[str]] = {}
    count = 0
    target: str | None = "/v1/series?limit=1000"
    while target is not None and count < _MOST_TICKERS:
        page = client.fetch("GET", target, timeout=5.0)
        for one in page["series"]:
            found.setdefault(one["provider"], []).append(one["ticker"])
            count += 1
        following = page.get("next")
        target = f"/v1/series?limit=1000&cursor={quote(following, safe='')}" if following else None
    return {provider: tuple(dict.fromkeys(tickers)) for provider, tickers in found.items()}
