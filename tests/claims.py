"""Claims as a shard would return them, for tests of what becomes of them."""

from datetime import UTC, datetime
from typing import Any
from uuid import UUID

from pipeline.storage.outbox import Channel, Claim, Kind


def claim(**changes: Any) -> Claim:
    """An SMS about order o-1; `changes` go over it."""
    values = {
        "shard": "a",
        "slot": 1,
        "effect_id": UUID(int=1),
        "claim_id": UUID(int=2),
        "channel": Channel.SMS,
        "kind": Kind.ORDER_SMS,
        "order_id": "o-1",
        "invoice_id": None,
        "attempt": 1,
        "is_expired": False,
        "created_at": datetime(2026, 1, 1, tzinfo=UTC),
        "event_time": None,
        "number": None,
        "customer_name": None,
        "email": None,
        "phone": None,
        "locale": None,
        "country": None,
        "currency": "EUR",
        "total": "1",
        "lines": "[]",
    }
    return Claim(**{**values, **changes})
