"""What the console says is so, no more and no less: of limits, of what was done, of rings and allocators."""

import asyncio
import json
from collections.abc import Awaitable, Callable
from typing import Any

import msgspec
import pytest
from chromium import chromium
from console_double import ScriptedApi
from console_overview import overview_at
from console_page import Console, until
from playwright.async_api import Locator, Route, expect

pytestmark = [
    pytest.mark.console,
    pytest.mark.skipif(chromium() is None, reason="needs Chromium: apt-get install chromium"),
]


async def answer(route: Route, status: int, body: Any) -> None:
    await route.fulfill(status=status, content_type="application/json", body=json.dumps(body))


async def asked_to_publish(console: Console, status: int, body: Any) -> Locator:
    """Publish all three deliveries again, have the server answer with `body`, and return the dialog."""
    return await asked_to_publish_by(console, lambda route: answer(route, status, body))


async def asked_to_publish_by(console: Console, answering: Callable[[Route], Awaitable[None]]) -> Locator:
    """Do the same where the answer is given by a function."""
    await console.page.route("**/v1/quarantine/redrive", answering)
    quarantine = await console.go("quarantine")
    await expect(quarantine.locator("tbody tr")).to_have_count(3)
    for box in await quarantine.get_by_role("checkbox").all():
        await box.check()
    await quarantine.get_by_role("button", name="Publish again").click()
    dialog = console.page.get_by_role("dialog")
    await dialog.get_by_role("button", name="Publish again").click()
    return dialog


@pytest.mark.parametrize(
    ("key", "whose"),
    [("twilio.rate_per_s", "of all processes together"), ("smtp.concurrency", "of each process")],
)
async def test_whose_a_limit_is_goes_by_its_unit(
    console: Console, api: ScriptedApi, key: str, whose: str
) -> None:
    await console.sign_in(api.token)
    pools = await console.go("pools")
    await expect(pools).to_contain_text("Calls: of each process. Messages per second: of all together.")
    row = pools.locator("tbody tr").filter(has_text=key)
    await expect(row).to_contain_text(whose)
    await row.get_by_role("button", name=f"Change {key}").click()
    await expect(console.page.get_by_role("dialog").locator("small")).to_contain_text(f", {whose}.")


@pytest.mark.parametrize("status", [500, 502, 503, 504])
async def test_of_what_the_server_does_not_answer_nobody_knows_whether_it_was_done(
    console: Console, api: ScriptedApi, status: int
) -> None:
    await console.sign_in(api.token)
    dialog = await asked_to_publish(console, status, {"detail": "too much is under way"})
    alert = dialog.get_by_role("alert")
    await expect(alert).to_contain_text("It is not known whether this was done: too much is under way.")
    await expect(alert).to_contain_text("Refresh the list")
    await expect(alert).not_to_contain_text("Not done")
    await expect(alert).not_to_contain_text("Record")  # who operates cannot read it


async def test_nor_of_what_is_cut_off_on_its_way(console: Console, api: ScriptedApi) -> None:
    api.role = "admin"
    await console.sign_in(api.token)
    await console.page.route("**/v1/limits/*", lambda route: route.abort())
    pools = await console.go("pools")
    await pools.get_by_role("button", name="Change smtp.concurrency").click()
    dialog = console.page.get_by_role("dialog")
    await dialog.get_by_role("button", name="Change").click()
    alert = dialog.get_by_role("alert")
    await expect(alert).to_contain_text("not known whether this was done: the server cannot be reached.")
    await expect(alert).to_contain_text("The list of limits shows what is in force.")
    await expect(alert).to_contain_text("Record has how it ended.")


async def test_what_was_refused_was_not_done(console: Console, api: ScriptedApi) -> None:
    await console.sign_in(api.token)
    dialog = await asked_to_publish(console, 429, {"detail": "too many requests"})
    await expect(dialog.get_by_role("alert")).to_have_text("Not done: too many requests")


async def test_who_leaves_the_dialog_hears_how_it_ended(console: Console, api: ScriptedApi) -> None:
    """And a dialog that was opened meanwhile stays."""
    await console.sign_in(api.token)
    may_answer = asyncio.Event()

    async def late(route: Route) -> None:
        await may_answer.wait()
        await answer(route, 503, {"detail": "too much is under way"})

    dialog = await asked_to_publish_by(console, late)
    await dialog.press("Escape")
    await console.said("Publish again: under way.")
    await console.page.get_by_role("button", name="Publish again").click()
    may_answer.set()
    await console.said("Publish again: It is not known whether this was done: too much is under way.")
    await expect(dialog).to_be_visible()
    await expect(dialog.get_by_role("alert")).to_be_empty()


