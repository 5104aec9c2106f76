"""SIGKILL at each point of the write path: afterwards all is stored once and sent once."""

import signal
from pathlib import Path

import orjson
import psutil
import pytest
from crashing import POINTS
from real_stack import Bench, invoice_event, order_event

from consumers.quarantine import find
from pipeline.settings import Settings
from pipeline.storage.quarantine import Filter
from stack.launcher import StackConfig, up

pytestmark = [pytest.mark.faults, pytest.mark.timeout(120)]

PROGRAM = str(Path(__file__).with_name("crashing.py"))
ORDERS = 300
# Off the path that every event takes; each has a test of its own below.
BESIDE = {"in_isolation", "parked_not_acked"}
WRITE_PATH = [point for point in POINTS if point not in BESIDE]
kill_at_a_point = pytest.mark.fault(
    1, "SIGKILL at each crash point of the write path", ["I1", "I2", "I3", "I6", "I29"]
)


def events() -> list[dict | bytes]:
    """Orders, some of them twice, invoices, and what is no event."""
    orders = [order_event(f"o-{number}") for number in range(ORDERS)]
    invoices = [invoice_event(f"o-{number}") for number in range(0, ORDERS, 3)]
    return [*orders, *invoices, *orders[:10], b"[", b"{}"]


async def check(bench: Bench, settings: Settings) -> None:
    """I1 to I6: everything stored once, with its messages; the bad ones held with their reason."""
    published = events()

    async def all_there() -> bool:
        status = await bench.status()
        return status.is_quiet and status.totals["orders"] >= ORDERS

    await bench.until(all_there, "everything is stored and sent", 40)
    status = await bench.status()
    invoices = sum(isinstance(event, dict) and event["type"] == "invoice.generated" for event in published)
    assert (status.totals["orders"], status.totals["invoices"]) == (ORDERS, invoices)
    assert status.accounting.events_difference == status.accounting.effects_difference == 0
    held = (await find(settings, Filter(), 10)).deliveries
    assert sorted(one.body for one in held) == [b"[", b"{}"]
    depths = {queue.name: queue.messages for queue in status.queues}
    assert depths["dead-letters"] == 0
    numbers = [message["to"] for message in await bench.sms()]
    assert len(numbers) == ORDERS
    mails = [mail["parsed"]["headers"] for mail in await bench.mails()]
    ids = [next(value for name, value in headers if name.lower() == "message-id") for headers in mails]
    assert len(ids) == len(set(ids))


@kill_at_a_point
@pytest.mark.parametrize("nth", [1, 3])
@pytest.mark.parametrize("point", WRITE_PATH)
async def test_killed_at(bench: Bench, settings: Settings, run_pipeline, point: str, nth: int) -> None:
    nth = nth * 40 if point == "before_decode" else nth
    intake = ("--only", "order-processed,invoice-generated")
    await bench.publish(*events())
    with run_pipeline(*intake, program=(PROGRAM, f"{point}:{nth}"), intake_batch_max="50") as dying:
        assert dying.wait_ended(20) == -signal.SIGKILL
    with run_pipeline(notifications_grace_window_s="0", intake_batch_max="50"):
        await check(bench, settings)


@kill_at_a_point
async def test_killed_while_a_bad_row_is_isolated(bench: Bench, settings: Settings, run_pipeline) -> None:
    bad = order_event("o-bad", processed_at="0001-01-01T00:00:00+14:00")
    await bench.publish(*(order_event(f"o-{number}") for number in range(50)), bad)
    with run_pipeline("--only", "order-processed", program=(PROGRAM, "in_isolation:3")) as dying:
        assert dying.wait_ended(20) == -signal.SIGKILL
    with run_pipeline(notifications_grace_window_s="0"):
        status = await bench.until_quiet(51, timeout_s=40)
    assert status.totals["orders"] == 50
    held = (await find(settings, Filter(reason="refused_by_database"), 10)).deliveries
    assert [orjson.loads(one.body)["data"]["order_id"] for one in held] == ["o-bad"]


@kill_at_a_point
async def test_killed_between_parking_and_acknowledging(
    bench: Bench, run_pipeline, stack_folder: Path
) -> None:
    """The parked copy and the unacknowledged original both come back: one of them is a duplicate."""
    program = (PROGRAM, "parked_not_acked:1")
    with run_pipeline("--only", "order-processed", program=program, intake_park_after_s="0.5") as dying:
        await bench.until_true(lambda: consumed(bench))
        now = up(StackConfig(data_dir=stack_folder), lambda _text: None)
        server = psutil.Process(now.pids["shard0-primary"])
        for process in (server, *server.children(recursive=True)):
            process.kill()
        await bench.publish(*(order_event(f"o-{number}") for number in range(100)))
        assert dying.wait_ended(30) == -signal.SIGKILL
    up(StackConfig(data_dir=stack_folder), lambda _text: None)

    async def all_there() -> bool:
        status = await bench.status()
        return status.is_quiet and status.totals["orders"] == 100 and status.totals["duplicates"] > 0

    with run_pipeline(notifications_grace_window_s="0"):
        await bench.until(all_there, "everything is stored once and sent", 40)
    assert len(await bench.sms()) == 100
    assert (await bench.status()).accounting.balances


@pytest.mark.fault(2, "SIGKILL again and again, every half second", ["I1", "I3", "I29"])
async def test_killed_again_and_again(bench: Bench, settings: Settings, run_pipeline) -> None:
    """More often than a message's delivery limit would allow were nothing ever finished."""
    await bench.publish(*events())
    for round_ in range(8):
        with run_pipeline("--only", "order-processed,invoice-generated", intake_batch_max="20") as process:
            if round_ % 2:
                await bench.until_true(lambda: consumed(bench), 20)
            process.stop(signal.SIGKILL)
    with run_pipeline(notifications_grace_window_s="0"):
        await check(bench, settings)


async def consumed(bench: Bench) -> bool:
    return any(queue.consumers for queue in (await bench.status()).queues)
