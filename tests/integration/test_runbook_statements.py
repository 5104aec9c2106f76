"""PostgreSQL takes every statement that a runbook tells to look with."""

import asyncpg
import pytest
from real_stack import Bench
from runbooks import pages, statements

pytestmark = pytest.mark.integration


async def test_postgresql_takes_every_statement(bench: Bench) -> None:
    looked = [(name, one) for name, path in pages().items() for one in statements(path)]
    connection = await asyncpg.connect(bench.stack.shards[0].primary_dsn, timeout=5)
    try:
        for name, statement in looked:
            try:
                await connection.fetch(statement)
            except asyncpg.PostgresError as error:
                pytest.fail(f"{name}: {statement}: {error}")
    finally:
        await connection.close()
    replicas = await bench.rows("SELECT application_name, state, sync_state FROM pg_stat_replication")
    assert {(one["state"], one["sync_state"]) for one in replicas} == {("streaming", "sync")}
