"""A console that is left open: what it does when the server is away, the token ends, or nobody looks."""

import asyncio
from datetime import timedelta

import pytest
from chromium import chromium
from console_double import ScriptedApi
from console_page import Console, opened_console, until
from playwright.async_api import Browser, expect

from consumers.api.overview import ShardNow

pytestmark = [
    pytest.mark.console,
    pytest.mark.skipif(chromium() is None, reason="needs Chromium: apt-get install chromium"),
]
HIDE = """([hidden]) => {
    Object.defineProperty(document, "hidden", {configurable: true, get: () => hidden});
    document.dispatchEvent(new Event("visibilitychange"));
}"""


async def test_a_broken_stream_is_asked_for_again_later_and_later(console: Console, api: ScriptedApi) -> None:
    await console.sign_in(api.token)
    api.stream_status = 503
    asked = api.asked["overview/stream"]
    api.break_off.set()
    await console.said("Not connected: the stream broke off. Trying again.")
    await expect(console.page.locator("#connection")).to_contain_text("Away")
    before = len(api.sent_at)
    await until(lambda: api.asked["overview/stream"] >= asked + 4, "asks again")
    gaps = [b - a for a, b in zip(api.sent_at[before - 1 :], api.sent_at[before:], strict=False)]
    assert len(gaps) >= 3
    assert gaps[0] >= 0.4
    assert gaps[2] > gaps[0] * 1.5, gaps  # at most 1 s, 2 s, 4 s; at least half
    api.break_off.clear()
    api.stream_status = 200
    await console.said("Connected again.")
    await expect(console.page.locator("#connection")).to_contain_text("Live")


async def test_a_stream_whose_time_is_over_is_followed_by_the_next(
    console: Console, api: ScriptedApi
) -> None:
    await console.sign_in(api.token)
    api.end_reason = "time"
    await until(lambda: api.asked["overview/stream"] >= 3, "the next streams")
    await expect(console.page.locator("#connection")).to_contain_text("Live")
    await expect(console.page.locator("#said")).to_be_empty()


async def test_a_stream_that_says_nothing_is_given_up(console: Console, api: ScriptedApi) -> None:
    api.pause_s = 60.0
    await console.sign_in(api.token)
    await expect(console.page.locator("#said")).to_contain_text("the stream is silent", timeout=20_000)
    assert api.streams <= 1


async def test_one_page_too_many_asks_by_itself(console: Console, api: ScriptedApi) -> None:
    api.stream_status = 429
    await console.sign_in(api.token)
    await expect(console.page.locator("#connection")).to_contain_text("Every 5 s")
    assert api.asked["overview"] == 1


async def test_a_hidden_page_asks_seldom_and_one_that_is_looked_at_at_once(
    console: Console, api: ScriptedApi
) -> None:
    await console.sign_in(api.token)
    await console.page.evaluate(HIDE, [True])
    await until(lambda: api.streams == 0 and api.asked["overview"] == 1, "the stream is given up")
    asked = api.asked.total()
    await asyncio.sleep(3)  # nothing is to happen
    assert api.asked.total() == asked
    await console.page.evaluate(HIDE, [False])
    await until(lambda: api.streams == 1, "a stream", timeout_s=3.0)


async def test_a_token_that_ends_is_asked_for_anew_and_nothing_personal_stays(
    console: Console, api: ScriptedApi
) -> None:
    await console.sign_in(api.token)
    await console.go("pools")
    await console.page.get_by_role("button", name="Change twilio.rate_per_s").click()
    await console.page.evaluate("document.getElementById('found').textContent = 'Ada Example'")
    api.token = "better"
    api.end_reason = "token"
    await expect(console.page.get_by_role("heading", name="Sign in")).to_be_visible()
    await expect(console.page.locator("#sign-in-why")).to_have_text("the token has ended")
    await expect(console.page.get_by_role("dialog")).to_be_hidden()
    await expect(console.page.get_by_label("Token")).to_be_focused()
    assert await console.page.locator("#found").text_content() == ""
    assert await console.page.evaluate("sessionStorage.length") == 0
    asked = api.asked.total()
    await asyncio.sleep(2)  # nothing is to happen
    assert api.asked.total() == asked
    api.end_reason = ""
    await console.paste("worse")
    await expect(console.page.locator("#sign-in-why")).to_have_text("token: expired")
    await console.paste(api.token)
    await expect(console.page.locator("#pools")).to_be_visible()  # where one was
    await until(lambda: api.streams == 1, "a stream")


