"""What an installation would answer the console's questions for lists, orders and deliveries."""

from base64 import b64encode
from datetime import timedelta
from typing import Any
from uuid import UUID

import msgspec
from console_overview import SET_AT

from consumers.api.answers import CustomerFound, OrderFound, Timeline
from consumers.api.audit_routes import Entries
from consumers.api.effect_routes import Effects
from consumers.api.limit_routes import Limits, LimitState
from consumers.api.overview_routes import ring_of
from consumers.api.quarantine_routes import Deliveries, Delivery
from consumers.timeline_report import Entry
from pipeline.reading.views import Customer, Message, Order, OrderLine, Served
from pipeline.sharding.shard_map import ShardMap
from pipeline.storage.audit import AuditEntry
from pipeline.storage.effect_desk import Effect
from pipeline.storage.outbox import Channel, Kind, State
from pipeline.storage.quarantine import QuarantineLine, QuarantineState

_MALFORMED = "JSON is malformed: invalid character (byte 17)"


def answer_to(path: str) -> bytes | None:
    """Return what the API says of a path below /v1/, or None."""
    makers = {
        "ring": _ring,
        "limits": _limits,
        "quarantine": _quarantine,
        f"quarantine/{_id(1)}": _delivery,
        "effects": _effects,
        "audit": _audit,
        "orders/1001": _order,
        "orders/1001/timeline": _timeline,
        "customers/c-1": _customer,
    }
    return msgspec.json.encode(makers[path]()) if path in makers else None


def _id(number: int) -> UUID:
    return UUID(int=0x3FA9C1D2_0000_4000_8000_000000000000 + number)


def _ring() -> Any:
    return ring_of(ShardMap(epoch=7, owners=tuple(f"shard{(slot * 7 // 50) % 3}" for slot in range(4096))))


def _limits() -> Limits:
    known = {"set_by": "api ada", "set_at": SET_AT, "left_s": 1800.0}
    rate = LimitState(
        key="twilio.rate_per_s",
        unit="messages per second",
        floor=1,
        ceiling=200,
        normal=0,
        value=100,
        **known,
    )
    calls = LimitState(key="smtp.concurrency", unit="calls", floor=1, ceiling=64, normal=40)
    return Limits(limits=[rate, calls])


def _quarantine() -> Deliveries:
    told = (
        "Object missing required field `order_id` - at `$.data`",
        "JSON is malformed: invalid character (byte 17)",
    )
    lines = [
        QuarantineLine(
            shard=f"shard{number % 2}",
            slot=number,
            quarantine_id=_id(number),
            reason=("invalid_data", "malformed_json")[number % 2],
            detail=told[number % 2],
            queue="order-processed",
            exchange="orders",
            content_type="application/cloudevents+json",
            body_bytes=491 * (number + 1),
            seen=1 + number,
            first_seen_at=SET_AT,
            last_seen_at=SET_AT + timedelta(seconds=number),
            state=QuarantineState.HELD,
        )
        for number in range(3)
    ]
    return Deliveries(deliveries=lines, more=True, away=("shard2",))


def _delivery() -> Delivery:
    return Delivery(
        shard="shard1",
        quarantine_id=_id(1),
        state=QuarantineState.HELD,
        reason="malformed_json",
        detail=_MALFORMED,
        queue="order-processed",
        exchange="orders",
        routing_key="order.processed",
        content_type="application/cloudevents+json",
        message_id="m-1",
        headers={"x-shop": "<b>shop</b>", "x-try": 2},
        body_base64=b64encode(b'{"specversion": <script>alert(1)</script>}').decode(),
        seen=2,
        first_seen_at=SET_AT,
        last_seen_at=SET_AT,
    )


def _effects() -> Effects:
    effects = [
        Effect(
            shard="shard0",
            slot=7,
            effect_id=_id(number),
            order_id=f"gid://shop/Order/{1001 + number}",
            invoice_id=None,
            channel=Channel.SMS,
            kind=Kind.ORDER_SMS,
            state=State.UNKNOWN,
            attempts=1,
            reason="lease_ended",
            provider="twilio",
            provider_id=None,
            provider_status=None,
            created_at=SET_AT,
            due_at=SET_AT,
            claim_id=None,
            claimed_at=SET_AT,
            lease_until=None,
            accepted_at=None,
            settled_at=None,
            provider_status_at=None,
            expires_at=SET_AT,
        )
        for number in range(2)
    ]
    return Effects(effects=effects, more=False, away=())


def _audit() -> Entries:
    whole = {"action_id": _id(9), "at": SET_AT, "actor": "api ada", "epoch": 7}
    done = AuditEntry(
        entry_id=_id(11),
        what="limits.set",
        target="twilio.rate_per_s",
        outcome="done",
        detail="version 3",
        **whole,
    )
    begun = msgspec.structs.replace(done, entry_id=_id(10), outcome="begun", detail="to 100 for 3600 s")
    return Entries(entries=[done, begun], next=f"2026-11-21T18:30:00Z~{_id(10)}")


_SERVED = (Served(shard="shard0", role="replica", address="10.0.0.5:5432", asked=1, ms=1.8),)
_PERSON = Customer(id="c-1", name="A…", email="a…@example.com", phone="…123", locale="en", country="DE")


def _order() -> OrderFound:
    order = Order(
        order_id="1001",
        slot=3071,
        number="#1001",
        customer=_PERSON,
        currency="EUR",
        total="74.40",
        lines=[{"sku": "LP-77", "title": "Blue Train", "quantity": 2, "unit_price": "29.95"}],
        processed_at=SET_AT,
        recorded_at=SET_AT,
        source="/shops/1",
        event_id="e-1",
    )
    messages = [
        Message(
            effect_id=_id(number),
            kind=kind,
            channel=channel,
            state=state,
            invoice_id=None,
            attempts=1,
            due_at=SET_AT,
            accepted_at=SET_AT,
            provider=provider,
            provider_id=f"{provider}-{number}",
            reason=None,
        )
        for number, (kind, channel, state, provider) in enumerate(
            [("order_sms", "sms", "delivered", "twilio"), ("order_email", "email", "accepted", "smtp")]
        )
    ]
    return OrderFound(order=order, invoices=[], messages=messages, served=_SERVED, tokens=[])


def _timeline() -> Timeline:
    sms = "order_sms 3fa9c1d20000"
    told = [
        ("order", "event", "by /shops/1's clock"),
        ("order", "stored", "event e-1"),
        (sms, "owed", ""),
        (sms, "claimed", "try 1"),
        (sms, "accepted", "by twilio as SM1"),
        (sms, "delivered", ""),
    ]
    entries = [
        Entry(at=SET_AT + timedelta(milliseconds=37 * at), about=about, what=what, detail=detail)
        for at, (about, what, detail) in enumerate(told)
    ]
    return Timeline(order=None, entries=entries)


def _customer() -> CustomerFound:
    line = OrderLine(
        order_id="1001", slot=3071, number="#1001", currency="EUR", total="74.40", processed_at=SET_AT
    )
    return CustomerFound(
        customer_id="c-1",
        person=_PERSON,
        updated_at=SET_AT,
        opted_out=["sms"],
        orders=[line],
        more=False,
        served=_SERVED,
        tokens=[],
    )
