"""A cost vector out of what the benchmarks measured. What none measured stays as it was."""

import re
from collections.abc import Iterable
from statistics import median

import msgspec

from loadtest.planning.assumptions import load_assumptions
from loadtest.planning.cost_sources import (
    Files,
    FootprintFile,
    IntakeFile,
    NotificationsFile,
    RampFile,
    RampPhase,
    ReshardFile,
    WriterFile,
    from_file,
)
from loadtest.planning.costs import CostVector, Measured
from loadtest.planning.loads import EQUIPMENT, FULL_SHARE, event_cost
from loadtest.planning.queueing import service_from_waiting_s

BATCH_EVENTS = 50
"""Events in a message of the benchmark's second scenario."""
_LANES_MEASURED = 4  # bench-writer: two shards, two transactions at once on each
_FREE_SHARE = 0.85


def new_costs(earlier: CostVector, files: Files) -> CostVector:
    """Return the vector with every figure that the files have, later steps by what earlier ones gave."""
    costs = earlier
    if files.writer is not None:
        costs = msgspec.structs.replace(costs, **_of_writer(files.writer))
    if files.intake is not None:
        costs = msgspec.structs.replace(costs, **_of_intake(files.intake, costs))
    if files.notifications is not None:
        costs = msgspec.structs.replace(costs, **_of_notifications(files.notifications))
    if files.reshard is not None:
        costs = msgspec.structs.replace(costs, **_of_reshard(files.reshard))
    if files.footprint is not None:
        costs = msgspec.structs.replace(costs, **_of_footprint(files.footprint))
    if files.ramp is not None:
        costs = msgspec.structs.replace(costs, **_of_ramp(files.ramp, costs))
    elif files.intake is not None:
        costs = msgspec.structs.replace(costs, turn_ms=_turn(files.intake, costs))
    return costs


def _of_writer(file: WriterFile) -> dict[str, Measured]:
    """Return the cost of a transaction by itself, apart from the events in it."""
    fits = {
        "consumer_transaction_us": "client_us",
        "primary_transaction_us": "primaries_us",
        "replica_transaction_us": "replicas_us",
    }
    best: dict[int, tuple[float, str]] = {}
    for one in file.figures:
        total = one.client_us + one.primaries_us + one.replicas_us
        best[one.batch] = min(best.get(one.batch, (total, one.way)), (total, one.way))
    rows = [one for one in file.figures if best[one.batch][1] == one.way]
    found = {
        name: from_file(
            file,
            fixed_part((one.batch, getattr(one, key)) for one in rows),
            "µs per transaction",
            "least squares of event + transaction / batch over all sizes, the cheaper way of each",
        )
        for name, key in fits.items()
    }
    single = next(one for one in rows if one.batch == 1)
    took_ms = single.wall_us * _LANES_MEASURED / 1000
    note = "a batch of one, by the wall clock, four at once"
    return {**found, "transaction_ms": from_file(file, took_ms, "ms", note)}


def fixed_part(points: Iterable[tuple[int, float]]) -> float:
    """Return t of `cost = e + t / batch` with the smallest relative errors."""
    _, fixed = _fit([(1 / cost, 1 / batch / cost) for batch, cost in points if cost > 0])
    return max(0.0, fixed)


def _fit(rows: list[tuple[float, float]]) -> tuple[float, float]:
    """Return x and y that bring x * a + y * b nearest to 1 over all rows (a, b); 0 when nothing tells."""
    aa, ab, bb = sum(a * a for a, _ in rows), sum(a * b for a, b in rows), sum(b * b for _, b in rows)
    determinant = aa * bb - ab * ab
    if not determinant:
        return 0.0, 0.0
    a, b = sum(a for a, _ in rows), sum(b for _, b in rows)
    return (bb * a - ab * b) / determinant, (aa * b - ab * a) / determinant


