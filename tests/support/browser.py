"""A real browser: the system's chromium, driven by playwright."""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path

from playwright.async_api import BrowserContext, ConsoleMessage, Page, async_playwright

from support.programs import program
from support.wire import PATIENCE_S

# Nothing but what the test opens: no update checks, no first-run pages.
_FLAGS = (
    "--no-sandbox",
    "--disable-gpu",
    "--disable-quic",
    "--no-first-run",
    "--disable-background-networking",
    "--disable-component-update",
    "--disable-sync",
)


@asynccontextmanager
async def browser(folder: Path) -> AsyncIterator[Page]:
    """Open chromium with nothing in it; yield a page that fails at any script error or alert."""
    chromium = program("chromium", "chromium")
    async with async_playwright() as playwright:
        context: BrowserContext = await playwright.chromium.launch_persistent_context(
            str(folder / "browser"),
            executable_path=chromium,
            args=list(_FLAGS),
            headless=True,
            timeout=PATIENCE_S * 1000,
        )
        page = context.pages[0]
        page.set_default_timeout(PATIENCE_S * 1000)
        wrong: list[str] = []

        def note(told: ConsoleMessage) -> None:
            # An answer's status is the test's own business.
            if told.type == "error" and not told.text.startswith("Failed to load resource"):
                wrong.append(told.text)

        page.on("console", note)
        page.on("pageerror", lambda error: wrong.append(str(error)))
        page.on("dialog", lambda dialog: wrong.append(dialog.message))
        try:
            yield page
        finally:
            await context.close()
        assert not wrong, wrong
