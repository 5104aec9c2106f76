"""The correlation id: one for an order's events, rows, messages, calls and callbacks.

It follows from the order's id, as the ids of the order's messages do, so nobody has to carry it along:

    correlation id = first 15 bytes of SHA-256 of the order's id, then a zero byte, in hexadecimal

In SQL that is `effect_id_of(order_id, 0)` without its dashes. An order's SMS and mail have the same id but
for the last byte. It has the form of a W3C trace id, and is one where the order's trace begins with us: see
ADR 29.
"""

from hashlib import sha256

_DIGEST_BYTES = 15


def correlation_id(order_id: str) -> str:
    """Return an order's correlation id, 32 hexadecimal digits; a customer's event has the customer id's."""
    return correlation_bytes(sha256(order_id.encode()).digest()).hex()


def correlation_bytes(digest: bytes) -> bytes:
    """Return it as 16 bytes, from the digest of the order's id, or from the id of its SMS or mail."""
    return digest[:_DIGEST_BYTES] + b"\0"
