"""Parts of the overview, made of what shards, the broker and processes say."""

from collections import defaultdict
from collections.abc import Iterable, Sequence
from typing import Any, Final

from consumers.api.overview import (
    PROCESSES_MAX,
    Kpis,
    LimitNow,
    PoolNow,
    ProcessNow,
    Stage,
)
from consumers.topology import WORK_QUEUES, QueueDepth
from pipeline.control.limit_board import Limits
from pipeline.storage.control import IntakeReport, PoolReport, ProcessReport, Report, SlotReport
from pipeline.storage.glance import Glance

_MINUTE_S: Final = 60
_CIRCUITS: Final = ("closed", "half_open", "open")


def kpis_of(glances: Iterable[Glance]) -> Kpis:
    """Return the KPIs of all shards together."""
    found = list(glances)
    return Kpis(
        orders=sum(one.orders for one in found),
        invoices=sum(one.invoices for one in found),
        sms=sum(one.sms for one in found),
        email=sum(one.email for one in found),
    )


def stages_of(
    glances: Sequence[Glance], queues: Iterable[QueueDepth], reports: Sequence[ProcessReport]
) -> tuple[Stage, ...]:
    """Return the stages of the flow, in its order."""
    taken_per_s = round(sum(one.events for one in glances) / _MINUTE_S, 3)
    kpis = kpis_of(glances)
    intakes = [one.report.intake for one in reports if one.report and one.report.intake]
    held, in_lanes = sum(one.held for one in intakes), sum(sum(one.lanes.values()) for one in intakes)
    ready = sum(queue.messages for queue in queues if queue.name in WORK_QUEUES)
    settled_per_s = round(sum(one.settled for one in glances) / _MINUTE_S, 3)
    return (
        Stage(name="broker", per_s=taken_per_s, waiting=ready),
        Stage(name="intake", per_s=taken_per_s, waiting=max(0, held - in_lanes), fill=_fill_of(intakes)),
        Stage(name="shards", per_s=taken_per_s, waiting=in_lanes),
        Stage(name="outbox", per_s=settled_per_s, waiting=sum(one.due for one in glances)),
        _pool_stage("sms", kpis.sms, reports),
        _pool_stage("email", kpis.email, reports),
    )


def _fill_of(intakes: Sequence[IntakeReport]) -> float | None:
    room = sum(one.held_max for one in intakes)
    return round(min(1.0, sum(one.held for one in intakes) / room), 4) if room else None


def _pool_stage(channel: str, sent_per_min: int, reports: Iterable[ProcessReport]) -> Stage:
    pools = [pool for pool in _pools(reports) if pool.channel == channel]
    workers = sum(pool.workers for pool in pools)
    return Stage(
        name="sms" if channel == "sms" else "email",
        per_s=round(sent_per_min / _MINUTE_S, 3),
        waiting=sum(pool.busy + pool.waiting for pool in pools),
        fill=round(min(1.0, sum(pool.busy for pool in pools) / workers), 4) if workers else None,
    )


def _pools(reports: Iterable[ProcessReport]) -> list[PoolReport]:
    return [pool for one in reports if one.report for pool in one.report.pools]


def pools_of(reports: Iterable[ProcessReport]) -> tuple[PoolNow, ...]:
    """Return each provider as all processes together see it."""
    slots: defaultdict[tuple[str, str], list[SlotReport]] = defaultdict(list)
    for pool in _pools(reports):
        for slot in pool.slots:
            slots[pool.channel, slot.name].append(slot)
    return tuple(_pool_now(*key, found) for key, found in sorted(slots.items()))


def _pool_now(channel: str, provider: str, slots: Sequence[SlotReport]) -> PoolNow:
    return PoolNow(
        channel="sms" if channel == "sms" else "email",
        provider=provider,
        processes=len(slots),
        in_flight=sum(slot.in_flight for slot in slots),
        waiting=sum(slot.waiting for slot in slots),
        limit=sum(slot.limit for slot in slots),
        floor=sum(slot.floor for slot in slots),
        ceiling=sum(slot.ceiling for slot in slots),
        rate_per_s=round(sum(slot.rate_per_s for slot in slots), 3),
        circuit=max((slot.circuit for slot in slots), key=_severity),
        typical_s=max(slot.typical_s for slot in slots),
    )


def _severity(circuit: str) -> int:
    return _CIRCUITS.index(circuit) if circuit in _CIRCUITS else 1


def limits_of(limits: Limits) -> tuple[LimitNow, ...]:
    """Return the limits in force that operators set."""
    return tuple(
        LimitNow(
            key=limit.key, value=limit.value, set_by=limit.set_by, set_at=limit.set_at, left_s=limit.left_s
        )
        for limit in sorted(limits.values(), key=lambda limit: limit.key)
        if limit.counts and limit.value is not None
    )


def processes_of(reports: Sequence[ProcessReport]) -> tuple[ProcessNow, ...]:
    """Return the processes, those heard of last first, as many as an overview names."""
    latest = sorted(reports, key=lambda one: (one.age_s, one.process.process_id))[:PROCESSES_MAX]
    return tuple(_process_now(one) for one in latest)


def _process_now(one: ProcessReport) -> ProcessNow:
    report = one.report
    intake = report.intake if report else None
    return ProcessNow(
        process_id=one.process.process_id,
        roles=one.process.roles,
        started_at=one.process.started_at,
        age_s=round(one.age_s, 3),
        epoch=report.epoch if report else 0,
        held=intake.held if intake else 0,
        held_max=intake.held_max if intake else 0,
        prefetch=intake.prefetch if intake else 0,
        loop_lag_s=report.loop_lag_s if report else 0.0,
        cpu_cores=report.cpu_cores if report else 0.0,
        rss_bytes=report.rss_bytes if report else 0,
        **_allocation(report),
    )


def _allocation(report: Report | None) -> dict[str, Any]:
    """Return what the supervisor last told the process, as far as it can be read: versions may differ."""
    told = report.extra.get("allocator") if report else None
    found = {"workers": 0, "bottleneck": "", "decision": ""}
    if isinstance(told, dict):
        given = {**told, "decision": told.get("why")}
        found = {
            name: given[name] if isinstance(given.get(name), type(gap)) else gap
            for name, gap in found.items()
        }
    return found
