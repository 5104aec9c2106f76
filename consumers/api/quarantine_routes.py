"""The quarantine: what was no valid event, to be looked at, published again, or given up."""

import re
from base64 import b64encode
from collections.abc import Awaitable, Callable, Iterable, Sequence
from datetime import UTC, datetime
from typing import Annotated, Any, Final
from uuid import UUID

import msgspec
from litestar import get, post
from litestar.handlers import HTTPRouteHandler
from litestar.params import FromPath, FromQuery, JSONBody, QueryParameter
from msgspec import Meta

from consumers.api.access import caller_of
from consumers.api.callers import Access
from consumers.api.routes import needs, no_such
from consumers.quarantine import Worked, dropped_in, merged, quarantine_of, redriven_in
from consumers.web.requests import AnyRequest, Refused
from pipeline.control.audit_log import AuditLog
from pipeline.events import Reason
from pipeline.settings import AmqpSettings
from pipeline.storage.cluster import Cluster
from pipeline.storage.partial import Partial, of_each
from pipeline.storage.quarantine import Filter, Quarantine, Quarantined, QuarantineLine, QuarantineState

_BAD_REQUEST: Final = 400
_IDS_MAX: Final = 100
_IDS_EACH: Final = 60  # of 33 characters: an entry of the audit holds 2000
_OFFSET: Final = re.compile(r"([Zz]|[+-]\d\d:\d\d)\Z")

Limit = Annotated[int, QueryParameter(ge=1, le=1000, description="How many at most.")]
InState = Annotated[QuarantineState, QueryParameter(name="state", description="Only those in this state.")]
Queue = Annotated[str | None, QueryParameter(max_length=100, description="Only those from this queue.")]
# As text: the library would take a number for a time.
Time = Annotated[
    str | None,
    QueryParameter(format="date-time", description="Last seen at or after this time, before `until`."),
]
Before = Annotated[str | None, QueryParameter(format="date-time", description="Last seen before this time.")]


Act = Callable[[Sequence[Quarantine], Filter], Awaitable[Worked]]
"""Does something to the deliveries of some quarantines that a filter names."""


