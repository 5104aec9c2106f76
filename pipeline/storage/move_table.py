"""Moves of slots as the shards record them, and the steps that only the coordinator in charge may take."""

from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from datetime import datetime
from enum import StrEnum
from typing import Final, Self
from uuid import UUID, uuid5

import msgspec
from asyncpg.pool import PoolConnectionProxy

from pipeline.errors import CoordinatorReplacedError, ReshardingError
from pipeline.storage.fence import FencedTransaction
from pipeline.storage.migrator import MIGRATION_LOCK
from pipeline.storage.node import Node
from pipeline.storage.statements import MOVES

COORDINATOR_KEY: Final = 0x736C_6F75  # any fixed number, other than the fence's and the migrator's
_FENCE_MS, _ASLEEP_MS = 1000, 2000
_ID_LETTERS = 12  # of a move's id, in the names of its links: identifiers end at 63 letters


class MoveState(StrEnum):
    """Where a move stands; as in the table."""

    RUNNING = "running"
    ABORTING = "aborting"
    MOVED = "moved"
    FINISHED = "finished"
    ABORTED = "aborted"


OVER = (MoveState.FINISHED, MoveState.ABORTED)


class Move(msgspec.Struct, frozen=True, kw_only=True):
    """Slots on their way from one shard to another.

    `token` is the coordinator's: who has a lower one than the tables may change nothing.
    """

    move_id: UUID
    source: str
    target: str
    slots: tuple[int, ...]
    started_at: datetime
    step: str = "planned"
    state: MoveState = MoveState.RUNNING
    token: int = 1

    @property
    def link_name(self) -> str:
        """The name of what carries rows from source to target: publication, slot and subscription."""
        return f"postorder_move_{self.move_id.hex[:_ID_LETTERS]}"

    @property
    def back_link_name(self) -> str:
        """The same from target to source."""
        return f"postorder_back_{self.move_id.hex[:_ID_LETTERS]}"

    @property
    def back_marker(self) -> UUID:
        """Under which the markers travel from target to source."""
        return uuid5(self.move_id, "back")

    def __str__(self) -> str:
        return f"{len(self.slots)} slots from {self.source} to {self.target}"


class MoveStep(FencedTransaction):
    """A transaction of a move's coordinator. Fails unless the move is still its own.

    `alone` takes the shard's fence too, for who changes what the shard owns. It is waited for briefly only:
    all writers wait behind who waits for it. A coordinator that falls asleep inside loses the transaction.
    """

    def __init__(self, connection: PoolConnectionProxy, move: Move, *, alone: bool) -> None:
        super().__init__(connection, alone=True)
        begin = f"BEGIN; SET LOCAL idle_in_transaction_session_timeout = '{_ASLEEP_MS}'"
        if alone:
            begin += f"; SET LOCAL lock_timeout = '{_FENCE_MS}'{self._begin[len('BEGIN') :]}"
        self._begin = f"{begin}; SELECT pg_advisory_xact_lock_shared({COORDINATOR_KEY})"
        self._move = move

    async def __aenter__(self) -> Self:
        await super().__aenter__()
        try:
            await self._check_held()
        except BaseException as error:
            await self.__aexit__(type(error), error, None)
            raise
        return self

    async def _check_held(self) -> None:
        # A statement after the lock's, for a snapshot that shows what its last holder did.
        if not await self._connection.fetchval(MOVES["is_held"], self._move.move_id, self._move.token):
            raise CoordinatorReplacedError(
                f"the move of {self._move} is over or in other hands: see `postorder shards status`"
            )


@asynccontextmanager
async def move_step(node: Node, move: Move, *, alone: bool = False) -> AsyncIterator[PoolConnectionProxy]:
    """Run the block in a MoveStep and commit it. Raises CoordinatorReplacedError, or as Node.connection."""
    async with node.connection() as connection, MoveStep(connection, move, alone=alone) as step:
        yield connection
        await step.commit()


class MoveTable:
    """The table `slot_move` on one server."""

    def __init__(self, node: Node) -> None:
        self._node = node

    async def in_progress(self) -> list[Move]:
        """Return the moves that are not over, by id."""
        async with self._node.connection() as connection:
            rows = await connection.fetch(MOVES["in_progress"])
        return [
            Move(
                move_id=row["move_id"],
                source=row["source"],
                target=row["target"],
                slots=msgspec.json.decode(row["slots"], type=tuple[int, ...]),
                started_at=row["started_at"],
                step=row["step"],
                state=MoveState(row["state"]),
                token=row["token"],
            )
            for row in rows
        ]

    async def register(self, moves: Sequence[Move], epoch: int) -> None:
        """Record moves, all or none. Raises ReshardingError when others go on or the map has changed.

        The shard that answers for all is asked first, so that of two coordinators one is refused.
        """
        async with (
            self._node.connection() as connection,
            FencedTransaction(connection, alone=True) as transaction,
        ):
            if not await connection.fetchval("SELECT pg_try_advisory_xact_lock_shared($1)", MIGRATION_LOCK):
                raise ReshardingError(f"{self._node.name}: a migration runs: try again when it is over")
            known = await connection.fetchval("SELECT epoch FROM shard_map")
            if known != epoch:
                raise ReshardingError(f"{self._node.name}: the shard map changed meanwhile: plan again")
            own = {move.move_id for move in moves}
            others = [
                row for row in await connection.fetch(MOVES["in_progress"]) if row["move_id"] not in own
            ]
            if others:
                raise ReshardingError(
                    f"{self._node.name}: slots are moving from {others[0]['source']} to "
                    f"{others[0]['target']}: finish or abort that first (`postorder shards status`)"
                )
            await insert_moves(connection, moves)
            await transaction.commit()

    async def take_over(self, moves: Sequence[Move], token: int) -> dict[UUID, MoveState]:
        """Be the only coordinator from now on; return where each of the moves stands on this server.

        A move that its coordinator did not get to record here is recorded. On return no step of a former
        coordinator is under way here, and none can begin. Raises CoordinatorReplacedError when another one
        is quicker.
        """
        async with self._node.connection() as connection, connection.transaction():
            await connection.execute("SELECT pg_advisory_xact_lock($1)", COORDINATOR_KEY)
            await insert_moves(connection, [msgspec.structs.replace(m, token=token - 1) for m in moves])
            rows = await connection.fetch(MOVES["move_states"], [move.move_id for move in moves])
            states = {row["move_id"]: MoveState(row["state"]) for row in rows}
            for move in moves:
                if states[move.move_id] in OVER:
                    continue
                if not await connection.fetchval(MOVES["take_over"], move.move_id, token):
                    raise CoordinatorReplacedError(
                        f"{self._node.name}: another process has just taken over the move of {move}"
                    )
        return states

    async def note(self, move: Move, step: str, state: MoveState) -> None:
        """Record how far a move is."""
        async with move_step(self._node, move) as connection:
            await connection.execute(MOVES["note"], move.move_id, step, state)


async def insert_moves(connection: PoolConnectionProxy, moves: Sequence[Move]) -> None:
    """Record moves that are not there yet."""
    await connection.executemany(
        MOVES["register"],
        [
            (
                move.move_id,
                move.source,
                move.target,
                msgspec.json.encode(move.slots).decode(),
                move.step,
                move.token,
                move.started_at,
            )
            for move in moves
        ],
    )
