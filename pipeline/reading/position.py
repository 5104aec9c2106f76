"""How far a server's data reaches, and whether that is far enough for a read.

A commit is acknowledged when the replica has it on disk (`synchronous_commit = on`), perhaps before the
replica shows it. So a replica that has replayed all that it had received when a read began shows all that was
acknowledged before. It can tell this by itself, without asking the primary.
"""

from collections.abc import Mapping
from typing import Any, Self

import msgspec

_XIDS = 2**32


class Position(msgspec.Struct, frozen=True, kw_only=True):
    """What a server says about itself. WAL positions are in bytes. None, and timeline 0: not known.

    `lsn` is what it has replayed, or, on a primary, what it has flushed. `received` is what a replica has on
    disk, `announced` the end of the primary's WAL as that last told it. `exhausted`: nothing
    streams to it, and it has replayed all that it can.
    """

    in_recovery: bool
    timeline: int = 0
    lsn: int = 0
    received: int | None = None
    announced: int | None = None
    streams: bool = False
    exhausted: bool = False

    @classmethod
    def of(cls, row: Mapping[str, Any]) -> Self:
        """Make it from a row of the statement `position`."""
        return cls(**{name: row[name] for name in cls.__struct_fields__})


class Need(msgspec.Struct, frozen=True, kw_only=True):
    """What a read asks of the server that answers it.

    latest: all that the server had received when asked. `lsn` and `seen`: a token's. `timeline`: no server
    on an earlier one may answer. `alone`: the primary is away, so that a replica need not stream from it.
    """

    latest: bool
    lsn: int = 0
    timeline: int = 0
    seen: tuple[int, ...] = ()
    alone: bool = False


def settled(position: Position, need: Need) -> Need:
    """Return what a replica must have from now on, after its first look at itself.

    All that it had received then: what comes in later was not acknowledged before the read began. What a
    primary announced and took along when it went was acknowledged to nobody, and will not come.
    """
    if not need.latest or position.received is None:
        return need
    if need.alone and position.exhausted:
        return msgspec.structs.replace(need, latest=False)
    announced = 0 if need.alone else position.announced or 0
    goal = max(need.lsn, position.received, announced)
    return msgspec.structs.replace(need, latest=False, lsn=goal)


def shortfall(position: Position, need: Need) -> str:
    """Return why a replica may not answer; empty when it may. The need is a settled one."""
    if not position.streams and not need.alone:
        return "it does not stream from the primary"
    if 0 < position.timeline < need.timeline:
        return f"it is on timeline {position.timeline}, and {need.timeline} was seen"
    if need.latest:
        return "it cannot tell what it has received"
    missing = need.lsn - position.lsn
    return f"it is {missing:,} bytes of WAL behind" if missing > 0 else ""


def shows(snapshot: str, seen: tuple[int, ...]) -> bool:
    """Return whether a snapshot, as `pg_current_snapshot()` prints it, shows transactions seen elsewhere."""
    if not seen:
        return True
    _, ahead, running = snapshot.split(":")
    hidden = {int(xid) % _XIDS for xid in running.split(",") if xid}
    return not any(xid in hidden or not _precedes(xid, int(ahead) % _XIDS) for xid in seen)


def shown_by(snapshot: str, xids: list[int] | None) -> tuple[int, ...]:
    """Return the transactions of rows that were shown, without those so old that their number came round."""
    ahead = int(snapshot.split(":")[1]) % _XIDS
    return tuple(sorted(xid for xid in xids or () if _precedes(xid, ahead)))


def _precedes(xid: int, other: int) -> bool:
    """Compare as PostgreSQL does: numbers go round after 2**32."""
    return 0 < (other - xid) % _XIDS < _XIDS // 2
