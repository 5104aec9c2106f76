"""Servers that go away and come back while the pipeline runs. Nothing is lost, nobody has to help."""

import asyncio
from pathlib import Path

import msgspec
import orjson
import psutil
import pytest
from real_stack import Bench, open_bench, order_event

from consumers.publisher import EventPublisher
from pipeline.events import OrderEvent
from pipeline.settings import Settings
from stack.launcher import StackConfig, up
from stack.status import StackStatus

pytestmark = [pytest.mark.faults, pytest.mark.timeout(180)]


def kill(status: StackStatus, name: str) -> None:
    process = psutil.Process(status.pids[name])
    process.kill()
    psutil.wait_procs([process], timeout=10)


def restart(folder: Path) -> StackStatus:
    return up(StackConfig(data_dir=folder), lambda _text: None)


@pytest.mark.fault(7, "broker killed while nothing is under way", ["I1", "I26"])
async def test_consumers_come_back_after_the_broker_was_killed(
    bench: Bench, stack: StackStatus, settings: Settings, stack_folder: Path, run_pipeline
) -> None:
    """I26: and confirmed events survive the kill (I1)."""
    with run_pipeline(notifications_grace_window_s="0") as process:
        await bench.publish(*(order_event(f"o-{number}") for number in range(20)))
        await bench.until_quiet(20)
        now = restart(stack_folder)
        kill(now, "rabbitmq")
        assert restart(stack_folder).amqp_url == stack.amqp_url
        async with open_bench(stack, settings) as fresh:
            await fresh.publish(*(order_event(f"again-{number}") for number in range(20)))
            status = await fresh.until_quiet(20, timeout_s=30)
        process.check()
    assert status.totals["orders"] == 20
    assert status.accounting.balances
    assert "Traceback" not in process.log.read_text()


@pytest.mark.fault(19, "a primary killed and restarted by hand", ["I1", "I3"])
async def test_writes_and_claims_go_on_after_a_primary_was_killed(
    bench: Bench, stack_folder: Path, run_pipeline
) -> None:
    """I1, I3: batches under way are written again, and their events are known."""
    with run_pipeline(notifications_grace_window_s="0") as process:
        await bench.publish(order_event("first"))
        await bench.until_quiet(1)
        now = restart(stack_folder)
        kill(now, "shard0-primary")
        await bench.publish(*(order_event(f"o-{number}") for number in range(60)))
        restart(stack_folder)
        status = await bench.until_quiet(61, timeout_s=40)
        process.check()
    assert status.totals["orders"] == 61
    assert status.effects == {"sms": {"accepted": 61}, "email": {"accepted": 61}}
    assert len(await bench.sms()) == 61
    assert status.accounting.balances
    log = process.log.read_text()
    assert "Traceback" not in log
    assert "batch.write_failed" in log or "claim.failed" in log


@pytest.mark.fault(7, "broker killed in the middle of publishing", ["I1"])
async def test_a_publisher_outlives_its_broker(
    bench: Bench, settings: Settings, stack_folder: Path, run_pipeline
) -> None:
    """What publish_event returned for is stored once, although the broker was killed in the middle."""
    decode = msgspec.json.Decoder(OrderEvent).decode
    events = [decode(orjson.dumps(order_event(f"o-{number}"))) for number in range(300)]
    async with EventPublisher(settings.amqp) as publisher:
        publishing = asyncio.gather(*(publisher.publish_event(event) for event in events[:150]))
        now = restart(stack_folder)
        kill(now, "rabbitmq")
        later = [asyncio.create_task(publisher.publish_event(event)) for event in events[150:]]
        await asyncio.to_thread(restart, stack_folder)
        await publishing
        await asyncio.gather(*later)
    assert publisher.confirmed == 300
    await bench.reconnect()
    with run_pipeline(notifications_grace_window_s="0"):

        async def stored() -> bool:
            status = await bench.status()
            return status.is_quiet and status.totals["orders"] == 300

        await bench.until(stored, "every confirmed event is stored", 30)
    status = await bench.status()
    assert status.accounting.balances
    assert len(await bench.sms()) == 300
