"""Closing a pool whose server goes away meanwhile."""

import asyncio
import errno
from typing import Any

import asyncpg
import pytest

from pipeline.settings import StorageSettings
from pipeline.storage.node import Node


class Pool:
    """A pool in place of the driver's, whose connections end with an error, or do not end without one."""

    def __init__(self, error: Exception | None) -> None:
        self.is_cut = False
        self._error = error

    async def close(self) -> None:
        if self._error is not None:
            raise self._error
        await asyncio.Event().wait()

    def terminate(self) -> None:
        self.is_cut = True


@pytest.mark.parametrize("error", [
    None, BrokenPipeError(), OSError(errno.EHOSTUNREACH, "no route"), asyncpg.InterfaceError("closing"),
])  # fmt: skip
async def test_a_server_that_goes_away_while_its_pool_is_closed_is_no_error(error: Exception | None) -> None:
    """Who closes is done with it: a late shard that failed again, and a process at its end, would crash."""
    settings = StorageSettings(command_timeout_s=0.05)
    node = Node("shard0 primary", "postgresql://u@127.0.0.1:1/d", "", settings)
    pool: Any = Pool(error)
    node._pool = pool
    async with asyncio.timeout(5):
        await node.close()
    assert (pool.is_cut, node.is_open) == (True, False)
