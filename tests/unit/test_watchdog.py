"""What the watchdog shows of queues while the broker does not answer it: nothing from before."""

import asyncio
from typing import Any

from consumers.watchdog import Watchdog
from pipeline.clock import SystemClock
from pipeline.lifecycle import Tasks
from pipeline.observability.metrics import Metrics
from pipeline.settings import AmqpSettings


class HurriedClock(SystemClock):
    async def sleep(self, _delay_s: float) -> None:
        await asyncio.sleep(0.01)


async def test_a_watchdog_that_the_broker_does_not_answer_says_nothing_of_queues() -> None:
    metrics = Metrics()
    metrics.broker_up.set(1)
    for gauge in (metrics.queue_consumers, metrics.queue_messages):
        gauge.labels("order-processed").set(1)
    stage = metrics.work.stage("intake", "order-processed")
    for second in range(3):
        stage.look(float(second), 10, 5.0 * second)
    metrics.work.show("intake")
    names = [f"postorder_{name}" for name in ("queue_consumers", "queue_messages", "work_seconds", "backlog")]

    def shown() -> list[Any]:
        return [
            sample
            for metric in metrics.registry.restricted_registry(names).collect()
            for sample in metric.samples
        ]

    assert len(shown()) == len(names)
    crashes: list[object] = []
    watchdog = Watchdog(
        [],
        settings=AmqpSettings(url="amqp://127.0.0.1:9/"),
        metrics=metrics,
        clock=HurriedClock(),
        tasks=Tasks(lambda *crash: crashes.append(crash)),
    )
    await watchdog.start()
    async with asyncio.timeout(5):
        while metrics.registry.get_sample_value("postorder_broker_up") != 0:  # noqa: ASYNC110  # nobody tells
            await asyncio.sleep(0.01)
    await watchdog.stop()
    assert (shown(), crashes) == ([], [])
