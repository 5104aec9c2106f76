"""What an operator decides about a message stands once it is committed, whatever fails then."""

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any

import pytest
from ledger import Ledger
from real_stack import Bench

from pipeline.errors import StorageUnavailableError
from pipeline.storage.effect_desk import INDEXED, EffectDesk, Wanted
from pipeline.storage.node import Node
from pipeline.storage.outbox import State

pytestmark = pytest.mark.integration


class Vanishing:
    """A server that can be reached so many times, and then not any more."""

    def __init__(self, node: Node, times: int) -> None:
        self.name = node.name
        self._node = node
        self._times = times

    @asynccontextmanager
    async def connection(self) -> AsyncIterator[Any]:
        if self._times == 0:
            raise StorageUnavailableError(f"{self.name}: gone")
        self._times -= 1
        async with self._node.connection() as connection:
            yield connection


async def test_a_resolution_that_could_not_be_told_is_no_failure(bench: Bench) -> None:
    ledger = Ledger(bench)
    await ledger.unknown(1)
    node: Any = Vanishing(ledger.shard.primary, 2)
    desk = EffectDesk(ledger.shard.name, node)
    [seen] = await desk.listed(Wanted(), 10)
    await desk.resolve(seen, State.PENDING, provider_id=None, because="asked the carrier", actor="me")
    assert await ledger.states() == [State.PENDING]
    with pytest.raises(StorageUnavailableError):
        await desk.listed(Wanted(), 10)  # it is gone indeed


async def test_states_that_are_found_soon_are_those_with_an_index(bench: Bench) -> None:
    rows = await bench.rows("SELECT indexdef FROM pg_indexes WHERE tablename = 'outbox'", shard="shard0")
    assert {state for state in State for row in rows if f"(state = '{state}'::" in row["indexdef"]} == INDEXED
