"""The threats of docs/promises.md that are about who may come in, each by its name."""

from __future__ import annotations

import asyncio
import hashlib
import re
import resource
import statistics
import time
from collections.abc import AsyncIterator
from contextlib import AsyncExitStack, asynccontextmanager
from html.parser import HTMLParser
from itertools import product
from pathlib import Path
from typing import Any
from urllib.parse import quote

import httpx
import pytest

from gapless.auth.authority import AuthLimits
from gapless.errors import QuotaExceeded, Unauthorized
from gapless.servers.http.door import HttpLimits
from gapless.servers.http.receipt import ReceiptLimits
from gapless.servers.tcp import TcpLimits
from support.people import OTHER_PASSWORD, PASSWORD, api_token, bearer, person
from support.plugins import until
from support.providers import SteadyProvider
from support.web import Web, web
from support.wire import connect, connections, door, request, search

JANUARY = ("2024-01-01", "2024-02-01")
QUERY = search("steady", "ABC", *JANUARY)
CHANGING = ("POST", "PUT", "DELETE", "PATCH")
SAME_SITE = {"origin": "http://localhost", "sec-fetch-site": "same-origin"}


@asynccontextmanager
async def signed_in(opened: Web, email: str) -> AsyncIterator[httpx.AsyncClient]:
    """Yield a browser, as far as HTTP shows one, with its cookie."""
    home = f"http://localhost:{opened.port}"
    headers = {"accept": "text/html", "origin": home}
    async with httpx.AsyncClient(base_url=home, headers=headers, timeout=20) as browser:
        answer = await browser.post("/login", data={"email": email, "password": PASSWORD})
        assert answer.status_code == 303, answer.text
        yield browser


# A port that loads code stands open


async def test_a_port_that_loads_code_stands_open(tmp_path: Path) -> None:
    """Only an administrator loads it; the audit log has who, and the file's SHA-256."""
    file = tmp_path / "dummy.py"
    file.write_text(
        "class Provider:\n    def name(self): return 'dummy'\n"
        "    def fetch_entities(self, request): return []\n"
    )
    broken = tmp_path / "broken.py"
    broken.write_text("print('ran')\nraise SystemExit\n")
    async with web(tmp_path, auth=True) as opened:
        admin = await person(opened.authority, "admin")
        fetch = await person(opened.authority, "fetch")

        async def load(name: str, who: dict[str, str]) -> int:
            body = {"file": name}
            response = await opened.client.post("/plugins/load", json=body, headers=who)
            return response.status_code

        assert await load("dummy.py", fetch.bearer) == 403
        assert await load("dummy.py", {}) == 401
        assert opened.plugins.status() == []
        assert await load("dummy.py", admin.bearer) == 200
        assert await load("broken.py", admin.bearer) == 422
        program = bearer(await api_token(opened.authority, admin.email))
        reload = await opened.client.post("/v1/plugins/dummy/reload", headers=program)
        assert reload.status_code == 200
        gone = await opened.client.delete("/v1/plugins/dummy", headers=admin.bearer)
        assert gone.status_code == 200
        told = await opened.client.get("/v1/audit", headers=admin.bearer)
        deeds = [one for one in told.json()["deeds"] if one["action"].startswith("plugin")]
        sums = {one.name: hashlib.sha256(one.read_bytes()).hexdigest() for one in (file, broken)}
        assert [(one["actor"], one["action"], one["details"].get("sha256")) for one in deeds] == [
            (admin.email, "plugin unloaded", None),
            (admin.email, "plugin loaded", sums["dummy.py"]),
            (admin.email, "plugin not loaded", sums["broken.py"]),
            (admin.email, "plugin loaded", sums["dummy.py"]),
        ]


