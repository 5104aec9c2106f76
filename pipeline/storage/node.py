"""One PostgreSQL server: its pool, and its driver's errors put into ours."""

import asyncio
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager, contextmanager

import asyncpg

from pipeline.errors import (
    PostorderError,
    StorageConflictError,
    StorageRejectedError,
    StorageTimeoutError,
    StorageUnavailableError,
)
from pipeline.settings import StorageSettings
from pipeline.storage.connector import Connection, Connector, Wants, has_timed_out, is_distrusted

# SQLSTATE classes that say "not this data": data exceptions, integrity constraints, limits exceeded. All
# else, from a wrong password to a missing table, says something about the server, and may be mended.
_REJECTED_CLASSES = ("22", "23", "54")
# A unique violation too: what is there is looked up first, so another transaction came between.
_CONFLICTS = ("23505", "40001", "40P01", "55P03")
_RENEW_S = 10.0  # how often reads that ended up on the primary look for a replica again


def translate(error: BaseException, where: str) -> PostorderError:
    """Return our error for a driver's. Texts of the server may quote values, so only codes are kept."""
    if isinstance(error, TimeoutError):
        return StorageTimeoutError(f"{where}: no answer in time")
    if isinstance(error, asyncpg.PostgresError):
        return _by_sqlstate(error, where)
    if isinstance(error, asyncpg.DataError | ValueError | OverflowError):
        return StorageRejectedError(f"{where}: the driver refuses a value ({type(error).__name__})")
    if isinstance(error, ConnectionRefusedError):
        return StorageUnavailableError(f"{where}: connection refused: is it running?")
    return StorageUnavailableError(f"{where}: {type(error).__name__}")


def _by_sqlstate(error: asyncpg.PostgresError, where: str) -> PostorderError:
    code = error.sqlstate or "?????"
    constraint = getattr(error, "constraint_name", None)
    what = f"{where}: {type(error).__name__} ({code}{', ' + constraint if constraint else ''})"
    if code in _CONFLICTS:
        return StorageConflictError(what)
    if code[:2] in _REJECTED_CLASSES:
        return StorageRejectedError(what)
    return StorageUnavailableError(what)


@contextmanager
def translated(where: str) -> Iterator[None]:
    """Turn the driver's errors inside the block into ours."""
    try:
        yield
    except (
        TimeoutError,
        OSError,
        ValueError,
        OverflowError,
        asyncpg.PostgresError,
        asyncpg.InterfaceError,
        asyncpg.InternalClientError,  # a connection that died between two operations
    ) as error:
        raise translate(error, where) from error


class Node:
    """A PostgreSQL server. `name` is its shard's and its role: "shard0 primary" or "shard0 replica".

    The DSN may name several hosts: then the server is whichever of them has the role. Mutable state: the
    pool, why there is none, and when its connections were last renewed to find a replica again.
    """

    def __init__(self, name: str, dsn: str, password: str, settings: StorageSettings) -> None:
        self.name = name
        self._settings = settings
        self._connector = Connector(name, dsn, password, settings)
        self.address = self._connector.address
        self._pool: asyncpg.Pool | None = None
        self._unopened = f"{name} at {self.address}: not open"
        self._renewed_at = 0.0

    def __repr__(self) -> str:
        size, idle = (self._pool.get_size(), self._pool.get_idle_size()) if self._pool else (0, 0)
        return f"Node({self.name} at {self.address}, {size} connections, {idle} idle)"

    @property
    def is_open(self) -> bool:
        """Whether connections are lent; the server may be away all the same."""
        return self._pool is not None

    def connections(self) -> tuple[int, int, int]:
        """Return how many connections are lent, how many are idle, and how many there may be."""
        size, idle = (self._pool.get_size(), self._pool.get_idle_size()) if self._pool else (0, 0)
        return size - idle, idle, self._settings.connections_max

    async def open(self) -> None:
        """Open the pool. Raises StorageUnavailableError when the server cannot be reached."""
        settings = self._settings
        try:
            with translated(f"{self.name} at {self.address}"):
                self._pool = await asyncpg.create_pool(
                    connect=self._connector.connect,
                    min_size=1,
                    max_size=settings.connections_max,
                    max_inactive_connection_lifetime=settings.idle_connection_max_s,
                    connection_class=Connection,
                )
        except PostorderError as error:
            self._unopened = str(error)
            raise

    async def dedicated_connection(self) -> asyncpg.Connection:
        """Return a connection outside the pool, for who listens or holds session locks. The caller ends it.

        Raises StorageUnavailableError, StorageTimeoutError.
        """
        with translated(f"{self.name} at {self.address}"):
            return await self._connector.connect()

    async def close(self) -> None:
        """Close the pool; connections still in use after the time-out are cut. Raises nothing."""
        pool, self._pool = self._pool, None
        if pool is None:
            return
        try:
            with translated(self.name):
                async with asyncio.timeout(self._settings.command_timeout_s):
                    await pool.close()
        except PostorderError:  # it took too long, or the server went away in the middle of it
            pool.terminate()

    @asynccontextmanager
    async def connection(self) -> AsyncIterator[asyncpg.pool.PoolConnectionProxy]:
        """Lend a connection. Errors inside come out as ours.

        After an error that says that the server may no longer be the one, none of the pool's connections is
        lent again: each is replaced by one to whichever server has the role then.
        """
        if self._pool is None:
            raise StorageUnavailableError(self._unopened)
        pool = self._pool
        with translated(f"{self.name} at {self.address}"):
            async with pool.acquire(timeout=self._settings.acquire_timeout_s) as connection:
                await self._check(connection)
                real = connection._con  # noqa: SLF001  # what is lent forgets it when it is cut
                try:
                    yield connection
                except Exception as error:
                    # A demoted primary still answers SELECT 1; its connections must go.
                    if is_distrusted(error, real):
                        if has_timed_out(error):
                            self._connector.suspect()
                        await pool.expire_connections()
                    raise

    async def _check(self, connection: asyncpg.pool.PoolConnectionProxy) -> None:
        """Look at what the server reports of itself unasked: costs no round trip.

        Raises StorageUnavailableError for a primary's connection whose server takes no writes.
        """
        connector = self._connector
        if self._pool is None or not connector.is_misled(connection):
            return
        if connector.wants is not Wants.PREFER_STANDBY:
            await self._pool.expire_connections()
            raise StorageUnavailableError(f"{self.name} at {self.address}: it has another role by now")
        # A replica that was promoted still answers; another may be the replica by now. Not asked each time.
        now = asyncio.get_running_loop().time()
        if connector.has_choice and now - self._renewed_at > _RENEW_S:
            self._renewed_at = now
            await self._pool.expire_connections()
