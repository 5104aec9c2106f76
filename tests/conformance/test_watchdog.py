"""The watchdog: a consumer that the broker does not count is started anew."""

from collections.abc import AsyncIterator

import pytest
from conformance.conftest import QUEUE, HurriedClock, NewConsumer
from conformance.scripted_broker import Peer, ScriptedBroker
from pamqp import commands

from consumers.amqp import QueueConsumer
from consumers.watchdog import Watchdog
from pipeline.lifecycle import Tasks
from pipeline.observability.metrics import Metrics
from pipeline.settings import AmqpSettings


class Census:
    """What the broker tells of its queues: consumers are counted, but not those of `forgotten` peers."""

    def __init__(self, broker: ScriptedBroker) -> None:
        self.forgotten: list[Peer] = []
        self.looks = 0
        self._broker = broker
        broker.script["Queue.Declare"] = self._declare

    def _declare(self, peer: Peer, frame: commands.Queue.Declare) -> None:
        counted = [one for one in self._broker.peers if one.consuming and not one.gone]
        consumers = sum(one not in self.forgotten for one in counted)
        self.looks += 1
        peer.method(commands.Queue.DeclareOk(frame.queue, 0, consumers if frame.queue == QUEUE else 0))


@pytest.fixture
async def watched(
    broker: ScriptedBroker, settings: AmqpSettings, new_consumer: NewConsumer, reader: str
) -> AsyncIterator[QueueConsumer]:
    """A consumer that consumes, and a watchdog that looks every few milliseconds."""
    crashes: list[str] = []
    consumer = new_consumer(reader)
    await consumer.start()
    await broker.consumer()
    watchdog = Watchdog(
        [consumer],
        settings=settings,
        metrics=Metrics(),
        clock=HurriedClock(),
        tasks=Tasks(lambda name, error: crashes.append(f"{name}: {error!r}")),
    )
    await watchdog.start()
    yield consumer
    await watchdog.stop()
    assert crashes == []


async def test_a_consumer_that_is_counted_is_left_alone(
    broker: ScriptedBroker, watched: QueueConsumer
) -> None:
    census = Census(broker)
    await broker.news.until(lambda: census.looks > 50, "several looks")
    assert watched.consuming
    assert sum(peer.consuming for peer in broker.peers) == 1


async def test_a_consumer_that_is_not_counted_is_started_anew(
    broker: ScriptedBroker, watched: QueueConsumer
) -> None:
    first = await broker.consumer()
    Census(broker).forgotten.append(first)
    await broker.consumer(2)
    await first.until_gone()


async def test_a_consumer_whose_broker_does_not_say_goodbye_is_started_anew(
    broker: ScriptedBroker, watched: QueueConsumer
) -> None:
    """Its closing takes as long as the watchdog's own look may take."""
    first = await broker.consumer()
    broker.script["Connection.Close"] = lambda _peer, _frame: None
    Census(broker).forgotten.append(first)
    await broker.consumer(2)
    await first.until_gone()
