"""What an operator does with the console, clicked through in Chromium on a real stack."""

import json
from collections.abc import AsyncIterator
from typing import Any

import pytest
from api_site import Api, running_api
from chromium import chromium
from console_page import Console, opened_console
from flow import Flow
from ledger import Intake, Ledger
from playwright.async_api import Browser, expect
from real_stack import Bench, customer_event, invoice_event, order_event

from consumers.api.callers import Access
from consumers.console.routes import console_routes

pytestmark = [
    pytest.mark.console,
    pytest.mark.integration,
    pytest.mark.skipif(chromium() is None, reason="needs Chromium: apt-get install chromium"),
]
SCRIPT = "<img src=x onerror=alert(1)>"
TURNED = f"{SCRIPT}\u202eda\x85"
HOSTILE = "\"><script>alert(2)</script><img/src=x/onerror=alert(3)>#%2F?/../'--"


@pytest.fixture
async def api(bench: Bench) -> AsyncIterator[Api]:
    async with running_api(bench.settings, bench.cluster, more_routes=console_routes()) as running:
        yield running


@pytest.fixture
async def console(browser: Browser, api: Api) -> AsyncIterator[Console]:
    async with opened_console(browser, f"http://127.0.0.1:{api.port}/console") as page:
        yield page


async def held(bench: Bench, *bodies: bytes) -> None:
    flow = Flow(bench)
    await flow.processor.start()
    flow.give(*bodies)
    await flow.until_acknowledged(len(bodies))
    await flow.processor.stop()
    assert flow.crashes == []


async def on_record(api: Api, what: str) -> dict[str, Any]:
    """Return the last entry of a kind."""
    found: dict[str, Any] = (await api.get(f"/v1/audit?what={what}&limit=1", Access.ADMIN))["entries"][0]
    return found


async def test_how_everything_is(console: Console, api: Api, bench: Bench) -> None:
    await Intake(bench).write(order_event("n-1"))
    await Intake(bench).write(invoice_event("n-1"))
    await Ledger(bench).unknown(2)
    await console.sign_in(api.token())
    page = console.page
    await expect(page.locator("#kpi-orders")).to_have_text("3")
    await expect(page.locator("#kpi-invoices")).to_have_text("1")
    await expect(page.locator("#flow .node")).to_have_count(8)
    await expect(page.locator("#attention")).to_contain_text("2 messages of unknown outcome")
    shards = await console.go("shards")
    await expect(shards.locator("tbody tr")).to_have_count(2)
    await expect(shards.locator("tbody tr").first).to_contain_text("streaming")
    await expect(shards.locator("#ring path")).to_have_count(2)
    await expect(shards.locator("#ring")).to_contain_text(f"epoch {bench.cluster.shard_map.epoch}")
    await shards.get_by_role("button", name="shard1").click()
    await expect(shards.locator("#ring path.dim")).to_have_count(1)


async def test_an_order_is_found_with_its_timeline(console: Console, api: Api, bench: Bench) -> None:
    intake = Intake(bench)
    for event in (order_event("a-1"), invoice_event("a-1"), customer_event("c-1")):
        await intake.write(event)
    await console.sign_in(api.token())
    found = await console.find("orders", "a-1")
    await expect(found.get_by_role("heading", name="Order a-1")).to_be_focused()
    await expect(found).to_contain_text("a…@example.com")
    await expect(found).not_to_contain_text("Ada Example")
    timeline = found.get_by_role("table", name="Timeline")
    await expect(timeline).to_contain_text("stored")
    await expect(timeline).to_contain_text("owed")
    found = await console.find("customers", "c-1")
    await found.get_by_role("button", name="a-1").click()
    await expect(console.page.get_by_role("heading", name="Order a-1")).to_be_visible()
    found = await console.find("invoices", "inv-a-1")
    await expect(found.get_by_role("button", name="Order a-1")).to_be_visible()
    found = await console.find("orders", "nowhere")
    await expect(found).to_contain_text("Nothing is known by this id.")