async def test_code_that_a_crash_brings_in_is_told_of(tmp_path: Path) -> None:
    """A file that was changed and not loaded again runs after a crash: the audit log has it."""
    file = tmp_path / "brittle.py"
    text = (
        "import os\nclass Provider:\n    def name(self): return 'brittle'\n"
        "    def fetch_entities(self, request): os._exit(1)\n"
    )
    file.write_text(text)
    async with web(tmp_path, auth=True) as opened:
        admin = await person(opened.authority, "admin")
        body = {"file": "brittle.py"}
        await opened.client.post("/plugins/load", json=body, headers=admin.bearer)
        file.write_text(text + "# changed\n")
        async with await connect(opened.tcp_port) as wire:
            await wire.ask(request("brittle", "GetEntity", id="x"), token=admin.pair.access)
        changed = hashlib.sha256(file.read_bytes()).hexdigest()

        who = "the hub, after a crash"
        await until(lambda: any(one.get("actor") == who for one in opened.logs))
        deeds = [one.deed for one in await opened.authority.audit.deeds(10)]
        loaded = [one for one in deeds if one.action == "plugin loaded"]
        assert [(one.actor, one.details["sha256"]) for one in loaded[:1]] == [(who, changed)]
        assert loaded[1].actor == admin.email
        opened.logged("error")


# Path and URL tricks in load requests


def tricks(folder: Path) -> list[dict[str, str]]:
    """Return a hundred requests for code that is not there, or not where it says."""
    ups = ["../" * n for n in range(1, 11)]
    targets = ("etc/passwd", "proc/self/environ", "dev/zero", "etc/shadow")
    files = [f"{up}{target}" for up, target in product(ups, targets)]
    files += [f"{scheme}://127.0.0.1/x.py" for scheme in ("http", "https", "file", "ftp", "data")]
    files += [
        "file:/x.py",
        "//127.0.0.1/x.py",
        "\\\\host\\x.py",
        "C:\\x.py",
        "~/x.py",
        "$HOME/x.py",
    ]
    files += ["x.py\0.txt", "", " ", ".", "..", "/", "x" * 5_000 + ".py", "\u202eyp.x", "x.py/"]
    files += [str(folder), f"{folder}/", "/dev/stdin", "/dev/fd/0", "/proc/self/exe", "/dev/null"]
    files += ["x.so", "x.pyc", "x.PY ", "x.py;rm", "%2e%2e/x.py", "..%2fx.py", "x.py?y", "x.py#y"]
    modules = [
        "os.path/../x",
        "..x",
        ".",
        "",
        "x y",
        "x;y",
        "__import__('os')",
        "1x",
        "a..b",
        "x\0",
    ]
    modules += [
        "http://x",
        "-c",
        "../x",
        "x" * 5_000,
        "é\u202e",
        "a.b.",
        "x\ny",
        "\\x",
        "%2e",
        "x/y",
    ]
    return [{"file": one} for one in files] + [{"module": one} for one in modules]


async def test_path_and_url_tricks_in_load_requests(tmp_path: Path) -> None:
    """A hundred of them: each refused in a sentence, nothing is loaded, nothing fetched."""
    requests = tricks(tmp_path)
    assert len(requests) >= 90
    requests += [
        {"file": "x.py", "project_base_dir": one}
        for one in ("http://x/", "/nowhere", "\0", "/etc/passwd", "x" * 5_000, "../" * 20 + "nope")
    ] * 2
    async with web(tmp_path, auth=True) as opened:
        admin = await person(opened.authority, "admin")
        assert len(requests) >= 100
        for body in requests:
            response = await opened.client.post("/plugins/load", json=body, headers=admin.bearer)
            assert response.status_code in (400, 422), (body, response.text)
            assert response.json()["ok"] is False
            assert "/etc/shadow:" not in response.text
            assert "root:x:0" not in response.text
        assert opened.plugins.status() == []


