"""Holds a move up while the replicas of its shards cannot follow."""

import asyncio
from collections.abc import Callable

import msgspec

from pipeline.clock import Clock
from pipeline.storage.node import Node
from pipeline.storage.slot_rows import ReplicaLag, replica_lag

_LOOK_S = 0.25


class Limits(msgspec.Struct, frozen=True, kw_only=True):
    """What a move may cost.

    A copy is made in pieces of `copy_bytes_max`, `pieces_max` at most, each begun when replicas keep up.
    `group_slots` are flipped together at first; then as many as take about a quarter of a second.
    """

    lag_s_max: float = 5.0
    lag_bytes_max: int = 64 * 2**20
    copy_bytes_max: int = 2 * 2**30
    pieces_max: int = 4
    group_slots: int = 16
    pause_s_max: float = 0.8


class Throttle:
    """Asks the primaries of a move how far their replicas are behind."""

    def __init__(self, limits: Limits, clock: Clock) -> None:
        self._limits = limits
        self._clock = clock

    async def until_calm(self, nodes: list[Node], waiting: Callable[[ReplicaLag], None]) -> None:
        """Return once no replica is further behind than the limits say; tell each time it has to wait."""
        while True:
            lags = await asyncio.gather(*(replica_lag(node) for node in nodes))
            worst = ReplicaLag(max(lag.seconds for lag in lags), max(lag.size_bytes for lag in lags))
            # A replica that has nothing to replay keeps its last delay for a while: bytes tell it apart.
            if worst.size_bytes <= self._limits.lag_bytes_max and (
                worst.seconds <= self._limits.lag_s_max or not worst.size_bytes
            ):
                return
            waiting(worst)
            await self._clock.sleep(_LOOK_S)
