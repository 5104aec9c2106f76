"""Makes a shard's replica its primary by hand, where no failover engine does it.

The old primary must not get another commit acknowledged. Two things see to that. While it can be reached, it
is told to take no writes, and every session on it is ended, before the replica is promoted. And whether it
could be reached or not, its commits wait for the replica, which does not follow it any more: a process with
the old settings waits until it times out, and acknowledges nothing.
"""

import asyncio
from typing import Any, Self

import asyncpg
import msgspec

from pipeline.errors import PostorderError, PromotionError
from pipeline.settings import ShardSettings, StorageSettings
from pipeline.storage.connector import Connector, Wants, is_read_only, is_standby
from pipeline.storage.node import translated

_CATCH_UP_S = 30.0
_PROMOTED_S = 60
_POLL_S = 0.05

_SYSTEM = "SELECT system_identifier::text FROM pg_control_system()"
_RECEIVES = "SELECT status FROM pg_stat_wal_receiver"
_FENCE = "ALTER SYSTEM SET default_transaction_read_only = on"
_LIFT_FENCE = "ALTER SYSTEM RESET default_transaction_read_only"
_RELOAD = "SELECT pg_reload_conf()"
_END_SESSIONS = """
SELECT pg_terminate_backend(pid) FROM pg_stat_activity
WHERE backend_type = 'client backend' AND usename = current_user AND pid <> pg_backend_pid()
"""
_FLUSHED = "SELECT pg_current_wal_flush_lsn()::text"
_REPLAYED = "SELECT pg_last_wal_replay_lsn() >= $1::text::pg_lsn"
_PROMOTE = "SELECT pg_promote(true, $1)"
_TIMELINE = "SELECT left(pg_walfile_name(pg_current_wal_lsn()), 8)"


class Promotion(msgspec.Struct, frozen=True, kw_only=True):
    """What was done. `fenced`: whether the old primary was reached and told to take no writes."""

    shard: str
    primary: str
    timeline: int
    fenced: bool


async def promote(
    shard: ShardSettings, storage: StorageSettings, *, primary_is_dead: bool = False
) -> Promotion:
    """Make the shard's replica its primary; return when it takes writes.

    Raises PromotionError when that is refused, with nothing changed. Safe to run again: a replica that was
    promoted by an earlier run which was killed is found to be so.
    """
    replica_at = _connector(shard, "replica", storage)
    primary_at = _connector(shard, "primary", storage)
    replica = await _reach(replica_at)
    if isinstance(replica, PostorderError):
        raise PromotionError(f"{replica}: nothing to promote")
    try:
        primary = await _reach(primary_at)
        if isinstance(primary, PostorderError):
            await _check_dead(shard, replica, primary, said_so=primary_is_dead)
            return await _finish(shard, replica, replica_at, fenced=False)
        try:
            await _check_pair(shard, primary, replica)
            async with _Fence(primary, primary_at) as fence:
                await _wait_caught_up(shard, primary, replica)
                done = await _finish(shard, replica, replica_at, fenced=True)
                fence.stays = True
                return done
        finally:
            primary.terminate()
    finally:
        replica.terminate()


def _connector(shard: ShardSettings, role: str, storage: StorageSettings) -> Connector:
    dsn = shard.primary if role == "primary" else shard.replica
    if not dsn:
        raise PromotionError(f"{shard.name} has no replica in the settings")
    connector = Connector(f"{shard.name} {role}", dsn, shard.password, storage, Wants.ANY)
    if connector.has_choice:
        raise PromotionError(
            f"{shard.name} names several hosts: its failover is Patroni's: patronictl switchover"
        )
    return connector


async def _reach(connector: Connector) -> asyncpg.Connection | PostorderError:
    """Return a connection, or why there is none."""
    try:
        with translated(f"{connector.name} at {connector.address}"):
            return await connector.connect()
    except PostorderError as error:
        return error


