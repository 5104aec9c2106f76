"""What can be changed of a process while it runs, for whoever steers it."""

from collections.abc import Sequence
from typing import Any, Protocol

from consumers.amqp import QueueConsumer
from pipeline.ingest.batcher import Batcher
from pipeline.lifecycle import Service, Tasks
from pipeline.observability.metrics import Metrics


class Knobs:
    """Prefetch and size of batches. A process without intake has none, and turning them does nothing.

    Mutable state: `_consumers` and `_batcher`, which intake puts in when it is put together.
    """

    def __init__(self) -> None:
        self._consumers: tuple[QueueConsumer, ...] = ()
        self._batcher: Batcher | None = None

    def __repr__(self) -> str:
        return f"Knobs(prefetch {self.prefetch}, batch_max {self.batch_max})"

    def take(self, consumers: Sequence[QueueConsumer], batcher: Batcher) -> None:
        """Turn these from now on: consumers whose prefetch is the settings'."""
        self._consumers = tuple(consumers)
        self._batcher = batcher

    @property
    def prefetch(self) -> int:
        """Deliveries that each consumer may hold unsettled; 0: there is none."""
        return self._consumers[0].prefetch if self._consumers else 0

    @property
    def batch_max(self) -> int:
        """Events in one transaction at most; 0: nothing is written here."""
        return self._batcher.batch_max if self._batcher is not None else 0

    async def set_prefetch(self, prefetch: int) -> None:
        """Have each consumer hold so many deliveries at most from now on. Raises nothing."""
        for consumer in self._consumers:
            await consumer.set_prefetch(prefetch)

    def set_batch_max(self, batch_max: int) -> None:
        """Have batches be of so many events at most from now on."""
        if self._batcher is not None:
            self._batcher.set_batch_max(batch_max)


class Steering(Protocol):
    """Whoever steers a process from outside: a supervisor."""

    def service(self, knobs: Knobs, metrics: Metrics, tasks: Tasks) -> Service:
        """Return a service that turns the knobs; it is started last, and drained first."""

    def report(self) -> dict[str, Any]:
        """Return what the process's report says of it."""
