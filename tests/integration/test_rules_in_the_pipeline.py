"""The rules of sending from end to end: what is held back or refused, and what goes in its time."""

from datetime import UTC, datetime, timedelta
from zoneinfo import ZoneInfo

import pytest
from real_stack import Bench, order_event

pytestmark = pytest.mark.integration

BERLIN, NEW_YORK = "+4915123456789", "+12125550123"


def order(name: str, phone: str) -> dict:
    return order_event(name, customer={"id": f"c-{name}", "email": f"{name}@example.com", "phone": phone})


async def sms(bench: Bench) -> dict[str, tuple[str, str | None, int]]:
    rows = await bench.rows("SELECT order_id, state, reason, attempts FROM outbox WHERE channel = 'sms'")
    return {row["order_id"]: (row["state"], row["reason"], row["attempts"]) for row in rows}


async def test_the_daily_cap_holds_back_until_the_next_day(bench: Bench, run_pipeline) -> None:
    with run_pipeline(rules_sms_day_max="2", notifications_grace_window_s="0"):
        await bench.publish(*(order(f"o-{number}", BERLIN) for number in range(5)), order("o-9", NEW_YORK))

        async def settled() -> bool:
            states = [state for state, _, _ in (await sms(bench)).values()]
            return sorted(states) == ["accepted"] * 3 + ["pending"] * 3

        await bench.until(settled, "two messages for one number, one for the other")
        found = await sms(bench)
        assert [held for held in found.values() if held[0] == "pending"] == [("pending", "daily_cap", 0)] * 3
        assert len(await bench.sms()) == 3
        assert len(await bench.mails()) == 6
        waits = await bench.rows(
            "SELECT (due_at AT TIME ZONE 'UTC')::date > (now() AT TIME ZONE 'UTC')::date AS until_tomorrow "
            "FROM outbox WHERE state = 'pending'"
        )
        assert all(row["until_tomorrow"] for row in waits)
        counted = await bench.rows("SELECT messages FROM recipient_day ORDER BY messages")
        assert sorted(row["messages"] for row in counted) == [1, 2]
        # The next day.
        await bench.execute("UPDATE recipient_day SET day = day - 1")
        await bench.execute("UPDATE outbox SET due_at = now() WHERE state = 'pending'")

        async def two_more() -> bool:
            return len(await bench.sms()) == 5

        await bench.until(two_more, "two more go")
    assert (await bench.status()).accounting.balances


async def test_quiet_hours_and_countries(bench: Bench, run_pipeline) -> None:
    there = datetime.now(UTC).astimezone(ZoneInfo("America/New_York"))
    window = {
        "rules_quiet_from": f"{there - timedelta(hours=1):%H:%M}",
        "rules_quiet_until": f"{there + timedelta(hours=2):%H:%M}",
        "rules_quiet_kinds": "order_sms",
        "rules_sms_countries": "US,DE",
        "notifications_message_lifetime_s": "3600",
    }
    with run_pipeline(notifications_grace_window_s="0", **window):
        await bench.publish(order("o-1", BERLIN), order("o-2", NEW_YORK), order("o-3", "+447400123456"))

        async def settled() -> bool:
            found = await sms(bench)
            return {name: one[:2] for name, one in found.items()} == {
                "o-1": ("accepted", None),
                "o-2": ("pending", "quiet_hours"),
                "o-3": ("suppressed", "country"),
            }

        await bench.until(settled, "one goes, one waits, one is refused")
        [row] = await bench.rows(
            "SELECT abs(extract(epoch FROM due_at - expires_at)) < 10 AS ends_with_it "
            "FROM outbox WHERE state = 'pending'"
        )
        assert row["ends_with_it"]  # the night is longer than the message is of use
    assert [message["to"] for message in await bench.sms()] == [BERLIN]


async def test_whom_a_provider_refuses_for_good_nobody_asks_again(bench: Bench, run_pipeline) -> None:
    """I13. The faults come but once: a second call would be accepted."""
    said_stop = {"on": "create", "action": "status", "status": 400, "code": 21610, "count": 1}
    no_mailbox = {"on": "RCPT", "action": "reply", "code": 550, "text": "5.1.1 no such user", "count": 1}
    await bench.twilio("behaviour", {"faults": [said_stop]})
    await bench.smtp("behaviour", {"faults": [no_mailbox]})

    async def messages(name: str) -> dict[str, tuple[str, str | None]]:
        rows = await bench.rows("SELECT channel, state, reason FROM outbox WHERE order_id = $1", name)
        return {row["channel"]: (row["state"], row["reason"]) for row in rows}

    customer = {"id": "c-1", "email": "ada@example.com", "phone": BERLIN}
    with run_pipeline(notifications_grace_window_s="0"):
        await bench.publish(order_event("o-1", customer=customer))
        await bench.until_quiet(1)
        first = await messages("o-1")
        assert first["sms"] == ("suppressed", "21610")
        assert first["email"][0] == "suppressed"
        await bench.publish(order_event("o-2", customer=customer), order("o-3", NEW_YORK))
        status = await bench.until_quiet(3)
        assert await messages("o-2") == {
            "sms": ("suppressed", "opted_out"),
            "email": ("suppressed", "bounced"),
        }
        assert {state for state, _ in (await messages("o-3")).values()} == {"accepted"}
    reasons = await bench.rows("SELECT channel, reason FROM recipient")
    assert sorted((row["channel"], row["reason"]) for row in reasons) == [
        ("email", "bounce:550 5.1.1"),
        ("sms", "provider:21610"),
    ]
    assert status.accounting.balances
