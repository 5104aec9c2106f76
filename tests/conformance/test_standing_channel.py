"""Who asks the broker every few seconds, for months: nothing is left behind by that, and no loss ends it."""

import gc
from collections.abc import AsyncIterator

import pytest
from conformance.conftest import QUEUE, HurriedClock
from conformance.scripted_broker import (
    Answer,
    ScriptedBroker,
    close_channel,
    close_connection,
    hang_up,
    reset,
    silence,
)

from consumers.allocator.backlog import Backlog
from consumers.standing_channel import StandingChannel
from consumers.watchdog import Watchdog
from pipeline.lifecycle import Tasks
from pipeline.observability.metrics import Metrics
from pipeline.settings import AmqpSettings

LOSSES = {
    "channel closed": close_channel(404, "NOT_FOUND - no queue"),
    "connection closed": close_connection(320, "CONNECTION_FORCED - shutdown"),
    "hung up": hang_up,
    "reset": reset,
    "silent": silence,
}


@pytest.fixture
async def backlog(settings: AmqpSettings) -> AsyncIterator[Backlog]:
    asking = Backlog([QUEUE], settings)
    yield asking
    await asking.close()


@pytest.fixture
async def watchdog(settings: AmqpSettings) -> AsyncIterator[Watchdog]:
    """A watchdog that looks every few milliseconds."""
    crashes: list[str] = []
    watching = Watchdog(
        [],
        settings=settings,
        metrics=Metrics(),
        clock=HurriedClock(),
        tasks=Tasks(lambda name, error: crashes.append(f"{name}: {error!r}")),
    )
    await watching.start()
    yield watching
    await watching.stop()
    assert crashes == []


def received(broker: ScriptedBroker, name: str) -> int:
    return sum(peer.received.count(name) for peer in broker.peers)


async def test_questions_leave_nothing_behind(broker: ScriptedBroker, settings: AmqpSettings) -> None:
    channel = StandingChannel(settings, "test")

    async def objects_after(questions: int) -> int:
        for _ in range(questions):
            await (await channel.get()).declare_queue(QUEUE, passive=True)
        gc.collect()
        return len(gc.get_objects())

    before = await objects_after(20)
    assert await objects_after(100) - before < 100
    await channel.close()


async def test_the_watchdog_opens_no_channel_for_each_look(
    broker: ScriptedBroker, watchdog: Watchdog
) -> None:
    """aio-pika keeps every channel that was closed until its connection ends: 3 MB in an hour."""
    await broker.news.until(lambda: received(broker, "Queue.Declare") > 50, "several looks")
    assert received(broker, "Channel.Open") == 1


async def test_the_allocator_opens_no_channel_for_each_look(broker: ScriptedBroker, backlog: Backlog) -> None:
    assert [await backlog.ready() for _ in range(5)] == [0] * 5
    assert received(broker, "Channel.Open") == 1


@pytest.mark.parametrize("loss", LOSSES.values(), ids=LOSSES)
async def test_the_watchdog_goes_on_after_a_loss(
    broker: ScriptedBroker, loss: Answer, watchdog: Watchdog
) -> None:
    broker.script["Queue.Declare"] = loss
    await broker.news.until(lambda: received(broker, "Queue.Declare") > 0, "a look")
    del broker.script["Queue.Declare"]
    await broker.news.until(lambda: received(broker, "Queue.Declare") > 50, "looks after a loss")


@pytest.mark.parametrize("loss", LOSSES.values(), ids=LOSSES)
async def test_the_allocator_sees_again_after_a_loss(
    broker: ScriptedBroker, loss: Answer, backlog: Backlog
) -> None:
    assert await backlog.ready() == 0
    broker.script["Queue.Declare"] = loss
    assert await backlog.ready() is None
    del broker.script["Queue.Declare"]
    assert await backlog.ready() == 0
