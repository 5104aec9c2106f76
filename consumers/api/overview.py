"""All that the console shows, at one moment: what `GET /v1/overview` answers.

Rates are of the last minute. Figures are read at most once a second for all viewers, those of queues, maps,
moves and quarantine every five seconds. What cannot be read is left out and named in `problems`: a shard that
is away does not hide the others. No personal data.
"""

from datetime import datetime
from typing import Final, Literal

import msgspec

from consumers.shards_report import MoveView
from consumers.topology import QueueDepth
from pipeline.storage.reader import Replication

PROCESSES_MAX: Final = 200
"""Processes named in an overview; pools are summed over all of them."""

StageName = Literal["broker", "intake", "shards", "outbox", "sms", "email"]
ChannelName = Literal["sms", "email"]


class Kpis(msgspec.Struct, frozen=True, kw_only=True):
    """The four KPIs, each per minute, over the last minute."""

    orders: int = 0
    invoices: int = 0
    sms: int = 0
    email: int = 0


class Stage(msgspec.Struct, frozen=True, kw_only=True):
    """One stage of the flow, in the order of the flow.

    broker: messages ready in the queues of events. intake: events in memory between broker and shards.
    shards: events committed. outbox: messages that are due and nobody has claimed. sms, email: messages in
    the pools. `per_s`: what left the stage. `waiting`: what is in it now. `fill`: the share of its room that
    is in use, from 0 to 1; null for what has no bound, or when no process says.
    """

    name: StageName
    per_s: float
    waiting: int
    fill: float | None = None


class ShardNow(msgspec.Struct, frozen=True, kw_only=True):
    """One shard. Without an answer of its primary `is_reachable` is false, and figures are 0 or empty.

    `slots`: how many it owns by the map in force. `epoch`: of its own map; behind the overview's for a moment
    after a change. `is_settled`: false while slots come or go. `due`: messages that wait to be claimed;
    `unknown`: messages of which nobody knows whether they were sent; `held`: deliveries in quarantine. Of
    `due`, `unknown` and `held` 100,000 at most are counted.
    """

    name: str
    weight: int
    slots: int
    is_reachable: bool
    epoch: int = 0
    is_settled: bool = True
    replicas: tuple[Replication, ...] = ()
    events_per_min: int = 0
    due: int = 0
    unknown: int = 0
    held: int = 0


class PoolNow(msgspec.Struct, frozen=True, kw_only=True):
    """A provider as all sending processes together see it; sums over `processes` of them.

    `in_flight`: calls under way. `waiting`: messages that were claimed and wait for a call. `limit`: calls at
    once that the provider takes at the moment, found by trying, from `floor` to `ceiling`. `rate_per_s`:
    calls a second at most; 0: no such limit. `circuit`: `closed` when it is so everywhere, else the worst of
    the processes. `typical_s`: the usual time of a call, the longest of the processes.
    """

    channel: ChannelName
    provider: str
    processes: int
    in_flight: int
    waiting: int
    limit: int
    floor: int
    ceiling: int
    rate_per_s: float
    circuit: str
    typical_s: float


class LimitNow(msgspec.Struct, frozen=True, kw_only=True):
    """A limit that an operator set in place of the settings'; `DELETE /v1/limits/{key}` takes it off.

    `left_s`: for how long it counts; null: until it is taken off.
    """

    key: str
    value: float
    set_by: str
    set_at: datetime
    left_s: float | None = None


class ProcessNow(msgspec.Struct, frozen=True, kw_only=True):
    """A process of the pipeline, as it last reported itself, `age_s` ago; reports come every 2 s.

    `held`: events in its memory; above `held_max` it takes none. `cpu_cores`: 1 is one core. `loop_lag_s`: by
    how much its event loop was late at worst since the report before. `decision`: why there are as many
    `workers` as there are, and what the `bottleneck` is, where a supervisor runs the process; else empty.
    """

    process_id: str
    roles: tuple[str, ...]
    started_at: datetime
    age_s: float
    epoch: int = 0
    held: int = 0
    held_max: int = 0
    prefetch: int = 0
    loop_lag_s: float = 0.0
    cpu_cores: float = 0.0
    rss_bytes: int = 0
    workers: int = 0
    bottleneck: str = ""
    decision: str = ""


class UnknownNow(msgspec.Struct, frozen=True, kw_only=True):
    """Messages of which nobody knows whether they were sent. `oldest_s`: for how long the oldest is owed."""

    sms: int = 0
    email: int = 0
    oldest_s: float = 0.0


class Problem(msgspec.Struct, frozen=True, kw_only=True):
    """A part of the picture that could not be read. `about`: broker, control, moves, or a shard's name."""

    about: str
    what: str


class Overview(msgspec.Struct, frozen=True, kw_only=True):
    """The whole installation at one moment. `epoch`: of the map in force; `GET /v1/ring` belongs to it.

    `held`: deliveries in quarantine on all shards. `unclaimed_s`: for how long the message that is due
    longest has waited to be claimed. `process_count`: how many processes there are; 200 of them are named at
    most.
    """

    at: datetime
    epoch: int
    kpis: Kpis
    stages: tuple[Stage, ...]
    queues: tuple[QueueDepth, ...]
    shards: tuple[ShardNow, ...]
    moves: tuple[MoveView, ...]
    pools: tuple[PoolNow, ...]
    limits: tuple[LimitNow, ...]
    processes: tuple[ProcessNow, ...]
    process_count: int
    unknown: UnknownNow
    held: int
    unclaimed_s: float
    problems: tuple[Problem, ...] = ()
