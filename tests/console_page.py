"""The console in Chromium, as somebody uses it; afterwards the page must have done nothing wrong."""

import asyncio
import re
import time
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from importlib.resources import files
from typing import Any, Self

from chromium import chromium
from playwright.async_api import Browser, ConsoleMessage, Locator, Page, async_playwright, expect

DESKTOP, PHONE = {"width": 1280, "height": 860}, {"width": 375, "height": 780}
VIEWS = ("now", "orders", "quarantine", "unknown", "pools", "shards", "processes", "record")
# What Chromium itself says of an answer that is an error: the page shows it, too.
_EXPECTED = re.compile(r"Failed to load resource: (the server responded with a status of|net::ERR_)")
expect.set_options(timeout=15_000)
_AXE = files("axe_playwright_python").joinpath("axe.min.js")
_AXE_RUN = """async () => (await axe.run(document, {resultTypes: ["violations"]})).violations
    .flatMap((one) => one.nodes.map((node) => `${one.id}: ${node.target} ${node.failureSummary}`))"""


async def until(condition: Callable[[], Any], what: str, timeout_s: float = 20.0) -> None:
    """Wait until a condition of the test's own holds, looking 50 times a second."""
    deadline = time.monotonic() + timeout_s
    while not condition():
        assert time.monotonic() < deadline, f"not within {timeout_s} s: {what}"
        await asyncio.sleep(0.02)


class Console:
    """A page of the console. `wrong`: what scripts or the policy complained of."""

    def __init__(self, page: Page, url: str) -> None:
        self.page = page
        self.url = url
        self.wrong: list[str] = []
        self.requested: list[str] = []
        page.set_default_timeout(15_000)
        page.on("console", self._hear)
        page.on("pageerror", lambda error: self.wrong.append(str(error)))
        page.on("request", lambda request: self.requested.append(request.url))
        page.on("dialog", lambda dialog: self.wrong.append(f"dialog: {dialog.message}"))

    def _hear(self, message: ConsoleMessage) -> None:
        if message.type in {"error", "warning"} and not _EXPECTED.match(message.text):
            self.wrong.append(message.text)

    async def sign_in(self, token: str) -> Self:
        """Open the page, paste a token, and wait for the first figures."""
        await self.page.goto(self.url)
        await self.paste(token)
        await expect(self.page.locator("#connection")).to_contain_text("figures of")
        return self

    async def paste(self, token: str) -> None:
        await self.page.get_by_label("Token").fill(token)
        await self.page.keyboard.press("Enter")

    async def go(self, view: str) -> Locator:
        """Go to a view and return it."""
        await self.page.locator(f'nav a[href="#{view}"]').click()
        section = self.page.locator(f"section#{view}")
        await expect(section).to_be_visible()
        return section

    async def said(self, text: str) -> None:
        """Wait until the page says something."""
        await expect(self.page.locator("#said")).to_contain_text(text)

    async def find(self, by: str, name: str) -> Locator:
        """Search for an order, a customer or an invoice; return what is shown."""
        await self.go("orders")
        await self.page.get_by_label("Find", exact=True).select_option(by)
        await self.page.get_by_label("Id", exact=True).fill(name)
        await self.page.keyboard.press("Enter")
        await expect(self.page.locator("#found > :first-child")).to_be_visible()
        return self.page.locator("#found")

    async def axe(self) -> list[str]:
        """Return what axe finds wrong with the page as it is."""
        await self.page.evaluate(_AXE.read_text(encoding="utf-8"))
        found: list[str] = await self.page.evaluate(_AXE_RUN)
        return found

    async def too_wide(self) -> list[str]:
        """Return the elements that stick out of the page, but for those inside what scrolls by itself."""
        found: list[str] = await self.page.evaluate(
            """() => [...document.querySelectorAll("body *")]
                .filter((one) => one.getClientRects().length && !one.closest(".scroll, pre, .skip"))
                .filter((one) => one.getBoundingClientRect().right > innerWidth + 0.5)
                .map((one) => one.outerHTML.slice(0, 80))"""
        )
        return found

    async def metrics(self) -> dict[str, float]:
        """Return what the page holds after its garbage is collected: nodes, listeners, bytes of heap."""
        session = await self.page.context.new_cdp_session(self.page)
        await session.send("HeapProfiler.collectGarbage")
        await session.send("Performance.enable")
        found = await session.send("Performance.getMetrics")
        await session.detach()
        return {one["name"]: one["value"] for one in found["metrics"]}


@asynccontextmanager
async def opened_browser() -> AsyncIterator[Browser]:
    """Run Debian's Chromium without a window."""
    async with async_playwright() as playwright:
        browser = await playwright.chromium.launch(
            executable_path=chromium(),
            args=["--no-sandbox", "--disable-gpu"],  # root has no sandbox of its own
        )
        try:
            yield browser
        finally:
            await browser.close()


@asynccontextmanager
async def opened_console(browser: Browser, url: str, **options: Any) -> AsyncIterator[Console]:
    """Open a page with a storage of its own. `options`: of playwright's context."""
    context = await browser.new_context(**{"viewport": DESKTOP, **options})
    try:
        console = Console(await context.new_page(), url)
        yield console
        assert console.wrong == []
        assert [one for one in console.requested if not one.startswith(url.removesuffix("/console"))] == []
    finally:
        await context.close()
