"""An order history as events: orders, their invoices at different times, duplicates and bad events."""

import random
import warnings
from base64 import b64encode
from collections.abc import Sequence
from datetime import UTC, datetime
from enum import StrEnum
from hashlib import sha256
from typing import Any

import msgspec
import orjson
from fpdf import FPDF

from loadtest.cdnow import Purchase
from loadtest.contacts import Contact, contact_of
from pipeline.events import DATA_SCHEMAS, INVOICE_GENERATED, ORDER_PROCESSED

_SOURCE = "/shops/cdnow"
_CONTENT_TYPE = "application/cloudevents+json"
_DUPLICATE_SHARE = 0.03
_URL_SHARE = 0.15


class InvoiceTime(StrEnum):
    """When an invoice comes, seen from its order."""

    BEFORE = "before"
    WITHIN = "within"
    AFTER = "after"
    NEVER = "never"


_INVOICE_SHARES = {
    InvoiceTime.BEFORE: 0.2,
    InvoiceTime.WITHIN: 0.35,
    InvoiceTime.AFTER: 0.25,
    InvoiceTime.NEVER: 0.2,
}


class Planned(msgspec.Struct):
    """One publish: when (seconds from the start), what, and whether its time is stamped on leaving."""

    at_s: float
    routing_key: str
    event: dict[str, Any] | None
    raw: bytes = b""
    content_type: str = _CONTENT_TYPE

    def body(self, now: datetime) -> bytes:
        """Return the bytes to publish. The time is the moment of publishing, for measuring from."""
        if self.event is None:
            return self.raw
        return orjson.dumps({**self.event, "time": now.isoformat()})


class Expected(msgspec.Struct):
    """What must come out, counted while planning."""

    orders: int = 0
    invoices: int = 0
    duplicates: int = 0
    quarantined: int = 0
    sms_accepted: int = 0
    sms_suppressed: int = 0
    # SHA-256 of each invoice document that a customer with an address must get exactly once.
    invoices_mailed: set[str] = set()


class Plan(msgspec.Struct):
    """Everything to publish, by time, the documents to serve by URL, and what must come of it."""

    publishes: list[Planned]
    documents: dict[str, bytes]
    expected: Expected


class _Planner:
    def __init__(self, run_id: str, *, grace_s: float, duration_s: float, document_base: str) -> None:
        self._run_id = run_id
        self._grace_s = grace_s
        self._duration_s = duration_s
        self._document_base = document_base
        self._rng = random.Random(1997)
        self.publishes: list[Planned] = []
        self.documents: dict[str, bytes] = {}
        self.expected = Expected()

    def add_order(self, purchase: Purchase, at_s: float) -> None:
        contact = contact_of(purchase.customer)
        order_id = f"{self._run_id}-{purchase.number:05d}"
        self._publish(at_s, ORDER_PROCESSED, order_id, self._order(purchase, contact, order_id))
        expected = self.expected
        expected.orders += 1
        expected.sms_accepted += contact.reach.gets_sms
        expected.sms_suppressed += not contact.reach.gets_sms
        when = self._rng.choices(list(_INVOICE_SHARES), list(_INVOICE_SHARES.values()))[0]
        if when is not InvoiceTime.NEVER:
            self._add_invoice(purchase, contact, order_id, self._invoice_time(when, at_s))

    def _invoice_time(self, when: InvoiceTime, order_at_s: float) -> float:
        if when is InvoiceTime.BEFORE:
            return max(0.0, order_at_s - self._rng.uniform(0.2, 1.5))
        if when is InvoiceTime.WITHIN:
            return order_at_s + self._rng.uniform(0.0, 0.6) * self._grace_s
        return order_at_s + self._grace_s + self._rng.uniform(1.0, 3.0)

    def _add_invoice(self, purchase: Purchase, contact: Contact, order_id: str, at_s: float) -> None:
        invoice_id = f"inv-{order_id}"
        content = invoice_pdf(invoice_id, contact.name, purchase)
        if self._rng.random() < _URL_SHARE:
            self.documents[f"{invoice_id}.pdf"] = content
            document = {"url": f"{self._document_base}/{invoice_id}.pdf"}
        else:
            document = {"content_base64": b64encode(content).decode()}
        data = {
            "invoice_id": invoice_id,
            "order_id": order_id,
            "currency": "USD",
            "total": purchase.dollars,
            "issued_at": f"{purchase.day.isoformat()}T18:00:00-05:00",
            "document": {"media_type": "application/pdf", "filename": f"{invoice_id}.pdf", **document},
        }
        self._publish(at_s, INVOICE_GENERATED, invoice_id, data)
        self.expected.invoices += 1
        if contact.reach.gets_email:
            self.expected.invoices_mailed.add(sha256(content).hexdigest())

    @staticmethod
    def _order(purchase: Purchase, contact: Contact, order_id: str) -> dict[str, Any]:
        each, rest = divmod(round(float(purchase.dollars) * 100), purchase.cds)
        prices = [each + (number < rest) for number in range(purchase.cds)]
        return {
            "order_id": order_id,
            "currency": "USD",
            "total": purchase.dollars,
            "processed_at": f"{purchase.day.isoformat()}T12:00:00-05:00",
            "customer": {
                "id": f"cdnow-{purchase.customer:05d}",
                "name": contact.name,
                "email": contact.email,
                "phone": contact.phone,
                "locale": "en-US",
                "country": "US",
            },
            "lines": [
                {
                    "sku": f"CD-{cents:06d}",
                    "title": "Compact disc",
                    "quantity": prices.count(cents),
                    "unit_price": f"{cents // 100}.{cents % 100:02d}",
                }
                for cents in sorted(set(prices))
            ],
        }

    def _publish(self, at_s: float, event_type: str, event_id: str, data: dict[str, Any]) -> None:
        event = {
            "specversion": "1.0",
            "type": event_type,
            "source": _SOURCE,
            "id": event_id,
            "datacontenttype": "application/json",
            "dataschema": DATA_SCHEMAS[event_type],
            "data": data,
        }
        self.publishes.append(Planned(at_s, event_type, event))
        if self._rng.random() < _DUPLICATE_SHARE:
            self.expected.duplicates += 1
            self.publishes.append(Planned(at_s + self._rng.uniform(0.0, 3.0), event_type, event))

    def add_bad_events(self) -> None:
        """Add one of each kind of bad event, spread over the run."""
        good = next(p.event for p in self.publishes if p.event and p.routing_key == ORDER_PROCESSED)
        invoice = next(p.event for p in self.publishes if p.event and p.routing_key == INVOICE_GENERATED)
        for number, (routing_key, body) in enumerate(_bad_events(self._run_id, good, invoice)):
            at_s = self._duration_s * (number + 1) / 12
            self.publishes.append(Planned(at_s, routing_key, None, raw=body))
            self.expected.quarantined += 1
        # The same identity with other data: the first one stays, this one is a conflict.
        other = {**good, "data": {**good["data"], "total": "1.00"}}
        self.publishes.append(Planned(self._duration_s + 1.0, ORDER_PROCESSED, other))
        self.expected.quarantined += 1


