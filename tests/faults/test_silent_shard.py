"""A shard that hangs while messages are sent: the others' messages go on, and its own follow."""

import asyncio
import time
from collections.abc import Iterator
from itertools import count
from pathlib import Path
from typing import Any
from zlib import crc32

import pytest
from hung_servers import hanging
from real_stack import Bench, order_event

from pipeline.sharding.router import Router
from pipeline.storage.outbox import Channel
from pipeline.storage.recipients import recipient_key
from stack.launcher import StackConfig, up

pytestmark = [pytest.mark.faults, pytest.mark.timeout(200)]

RATE, SECONDS = 20, 8.0
SHORT = {"notifications_grace_window_s": "0", "storage_command_timeout_s": "3", "reads_timeout_s": "1"}
_OUT = """
SELECT count(*) AS n FROM outbox
WHERE channel = 'email' AND state = 'accepted' AND order_id LIKE $1
"""


class Orders:
    """Orders by where they live, and where their recipients do: found by trying names."""

    def __init__(self, bench: Bench, run: str) -> None:
        self._bench = bench
        self._router = Router(bench.cluster.shard_map)
        self._names = {
            kind: self._found(f"{run}-{kind}", *shards)
            for kind, shards in {
                "near": ("shard1", "shard1"),
                "far": ("shard1", "shard0"),
                "gone": ("shard0", "shard0"),
            }.items()
        }

    def _found(self, prefix: str, shard: str, recipients: str) -> Iterator[dict[str, Any]]:
        for number in count():
            name = f"{prefix}-{number}"
            address = f"{name}@example.com"
            phone = f"+49151{crc32(name.encode()) % 90_000_000 + 10_000_000}"
            keys = recipient_key(Channel.EMAIL, address), recipient_key(Channel.SMS, phone)
            if self._router.place(name).shard == shard and all(
                self._router.shard_of(key.slot) == recipients for key in keys
            ):
                yield order_event(name, customer={"name": "Ada", "email": address, "phone": phone})

    async def publish_steadily(self) -> int:
        """Publish some of each by the clock; return how many of each."""
        started, published = time.monotonic(), 0
        while (passed := time.monotonic() - started) < SECONDS:
            wanted = int(RATE * passed) - published
            for _ in range(wanted):
                await self._bench.publish(*(next(names) for names in self._names.values()))
            published += wanted
            await asyncio.sleep(0.1)
        return published


async def out(bench: Bench, kind: str, shard: str = "shard1") -> int:
    return sum(row["n"] for row in await bench.rows(_OUT, f"{kind}-%", shard=shard))


@pytest.mark.fault(24, "one primary hangs while messages are sent", ["I10", "I23"])
async def test_a_shard_that_hangs_leaves_the_other_its_messages(
    bench: Bench, stack_folder: Path, run_pipeline
) -> None:
    with run_pipeline(**SHORT) as process:
        calm = Orders(bench, "calm")
        published = await calm.publish_steadily()
        await bench.until_quiet(3 * published)
        hung = Orders(bench, "hung")
        with hanging(up(StackConfig(data_dir=stack_folder), lambda _text: None).pids["shard0-primary"]):
            during = await hung.publish_steadily()
            near = await out(bench, "hung-near")
        # What is out when the last has come: all but what is just being sent.
        assert near >= 0.9 * during
        await bench.until_quiet(3 * (published + during), 60)
    assert process.exit_status == 0
    sent = await bench.twilio("health")
    assert (sent["total"], sent["duplicates"]) == (3 * (published + during), 0)
    assert (await bench.smtp("health"))["total"] == 3 * (published + during)
