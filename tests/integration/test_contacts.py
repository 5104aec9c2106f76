"""Contact details and consent when a message is sent: where they come from."""

from typing import Any

import pytest
from customers import at
from real_stack import Bench, customer_event, order_event, text_of

pytestmark = pytest.mark.integration

QUICK = {"notifications_retry_base_s": "0.05", "notifications_retry_ceiling_s": "0.2"}


def order_of(order_id: str, customer_id: str, **contact: str) -> dict[str, Any]:
    return order_event(order_id, customer={"id": customer_id, **contact})


async def messages(bench: Bench, order_id: str) -> dict[str, tuple[str, str | None]]:
    rows = await bench.rows("SELECT channel, state, reason FROM outbox WHERE order_id = $1", order_id)
    return {row["channel"]: (row["state"], row["reason"]) for row in rows}


async def test_customers_get_what_they_want_where_they_are_by_now(bench: Bench, run_pipeline) -> None:
    with run_pipeline(notifications_grace_window_s="0", notifications_contact_wait_s="0.01", **QUICK):
        await bench.publish(
            customer_event("c-1", updated_at=at(1), name="Grace", phone="0151 23456789", country="DE"),
            customer_event("c-2", updated_at=at(1), phone="not a number", consent={"email": "out"}),
            customer_event("c-3", updated_at=at(1), consent={"sms": "out"}),
        )
        await bench.until_quiet(3)
        await bench.publish(
            order_of("o-1", "c-1"),
            order_of("o-2", "c-2"),
            order_of("o-3", "c-3", phone="+14155550199", email="own@example.com"),
            order_of("o-4", "c-4"),
        )
        status = await bench.until_quiet(7)
        assert await messages(bench, "o-2") == {
            "sms": ("suppressed", "invalid_phone"),
            "email": ("suppressed", "opted_out"),
        }
        assert await messages(bench, "o-3") == {
            "sms": ("suppressed", "opted_out"),
            "email": ("accepted", None),
        }
        assert set((await messages(bench, "o-4")).values()) == {("suppressed", "contact_unknown")}
        assert status.accounting.balances
        # What the book holds of c-1 and c-3 is old now.
        await bench.publish(
            customer_event("c-1", updated_at=at(2), email="new@example.com", phone=None),
            customer_event("c-3", updated_at=at(2), consent={"sms": "in"}),
        )
        await bench.until_quiet(9)
        await bench.publish(order_of("o-5", "c-1"), order_of("o-6", "c-3", phone="+14155550199"))
        await bench.until_quiet(11)
    mails = {mail["rcpt_tos"][0]: mail for mail in await bench.mails()}
    assert set(mails) == {"c-1@example.com", "own@example.com", "new@example.com"}
    assert "Hello Grace" in text_of(mails["c-1@example.com"])
    assert sorted(sms["to"] for sms in await bench.sms()) == ["+14155550199", "+4915123456789"]
    assert (await messages(bench, "o-5"))["sms"] == ("suppressed", "no_phone")


async def test_a_message_waits_for_a_customer_who_is_not_known_yet(bench: Bench, run_pipeline) -> None:
    async def waits() -> bool:
        return (await messages(bench, "o-1")).get("sms") == ("pending", "contact_unknown")

    with run_pipeline(**QUICK):
        await bench.publish(order_of("o-1", "c-1"))
        await bench.until(waits, "the SMS waits for its recipient")
        await bench.publish(customer_event("c-1"))

        async def is_sent() -> bool:
            return len(await bench.sms()) == 1

        await bench.until(is_sent, "the SMS is sent")
    [sms] = await bench.sms()
    assert sms["to"] == "+14155550123"
