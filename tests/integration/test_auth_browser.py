"""A browser goes through setup from the printed address, signs in, makes a token, signs out."""

from __future__ import annotations

from pathlib import Path

import httpx
import pytest

from support.browser import browser
from support.commands import hub
from support.people import OTHER_PASSWORD, PASSWORD, bearer
from support.wire import PATIENCE_S

ANN = "ann@example.com"


@pytest.mark.slow
async def test_from_the_printed_address_to_signing_out(tmp_path: Path) -> None:
    """Every page as a person meets it, with what they type, and what the tokens are good for."""
    async with hub(tmp_path / "hub.db", "--auth") as running, browser(tmp_path) as page:
        assert running.setup is not None
        # What needs somebody leads to where one becomes somebody.
        await page.goto(f"{running.http}/docs")
        assert page.url == f"{running.http}/setup"
        await page.goto(f"{running.setup}x")
        assert "not the key" in await page.get_by_role("alert").inner_text()
        assert await page.get_by_label("Setup key").count() == 1
        await page.goto(running.setup)
        await page.get_by_label("Email address").fill(ANN)
        await page.get_by_label("Password", exact=True).fill(PASSWORD)
        await page.get_by_label("Password again").fill(OTHER_PASSWORD)
        await page.get_by_role("button", name="Create the administrator").click()
        assert "not the same" in await page.get_by_role("alert").inner_text()
        assert await page.get_by_label("Email address").input_value() == ANN
        await page.get_by_label("Password", exact=True).fill(PASSWORD)
        await page.get_by_label("Password again").fill(PASSWORD)
        await page.get_by_role("button", name="Create the administrator").click()
        access = await page.locator("#access-token").inner_text()
        refresh = await page.locator("#refresh-token").inner_text()
        async with httpx.AsyncClient(base_url=running.http, timeout=PATIENCE_S) as client:
            me = await client.get("/v1/auth/me", headers=bearer(access))
            assert me.json()["role"] == "admin"
            body = {"refresh_token": refresh}
            assert (await client.post("/v1/auth/refresh", json=body)).status_code == 200

            await page.get_by_role("link", name="sign in").click()
            await page.get_by_label("Email address").fill(ANN)
            await page.get_by_label("Password").fill("not the password")
            await page.get_by_role("button", name="Sign in").click()
            assert "is wrong" in await page.get_by_role("alert").inner_text()
            # What was right is kept, and one goes on typing where it was wrong.
            assert await page.get_by_label("Email address").input_value() == ANN
            focused = "document.activeElement.name"
            assert await page.evaluate(focused) == "password"
            weight = "getComputedStyle(document.activeElement).fontWeight"
            assert await page.evaluate(weight) == "400"
            await page.keyboard.type(PASSWORD)
            await page.get_by_role("button", name="Sign in").click()
            await page.wait_for_url(f"{running.http}/account")
            assert await page.get_by_label("Current password").count() == 1
            assert await page.get_by_text("gapless users").count() == 1
            (cookie,) = await page.context.cookies()
            assert cookie["httpOnly"]
            assert cookie["sameSite"] == "Strict"

            await page.get_by_label("Name").fill("notebook")
            await page.get_by_label("Good for").fill("30")
            await page.get_by_role("button", name="Make a token").click()
            token = await page.locator("#api-token").inner_text()
            told = await client.get("/v1/auth/me", headers=bearer(token))
            assert told.json()["scopes"] == ["fetch", "read"]
            assert (await client.get("/v1/users", headers=bearer(token))).status_code == 403
            await page.goto(f"{running.http}/account")
            assert token not in await page.content()
            await page.get_by_role("button", name="Revoke notebook").click()
            await page.wait_for_url(f"{running.http}/account")
            assert (await client.get("/v1/auth/me", headers=bearer(token))).status_code == 401

            await page.get_by_role("link", name="What there is").click()
            await page.wait_for_url(f"{running.http}/docs")
            assert await page.get_by_role("heading", name="gapless").count() == 1
            await page.get_by_role("link", name="Your account").click()
            await page.wait_for_url(f"{running.http}/account")
            await page.get_by_role("button", name="Sign out").click()
            await page.wait_for_url(f"{running.http}/login")
            assert await page.context.cookies() == []
            await page.goto(f"{running.http}/account")
            assert page.url == f"{running.http}/login?next=/account"
            # The cookie itself is over, not only gone from here.
            await page.context.add_cookies(
                [{"name": cookie["name"], "value": cookie["value"], "url": running.http}]
            )
            await page.goto(f"{running.http}/account")
            assert page.url == f"{running.http}/login?next=/account"
