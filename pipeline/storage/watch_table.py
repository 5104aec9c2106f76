"""What a shard's primary says of itself and of what waits there: few numbers, asked for every few seconds."""

from typing import Final, NamedTuple

from pipeline.storage.node import Node
from pipeline.storage.outbox import Channel
from pipeline.storage.statements import load_statements

WATCH: Final = load_statements("watch.sql")
DUE_MAX: Final = 100_000
"""So many due messages of a shard and channel are counted at most: the index is read for each."""


class PairStanding(NamedTuple):
    """How a pair stands, as its primary sees it. Bytes of WAL and seconds of the replica furthest behind."""

    replicas: int
    synchronous: int
    lag_bytes: int
    lag_s: float


class Waiting(NamedTuple):
    """What waits for a channel on one shard: `due` messages, the oldest for `oldest_s` seconds.

    `settled`: messages that came to an end in the last minute, whichever process sent them.
    """

    due: int
    oldest_s: float
    settled: int


class WatchTable:
    """Asks one primary. Raises StorageUnavailableError, StorageTimeoutError."""

    def __init__(self, node: Node) -> None:
        self._node = node

    async def standing(self) -> PairStanding:
        """Return how the pair stands; raises when the server takes no writes."""
        async with self._node.connection() as connection:
            row = await connection.fetchrow(WATCH["standing"])
        return PairStanding(*row)

    async def waiting(self) -> dict[Channel, Waiting]:
        """Return what waits, by channel."""
        async with self._node.connection() as connection:
            rows = await connection.fetch(WATCH["waiting"], DUE_MAX)
        return {Channel(row["channel"]): Waiting(row["due"], row["oldest_s"], row["settled"]) for row in rows}

    async def quarantine_held(self) -> int:
        """Return how many deliveries are in quarantine that nobody has dealt with."""
        async with self._node.connection() as connection:
            held: int = await connection.fetchval(WATCH["quarantine_held"])
        return held