def _bad_events(run_id: str, order: dict[str, Any], invoice: dict[str, Any]) -> list[tuple[str, bytes]]:
    def changed(event: dict[str, Any], number: int, **data: Any) -> bytes:
        return orjson.dumps({**event, "id": f"{run_id}-bad-{number}", "data": {**event["data"], **data}})

    return [
        (ORDER_PROCESSED, orjson.dumps(order)[:-40] + run_id.encode()),
        (ORDER_PROCESSED, orjson.dumps({**order, "id": f"{run_id}-bad-1", "type": "order.shipped"})),
        (ORDER_PROCESSED, changed(order, 2, total=29.33)),
        (ORDER_PROCESSED, changed(order, 3, processed_at="1997-01-01T12:00:00")),
        (ORDER_PROCESSED, changed(order, 4, order_id="")),
        (ORDER_PROCESSED, b"\xff\xfe" + run_id.encode()),
        (INVOICE_GENERATED, changed(invoice, 6, document={"content_base64": "not base64!"})),
        (INVOICE_GENERATED, changed(invoice, 7, document={"url": "https://169.254.169.254/invoice.pdf"})),
    ]


def invoice_pdf(invoice_id: str, name: str, purchase: Purchase) -> bytes:
    """Return a one-page invoice. About 0.7 ms."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # the library announces a change of its A5 format at every page
        page = FPDF(format="A5")
    page.set_creation_date(datetime(1998, 7, 1, tzinfo=UTC))
    page.add_page()
    page.set_font("helvetica", style="B", size=18)
    page.cell(text="Invoice", new_x="LMARGIN", new_y="NEXT")
    page.set_font("helvetica", size=11)
    discs = "disc" if purchase.cds == 1 else "discs"
    for line in (invoice_id, name, f"{purchase.day:%d %B %Y}", f"{purchase.cds} compact {discs}"):
        page.cell(text=line.encode("latin-1", "replace").decode("latin-1"), new_x="LMARGIN", new_y="NEXT")
    page.set_font("helvetica", style="B", size=13)
    page.cell(text=f"Total USD {purchase.dollars}", new_x="LMARGIN", new_y="NEXT")
    return bytes(page.output())


def plan_history(
    purchases: Sequence[Purchase], run_id: str, *, rate_per_s: float, grace_s: float, document_base: str
) -> Plan:
    """Plan the replay of purchases at a steady rate of orders per second."""
    duration_s = len(purchases) / rate_per_s
    planner = _Planner(run_id, grace_s=grace_s, duration_s=duration_s, document_base=document_base)
    for index, purchase in enumerate(purchases):
        planner.add_order(purchase, index / rate_per_s)
    planner.add_bad_events()
    planner.publishes.sort(key=lambda planned: planned.at_s)
    return Plan(planner.publishes, planner.documents, planner.expected)
