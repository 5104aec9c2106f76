"""Callbacks from end to end: the emulator calls the listener, and the ledger knows what became of an SMS."""

from typing import Any

import aiohttp
import pytest
from public_site import SECRET, sms_row
from real_stack import Bench, order_event

from pipeline.clock import SystemClock
from pipeline.notifications.rules.recipients import Recipients
from pipeline.storage.outbox import Channel
from stack.ports import HOST, choose_port

pytestmark = pytest.mark.integration

PHONE, GONE, FORGED = "+14155550123", "+14155550124", "+14155550125"


@pytest.fixture
def listening() -> dict[str, str]:
    """Overrides with which a pipeline listens and has messages ask for callbacks."""
    port = choose_port("public", set())
    return {
        "notifications_grace_window_s": "0",
        "public_port": str(port),
        "public_base_url": f"http://{HOST}:{port}",
        "public_secret": SECRET,
    }


def order_to(order_id: str, phone: str) -> dict[str, Any]:
    return order_event(
        order_id, customer={"id": order_id, "name": "Ada", "email": "a@example.com", "phone": phone}
    )


async def until_state(bench: Bench, state: str, order_id: str = "o-1") -> dict[str, Any]:
    async def is_there() -> bool:
        return (await sms_row(bench, order_id))["state"] == state

    await bench.until(is_there, f"the SMS of {order_id} is {state}")
    return await sms_row(bench, order_id)


async def test_what_the_provider_says_is_in_the_ledger_and_what_a_forger_says_is_not(
    bench: Bench, run_pipeline, listening
) -> None:
    faults = [
        {
            "on": "delivery",
            "to": GONE,
            "action": "outcome",
            "final_status": "undelivered",
            "error_code": 30003,
        },
        {"on": "callback", "to": FORGED, "action": "bad_signature"},
    ]
    await bench.twilio("behaviour", {"delivery": {"delay_ms": 10}, "faults": faults})
    metrics_port = choose_port("management", set())
    with run_pipeline(**listening, ops_metrics_port=str(metrics_port)):
        await bench.publish(order_to("o-1", PHONE), order_to("o-2", GONE), order_to("o-3", FORGED))
        arrived = await until_state(bench, "delivered", "o-1")
        lost = await until_state(bench, "undelivered", "o-2")
        await bench.twilio("wait?callbacks=9&timeout_s=20")  # three of each message have come to an end
        forged = await sms_row(bench, "o-3")
        status = await bench.until_quiet(3)
        metrics = await page_of(metrics_port)
    assert 'postorder_accepted_to_delivered_seconds_count{channel="sms"} 1.0' in metrics
    assert 'postorder_callbacks_total{kind="status",outcome="not_genuine"}' in metrics
    sids = {sms["to"]: sms["sid"] for sms in await bench.sms()}
    assert (arrived["provider"], arrived["provider_id"]) == ("twilio", sids[PHONE])
    assert arrived["accepted_at"] <= arrived["settled_at"]
    assert (lost["reason"], lost["provider_status"]) == ("30003", "undelivered")
    assert (forged["state"], forged["provider_status"]) == ("accepted", None)
    assert status.accounting.balances


async def test_callbacks_before_the_reply_and_instead_of_it(bench: Bench, run_pipeline, listening) -> None:
    """A late reply overwrites nothing; of a lost one nobody has to be asked, and nothing is sent again."""
    faults = [
        {"on": "create", "to": PHONE, "action": "hang", "hang_ms": 1500},
        {"on": "create", "to": GONE, "action": "accept_then_drop"},
    ]
    await bench.twilio("behaviour", {"delivery": {"delay_ms": 300}, "faults": faults})
    never = {"effects_ask_after_s": "600", "notifications_lease_s": "300"}
    with run_pipeline(**listening, **never):
        await bench.publish(order_to("o-1", PHONE), order_to("o-2", GONE))
        early = await until_state(bench, "delivered", "o-1")
        await until_state(bench, "delivered", "o-2")
    # The drain waited for the reply that came late, and recorded the receipt of who sent the message.
    assert await sms_row(bench, "o-1") == early
    notes = await bench.rows("SELECT what, actor FROM effect_note")
    assert ("resolved", "callbacks") in {(note["what"], note["actor"]) for note in notes}
    assert len(await bench.sms()) == 2
    assert (await bench.until_quiet(2)).accounting.balances


async def test_stop_and_start_from_a_handset_and_one_click_from_a_mail(
    bench: Bench, run_pipeline, listening
) -> None:
    base = listening["public_base_url"]
    await bench.twilio("behaviour", {"inbound_url": f"{base}/twilio/inbound"})
    recipients = Recipients(bench.cluster, clock=SystemClock())
    with run_pipeline(**listening):
        await bench.publish(order_to("o-1", PHONE))
        await bench.until_quiet(1)
        for body, state in (("Stop.", "out"), ("start", "in")):
            await text_from_handset(bench, body)

            async def is_told(state: str = state) -> bool:
                return (await recipients.show(Channel.SMS, PHONE)).state == state

            await bench.until(is_told, f"{body!r} is in the book")
        [mail] = await bench.mails()
        headers = {name.lower(): value for name, value in mail["parsed"]["headers"]}
        assert headers["list-unsubscribe-post"] == "List-Unsubscribe=One-Click"
        link = headers["list-unsubscribe"].strip("<>")
        assert link.startswith(f"{base}/unsubscribe/")
        async with aiohttp.ClientSession() as http:
            async with http.get(link) as page:
                assert page.status == 200
            assert (await recipients.show(Channel.EMAIL, "a@example.com")).state is None
            async with http.post(link, data={"List-Unsubscribe": "One-Click"}) as clicked:
                assert clicked.status == 200
    row = await recipients.show(Channel.EMAIL, "a@example.com")
    assert (row.state, row.reason) == ("out", "unsubscribe")


async def page_of(port: int) -> str:
    async with aiohttp.ClientSession() as http, http.get(f"http://{HOST}:{port}/metrics") as page:
        return await page.text()


async def text_from_handset(bench: Bench, body: str) -> None:
    async with aiohttp.ClientSession() as http:
        text = {"From": PHONE, "To": "+15005550006", "Body": body}
        async with http.post(f"{bench.stack.twilio.api_url}/inbound", json=text) as answer:
            assert answer.status == 200, await answer.text()
