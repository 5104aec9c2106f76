"""What a busy installation would say in an overview."""

from datetime import UTC, datetime
from typing import Any

import msgspec

from consumers.api.overview import (
    Kpis,
    LimitNow,
    Overview,
    PoolNow,
    Problem,
    ProcessNow,
    ShardNow,
    Stage,
    UnknownNow,
)
from consumers.shards_report import MoveView
from consumers.topology import QueueDepth
from pipeline.storage.reader import Replication

SET_AT = datetime(2026, 11, 21, 18, 30, tzinfo=UTC)


def overview_at(at: datetime, wave: float = 1.0, **changes: Any) -> Overview:
    """A busy installation of three shards, one of which is coming. `wave`: how busy, 1 being usual."""
    processes = _processes()
    known = {
        "shards": _shards(wave),
        "kpis": _kpis(wave),
        "moves": (_move(),),
        "limits": (
            LimitNow(key="twilio.rate_per_s", value=100, set_by="api ada", set_at=SET_AT, left_s=1800.0),
        ),
        "unknown": UnknownNow(sms=2, email=0, oldest_s=340.0),
        "problems": tuple(Problem(about=who, what="no answer in 2 s") for who in ("shard2", "broker")),
        "held": 3,
        "processes": processes,
        "process_count": len(processes),
    }
    return Overview(
        at=at,
        epoch=7,
        stages=_stages(wave),
        queues=(
            QueueDepth("order-processed", round(800 * wave), 2),
            QueueDepth("invoice-generated", round(500 * wave), 2),
        ),
        pools=_pools(),
        unclaimed_s=0.4,
        **{**known, **changes},
    )


def _stages(wave: float) -> tuple[Stage, ...]:
    per_s = 420 * wave
    return (
        Stage(name="broker", per_s=per_s, waiting=round(1300 * wave)),
        Stage(name="intake", per_s=per_s, waiting=round(2600 * wave), fill=min(1.0, 0.13 * wave)),
        Stage(name="shards", per_s=per_s, waiting=round(410 * wave)),
        Stage(name="outbox", per_s=per_s * 0.9, waiting=round(900 * wave)),
        Stage(name="sms", per_s=per_s / 2, waiting=round(96 * wave), fill=min(1.0, 0.85 * wave)),
        Stage(name="email", per_s=per_s / 2, waiting=round(33 * wave), fill=min(1.0, 0.3 * wave)),
    )


def _shards(wave: float) -> tuple[ShardNow, ...]:
    """One that is well, one whose replica is far behind, one that does not answer."""
    replica = Replication("replica", "streaming", "sync", 18_432, 0.004)
    far = Replication("replica", "streaming", "sync", 84_000_000, 14.2)
    return (
        ShardNow(
            name="shard0",
            weight=1,
            slots=1500,
            is_reachable=True,
            epoch=7,
            replicas=(replica,),
            events_per_min=round(9100 * wave),
            due=410,
            unknown=2,
            held=1,
        ),
        ShardNow(
            name="shard1",
            weight=1,
            slots=1500,
            is_reachable=True,
            epoch=7,
            is_settled=False,
            replicas=(far,),
            events_per_min=round(9000 * wave),
            due=480,
            held=2,
        ),
        ShardNow(name="shard2", weight=1, slots=1096, is_reachable=False),
    )


def _pools() -> tuple[PoolNow, ...]:
    return (
        PoolNow(
            channel="sms",
            provider="twilio",
            processes=2,
            in_flight=48,
            waiting=96,
            limit=60,
            floor=4,
            ceiling=128,
            rate_per_s=100,
            circuit="closed",
            typical_s=0.085,
        ),
        PoolNow(
            channel="email",
            provider="smtp",
            processes=2,
            in_flight=12,
            waiting=21,
            limit=40,
            floor=2,
            ceiling=64,
            rate_per_s=0,
            circuit="half_open",
            typical_s=0.021,
        ),
    )


def _processes() -> tuple[ProcessNow, ...]:
    """One that speaks, with an allocator, and one that has been silent for a while."""
    process = ProcessNow(
        process_id="node-a:4242:1",
        roles=("orders", "notifications"),
        started_at=SET_AT,
        age_s=1.1,
        epoch=7,
        held=2600,
        held_max=20_000,
        prefetch=4000,
        loop_lag_s=0.006,
        cpu_cores=0.82,
        rss_bytes=212_000_000,
        workers=2,
        bottleneck="provider",
        decision="the provider is the limit: no more workers",
    )
    silent = msgspec.structs.replace(process, process_id="node-b:77:1", age_s=14.0, workers=0, decision="")
    return process, silent


def _kpis(wave: float) -> Kpis:
    return Kpis(
        orders=round(12_600 * wave),
        invoices=round(10_080 * wave),
        sms=round(12_100 * wave),
        email=round(12_300 * wave),
    )


def _move() -> MoveView:
    return MoveView(
        move_id="m-1",
        source="shard0",
        target="shard2",
        slots=240,
        moved=61,
        step="copy",
        state="running",
        started_at="2026-11-21T18:40:00+00:00",
    )
