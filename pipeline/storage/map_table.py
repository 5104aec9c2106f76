"""A shard's copy of the shard map."""

import asyncpg
import msgspec

from pipeline.errors import ShardMapError, StorageUnavailableError
from pipeline.sharding.shard_map import ShardMap
from pipeline.storage.node import Node
from pipeline.storage.statements import FENCE

CHANGED = "postorder_shard_map"  # the channel of NOTIFY; its payload is the new epoch


class StoredMap(msgspec.Struct, frozen=True):
    """What a shard's `shard_map` holds. `shard` is the name that this database itself goes by."""

    shard: str
    shard_map: ShardMap
    is_settled: bool


def parse_owners(text: str, where: str) -> tuple[str, ...]:
    """Return the owners of a stored map. Raises ShardMapError."""
    try:
        return msgspec.json.decode(text, type=tuple[str, ...])
    except msgspec.DecodeError as error:
        raise ShardMapError(f"{where}: shard_map.owners is not a list of names: {error}") from None


class MapTable:
    """Reads the map on one server."""

    def __init__(self, node: Node) -> None:
        self._node = node

    async def read(self) -> StoredMap | None:
        """Return the map; None when there is none yet. Raises ShardMapError for one that makes no sense."""
        try:
            async with self._node.connection() as connection:
                row = await connection.fetchrow(FENCE["read_map"])
        except StorageUnavailableError as error:
            if isinstance(error.__cause__, asyncpg.UndefinedTableError):
                return None
            raise
        if row is None:
            return None
        owners = parse_owners(row["owners"], self._node.name)
        return StoredMap(row["shard"], ShardMap(row["epoch"], owners), row["is_settled"])

    async def slots(self) -> dict[int, str]:
        """Return the state of each slot that the shard has to do with."""
        async with self._node.connection() as connection:
            return {row["slot"]: row["state"] for row in await connection.fetch(FENCE["slots"])}
