"""Order events by the thousand: valid, all different, about as long as real ones (491 bytes)."""

from collections.abc import Iterator
from datetime import UTC, datetime

_TEMPLATE = (
    '{"specversion":"1.0","type":"order.processed","source":"/shops/bench","id":"%(run)s-%(number)d",'
    '"time":"%(time)s","data":{"order_id":"%(run)s-%(number)d","number":"#%(number)d","currency":"EUR",'
    '"total":"74.40","processed_at":"2026-11-21T11:15:00+01:00","customer":{"id":"c-%(number)d",'
    '"name":"Ada Example","email":"ada.%(number)d@example.com","phone":"+14155550123","country":"US"},'
    '"lines":[{"sku":"LP-77","quantity":2,"unit_price":"29.95","title":"Blue Train"},'
    '{"sku":"CD-3","quantity":1,"unit_price":"14.50"}]}}'
)


def order_body(run: str, number: int, time: str) -> bytes:
    """Return one structured event."""
    return (_TEMPLATE % {"run": run, "number": number, "time": time}).encode()


def now_text() -> str:
    """Return the time as events carry it."""
    return datetime.now(UTC).isoformat()


def bodies(run: str, first: int, count: int) -> Iterator[bytes]:
    """Yield so many structured events, made when asked for."""
    for number in range(first, first + count):
        yield order_body(run, number, now_text())


def batch_bodies(run: str, count: int, size: int) -> Iterator[bytes]:
    """Yield batches that hold `count` events in all, `size` to a message."""
    for first in range(0, count, size):
        yield b"[" + b",".join(bodies(run, first, min(size, count - first))) + b"]"
