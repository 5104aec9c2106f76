"""The record of what operators did."""

from datetime import UTC, datetime
from typing import Annotated, Final
from uuid import UUID

import msgspec
from litestar import get
from litestar.handlers import HTTPRouteHandler
from litestar.params import QueryParameter

from consumers.api.callers import Access
from consumers.api.routes import needs
from consumers.web.requests import Refused
from pipeline.control.audit_log import AuditLog
from pipeline.storage.audit import END, AuditEntry, Before

_BAD_REQUEST: Final = 400
_PLACE = r"^[0-9TZ:.-]{1,40}~[0-9a-f-]{36}$(?!\n)"

Limit = Annotated[int, QueryParameter(ge=1, le=500, description="How many at most.")]
Actor = Annotated[str | None, QueryParameter(max_length=200, description="Only what this one did.")]
What = Annotated[str | None, QueryParameter(max_length=100, description="Only this kind, as limits.set.")]
Place = Annotated[
    str | None, QueryParameter(pattern=_PLACE, description="`next` of an earlier answer: go on from there.")
]


class Entries(msgspec.Struct, frozen=True, kw_only=True):
    """Entries, the latest first. `next`: given as `before`, it goes on from here; null: there are no more."""

    entries: list[AuditEntry]
    next: str | None


def audit_routes(audit: AuditLog) -> list[HTTPRouteHandler]:
    """Return the route."""

    @get("/v1/audit", **needs(Access.ADMIN))
    async def entries(
        limit: Limit = 100, before: Place = None, actor: Actor = None, what: What = None
    ) -> Entries:
        """Return who did what, when, by which map, and what came of it. An action has two entries."""
        if "\0" in (actor or "") + (what or ""):
            raise Refused(_BAD_REQUEST, "actor, what: are not valid")
        found = await audit.entries(limit, before=_place(before), actor=actor, what=what)
        return Entries(entries=found, next=_next(found[-1]) if len(found) == limit else None)

    return [entries]


def _next(last: AuditEntry) -> str:
    at = last.at.astimezone(UTC).isoformat().replace("+00:00", "Z")
    return f"{at}~{last.entry_id}"


def _place(text: str | None) -> Before:
    if text is None:
        return END
    at, _, entry_id = text.partition("~")
    try:
        place: Before | None = Before(datetime.fromisoformat(at), UUID(entry_id))
    except ValueError:
        place = None
    if place is None or place.at.tzinfo is None:
        raise Refused(_BAD_REQUEST, "before: is none that was given out")
    return place
