"""When the tables are counted again: sooner where they did not add up."""

from types import SimpleNamespace
from typing import Any

import pytest
from virtual_clock import VirtualClock

from pipeline.lifecycle import Tasks
from pipeline.observability.metrics import Metrics
from pipeline.storage import ledger_watch
from pipeline.storage.ledger_watch import LedgerWatch
from pipeline.storage.reader import ShardTotals

SUMS = dict.fromkeys(("events", "duplicates", "quarantined"), 0)


class Connection:
    """A connection that takes the lock."""

    async def fetchval(self, _statement: str, _lock: int) -> bool:
        return True

    async def execute(self, _statement: str) -> None:
        """Nothing is set here."""

    def terminate(self) -> None:
        """Nothing is open."""


class Primary:
    name = address = "a"

    async def dedicated_connection(self) -> Connection:
        return Connection()


class Shards(list[Any]):
    shards = ("a",)

    def __getitem__(self, _name: Any) -> Any:
        return next(iter(self))


async def test_a_difference_is_looked_into_again_before_an_hourly_count_is_due(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """It may come of slots that moved between two readings; the alert waits for a quarter of an hour."""
    clock, metrics = VirtualClock(), Metrics()
    counted_at: list[float] = []

    async def read(_connection: object, *, timeout_s: float) -> ShardTotals:
        assert timeout_s == 3600
        counted_at.append(clock.monotonic())
        nothing = dict.fromkeys(
            ("slots", "epoch", "orders", "invoices", "invoices_waiting", "customers", "quarantined"), 0
        )
        missing = int(len(counted_at) == 2)
        return ShardTotals(
            **nothing,
            inbox=missing,
            batch_sums=SUMS,
            accepted={},
            per_min={},
            effects=[],
            owed=0,
            replicas=[],
        )

    monkeypatch.setattr(ledger_watch, "read_totals", read)
    crashes: list[object] = []
    cluster: Any = Shards([SimpleNamespace(primary=Primary())])
    tasks = Tasks(lambda *crash: crashes.append(crash))
    watch = LedgerWatch(cluster, every_s=3600.0, metrics=metrics, clock=clock, tasks=tasks)
    await watch.start()
    await clock.pass_by(8000)
    await watch.stop()
    assert crashes == []
    assert [at - counted_at[0] for at in counted_at] == [0, 3600, 3900, 7500]