def _of_intake(file: IntakeFile, costs: CostVector) -> dict[str, Measured]:
    """Return costs per event and per message, of two scenarios that differ in events per message."""
    single, batch = file.single, file.batch50

    def without(flow_us: float, events_per_batch: float, transaction_us: float) -> float:
        return max(0.0, flow_us - transaction_us / events_per_batch)

    consumer = [
        without(flow.cpu_us.consumers, flow.events_per_batch, costs.consumer_transaction_us.value)
        for flow in (single, batch)
    ]
    pairs = {
        "broker": (single.cpu_us.broker, batch.cpu_us.broker),
        "consumer": (consumer[0], consumer[1]),
        "publisher": (single.cpu_us.publisher, batch.cpu_us.publisher),
    }
    found: dict[str, Measured] = {}
    for part, (one, many) in pairs.items():
        message = max(0.0, (one - many) / (1 - 1 / BATCH_EVENTS))
        note = (
            f"single {one:.1f}, batches of {BATCH_EVENTS} {many:.1f}, transactions apart: event + message / n"
        )
        found[f"{part}_message_us"] = from_file(file, message, "µs per message", note)
        found[f"{part}_event_us"] = from_file(file, max(0.0, one - message), "µs per event", note)
    for part, key in (("primary", "primaries"), ("replica", "replicas")):
        transaction = getattr(costs, f"{part}_transaction_us").value
        value = without(getattr(single.cpu_us, key), single.events_per_batch, transaction)
        note = f"single, without its share of a transaction of {single.events_per_batch:g} events"
        found[f"{part}_event_us"] = from_file(file, value, "µs per event", note)
    busy = single.events_per_s * (single.cpu_us.total + single.cpu_us.publisher) / 1e6 / cpus(file.machine)
    note = "single events as fast as they go: CPU used, publisher included, of all there is"
    found["saturation_share"] = from_file(file, min(1.0, busy), "share", note)
    found["consumer_rss_mb"] = from_file(file, file.drain.consumer_rss_mb, "MB", "drain, the most seen")
    return found


def cpus(machine: str) -> int:
    """Return the number of CPUs that a report's `machine` names; 1 when it names none."""
    found = re.match(r"(\d+) CPU", machine)
    return int(found[1]) if found else 1


def load_at(costs: CostVector, rate_per_s: float, cores: int, beside_cores: float) -> float:
    """Return what a rate of single events is, as a share of what the machine can do with full sets.

    `beside_cores`: used by whatever else runs there.
    """
    batch = load_assumptions().settings.batch_max
    micros = event_cost(costs, batch=batch, events_per_message=1).total
    return (rate_per_s * micros / 1e6 + beside_cores) / (cores * FULL_SHARE)


def _turn(file: IntakeFile, costs: CostVector) -> Measured:
    """Return the service time that explains the open loop's p99 by the load that the costs give."""
    loop, cores = file.open_loop, cpus(file.machine)
    publisher_us = costs.publisher_event_us.value + costs.publisher_message_us.value
    load = load_at(costs, loop.rate, cores, loop.rate * publisher_us / 1e6)
    wait_s = max(0.0, loop.p99_ms - costs.idle_p99_ms.value) / 1000
    note = f"p99 {loop.p99_ms:g} ms at {loop.rate:g}/s, a load of {load:.0%} by the costs, by M/G/c"
    return from_file(file, service_from_waiting_s(wait_s, cores, load, 0.99) * 1000, "ms", note)


def _of_ramp(file: RampFile, costs: CostVector) -> dict[str, Measured]:
    """Return idle p99, turn and what waking the broker costs, by the steps that kept up."""
    kept = [step for step in file.phases if step.keeps_up]
    steps = sorted((step for step in kept if step.measured), key=lambda step: step.events_per_s)
    if not steps:
        return {}
    idle, cores = steps[0], cpus(file.machine)
    idle_ms = idle.latencies["committed"].p99_ms
    found = {"idle_p99_ms": from_file(file, idle_ms, "ms", f"at {idle.events_per_s:,.0f} events/s")}
    if turns := _turns(steps, idle_ms, costs, cores):
        note = f"the median of {len(turns)} rates kept up with, by M/G/c from p99 and load"
        found["turn_ms"] = from_file(file, median(turns), "ms", note)
    return found | _wakings(file, kept, costs, cores)


