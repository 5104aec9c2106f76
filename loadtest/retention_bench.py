"""What retention does to the size of tables, and what it costs: two shards, the same days, one keeps all."""

import statistics
import time
from datetime import timedelta

import msgspec
from rich.console import Console
from rich.table import Table

from consumers.migration import migrate_all
from loadtest.intake_report import machine, now_text
from pipeline.settings import RetentionSettings, Settings
from pipeline.storage.cluster import Cluster
from pipeline.storage.retention import TABLES, TableRetention
from pipeline.storage.shard import Shard

DAYS = 60
KEEP_DAYS = 30
SHOWN = (1, 10, 20, 30, 40, 50, 60)
# A day's orders, as they are when all is sent: an inbox row, an SMS and a mail for each.
_INBOX_DAY = """
INSERT INTO inbox
SELECT ($1::smallint[])[1 + n % cardinality($1)], gen_random_uuid(), gen_random_uuid(), now() - $2::interval
FROM generate_series(1, $3::integer) n"""
_OUTBOX_DAY = """
INSERT INTO outbox (slot, effect_id, order_id, channel, kind, state, expires_at, created_at, accepted_at,
                    provider, provider_id, claim_id)
SELECT ($1::smallint[])[1 + n % cardinality($1)], gen_random_uuid(), 'order-' || n, channel,
       'order_' || channel, 'accepted', now(), now() - $2::interval, now() - $2::interval,
       'provider', gen_random_uuid()::text, gen_random_uuid()
FROM generate_series(1, $3::integer) n, unnest(array['sms', 'email']) channel"""


class DaySize(msgspec.Struct, frozen=True):
    """MB of both tables' files with their indexes at the end of a day: with retention, and without."""

    day: int
    kept_30_days_mb: float
    kept_all_mb: float


class RetentionReport(msgspec.Struct, frozen=True, kw_only=True):
    """Everything `make bench-retention` measured, in one run. A step looks at 64 pages."""

    at: str
    machine: str
    command: str
    orders_per_day: int
    sizes: list[DaySize]
    deleted_rows: int
    deleted_rows_per_s: int
    step_p50_ms: float
    step_max_ms: float
    idle_step_p50_ms: float


async def measure_retention(settings: Settings, orders_per_day: int) -> RetentionReport:
    """Let sixty days go by, each as long as it takes to write its rows."""
    await migrate_all(settings)
    cluster = Cluster(settings)
    sizes: list[DaySize] = []
    steps_ms: list[float] = []
    idle_ms: list[float] = []
    deleted = 0
    try:
        for shard in cluster:
            await shard.primary.open()
        kept, whole = list(cluster)[:2]
        for day in range(1, DAYS + 1):
            age = DAYS - day
            for shard in (kept, whole):
                await _write_day(cluster, shard, age, orders_per_day)
            for table in _tables(kept, age):
                for rows, took_ms in await _walk(table):
                    (steps_ms if rows else idle_ms).append(took_ms)
                    deleted += rows
                await table.vacuum()
            if day in SHOWN:
                sizes.append(DaySize(day, await _size_mb(kept), await _size_mb(whole)))
    finally:
        await cluster.close()
    return RetentionReport(
        at=now_text(),
        machine=machine(),
        command=f"python -m loadtest retention --orders-per-day {orders_per_day}",
        orders_per_day=orders_per_day,
        sizes=sizes,
        deleted_rows=deleted,
        deleted_rows_per_s=round(deleted / sum(steps_ms) * 1000),
        step_p50_ms=round(statistics.median(steps_ms), 1),
        step_max_ms=round(max(steps_ms), 1),
        idle_step_p50_ms=round(statistics.median(idle_ms), 1),
    )


async def _write_day(cluster: Cluster, shard: Shard, age: int, orders: int) -> None:
    async with shard.primary.connection() as connection:
        for statement in (_INBOX_DAY, _OUTBOX_DAY):
            days = timedelta(days=age, hours=-1)
            slots = cluster.shard_map.slots_of(shard.name)
            await connection.execute(statement, slots, days, orders, timeout=120)


def _tables(shard: Shard, age: int) -> list[TableRetention]:
    """Return retention as it is on a day that lies so many days back."""
    keep = RetentionSettings(keep_days=KEEP_DAYS + age, pause_ms=0)
    return [TableRetention(shard.primary, table, keep) for table in TABLES]


async def _walk(table: TableRetention) -> list[tuple[int, float]]:
    """Return, for each step, how many rows it deleted and how many ms it took."""
    steps = []
    began = time.perf_counter()
    async for rows in table.delete_all():
        ended = time.perf_counter()
        steps.append((rows, (ended - began) * 1000))
        began = ended
    return steps


async def _size_mb(shard: Shard) -> float:
    async with shard.primary.connection() as connection:
        size = await connection.fetchval(
            "SELECT sum(pg_total_relation_size(name::regclass)) FROM unnest($1::text[]) name", list(TABLES)
        )
    return round(int(size) / 1e6, 1)


def print_retention(report: RetentionReport, console: Console) -> None:
    """Print the figures as a table."""
    table = Table("day", "MB, 30 days kept", "MB, all kept")
    for size in report.sizes:
        table.add_row(str(size.day), f"{size.kept_30_days_mb:,}", f"{size.kept_all_mb:,}")
    console.print(table)
    console.print(
        f"{report.deleted_rows:,} rows deleted, {report.deleted_rows_per_s:,} a second; a step that deletes: "
        f"median {report.step_p50_ms} ms, at most {report.step_max_ms}; one that finds nothing: "
        f"{report.idle_step_p50_ms} ms"
    )
