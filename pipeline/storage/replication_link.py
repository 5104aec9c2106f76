"""A link that carries the rows of slots from one shard to another: PostgreSQL's own logical replication.

On the publisher a publication and a replication slot, on the subscriber a subscription, all of one name. With
`origin = none` nothing that came by a link goes out by another one, so two links may run in both directions.
"""

import asyncio
from collections.abc import Callable, Sequence
from typing import Any
from uuid import UUID

import msgspec

from pipeline.errors import LinkBrokenError, ReshardingError
from pipeline.storage.move_table import Move, move_step
from pipeline.storage.node import Node
from pipeline.storage.statements import MOVES

MOVING_TABLES = (
    *("orders", "invoices", "inbox", "outbox", "effect_note", "quarantine"),
    *("customers", "consent", "recipient", "recipient_day"),
)
"""The tables whose rows belong to a slot, and move with it."""

_POLL_S = 0.05
_MAKE_SLOT_S = 60.0  # it waits for the transactions under way
_STOPPED_S = 10.0

_CREATE_SUBSCRIPTION = """DO $do$ BEGIN
EXECUTE format('CREATE SUBSCRIPTION {name} CONNECTION %L PUBLICATION {name} WITH (create_slot = false, '
    'slot_name = {name}, copy_data = {copy}, origin = none, disable_on_error = true)',
    current_setting('postorder.publisher'));
END $do$"""


class LinkState(msgspec.Struct, frozen=True, kw_only=True):
    """What there is of a link. `copying`: tables still being copied. `lag_bytes`: WAL not confirmed yet."""

    published: bool
    has_slot: bool
    subscribed: bool
    enabled: bool
    copying: int
    bytes_copied: int
    lag_bytes: int

    @property
    def is_whole(self) -> bool:
        """Whether all its parts are there and nothing stopped it."""
        return self.published and self.has_slot and self.subscribed and self.enabled

    @property
    def is_absent(self) -> bool:
        """Whether nothing of it is there."""
        return not (self.published or self.has_slot or self.subscribed)

    @property
    def is_ready(self) -> bool:
        """Whether all rows were copied, and it passes on what is written."""
        return self.is_whole and not self.copying


