"""What SMS cost, as one shard has it: segments sent, by country calling code."""

from collections import Counter
from collections.abc import Mapping
from typing import Final

from pipeline.storage.node import Node
from pipeline.storage.statements import load_statements

STATEMENTS: Final = load_statements("spend.sql")


class SpendTable:
    """The table on one shard's primary. Its rows are of no slot, so no fence is needed.

    Each method raises StorageUnavailableError or StorageTimeoutError.
    """

    def __init__(self, node: Node) -> None:
        self._node = node

    async def add(self, segments: Mapping[str, int]) -> None:
        """Add segments by country calling code."""
        countries = sorted(segments)
        async with self._node.connection() as connection:
            await connection.execute(STATEMENTS["add"], countries, [segments[code] for code in countries])

    async def last_hour(self) -> Counter[str]:
        """Return the segments of the last hour by country calling code."""
        async with self._node.connection() as connection:
            rows = await connection.fetch(STATEMENTS["last_hour"])
        return Counter({row["country"]: row["segments"] for row in rows})
