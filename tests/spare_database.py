"""New, empty databases on the stack's primaries, for tests that change the schema or need a large one."""

from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from pathlib import Path
from urllib.parse import urlsplit, urlunsplit

import asyncpg

from stack.postgres_settings import SUPERUSER, USER
from stack.state import load_state
from stack.status import ShardEndpoints


def elsewhere(dsn: str, database: str) -> str:
    """The same server's other database."""
    return urlunsplit(urlsplit(dsn)._replace(path=f"/{database}"))


async def run_on(dsn: str, *statements: str, timeout_s: float = 60) -> None:
    connection = await asyncpg.connect(dsn, timeout=5)
    try:
        for statement in statements:
            await connection.execute(statement, timeout=timeout_s)
    finally:
        await connection.close()


@asynccontextmanager
async def spare_databases(shards: Sequence[ShardEndpoints], folder: Path, name: str) -> AsyncIterator[None]:
    """Make a database on each primary, owned by the application, and drop it in the end."""
    state = load_state(folder)
    assert state is not None
    password = state.secrets[SUPERUSER]
    drop = f"DROP DATABASE IF EXISTS {name} WITH (FORCE)"
    servers = []
    for shard in shards:
        address = urlsplit(shard.primary_dsn)
        servers.append(f"postgresql://{SUPERUSER}:{password}@{address.hostname}:{address.port}/{SUPERUSER}")
    try:
        for server in servers:
            await run_on(server, drop, f"CREATE DATABASE {name} OWNER {USER}")
        yield
    finally:
        for server in servers:
            await run_on(server, drop)
