"""The threats of docs/promises.md that are about who may come in, each by its name."""

from __future__ import annotations

import asyncio
import hashlib
import re
from contextlib import AsyncExitStack
from itertools import product
from pathlib import Path

import httpx
import pytest

from support.clock import ManualClock
from support.people import PASSWORD, api_token, bearer, person
from support.plugins import until
from support.providers import SteadyProvider
from support.web import signed_in, web
from support.wire import PATIENCE_S, PATIENT, but, connect, connections, request, search

JANUARY = ("2024-01-01", "2024-02-01")
QUERY = search("steady", "ABC", *JANUARY)
CHANGING = ("POST", "PUT", "DELETE", "PATCH")
SAME_SITE = {"origin": "http://localhost", "sec-fetch-site": "same-origin"}


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
    settings = but(PATIENT, api={"hosts": "hub.example"})
    async with web(tmp_path, auth=True, settings=settings) as opened:
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


async def test_setup_hijacked_by_guessing_at_the_key(tmp_path: Path) -> None:
    """Another key brings no further than none, whether it is looked at or sent; both are counted.

    Who does set up is signed in by that.
    """
    async with web(tmp_path, auth=True) as opened:
        key = opened.authority.sessions.open_setup()
        form = {"email": "ann@example.com", "password": PASSWORD}
        for wrong in (key[:-1], f"{key}x", "x", "ключ"):
            for method in ("GET", "POST"):
                sent = form if method == "POST" else None
                response = await opened.client.request(
                    method, "/setup", params={"key": wrong}, data=sent
                )
                assert response.status_code == 403, (method, wrong)
                assert "that is not the key" in response.text
                assert 'name="key"' in response.text
        for right in ({}, {"key": key}):
            assert (await opened.client.get("/setup", params=right)).status_code == 200
        assert opened.authority.users.all() == []
        made = await opened.client.post("/setup", params={"key": key}, data=form)
        assert made.status_code == 200
        (ann,) = opened.authority.users.all()
        assert ann.user.signed_in_at is not None
        token = re.search(r'id="access-token">([^<]+)<', made.text)
        assert token is not None
        figures = (await opened.get("/metrics", authorization=f"Bearer {token[1]}")).text
        (counted,) = re.findall(r'gapless_requests_total\{.*"forbidden"\} (\S+)', figures)
        assert float(counted) == 8


@pytest.mark.slow
async def test_setup_hijacked_a_hundred_at_once(tmp_path: Path) -> None:
    """Exactly one becomes the administrator, and only with the key."""
    async with web(tmp_path, auth=True) as opened:
        key = opened.authority.sessions.open_setup()

        async def set_up(number: int) -> int:
            form = {"email": f"u{number}@example.com", "password": PASSWORD}
            async with httpx.AsyncClient(base_url=opened.url, timeout=PATIENCE_S) as client:
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


# Quotas


async def test_requests_a_second(tmp_path: Path) -> None:
    """One user's budget is that of all their tokens, on both doors; others have their own."""
    settings = but(PATIENT, access={"rate": 4, "burst": 10})
    async with web(
        tmp_path, SteadyProvider(), auth=True, settings=settings, clock=ManualClock()
    ) as opened:
        ann = await person(opened.authority, "fetch", "ann@example.com")
        bob = await person(opened.authority, "fetch", "bob@example.com")
        program = await api_token(opened.authority, ann.email)
        async with AsyncExitStack() as stack:
            (wire,) = await stack.enter_async_context(connections(opened.tcp_port, 1))
            answers = [await wire.ask(QUERY, token=program) for _ in range(30)]
            good = [one for one in answers if one["ok"]]
            over = [one["error"] for one in answers if not one["ok"]]
            assert len(good) == 10
            assert {one["code"] for one in over} == {"overloaded"}
            assert all(one["retry_after_s"] > 0 for one in over)
            response = await opened.client.get("/providers", headers=ann.bearer)
            assert response.status_code == 429
            assert response.headers["retry-after"] == "1"
            assert (await wire.ask(QUERY, token=bob.pair.access))["ok"]
            assert (await opened.client.get("/providers", headers=bob.bearer)).status_code == 200
