"""Three shards on the running stack, in databases of their own. The third one owns nothing yet."""

import asyncio
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager, contextmanager, suppress
from pathlib import Path
from urllib.parse import urlsplit, urlunsplit

import asyncpg
import msgspec
import orjson
import tomlkit
from flow import Flow
from real_stack import Bench, open_bench, order_event
from spare_database import elsewhere, run_on, spare_databases

from consumers.migration import migrate_all
from consumers.resharding import open_moves, opened
from pipeline.resharding.planning import planned_add
from pipeline.resharding.progress import Phase, Progress
from pipeline.resharding.verification import Verification, verify
from pipeline.settings import Settings, load_settings
from pipeline.sharding.planner import SlotMove
from pipeline.storage.statements import MOVES
from stack.status import ShardEndpoints, StackStatus

NAME = "moving"
NEW = "shard2"
FEW = 48  # slots, for tests in which it does not matter how many
EXTRA = "moving_extra"  # of the third shard, on the first one's servers
_FORGET = """DO $$ BEGIN
IF to_regclass('shard_map') IS NOT NULL THEN
    TRUNCATE shard_map, shard_slot, slot_move, slot_marker;
END IF; END $$"""


class Moving(msgspec.Struct, frozen=True):
    """The three shards. `two` are the settings of a process that was started before there was a third."""

    bench: Bench
    settings: Settings
    config: Path
    two: Path

    async def rows_of(self, shard: str, table: str) -> int:
        [row] = await self.bench.rows(f"SELECT count(*) AS rows FROM {table}", shard=shard)
        return row["rows"]

    async def links(self) -> list[str]:
        """Publications, subscriptions and slots of moves, on any server."""
        return [f"{row['kind']} {row['name']}" for row in await self.bench.rows(MOVES["left_behind"])]

    async def order_ids(self) -> list[str]:
        return [row["order_id"] for row in await self.bench.rows("SELECT order_id FROM orders")]


@contextmanager
def shard_databases(stack: StackStatus, folder: Path) -> Iterator[None]:
    """Make the three databases, for a module's tests, and drop them in the end."""
    first, second = stack.shards
    with asyncio.Runner() as runner:
        made = [
            spare_databases([first, second], folder, NAME),
            spare_databases([first], folder, EXTRA),
        ]
        for one in made:
            runner.run(one.__aenter__())
        try:
            yield
        finally:
            for one in made:
                runner.run(one.__aexit__(None, None, None))


@asynccontextmanager
async def moving_shards(stack: StackStatus, settings_file: Path, tmp_path: Path) -> AsyncIterator[Moving]:
    """The three shards as at their beginning: two own all slots, and nothing was written."""
    first, second = stack.shards
    shards = [_at(first, NAME, "shard0"), _at(second, NAME, "shard1"), _at(first, EXTRA, "shard2")]
    own = msgspec.structs.replace(stack, shards=shards)
    config = _settings(settings_file, tmp_path / "three.toml", shards)
    two = _settings(settings_file, tmp_path / "two.toml", shards[:2])
    for shard in shards:
        await run_on(shard.primary_dsn, _FORGET)
    await migrate_all(load_settings(two, {}))  # so that the first map is of two
    settings = load_settings(config, {})
    try:
        async with open_bench(own, settings) as bench:
            await bench.cluster.load_map()
            yield Moving(bench, settings, config, two)
    finally:
        for shard in shards:
            await _clear(shard.primary_dsn)


@asynccontextmanager
async def moving_flow(moving: Moving) -> AsyncIterator[Flow]:
    """A processor on these shards that follows the map, as the pipeline's does."""
    flow = Flow(moving.bench, park_after_s=10.0)
    moving.bench.cluster.on_map.append(flow.processor.resort)
    await flow.processor.start()
    yield flow
    await flow.processor.stop()
    assert flow.crashes == []


class Writing:
    """Orders without end, until told to stop. `names` are those that were given to the processor."""

    def __init__(self, flow: Flow) -> None:
        self._flow = flow
        self.names: list[str] = []

    def give(self, count: int) -> None:
        names = [f"o-{number}" for number in range(len(self.names), len(self.names) + count)]
        self._flow.give(*(orjson.dumps(order_event(name)) for name in names))
        self.names += names

    async def go_on(self) -> None:
        while True:
            self.give(5)
            await asyncio.sleep(0.01)  # a rate, not a wait

    async def done(self) -> None:
        await self._flow.until_acknowledged(len(self.names))


@asynccontextmanager
async def writing(flow: Flow, first: int = 300) -> AsyncIterator[Writing]:
    """Write some orders, then go on writing inside the block; at its end all are acknowledged."""
    orders = Writing(flow)
    orders.give(first)
    await orders.done()
    task = asyncio.create_task(orders.go_on())
    try:
        yield orders
    finally:
        task.cancel()
        with suppress(asyncio.CancelledError):
            await task
    await orders.done()


async def verified(moving: Moving) -> Verification:
    async with opened(moving.settings) as cluster:
        return await verify(cluster)


