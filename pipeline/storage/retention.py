"""Retention: old inbox rows and old settled messages are deleted, step by step, on every shard.

With a message go its notes. Counts behind the limits of sending are deleted after two days, whatever the
settings say of other rows. Orders and invoices stay. A step looks at some pages of a table and deletes what
is old, in a transaction under the fence, so that rows of a moving slot are left alone. Where the walk
stands is in the database: several processes share it, and where one was killed another goes on.
"""

from collections.abc import AsyncIterator
from datetime import timedelta
from typing import Final, NamedTuple, Self

import msgspec
import structlog
from asyncpg.pool import PoolConnectionProxy

from pipeline.clock import Clock
from pipeline.errors import PostorderError
from pipeline.lifecycle import Tasks
from pipeline.settings import RetentionSettings
from pipeline.storage.cluster import Cluster
from pipeline.storage.fence import FencedTransaction
from pipeline.storage.node import Node
from pipeline.storage.shard import Shard
from pipeline.storage.statements import load_statements

log = structlog.get_logger(__name__)

TABLES: Final = ("outbox", "inbox")
RETENTION = load_statements("retention.sql")
SPEND_MAX = 5000  # rows of sms_spend that one transaction deletes at most
_LOOK_S = 60.0  # between looks whether a walk is due
_VACUUM_TIMEOUT_S = 6 * 3600.0


class Step(NamedTuple):
    """What one step of a walk did."""

    deleted: int
    is_last: bool


class TableSurvey(msgspec.Struct, frozen=True, kw_only=True):
    """What a table holds: rows and their bytes, those old enough to go, and its files with their indexes."""

    rows: int
    row_bytes: int
    old_rows: int
    old_bytes: int
    file_bytes: int


class TableRetention:
    """Retention of one table, "inbox" or "outbox", on one server."""

    def __init__(self, node: Node, table: str, settings: RetentionSettings) -> None:
        self.table = table
        self._node = node
        self._keep = timedelta(days=settings.keep_days)
        self._rest = timedelta(seconds=settings.interval_s)
        self._step_pages = settings.step_pages
        self.pause_s = settings.pause_ms / 1000

    @classmethod
    def both(cls, shard: Shard, settings: RetentionSettings) -> list[Self]:
        """Return those of a shard."""
        return [cls(shard.primary, table, settings) for table in TABLES]

    async def step(self) -> Step | None:
        """Take a step of the walk that all processes share. None: none is due, or another one takes it."""
        async with self._node.connection() as connection, FencedTransaction(connection) as transaction:
            await connection.execute(RETENTION["begin_walks"])
            walk = await connection.fetchrow(RETENTION["take_step"], self.table)
            if walk is None:
                return None
            first, end = walk["next_page"], walk["next_page"] + self._step_pages
            deleted = await self._delete(connection, first, end)
            is_last = end >= walk["pages"]
            going_on_from = None if is_last else end
            await connection.execute(RETENTION["end_step"], self.table, going_on_from, self._rest, deleted)
            await transaction.commit()
        return Step(deleted, is_last)

    async def delete_all(self) -> AsyncIterator[int]:
        """Go through the whole table now, due or not; yield after each step how many rows it deleted.

        Rows of orders that have an open message stay, and so do those of slots that are moving.
        """
        for first in range(0, await self._pages(), self._step_pages):
            async with self._node.connection() as connection, FencedTransaction(connection) as transaction:
                await connection.execute(RETENTION["begin_walks"])
                deleted = await self._delete(connection, first, first + self._step_pages)
                await connection.execute(RETENTION["count_deleted"], self.table, deleted)
                await transaction.commit()
            yield deleted

    async def _delete(self, connection: PoolConnectionProxy, first: int, end: int) -> int:
        statement = RETENTION[f"delete_{self.table}"]
        deleted: int = await connection.fetchval(statement, (first, 0), (end, 0), self._keep)
        return deleted

    async def survey(self) -> TableSurvey:
        """Look at every row; changes nothing."""
        rows = row_bytes = old_rows = old_bytes = 0
        for first in range(0, await self._pages(), self._step_pages):
            async with self._node.connection() as connection:
                found = await connection.fetchrow(
                    RETENTION[f"survey_{self.table}"], (first, 0), (first + self._step_pages, 0), self._keep
                )
            rows, row_bytes = rows + found["rows"], row_bytes + found["bytes"]
            old_rows, old_bytes = old_rows + found["old_rows"], old_bytes + found["old_bytes"]
        async with self._node.connection() as connection:
            size = await connection.fetchrow(RETENTION["size"], self.table)
        return TableSurvey(
            rows=rows,
            row_bytes=row_bytes,
            old_rows=old_rows,
            old_bytes=old_bytes,
            file_bytes=size["file_bytes"],
        )

    async def vacuum(self) -> None:
        """Make the room of deleted rows usable again at once, as autovacuum would by and by."""
        async with self._node.connection() as connection:
            await connection.execute(f"VACUUM (ANALYZE) {self.table}", timeout=_VACUUM_TIMEOUT_S)

    async def _pages(self) -> int:
        async with self._node.connection() as connection:
            size = await connection.fetchrow(RETENTION["size"], self.table)
        pages: int = size["pages"]
        return pages


