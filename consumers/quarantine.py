"""What `postorder quarantine` and the API do: find, export, publish again, drop."""

import asyncio
import struct
from base64 import b64decode, b64encode
from collections.abc import AsyncIterator, Callable, Iterable, Mapping, Sequence
from contextlib import asynccontextmanager

import msgspec

from consumers.lean.publisher import LeanPublisher, Message
from consumers.lean.wire import property_bytes, route_of, without_user_id
from consumers.reachable import reachable
from consumers.topology import EXCHANGE
from pipeline.errors import RedriveError
from pipeline.ingest.delivery import UNDECODABLE_HEADER
from pipeline.settings import AmqpSettings, Settings
from pipeline.storage.cluster import Cluster
from pipeline.storage.partial import of_each
from pipeline.storage.quarantine import Filter, Quarantine, Quarantined, QuarantineLine, QuarantineState
from pipeline.storage.shard import Shard


class Worked(msgspec.Struct):
    """How many deliveries were published or dropped; how many are still held all the same; what went wrong.

    Still held are those that were seen again meanwhile, and those whose slot was on the move.
    """

    done: int = 0
    still_held: int = 0
    problems: list[str] = []


@asynccontextmanager
async def opened(settings: Settings) -> AsyncIterator[list[Quarantine]]:
    """Open every shard's quarantine. Raises StorageUnavailableError, naming who is away."""
    cluster = Cluster(settings)
    try:
        for shard in cluster:
            await shard.primary.open()
        yield quarantines(cluster)
    finally:
        await cluster.close()


class Found(msgspec.Struct, frozen=True):
    """Deliveries, those seen longest ago first, and why shards that may have more did not answer."""

    deliveries: list[Quarantined]
    missing: dict[str, str]


async def find(settings: Settings, wanted: Filter, limit: int) -> Found:
    """Return deliveries of all shards that answer. Raises StorageUnavailableError when none does."""
    async with reachable(settings) as cluster:
        asked = await of_each(cluster, lambda shard: quarantine_of(shard).find(wanted, limit))
    every = [one for part in asked.answers.values() for one in part]
    return Found(sorted(every, key=lambda one: (one.last_seen_at, one.id))[:limit], asked.missing)


async def count(settings: Settings, wanted: Filter) -> int:
    """Return how many deliveries there are on all shards."""
    async with opened(settings) as shards:
        return sum(await asyncio.gather(*(shard.count(wanted) for shard in shards)))


async def export(settings: Settings, wanted: Filter, write: Callable[[bytes], object]) -> int:
    """Write deliveries of all shards as lines of JSON, some at a time. Returns how many."""
    exported_count = 0
    async with opened(settings) as shards:
        for shard in shards:
            async for page in shard.pages(wanted):
                write(b"".join(line + b"\n" for line in exported(page)))
                exported_count += len(page)
    return exported_count


async def drop(settings: Settings, wanted: Filter) -> Worked:
    """Mark deliveries as dropped: their rows stay, and are no longer listed."""
    async with opened(settings) as shards:
        return await dropped_in(shards, wanted)


async def redrive(settings: Settings, wanted: Filter) -> Worked:
    """Publish deliveries again as they came, then mark them. One that cannot be published is a problem.

    Safe to run again: what was published but not marked is recognised by its identity, or held once more.
    Raises BrokerUnavailableError when the broker refuses a message, or takes none in time.
    """
    async with opened(settings) as shards:
        return await redriven_in(settings.amqp, shards, wanted)


# --- on shards that are open -----------------------------------------------------------------------


def quarantines(cluster: Cluster) -> list[Quarantine]:
    """Return every shard's quarantine."""
    return [quarantine_of(shard) for shard in cluster]


def quarantine_of(shard: Shard) -> Quarantine:
    """Return a shard's quarantine."""
    return Quarantine(shard.name, shard.primary)


def merged(parts: Iterable[Sequence[QuarantineLine]], limit: int) -> list[QuarantineLine]:
    """Return deliveries of several shards without what they hold, those seen longest ago first."""
    every = [one for part in parts for one in part]
    return sorted(every, key=lambda one: (one.last_seen_at, one.quarantine_id))[:limit]


async def dropped_in(shards: Sequence[Quarantine], wanted: Filter) -> Worked:
    """As `drop`."""
    worked = Worked()
    for shard in shards:
        async for page in shard.pages(wanted):
            dropped = await shard.mark(page, QuarantineState.DROPPED)
            worked.done += dropped
            worked.still_held += len(page) - dropped
    return worked


async def redriven_in(amqp: AmqpSettings, shards: Sequence[Quarantine], wanted: Filter) -> Worked:
    """As `redrive`."""
    worked = Worked()
    publisher = LeanPublisher(amqp, "postorder redrive", amqp.publish_window)
    await publisher.open()
    try:
        for shard in shards:
            async for page in shard.pages(wanted):
                await _redrive_page(publisher, amqp, shard, page, worked)
    finally:
        await publisher.close()
    return worked


async def _redrive_page(
    publisher: LeanPublisher, amqp: AmqpSettings, shard: Quarantine, page: list[Quarantined], worked: Worked
) -> None:
    messages: list[Message] = []
    publishable: list[Quarantined] = []
    for one in page:
        try:
            messages.append(_message(one))
        except RedriveError as error:
            worked.problems.append(str(error))
        else:
            publishable.append(one)
    await publisher.publish_all(messages, amqp.publish_timeout_s)
    # One that is bad still may have come back by now: it is held anew, and stays so.
    marked = await shard.mark(publishable, QuarantineState.REDRIVEN)
    worked.done += len(publishable)
    worked.still_held += len(publishable) - marked


def _message(one: Quarantined) -> Message:
    try:
        route = route_of(EXCHANGE, one.routing_key, mandatory=True)
    except TypeError as error:  # bytes that are no text are kept as longer ones
        raise RedriveError(
            f"{one.id}: its routing key cannot be written again: export it and publish"
        ) from error
    try:
        return route, _properties(one), one.body
    except (TypeError, ValueError, OverflowError, struct.error) as error:
        raise RedriveError(f"{one.id}: its headers cannot be written again: export it and publish") from error


def _properties(one: Quarantined) -> bytes:
    raw = one.headers.get(UNDECODABLE_HEADER)
    if isinstance(raw, str):
        return without_user_id(b64decode(raw))
    headers = {name: _value(value) for name, value in one.headers.items()}
    return property_bytes(content_type=one.content_type, headers=headers, message_id=one.message_id)


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