async def test_the_token_is_sent_to_the_api_alone_and_never_in_a_url(
    console: Console, api: ScriptedApi
) -> None:
    api.token = "a-token-that-can-be-found-again"
    await console.sign_in(api.token)
    for view in ("orders", "pools", "shards"):
        await console.go(view)
    assert [url for url in console.requested if api.token in url] == []
    assert await console.page.evaluate("[localStorage.length, document.cookie, location.search]") == [
        0,
        "",
        "",
    ]
    assert api.token not in await console.page.content()
    await console.page.reload()  # the tab still has it
    await expect(console.page.locator("#connection")).to_contain_text("Live")
    await console.page.get_by_role("button", name="Sign out").click()
    await expect(console.page.get_by_role("heading", name="Sign in")).to_be_visible()
    assert await console.page.evaluate("sessionStorage.length") == 0
    other = await console.page.context.new_page()
    await other.goto(console.url)
    await expect(other.get_by_role("heading", name="Sign in")).to_be_visible()


async def test_another_role_sees_its_own_page(console: Console, api: ScriptedApi) -> None:
    await console.sign_in(api.token)
    await console.go("pools")
    await expect(console.page.get_by_role("button", name="Change twilio.rate_per_s")).to_be_enabled()
    await console.page.evaluate("window.former = true")
    api.end_reason, api.role = "token", "read"
    await expect(console.page.get_by_role("heading", name="Sign in")).to_be_visible()
    api.end_reason = ""
    await console.paste(api.token)
    await expect(console.page.locator("#who")).to_have_text("ada, read")
    assert await console.page.evaluate("window.former") is None  # nothing of before is left
    await expect(console.page.get_by_role("button", name="Change twilio.rate_per_s")).to_be_disabled()


async def test_a_server_that_is_away_at_first_is_waited_for(console: Console, api: ScriptedApi) -> None:
    await console.sign_in(api.token)
    await console.page.route("**/v1/**", lambda route: route.abort())
    await console.page.reload()
    await expect(console.page.locator("#sign-in-why")).to_have_text("the server cannot be reached")
    await console.page.unroute("**/v1/**")
    await expect(console.page.locator("#now")).to_be_visible()


async def test_an_answer_of_something_in_between_is_told_apart(console: Console, api: ScriptedApi) -> None:
    await console.sign_in(api.token)
    await console.page.route("**/v1/limits", lambda route: route.fulfill(body="<html>Please sign in</html>"))
    await console.go("pools")
    await console.said("Not done: the answer cannot be read")


async def test_many_shards_with_one_trouble_are_one_line(console: Console, api: ScriptedApi) -> None:
    away = tuple(ShardNow(name=f"s{number}", weight=1, slots=10, is_reachable=False) for number in range(400))
    api.changes = {"shards": away, "problems": ()}
    await console.sign_in(api.token)
    await expect(console.page.locator("#attention")).to_contain_text(
        "400 shards: the primary does not answer"
    )
    assert await console.page.locator("#attention li").count() < 10


async def test_what_comes_and_goes_is_said_and_figures_are_not(console: Console, api: ScriptedApi) -> None:
    api.changes = {"problems": (), "moves": (), "limits": (), "held": 0}
    await console.sign_in(api.token)
    said = console.page.locator("#said")
    sent = api.sent
    await until(lambda: api.sent > sent + 5, "figures")
    await expect(said).to_be_empty()
    api.changes = {**api.changes, "held": 4}
    await expect(said).to_have_text("4 in quarantine")
    api.changes = {**api.changes, "held": 0}
    await expect(said).to_have_text("Over: 4 in quarantine")
    live = await console.page.locator("[aria-live], [role=status], [role=log]").all()
    assert [await one.get_attribute("id") for one in live] == ["said"]


async def kept(console: Console, api: ScriptedApi) -> dict[str, float]:
    """What the page keeps: the least of several looks while it has little to do, and makes no garbage."""
    api.pause_s, pause_s = 1.0, api.pause_s
    looks = [await console.metrics() for _ in range(8)]
    api.pause_s = pause_s
    return {name: min(look[name] for look in looks) for name in looks[0]}


async def test_a_day_needs_no_more_memory_than_an_hour(browser: Browser, api: ScriptedApi) -> None:
    """A day's figures, as fast as the page takes them."""
    async with opened_console(browser, api.url) as console:
        await console.sign_in(api.token)
        api.pause_s, api.step = 0.005, timedelta(seconds=15)
        await until(lambda: api.sent > 800, "an hour and more", 60)
        before = await kept(console, api)
        await until(lambda: api.sent > 800 + 5760, "a day", 110)
        after = await kept(console, api)
    assert after["Nodes"] <= before["Nodes"] + 50, (before, after)
    assert after["JSEventListeners"] <= before["JSEventListeners"] + 5
    assert after["JSHeapUsedSize"] < before["JSHeapUsedSize"] + 1_500_000, (before, after)
