"""The figures of `make bench-notifications`, and how they come out of what was measured."""

from math import ceil
from typing import NamedTuple

import msgspec

from loadtest.intake_bench import BenchError
from loadtest.statement_calls import Statement


class SendingCpu(msgspec.Struct, frozen=True, kw_only=True):
    """Microseconds of CPU per message. `provider` is the stand-in; `total` is without it."""

    sender: float
    primaries: float
    replicas: float
    provider: float
    total: float


class Drain(msgspec.Struct, frozen=True, kw_only=True):
    """A full outbox sent. `sender_share` and `provider_share`: of one core, how busy each was."""

    messages: int
    seconds: float
    per_s: float
    per_s_per_core: float
    cpu_us: SendingCpu
    sender_share: float
    provider_share: float
    sender_rss_mb: float
    statements: list[Statement]


class Latency(msgspec.Struct, frozen=True, kw_only=True):
    """From the planned moment of publishing to the provider's acceptance."""

    messages: int
    p50_ms: float
    p99_ms: float
    max_ms: float


class SendingLoop(msgspec.Struct, frozen=True, kw_only=True):
    """Orders that come by chance at a mean rate, whether or not earlier ones are done; two messages each.

    `busy_cores`: what intake, sender, broker and servers used, without publisher and stand-ins.
    """

    orders_per_s: float
    messages_per_s: float
    p50_ms: float
    p99_ms: float
    sms: Latency
    email: Latency
    stages: dict[str, Latency]
    busy_cores: float


class Planned(NamedTuple):
    """An order, its recipients, and when it was to be published, as UNIX time."""

    order_id: str
    number: str
    address: str
    at: float


def drain_of(
    messages: int, seconds: float, used: dict[str, float], rss: float, ran: list[Statement]
) -> Drain:
    """Return the figures of a drain; `used`: CPU seconds by part, `rss`: MB."""
    cost = {name: round(cpu_s / messages * 1e6, 1) for name, cpu_s in used.items()}
    return Drain(
        messages=messages,
        seconds=round(seconds, 2),
        per_s=round(messages / seconds),
        per_s_per_core=round(messages / used["sender"]),
        cpu_us=SendingCpu(**cost, total=round(sum(cost.values()) - cost["provider"], 1)),
        sender_share=round(used["sender"] / seconds, 2),
        provider_share=round(used["provider"] / seconds, 2),
        sender_rss_mb=round(rss),
        statements=ran,
    )


def loop_of(
    planned: list[Planned],
    numbers: dict[str, float],
    addresses: dict[str, float],
    moments: dict[str, list[tuple[float, float, float]]],
    *,
    rate: float,
    busy_cores: float,
) -> SendingLoop:
    """Return the figures of an open loop; times by number and by address. Raises BenchError for lost ones."""
    missing = [one for one in planned if one.number not in numbers or one.address not in addresses]
    if missing:
        raise BenchError(f"{len(missing)} of {len(planned)} orders have not got both messages")
    sms = [numbers[one.number] - one.at for one in planned]
    email = [addresses[one.address] - one.at for one in planned]
    both = latency_of(sms + email)
    return SendingLoop(
        orders_per_s=round(rate),
        messages_per_s=round(2 * rate),
        p50_ms=both.p50_ms,
        p99_ms=both.p99_ms,
        sms=latency_of(sms),
        email=latency_of(email),
        stages=_stages(planned, moments),
        busy_cores=round(busy_cores, 2),
    )


def _stages(
    planned: list[Planned], moments: dict[str, list[tuple[float, float, float]]]
) -> dict[str, Latency]:
    stages: dict[str, list[float]] = {}
    for one in planned:
        for owed, claimed, accepted in moments.get(one.order_id, ()):
            stages.setdefault("published to owed", []).append(owed - one.at)
            stages.setdefault("owed to claimed", []).append(claimed - owed)
            stages.setdefault("claimed to accepted", []).append(accepted - claimed)
    return {name: latency_of(seconds) for name, seconds in stages.items()}


def latency_of(seconds: list[float]) -> Latency:
    """Return the figures of latencies, which must not be empty."""
    ordered = sorted(seconds)
    p50, p99 = (round(ordered[ceil(share * len(ordered)) - 1] * 1e3, 1) for share in (0.5, 0.99))
    return Latency(messages=len(ordered), p50_ms=p50, p99_ms=p99, max_ms=round(ordered[-1] * 1e3, 1))
