"""`postorder status` and a broker that stops answering."""

import asyncio

import pytest
from conformance.scripted_broker import ScriptedBroker

from consumers.status import read_queues
from consumers.topology import queue_names
from pipeline.errors import BrokerUnavailableError
from pipeline.settings import AmqpSettings


async def test_every_queue_is_looked_up(broker: ScriptedBroker, settings: AmqpSettings) -> None:
    assert [queue.name for queue in await read_queues(settings)] == queue_names()


@pytest.mark.parametrize("request_name", ["Channel.Open", "Queue.Declare"])
async def test_a_broker_that_does_not_answer_is_not_waited_for_for_ever(
    broker: ScriptedBroker, settings: AmqpSettings, request_name: str
) -> None:
    broker.script[request_name] = lambda _peer, _frame: None  # and its heartbeats go on
    with pytest.raises(BrokerUnavailableError, match=r"no answer in 0\.5 s"):
        async with asyncio.timeout(5):
            await read_queues(settings)
