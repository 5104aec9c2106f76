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

PHONE = "+14155550123"
QUICK = {"notifications_grace_window_s": "0"}


@pytest.fixture
def listening() -> dict[str, str]:
    """Overrides with which a pipeline listens and has messages ask for callbacks."""
    port = choose_port("public", set())
    return {
        **QUICK,
        "public_port": str(port),
        "public_base_url": f"http://{HOST}:{port}",
        "public_secret": SECRET,
    }


async def until_state(bench: Bench, state: str, order_id: str = "o-1") -> dict[str, Any]:
    async def is_there() -> bool:
        return (await sms_row(bench, order_id))["state"] == state

    await bench.until(is_there, f"the SMS is {state}")
    return await sms_row(bench, order_id)


async def test_what_the_provider_says_is_in_the_ledger(bench: Bench, run_pipeline, listening) -> None:
    with run_pipeline(**listening):
        await bench.publish(order_event("o-1"))
        row = await until_state(bench, "delivered")
        status = await bench.until_quiet(1)
    [sms] = await bench.sms()
    assert (row["provider"], row["provider_id"], row["provider_status"]) == (
        "twilio",
        sms["sid"],
        "delivered",
    )
    assert row["accepted_at"] <= row["settled_at"]
    assert status.accounting.balances


async def test_a_message_that_did_not_arrive_says_why(bench: Bench, run_pipeline, listening) -> None:
    await bench.twilio("behaviour", {"delivery": {"status": "undelivered", "error_code": 30003}})
    with run_pipeline(**listening):
        await bench.publish(order_event("o-1"))
        row = await until_state(bench, "undelivered")
        status = await bench.until_quiet(1)
    assert row["reason"] == "30003"
    assert status.accounting.balances


async def test_a_callback_that_comes_before_the_reply_is_not_overwritten_by_it(
    bench: Bench, run_pipeline, listening
) -> None:
    hang = {"on": "create", "action": "hang", "hang_ms": 1500}
    await bench.twilio("behaviour", {"delivery": {"delay_ms": 10}, "faults": [hang]})
    with run_pipeline(**listening):
        await bench.publish(order_event("o-1"))
        row = await until_state(bench, "delivered")
    # The drain waited for the reply, and recorded the receipt of who sent the message.
    assert await sms_row(bench) == row
    assert (await bench.until_quiet(1)).accounting.balances
    assert len(await bench.sms()) == 1


async def test_a_callback_settles_what_a_lost_reply_left_unknown(
    bench: Bench, run_pipeline, listening
) -> None:
    """The first evidence there is: nobody has to be asked, and nothing is sent again."""
    drop = {"on": "create", "action": "accept_then_drop"}
    await bench.twilio("behaviour", {"delivery": {"delay_ms": 600}, "faults": [drop]})
    with run_pipeline(**listening, effects_ask_after_s="600", notifications_lease_s="300"):
        await bench.publish(order_event("o-1"))
        row = await until_state(bench, "delivered")
    notes = await bench.rows("SELECT what, actor FROM effect_note ORDER BY at")
    [sms] = await bench.sms()
    assert row["provider_id"] == sms["sid"]
    assert ("resolved", "callbacks") in {(note["what"], note["actor"]) for note in notes}


async def test_a_callback_with_a_wrong_signature_changes_nothing(
    bench: Bench, run_pipeline, listening
) -> None:
    forged = {"on": "callback", "action": "bad_signature"}
    await bench.twilio("behaviour", {"delivery": {"delay_ms": 10}, "faults": [forged]})
    with run_pipeline(**listening):
        await bench.publish(order_event("o-1"))
        row = await until_state(bench, "accepted")
        await bench.twilio("wait?callbacks=3&timeout_s=20")
        assert await sms_row(bench) == row
    assert row["provider_status"] is None


async def test_stop_and_start_from_a_handset(bench: Bench, run_pipeline, listening) -> None:
    inbound_url = f"{listening['public_base_url']}/twilio/inbound"
    await bench.twilio("behaviour", {"inbound_url": inbound_url})
    recipients = Recipients(bench.cluster, clock=SystemClock())
    with run_pipeline("--only", "public", **listening):
        await bench.until(lambda: is_listening(listening), "the listener is there")
        for body, state, reason in (("Stop.", "out", "stop"), ("start", "in", "start")):
            await text_from_handset(bench, body)

            async def is_told(state: str = state, reason: str = reason) -> bool:
                row = await recipients.show(Channel.SMS, PHONE)
                return (row.state, row.reason) == (state, reason)

            await bench.until(is_told, f"{body!r} is in the book")


async def is_listening(listening: dict[str, str]) -> bool:
    try:
        async with aiohttp.ClientSession() as http, http.get(listening["public_base_url"]) as answer:
            return answer.status == 404
    except aiohttp.ClientError:
        return False


async def text_from_handset(bench: Bench, body: str) -> None:
    async with aiohttp.ClientSession() as http:
        text = {"From": PHONE, "To": "+15005550006", "Body": body}
        async with http.post(f"{bench.stack.twilio.api_url}/inbound", json=text) as answer:
            assert answer.status == 200, await answer.text()