async def test_hostile_ids_and_names_are_texts(console: Console, api: Api, bench: Bench) -> None:
    customer = {"id": HOSTILE, "name": TURNED, "email": "x@example.com", "phone": "+14155550123"}
    lines = [{"sku": SCRIPT, "title": TURNED, "quantity": 1, "unit_price": "1.00"}]
    await Intake(bench).write(order_event(HOSTILE, customer=customer, lines=lines))
    await held(bench, SCRIPT.encode(), json.dumps({"id": HOSTILE, "specversion": SCRIPT}).encode())
    await console.sign_in(api.token(Access.OPERATE))
    found = await console.find("orders", HOSTILE)
    await expect(found.get_by_role("heading", name="<script>alert(2)</script>")).to_be_visible()
    await expect(found.locator("dl")).to_contain_text(SCRIPT + r"\u202eda\u0085")
    await expect(await console.find("customers", HOSTILE)).to_contain_text("Customer")
    quarantine = await console.go("quarantine")
    await expect(quarantine.locator("tbody tr")).to_have_count(2)
    for show in await quarantine.get_by_role("button", name="Show").all():
        await show.click()
        await expect(console.page.locator("#delivery pre.body")).to_contain_text(SCRIPT)
    assert await console.page.locator("img, main script, iframe").count() == 0


async def test_a_delivery_in_quarantine_is_published_again(console: Console, api: Api, bench: Bench) -> None:
    await held(bench, b"not json", b'{"half": ')
    await console.sign_in(api.token(Access.OPERATE, subject="ada"))
    await expect(console.page.locator("#badge-quarantine")).to_have_text("2")
    quarantine = await console.go("quarantine")
    again = quarantine.get_by_role("button", name="Publish again")
    await expect(again).to_be_disabled()
    await expect(quarantine.get_by_role("button", name="Drop")).to_be_disabled()
    await quarantine.get_by_role("checkbox").first.check()
    await again.click()
    dialog = console.page.get_by_role("dialog", name="Publish 1 delivery again?")
    await expect(dialog).to_contain_text("You act as ada (operate)")
    await dialog.get_by_role("button", name="Cancel").click()
    assert (await api.get("/v1/quarantine?state=redriven"))["deliveries"] == []
    await again.click()
    await dialog.get_by_role("button", name="Publish again").click()
    await console.said("1 of 1 delivery published again by ada.")
    await expect(quarantine.locator("tbody tr")).to_have_count(1)
    entry = await on_record(api, "quarantine.redrive")
    assert (entry["actor"], entry["outcome"], entry["detail"]) == ("api ada", "done", "1 of 1")
    await quarantine.get_by_label("State").select_option("redriven")
    await expect(quarantine.locator("tbody tr")).to_have_count(1)
    await expect(quarantine.get_by_role("checkbox")).to_be_disabled()


async def test_a_delivery_is_dropped_by_an_admin_and_it_is_on_record(
    console: Console, api: Api, bench: Bench
) -> None:
    await held(bench, b"not json")
    await console.sign_in(api.token(Access.ADMIN, subject="grace"))
    quarantine = await console.go("quarantine")
    await quarantine.get_by_role("checkbox").check()
    await quarantine.get_by_role("button", name="Drop").click()
    await console.page.get_by_role("dialog").get_by_role("button", name="Drop").click()
    await console.said("1 of 1 delivery dropped by grace.")
    await expect(quarantine).to_contain_text("No delivery is in this state.")
    record = await console.go("record")
    row = record.locator("tbody tr").first
    await expect(row).to_contain_text("api grace")
    await expect(row).to_contain_text("quarantine.drop")


