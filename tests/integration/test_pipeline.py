"""The whole flow on the real stack: what a customer gets for what upstream sends."""

import signal
from hashlib import sha256

import orjson
import pytest
from aiohttp import web
from real_stack import PDF, Bench, attachments_of, invoice_event, order_event, text_of

from consumers.topology import WORK_QUEUES
from stack.ports import HOST, choose_port

pytestmark = pytest.mark.integration

FOOTER = "We will send your invoice soon."


async def test_an_order_gives_one_sms_and_one_mail_with_the_footer(bench: Bench, run_pipeline) -> None:
    with run_pipeline(notifications_grace_window_s="0"):
        await bench.publish(order_event("o-1"))
        status = await bench.until_quiet(1)
    [sms] = await bench.sms()
    [mail] = await bench.mails()
    assert sms["to"] == "+14155550123"
    assert "o-1" in sms["body"]
    assert mail["rcpt_tos"] == ["o-1@example.com"]
    assert FOOTER in text_of(mail)
    assert attachments_of(mail) == []
    assert status.accounting.balances
    assert status.accounting.settled == status.accounting.owed == 2


async def test_an_invoice_within_the_grace_window_travels_with_the_order_mail(
    bench: Bench, run_pipeline
) -> None:
    with run_pipeline(notifications_grace_window_s="600"):
        await bench.publish(order_event("o-1"))
        await bench.until(_orders(bench, 1), "the order is stored")
        await bench.publish(invoice_event("o-1"))
        await bench.until_quiet(2)
    [mail] = await bench.mails()
    [attachment] = attachments_of(mail)
    assert attachment["sha256"] == sha256(PDF).hexdigest()
    assert attachment["filename"] == "invoice.pdf"
    assert FOOTER not in text_of(mail)


async def test_an_invoice_before_its_order_waits_for_it(bench: Bench, run_pipeline) -> None:
    with run_pipeline(notifications_grace_window_s="600"):
        await bench.publish(invoice_event("o-1"))
        await bench.until(_invoices(bench, 1), "the invoice is stored")
        assert await bench.mails() == []
        await bench.publish(order_event("o-1"))
        await bench.until_quiet(2)
    [mail] = await bench.mails()
    assert len(attachments_of(mail)) == 1
    assert FOOTER not in text_of(mail)


async def test_a_late_invoice_is_mailed_by_itself(bench: Bench, run_pipeline) -> None:
    with run_pipeline(notifications_grace_window_s="0"):
        await bench.publish(order_event("o-1"))
        await bench.until_quiet(1)
        await bench.publish(invoice_event("o-1"))
        status = await bench.until_quiet(2)
    order_mail, invoice_mail = await bench.mails()
    assert FOOTER in text_of(order_mail)
    assert len(attachments_of(invoice_mail)) == 1
    assert "invoice" in invoice_mail["parsed"]["subject"].lower()
    assert status.accounting.owed == 3
    assert status.accounting.balances


async def test_a_document_by_url_is_fetched_from_an_allowed_host_only(bench: Bench, run_pipeline) -> None:
    async with _document_host() as (host, asked):
        with run_pipeline(notifications_grace_window_s="600", intake_document_hosts=host):
            await bench.publish(
                invoice_event("o-1", url=f"http://{host}/invoice.pdf"),
                invoice_event("o-2", url="http://169.254.169.254/latest/meta-data"),
            )
            # Else both can be stored at once, neither sees the other, and the mail waits out its window.
            await bench.until(_invoices(bench, 1), "the invoice is stored")
            await bench.publish(order_event("o-1"))
            status = await bench.until_quiet(3)
    [mail] = await bench.mails()
    assert attachments_of(mail)[0]["sha256"] == sha256(PDF).hexdigest()
    assert asked == ["/invoice.pdf"]
    assert status.totals["quarantined"] == 1
    [row] = await bench.rows("SELECT reason FROM quarantine")
    assert row["reason"] == "document_host_refused"


