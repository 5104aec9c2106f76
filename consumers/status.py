"""What `postorder status` says: KPIs, totals, queues, replicas, and whether it all adds up."""

import asyncio
from collections import Counter
from collections.abc import Mapping
from typing import Final

import msgspec
from rich.console import Console, Group
from rich.markup import escape
from rich.table import Table

from consumers.connection import connection
from consumers.reachable import reachable
from consumers.topology import QueueDepth, queue_depths
from pipeline.errors import BrokerUnavailableError
from pipeline.settings import AmqpSettings, Settings
from pipeline.storage.accounting import Accounting, accounting_of, effects_by_state
from pipeline.storage.cluster import Cluster
from pipeline.storage.partial import of_each
from pipeline.storage.reader import ShardTotals

_CHANNELS = ("sms", "email")
_BROKER: Final = "broker"
_COUNT_S: Final = 60.0  # whole tables are counted


class Status(msgspec.Struct, frozen=True, kw_only=True):
    """Everything `postorder status --json` prints.

    `away`: shards, and `broker`, that did not answer, and why: the figures are without theirs.
    """

    per_min: dict[str, int]
    totals: dict[str, int]
    effects: dict[str, dict[str, int]]
    shards: dict[str, ShardTotals]
    queues: list[QueueDepth]
    accounting: Accounting
    away: dict[str, str] = {}

    @property
    def is_quiet(self) -> bool:
        """Whether nothing waits anywhere."""
        waiting = sum(queue.messages for queue in self.queues)
        return waiting == 0 and self.accounting.open == 0 and not self.away

    @property
    def is_well(self) -> bool:
        """Whether everybody answers, and it adds up."""
        return self.accounting.balances and not self.away


async def read_status(settings: Settings, cluster: Cluster) -> Status:
    """Read what can be read. Raises StorageUnavailableError when no shard answers."""
    found = await of_each(cluster, lambda shard: shard.reader.totals(), timeout_s=_COUNT_S)
    away = dict(found.missing)
    try:
        queues = await read_queues(settings.amqp)
    except BrokerUnavailableError as error:
        queues, away[_BROKER] = [], str(error)
    return _summed(found.answers, queues, away)


async def read_queues(settings: AmqpSettings) -> list[QueueDepth]:
    """Return the depth of every queue. Raises BrokerUnavailableError, for no answer in time too."""
    async with (
        connection(settings, "postorder status") as broker,
        asyncio.timeout(settings.connect_timeout_s),
    ):
        return await queue_depths(await broker.channel())


async def status_of(settings: Settings) -> Status:
    """Open what is needed, read the status, close again."""
    async with reachable(settings) as cluster:
        return await read_status(settings, cluster)


def _summed(shards: Mapping[str, ShardTotals], queues: list[QueueDepth], away: dict[str, str]) -> Status:
    found = list(shards.values())
    sums: Counter[str] = Counter()
    per_min: Counter[str] = Counter()
    for shard in found:
        sums.update(shard.batch_sums)
        per_min.update(shard.per_min)
    return Status(
        per_min={name: per_min[name] for name in ("orders", "invoices", "sms", "email")},
        totals={
            "orders": sum(shard.orders for shard in found),
            "invoices": sum(shard.invoices for shard in found),
            "invoices_waiting": sum(shard.invoices_waiting for shard in found),
            "customers": sum(shard.customers for shard in found),
            "duplicates": sums["duplicates"],
            "quarantined": sum(shard.quarantined for shard in found),
            **{channel: sum(shard.accepted.get(channel, 0) for shard in found) for channel in _CHANNELS},
        },
        effects={channel: dict(counter) for channel, counter in effects_by_state(found).items()},
        shards=dict(shards),
        queues=queues,
        away=away,
        accounting=accounting_of(found),
    )


# --- for people ------------------------------------------------------------------------------------


def print_status(status: Status, console: Console) -> None:
    """Print the status as tables."""
    console.print(Group(_kpis(status), _shards(status), _effects(status), _queues(status)))
    console.print(accounting_text(status.accounting))
    for name, why in status.away.items():
        console.print(
            f"[red]{escape(name)} does not answer, and its figures are missing:[/red] {escape(why)}"
        )


def _kpis(status: Status) -> Table:
    table = Table(title="Per minute", title_justify="left")
    for name in ("orders", "invoices", "SMS", "mails"):
        table.add_column(name, justify="right")
    table.add_row(*(str(status.per_min[name]) for name in ("orders", "invoices", "sms", "email")))
    return table


def _shards(status: Status) -> Table:
    table = Table(title="Shards", title_justify="left")
    table.add_column("shard")
    for name in ("slots", "orders", "invoices", "waiting invoices", "customers", "quarantined"):
        table.add_column(name, justify="right")
    table.add_column("replica")
    for name, shard in status.shards.items():
        found = (shard.orders, shard.invoices, shard.invoices_waiting, shard.customers, shard.quarantined)
        replicas = [f"{r.state}, {r.sync_state}, {r.lag_bytes} B behind" for r in shard.replicas]
        table.add_row(name, *map(str, (shard.slots, *found)), "; ".join(replicas) or "[red]none[/red]")
    return table


def _effects(status: Status) -> Table:
    states = sorted({state for counts in status.effects.values() for state in counts})
    table = Table(title="Messages by state", title_justify="left")
    table.add_column("channel")
    for state in states:
        table.add_column(state, justify="right")
    for channel, counts in status.effects.items():
        table.add_row(channel, *(str(counts.get(state, 0)) for state in states))
    return table


def _queues(status: Status) -> Table:
    table = Table(title="Queues", title_justify="left")
    table.add_column("queue")
    table.add_column("messages", justify="right")
    table.add_column("consumers", justify="right")
    for queue in status.queues:
        table.add_row(queue.name, str(queue.messages), str(queue.consumers))
    return table


def accounting_text(accounting: Accounting) -> str:
    """Return the identity as two lines."""
    a = accounting
    return (
        f"events {a.events} = stored {a.stored} + duplicates {a.duplicates} + quarantined {a.quarantined}"
        f"   difference {a.events_difference}\n"
        f"owed   {a.owed} = settled {a.settled} + open {a.open}   difference {a.effects_difference}"
    )
