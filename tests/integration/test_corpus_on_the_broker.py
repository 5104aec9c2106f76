"""The corpus through a real broker and real shards, between healthy neighbours."""

from collections import Counter
from collections.abc import Iterable, Iterator
from uuid import uuid4

import orjson
import pytest
from data.corpus.entries import STRUCTURED, Entry, corpus
from data.corpus.intake import DOCUMENT_HOSTS, Intake, Judged, delivery_of, judged
from real_stack import Bench, order_event

from consumers.lean.publisher import LeanPublisher
from consumers.lean.wire import property_bytes, route_of
from consumers.topology import EXCHANGE
from pipeline.settings import Settings
from pipeline.storage.rows import InvoiceRow, OrderRow

pytestmark = [pytest.mark.integration, pytest.mark.timeout(120)]

HEALTHY_EVERY = 5
HEALTHY_ROUTE = route_of(EXCHANGE, "order.processed", mandatory=True)
CANARIES = ("Kanarek", "zdenka.kanarek@example.com", "4155550199")


def published() -> list[Entry]:
    """Return what can be published: those with a defect are left out, as one of them ends the pipeline."""
    return [entry for entry in corpus().values() if entry.broker and not entry.defect]


def verdicts(entries: Iterable[Entry]) -> Iterator[tuple[str, Judged]]:
    """Yield the expected reason of every event and what the unit test found to become of it."""
    intake = Intake()
    for entry in entries:
        before = intake.take(delivery_of(corpus()[entry.after])[0]) if entry.after else []
        items = intake.take(delivery_of(entry)[0])
        for expected, verdict in zip(entry.expected, judged(items, before), strict=True):
            yield expected.reason, verdict


class Publishing:
    """Publishes entries byte for byte, and a healthy order after every few."""

    def __init__(self, publisher: LeanPublisher) -> None:
        self._publisher = publisher
        self.healthy: list[str] = []

    async def publish(self, entries: list[Entry]) -> None:
        for number, entry in enumerate(entries):
            if number % HEALTHY_EVERY == 0:
                await self._publish_healthy()
            await self._publisher.publish(route(entry), entry.raw_properties, entry.raw_body)
        await self._publish_healthy()
        await self._publisher.settled(20)

    async def _publish_healthy(self) -> None:
        self.healthy.append(f"healthy-{len(self.healthy)}")
        properties = property_bytes(content_type=STRUCTURED, message_id=uuid4().hex)
        await self._publisher.publish(HEALTHY_ROUTE, properties, orjson.dumps(order_event(self.healthy[-1])))


def route(entry: Entry) -> bytes:
    """Return a basic.publish's arguments; the key may be any bytes."""
    return bytes([len(EXCHANGE)]) + EXCHANGE.encode() + bytes([len(entry.route)]) + entry.route + b"\0"


async def test_every_delivery_ends_where_it_must_and_no_neighbour_suffers(
    bench: Bench, settings: Settings, run_pipeline
) -> None:
    entries = published()
    found = list(verdicts(entries))
    publisher = LeanPublisher(settings.amqp, "tests", 100)
    await publisher.open()
    publishing = Publishing(publisher)
    limits = {
        "notifications_grace_window_s": "0",
        "intake_document_hosts": ",".join(DOCUMENT_HOSTS),
        "documents_allow_http": "false",
    }
    try:
        await publishing.publish([entry for entry in entries if not entry.after])
        with run_pipeline(**limits) as process:
            firsts = sum(len(entry.expected) for entry in entries if not entry.after)
            await bench.until_quiet(firsts + len(publishing.healthy), timeout_s=50)
            await publishing.publish([entry for entry in entries if entry.after])
            status = await bench.until_quiet(len(found) + len(publishing.healthy), timeout_s=30)
    finally:
        await publisher.close()
    assert process.exit_status == 0
    await assert_stored(bench, [verdict for _, verdict in found], publishing.healthy)
    await assert_quarantined(bench, found)
    assert status.totals["duplicates"] == sum(verdict.kind == "duplicate" for _, verdict in found)
    assert status.accounting.balances
    assert {queue.name: queue.messages for queue in status.queues}["dead-letters"] == 0
    log = process.log.read_text()
    assert not [word for word in ("amqp.connection_lost", "event.defect", *CANARIES) if word in log]


async def assert_stored(bench: Bench, verdicts: list[Judged], healthy: list[str]) -> None:
    """Every healthy neighbour and every event accepted is there exactly once, and nothing else."""
    accepted = [verdict.row for verdict in verdicts if verdict.kind == "accept"]
    orders = Counter(row["order_id"] for row in await bench.rows("SELECT order_id FROM orders"))
    assert orders == Counter({row.order_id for row in accepted if isinstance(row, OrderRow)} | {*healthy})
    invoices = Counter(
        tuple(row.values()) for row in await bench.rows("SELECT order_id, invoice_id FROM invoices")
    )
    assert invoices == Counter(
        {(row.order_id, row.invoice_id) for row in accepted if isinstance(row, InvoiceRow)}
    )
    known = await bench.rows("SELECT event_key FROM inbox")
    assert len(known) == len(accepted) + len(healthy)


async def assert_quarantined(bench: Bench, found: list[tuple[str, Judged]]) -> None:
    """Every bad event is held as often as it came, byte for byte, with its reason."""
    held: Counter[tuple[str, bytes]] = Counter()
    for row in await bench.rows("SELECT reason, body, seen FROM quarantine"):
        held[row["reason"], row["body"]] += row["seen"]
    assert held == Counter(
        (reason, verdict.row.body) for reason, verdict in found if verdict.kind == "quarantine"
    )
