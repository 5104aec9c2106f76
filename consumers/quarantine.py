"""What `postorder quarantine` does: find, export, publish again, drop."""

import asyncio
import struct
from base64 import b64decode, b64encode
from collections.abc import AsyncIterator, Awaitable, Callable, Mapping, Sequence
from contextlib import asynccontextmanager
from typing import NamedTuple

import msgspec

from consumers.lean.publisher import LeanPublisher
from consumers.lean.wire import property_bytes, route_of, without_user_id
from consumers.topology import EXCHANGE
from pipeline.errors import PostorderError
from pipeline.settings import Settings
from pipeline.storage.cluster import Cluster
from pipeline.storage.quarantine import Filter, Quarantine, Quarantined, QuarantineState


class RedriveError(PostorderError):
    """A delivery cannot be published again as it came."""


_PAGE = 500  # deliveries held in memory at once
_UNDECODABLE = "undecodable_base64"


class _Worked(NamedTuple):
    """How many deliveries of a page were done, and how many of them left the state they were found in."""

    done: int
    marked: int


@asynccontextmanager
async def opened(settings: Settings) -> AsyncIterator[list[Quarantine]]:
    """Open every shard's quarantine. Raises StorageUnavailableError, naming who is away."""
    cluster = Cluster(settings)
    try:
        for shard in cluster:
            await shard.primary.open()
        yield [Quarantine(shard.name, shard.primary) for shard in cluster]
    finally:
        await cluster.close()


async def find(settings: Settings, wanted: Filter, limit: int) -> list[Quarantined]:
    """Return deliveries of all shards, those seen longest ago first."""
    async with opened(settings) as shards:
        found = await asyncio.gather(*(shard.find(wanted, limit) for shard in shards))
    merged = [one for part in found for one in part]
    return sorted(merged, key=lambda one: (one.last_seen_at, one.id))[:limit]


async def drop(settings: Settings, wanted: Filter) -> int:
    """Mark deliveries as dropped: their rows stay, and are no longer listed. Returns how many."""
    async with opened(settings) as shards:
        return sum([await _each_page(shard, wanted, _dropper(shard)) for shard in shards])


def _dropper(shard: Quarantine) -> Callable[[list[Quarantined]], Awaitable[_Worked]]:
    async def work(page: list[Quarantined]) -> _Worked:
        dropped = await shard.mark(page, QuarantineState.DROPPED)
        return _Worked(dropped, dropped)

    return work


async def redrive(settings: Settings, wanted: Filter) -> int:
    """Publish deliveries again as they came, then mark them. Returns how many.

    Safe to run again: what was published but not marked is recognised by its identity, or held once more.
    """
    publisher = LeanPublisher(settings.amqp, "postorder redrive", settings.amqp.publish_window)
    await publisher.open()
    try:
        async with opened(settings) as shards:
            count = 0
            for shard in shards:

                async def work(page: list[Quarantined], shard: Quarantine = shard) -> _Worked:
                    for one in page:
                        await publisher.publish(*_message(one))
                    await publisher.settled(settings.amqp.publish_timeout_s)
                    # One that is bad still may have come back by now: it is held anew, and stays so.
                    return _Worked(len(page), await shard.mark(page, QuarantineState.REDRIVEN))

                count += await _each_page(shard, wanted, work)
            return count
    finally:
        await publisher.close()


async def _each_page(
    shard: Quarantine, wanted: Filter, work: Callable[[list[Quarantined]], Awaitable[_Worked]]
) -> int:
    """Work through what is held, page by page. What changed meanwhile is left for another run."""
    count = 0
    while page := await shard.find(wanted, _PAGE):
        worked = await work(page)
        count += worked.done
        if worked.marked < len(page):
            break
    return count


def _message(one: Quarantined) -> tuple[bytes, bytes, bytes]:
    route = route_of(EXCHANGE, one.routing_key, mandatory=True)
    raw = one.headers.get(_UNDECODABLE)
    if isinstance(raw, str):
        return route, without_user_id(b64decode(raw)), one.body
    headers = {name: _value(value) for name, value in one.headers.items()}
    try:
        properties = property_bytes(content_type=one.content_type, headers=headers, message_id=one.message_id)
    except (TypeError, ValueError, OverflowError, struct.error) as error:
        raise RedriveError(f"{one.id}: its headers cannot be written again: export it and publish") from error
    return route, properties, one.body


def _value(value: object) -> object:
    """Turn a header's JSON back into what AMQP knows: bytes were kept as base64."""
    if isinstance(value, dict):
        inner: Mapping[str, object] = value
        if set(inner) == {"base64"} and isinstance(inner["base64"], str):
            return bytearray(b64decode(inner["base64"]))
        return {name: _value(item) for name, item in inner.items()}
    if isinstance(value, list):
        return [_value(item) for item in value]
    return value


def exported(found: Sequence[Quarantined]) -> list[bytes]:
    """Return each delivery as a line of JSON, its body as base64."""
    lines = []
    for one in found:
        fields = msgspec.structs.asdict(one) | {
            "quarantine_id": one.id,
            "body": None,
            "body_base64": b64encode(one.body).decode(),
        }
        del fields["body"]
        lines.append(msgspec.json.encode(fields))
    return lines
