"""Every route by method and role, and every operation of TCP: allowed as the table says.

Made from the router's own table, so that a route that somebody adds is in it.
"""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from litestar import Litestar

from gapless.auth.authority import Authority
from gapless.auth.permissions import OPERATIONS, ROLES, Rule
from gapless.auth.tokens import Kind
from gapless.protocol.messages import QUERY_TYPES, REQUEST_KINDS
from gapless.servers.http.gate import Gate
from support.people import PASSWORD, Person, api_token, bearer, person
from support.providers import SteadyProvider
from support.web import Web, web
from support.wire import door

DENIED = {"missing_token", "unauthorized", "forbidden"}
# What stands for a part of a path that changes.
PARTS = {
    "{name}": "steady",
    "{provider}": "steady",
    "{ticker}": "ABC",
    "{entity_id}": "note",
    "{email}": "nobody@example.com",
    "{number}": "999999",
}
# What a reader is told of data that would have to be fetched.
NOT_HELD = "is not held, and having it fetched"
# Litestar brings these along; they have no rule, and so are open to nobody.
LITESTARS = "/schema"
WHO = ("nobody", "stranger", "read", "fetch", "admin", "program")


def routes(opened: Web) -> Iterator[tuple[str, str]]:
    """Yield the method and the path of every route that there is."""
    application = litestar_of(opened)
    for route in application.routes:
        for method in route.methods:
            yield method, route.path_format


def litestar_of(opened: Web) -> Litestar:
    """Return the application behind the gate."""
    server = opened.http_door._server
    assert server is not None
    gate = server._app
    assert isinstance(gate, Gate)
    assert isinstance(gate._app, Litestar)
    return gate._app


def rule_of(method: str, path: str) -> Rule | None:
    """Return what the table says; a route of ours that is not in it fails the test."""
    name = method if method == "OPTIONS" else f"{method} {path}"
    if path.startswith(LITESTARS) and method != "OPTIONS":
        assert name not in OPERATIONS
        return None
    assert name in OPERATIONS, f"{name} has no rule in gapless.auth.permissions"
    return OPERATIONS[name]


def allowed(rule: Rule | None, who: str) -> bool:
    """Whether somebody may, by the rule alone."""
    if rule is None:
        return False
    if rule.anyone:
        return True
    if who in ("nobody", "stranger"):
        return False
    if who == "program":
        return not rule.signed_in
    return rule.scope is None or rule.scope in ROLES[who]


class Cast:
    """One of each who may ask; those whose token has ended are signed in again."""

    def __init__(self, authority: Authority) -> None:
        self._authority = authority
        self._people: dict[str, Person] = {}
        self._program = ""

    async def open(self) -> None:
        # Whoever the requests remove, one administrator is left.
        await self._authority.users.add("root@example.com", PASSWORD, "admin", "test")
        for role in ROLES:
            self._people[role] = await person(self._authority, role)
        self._program = await api_token(self._authority, "admin@example.com")

    async def token(self, who: str) -> str | None:
        """Return a token of theirs that counts, or none."""
        if who == "nobody":
            return None
        if who == "stranger":
            return "gapless_at_" + "x" * 43
        if who == "program":
            return self._program
        one = self._people[who]
        if self._authority.directory.find(one.pair.access) is None:
            one = self._people[who] = await person(self._authority, who)
        return one.pair.access


@pytest.mark.slow
async def test_every_route_by_method_and_role(tmp_path: Path) -> None:
    """Whoever may is let through to the route, whoever may not is refused before it."""
    async with web(tmp_path, SteadyProvider(), auth=True) as opened:
        cast = Cast(opened.authority)
        await cast.open()
        tried = 0
        for method, path in sorted(set(routes(opened))):
            rule = rule_of(method, path)
            url = path
            for part, value in PARTS.items():
                url = url.replace(part, value)
            if method == "HEAD":
                # Its answers have no body that would tell why: what is asked for is held.
                admin = await cast.token("admin")
                assert admin is not None
                await opened.client.get(url, headers=bearer(admin))
            for who in WHO:
                token = await cast.token(who)
                headers = {} if token is None else bearer(token)
                sends = method in ("POST", "PUT", "PATCH")
                form = path in ("/setup", "/login", "/logout") or path.startswith("/account")
                response = await opened.client.request(
                    method,
                    url,
                    headers=headers,
                    json={} if sends and not form else None,
                    data={"x": "y"} if sends and form else None,
                )
                code = code_of(response)
                refused = response.status_code in (401, 403) and code in DENIED | {"untold"}
                told = (who, method, path, response.status_code, code)
                assert refused is not allowed(rule, who), told
                if refused:
                    expected = {"nobody": "missing_token", "stranger": "unauthorized"}
                    if method != "HEAD":
                        assert code == expected.get(who, "forbidden"), told
                    assert (response.status_code == 401) is (who in expected), told
                    if response.status_code == 401:
                        assert response.headers["www-authenticate"] == 'Bearer realm="gapless"'
                tried += 1
        assert tried > 200
        opened.logged("error")


def code_of(response: Any) -> str | None:
    """Return the code of a problem with the asking; of one with the data there is none."""
    if "problem+json" not in response.headers.get("content-type", ""):
        return None
    if not response.content:
        return "untold"
    problem = response.json()
    code: str = problem["code"]
    return None if NOT_HELD in problem["message"] else code


