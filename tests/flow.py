"""A processor on the real cluster, fed by hand: for tests of what happens between a delivery and its rows."""

import asyncio
from collections.abc import Iterable
from uuid import UUID, uuid4

from deliveries import ParkingLot, delivery
from real_stack import Bench

from pipeline.clock import SystemClock
from pipeline.ingest.batcher import Batcher, Item, Lane
from pipeline.ingest.decoder import Decoder
from pipeline.ingest.delivery import Delivery
from pipeline.ingest.entries import EntryBuilder
from pipeline.ingest.lane_writer import LaneWriter
from pipeline.ingest.pressure import Pressure
from pipeline.ingest.processor import Processor
from pipeline.lifecycle import Tasks
from pipeline.observability.metrics import Metrics
from pipeline.storage.rows import AnyRow, BatchCounts, QuarantineRow, Trigger


class Flow:
    """A processor on the real cluster, fed by hand."""

    def __init__(self, bench: Bench, park_after_s: float = 0.5) -> None:
        self.acknowledged: list[bytes] = []
        self.crashes: list[BaseException] = []
        self._settled = asyncio.Event()
        self._cluster = bench.cluster
        self._decoder = Decoder(message_bytes_max=1_000_000)
        self._entries = EntryBuilder(
            bench.cluster.router, document_bytes_max=10_000, document_hosts=(), allow_http=False
        )
        metrics, pressure, self.parking = Metrics(), Pressure(high=20_000), ParkingLot()
        batcher = Batcher(list(bench.cluster.shards), batch_max=100, linger_s=0.005)
        tasks = Tasks(lambda _name, error: self.crashes.append(error))
        cluster = bench.cluster

        def make_writer(name: str, lane: Lane) -> LaneWriter:
            return LaneWriter(
                cluster[name],
                lane,
                parking=self.parking,
                park_after_s=park_after_s,
                attempts_max=3,
                pressure=pressure,
                metrics=metrics,
                clock=SystemClock(),
                on_committed=lambda _shard: None,
                router=cluster.router,
                refresh=cluster.refresh,
                route=self._route,
                tasks=tasks,
            )

        self.processor = Processor(
            decoder=self._decoder,
            entries=self._entries,
            batcher=batcher,
            make_writer=make_writer,
            router=cluster.router,
            batches_in_flight=2,
            park_after_s=park_after_s,
            pressure=pressure,
            metrics=metrics,
            clock=SystemClock(),
            tasks=tasks,
        )

    @property
    def writers(self) -> list[LaneWriter]:
        return self.processor.writers

    def _route(self, items: Iterable[Item]) -> None:
        self.processor.route(items)

    def row(self, body: bytes) -> AnyRow:
        """The row that an event becomes."""
        return self._entries.of_event(self._decoder.decode(delivery(body)))[1]

    async def write(self, shard: str, rows: list[AnyRow], epoch: int | None) -> BatchCounts:
        """Write rows straight to a shard."""
        return await self._cluster[shard].writer.write(rows, Trigger.SIZE, _no_conflict, epoch)

    @staticmethod
    def new_id() -> UUID:
        return uuid4()

    def give(self, *bodies: bytes) -> None:
        for body in bodies:
            self.processor.accept(self._delivery(body))

    async def until_acknowledged(self, count: int) -> None:
        async with asyncio.timeout(20):
            while len(self.acknowledged) < count:
                self._settled.clear()
                await self._settled.wait()

    def _settle(self, body: bytes) -> None:
        self.acknowledged.append(body)
        self._settled.set()

    def _delivery(self, body: bytes) -> Delivery:
        return delivery(
            body,
            settle=lambda _tag: self._settle(body),
            received_at=asyncio.get_running_loop().time(),
        )


def _no_conflict(_place: int, _reason: str, _detail: str) -> QuarantineRow:
    raise AssertionError("no conflicts here")
