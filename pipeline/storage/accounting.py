"""Whether it adds up: what came in is somewhere, what is owed is settled. From the tables of all shards."""

from collections import Counter
from collections.abc import Iterable, Sequence

import msgspec

from pipeline.storage.outbox import Channel, State
from pipeline.storage.reader import ShardTotals

OPEN_STATES = (State.PENDING, State.SUBMITTING)


class Accounting(msgspec.Struct, frozen=True, kw_only=True):
    """The identity: what came in is somewhere, what is owed is settled. Both differences are 0.

    `events` counts deliveries as the intake transactions saw them; `stored` and `quarantined` are counted in
    the tables themselves. `owed` follows from orders and invoices; the effects are counted in the outbox.
    `open` effects are still to be settled: 0 at quiescence.
    """

    events: int
    stored: int
    duplicates: int
    quarantined: int
    events_difference: int
    owed: int
    settled: int
    open: int
    effects_difference: int

    @property
    def balances(self) -> bool:
        """Whether nothing is missing and nothing too many."""
        return self.events_difference == 0 and self.effects_difference == 0


def effects_by_state(shards: Iterable[ShardTotals]) -> dict[str, Counter[str]]:
    """Return how many messages of each channel are in each state."""
    effects: dict[str, Counter[str]] = {channel.value: Counter() for channel in Channel}
    for count in (count for shard in shards for count in shard.effects):
        effects[count.channel][count.state] += count.effects
    return effects


def accounting_of(shards: Sequence[ShardTotals]) -> Accounting:
    """Return the identity over all shards. It may not hold for a moment while slots move between readings."""
    effects = effects_by_state(shards)
    events = sum(shard.batch_sums["events"] for shard in shards)
    duplicates = sum(shard.batch_sums["duplicates"] for shard in shards)
    stored = sum(shard.inbox for shard in shards)
    quarantined = sum(shard.quarantined for shard in shards)
    owed = sum(shard.owed for shard in shards)
    waiting = sum(counter[state] for counter in effects.values() for state in OPEN_STATES)
    settled = sum(counter.total() for counter in effects.values()) - waiting
    return Accounting(
        events=events,
        stored=stored,
        duplicates=duplicates,
        quarantined=quarantined,
        events_difference=events - stored - duplicates - quarantined,
        owed=owed,
        settled=settled,
        open=waiting,
        effects_difference=owed - settled - waiting,
    )
