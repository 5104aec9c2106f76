"""What is said of an action whose outcome could not be recorded."""

import asyncio
from typing import Any

import pytest
from structlog.testing import capture_logs

from pipeline.clock import SystemClock
from pipeline.control.audit_log import AuditLog
from pipeline.errors import StorageUnavailableError
from pipeline.settings import Settings, ShardSettings
from pipeline.storage.audit import AuditEntry
from pipeline.storage.cluster import Cluster


class Table:
    """An audit table that takes one entry; the next fails, or hangs without an `error`."""

    def __init__(self, error: Exception | None = None) -> None:
        self.entries: list[AuditEntry] = []
        self.is_asked_again = asyncio.Event()
        self._error = error

    async def add(self, entry: AuditEntry) -> None:
        if self.entries:
            self.is_asked_again.set()
            if self._error is not None:
                raise self._error
            await asyncio.Event().wait()
        self.entries.append(entry)


def log_on(table: Table) -> AuditLog:
    nowhere = ShardSettings(name="shard0", primary="postgresql://u@127.0.0.1:1/d")
    cluster = Cluster(Settings(shards=(nowhere,)))
    cluster["shard0"].audit = table  # type: ignore[assignment]
    return AuditLog(cluster, SystemClock())


def unwritten(logs: Any, table: Table) -> list[str]:
    """Return why outcomes of the action that began were not written."""
    action = str(table.entries[0].action_id)
    found = [one for one in logs if one["event"] == "audit.outcome_unwritten"]
    assert {(one["action"], one["what"]) for one in found} == {(action, "limits.set")}
    return [one["error"] for one in found]


async def test_an_outcome_that_cannot_be_written_is_logged() -> None:
    table = Table(StorageUnavailableError("shard0: gone"))
    with capture_logs() as logs:
        async with log_on(table).action("ada", "limits.set", "x"):
            pass
    assert unwritten(logs, table) == ["no shard of 1 answers: shard0: gone"]


async def test_one_that_was_broken_off_while_it_was_written_is_logged_too() -> None:
    table = Table()

    async def act() -> None:
        async with log_on(table).action("ada", "limits.set", "x"):
            pass

    with capture_logs() as logs:
        acting = asyncio.create_task(act())
        await table.is_asked_again.wait()
        acting.cancel()
        with pytest.raises(asyncio.CancelledError):
            await acting
    assert unwritten(logs, table) == ["CancelledError"]


async def test_nothing_is_quoted_of_a_defect() -> None:
    table = Table(ValueError("no such limit: anna@shop.example"))
    with capture_logs() as logs, pytest.raises(ValueError, match="anna"):
        async with log_on(table).action("ada", "limits.set", "x"):
            pass
    assert unwritten(logs, table) == ["ValueError"]
