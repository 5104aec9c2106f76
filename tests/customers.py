"""Events written as a lane would, for tests of what becomes of customers."""

from collections import defaultdict
from datetime import UTC, datetime, timedelta
from typing import Any

import orjson
from real_stack import Bench

from consumers.event_files import as_delivery
from pipeline.ingest.decoder import Decoder
from pipeline.ingest.entries import EntryBuilder, quarantine_row
from pipeline.storage.rows import AnyRow, BatchCounts, QuarantineRow, Trigger

NOON = datetime(2026, 1, 1, 12, tzinfo=UTC)  # past: what lies ahead of the database's clock is held back


def at(seconds: float) -> str:
    return (NOON + timedelta(seconds=seconds)).isoformat()


async def store(bench: Bench, *events: dict[str, Any]) -> list[BatchCounts]:
    """Write events, one batch for each shard, as a lane would."""
    decoder = Decoder(message_bytes_max=100_000)
    entries = EntryBuilder(bench.cluster.router, document_bytes_max=1000, document_hosts=(), allow_http=False)
    batches: dict[str, list[AnyRow]] = defaultdict(list)
    bodies: dict[str, list[bytes]] = defaultdict(list)
    for event in events:
        body = orjson.dumps(event)
        shard, row = entries.of_event(decoder.decode(as_delivery(body)))
        batches[shard].append(row)
        bodies[shard].append(body)
    counts = []
    for shard, rows in batches.items():

        def as_quarantined(place: int, reason: str, detail: str, shard: str = shard) -> QuarantineRow:
            slot = batches[shard][place].slot  # noqa: PLR1733  # bound when defined
            return quarantine_row(as_delivery(bodies[shard][place]), None, reason, detail, slot=slot)

        counts.append(await bench.cluster[shard].writer.write(rows, Trigger.FLUSH, as_quarantined))
    return counts