async def test_path_tricks_a_link_that_is_swapped(tmp_path: Path) -> None:
    """What is told and hashed is the file that was loaded, wherever a link points later."""
    good, evil, link = tmp_path / "good.py", tmp_path / "evil.py", tmp_path / "link.py"
    text = (
        "class Provider:\n    def name(self): return '{}'\n"
        "    def fetch_entities(self, request): return []\n"
    )
    good.write_text(text.format("good"))
    evil.write_text(text.format("evil"))
    link.symlink_to(good)
    async with web(tmp_path, auth=True) as opened:
        admin = await person(opened.authority, "admin")
        loaded = await opened.client.post(
            "/plugins/load", json={"file": "link.py"}, headers=admin.bearer
        )
        assert loaded.json()["name"] == "good"
        link.unlink()
        link.symlink_to(evil)
        again = await opened.client.post("/v1/plugins/good/reload", headers=admin.bearer)
        assert again.json()["file"] == str(good)
        assert again.json()["sha256"] == hashlib.sha256(good.read_bytes()).hexdigest()


# Cross-site requests, and DNS rebinding


async def test_cross_site_requests_with_a_cookie(tmp_path: Path) -> None:
    """All methods by all headers that another page's request could have: nothing is done."""
    hostile: list[dict[str, str]] = [
        {"sec-fetch-site": "cross-site"},
        {"sec-fetch-site": "same-site"},
        {"origin": "http://evil.example"},
        {"origin": "http://localhost:1"},
        {"origin": "https://localhost"},
        {"origin": "null"},
        {"origin": "http://localhost.evil.example"},
        {},
    ]
    paths = ("/account/tokens", "/logout", "/v1/tokens", "/v1/users", "/plugins/load")
    async with web(tmp_path, auth=True) as opened:
        admin = await person(opened.authority, "admin")
        async with signed_in(opened, admin.email) as browser:
            del browser.headers["origin"]
            before = len(opened.authority.tokens.all())
            for method, path, headers in product(CHANGING, paths, hostile):
                form = path in ("/logout", "/account/tokens")
                response = await browser.request(
                    method,
                    path,
                    headers=headers,
                    data={"name": "evil", "read": "on"} if form else None,
                    json={"name": "evil"} if not form else None,
                )
                assert response.status_code == 403, (method, path, headers, response.text[:200])
            assert len(opened.authority.tokens.all()) == before
            # The cookie itself stays at home: it goes with no request from elsewhere.
            (cookie,) = browser.cookies.jar
            assert cookie.has_nonstandard_attr("HttpOnly")
            assert cookie.get_nonstandard_attr("SameSite") == "Strict"
            assert not cookie.secure
            page = await browser.get("/account")
            assert page.status_code == 200


async def test_off_this_machine_a_cookie_goes_over_tls_alone(tmp_path: Path) -> None:
    """A browser that speaks plainly over a network is told; one behind TLS gets a Secure one."""
    limits = HttpLimits(hosts=("hub.example",))
    async with web(tmp_path, auth=True, limits=limits) as opened:
        await opened.authority.users.add("ann@example.com", PASSWORD, "admin", "test")
        form = {"email": "ann@example.com", "password": PASSWORD}
        plain = await opened.client.post(
            "/login", data=form, headers={"host": "hub.example", "origin": "http://hub.example"}
        )
        assert plain.status_code == 403
        assert "takes TLS" in plain.text
        assert "set-cookie" not in plain.headers
        proxied = await opened.client.post(
            "/login", data=form, headers={"host": "hub.example", "origin": "https://hub.example"}
        )
        assert proxied.status_code == 303
        assert proxied.headers["set-cookie"].endswith("HttpOnly; SameSite=Strict; Secure")


# Setup hijacked


async def test_setup_hijacked_a_hundred_at_once(tmp_path: Path) -> None:
    """Exactly one becomes the administrator, and only with the key."""
    async with web(tmp_path, auth=True) as opened:
        key = opened.authority.sessions.open_setup()

        async def set_up(number: int) -> int:
            form = {"email": f"u{number}@example.com", "password": PASSWORD}
            async with httpx.AsyncClient(base_url=opened.url, timeout=60) as client:
                for wrong in ("", key[:-1], key + "x"):
                    refused = await client.post(f"/setup?key={wrong}", data=form)
                    assert refused.status_code in (403, 410)
                return (await client.post(f"/setup?key={key}", data=form)).status_code

        statuses = await asyncio.gather(*(set_up(number) for number in range(100)))
        assert sorted(statuses) == [200] + [410] * 99
        (only,) = opened.authority.users.all()
        assert only.user.role == "admin"
        # For good: the page is closed, and so is the form.
        assert (await opened.client.get(f"/setup?key={key}")).status_code == 410
        late = {"email": "late@example.com", "password": PASSWORD}
        assert (await opened.client.post(f"/setup?key={key}", data=late)).status_code == 410
        key = opened.authority.sessions.open_setup()
        assert (await opened.client.post(f"/setup?key={key}", data=late)).status_code == 410
        assert len(opened.authority.users.all()) == 1


