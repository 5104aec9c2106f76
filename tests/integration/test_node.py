"""A node whose DSN names both servers of a pair: which it connects to, and when it stops trusting them."""

import asyncio
import time
from collections.abc import AsyncIterator, Callable
from contextlib import AsyncExitStack, asynccontextmanager
from socket import IPPROTO_TCP, SO_KEEPALIVE, SOL_SOCKET, TCP_USER_TIMEOUT
from urllib.parse import urlsplit

import asyncpg
import pytest
from hung_servers import hanging
from real_stack import Bench

from pipeline.errors import StorageTimeoutError, StorageUnavailableError
from pipeline.settings import StorageSettings
from pipeline.storage.node import Node
from stack.launcher import StackConfig, up
from stack.status import ShardEndpoints

pytestmark = pytest.mark.integration

QUICK = StorageSettings(connect_timeout_s=2.0, command_timeout_s=1.0, acquire_timeout_s=4.0)
PORT = "SELECT inet_server_port()"


def host(dsn: str) -> str:
    return urlsplit(dsn).netloc.rpartition("@")[2]


def both(pair: ShardEndpoints, *, replica_first: bool, wants: str = "") -> str:
    dsns = [pair.primary_dsn, pair.replica_dsn]
    hosts = ",".join(map(host, reversed(dsns) if replica_first else dsns))
    return pair.primary_dsn.replace(host(pair.primary_dsn), hosts) + wants


def port_of(dsn: str) -> int:
    return int(host(dsn).rpartition(":")[2])


@asynccontextmanager
async def opened(name: str, dsn: str, settings: StorageSettings = QUICK) -> AsyncIterator[Node]:
    node = Node(name, dsn, "", settings)
    await node.open()
    try:
        yield node
    finally:
        await node.close()


async def ask(node: Node, query: str = PORT) -> object:
    async with node.connection() as connection:
        return await connection.fetchval(query)


async def superuser(bench: Bench, pair: ShardEndpoints, *statements: str) -> None:
    """Run statements with the application's own rights, which cover the fence."""
    connection = await asyncpg.connect(pair.primary_dsn, timeout=5)
    try:
        for statement in statements:
            await connection.execute(statement)
    finally:
        await connection.close()


@pytest.fixture
def pair(bench: Bench) -> ShardEndpoints:
    return bench.stack.shards[0]


@pytest.mark.parametrize("replica_first", [True, False])
async def test_each_role_finds_its_server(pair: ShardEndpoints, replica_first: bool) -> None:  # noqa: FBT001
    dsn = both(pair, replica_first=replica_first)
    async with opened("shard0 primary", dsn) as primary, opened("shard0 replica", dsn) as replica:
        assert await ask(primary) == port_of(pair.primary_dsn)
        assert await ask(replica) == port_of(pair.replica_dsn)


async def test_a_replica_given_as_primary_is_refused_by_name(pair: ShardEndpoints) -> None:
    with pytest.raises(
        StorageUnavailableError, match=r"shard0 primary: no read-write server: \S+ is a replica"
    ):
        async with opened("shard0 primary", pair.replica_dsn):
            pass


async def test_a_wrong_password_is_told_from_an_absent_server(pair: ShardEndpoints) -> None:
    user = urlsplit(pair.primary_dsn).username
    dsn = both(pair, replica_first=False).replace(f":{urlsplit(pair.primary_dsn).password}@", ":wrong@")
    assert user in dsn
    with pytest.raises(StorageUnavailableError, match="InvalidPasswordError") as caught:
        async with opened("shard0 primary", dsn):
            pass
    assert "wrong" not in str(caught.value)


async def test_a_host_that_hangs_does_not_keep_us_from_the_next(
    pair: ShardEndpoints, bench: Bench, stack_folder
) -> None:
    pids = up(StackConfig(data_dir=stack_folder), lambda _text: None).pids
    with hanging(pids["shard0-replica"]):
        started = time.monotonic()
        async with opened("shard0 primary", both(pair, replica_first=True)) as primary:
            assert await ask(primary) == port_of(pair.primary_dsn)
        assert time.monotonic() - started < QUICK.connect_timeout_s
    async with opened("shard0 replica", both(pair, replica_first=True)) as replica:
        assert await ask(replica) == port_of(pair.replica_dsn)