async def test_a_duplicate_is_recognised_and_a_conflict_recorded(bench: Bench, run_pipeline) -> None:
    event = order_event("o-1")
    other = {**event, "data": {**event["data"], "total": "1.00"}}
    with run_pipeline(notifications_grace_window_s="0"):
        await bench.publish(event, event)
        await bench.until_quiet(2)
        await bench.publish(event, other, other)
        status = await bench.until_quiet(5)
    assert status.totals["orders"] == 1
    assert status.totals["duplicates"] == 2
    assert status.totals["quarantined"] == 2
    assert len(await bench.sms()) == 1
    [order] = await bench.rows("SELECT total::text FROM orders")
    assert order["total"] == "74.4000"
    rows = await bench.rows("SELECT reason, seen, body FROM quarantine")
    assert {row["reason"] for row in rows} == {"identity_conflict"}
    assert all(orjson.loads(row["body"])["data"]["total"] == "1.00" for row in rows)


async def test_bad_events_are_kept_byte_for_byte_and_their_neighbours_stored(
    bench: Bench, run_pipeline
) -> None:
    bad = {
        "malformed_json": b'{"specversion": "1.0", "type": "order.proc',
        "unknown_type": orjson.dumps({**order_event("x"), "type": "order.shipped"}),
        "invalid_data": orjson.dumps(order_event("x", total=12.5)),
        "invalid_envelope": orjson.dumps({**order_event("x"), "specversion": "0.3"}),
        "document_not_base64": orjson.dumps(invoice_event("x", content_base64="***")),
    }
    good = [order_event(f"o-{number}") for number in range(5)]
    with run_pipeline(notifications_grace_window_s="0"):
        for event, body in zip(good, bad.values(), strict=True):
            await bench.publish(event)
            await bench.publish(body, headers={"trace": "abc"})
        status = await bench.until_quiet(10)
    rows = {row["reason"]: row for row in await bench.rows("SELECT * FROM quarantine")}
    assert {reason: row["body"] for reason, row in rows.items()} == bad
    assert all(orjson.loads(row["headers"]) == {"trace": "abc"} for row in rows.values())
    assert status.totals["orders"] == 5
    assert status.accounting.balances


async def test_unreachable_recipients_are_suppressed_with_the_reason(bench: Bench, run_pipeline) -> None:
    contacts = {
        "opted-out": ({"phone": "+15005550004", "email": "a@example.com"}, "21610"),
        "no-mobile": ({"phone": "+15005550009", "email": "a@example.com"}, "21614"),
        "bad-phone": ({"phone": "555-CALL", "email": "a@example.com"}, "invalid_phone"),
        "no-phone": ({"email": "a@example.com"}, "no_phone"),
        "bad-email": ({"phone": "+14155550123", "email": "a[at]example.com"}, "invalid_email"),
        "no-email": ({"phone": "+14155550123"}, "no_email"),
    }
    with run_pipeline(notifications_grace_window_s="0"):
        await bench.publish(*(order_event(name, customer=contact) for name, (contact, _) in contacts.items()))
        status = await bench.until_quiet(len(contacts))
    found = await bench.rows("SELECT order_id, reason FROM outbox WHERE state = 'suppressed'")
    assert {row["order_id"]: row["reason"] for row in found} == {
        n: reason for n, (_, reason) in contacts.items()
    }
    assert status.accounting.settled == status.accounting.owed == 12


async def test_throttling_is_waited_out_and_nothing_is_sent_twice(bench: Bench, run_pipeline) -> None:
    too_many = {
        "on": "create",
        "action": "status",
        "status": 429,
        "code": 20429,
        "retry_after": "1",
        "count": 3,
    }
    later = {"on": "RCPT", "action": "reply", "code": 451, "text": "4.3.0 later", "count": 2}
    await bench.twilio("behaviour", {"faults": [too_many]})
    await bench.smtp("behaviour", {"faults": [later]})
    with run_pipeline(notifications_grace_window_s="0", notifications_retry_base_s="0.1"):
        await bench.publish(*(order_event(f"o-{number}") for number in range(5)))
        status = await bench.until_quiet(5)
    assert status.effects == {"sms": {"accepted": 5}, "email": {"accepted": 5}}
    assert len(await bench.sms()) == len(await bench.mails()) == 5