# Guessing, enumeration


async def test_guessing_a_thousand_times(tmp_path: Path) -> None:
    """From one address a handful is looked at, then there is a wait that grows; right or wrong."""
    async with web(tmp_path, auth=True) as opened:
        await opened.authority.users.add("ann@example.com", PASSWORD, "admin", "test")
        sessions = opened.authority.sessions
        looked_at = refused = 0
        waits: list[float] = []

        async def guess(number: int) -> None:
            nonlocal looked_at, refused
            try:
                await sessions.sign_in("Ann@example.com ", f"guess number {number}", "10.0.0.1")
            except QuotaExceeded as error:
                refused += 1
                waits.append(error.retry_after_s or 0)
            except Unauthorized:
                looked_at += 1

        for start in range(0, 1_000, 100):
            await asyncio.gather(*(guess(number) for number in range(start, start + 100)))
        assert looked_at + refused == 1_000
        assert looked_at <= 12, looked_at
        assert max(waits) >= 1
        # The right one has to wait as well, from there; from elsewhere the user comes in.
        with pytest.raises(QuotaExceeded):
            await sessions.sign_in("ann@example.com", PASSWORD, "10.0.0.1")
        assert (await sessions.sign_in("ann@example.com", PASSWORD, "10.0.0.2")).access
        response = await opened.client.post(
            "/v1/auth/login", json={"email": "ann@example.com", "password": PASSWORD}
        )
        assert response.status_code == 200


async def test_guessing_at_many_accounts_from_one_address(tmp_path: Path) -> None:
    """Spraying one password over many addresses ends too; over HTTP it is a 429 that says when."""
    async with web(tmp_path, auth=True) as opened:
        statuses = []
        for number in range(60):
            response = await opened.client.post(
                "/v1/auth/login",
                json={"email": f"u{number}@example.com", "password": OTHER_PASSWORD},
            )
            statuses.append(response.status_code)
        assert set(statuses) == {401, 429}
        assert statuses.index(429) == 50
        assert int(response.headers["retry-after"]) >= 1
        assert response.json()["code"] == "overloaded"


async def test_enumeration_costs_as_much_for_who_is_not_known(tmp_path: Path) -> None:
    """Neither words nor time tell whether there is such a user."""
    async with web(tmp_path, auth=True) as opened:
        sessions = opened.authority.sessions
        for number in range(8):
            await opened.authority.users.add(f"u{number}@example.com", PASSWORD, "read", "test")
        times: dict[str, list[float]] = {"known": [], "unknown": []}
        words = set()
        for number in range(8):
            for kind, email in (("known", f"u{number}"), ("unknown", f"x{number}")):
                for attempt in range(3):
                    address = f"10.{attempt}.0.{number}"
                    started = time.process_time()
                    with pytest.raises(Unauthorized) as told:
                        await sessions.sign_in(f"{email}@example.com", OTHER_PASSWORD, address)
                    # The processor's time, for the machine may be doing something else.
                    times[kind].append(time.process_time() - started)
                    words.add(told.value.message)
        assert words == {"the email address or the password is wrong"}
        known, unknown = (statistics.median(times[kind]) for kind in ("known", "unknown"))
        assert 0.7 < known / unknown < 1.4, (known, unknown)


