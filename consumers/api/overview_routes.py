"""How everything is: the overview and its stream, KPIs, totals, shards, the ring, and who asks."""

from itertools import groupby
from typing import Any, Final

import msgspec
from litestar import Response, get
from litestar.handlers import HTTPRouteHandler
from litestar.response import Stream

from consumers.api.access import caller_of
from consumers.api.callers import Access, Caller
from consumers.api.fresh import Fresh
from consumers.api.overview import Kpis, Overview
from consumers.api.overview_reader import OverviewReader
from consumers.api.routes import needs
from consumers.api.streams import OverviewStreams
from consumers.shards_report import Views
from consumers.status import Status
from consumers.web.requests import AnyRequest
from pipeline.sharding.shard_map import ShardMap
from pipeline.storage.cluster import Cluster

STREAM_PATH: Final = "/v1/overview/stream"


class Arc(msgspec.Struct, frozen=True, kw_only=True):
    """A run of slots of one owner, `first` to `last` inclusive. `shard`: its place in the ring's `shards`."""

    first: int
    last: int
    shard: int


class Ring(msgspec.Struct, frozen=True, kw_only=True):
    """Who owns which slot, at an epoch. `arcs` in order of slots; together they cover every slot once."""

    epoch: int
    slot_count: int
    shards: tuple[str, ...]
    arcs: list[Arc]


def overview_routes(
    reader: OverviewReader,
    streams: OverviewStreams,
    cluster: Cluster,
    *,
    status: Fresh[Status],
    shards: Fresh[Views],
) -> list[HTTPRouteHandler]:
    """Return the routes."""

    @get("/v1/overview", **needs(Access.READ))
    async def overview() -> Response[Overview]:
        """Return all that the console shows, read a second ago at most."""
        encoded: Any = await reader.encoded()  # once for all who ask; bytes go out as they are
        return Response(encoded, media_type="application/json")

    @get(STREAM_PATH, media_type="text/event-stream", **needs(Access.READ))
    async def stream(request: AnyRequest) -> Stream:
        """Send the overview each second, as events `overview`; the last event, `end`, says why it ends."""
        headers = {"x-accel-buffering": "no"}
        return Stream(streams.stream(caller_of(request)), media_type="text/event-stream", headers=headers)

    @get("/v1/kpis", **needs(Access.READ))
    async def kpis() -> Kpis:
        """Return the four KPIs: per minute, over the last minute."""
        return (await reader.latest()).kpis

    @get("/v1/status", **needs(Access.READ))
    async def totals() -> Status:
        """Return totals, messages by state, queues, replicas and whether it all adds up.

        It reads the tables through, so it is up to half a minute old; where that takes long, up to 150 s.
        """
        return await status.get()

    @get("/v1/shards", **needs(Access.READ))
    async def shard_list() -> Views:
        """Return shards and moves in progress, up to five seconds old. Rows and bytes are not counted."""
        return await shards.get()

    @get("/v1/ring", **needs(Access.READ))
    async def ring() -> Ring:
        """Return which shard owns which slots."""
        return ring_of(cluster.shard_map)

    @get("/v1/me", **needs(Access.READ))
    async def me(request: AnyRequest) -> Caller:
        """Return who asks, with which role, and until when the token counts (seconds since 1970)."""
        return caller_of(request)

    return [overview, stream, kpis, totals, shard_list, ring, me]


def ring_of(shard_map: ShardMap) -> Ring:
    """Return a map as arcs."""
    shards = tuple(sorted(set(shard_map.owners)))
    arcs: list[Arc] = []
    first = 0
    for name, run in groupby(shard_map.owners):
        count = sum(1 for _ in run)
        arcs.append(Arc(first=first, last=first + count - 1, shard=shards.index(name)))
        first += count
    return Ring(epoch=shard_map.epoch, slot_count=len(shard_map.owners), shards=shards, arcs=arcs)
