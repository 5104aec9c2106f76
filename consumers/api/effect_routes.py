"""Messages of the ledger: those of which nobody knows what became, and a person's word about one."""

from math import isnan
from typing import Annotated
from uuid import UUID

import msgspec
from litestar import get, post
from litestar.handlers import HTTPRouteHandler
from litestar.params import FromPath, FromQuery, JSONBody, QueryParameter
from msgspec import Meta

from consumers.api.access import caller_of
from consumers.api.answers import EffectFound, effect_found
from consumers.api.callers import Access
from consumers.api.routes import PRINTABLE, VISIBLE, needs, no_such
from consumers.effects import desk_of, found_of, listed_of, resolved_in, the_one, with_story
from consumers.web.requests import AnyRequest, Refused
from pipeline.control.audit_log import AuditLog
from pipeline.storage.cluster import Cluster
from pipeline.storage.effect_desk import Effect, Wanted
from pipeline.storage.outbox import Channel, Kind, State

_BAD_REQUEST, _CONFLICT = 400, 409
_SHARE = 0.9  # of the time for an answer: what the shards that answer say gets there in the rest

Limit = Annotated[int, QueryParameter(ge=1, le=1000, description="How many at most.")]
InState = Annotated[State, QueryParameter(name="state", description="Only messages in this state.")]
Age = Annotated[float, QueryParameter(ge=0, le=31_536_000, description="Owed at least so long ago.")]


class Resolution(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """What became of a message. `seen`: its state as whoever says so saw it; in another one by now, 409.

    `to`: accepted, abandoned, or pending, which may send it a second time. `because`: how one knows; kept
    with the message, no personal data. `provider_id`: the provider's id of the message, when it was accepted.
    """

    seen: State
    to: State
    because: Annotated[str, Meta(pattern=PRINTABLE)]
    provider_id: Annotated[str, Meta(pattern=VISIBLE)] | None = None


class Effects(msgspec.Struct, frozen=True, kw_only=True):
    """Messages, those owed longest ago first. `more`: there may be more than these.

    `away`: shards that did not answer; theirs are missing.
    """

    effects: list[Effect]
    more: bool
    away: tuple[str, ...]


def effect_routes(cluster: Cluster, audit: AuditLog, *, answer_timeout_s: float) -> list[HTTPRouteHandler]:
    """Return the routes. `answer_timeout_s`: when a request is answered 503 that was not answered by then."""

    @get("/v1/effects", **needs(Access.READ))
    async def effects(
        in_state: InState = State.UNKNOWN,
        channel: FromQuery[Channel | None] = None,
        kind: FromQuery[Kind | None] = None,
        older_than_s: Age = 0.0,
        limit: Limit = 50,
    ) -> Effects:
        """List messages, those of unknown outcome unless told otherwise. No personal data."""
        if isnan(older_than_s):
            raise Refused(_BAD_REQUEST, "older_than_s: is not valid")
        wanted = Wanted(state=in_state, channel=channel, kind=kind, older_than_s=older_than_s)
        found = await listed_of(cluster, wanted, limit, timeout_s=_SHARE * answer_timeout_s)
        return Effects(effects=found.effects, more=len(found.effects) == limit, away=tuple(found.missing))

    @get("/v1/effects/{effect_id:str}", **needs(Access.READ, 404))
    async def effect(request: AnyRequest, effect_id: FromPath[str]) -> EffectFound:
        """Return a message, and all that happened to it."""
        found = await found_of(cluster, _digits(effect_id))
        return effect_found(found.effect, found.story, caller_of(request))

    @post("/v1/effects/{effect_id:str}/resolution", status_code=200, **needs(Access.OPERATE, 404, 409, 415))
    async def resolve(
        request: AnyRequest, effect_id: FromPath[str], data: JSONBody[Resolution]
    ) -> EffectFound:
        """Say what became of a message that is unknown or abandoned."""
        caller = caller_of(request)
        seen = (await found_of(cluster, _digits(effect_id))).effect
        if seen.state is not data.seen:
            raise Refused(_CONFLICT, f"it is {seen.state} by now")
        actor = f"api {caller.subject}"
        async with audit.action(actor, "effects.resolve", str(seen.effect_id), f"{seen.state} to {data.to}"):
            await resolved_in(
                cluster, seen, data.to, provider_id=data.provider_id, because=data.because, actor=actor
            )
        shard = cluster[cluster.router.shard_of(seen.slot)]
        now = the_one(seen.effect_id.hex, [await desk_of(shard).by_id(seen.effect_id, seen.effect_id)])
        return effect_found(now, (await with_story(cluster, now)).story, caller)

    return [effects, effect, resolve]


def _digits(segment: str) -> str:
    """Return a whole id's digits. Raises Refused for what is none: then there is no such message."""
    try:
        return UUID(segment).hex
    except ValueError:
        raise no_such("message") from None
