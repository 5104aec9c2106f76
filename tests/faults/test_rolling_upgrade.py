"""An upgrade under load: migrate beside the running old program, run both, drain the old one."""

import asyncio
import socket
from collections import Counter
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from itertools import count
from pathlib import Path

import aiohttp
import pytest
from reading import quiet
from real_stack import Bench, attachments_of, invoice_event, order_event
from upgrading import OldProgram, previous_release

from consumers.connection import open_connection
from consumers.migration import migrate_all, read_states
from consumers.stack_settings import write_stack_settings
from loadtest.pipeline_process import PipelineProcess
from pipeline.errors import MigrationError
from pipeline.settings import Settings, load_settings
from pipeline.storage.cluster import Cluster
from pipeline.storage.migration_files import read_migrations
from stack.launcher import StackConfig, down, reset, up
from stack.status import StackStatus

pytestmark = [pytest.mark.faults, pytest.mark.timeout(240)]

INTERVAL_S = 0.2
MAILS_MAX = 500  # the sink shows no more at once
EACH_AT_LEAST = 10  # events that each program has to settle while both run


class Upstream:
    """Publishes orders and their invoices, one pair each interval, until told to stop."""

    def __init__(self, bench: Bench) -> None:
        self._bench = bench
        self._stopping = asyncio.Event()
        self.orders: list[str] = []

    async def run(self) -> None:
        for number in count():
            if self._stopping.is_set():
                return
            name = f"upgrade-{number}"
            phone = f"+1415{2_000_000 + number}"
            customer = {"name": "Ada Example", "email": f"{name}@example.com", "phone": phone}
            await self._bench.publish(order_event(name, customer=customer), invoice_event(name))
            self.orders.append(name)
            await asyncio.sleep(INTERVAL_S)

    def stop(self) -> None:
        self._stopping.set()


def free_port() -> int:
    with socket.socket() as listening:
        listening.bind(("127.0.0.1", 0))
        return listening.getsockname()[1]


async def settled(port: int) -> int:
    """Return how many events a process has settled."""
    async with (
        aiohttp.ClientSession() as session,
        session.get(f"http://127.0.0.1:{port}/metrics", timeout=aiohttp.ClientTimeout(5)) as answer,
    ):
        lines = (await answer.text()).splitlines()
    return sum(int(float(line.split()[-1])) for line in lines if line.startswith("postorder_events_total{"))


async def until_settled(port: int, process: PipelineProcess, at_least: int) -> None:
    async with asyncio.timeout(60):
        while True:
            process.check()
            try:
                if await settled(port) >= at_least:
                    return
            except aiohttp.ClientConnectionError:
                pass  # not listening yet
            await asyncio.sleep(0.1)


async def migrate_when_nobody_is_in_the_way(bench: Bench) -> None:
    """A migration waits for locks for 3 s at most and then says that a table is in use: run it again."""
    for _ in range(5):
        try:
            await migrate_all(bench.settings)
        except MigrationError as error:
            if "in use" not in str(error):
                raise
        else:
            return
    pytest.fail("the migration never got its locks")


class Upgrade:
    """A stack that the release before has set up: its tables and its queues."""

    def __init__(self, old: OldProgram, bench: Bench, settings_file: Path, logs: Path) -> None:
        self.old = old
        self.bench = bench
        self._settings_file = settings_file
        self._logs = logs

    def old_program(self, port: int) -> PipelineProcess:
        return self.old.running(self._logs / "old.log", _ops(port))

    def new_program(self, port: int) -> PipelineProcess:
        return PipelineProcess(self._settings_file, self._logs / "new.log", _ops(port))


def _ops(port: int) -> dict[str, str]:
    return {"POSTORDER_OPS_METRICS_PORT": str(port), "POSTORDER_NOTIFICATIONS_GRACE_WINDOW_S": "0.5"}


@pytest.fixture
async def upgrade(tmp_path: Path) -> AsyncIterator[Upgrade]:
    commit = previous_release()
    if commit is None:
        pytest.skip("the release before is not in this clone: git fetch --unshallow --tags")
    folder = tmp_path / "stack"
    stack = up(StackConfig(data_dir=folder), quiet)
    try:
        settings_file = write_stack_settings(stack, folder)
        old = OldProgram(commit, tmp_path / "old", settings_file)
        old.command("migrate")
        old.command("topology", "apply")
        async with opened(stack, load_settings(settings_file, {})) as bench:
            yield Upgrade(old, bench, settings_file, tmp_path)
    finally:
        down(folder, quiet)
        reset(folder, quiet)


@asynccontextmanager
async def opened(stack: StackStatus, settings: Settings) -> AsyncIterator[Bench]:
    """A bench that leaves tables and queues as they are."""
    cluster = Cluster(settings)
    broker = await open_connection(settings.amqp, "tests")
    try:
        for shard in cluster:
            await shard.primary.open()
        async with aiohttp.ClientSession() as http:
            yield Bench(stack, settings, cluster, broker, http)
    finally:
        await broker.close()
        await cluster.close()


@pytest.mark.fault(
    58, "an upgrade under load: tables first, then both programs, then the old one drains", ["I1", "I6"]
)
async def test_nothing_is_lost_or_doubled_while_two_versions_run(upgrade: Upgrade) -> None:
    bench, upstream = upgrade.bench, Upstream(upgrade.bench)
    old_port, new_port = free_port(), free_port()
    publishing = asyncio.create_task(upstream.run())
    with upgrade.old_program(old_port) as old:
        await until_settled(old_port, old, EACH_AT_LEAST)
        await migrate_when_nobody_is_in_the_way(bench)
        after = {state.number for state in await read_states(bench.settings)}
        assert after == {read_migrations()[-1].number}

        with upgrade.new_program(new_port) as new:
            both_from = await settled(old_port)
            await until_settled(new_port, new, EACH_AT_LEAST)
            await until_settled(old_port, old, both_from + EACH_AT_LEAST)
            old.stop()
            assert old.exit_status == 0, old.log.read_text()[-2000:]
            alone_from = await settled(new_port)
            await until_settled(new_port, new, alone_from + EACH_AT_LEAST)
            upstream.stop()
            await publishing
            await everything_is_as_it_should_be(bench, upstream.orders)
            new.stop()
            assert new.exit_status == 0, new.log.read_text()[-2000:]


async def everything_is_as_it_should_be(bench: Bench, orders: list[str]) -> None:
    """Each order and invoice is stored once, and each customer has one SMS, one order mail, one invoice."""
    status = await bench.until_quiet(2 * len(orders), timeout_s=60)
    assert status.accounting.balances
    assert status.accounting.events == 2 * len(orders)
    stored = [row["order_id"] for row in await bench.rows("SELECT order_id FROM orders")]
    assert sorted(stored) == sorted(orders)
    invoiced = [row["order_id"] for row in await bench.rows("SELECT order_id FROM invoices")]
    assert sorted(invoiced) == sorted(orders)
    states = await bench.rows("SELECT DISTINCT state FROM outbox")
    assert {row["state"] for row in states} <= {"accepted", "delivered", "suppressed"}, states

    texts = Counter(message["to"] for message in (await bench.twilio("messages?limit=5000"))["messages"])
    assert set(texts.values()) == {1}
    assert len(texts) == len(orders)
    mails = await bench.mails()
    assert len(orders) <= len(mails) < MAILS_MAX  # an invoice went with its order's mail or by itself
    assert len({mail["message_id"] for mail in mails}) == len(mails)
    invoices = Counter(name for mail in mails for name in mail["rcpt_tos"] if attachments_of(mail))
    assert invoices == {f"{name}@example.com": 1 for name in orders}