@pytest.mark.parametrize("auth", [False, True])
async def test_two_tokens_are_none(tmp_path: Path, auth: bool) -> None:
    """On every route, open or not: whoever stands in front may have let the other one in."""
    async with web(tmp_path, SteadyProvider(), auth=auth) as opened:
        lines: list[tuple[str, str]] = []
        if auth:
            cast = Cast(opened.authority)
            await cast.open()
            lines = list(bearer(await cast.token("admin") or "").items())
        path = "/v1/data/steady/ABC?start=2024-01-01&end=2024-02-01"
        held = await opened.client.get(path, headers=lines)
        assert held.status_code == 200
        counted = opened.meter.upstream.total()
        for method, route in sorted(set(routes(opened))):
            url = route
            for part, value in PARTS.items():
                url = url.replace(part, value)
            for second in ("Bearer gapless_at_x", "Basic YTpi", ""):
                twice = [("authorization", second), *(lines or [("authorization", "Bearer x")])]
                response = await opened.client.request(method, url, headers=twice)
                assert response.status_code == 400, (method, url, response.text)
                if method != "HEAD":
                    told = response.json()
                    assert told["code"] == "invalid_query", (method, url)
                    assert "more than one Authorization" in told["message"]
        again = await opened.client.get(path, headers=lines)
        assert (again.status_code, again.content) == (200, held.content)
        assert opened.meter.upstream.total() == counted


async def test_the_table_has_nothing_that_is_not_there(tmp_path: Path) -> None:
    """Each rule is of a route or an operation that exists."""
    async with web(tmp_path, auth=True) as opened:
        there = {
            f"{method} {path}" for method, path in routes(opened) if not path.startswith(LITESTARS)
        }
        known = {*QUERY_TYPES, *REQUEST_KINDS, "OPTIONS"} - {"ProviderRequest"}
        assert set(OPERATIONS) == {one for one in there if not one.startswith("OPTIONS")} | known


@pytest.mark.parametrize(
    "path", ["/v1/nothing", "/v1/users/", "//v1/users", "/V1/users", "/x/../v1/users"]
)
async def test_nothing_is_told_of_paths_without_a_token(tmp_path: Path, path: str) -> None:
    """Whether a path is there or not, and however it is written, it takes a token first."""
    async with web(tmp_path, auth=True) as opened, await opened.wire() as wire:
        await wire.send(
            f"GET {path} HTTP/1.1\r\nhost: localhost\r\nconnection: close\r\n\r\n".encode()
        )
        answer = await wire.rest()
        assert answer.startswith(b"HTTP/1.1 401 "), answer[:200]


def queries() -> dict[str, dict[str, Any]]:
    """Return a query of every kind there is on TCP."""
    requests: dict[str, Any] = {
        "GetEntity": {"id": "ABC"},
        "GetEntities": {"ids": ["a"]},
        "GetAllEntities": {"limit": None, "offset": None},
        "SearchEntities": {
            "query": [
                {"Ticker": "ABC"},
                {"DateRange": {"start": "2024-01-01", "end": "2024-02-01"}},
            ],
            "limit": None,
        },
        "GetReport": {"url": "http://127.0.0.1/"},
    }
    assert set(requests) == set(REQUEST_KINDS)
    found = {
        name: {
            "type": "ProviderRequest",
            "payload": {"provider": "steady", "request": {name: payload}},
        }
        for name, payload in requests.items()
    }
    found |= {name: {"type": name} for name in ("Ping", "Auth", "ProviderList")}
    found["Describe"] = {"type": "Describe", "payload": {"provider": "steady", "ticker": "ABC"}}
    found["Line"] = {"type": "Line", "payload": {"line": "providers"}}
    assert {one["type"] for one in found.values()} == set(QUERY_TYPES)
    return found


async def test_a_second_door_unguarded(tmp_path: Path) -> None:
    """The same on the other door, by a token in each line and by an authenticated connection."""
    async with door(tmp_path, SteadyProvider(), auth=True) as opened:
        cast = Cast(opened.authority)
        await cast.open()
        for name, query in queries().items():
            rule = OPERATIONS[name]
            for who in WHO:
                token = await cast.token(who)
                shown: dict[str, Any] = {} if token is None else {"token": token}
                async with opened.client() as client:
                    answer = await client.ask(query, **shown)
                    check(answer, rule, who, name)
                async with opened.client() as client:
                    answer = await client.ask(query, **({"access_token": token} if token else {}))
                    check(answer, rule, who, name)
                if who in ("nobody", "stranger"):
                    continue
                async with opened.client() as client:
                    told = await client.ask({"type": "Auth"}, token=token)
                    assert told["result"]["role"] == ("admin" if who == "program" else who)
                    check(await client.ask(query), rule, who, name)


def check(answer: dict[str, Any], rule: Rule, who: str, name: str) -> None:
    """Hold an answer against what the table says."""
    error = answer["error"]
    # A reader who asks for what is not held is told so; that is an answer about data.
    about_data = error is not None and NOT_HELD in error["message"]
    refused = error is not None and error["code"] in DENIED and not about_data
    assert refused is not allowed(rule, who), (who, name, answer)
    if refused:
        assert answer["kind"] == "Unauthorized"


async def test_the_kind_of_a_token_is_no_way_around(tmp_path: Path) -> None:
    """A refresh token is no access token, and a cookie's counts as a bearer's only while it may."""
    async with web(tmp_path, auth=True) as opened:
        one = await person(opened.authority, "admin")
        for token in (one.pair.refresh, "-", "gapless_at_", "x" * 5_000):
            response = await opened.client.get("/v1/users", headers=bearer(token))
            assert response.status_code == 401, token[:20]
        assert Kind.REFRESH not in {grant.kind for grant in opened.authority.tokens.all()}