async def test_what_was_done_is_done_though_the_list_cannot_be_read_again(
    console: Console, api: ScriptedApi
) -> None:
    await console.sign_in(api.token)
    lists = 0

    async def listed_once(route: Route) -> None:
        nonlocal lists
        lists += 1
        if lists == 1:
            await route.continue_()
        else:
            await answer(route, 503, {"detail": "shard1 is away"})

    await console.page.route("**/v1/quarantine?*", listed_once)
    dialog = await asked_to_publish(console, 200, {"done": 3, "still_held": 0, "problems": [], "away": []})
    await console.said("3 of 3 deliveries published again by ada.")
    await console.said("What is shown is from before: shard1 is away")
    await expect(dialog).to_be_hidden()


@pytest.mark.parametrize(
    ("told", "why"),
    [
        ({"done": 0, "away": ["shard2"]}, "shard2 does not answer: what is there is as it was."),
        ({"done": 3, "still_held": 2}, "Of these 2 are held still: came again, or on the move."),
        ({"done": 1}, "2 were no longer held."),
        ({"done": 2, "problems": ["3fa9: cannot be written again"]}, "3fa9: cannot be written again"),
    ],
)
async def test_why_not_all_were_published_again(
    console: Console, api: ScriptedApi, told: dict[str, Any], why: str
) -> None:
    await console.sign_in(api.token)
    body = {"done": 0, "still_held": 0, "problems": [], "away": []}
    await asked_to_publish(console, 200, {**body, **told})
    said = f"{told['done']} of 3 deliveries published again by ada. {why}"
    await expect(console.page.locator("#said")).to_have_text(said)


async def test_news_do_not_take_the_place_of_what_came_of_a_deed(console: Console, api: ScriptedApi) -> None:
    await console.sign_in(api.token)
    await asked_to_publish(console, 200, {"done": 3, "still_held": 0, "problems": [], "away": []})
    await console.said("3 of 3 deliveries published again by ada.")
    api.changes = {"held": 0}
    await console.said("3 of 3 deliveries published again by ada. Over: 3 in quarantine")


async def test_a_ring_of_an_instance_that_is_behind_is_asked_for_again(
    console: Console, api: ScriptedApi
) -> None:
    asked = 0

    async def ring(route: Route) -> None:
        nonlocal asked
        asked += 1
        arcs = [{"first": 0, "last": 4095, "shard": 0}]
        epoch = 6 if asked == 1 else 7
        await answer(route, 200, {"epoch": epoch, "slot_count": 4096, "shards": ["shard0"], "arcs": arcs})

    await console.page.route("**/v1/ring", ring)
    await console.sign_in(api.token)
    await console.go("shards")
    await expect(console.page.locator("#ring")).to_contain_text("epoch 7")
    assert asked == 2  # and not with every overview


async def test_each_host_has_a_line_of_its_allocator(console: Console, api: ScriptedApi) -> None:
    """The freshest word of each, in the order of their names; who is silent has none that counts."""
    worker = overview_at(api.at).processes[0]

    def told(process: str, age_s: float, workers: int) -> Any:
        return msgspec.structs.replace(
            worker, process_id=process, age_s=age_s, workers=workers, decision=f"why {workers}"
        )

    first, second = told("node-b:1:1.0", 0.1, 3), told("node-a:2:1.0", 0.2, 5)
    older, silent = told("node-a:3:1.0", 1.9, 4), told("node-c:4:1.0", 14.0, 9)
    api.changes = {"processes": (first, second, older, silent), "process_count": 4}
    await console.sign_in(api.token)
    await console.go("processes")
    lines = console.page.locator("#allocator li")
    expected = [
        "Allocator of node-a: 5 workers, bottleneck provider: why 5",
        "Allocator of node-b: 3 workers, bottleneck provider: why 3",
    ]
    await expect(lines).to_have_text(expected)
    api.changes = {"processes": (second, first, older, silent), "process_count": 4}
    sent = api.sent
    await until(lambda: api.sent > sent + 3, "more figures")
    await expect(lines).to_have_text(expected)
