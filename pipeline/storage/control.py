"""Steering on one shard: reports of processes, and limits set while everything runs.

Neither belongs to a slot: `pipeline.control` says on which shards they are kept.
"""

from collections.abc import Sequence
from datetime import datetime
from typing import Any, Final

import msgspec

from pipeline.storage.node import Node
from pipeline.storage.statements import load_statements

STATEMENTS: Final = load_statements("control.sql")
_REPORTS_MAX: Final = 2000
_LIMITS_MAX: Final = 1000


class SlotReport(msgspec.Struct, frozen=True, kw_only=True):
    """A provider as one process sees it. `rate_per_s` 0: no limit. `closed_s`: until it is called again."""

    name: str
    in_flight: int = 0
    waiting: int = 0
    limit: int = 0
    floor: int = 0
    ceiling: int = 0
    rate_per_s: float = 0.0
    circuit: str = "closed"
    closed_s: float = 0.0
    typical_s: float = 0.0


class PoolReport(msgspec.Struct, frozen=True, kw_only=True):
    """A channel's pool: messages worked on, those that wait for a worker, places that could be reserved."""

    channel: str
    busy: int = 0
    waiting: int = 0
    free: int = 0
    workers: int = 0
    ceiling: int = 0
    retry_budget: float = 0.0
    slots: tuple[SlotReport, ...] = ()


class IntakeReport(msgspec.Struct, frozen=True, kw_only=True):
    """Between broker and shards. `held`: events in memory; `lanes`: those that wait, by shard.

    `consumers`: by queue, whether it is being consumed.
    """

    prefetch: int = 0
    batch_max: int = 0
    held: int = 0
    held_max: int = 0
    paused: bool = False
    lanes: dict[str, int] = {}
    consumers: dict[str, bool] = {}


class AppliedLimit(msgspec.Struct, frozen=True, kw_only=True):
    """A limit that counts in a process instead of the settings': as it was asked for, and as applied."""

    key: str
    asked: float
    applied: float
    set_by: str
    version: int
    left_s: float | None = None


class Report(msgspec.Struct, frozen=True, kw_only=True):
    """How a process is. Every part has a default, so that processes of two versions can read each other.

    `rates`: things per second since the report before, by name: `events.order`, `sent.sms` and so on.
    `cpu_cores`: CPU used, 1.0 is one core. `extra`: what other parts add, by their name.
    """

    epoch: int = 0
    rates: dict[str, float] = {}
    intake: IntakeReport | None = None
    pools: tuple[PoolReport, ...] = ()
    limits: tuple[AppliedLimit, ...] = ()
    loop_lag_s: float = 0.0
    cpu_cores: float = 0.0
    rss_bytes: int = 0
    threads: int = 0
    extra: dict[str, Any] = {}


class ProcessName(msgspec.Struct, frozen=True):
    """Which process: no two have the same `process_id`, not even one after the other."""

    process_id: str
    host: str
    pid: int
    started_at: datetime
    roles: tuple[str, ...]


class ProcessReport(msgspec.Struct, frozen=True, kw_only=True):
    """What a process last said of itself, `age_s` seconds ago by the database's clock.

    `report` is None when it is in words that this program does not understand.
    """

    process: ProcessName
    seen_at: datetime
    age_s: float
    report: Report | None


class LimitOverride(msgspec.Struct, frozen=True, kw_only=True):
    """A limit that counts instead of the settings'. `value` None: taken off.

    `left_s`: for how long it counts, by the database's clock when it was read; 0 or less: it is over; None:
    until it is taken off.
    """

    key: str
    value: float | None
    version: int
    set_by: str
    set_at: datetime
    expires_at: datetime | None = None
    left_s: float | None = None

    @property
    def counts(self) -> bool:
        """Whether it was in force when it was read."""
        return self.value is not None and (self.left_s is None or self.left_s > 0)

    @property
    def rank(self) -> tuple[int, datetime, str]:
        """Of two of one key the one of higher rank is in force, on every shard alike."""
        return (self.version, self.set_at, self.set_by)


class ControlTable:
    """Both tables on one shard's primary.

    Each method raises StorageUnavailableError or StorageTimeoutError.
    """

    def __init__(self, node: Node) -> None:
        self._node = node

    async def report(self, process: ProcessName, report: Report) -> None:
        """Say how a process is. An unlogged table: the commit waits for no disk and no replica."""
        encoded = msgspec.json.encode(report).decode()
        who = (process.process_id, process.host, process.pid, process.started_at, process.roles)
        async with self._node.connection() as connection:
            await connection.execute(STATEMENTS["report"], *who, encoded)

    async def forget(self, process_id: str) -> None:
        """Take out the report of a process that ends."""
        async with self._node.connection() as connection:
            await connection.execute(STATEMENTS["forget"], process_id)

    async def reports(self) -> list[ProcessReport]:
        """Return the reports of the last ten minutes, the latest first; two thousand at most."""
        async with self._node.connection() as connection:
            rows = await connection.fetch(STATEMENTS["reports"], _REPORTS_MAX)
        return [_process_report(row) for row in rows]

    async def reporting(self, role: str, within_s: float) -> list[str]:
        """Return the ids of processes with a role that reported so many seconds ago at most."""
        async with self._node.connection() as connection:
            rows = await connection.fetch(STATEMENTS["reporting"], role, within_s, _REPORTS_MAX)
        return [row["process_id"] for row in rows]

    async def limits(self) -> list[LimitOverride]:
        """Return every limit that was ever set, also those that are over."""
        async with self._node.connection() as connection:
            rows = await connection.fetch(STATEMENTS["limits"], _LIMITS_MAX)
        return [LimitOverride(**row) for row in rows]

    async def write_limits(self, limits: Sequence[LimitOverride]) -> None:
        """Write limits, but none over a newer one. On return they are on the replica."""
        columns = [
            [limit.key for limit in limits],
            [limit.value for limit in limits],
            [limit.version for limit in limits],
            [limit.set_by for limit in limits],
            [limit.set_at for limit in limits],
            [limit.expires_at for limit in limits],
        ]
        async with self._node.connection() as connection:
            await connection.execute(STATEMENTS["write_limits"], *columns)


def _process_report(row: Any) -> ProcessReport:
    process = ProcessName(row["process_id"], row["host"], row["pid"], row["started_at"], tuple(row["roles"]))
    try:
        report = msgspec.json.decode(row["report"], type=Report)
    except msgspec.MsgspecError:
        report = None
    return ProcessReport(process=process, seen_at=row["seen_at"], age_s=row["age_s"], report=report)
