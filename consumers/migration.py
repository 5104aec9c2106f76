"""What is done once at deployment: tables on every shard, queues on the broker."""

import asyncio
from pathlib import Path

from consumers.connection import connection
from consumers.topology import apply_topology
from pipeline.settings import Settings
from pipeline.storage.cluster import Cluster
from pipeline.storage.migrator import migrate, read_migrations

# In a checkout they lie at its top, in an installed package beside this module.
_PLACES = (Path(__file__).parents[1] / "migrations", Path(__file__).with_name("migrations"))
MIGRATIONS = next((place for place in _PLACES if place.is_dir()), _PLACES[0])


async def migrate_all(settings: Settings) -> list[str]:
    """Migrate each shard in turn, stopping at the first failure; return a line for each."""
    migrations = read_migrations(MIGRATIONS)
    cluster = Cluster(settings)
    lines = []
    try:
        for shard in cluster:
            await shard.primary.open()
            applied = await migrate(shard, migrations, cluster.shard_map)
            lines.append(f"{shard.name}: {', '.join(applied) if applied else 'up to date'}")
        await cluster.check_ownership()
    finally:
        await cluster.close()
    return lines


async def apply_to_broker(settings: Settings) -> list[str]:
    """Declare the topology; return the names of the queues."""
    async with (
        connection(settings.amqp, "postorder topology") as broker,
        asyncio.timeout(4 * settings.amqp.connect_timeout_s),
    ):
        return await apply_topology(await broker.channel())
