"""The console for everybody: what axe says, on a phone, in light and dark, by keyboard and by ear."""

from pathlib import Path

import pytest
from chromium import chromium
from console_double import ScriptedApi
from console_page import DESKTOP, PHONE, VIEWS, Console, opened_console
from playwright.async_api import Browser, expect

pytestmark = [
    pytest.mark.console,
    pytest.mark.skipif(chromium() is None, reason="needs Chromium: apt-get install chromium"),
]
SHOTS = Path("var/console")
"""Screenshots of every view, to be looked at."""


async def fill(console: Console, view: str) -> None:
    """Have a view show all that it can."""
    page = console.page
    if view == "orders":
        await console.find("orders", "1001")
        await expect(page.locator("#found table")).to_have_count(3)
    if view == "quarantine":
        await page.get_by_role("checkbox").first.check()
        await page.get_by_role("button", name="Show").nth(1).click()
        await expect(page.locator("#delivery pre")).to_have_count(2)
    if view in {"unknown", "record"}:
        await expect(page.locator(f"#{view} tbody tr")).to_have_count(2)


@pytest.mark.parametrize("scheme", ["light", "dark"])
@pytest.mark.parametrize("viewport", [DESKTOP, PHONE], ids=["desktop", "phone"])
async def test_every_view_is_within_reach_of_everybody(
    browser: Browser, api: ScriptedApi, viewport: dict[str, int], scheme: str
) -> None:
    api.role = "admin"
    async with opened_console(browser, api.url, viewport=viewport, color_scheme=scheme) as console:
        await console.page.goto(console.url)
        assert await console.axe() == []
        await console.sign_in(api.token)
        for view in VIEWS:
            section = await console.go(view)
            await fill(console, view)
            for summary in await section.locator("summary").all():
                await summary.click()
            await console.page.screenshot(
                path=SHOTS / f"{view}-{viewport['width']}-{scheme}.png", full_page=True
            )
            assert await console.axe() == [], view
            assert await console.too_wide() == [], view
        await console.go("unknown")
        await console.page.get_by_role("button", name="Resolve").first.click()
        await console.page.screenshot(path=SHOTS / f"dialog-{viewport['width']}-{scheme}.png")
        assert await console.axe() == []
        width = await console.page.evaluate("document.documentElement.scrollWidth")
        assert width <= viewport["width"]


async def test_what_keeps_people_out_is_seen(console: Console, api: ScriptedApi) -> None:
    await console.page.goto(console.url)
    await console.page.evaluate(
        """() => {
            document.querySelector("label[for=token]").remove();
            document.querySelector("#sign-in > p:not([hidden])").style.color = "#999";
            document.querySelector("h1").style.cssText = "min-width: 2000px";
        }"""
    )
    assert {one.partition(":")[0] for one in await console.axe()} >= {"label", "color-contrast"}
    assert len(await console.too_wide()) == 1


async def test_everything_can_be_done_by_keyboard(console: Console, api: ScriptedApi) -> None:
    page = console.page
    await console.sign_in(api.token)
    await expect(page.get_by_role("heading", name="Now")).to_be_focused()
    await page.reload()
    await expect(page.locator("#connection")).to_contain_text("Live")
    await page.locator("#nav a").last.evaluate("document.activeElement.blur()")
    await page.locator("body").press("Tab")
    seen = await page.evaluate(
        """() => { const style = getComputedStyle(document.activeElement);
            return [document.activeElement.textContent, style.outlineStyle !== "none"]; }"""
    )
    assert seen[1] is True
    await page.get_by_role("link", name="Pools").focus()
    await page.keyboard.press("Enter")
    await expect(page.get_by_role("heading", name="Pools")).to_be_focused()
    change = page.get_by_role("button", name="Change twilio.rate_per_s")
    await expect(change).to_be_visible()
    for _ in range(12):
        await page.keyboard.press("Tab")
        if await change.evaluate("(one) => one === document.activeElement"):
            break
    await page.keyboard.press("Enter")
    dialog = page.get_by_role("dialog", name="Change twilio.rate_per_s?")
    await expect(dialog).to_be_visible()
    for _ in range(8):  # the focus stays inside, or goes to the browser's own buttons
        await page.keyboard.press("Tab")
        inside = (
            "document.activeElement.closest('dialog') !== null || document.activeElement === document.body"
        )
        assert await page.evaluate(inside)
    await page.keyboard.press("Escape")
    await expect(dialog).to_be_hidden()
    await expect(change).to_be_focused()


async def test_pictures_say_what_they_show(console: Console, api: ScriptedApi) -> None:
    await console.sign_in(api.token)
    flow = await console.page.locator("#flow svg").get_attribute("aria-label") or ""
    assert "Intake" in flow
    assert "a second" in flow
    assert "3 held" in flow
    spark = await console.page.locator("#kpis svg").first.get_attribute("aria-label") or ""
    assert spark.startswith("Orders a minute, over the last")
    await console.go("shards")
    await expect(console.page.locator("#ring path")).to_have_count(3)
    ring = await console.page.locator("#ring svg").get_attribute("aria-label") or ""
    assert "shard2" in ring


async def test_nothing_moves_for_who_wants_that(browser: Browser, api: ScriptedApi) -> None:
    for motion, animation in (("reduce", "none"), ("no-preference", "flow")):
        async with opened_console(browser, api.url, reduced_motion=motion) as console:
            await console.sign_in(api.token)
            edge = console.page.locator("#flow .edge.flows").first
            await expect(edge).to_be_attached()
            assert await edge.evaluate("(one) => getComputedStyle(one).animationName") == animation


async def test_targets_are_large_enough(browser: Browser, api: ScriptedApi) -> None:
    api.role = "admin"
    async with opened_console(browser, api.url, viewport=PHONE) as console:
        await console.sign_in(api.token)
        for view in VIEWS:
            await console.go(view)
            small = await console.page.evaluate(
                """() => [...document.querySelectorAll("button, nav a, input, select, summary")]
                    .filter((one) => one.getClientRects().length)
                    .map((one) => [one, one.getBoundingClientRect()])
                    .filter(([, {width, height}]) => height < 24 || width < 24)
                    .map(([one]) => one.outerHTML)"""
            )
            assert small == [], view