async def test_a_lost_reply_is_unknown_and_never_sent_again(bench: Bench, run_pipeline) -> None:
    await bench.twilio("behaviour", {"faults": [{"on": "create", "action": "accept_then_drop", "count": 1}]})
    await bench.smtp("behaviour", {"faults": [{"on": "DATA_END", "action": "accept_then_drop", "count": 1}]})
    with run_pipeline(notifications_grace_window_s="0"):
        await bench.publish(order_event("o-1"))
        status = await bench.until_quiet(1)
    assert status.effects == {"sms": {"unknown": 1}, "email": {"unknown": 1}}
    assert len(await bench.sms()) == len(await bench.mails()) == 1
    assert status.accounting.balances


async def test_roles_run_in_processes_of_their_own(bench: Bench, run_pipeline) -> None:
    with (
        run_pipeline("--only", "order-processed"),
        run_pipeline("--only", "invoice-generated"),
        run_pipeline("--only", "notifications"),
    ):
        await bench.publish(invoice_event("o-1"))
        await bench.until(_invoices(bench, 1), "the invoice is stored")
        await bench.publish(order_event("o-1"))
        await bench.until_quiet(2)
    [mail] = await bench.mails()
    assert len(attachments_of(mail)) == 1
    assert len(await bench.sms()) == 1


async def test_sigterm_drains_and_what_was_left_is_done_by_the_next_process(
    bench: Bench, run_pipeline
) -> None:
    await bench.twilio("behaviour", {"latency_ms": 50})
    orders = [order_event(f"o-{number}") for number in range(400)]
    with run_pipeline(notifications_grace_window_s="0") as first:
        await bench.publish(*orders)
        await bench.until(_orders(bench, 1), "the first order is stored")
        first.stop()
    assert first.exit_status == 0
    states = await bench.rows("SELECT DISTINCT state FROM outbox")
    assert {row["state"] for row in states} <= {"pending", "accepted"}
    with run_pipeline(notifications_grace_window_s="0"):
        status = await bench.until_quiet(400)
    assert status.effects == {"sms": {"accepted": 400}, "email": {"accepted": 400}}
    requests = await bench.twilio("requests")
    assert requests["messages"] | {"total": 400, "duplicates": 0} == requests["messages"]
    depths = {queue.name: queue.messages for queue in status.queues}
    assert depths["dead-letters"] == 0


async def test_sigint_drains_too(bench: Bench, run_pipeline) -> None:
    with run_pipeline() as process:
        await bench.until(_consumed(bench), "the queues have consumers")
        process.stop(signal.SIGINT)
    assert process.exit_status == 0


def _consumed(bench: Bench):
    async def ready() -> bool:
        queues = (await bench.status()).queues
        return all(queue.consumers for queue in queues if queue.name in WORK_QUEUES)

    return ready


def _orders(bench: Bench, count: int):
    async def stored() -> bool:
        return (await bench.status()).totals["orders"] >= count

    return stored


def _invoices(bench: Bench, count: int):
    async def stored() -> bool:
        return (await bench.status()).totals["invoices"] >= count

    return stored


class _document_host:  # noqa: N801  # used like a function
    """A host of invoice documents; yields its host:port and the paths it was asked for."""

    async def __aenter__(self) -> tuple[str, list[str]]:
        asked: list[str] = []

        async def serve(request: web.Request) -> web.Response:
            asked.append(request.path)
            return web.Response(body=PDF, content_type="application/pdf")

        application = web.Application()
        application.router.add_get("/{name}", serve)
        self._runner = web.AppRunner(application)
        await self._runner.setup()
        port = choose_port("management", set())
        await web.TCPSite(self._runner, HOST, port).start()
        return f"{HOST}:{port}", asked

    async def __aexit__(self, *_exception: object) -> None:
        await self._runner.cleanup()
