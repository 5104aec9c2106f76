"""One PostgreSQL server: its pool, and its driver's errors put into ours."""

import asyncio
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager, contextmanager
from urllib.parse import urlsplit

import asyncpg

from pipeline.errors import (
    PostorderError,
    StorageConflictError,
    StorageRejectedError,
    StorageTimeoutError,
    StorageUnavailableError,
)
from pipeline.settings import StorageSettings

# SQLSTATE classes that say "not this data": data exceptions, integrity constraints, limits exceeded. All
# else, from a wrong password to a missing table, says something about the server, and may be mended.
_REJECTED_CLASSES = ("22", "23", "54")
_NOT_PRIMARY = "25006"
# A unique violation too: what is there is looked up first, so another transaction came between.
_CONFLICTS = ("23505", "40001", "40P01", "55P03")


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
    """A PostgreSQL server, by role ("primary" or "replica") and DSN."""

    def __init__(self, name: str, dsn: str, password: str, settings: StorageSettings) -> None:
        self.name = name
        self._dsn = dsn
        self._password = password
        self._settings = settings
        self._pool: asyncpg.Pool | None = None
        address = urlsplit(dsn)
        self.address = f"{address.hostname}:{address.port or 5432}"

    def __repr__(self) -> str:
        size, idle = (self._pool.get_size(), self._pool.get_idle_size()) if self._pool else (0, 0)
        return f"Node({self.name} at {self.address}, {size} connections, {idle} idle)"

    async def open(self) -> None:
        """Open the pool. Raises StorageUnavailableError when the server cannot be reached."""
        settings = self._settings
        with translated(f"{self.name} at {self.address}"):
            self._pool = await asyncpg.create_pool(
                self._dsn,
                password=self._password or None,
                min_size=1,
                max_size=settings.connections_max,
                timeout=settings.connect_timeout_s,
                command_timeout=settings.command_timeout_s,
                max_inactive_connection_lifetime=settings.idle_connection_max_s,
                server_settings={"application_name": settings.application_name},
            )

    async def close(self) -> None:
        """Close the pool; connections still in use after the time-out are cut."""
        pool, self._pool = self._pool, None
        if pool is None:
            return
        try:
            async with asyncio.timeout(self._settings.command_timeout_s):
                await pool.close()
        except TimeoutError:
            pool.terminate()

    @asynccontextmanager
    async def connection(self) -> AsyncIterator[asyncpg.pool.PoolConnectionProxy]:
        """Lend a connection. Errors inside come out as ours; after "not the primary" none is reused."""
        if self._pool is None:
            raise StorageUnavailableError(f"{self.name} at {self.address}: not open")
        pool = self._pool
        with translated(f"{self.name} at {self.address}"):
            try:
                async with pool.acquire(timeout=self._settings.acquire_timeout_s) as connection:
                    yield connection
            except asyncpg.PostgresError as error:
                if error.sqlstate == _NOT_PRIMARY or (error.sqlstate or "")[:2] in ("08", "57"):
                    # A demoted primary still answers SELECT 1; its connections must go.
                    await pool.expire_connections()
                raise
