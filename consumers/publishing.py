"""`postorder publish`: files in, confirmed events out."""

import asyncio
import sys
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path

import msgspec

from consumers.event_files import FoundEvent, find_events
from consumers.publisher import EventPublisher
from pipeline.adapters.mapping import Adapter
from pipeline.errors import BrokerUnavailableError, PostorderError
from pipeline.ingest.decoder import Decoder
from pipeline.settings import Settings


class PublishResult(msgspec.Struct):
    """How many events were confirmed, and a line for each problem."""

    confirmed: int
    problems: list[str]


async def publish_files(
    settings: Settings, files: list[Path], adapter: Adapter | None = None, headers: Mapping[str, str] = {}
) -> PublishResult:
    """Publish the valid events of files. The broker is not asked for anything when none is valid.

    With an adapter the files hold another system's documents, delivered with `headers`.
    """
    problems: list[str] = []
    decoder = Decoder(message_bytes_max=settings.intake.message_bytes_max)

    def events_of(raw: bytes) -> Iterator[FoundEvent]:
        if adapter is None:
            return find_events(raw.decode("utf-8-sig"), decoder)
        return _adapted(adapter, raw, headers)

    events = list(_valid_events(files, events_of, problems))
    if not events:
        return PublishResult(0, problems or ["no events found"])
    publisher = EventPublisher(settings.amqp)

    async def publish(where: str, event: FoundEvent) -> None:
        try:
            await publisher.publish(event.body, event.routing_key)
        except PostorderError as error:
            problems.append(f"{where}: {error}")

    try:
        async with publisher, asyncio.TaskGroup() as group:
            for where, event in events:
                group.create_task(publish(where, event))
    except BrokerUnavailableError as error:
        problems.append(str(error))
    return PublishResult(publisher.confirmed, problems)


def _valid_events(
    files: list[Path], events_of: Callable[[bytes], Iterator[FoundEvent]], problems: list[str]
) -> Iterator[tuple[str, FoundEvent]]:
    for path in files:
        try:
            raw = sys.stdin.buffer.read() if str(path) == "-" else path.read_bytes()
            found = list(events_of(raw))
        except OSError as error:
            problems.append(f"{path}: {error.strerror}")
            continue
        except UnicodeDecodeError as error:
            problems.append(f"{path}: not UTF-8 at byte {error.start}")
            continue
        for event in found:
            where = f"{path}:{event.place}"
            if event.problem:
                problems.append(f"{where}: {event.problem}")
            else:
                yield where, event


def _adapted(adapter: Adapter, raw: bytes, headers: Mapping[str, str]) -> Iterator[FoundEvent]:
    """Yield what an adapter makes of a file."""
    for item in adapter.adapt_each(raw, headers):
        place = item.at or "document"
        if item.problem is not None:
            yield FoundEvent(place, b"", "", str(item.problem))
        else:
            yield FoundEvent(place, item.body, item.event_type, "")
