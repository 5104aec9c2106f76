"""The side of the pipeline: takes deliveries, settles what a test says, and tells when something came."""

import asyncio
from collections.abc import Callable

from pipeline.ingest.delivery import Delivery

PATIENCE_S = 5.0  # for what happens at once; only a defect makes a test wait this long


class News:
    """Wakes those who wait for a condition, whenever something has happened."""

    def __init__(self) -> None:
        self._event = asyncio.Event()

    def tell(self) -> None:
        self._event.set()

    async def until(self, condition: Callable[[], bool], what: str, patience_s: float = PATIENCE_S) -> None:
        try:
            async with asyncio.timeout(patience_s):
                while not condition():
                    self._event.clear()
                    await self._event.wait()
        except TimeoutError:
            raise AssertionError(f"not within {patience_s:g} s: {what}") from None


class Inbox:
    """Every delivery of every session, in the order in which they came."""

    def __init__(self) -> None:
        self.deliveries: list[Delivery] = []
        self.settled: set[int] = set()
        self.settling = False
        self._news = News()

    def take(self, delivery: Delivery) -> None:
        self.deliveries.append(delivery)
        if self.settling:
            self.settle(delivery)
        self._news.tell()

    def settle(self, *deliveries: Delivery) -> None:
        for delivery in deliveries:
            self.settled.add(delivery.tag)
            delivery.event_settled()

    async def until(self, count: int, patience_s: float = PATIENCE_S) -> list[Delivery]:
        await self._news.until(
            lambda: len(self.deliveries) >= count,
            f"{count} deliveries; had {len(self.deliveries)}",
            patience_s,
        )
        return self.deliveries