class ReplicationLink:
    """One direction of a move. Makes and drops its parts; each step is the coordinator's alone."""

    def __init__(
        self, name: str, move: Move, marker: UUID, *, publisher: Node, subscriber: Node, conninfo: str
    ) -> None:
        self.name = name
        self._move = move
        self._marker = marker
        self._publisher = publisher
        self._subscriber = subscriber
        self._conninfo = conninfo

    def __repr__(self) -> str:
        return f"ReplicationLink({self.name}: {self._publisher.name} to {self._subscriber.name})"

    async def state(self) -> LinkState:
        """Look at both ends."""
        async with self._publisher.connection() as connection:
            published = await connection.fetchrow(MOVES["published"], self.name)
        subscribed = await self._subscribed()
        return LinkState(
            published=published["published"],
            has_slot=bool(published["usable"]),
            subscribed=subscribed is not None,
            enabled=bool(subscribed and subscribed["enabled"]),
            copying=subscribed["copying"] if subscribed else 0,
            bytes_copied=subscribed["bytes_copied"] if subscribed else 0,
            lag_bytes=published["lag_bytes"] or 0,
        )

    async def _subscribed(self) -> Any:
        async with self._subscriber.connection() as connection:
            return await connection.fetchrow(MOVES["subscribed"], self.name)

    # --- making -----------------------------------------------------------------------------------------

    async def create(self, slots: Sequence[int], *, copy: bool) -> None:
        """Make a link of which nothing is there; with `copy`, it begins with the rows there are.

        Raises ReshardingError when the publisher has a table with slots that this program does not know.
        """
        await self._check_tables()
        for node in (self._publisher, self._subscriber):  # an old marker would seem to have arrived
            async with move_step(node, self._move) as connection:
                await connection.execute(MOVES["forget_markers"], [self._marker])
        async with move_step(self._publisher, self._move) as connection:
            await connection.execute(
                f"CREATE PUBLICATION {self.name} FOR TABLE {self._tables(slots)} "
                "WITH (publish = 'insert, update, delete')",
                timeout=_MAKE_SLOT_S,
            )
        async with move_step(self._publisher, self._move) as connection:
            await connection.fetchval(MOVES["create_slot"], self.name, timeout=_MAKE_SLOT_S)
        async with move_step(self._subscriber, self._move) as connection:
            await connection.execute(MOVES["hand_over"], self._conninfo)
            await connection.execute(
                _CREATE_SUBSCRIPTION.format(name=self.name, copy=str(copy).lower()), timeout=_MAKE_SLOT_S
            )

    async def _check_tables(self) -> None:
        async with self._publisher.connection() as connection:
            found = {row["relname"] for row in await connection.fetch(MOVES["moving_tables"])}
        if found != set(MOVING_TABLES):
            wrong = ", ".join(sorted(found ^ set(MOVING_TABLES)))
            raise ReshardingError(
                f"{self._publisher.name}: its tables with slots are not those of this program: {wrong}: "
                "run `postorder migrate`"
            )

    async def publish(self, slots: Sequence[int]) -> None:
        """Carry just these slots from now on: what is done to others on the publisher stays there."""
        async with move_step(self._publisher, self._move) as connection:
            await connection.execute(
                f"ALTER PUBLICATION {self.name} SET TABLE {self._tables(slots)}", timeout=_MAKE_SLOT_S
            )

    def _tables(self, slots: Sequence[int]) -> str:
        """Return what is published. All that it names is a constant, our own id, or a number."""
        numbers = ",".join(str(int(slot)) for slot in slots)
        filters = [f"{table} WHERE (slot = ANY ('{{{numbers}}}'::smallint[]))" for table in MOVING_TABLES]
        filters.append(f"slot_marker WHERE (move_id = '{self._marker}'::uuid)")
        return ", ".join(filters)

    # --- dropping ---------------------------------------------------------------------------------------

    async def drop(self) -> None:
        """Drop whatever there is of it, on both ends. Safe to run again at any point."""
        subscribed = await self._subscribed()
        sync_slots = f"pg_{subscribed['oid']}_sync_" if subscribed else self.name
        if subscribed:
            async with move_step(self._subscriber, self._move) as connection:
                await connection.execute(f"ALTER SUBSCRIPTION {self.name} DISABLE")
            await self._until_stopped()
        # Before the subscription goes: then nobody would know any more which slots were for its copying.
        await self._drop_slots(self.name, sync_slots)
        if subscribed:
            async with move_step(self._subscriber, self._move) as connection:
                await connection.execute(f"ALTER SUBSCRIPTION {self.name} SET (slot_name = NONE)")
                await connection.execute(f"DROP SUBSCRIPTION {self.name}", timeout=_STOPPED_S)
        async with move_step(self._publisher, self._move) as connection:
            await connection.execute(f"DROP PUBLICATION IF EXISTS {self.name}")

    async def _until_stopped(self) -> None:
        async with asyncio.timeout(_STOPPED_S):
            while (found := await self._subscribed()) and found["workers"]:  # noqa: ASYNC110  # a server's
                await asyncio.sleep(_POLL_S)

    async def _drop_slots(self, name: str, sync_slots: str) -> None:
        loop = asyncio.get_running_loop()
        patience_until = loop.time() + 1.0
        async with asyncio.timeout(_STOPPED_S):
            while True:
                async with move_step(self._publisher, self._move) as connection:
                    await connection.fetchval(MOVES["drop_slots"], name, sync_slots)
                    if not await connection.fetchval(MOVES["slots_left"], name, sync_slots):
                        return
                    if loop.time() > patience_until:  # its reader is gone, and this server does not know yet
                        await connection.fetchval(MOVES["end_readers"], name, sync_slots)
                await asyncio.sleep(_POLL_S)

    # --- waiting ----------------------------------------------------------------------------------------

    async def until_ready(self, report: Callable[[LinkState], None], timeout_s: float) -> None:
        """Wait until all rows were copied. Raises LinkBrokenError, and TimeoutError.

        A copy goes on by itself while nobody waits for it.
        """
        async with asyncio.timeout(timeout_s):
            while not (state := await self.state()).is_ready:
                if not state.is_whole:
                    raise LinkBrokenError(f"{self!r} stopped: see the log of {self._subscriber.name}")
                report(state)
                await asyncio.sleep(4 * _POLL_S)
        report(state)

    async def send_marker(self) -> int:
        """Put a marker behind all that was committed on the publisher so far, and return it."""
        async with move_step(self._publisher, self._move) as connection:
            return int(await connection.fetchval(MOVES["put_marker"], self._marker))

    async def until_arrived(self, marker: int, timeout_s: float) -> None:
        """Wait until a marker has arrived, and so all that was committed before it. Raises TimeoutError."""
        async with asyncio.timeout(timeout_s):
            while True:
                async with self._subscriber.connection() as connection:
                    if (await connection.fetchval(MOVES["marker"], self._marker) or 0) >= marker:
                        return
                await asyncio.sleep(_POLL_S / 10)
