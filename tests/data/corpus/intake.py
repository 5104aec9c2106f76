"""An entry's way through the intake without servers: frames, delivery, decoder, rows, sorting."""

import struct
from collections.abc import Sequence
from typing import Any, NamedTuple

from data.corpus.entries import Entry

from consumers.lean.protocol import AmqpProtocol, Content, Route
from consumers.lean.wire import publish_frames, read_properties, route_of
from pipeline.ingest.batcher import Batcher, Item
from pipeline.ingest.decoder import Decoder
from pipeline.ingest.delivery import Delivery
from pipeline.ingest.entries import EntryBuilder, quarantine_row
from pipeline.ingest.pressure import Pressure
from pipeline.ingest.processor import Processor
from pipeline.observability.metrics import Metrics
from pipeline.sharding.router import Router
from pipeline.sharding.shard_map import ShardMap
from pipeline.storage.rows import OrderRow, QuarantineRow
from pipeline.storage.sorting import Sorting
from pipeline.storage.writer import _order_row

DOCUMENT_HOSTS = ("docs.example",)
_FRAME_MAX = 131_072
_METHOD_FRAME_BYTES = 14  # of a basic.publish, without its route


class Intake:
    """A processor whose one lane is read instead of written."""

    def __init__(self) -> None:
        self._batcher = Batcher(["one"], batch_max=10**6, linger_s=1.0)
        no: Any = None
        router = Router(ShardMap.first({"one": 1}))
        self._processor = Processor(
            decoder=Decoder(message_bytes_max=1_000_000),
            entries=EntryBuilder(
                router,
                document_bytes_max=524_288,
                document_hosts=DOCUMENT_HOSTS,
                allow_http=False,
            ),
            batcher=self._batcher,
            make_writer=lambda _name, _lane: no,
            router=router,
            batches_in_flight=1,
            park_after_s=1.0,
            pressure=Pressure(high=10**9),
            metrics=Metrics(),
            clock=no,
            tasks=no,
        )

    def take(self, delivery: Delivery) -> list[Item]:
        """Accept a delivery; return what its shards would be given, in order."""
        self._processor.accept(delivery)
        return self._batcher.lanes["one"].take_overdue(float("inf"))


class Judged(NamedTuple):
    """What became of one event, and the row that would be written for it."""

    kind: str
    row: Any


def judged(items: Sequence[Item], before: Sequence[Item] = ()) -> list[Judged]:
    """Tell what one transaction would make of items, where those `before` came first."""
    together = [*before, *items]
    refused: dict[int, QuarantineRow] = {}

    def as_quarantined(place: int, reason: str, detail: str) -> QuarantineRow:
        item = together[place]
        row = quarantine_row(item.delivery, item.member, reason, detail, slot=item.row.slot)
        refused[id(item)] = row
        return row

    sorting = Sorting([item.row for item in together], as_quarantined)
    sorting.settle_followers()
    first = {id(row) for row in sorting.new_events()}
    return [_judged(item, first, refused.get(id(item))) for item in items]


def _judged(item: Item, first: set[int], conflict: QuarantineRow | None) -> Judged:
    row = item.row
    if isinstance(row, QuarantineRow) or conflict is not None:
        return Judged("quarantine", conflict or row)
    if id(row) not in first:
        return Judged("duplicate", row)
    try:
        if isinstance(row, OrderRow):
            _order_row(row)
        for time in (row.event_time, getattr(row, "issued_at", None)):
            assert time is None or time.utctimetuple()  # as the driver would take it
    except (OverflowError, ValueError):
        detail = "a value is out of range"
        refused = quarantine_row(item.delivery, item.member, "refused_by_database", detail, slot=row.slot)
        return Judged("quarantine", refused)
    return Judged("accept", row)


class _Taker:
    """Makes a delivery of what the protocol reads, as the lean reader does."""

    def __init__(self) -> None:
        self.taken: list[Delivery] = []
        self.settled: list[int] = []

    def on_delivery(self, tag: int, route: Route, content: Content) -> None:
        texts = content.content_type, content.content_encoding, content.raw_properties
        queue = "order-processed"
        self.taken.append(
            Delivery(content.body, queue, *route, *texts, read_properties, self.settled.append, tag)
        )


def delivery_of(entry: Entry) -> tuple[Delivery, list[int]]:
    """Return the delivery that the lean reader makes of an entry, and the list where it is settled."""
    taker = _Taker()
    listener: Any = taker
    route = route_of("orders", "", mandatory=False)
    publish = publish_frames(route, entry.raw_properties, entry.raw_body, _FRAME_MAX)
    deliver = struct.pack(">I", 0x003C003C) + b"\x01c" + struct.pack(">QB", 1, 0)
    deliver += b"\x06orders" + bytes([len(entry.route)]) + entry.route
    frames = struct.pack(">BHI", 1, 1, len(deliver)) + deliver + b"\xce"
    protocol = AmqpProtocol(listener, lambda: 0.0)
    protocol.data_received(frames + publish[_METHOD_FRAME_BYTES + len(route) :])
    [delivery] = taker.taken
    return delivery, taker.settled