class Chosen(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """Which deliveries are meant, by their whole ids. For more than a hundred there is the command line."""

    ids: Annotated[list[UUID], Meta(min_length=1, max_length=_IDS_MAX)]


class Deliveries(msgspec.Struct, frozen=True, kw_only=True):
    """Deliveries in quarantine, those seen longest ago first. `more`: there may be more than these.

    `away`: shards that did not answer; theirs are missing.
    """

    deliveries: list[QuarantineLine]
    more: bool
    away: tuple[str, ...]


class Delivery(msgspec.Struct, frozen=True, kw_only=True):
    """A delivery with what it holds, which is personal data; `body_base64` is what came, byte for byte."""

    shard: str
    quarantine_id: UUID
    state: QuarantineState
    reason: str
    detail: str
    queue: str
    exchange: str
    routing_key: str
    content_type: str | None
    message_id: str | None
    headers: dict[str, Any]
    body_base64: str
    seen: int
    first_seen_at: datetime
    last_seen_at: datetime


class Done(msgspec.Struct, frozen=True, kw_only=True):
    """How many deliveries were published or dropped, and how many are held all the same, or were not held.

    Held still are those that came again meanwhile, and those on the move to another shard. `problems`: those
    that cannot be published as they came. `away`: shards that did not answer; what they hold is as it was.
    """

    done: int
    still_held: int
    problems: list[str]
    away: tuple[str, ...]


def quarantine_routes(cluster: Cluster, amqp: AmqpSettings, audit: AuditLog) -> list[HTTPRouteHandler]:
    """Return the routes."""
    return [*_looking_routes(cluster, audit), *_acting_routes(cluster, amqp, audit)]


def _looking_routes(cluster: Cluster, audit: AuditLog) -> list[HTTPRouteHandler]:
    @get("/v1/quarantine", **needs(Access.READ))
    async def deliveries(  # noqa: PLR0917  # each is a parameter of the query
        in_state: InState = QuarantineState.HELD,
        reason: FromQuery[Reason | None] = None,
        queue: Queue = None,
        since: Time = None,
        until: Before = None,
        limit: Limit = 50,
    ) -> Deliveries:
        """List deliveries without what they hold. A time without an offset is refused."""
        if "\0" in (queue or ""):
            raise Refused(_BAD_REQUEST, "queue: is not valid")
        wanted = Filter(
            states=(in_state,),
            reason=reason and reason.value,
            queue=queue,
            since=_time("since", since),
            until=_time("until", until),
        )
        asked = await of_each(cluster, lambda shard: quarantine_of(shard).listed(wanted, limit))
        found = merged(asked.answers.values(), limit)
        return Deliveries(deliveries=found, more=len(found) == limit, away=asked.away)

    @get("/v1/quarantine/{quarantine_id:str}", **needs(Access.OPERATE, 404))
    async def delivery(request: AnyRequest, quarantine_id: FromPath[str]) -> Delivery:
        """Return a delivery with headers and body: who looked is on record."""
        try:
            whole = UUID(quarantine_id)
        except ValueError:
            raise no_such("delivery") from None
        wanted = Filter(states=tuple(QuarantineState), ids=(whole.hex,))
        async with audit.action(f"api {caller_of(request).subject}", "quarantine.show", str(whole)):
            asked = await of_each(cluster, lambda shard: quarantine_of(shard).find(wanted, 1))
            found = next((part[0] for part in asked.answers.values() if part), None)
            if found is None:
                asked.require_all("the delivery")
        if found is None:
            raise no_such("delivery")
        return _delivery(found)

    return [deliveries, delivery]


def _acting_routes(cluster: Cluster, amqp: AmqpSettings, audit: AuditLog) -> list[HTTPRouteHandler]:
    @post("/v1/quarantine/redrive", status_code=200, **needs(Access.OPERATE, 415))
    async def redrive(request: AnyRequest, data: JSONBody[Chosen]) -> Done:
        """Publish held deliveries again, as they came. Safe to repeat; what is still bad is held again."""

        async def publish(holding: Sequence[Quarantine], wanted: Filter) -> Worked:
            return await redriven_in(amqp, holding, wanted)

        return await _on_record(cluster, audit, request, "quarantine.redrive", chosen=data.ids, act=publish)

    @post("/v1/quarantine/drop", status_code=200, **needs(Access.ADMIN, 415))
    async def drop(request: AnyRequest, data: JSONBody[Chosen]) -> Done:
        """Give held deliveries up. Their rows stay until retention, and are no longer listed as held."""
        return await _on_record(cluster, audit, request, "quarantine.drop", chosen=data.ids, act=dropped_in)

    return [redrive, drop]


def _time(name: str, text: str | None) -> datetime | None:
    """Return a moment. Raises Refused for what is none, and for one that may be anywhere on earth."""
    if text is None:
        return None
    try:
        time = msgspec.convert(text, datetime).astimezone(UTC) if _OFFSET.search(text) else None
    except (msgspec.ValidationError, OverflowError):
        time = None
    if time is None:
        raise Refused(_BAD_REQUEST, f"{name}: must be a time with its offset, as 2026-11-21T10:00:00Z")
    return time


def _target(ids: tuple[str, ...]) -> str:
    return ids[0] if len(ids) == 1 else f"{len(ids)} deliveries, {ids[0]} first"


async def _on_record(
    cluster: Cluster, audit: AuditLog, request: AnyRequest, what: str, *, chosen: Iterable[UUID], act: Act
) -> Done:
    """Do something to deliveries, some at a time: as many as an entry of the audit can name."""
    ids = tuple(dict.fromkeys(one.hex for one in chosen))
    done, away = Worked(), dict[str, None]()
    for first in range(0, len(ids), _IDS_EACH):
        some = ids[first : first + _IDS_EACH]
        actor = f"api {caller_of(request).subject}"
        async with audit.action(actor, what, _target(some), " ".join(some)) as action:
            holding = await _holding(cluster, some)
            worked = await act(list(holding.answers.values()), Filter(ids=some))
            action.detail = f"{worked.done} of {len(some)}"
        done.done += worked.done
        done.still_held += worked.still_held
        done.problems += worked.problems
        away |= dict.fromkeys(holding.away)
    return Done(done=done.done, still_held=done.still_held, problems=done.problems, away=tuple(away))


async def _holding(cluster: Cluster, ids: tuple[str, ...]) -> Partial[Quarantine]:
    """Return the quarantines that hold some of the deliveries: the others are left alone."""
    asked = await of_each(cluster, lambda shard: quarantine_of(shard).count(Filter(ids=ids)))
    holding = {name: quarantine_of(cluster[name]) for name, count in asked.answers.items() if count}
    return Partial(answers=holding, missing=asked.missing)


def _delivery(one: Quarantined) -> Delivery:
    return Delivery(
        shard=one.shard,
        quarantine_id=one.quarantine_id,
        state=one.state,
        reason=one.reason,
        detail=one.detail,
        queue=one.queue,
        exchange=one.exchange,
        routing_key=one.routing_key,
        content_type=one.content_type,
        message_id=one.message_id,
        headers=one.headers,
        body_base64=b64encode(one.body).decode(),
        seen=one.seen,
        first_seen_at=one.first_seen_at,
        last_seen_at=one.last_seen_at,
    )