class Counts:
    """The counts behind the daily cap and the spend breaker on one server: of use for two days.

    They are few and cheap to look through, so each process does it, without a walk that all share.
    """

    def __init__(self, node: Node, settings: RetentionSettings) -> None:
        self._node = node
        self._step_pages = settings.step_pages
        self._pause_s = settings.pause_ms / 1000

    async def delete_old(self, clock: Clock) -> int:
        """Delete what is older than two days; return how many rows."""
        async with self._node.connection() as connection:
            pages = (await connection.fetchrow(RETENTION["size"], "recipient_day"))["pages"]
        deleted = 0
        for first in range(0, pages, self._step_pages):
            tids = ((first, 0), (first + self._step_pages, 0))
            deleted += await self._step("delete_recipient_day", *tids)
            await clock.sleep(self._pause_s)
        while some := await self._step("delete_sms_spend", SPEND_MAX):
            deleted += some
            await clock.sleep(self._pause_s)
        return deleted

    async def _step(self, statement: str, *arguments: object) -> int:
        async with self._node.connection() as connection, FencedTransaction(connection) as transaction:
            status = await connection.execute(RETENTION[statement], *arguments)
            await transaction.commit()
        return int(status.split()[-1])


class Retention:
    """A service: walks through the tables of every shard, one step after the other with a pause between."""

    name = "retention"

    def __init__(self, cluster: Cluster, settings: RetentionSettings, *, clock: Clock, tasks: Tasks) -> None:
        self._cluster = cluster
        self._settings = settings
        self._clock = clock
        self._tasks = tasks

    async def start(self) -> None:
        """Walk on every shard, and on those that come. With `keep_days` 0 only counts are deleted."""
        for shard in self._cluster:
            self._add(shard)
        self._cluster.on_added.append(self._add)

    def _add(self, shard: Shard) -> None:
        if self._settings.keep_days:
            self._tasks.start(self._walk_forever(shard), f"retention {shard.name}")
        self._tasks.start(self._count_forever(shard), f"retention of counts {shard.name}")

    async def drain(self) -> None:
        """End: the next process takes the next step."""
        await self.stop()

    async def stop(self) -> None:
        """End."""
        if self._add in self._cluster.on_added:
            self._cluster.on_added.remove(self._add)
        await self._tasks.cancel()

    async def _walk_forever(self, shard: Shard) -> None:
        tables = TableRetention.both(shard, self._settings)
        while True:
            for table in tables:
                try:
                    await self._walk(shard.name, table)
                except PostorderError as error:
                    log.warning("retention.failed", shard=shard.name, table=table.table, error=str(error))
            await self._clock.sleep(min(_LOOK_S, self._settings.interval_s))

    async def _count_forever(self, shard: Shard) -> None:
        counts = Counts(shard.primary, self._settings)
        while True:
            try:
                await counts.delete_old(self._clock)
            except PostorderError as error:
                log.warning("retention.failed", shard=shard.name, table="counts", error=str(error))
            await self._clock.sleep(self._settings.interval_s)

    async def _walk(self, shard: str, table: TableRetention) -> None:
        """Take steps until the table's end, or until another process does."""
        deleted = 0
        while (step := await table.step()) is not None:
            deleted += step.deleted
            if step.is_last:
                break
            await self._clock.sleep(table.pause_s)
        if deleted:
            log.info("retention.deleted", shard=shard, table=table.table, rows=deleted)