async def check_all_once(moving: Moving, orders: Writing) -> None:
    """I17, I19: each order on just one shard, the owner of its slot, with its two messages."""
    assert sorted(await moving.order_ids()) == sorted(orders.names)
    astray = "SELECT order_id FROM orders o WHERE NOT EXISTS (SELECT FROM shard_slot s WHERE s.slot = o.slot)"
    assert await moving.bench.rows(astray) == []
    messages = await moving.bench.rows(
        "SELECT order_id, count(*) AS messages FROM outbox JOIN orders USING (slot, order_id) "
        "GROUP BY order_id"
    )
    assert sorted(row["order_id"] for row in messages if row["messages"] == 2) == sorted(orders.names)
    assert await moving.links() == []
    found = await verified(moving)
    assert found.problems == ()
    assert found.moving == ()


async def check_calm(moving: Moving) -> None:
    assert await open_moves(moving.settings) == ()
    assert await moving.links() == []
    found = await verified(moving)
    assert found.problems == ()


def add(cluster: object) -> tuple[SlotMove, ...]:
    return planned_add(cluster, NEW)


def add_few(cluster: object) -> tuple[SlotMove, ...]:
    """A new shard's first slots, from both others: a short move."""
    plan = add(cluster)
    sources = {move.source for move in plan}
    return tuple(move for source in sorted(sources) for move in [m for m in plan if m.source == source][:FEW])


class Interruption(BaseException):
    """A coordinator that ends just here."""


def interrupted_after(flips: int):
    """A report that ends the coordinator after so many groups were flipped; 0: when it begins to flip."""
    left = flips

    def report(progress: Progress) -> None:
        nonlocal left
        if progress.phase is Phase.WAY_BACK and not flips:
            raise Interruption
        if progress.phase is Phase.FLIPPING:
            left -= 1
            if left <= 0:
                raise Interruption

    return report


async def drop_slot(moving: Moving, name: str) -> None:
    """Drop it as soon as its reader is between two attempts."""

    async def dropped() -> bool:
        try:
            await moving.bench.execute(
                "SELECT pg_terminate_backend(active_pid) FROM pg_replication_slots WHERE slot_name = $1", name
            )
            await moving.bench.execute(
                "SELECT pg_drop_replication_slot(slot_name) FROM pg_replication_slots "
                "WHERE slot_name = $1 AND database = current_database()",
                name,
            )
        except asyncpg.ObjectInUseError:
            return False
        return True

    await moving.bench.until_true(dropped)


def _at(shard: ShardEndpoints, database: str, name: str) -> ShardEndpoints:
    changes = {field: elsewhere(getattr(shard, field), database) for field in ("primary_dsn", "replica_dsn")}
    return msgspec.structs.replace(shard, name=name, **changes)


def _settings(template: Path, path: Path, shards: list[ShardEndpoints]) -> Path:
    document = tomlkit.parse(template.read_text(encoding="utf-8"))
    secrets = template.parent / "secrets"
    for section in ("amqp", "sms"):
        for key in ("password_file", "auth_token_file"):
            if key in document[section]:
                document[section][key] = str(secrets / Path(document[section][key]).name)
    tables = tomlkit.aot()
    for shard in shards:
        table = tomlkit.table()
        table.update(
            name=shard.name,
            primary=_without_password(shard.primary_dsn),
            replica=_without_password(shard.replica_dsn),
            password_file=str(secrets / "postgres"),
        )
        tables.append(table)
    document["shards"] = tables
    path.write_text(tomlkit.dumps(document), encoding="utf-8")
    return path


def _without_password(dsn: str) -> str:
    parts = urlsplit(dsn)
    return urlunsplit(parts._replace(netloc=f"{parts.username}@{parts.hostname}:{parts.port}"))


async def _clear(dsn: str) -> None:
    """Drop what a test that failed left: a database with a subscription or a slot cannot be dropped."""
    await run_on(
        dsn,
        """DO $$ DECLARE name text; BEGIN
        FOR name IN SELECT subname FROM pg_subscription s JOIN pg_database d ON d.oid = s.subdbid
                    WHERE d.datname = current_database() LOOP
            EXECUTE format('ALTER SUBSCRIPTION %I DISABLE', name);
            EXECUTE format('ALTER SUBSCRIPTION %I SET (slot_name = NONE)', name);
            EXECUTE format('DROP SUBSCRIPTION %I', name);
        END LOOP; END $$""",
    )
    await run_on(
        dsn,
        "SELECT pg_terminate_backend(active_pid) FROM pg_replication_slots "
        "WHERE active AND database = current_database()",
        """DO $$ BEGIN
        FOR attempt IN 1..100 LOOP
            EXIT WHEN NOT EXISTS (SELECT FROM pg_replication_slots
                                  WHERE active AND database = current_database());
            PERFORM pg_sleep(0.05);
        END LOOP; END $$""",
        "SELECT pg_drop_replication_slot(slot_name) FROM pg_replication_slots "
        "WHERE NOT active AND database = current_database()",
    )
