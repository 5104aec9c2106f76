"""What a process says of a shard that it no longer reaches: that, and nothing from before."""

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from types import SimpleNamespace
from typing import Any

import pytest
from virtual_clock import VirtualClock

from pipeline.errors import StorageTimeoutError, StorageUnavailableError
from pipeline.lifecycle import Tasks
from pipeline.observability.metrics import Metrics
from pipeline.storage.shard_watch import ShardWatch

STANDING = (2, 1, 4096, 0.5)
WAITING = [{"channel": channel, "due": 60, "oldest_s": 9.0, "settled": 30} for channel in ("sms", "email")]
OF_PAIRS = ("replicas", "replicas_synchronous", "replica_lag_bytes", "replica_lag_seconds")
COUNTED = ("due_messages", "oldest_due_seconds", "quarantine_held")


class Primary:
    """A primary in place of a Node: it answers, or does not."""

    def __init__(self) -> None:
        self.is_away = self.is_slow = False
        self.standing: tuple[float, ...] = STANDING

    @asynccontextmanager
    async def connection(self) -> AsyncIterator["Primary"]:
        if self.is_away:
            raise StorageUnavailableError("away")
        yield self

    def connections(self) -> tuple[int, int, int]:
        return 0, 1, 20

    async def fetchrow(self, _statement: str) -> tuple[float, ...]:
        return self.standing

    async def fetch(self, _statement: str, _at_most: int) -> list[dict[str, Any]]:
        if self.is_slow:
            raise StorageTimeoutError("no answer in time")
        return WAITING

    async def fetchval(self, _statement: str) -> int:
        return 3


class Watched:
    def __init__(self) -> None:
        self.clock, self.metrics = VirtualClock(), Metrics()
        self.primaries = {name: Primary() for name in ("shard0", "shard1")}
        shards = {
            name: SimpleNamespace(name=name, primary=primary, replica=None)
            for name, primary in self.primaries.items()
        }
        cluster: Any = _Cluster(shards)
        self.crashes: list[object] = []
        tasks = Tasks(lambda *crash: self.crashes.append(crash))
        self.watch = ShardWatch(cluster, counts=True, metrics=self.metrics, clock=self.clock, tasks=tasks)

    def shown(self, name: str) -> set[str]:
        """The values of the first label under which a metric is shown."""
        label = "bottleneck" if name == "work_seconds" else "shard"
        return {
            sample.labels[label]
            for metric in self.metrics.registry.restricted_registry([f"postorder_{name}"]).collect()
            for sample in metric.samples
        }

    async def pass_by(self, seconds: float) -> None:
        for _ in range(int(seconds / 5)):
            await self.clock.pass_by(5)
            for look in self.metrics.looks:
                look()


class _Cluster:
    def __init__(self, shards: dict[str, Any]) -> None:
        self.shards = shards
        self.on_added: list[Any] = []
        self.router = SimpleNamespace(epoch=1)
        self.shard_map = SimpleNamespace(shares=dict)

    def __iter__(self) -> Any:
        return iter(self.shards.values())


@pytest.fixture
async def watched() -> AsyncIterator[Watched]:
    made = Watched()
    await made.watch.start()
    yield made
    await made.watch.stop()
    assert made.crashes == []


async def test_of_a_primary_that_went_away_nothing_is_shown_that_was_seen_before(watched: Watched) -> None:
    await watched.pass_by(10)
    for name in OF_PAIRS + COUNTED:
        assert watched.shown(name) == {"shard0", "shard1"}, name
    watched.primaries["shard0"].is_away = True
    await watched.pass_by(10)
    for name in OF_PAIRS + COUNTED:
        assert watched.shown(name) == {"shard1"}, name
    assert watched.metrics.registry.get_sample_value("postorder_primary_up", {"shard": "shard0"}) == 0
    watched.primaries["shard0"].is_away = False
    await watched.pass_by(65)
    assert watched.shown("quarantine_held") == {"shard0", "shard1"}


async def test_work_that_waits_is_not_told_once_no_shard_answers(watched: Watched) -> None:
    await watched.pass_by(20)
    assert watched.shown("work_seconds") == {"sms", "email"}
    for primary in watched.primaries.values():
        primary.is_away = True
    await watched.pass_by(10)
    assert watched.shown("work_seconds") == set()


async def test_a_count_that_takes_too_long_does_not_make_a_primary_one_that_is_away(watched: Watched) -> None:
    watched.primaries["shard0"].is_slow = True
    await watched.pass_by(20)
    assert list(watched.watch.causes()) == []
    assert (watched.shown("due_messages"), watched.shown("replicas")) == ({"shard1"}, {"shard0", "shard1"})


async def test_a_shard_that_has_no_replica_on_purpose_pages_nobody() -> None:
    watched = Watched()
    for primary in watched.primaries.values():
        primary.standing = (0, 0, 0, 0.0)
    watched.watch._cluster.shards["shard1"].replica = watched.primaries["shard1"]
    await watched.watch.start()
    await watched.pass_by(5)
    assert watched.shown("replicas") == {"shard1"}
    assert watched.shown("primary_up") == {"shard0", "shard1"}
    watched.primaries["shard0"].standing = STANDING  # one that the settings do not name follows all the same
    await watched.pass_by(5)
    assert watched.shown("replicas") == {"shard0", "shard1"}
    watched.primaries["shard0"].standing = (0, 0, 0, 0.0)
    await watched.pass_by(5)
    for name in OF_PAIRS:
        assert watched.shown(name) == {"shard1"}, name
    await watched.watch.stop()
    assert watched.crashes == []