async def _check_dead(
    shard: ShardSettings, replica: asyncpg.Connection, why: PostorderError, *, said_so: bool
) -> None:
    if await _ask(shard, replica, _RECEIVES) == "streaming":
        raise PromotionError(
            f"{why}; but it lives, for the replica still receives from it: stop it, or mend the way to it"
        )
    if not said_so:
        raise PromotionError(f"{why}: if it is down for certain, say so with --primary-is-dead")


async def _check_pair(shard: ShardSettings, primary: asyncpg.Connection, replica: asyncpg.Connection) -> None:
    if is_standby(primary):
        raise PromotionError(f"{shard.name}: what the settings call its primary is a replica: swap the two")
    if await _ask(shard, primary, _SYSTEM) != await _ask(shard, replica, _SYSTEM):
        raise PromotionError(f"{shard.name}: what the settings call its replica is another system's")
    if not is_standby(replica) and await _timeline(shard, replica) <= await _timeline(shard, primary):
        raise PromotionError(f"{shard.name}: what the settings call its replica is no replica of its primary")


class _Fence:
    """Holds the old primary off from writes: for good if `stays` was set, else until the end of the block."""

    def __init__(self, primary: asyncpg.Connection, connector: Connector) -> None:
        self._primary = primary
        self._connector = connector
        self.stays = False

    async def __aenter__(self) -> Self:
        try:
            with translated(f"{self._connector.name} at {self._connector.address}"):
                await self._primary.execute(_FENCE)
                await self._primary.execute(_RELOAD)
                # Sessions that begin from now on take no writes; those before are ended, and with them
                # whatever they had not committed.
                await self._wait_in_force()
                await self._primary.execute(_END_SESSIONS)
        except BaseException:
            await self._lift()
            raise
        return self

    async def _wait_in_force(self) -> None:
        async with asyncio.timeout(_CATCH_UP_S):
            while True:
                probe = await self._connector.connect()
                in_force = is_read_only(probe)
                probe.terminate()
                if in_force:
                    return
                await asyncio.sleep(_POLL_S)

    async def __aexit__(self, *_: object) -> None:
        if not self.stays:
            await self._lift()

    async def _lift(self) -> None:
        with translated(f"{self._connector.name} at {self._connector.address}"):
            await self._primary.execute(_LIFT_FENCE)
            await self._primary.execute(_RELOAD)


async def _wait_caught_up(
    shard: ShardSettings, primary: asyncpg.Connection, replica: asyncpg.Connection
) -> None:
    """Wait until the replica has replayed all that the old primary has on disk."""
    flushed = await _ask(shard, primary, _FLUSHED)
    deadline = asyncio.get_running_loop().time() + _CATCH_UP_S
    while is_standby(replica) and not await _ask(shard, replica, _REPLAYED, flushed):
        if asyncio.get_running_loop().time() > deadline:
            raise PromotionError(
                f"{shard.name}: its replica has not replayed {flushed} in {_CATCH_UP_S:g} s: "
                "the primary takes writes again"
            )
        await asyncio.sleep(_POLL_S)


async def _finish(
    shard: ShardSettings, replica: asyncpg.Connection, connector: Connector, *, fenced: bool
) -> Promotion:
    if is_standby(replica) and not await _ask(shard, replica, _PROMOTE, _PROMOTED_S, timeout=_PROMOTED_S + 5):
        raise PromotionError(f"{shard.name}: its replica was not promoted in {_PROMOTED_S} s: see its log")
    return Promotion(
        shard=shard.name,
        primary=connector.address,
        timeline=await _timeline(shard, replica),
        fenced=fenced,
    )


async def _timeline(shard: ShardSettings, connection: asyncpg.Connection) -> int:
    return int(await _ask(shard, connection, _TIMELINE), 16)


async def _ask(
    shard: ShardSettings,
    connection: asyncpg.Connection,
    query: str,
    *arguments: Any,
    timeout: float | None = None,  # noqa: ASYNC109  # the driver's own
) -> Any:
    with translated(shard.name):
        return await connection.fetchval(query, *arguments, timeout=timeout)