async def test_after_a_time_out_no_connection_is_lent_again(pair: ShardEndpoints) -> None:
    async with opened("shard0 primary", pair.primary_dsn) as node:
        before = await ask(node, "SELECT pg_backend_pid()")
        with pytest.raises(StorageTimeoutError):
            await ask(node, "SELECT pg_sleep(30)")
        assert await ask(node, "SELECT pg_backend_pid()") != before


@pytest.mark.parametrize(
    ("break_it", "stays"),
    [
        ("SELECT pg_terminate_backend(pg_backend_pid())", False),
        ("SET transaction_read_only = on; CREATE TABLE t ()", False),
        ("SELECT 1/0", True),
    ],
    ids=["57P01", "25006", "22012"],
)
async def test_which_errors_cost_the_pool_its_connections(
    pair: ShardEndpoints,
    break_it: str,
    stays: bool,  # noqa: FBT001
) -> None:
    async with opened("shard0 primary", pair.primary_dsn) as node, AsyncExitStack() as lent:
        one = await lent.enter_async_context(node.connection())
        other = await one.fetchval("SELECT pg_backend_pid()")
        with pytest.raises(Exception, match="shard0 primary"):
            async with node.connection() as connection:
                await connection.execute(break_it)
        await lent.aclose()
        assert (await ask(node, "SELECT pg_backend_pid()") == other) is stays


async def test_a_connection_we_cut_ourselves_costs_no_other(pair: ShardEndpoints) -> None:
    async with opened("shard0 primary", pair.primary_dsn) as node:
        async with node.connection() as one:
            kept = await one.fetchval("SELECT pg_backend_pid()")
            with pytest.raises(StorageUnavailableError):
                await cut_while_asking(node)
        async with node.connection() as one, node.connection() as another:
            assert kept in [await lent.fetchval("SELECT pg_backend_pid()") for lent in (one, another)]


async def cut_while_asking(node: Node) -> None:
    async with node.connection() as connection:
        asyncio.get_running_loop().call_later(0.1, connection.terminate)
        await connection.fetchval("SELECT pg_sleep(30)")


async def test_a_primary_that_takes_no_writes_is_not_lent(pair: ShardEndpoints, bench: Bench) -> None:
    """What the server reports of itself is looked at; no statement of ours has to fail first."""
    async with opened("shard0 primary", pair.primary_dsn) as node:
        await ask(node)
        try:
            await superuser(bench, pair, "ALTER SYSTEM SET default_transaction_read_only = on", RELOAD)
            await until_refused(node, lambda: ask(node, "SELECT 1"))
        finally:
            await superuser(bench, pair, "ALTER SYSTEM RESET default_transaction_read_only", RELOAD)
        await bench.until_true(lambda: answers(node))


RELOAD = "SELECT pg_reload_conf()"


async def until_refused(node: Node, attempt: Callable) -> None:
    async with asyncio.timeout(10):
        while True:
            try:
                await attempt()
            except StorageUnavailableError as error:
                assert "another role" in str(error) or "takes no writes" in str(error)
                return


async def answers(node: Node) -> bool:
    try:
        return await ask(node, "SELECT 1") == 1
    except StorageUnavailableError:
        return False


async def test_a_lower_timeline_is_refused(pair: ShardEndpoints) -> None:
    async with opened("shard0 primary", pair.primary_dsn) as node:
        node._connector._timeline = 99  # as if a promoted successor had been seen
        await node._pool.expire_connections()
        with pytest.raises(
            StorageUnavailableError, match="timeline 1, and another was on 99: it was demoted"
        ):
            await ask(node)


async def test_the_kernel_watches_the_peer(pair: ShardEndpoints) -> None:
    async with opened("shard0 primary", pair.primary_dsn) as node, node.connection() as connection:
        channel = connection._con._transport.get_extra_info("socket")
        assert channel.getsockopt(SOL_SOCKET, SO_KEEPALIVE)
        assert channel.getsockopt(IPPROTO_TCP, TCP_USER_TIMEOUT) == 10_000
