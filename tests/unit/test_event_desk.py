"""Webhooks while the broker is away or hangs: a bounded number wait for a bounded time."""

import asyncio
import socket

import pytest
from event_desks import desk_of, order

from pipeline.errors import BrokerUnavailableError, BusyError, PublishUnknownError
from pipeline.settings import AmqpSettings


async def test_while_the_broker_is_away_nobody_waits_for_it_twice() -> None:
    with socket.socket() as closed:
        closed.bind(("127.0.0.1", 0))
        url = f"amqp://guest@127.0.0.1:{closed.getsockname()[1]}/"
        async with desk_of(AmqpSettings(url=url)) as desk:
            with pytest.raises(PublishUnknownError):
                await desk.publish([order()])
            began = asyncio.get_running_loop().time()
            with pytest.raises(BrokerUnavailableError, match="just now"):
                await desk.publish([order()])
            assert asyncio.get_running_loop().time() - began < 0.1


async def test_a_broker_that_hangs_costs_a_bounded_number_of_requests_a_bounded_time() -> None:
    with socket.create_server(("127.0.0.1", 0)) as silent:  # takes connections, and says nothing
        url = f"amqp://guest@127.0.0.1:{silent.getsockname()[1]}/"
        async with desk_of(AmqpSettings(url=url), publish_timeout_s=0.5, publishes_max=3) as desk:
            began = asyncio.get_running_loop().time()
            publishes = (desk.publish([order()]) for _ in range(5))
            results = await asyncio.gather(*publishes, return_exceptions=True)
            assert asyncio.get_running_loop().time() - began < 1.5
            assert [type(result) for result in results].count(BusyError) == 2
            assert all(isinstance(result, Exception) for result in results)


async def test_what_is_cut_off_by_the_end_is_not_taken_for_confirmed() -> None:
    with socket.create_server(("127.0.0.1", 0)) as silent:
        url = f"amqp://guest@127.0.0.1:{silent.getsockname()[1]}/"
        async with desk_of(AmqpSettings(url=url), publish_timeout_s=5.0) as desk:
            waiting = asyncio.ensure_future(desk.publish([order()]))
            connection, _ = await asyncio.to_thread(silent.accept)  # so it is under way
            with connection:
                await desk.stop()
                with pytest.raises(PublishUnknownError):
                    await waiting
