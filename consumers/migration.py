"""What is done once at deployment: tables on every shard, queues on the broker."""

import asyncio
from collections.abc import AsyncIterator, Callable, Sequence
from contextlib import asynccontextmanager
from pathlib import Path

from consumers.connection import connection
from consumers.topology import apply_topology
from pipeline.errors import MigrationError
from pipeline.settings import Settings
from pipeline.storage.cluster import Cluster
from pipeline.storage.migration_files import MIGRATIONS, read_migrations
from pipeline.storage.migrator import LOCK_WAIT_S, migrate
from pipeline.storage.schema_version import SchemaState, refuse_while_moving, schema_states


def _nobody(_line: str) -> None:
    pass


async def migrate_all(
    settings: Settings,
    report: Callable[[str], None] = _nobody,
    *,
    folder: Path = MIGRATIONS,
    lock_wait_s: float = LOCK_WAIT_S,
) -> list[str]:
    """Migrate each shard in turn, stopping at the first failure; report and return a line for each.

    Looks at every shard before it changes one. Raises MigrationError; what was reported before stays done.
    """
    migrations = read_migrations(folder)
    lines = []
    async with _opened(settings) as cluster:
        states = await schema_states(cluster, migrations)
        _check(states)
        if await cluster.stored_maps():  # a shard that comes later owns nothing, until slots move to it
            await cluster.load_map()
        for shard in cluster:
            applied = await migrate(shard, migrations, cluster.shard_map, lock_wait_s)
            lines.append(f"{shard.name}: {', '.join(applied) if applied else 'up to date'}")
            report(lines[-1])
        await cluster.load_map()
    return lines


async def read_states(settings: Settings, folder: Path = MIGRATIONS) -> list[SchemaState]:
    """Return the state of every shard; changes nothing."""
    async with _opened(settings) as cluster:
        return await schema_states(cluster, read_migrations(folder))


async def planned(settings: Settings, folder: Path = MIGRATIONS) -> list[str]:
    """Return a line for each shard of what `migrate_all` would do; raise what it would raise."""
    states = await read_states(settings, folder)
    _check(states)
    return [
        f"{state.shard}: would apply {', '.join(state.pending)}"
        if state.pending
        else f"{state.shard}: up to date"
        for state in states
    ]


def _check(states: Sequence[SchemaState]) -> None:
    """Refuse, before anything changes, what these files do not fit."""
    for state in states:
        if state.changed:
            raise MigrationError(f"{state.shard}: {state.changed[0]} was changed after it was applied")
        if state.newer:
            raise MigrationError(
                f"{state.shard} is at schema {state.number:04d} ({state.newer[-1]}), which is not among the "
                "migrations here: use the newer program's"
            )
        if any(other.pending for other in states):
            refuse_while_moving(state.shard, state.moves)


@asynccontextmanager
async def _opened(settings: Settings) -> AsyncIterator[Cluster]:
    cluster = Cluster(settings)
    try:
        for shard in cluster:
            await shard.primary.open()
        yield cluster
    finally:
        await cluster.close()


async def apply_to_broker(settings: Settings) -> list[str]:
    """Declare the topology; return the names of the queues."""
    async with (
        connection(settings.amqp, "postorder topology") as broker,
        asyncio.timeout(4 * settings.amqp.connect_timeout_s),
    ):
        return await apply_topology(await broker.channel())
