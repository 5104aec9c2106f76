"""Pools, and their limits, which can be changed while everything runs."""

from collections.abc import Mapping
from datetime import datetime
from typing import Annotated, Any, Final

import msgspec
from litestar import delete, get, put
from litestar.handlers import HTTPRouteHandler
from litestar.params import FromPath, JSONBody
from msgspec import Meta

from consumers.api.access import caller_of
from consumers.api.callers import Access
from consumers.api.overview import PoolNow
from consumers.api.overview_reader import OverviewReader
from consumers.api.routes import named, needs, no_such
from consumers.web.requests import AnyRequest, Refused
from pipeline.control.audit_log import AuditLog
from pipeline.control.limit_board import LimitBoard
from pipeline.control.limit_ranges import LimitRange
from pipeline.storage.control import LimitOverride

_UNPROCESSABLE: Final = 422
_FOR_S_MAX: Final = 30 * 86_400


class Pools(msgspec.Struct, frozen=True, kw_only=True):
    """Every provider as all sending processes together see it."""

    pools: tuple[PoolNow, ...]


class LimitState(msgspec.Struct, frozen=True, kw_only=True):
    """A limit: what it may be, what the settings say, and what counts instead.

    `unit`: calls are those of each process that sends; messages per second those of all of them together.
    `normal`: the settings'; 0: none. `value`: what an operator set; null: the settings count. `left_s`: for
    how long; null: until it is taken off.
    """

    key: str
    unit: str
    floor: float
    ceiling: float
    normal: float
    value: float | None = None
    set_by: str | None = None
    set_at: datetime | None = None
    left_s: float | None = None


class Limits(msgspec.Struct, frozen=True, kw_only=True):
    """Every limit that can be changed."""

    limits: list[LimitState]


class NewLimit(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """What counts from now on, in every process in two seconds. `for_s`: how long; null: until taken off.

    `value`: by the limit's unit, calls at once of each process, or messages per second of all together.
    """

    value: Annotated[float, Meta(ge=0, le=1_000_000)]
    for_s: Annotated[float, Meta(ge=1, le=_FOR_S_MAX)] | None = None


class Changed(msgspec.Struct, frozen=True, kw_only=True):
    """A limit after a change, and the shards that did not take it: they get it when they are back."""

    limit: LimitState
    away: tuple[str, ...]


def limit_routes(
    overview: OverviewReader, board: LimitBoard, ranges: Mapping[str, LimitRange], audit: AuditLog
) -> list[HTTPRouteHandler]:
    """Return the routes. `ranges`: the limits there are, by key."""

    @get("/v1/pools", **needs(Access.READ))
    async def pools() -> Pools:
        """Return the pools: calls under way, limits found by trying, circuits."""
        return Pools(pools=(await overview.latest()).pools)

    @get("/v1/limits", **needs(Access.READ))
    async def limits() -> Limits:
        """Return the limits that can be changed, and what was set.

        Calls are those of each process that sends; messages per second are those of all of them together.
        """
        found = await board.survey()
        return Limits(limits=[_state(one, found.get(key)) for key, one in sorted(ranges.items())])

    @put("/v1/limits/{key:str}", **needs(Access.OPERATE, 404, 415, 422))
    async def set_limit(request: AnyRequest, key: FromPath[str], data: JSONBody[NewLimit]) -> Changed:
        """Have a limit count in place of the settings', between the settings' own floor and ceiling.

        Calls at once count for each process that sends; messages per second for all of them together.
        """
        limit = _range(ranges, key)
        if not limit.floor <= data.value <= limit.ceiling:
            raise Refused(_UNPROCESSABLE, f"value: must be from {limit.floor:g} to {limit.ceiling:g}")
        actor = f"api {caller_of(request).subject}"
        async with audit.action(actor, "limits.set", limit.key, _told(data)) as action:
            written = await board.set(limit.key, data.value, by=actor, for_s=data.for_s)
            action.detail = f"version {written.limit.version}"
        return Changed(limit=_state(limit, written.limit), away=written.away)

    @delete("/v1/limits/{key:str}", status_code=200, **needs(Access.OPERATE, 404))
    async def remove_limit(request: AnyRequest, key: FromPath[str]) -> Changed:
        """Take a limit off: the settings count again."""
        limit = _range(ranges, key)
        actor = f"api {caller_of(request).subject}"
        async with audit.action(actor, "limits.remove", limit.key) as action:
            written = await board.remove(limit.key, by=actor)
            action.detail = f"version {written.limit.version}"
        return Changed(limit=_state(limit, written.limit), away=written.away)

    return [pools, limits, set_limit, remove_limit]


def _range(ranges: Mapping[str, LimitRange], segment: str) -> LimitRange:
    found = ranges.get(named(segment, "limit"))
    if found is None:
        raise no_such("limit")
    return found


def _told(new: NewLimit) -> str:
    return f"to {new.value:g}" + (f" for {new.for_s:g} s" if new.for_s else "")


def _state(limit: LimitRange, override: LimitOverride | None) -> LimitState:
    known: dict[str, Any] = {}
    if override is not None and override.counts:
        known = {
            "value": override.value,
            "set_by": override.set_by,
            "set_at": override.set_at,
            "left_s": override.left_s,
        }
    return LimitState(
        key=limit.key,
        unit=limit.unit,
        floor=limit.floor,
        ceiling=limit.ceiling,
        normal=limit.normal,
        **known,
    )
