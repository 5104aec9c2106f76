"""What shards say of themselves on a real stack: pairs, what is due, quarantine, and whether it adds up."""

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any

import msgspec
import pytest
from prometheus_client import generate_latest
from real_stack import Bench

from pipeline.clock import SystemClock
from pipeline.lifecycle import Service, Tasks
from pipeline.observability.metrics import Metrics
from pipeline.storage.cluster import Cluster
from pipeline.storage.ledger_watch import LedgerWatch
from pipeline.storage.shard_watch import ShardWatch

pytestmark = pytest.mark.integration

OUTBOX = """INSERT INTO outbox (slot, effect_id, order_id, channel, kind, due_at, expires_at)
SELECT s.slot, gen_random_uuid(), 'o-' || n, 'sms', 'order_sms', now() - interval '90 s', now() + '1 d'
FROM (SELECT slot FROM shard_slot LIMIT 1) AS s, generate_series(1, 3) AS n"""
QUARANTINE = """INSERT INTO quarantine (slot, quarantine_id, reason, detail, queue, exchange, routing_key,
 headers, body)
SELECT slot, gen_random_uuid(), 'malformed_json', '', 'order-processed', '', '', '{}', ''
FROM shard_slot WHERE state = 'owned' LIMIT 1"""

LOCKED = """SELECT EXISTS (SELECT FROM pg_stat_activity
 WHERE wait_event_type = 'Lock' AND query LIKE '%FROM customers%') AS waiting"""


class Watched:
    def __init__(self, bench: Bench, metrics: Metrics) -> None:
        self._bench = bench
        self._metrics = metrics

    def shown(self, name: str) -> dict[str, float]:
        lines = generate_latest(self._metrics.registry).decode().splitlines()
        pairs = (line.rpartition(" ") for line in lines if line.startswith((f"{name}{{", f"{name} ")))
        return {key.removeprefix(name): float(value) for key, _, value in pairs}

    async def until(self, name: str, wanted: dict[str, float]) -> None:
        async def is_so() -> bool:
            return {key: self.shown(name).get(key) for key in wanted} == wanted

        await self._bench.until(is_so, f"{name} {wanted}")


@asynccontextmanager
async def running(make: Any, metrics: Metrics) -> AsyncIterator[Service]:
    crashes: list[Any] = []
    service = make(metrics=metrics, clock=SystemClock(), tasks=Tasks(lambda *error: crashes.append(error)))
    await service.start()
    try:
        yield service
    finally:
        await service.stop()
    assert crashes == []


async def test_pairs_due_messages_and_quarantine(bench: Bench) -> None:
    await bench.execute(OUTBOX)
    await bench.execute(QUARANTINE)
    metrics = Metrics()
    watched = Watched(bench, metrics)
    async with running(lambda **given: ShardWatch(bench.cluster, counts=True, **given), metrics) as watch:
        both = ('{shard="shard0"}', '{shard="shard1"}')
        for name, value in (
            ("primary_up", 1),
            ("replicas", 1),
            ("replicas_synchronous", 1),
            ("quarantine_held", 1),
        ):
            await watched.until(f"postorder_{name}", dict.fromkeys(both, value))
        sms = {f'{{channel="sms",shard="{name}"}}': 3.0 for name in bench.cluster.shards}
        await watched.until("postorder_due_messages", sms)
        assert all(
            90 <= age < 120
            for key, age in watched.shown("postorder_oldest_due_seconds").items()
            if "sms" in key
        )
        for _ in range(2):  # nothing is done between them: that is what such a stage can do
            for look in metrics.looks:
                look()
        assert watched.shown("postorder_backlog") == {'{bottleneck="sms"}': 6, '{bottleneck="email"}': 0}
        assert watched.shown("postorder_work_seconds")['{bottleneck="sms"}'] == 600
        assert sum(watched.shown("postorder_slots_owned").values()) == 4096
        assert set(watched.shown("postorder_map_epoch").values()) == {bench.cluster.router.epoch}
        used = watched.shown("postorder_connections")
        assert sum(count for key, count in used.items() if 'server="primary"' in key) >= 2
        assert watch.causes() == []


