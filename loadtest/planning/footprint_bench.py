"""Bytes: what an order, its invoice and its messages take on disk and in the write-ahead log.

The shipped pipeline stores the events first and sends the messages then, so that each has its own share of
the log. Sizes are of tables with their indexes after a vacuum, on the primaries.
"""

import asyncio
import time
from collections import Counter
from pathlib import Path
from uuid import uuid4

import msgspec

from consumers.lean.publisher import LeanPublisher
from consumers.lean.wire import property_bytes, route_of
from consumers.migration import apply_to_broker, migrate_all
from consumers.topology import DIRECT_EXCHANGE
from loadtest.intake_bench import FOLDER, BenchError
from loadtest.intake_report import machine, now_text
from loadtest.owed_messages import open_messages
from loadtest.pipeline_process import PipelineProcess
from loadtest.planning.cost_sources import FootprintFile
from loadtest.scenarios.arrivals import Kind
from loadtest.scenarios.event_bodies import EventBodies, routing_key
from pipeline.ingest.content_mode import STRUCTURED_TYPE
from pipeline.settings import Settings
from pipeline.storage.cluster import Cluster

TABLES = ("orders", "invoices", "inbox", "outbox")
_SETTINGS = {"POSTORDER_NOTIFICATIONS_GRACE_WINDOW_S": "0"}
_WARM_UP = 200
_TIMEOUT_S = 300.0
_STALL_S = 30.0
_POLL_S = 0.2
_SIZES = """
SELECT name, pg_total_relation_size(name::regclass) AS bytes,
       pg_current_wal_insert_lsn() - '0/0'::pg_lsn AS wal
FROM unnest($1::text[]) AS name"""


class Sizes(msgspec.Struct, frozen=True):
    """Bytes of each table with its indexes, and of WAL written so far, of all primaries together."""

    tables: dict[str, int]
    wal: int


async def measure_footprint(settings: Settings, settings_file: Path, orders: int) -> FootprintFile:
    """Store and send so many orders with an invoice each. Raises BenchError when they do not come through."""
    await migrate_all(settings)
    await apply_to_broker(settings)
    cluster = Cluster(settings)
    try:
        for shard in cluster:
            await shard.primary.open()
        bench = _Footprint(settings, settings_file, cluster)
        await bench.store(_WARM_UP)
        await bench.send()
        began = await bench.sizes()
        event_bytes = await bench.store(orders)
        stored = await bench.sizes()
        messages = await open_messages(cluster)
        await bench.send()
        sent = await bench.sizes()
    finally:
        await cluster.close()
    grown = {name: sent.tables[name] - began.tables[name] for name in TABLES}
    inbox_row = grown["inbox"] / (2 * orders)
    return FootprintFile(
        at=now_text(),
        machine=machine(),
        command=f"python -m loadtest.planning footprint --orders {orders}",
        event_bytes=round(event_bytes),
        order_bytes=round((grown["orders"] + grown["outbox"]) / orders + inbox_row),
        invoice_bytes=round(grown["invoices"] / orders + inbox_row),
        wal_event_bytes=round((stored.wal - began.wal) / (2 * orders)),
        wal_message_bytes=round((sent.wal - stored.wal) / messages),
    )


class _Footprint:
    """The steps, on an open cluster."""

    def __init__(self, settings: Settings, settings_file: Path, cluster: Cluster) -> None:
        self._settings = settings
        self._settings_file = settings_file
        self._cluster = cluster

    async def store(self, orders: int) -> float:
        """Publish orders and invoices and wait until all are stored; return the mean size of an event."""
        before = await self._stored()
        with self._process("intake", "order-processed,invoice-generated") as intake:
            size = await self._publish(orders)
            await self._until(intake, before + 2 * orders)
        return size

    async def send(self) -> None:
        """Send everything that is owed."""
        deadline = time.monotonic() + _TIMEOUT_S
        with self._process("sender", "notifications") as sender:
            while await open_messages(self._cluster):
                sender.check()
                if time.monotonic() > deadline:
                    raise BenchError(f"messages stay open: see {sender.log}")
                await asyncio.sleep(_POLL_S)

    async def sizes(self) -> Sizes:
        """Return sizes after a vacuum, of all primaries together."""
        tables: Counter[str] = Counter()
        wal = 0
        for shard in self._cluster:
            async with shard.primary.connection() as connection:
                await connection.execute(f"VACUUM {', '.join(TABLES)}", timeout=_TIMEOUT_S)
                rows = await connection.fetch(_SIZES, list(TABLES), timeout=_TIMEOUT_S)
            tables.update({row["name"]: row["bytes"] for row in rows})
            wal += int(rows[0]["wal"])
        return Sizes(dict(tables), wal)

    def _process(self, name: str, roles: str) -> PipelineProcess:
        log = FOLDER / f"footprint-{name}.log"
        return PipelineProcess(self._settings_file, log, _SETTINGS, ("--only", roles))

    async def _publish(self, orders: int) -> float:
        bodies, properties = EventBodies(uuid4().hex[:8]), property_bytes(content_type=STRUCTURED_TYPE)
        publisher = LeanPublisher(self._settings.amqp, "footprint", 2000)
        await publisher.open()
        size = 0
        try:
            for kind in (Kind.ORDER, Kind.INVOICE):
                route = route_of(DIRECT_EXCHANGE, routing_key(kind), mandatory=True)
                for number in range(orders):
                    body = bodies.body(kind, number, time.time())
                    size += len(body)
                    await publisher.publish(route, properties, body)
            await publisher.settled(_TIMEOUT_S)
        finally:
            await publisher.close()
        return size / (2 * orders)

    async def _until(self, process: PipelineProcess, events: int) -> None:
        seen, deadline = -1, 0.0
        while (stored := await self._stored()) < events:
            process.check()
            if stored != seen:
                seen, deadline = stored, time.monotonic() + _STALL_S
            elif time.monotonic() > deadline:
                raise BenchError(f"{events - stored} events are missing: see {process.log}")
            await asyncio.sleep(_POLL_S)

    async def _stored(self) -> int:
        total = 0
        for shard in self._cluster:
            totals = await shard.reader.intake_by_trigger()
            total += sum(events for events, _ in totals.values())
        return total
