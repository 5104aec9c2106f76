"""What it costs to ask for a recipient before each message: `python -m loadtest.recipients_bench`.

One shard with 200,000 recipients who want nothing; none of those asked for is among them. So many messages
are under way at once, and lookups come together as they do in a pool.
"""

import asyncio
import os
import time
from collections.abc import Iterator
from pathlib import Path

import msgspec
import uvloop
from rich.console import Console
from rich.table import Table

from consumers.migration import migrate_all
from consumers.stack_commands import say
from consumers.stack_settings import write_stack_settings
from loadtest.cpu_account import CpuAccount
from loadtest.intake_report import machine, now_text
from pipeline.clock import SystemClock
from pipeline.lifecycle import Tasks
from pipeline.notifications.rules.recipient_book import RecipientBook
from pipeline.settings import Settings, load_settings
from pipeline.storage.cluster import Cluster
from pipeline.storage.outbox import Channel
from pipeline.storage.recipients import recipient_key
from stack.launcher import StackConfig, down, reset, up
from stack.state import ShardConfig
from stack.status import StackStatus

_SHARD = "shard0"
_KNOWN = 200_000
_MESSAGES = 20_000
_DATA_DIR = Path("var/bench/recipients-stack")
_REPORT = Path("var/bench/recipients.json")
_FILL = """
INSERT INTO recipient SELECT n % 4096, gen_random_uuid(), 'sms', 'out', 'stop', now()
FROM generate_series(1, $1::integer) n"""


class AskFigures(msgspec.Struct, frozen=True, kw_only=True):
    """Of one cap and one number of messages at once. CPU is in microseconds per message."""

    cap: int
    at_once: int
    per_statement: float
    per_s: float
    client_us: float
    primary_us: float
    replica_us: float


class AskReport(msgspec.Struct, frozen=True, kw_only=True):
    """Everything this measured, in one run."""

    at: str
    machine: str
    command: str
    figures: list[AskFigures]


async def measure(data_dir: Path) -> AskReport:
    """Measure without and with a cap, on a stack of one shard."""
    stack = up(StackConfig(data_dir=data_dir, shards=(ShardConfig(name=_SHARD),)), say)
    settings = load_settings(write_stack_settings(stack, data_dir), {})
    await migrate_all(settings)
    figures = []
    numbers = (f"+4915{number:09}" for number in range(10**9))
    for cap in (0, 20):
        for at_once in (1, 16, 64, 256):
            figures.append(await _measure(stack, settings, numbers, cap, at_once))  # noqa: PERF401  # one after the other
    command = "python -m loadtest.recipients_bench"
    return AskReport(at=now_text(), machine=machine(), command=command, figures=figures)


async def _measure(
    stack: StackStatus, settings: Settings, numbers: Iterator[str], cap: int, at_once: int
) -> AskFigures:
    cluster = Cluster(settings)
    messages = _MESSAGES if at_once > 1 else _MESSAGES // 10
    try:
        await cluster[_SHARD].primary.open()
        await cluster.load_map()
        async with cluster[_SHARD].primary.connection() as connection:
            if not await connection.fetchval("SELECT count(*) FROM recipient"):
                await connection.execute(_FILL, _KNOWN)
            await connection.execute("VACUUM ANALYZE recipient, recipient_day")
        book = _book(cluster, cap)
        pids = {role: [stack.pids[f"{_SHARD}-{role}"]] for role in ("primary", "replica")}
        account = CpuAccount(pids | {"client": [os.getpid()]})
        before, started = account.read(), time.perf_counter()
        await asyncio.gather(*(_ask(book, numbers, messages // at_once) for _ in range(at_once)))
        wall_s, after = time.perf_counter() - started, account.read()
    finally:
        await cluster.close()
    cpu = {name: 1e6 * (after[name] - before[name]) / book.asked for name in before}
    return AskFigures(
        cap=cap,
        at_once=at_once,
        per_statement=book.asked / book.statements,
        per_s=book.asked / wall_s,
        client_us=cpu["client"],
        primary_us=cpu["primary"],
        replica_us=cpu["replica"],
    )


def _book(cluster: Cluster, cap: int) -> RecipientBook:
    def crash(name: str, error: BaseException) -> None:
        raise AssertionError(name) from error

    return RecipientBook(
        cap=cap,
        router=cluster.router,
        shard=lambda name: cluster[name].recipients,
        refresh=cluster.refresh,
        clock=SystemClock(),
        tasks=Tasks(crash),
    )


async def _ask(book: RecipientBook, numbers: Iterator[str], messages: int) -> None:
    for _ in range(messages):
        await book.admit(recipient_key(Channel.SMS, next(numbers)))


def main() -> None:
    """Measure, print and keep the figures."""
    reset(_DATA_DIR, say)
    try:
        with asyncio.Runner(loop_factory=uvloop.new_event_loop) as runner:
            report = runner.run(measure(_DATA_DIR))
    finally:
        down(_DATA_DIR, say)
        reset(_DATA_DIR, say)
    _REPORT.write_bytes(msgspec.json.format(msgspec.json.encode(report)))
    names = ("cap", "at once", "a statement", "messages/s", "client µs", "primary µs", "replica µs")
    table = Table(*names, title="Asking for recipients", title_justify="left")
    for one in report.figures:
        table.add_row(
            *(str(one.cap), str(one.at_once), f"{one.per_statement:.1f}", f"{one.per_s:,.0f}"),
            *(f"{value:.1f}" for value in (one.client_us, one.primary_us, one.replica_us)),
        )
    Console().print(table)


if __name__ == "__main__":
    main()