def _wakings(file: RampFile, steps: list[RampPhase], costs: CostVector, cores: int) -> dict[str, Measured]:
    """Return what waking the broker for a message costs, and how often it is woken at most.

    What a message costs it above full load's is waking_us / (1 + rate / wakings_per_s), as long as there is
    CPU for waking it: the reciprocal is a straight line over the rate. The warm-up counts: it has the lowest.
    """
    full_us = costs.broker_event_us.value + costs.broker_message_us.value
    rows = []
    for step in steps:
        above_us = step.cores.get("rabbitmq", 0.0) / step.events_per_s * 1e6 - full_us
        if above_us > 0 and sum(step.cores.values()) < _FREE_SHARE * cores:
            rows.append((above_us, above_us * step.events_per_s))
    at_rest, with_rate = _fit(rows) if len(rows) > 1 else (0.0, 0.0)
    if at_rest <= 0 or with_rate <= 0:
        return {}
    note = f"of {len(rows)} rates kept up with: CPU of a message above full load's, by least squares"
    return {
        "broker_waking_us": from_file(file, 1 / at_rest, "µs per message", note),
        "broker_wakings_per_s": from_file(file, at_rest / with_rate, "messages/s", note),
    }


def _turns(steps: list[RampPhase], idle_ms: float, costs: CostVector, cores: int) -> list[float]:
    """Return the turn in ms that explains each step's p99 by its load; steps that nothing waited in: none."""
    found = []
    for step in steps[1:]:
        pipeline = sum(used for name, used in step.cores.items() if name not in EQUIPMENT)
        load = load_at(costs, step.events_per_s, cores, max(0.0, step.machine_cores - pipeline))
        wait_s = max(0.0, step.latencies["committed"].p99_ms - idle_ms) / 1000
        if turn_s := service_from_waiting_s(wait_s, cores, load, 0.99):
            found.append(turn_s * 1000)
    return found


def _of_notifications(file: NotificationsFile) -> dict[str, Measured]:
    found: dict[str, Measured] = {}
    for name, drain in (("sms", file.sms), ("mail", file.email)):
        for part, key in (("sender", "sender"), ("primary", "primaries"), ("replica", "replicas")):
            note = "a full outbox sent, claims in the sets that result"
            value = getattr(drain.cpu_us, key)
            found[f"{name}_{part}_us"] = from_file(file, value, "µs per message", note)
    rss = max(file.sms.sender_rss_mb, file.email.sender_rss_mb)
    return {**found, "sender_rss_mb": from_file(file, rss, "MB", "the most seen")}


def _of_reshard(file: ReshardFile) -> dict[str, Measured]:
    changes = (file.add, file.remove)
    rows_per_s = sum(change.rows for change in changes) / sum(change.move_s for change in changes)
    pause_ms = max(change.stall_ms_p50 for change in changes)
    return {
        "moved_rows_per_s": from_file(file, rows_per_s, "rows/s", "copied and flipped, both changes"),
        "moved_pause_ms": from_file(file, pause_ms, "ms", "median pause of a group, the longer of both"),
    }


def _of_footprint(file: FootprintFile) -> dict[str, Measured]:
    notes = {
        "event_bytes": ("bytes", "the mean of an order and of an invoice with its document inline"),
        "order_bytes": ("bytes", "tables and indexes of one copy: order, inbox row, SMS and mail"),
        "invoice_bytes": (
            "bytes",
            "tables and indexes of one copy: invoice with a document of 1 kB, inbox row",
        ),
        "wal_event_bytes": ("bytes", "WAL of storing an event"),
        "wal_message_bytes": ("bytes", "WAL of sending a message"),
    }
    return {name: from_file(file, getattr(file, name), unit, note) for name, (unit, note) in notes.items()}
