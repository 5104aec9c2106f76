"""Figures of one shard that are cheap enough to be read each second."""

from typing import Final

import msgspec

from pipeline.storage.node import Node
from pipeline.storage.reader import Replication
from pipeline.storage.statements import STATUS, load_statements

STATEMENTS: Final = load_statements("glance.sql")
COUNT_MAX: Final = 100_000
"""Messages of a shard that are due or unknown, and deliveries in quarantine, are counted up to this."""


class Glance(msgspec.Struct, frozen=True, kw_only=True):
    """One shard at a glance. The first six: in the last minute; `settled` are messages with any receipt.

    `unclaimed_s`: for how long the message that is due longest has waited; `unknown_oldest_s`: for how long
    the oldest of the unknown ones is owed.
    """

    events: int
    orders: int
    invoices: int
    sms: int
    email: int
    settled: int
    due: int
    unclaimed_s: float
    unknown_sms: int
    unknown_email: int
    unknown_oldest_s: float
    replicas: tuple[Replication, ...]


class GlanceReader:
    """Reads from one shard's primary. Raises StorageUnavailableError, StorageTimeoutError."""

    def __init__(self, node: Node) -> None:
        self._node = node

    async def glance(self) -> Glance:
        """Return the figures."""
        async with self._node.connection() as connection:
            row = await connection.fetchrow(STATEMENTS["glance"], COUNT_MAX)
            replicas = await connection.fetch(STATUS["replication"])
        return Glance(**row, replicas=tuple(Replication(*replica) for replica in replicas))

    async def held(self) -> int:
        """Return how many deliveries are in quarantine."""
        async with self._node.connection() as connection:
            return int(await connection.fetchval(STATEMENTS["held"], COUNT_MAX))
