"""What limits the pipeline at the moment, named from an observation."""

from enum import StrEnum
from typing import Final

from pipeline.allocation.bounds import Allocation, Bounds
from pipeline.allocation.observation import Channel, Observation

_LANES_FULL: Final = 1.0
_WINDOW_FULL: Final = 0.9


class Bottleneck(StrEnum):
    """What more of would make the pipeline faster.

    `workers`: their CPU. `prefetch`: deliveries that a worker may hold. `shards`: what is written to them.
    `machine`: CPU of the whole machine. `broker`: it delivers less than could be taken, or does not answer.
    """

    NONE = "none"
    WORKERS = "workers"
    PREFETCH = "prefetch"
    SHARDS = "shards"
    MACHINE = "machine"
    BROKER = "broker"
    SMS = "sms"
    EMAIL = "email"


PROVIDERS: Final = (Bottleneck.SMS, Bottleneck.EMAIL)


def bottleneck_of(seen: Observation, given: Allocation, bounds: Bounds) -> Bottleneck:
    """Name what limits the workers, the surest first."""
    provider = next((channel for channel in seen.channels if _limits(channel, seen, bounds)), None)
    if provider is not None:
        return Bottleneck(provider.name)
    if seen.ready is None:
        return Bottleneck.BROKER
    is_behind = has_backlog(seen, given, bounds)
    if not is_behind and not any(channel.waiting for channel in seen.channels):
        return Bottleneck.NONE
    return _resource(seen, bounds, is_behind=is_behind)


def _resource(seen: Observation, bounds: Bounds, *, is_behind: bool) -> Bottleneck:
    """Name what is used up while something waits."""
    if seen.machine_cpu >= bounds.machine_high:
        return Bottleneck.MACHINE
    if seen.worker_cpu >= bounds.cpu_high:
        return Bottleneck.WORKERS
    if is_behind and seen.lanes < _LANES_FULL:
        return Bottleneck.PREFETCH if seen.window_used >= _WINDOW_FULL else Bottleneck.BROKER
    # Nobody is busy and calls are free: claims and receipts wait, as batches do.
    return Bottleneck.SHARDS


def has_backlog(seen: Observation, given: Allocation, bounds: Bounds) -> bool:
    """Whether more events wait than the workers do in a moment. A few that rest in a batch are none."""
    return seen.waiting > given.batch_max and seen.work_s > bounds.work_s


def _limits(channel: Channel, seen: Observation, bounds: Bounds) -> bool:
    """Whether the providers of a channel are what it waits for.

    All calls in use are a sign of that only while the worker has time: a worker that is late hears of every
    answer late, so that all its calls look slow.
    """
    is_full = channel.is_full and channel.waiting > 0 and seen.worker_cpu < bounds.cpu_high
    return channel.is_held or is_full