async def test_an_unknown_message_is_resolved(console: Console, api: Api, bench: Bench) -> None:
    await Ledger(bench).unknown(2)
    await console.sign_in(api.token(Access.OPERATE, subject="ada"))
    await expect(console.page.locator("#badge-unknown")).to_have_text("2")
    unknown = await console.go("unknown")
    effects = (await api.get("/v1/effects"))["effects"]
    await unknown.get_by_role("button", name=f"Resolve order_sms {effects[0]['effect_id']}").click()
    dialog = console.page.get_by_role("dialog")
    await dialog.get_by_label("What became of it").select_option("accepted")
    await dialog.get_by_role("button", name="Resolve").click()
    assert (await api.get("/v1/effects"))["effects"] == effects  # nothing is done without a reason
    await dialog.get_by_label("How you know").fill("it is in the provider's log")
    await dialog.get_by_label("The provider's id").fill("SM1")
    await dialog.get_by_role("button", name="Resolve").click()
    await console.said("accepted by ada.")
    await expect(unknown.locator("tbody tr")).to_have_count(1)
    await expect(unknown.get_by_role("heading")).to_be_focused()  # its button is gone
    resolved = (await api.get(f"/v1/effects/{effects[0]['effect_id']}"))["effect"]
    assert (resolved["state"], resolved["provider_id"]) == ("accepted", "SM1")
    await unknown.get_by_role("button", name=effects[1]["order_id"], exact=True).click()
    await expect(console.page.locator("#found")).to_contain_text("outcome unknown")


async def test_who_comes_second_is_told(console: Console, api: Api, bench: Bench) -> None:
    await Ledger(bench).unknown(1)
    [effect] = (await api.get("/v1/effects"))["effects"]
    await console.sign_in(api.token(Access.OPERATE))
    unknown = await console.go("unknown")
    await unknown.get_by_role("button", name="Resolve").click()
    body = {"seen": "unknown", "to": "abandoned", "because": "somebody was faster"}
    await api.send("POST", f"/v1/effects/{effect['effect_id']}/resolution", body)
    dialog = console.page.get_by_role("dialog")
    await dialog.get_by_label("How you know").fill("I am slow")
    await dialog.get_by_role("button", name="Resolve").click()
    await expect(dialog.get_by_role("alert")).to_have_text("Not done: it is abandoned by now")
    await console.page.keyboard.press("Escape")
    await expect(dialog).to_be_hidden()


async def test_a_limit_is_changed_and_taken_off(console: Console, api: Api) -> None:
    await console.sign_in(api.token(Access.OPERATE, subject="ada"))
    pools = await console.go("pools")
    row = pools.locator("tbody tr").filter(has_text="twilio.concurrency")
    await row.get_by_role("button", name="Change").click()
    dialog = console.page.get_by_role("dialog", name="Change twilio.concurrency?")
    await dialog.get_by_label("New value").fill("1000000")
    await dialog.get_by_role("button", name="Change").click()
    await expect(dialog).to_be_visible()  # beyond the ceiling
    await dialog.get_by_label("New value").fill("8")
    await dialog.get_by_label("How long").select_option("for an hour")
    await dialog.get_by_role("button", name="Change").click()
    await console.said("twilio.concurrency: set to 8 by ada.")
    await expect(row).to_contain_text("api ada")
    await console.go("now")
    await expect(console.page.locator("#attention")).to_contain_text("1 limit set by operators")
    await console.go("pools")
    await row.get_by_role("button", name="Take twilio.concurrency off").click()
    await console.page.get_by_role("dialog").get_by_role("button", name="Take off").click()
    await console.said("twilio.concurrency: taken off by ada.")
    await expect(row).not_to_contain_text("api ada")
    assert (await on_record(api, "limits.remove"))["actor"] == "api ada"


async def test_who_only_reads_can_change_nothing(console: Console, api: Api, bench: Bench) -> None:
    await held(bench, b"not json")
    await Ledger(bench).unknown(1)
    await console.sign_in(api.token())
    for view, names in {
        "quarantine": ("Publish again", "Drop", "Show"),
        "unknown": ("Resolve",),
        "pools": ("Change",),
    }.items():
        section = await console.go(view)
        for name in names:
            await expect(section.get_by_role("button", name=name).first).to_be_disabled()
    await expect(console.page.locator("#nav-record")).to_be_hidden()
    assert [one for one in console.requested if "/v1/audit" in one] == []