async def test_guessing_two_hundred_sign_in_while_queries_run(tmp_path: Path) -> None:
    """All of them come in, at most two are worked on at once, and queries are answered beside."""
    async with web(tmp_path, SteadyProvider(), auth=True) as opened:
        one = await person(opened.authority, "fetch")
        body = {"email": one.email, "password": PASSWORD}
        memory = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
        async with AsyncExitStack() as stack:
            (wire,) = await stack.enter_async_context(connections(opened.tcp_port, 1))
            asks = await person(opened.authority, "fetch", "bob@example.com")
            assert (await wire.ask({"type": "Auth"}, token=asks.pair.access))["ok"]
            assert (await wire.ask(QUERY))["ok"]

            async def latencies(while_true: asyncio.Future[Any] | None, count: int) -> list[float]:
                found: list[float] = []
                while (while_true is not None and not while_true.done()) or len(found) < count:
                    started = time.perf_counter()
                    assert (await wire.ask(QUERY))["ok"]
                    found.append(time.perf_counter() - started)
                    await asyncio.sleep(0.001)
                return sorted(found)

            alone = await latencies(None, 300)
            client = await stack.enter_async_context(
                httpx.AsyncClient(
                    base_url=opened.url, timeout=60, limits=httpx.Limits(max_connections=200)
                )
            )
            logins = asyncio.gather(*(client.post("/v1/auth/login", json=body) for _ in range(200)))
            beside = await latencies(logins, 300)
            statuses = {response.status_code for response in await logins}
        assert statuses == {200}
        grown = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - memory
        # Two hashes at once take 38 MiB; two hundred would take 3.8 GiB.
        assert grown < 300 << 10, f"{grown} KiB"
        half, middle = alone[len(alone) // 2], beside[len(beside) // 2]
        assert middle < max(10 * half, 0.05), (half, middle)
        # A user is signed in so many times at the most; the oldest give way.
        assert len(opened.authority.tokens.of(opened.authority.users.get(one.email))) == 100


# Memory before login


async def test_memory_before_login_a_thousand_silent_clients(tmp_path: Path) -> None:
    """Each may hold 64 KiB and a moment; then it is told why, and hung up on."""
    limits = TcpLimits(token_s=2.0)
    half_a_line = b'{"query": "' + b"x" * 60_000
    async with door(tmp_path, auth=True, limits=limits) as opened:
        before = resident()
        async with connections(opened.port, 1_000) as clients:
            for number, client in enumerate(clients):
                if number % 2:
                    client.write(half_a_line)
            most = 0
            for number, client in enumerate(clients):
                rest = await client.rest()
                most = max(most, resident())
                assert rest.count(b"\n") == 1, (number, rest[:200])
                assert b'"missing_token"' in rest
                assert b"access.token_s" in rest
        # Those that said half a line may have 64 KiB each, here and in our own client.
        assert most - before < 2 * 500 * (64 << 10) + (48 << 20), most - before
        assert not opened.server.connections


async def test_memory_before_login_a_line_too_long(tmp_path: Path) -> None:
    """Before a token 64 KiB are the most; after it, as much as for everybody."""
    long = "x" * 100_000
    async with door(tmp_path, SteadyProvider(), auth=True) as opened:
        one = await person(opened.authority, "read")
        async with opened.client() as client:
            await client.send(b'{"token": "%b", "query": {"a": "%b"}}\n' % (b"t", long.encode()))
            rest = await client.rest()
            assert b'"line_too_long"' in rest
            assert b"access.max_bytes_before_token" in rest
            assert rest.count(b"\n") == 1
        async with opened.client() as client:
            assert (await client.ask({"type": "Auth"}, token=one.pair.access))["ok"]
            ids = {"GetEntities": {"ids": [long]}}
            payload = {"provider": "steady", "request": ids}
            answer = await client.ask({"type": "ProviderRequest", "payload": payload})
            assert answer["error"]["code"] == "not_found"


async def test_memory_before_login_silent_clients_of_http(tmp_path: Path) -> None:
    """Slow heads and bodies of strangers end at the shorter deadline; those of others may go on."""
    receipt = ReceiptLimits(receive_s=30, token_s=0.5)
    async with web(tmp_path, auth=True, limits=HttpLimits(receipt=receipt)) as opened:
        one = await person(opened.authority, "read")
        head = (
            b"POST /v1/auth/login HTTP/1.1\r\nhost: localhost\r\n"
            b"content-type: application/json\r\ncontent-length: 99\r\n\r\n{"
        )
        async with connections(opened.port, 100) as clients:
            for number, client in enumerate(clients):
                client.write((b"", b"GET / HT", head)[number % 3])
            for client in clients:
                rest = await client.rest()
                assert rest.startswith(b"HTTP/1.1 408 ")
                assert b"access.token_s" in rest
        async with await opened.wire() as wire:
            start = b"GET /providers HTTP/1.1\r\nhost: localhost\r\n"
            shown = f"authorization: Bearer {one.pair.access}\r\n".encode()
            await wire.send(start + shown + b"\r\n")
            assert (await wire.line()).startswith(b"HTTP/1.1 200 ")
            await wire.send(start)
            await asyncio.sleep(0.7)
            await wire.send(shown + b"connection: close\r\n\r\n")
            assert b"HTTP/1.1 200 " in await wire.rest()


async def test_memory_before_login_bodies_are_small(tmp_path: Path) -> None:
    """What needs no token takes 16 KiB; what needs one is refused before its body is read."""
    async with web(tmp_path, auth=True) as opened:
        body = {"email": "a@b.c", "password": "x" * 20_000}
        response = await opened.client.post("/v1/auth/login", json=body)
        assert response.status_code == 413
        for path in ("/setup", "/login"):
            opened.authority.sessions.open_setup() if path == "/setup" else None
            if path == "/login":
                await opened.authority.users.add("a@b.c", PASSWORD, "admin", "test")
            response = await opened.client.post(path, data={"email": "x" * 20_000})
            assert response.status_code == 413, path
        async with await opened.wire() as wire:
            await wire.send(
                b"POST /v1/query HTTP/1.1\r\nhost: localhost\r\n"
                b"content-type: application/json\r\ncontent-length: 4000000\r\n\r\n"
            )
            assert (await wire.line()).startswith(b"HTTP/1.1 401 ")


def resident() -> int:
    """Return how many bytes of memory this process has."""
    pages = int(Path("/proc/self/statm").read_text().split()[1])
    return pages * resource.getpagesize()


# Script injection

PAYLOADS = [
    f"{before}{core}{after}"
    for before, after in (("", ""), ('"', '"'), ("'>", "<'"), ("</style>", ""), ("</title>", ""))
    for core in (
        "<script>alert(1)</script>",
        "<img src=x onerror=alert(1)>",
        "<svg/onload=alert(1)>",
        "javascript:alert(1)",
        "{{7*7}}",
        "<a href=javascript:alert(1)>x</a>",
        "<iframe srcdoc='<script>alert(1)</script>'>",
        "&#60;script&#62;alert(1)",
        "<form action=//evil.example><button>",
        "\u2028<script>1</script>",
    )
]


class Tags(HTMLParser):
    """Collects what a browser would make of a page."""

    def __init__(self) -> None:
        super().__init__()
        self.tags: list[str] = []
        self.attributes: list[tuple[str, str]] = []

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.append(tag)
        self.attributes += [(name, value or "") for name, value in attrs]


def check_page(response: httpx.Response) -> Tags:
    """See that a page has only what its templates have, and lets in nothing else."""
    policy = response.headers["content-security-policy"]
    assert policy.startswith("default-src 'none'; style-src 'sha256-")
    assert "script-src" not in policy
    assert "unsafe" not in policy
    assert response.headers["x-content-type-options"] == "nosniff"
    assert response.headers["referrer-policy"] == "same-origin"
    assert response.headers["cache-control"] == "no-store"
    found = Tags()
    found.feed(response.text)
    assert not {"script", "img", "svg", "iframe", "object", "base"} & set(found.tags)
    for name, value in found.attributes:
        assert not name.startswith("on")
        if name in ("href", "action"):
            assert re.match(r"/(?!/)", value), value
    return found


@pytest.mark.parametrize("payload", PAYLOADS)
async def test_script_injection(tmp_path: Path, payload: str) -> None:
    """In addresses, names of tokens, errors, keys, tickers and providers: shown, never run."""
    async with web(tmp_path, SteadyProvider(), auth=True) as opened:
        key = opened.authority.sessions.open_setup()
        form = {"email": payload, "password": PASSWORD, "key": payload}
        client = opened.client
        for response in (
            await client.get("/setup", params={"key": payload[:100]}),
            await client.post("/setup", data=form),
            await client.post(f"/setup?key={key}", data=form),
        ):
            check_page(response)
        one = await person(opened.authority, "admin")
        for response in (
            await client.get("/login", params={"next": payload}),
            await client.post("/login", params={"next": f"/{payload}"}, data=form),
        ):
            check_page(response)
        async with signed_in(opened, one.email) as browser:
            name = "".join(char for char in payload if char.isprintable())
            made = await browser.post("/account/tokens", data={"name": name, "read": "on"})
            page = check_page(made)
            assert ("id", "api-token") in page.attributes
            again = await browser.post(
                "/account/tokens", data={"name": name, "read": "on", "days": payload}
            )
            assert again.status_code == 400
            check_page(again)
            check_page(await browser.get("/account"))
        # What programs get is no page, whatever is in it.
        told = quote(payload, safe="")
        for path in (f"/providers/{told}/ping", f"/v1/data/{told}/{told}", f"/{told}"):
            response = await client.get(path, headers=one.bearer)
            assert response.headers["content-type"] == "application/problem+json", path
            assert response.headers["x-content-type-options"] == "nosniff"


@pytest.mark.parametrize(
    "to",
    [
        "//evil.example",
        "https://evil.example",
        "/\\evil.example",
        "\\\\evil.example",
        "javascript:alert(1)",
        "/%0d%0aset-cookie:x=y",
        "/\r\nset-cookie: x=y",
        "http:evil.example",
        "///evil.example",
        "/login",
        "",
    ],
)
async def test_signing_in_leads_nowhere_else(tmp_path: Path, to: str) -> None:
    """Whatever the address says, one ends up on a page of this hub's."""
    async with web(tmp_path, auth=True) as opened:
        await opened.authority.users.add("ann@example.com", PASSWORD, "admin", "test")
        response = await opened.client.post(
            "/login",
            params={"next": to},
            data={"email": "ann@example.com", "password": PASSWORD},
        )
        assert response.status_code == 303
        assert re.fullmatch(r"/[^/\\\\][!-~]*", response.headers["location"])
        assert len(response.headers.get_list("set-cookie")) == 1


# Quotas


async def test_requests_a_second(tmp_path: Path) -> None:
    """One user's budget is that of all their tokens, on both doors; others have their own."""
    limits = AuthLimits(requests_per_s=5, burst=10)
    async with web(tmp_path, SteadyProvider(), auth=True, auth_limits=limits) as opened:
        ann = await person(opened.authority, "fetch", "ann@example.com")
        bob = await person(opened.authority, "fetch", "bob@example.com")
        program = await api_token(opened.authority, ann.email)
        async with AsyncExitStack() as stack:
            (wire,) = await stack.enter_async_context(connections(opened.tcp_port, 1))
            answers = [await wire.ask(QUERY, token=program) for _ in range(30)]
            good = [one for one in answers if one["ok"]]
            over = [one["error"] for one in answers if not one["ok"]]
            assert 10 <= len(good) <= 14
            assert {one["code"] for one in over} == {"overloaded"}
            assert all(one["retry_after_s"] > 0 for one in over)
            response = await opened.client.get("/providers", headers=ann.bearer)
            assert response.status_code == 429
            assert response.headers["retry-after"] == "1"
            assert (await wire.ask(QUERY, token=bob.pair.access))["ok"]
            assert (await opened.client.get("/providers", headers=bob.bearer)).status_code == 200
