"""A Chromium for tests: the system's own, without a window, that reaches one address of loopback and nothing else."""

from __future__ import annotations

import shutil
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

from playwright.async_api import BrowserContext, Route, async_playwright, expect

PROGRAM = "chromium"
PATIENCE_MS = 60_000
"""After that a word does not come; nothing is measured by it."""
WIDTH, HEIGHT = 1280, 800
_SWITCHES = (
    "--no-sandbox",  # it takes rights that root in a container lacks
    "--disable-gpu",
    "--disable-background-networking",
    "--disable-component-update",
    "--host-resolver-rules=MAP * ~NOTFOUND, EXCLUDE 127.0.0.1",
)


@asynccontextmanager
async def browser_on(origin: str) -> AsyncIterator[BrowserContext]:
    """A fresh profile whose pages begin at ``origin``; whatever they ask of another address fails."""
    expect.set_options(timeout=PATIENCE_MS)
    async with async_playwright() as playwright:
        browser = await playwright.chromium.launch(executable_path=shutil.which(PROGRAM), args=_SWITCHES)
        try:
            context = await browser.new_context(
                base_url=origin, viewport={"width": WIDTH, "height": HEIGHT}, color_scheme="light", timezone_id="UTC"
            )
            context.set_default_timeout(PATIENCE_MS)
            await context.route(lambda url: not url.startswith(f"{origin}/"), _refuse)
            yield context
        finally:
            await browser.close()


async def _refuse(route: Route) -> None:
    await route.abort()