async def test_a_primary_that_goes_is_a_cause_and_blocks_only_when_it_is_the_last(bench: Bench) -> None:
    metrics, cluster = Metrics(), Cluster(bench.settings)
    for shard in cluster:
        await shard.primary.open()
    watched = Watched(bench, metrics)
    try:
        await cluster["shard0"].primary.close()
        async with running(lambda **given: ShardWatch(cluster, counts=False, **given), metrics) as watch:
            await watched.until("postorder_primary_up", {'{shard="shard0"}': 0, '{shard="shard1"}': 1})
            [cause] = watch.causes()
            assert (cause.cause, cause.what, cause.is_blocking) == ("primary", "shard0", False)
        await cluster["shard1"].primary.close()
        async with running(lambda **given: ShardWatch(cluster, counts=False, **given), metrics) as watch:
            await watched.until("postorder_primary_up", {'{shard="shard0"}': 0, '{shard="shard1"}': 0})
            assert [cause.is_blocking for cause in watch.causes()] == [True, True]
    finally:
        await cluster.close()


async def test_one_process_counts_and_another_takes_over(bench: Bench) -> None:
    first, second = Metrics(), Metrics()
    counted, silent = Watched(bench, first), Watched(bench, second)
    balanced = {'{ledger="events"}': 0.0, '{ledger="effects"}': 0.0}

    def ledger(**given: Any) -> LedgerWatch:
        return LedgerWatch(bench.cluster, every_s=0.1, **given)

    async with running(ledger, first) as leader:
        await counted.until("postorder_ledger_difference", balanced)
        async with running(ledger, second):
            await bench.execute(
                "INSERT INTO intake_batch (trigger, events, orders, invoices, customers, duplicates,"
                " quarantined) VALUES ('size', 2, 2, 0, 0, 0, 0)"
            )
            await counted.until("postorder_ledger_difference", {**balanced, '{ledger="events"}': 4.0})
            assert silent.shown("postorder_ledger_difference") == {}
            await leader.stop()
            await silent.until("postorder_ledger_difference", {**balanced, '{ledger="events"}': 4.0})
            assert counted.shown("postorder_ledger_difference") == {}


async def test_a_count_may_take_longer_than_a_statement_and_leaves_the_pool_alone(bench: Bench) -> None:
    storage = msgspec.structs.replace(bench.settings.storage, command_timeout_s=0.3)
    metrics, cluster = Metrics(), Cluster(msgspec.structs.replace(bench.settings, storage=storage))
    watched = Watched(bench, metrics)
    for shard in cluster:
        await shard.primary.open()
    try:
        async with cluster["shard0"].primary.connection() as lent:
            before = lent.get_server_pid()
        blocker = await bench.cluster["shard0"].primary.dedicated_connection()
        try:
            await blocker.execute("BEGIN; LOCK TABLE customers")  # until then no count ends
            async with running(lambda **given: LedgerWatch(cluster, every_s=30.0, **given), metrics):

                async def waits() -> bool:
                    [row] = await bench.rows(LOCKED, shard="shard0")
                    return bool(row["waiting"])

                await bench.until_true(waits)
                await asyncio.sleep(2 * storage.command_timeout_s)
                assert watched.shown("postorder_ledger_difference") == {}
                await blocker.execute("COMMIT")
                await watched.until(
                    "postorder_ledger_difference", {'{ledger="events"}': 0.0, '{ledger="effects"}': 0.0}
                )
                assert watched.shown("postorder_ledger_check_interval_seconds") == {"": 30.0}
        finally:
            blocker.terminate()
        async with cluster["shard0"].primary.connection() as lent:
            assert lent.get_server_pid() == before
    finally:
        await cluster.close()
