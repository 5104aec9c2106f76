"""The fence: a transaction that writes rows of a slot holds it off from moving, and proves that it is here.

Every such transaction takes the shard's fence shared, then looks at what the shard owns; who changes that
takes the fence alone. So between the look and the commit nothing can move, and a writer that slept through a
move finds out before it writes. The lock has a statement of its own: a statement's snapshot is taken before
it waits, and would show the slots as they were.
"""

from collections.abc import Iterable
from contextlib import suppress
from types import TracebackType
from typing import Final, Self

import asyncpg
from asyncpg.pool import PoolConnectionProxy

from pipeline.errors import SlotsMovedError, StorageConflictError, StorageUnavailableError
from pipeline.storage.statements import FENCE

LOCK_KEY: Final = 0x736C_6F74  # any fixed number, other than the migrator's
_BEGIN_SHARED = f"BEGIN; SELECT pg_advisory_xact_lock_shared({LOCK_KEY})"
_BEGIN_ALONE = f"BEGIN; SELECT pg_advisory_xact_lock({LOCK_KEY})"


class FencedTransaction:
    """A transaction under the fence: `async with`, then `commit` as its last step. Otherwise it rolls back.

    `alone` is for who changes what the shard owns: it waits for the transactions under way, and new ones wait
    for it.
    """

    def __init__(self, connection: PoolConnectionProxy, *, alone: bool = False) -> None:
        self._connection = connection
        self._begin = _BEGIN_ALONE if alone else _BEGIN_SHARED

    async def __aenter__(self) -> Self:
        await self._connection.execute(self._begin)
        return self

    async def commit(self, last_statement: str = "") -> None:
        """Run a last statement without parameters, and commit with it in one message to the server."""
        ended = await self._connection.execute(f"{last_statement}; COMMIT" if last_statement else "COMMIT")
        if ended != "COMMIT":  # the server answers ROLLBACK, and no error, when the transaction had failed
            raise StorageConflictError(f"commit came out as {ended}")

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        connection = self._connection
        if not connection.is_closed() and connection.is_in_transaction():
            # If the connection is gone, so is the transaction; the first error is what counts.
            with suppress(asyncpg.PostgresError, asyncpg.InterfaceError, OSError, TimeoutError):
                await connection.execute("ROLLBACK")


async def prove_ownership(connection: PoolConnectionProxy, where: str, slots: Iterable[int]) -> None:
    """Raise SlotsMovedError unless the shard owns every slot. Call inside a FencedTransaction."""
    missing = await connection.fetch(FENCE["not_owned"], list(set(slots)))
    if not missing:
        return
    epoch = missing[0]["epoch"]
    if epoch is None:
        raise StorageUnavailableError(f"{where}: has no shard map: run `postorder migrate`")
    raise SlotsMovedError(where, frozenset(row["slot"] for row in missing), epoch)
