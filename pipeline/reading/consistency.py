"""What a reader may ask for: who answers, how fresh, and what was read or written before."""

from collections.abc import Iterable
from enum import StrEnum
from typing import Self

import msgspec

_FIELDS = 4


class Mode(StrEnum):
    """Which of a shard's servers are asked."""

    RACE = "race"
    HEDGED = "hedged"
    PRIMARY = "primary"
    REPLICA = "replica"


class Consistency(StrEnum):
    """How fresh an answer is.

    latest: it has all that was acknowledged before the read began. session: it has what the token stands for.
    any: what a server has, however old.
    """

    LATEST = "latest"
    SESSION = "session"
    ANY = "any"


class Token(msgspec.Struct, frozen=True):
    """A point in a shard's history: an answer that honours it has all that was committed up to it.

    `lsn` is a position in the WAL of `timeline` (0: not known). `seen` are the transactions, by the 32 bits
    that rows carry, whose rows a replica showed: the primary may be still waiting for that very replica
    before it shows them itself.
    """

    shard: str
    timeline: int
    lsn: int
    seen: tuple[int, ...] = ()

    def __str__(self) -> str:
        return f"{self.shard}:{self.timeline}:{self.lsn:X}:{'.'.join(f'{xid:x}' for xid in self.seen)}"

    @classmethod
    def parse(cls, text: str) -> Self:
        """Return the token that was printed as `text`. Raises ValueError."""
        fields = text.split(":")
        if len(fields) != _FIELDS or not fields[0]:
            raise ValueError("a token has the form SHARD:TIMELINE:LSN:TRANSACTIONS")
        shard, timeline, lsn, seen = fields
        xids = tuple(int(xid, 16) for xid in seen.split(".") if xid)
        return cls(shard, int(timeline), int(lsn, 16), xids)


def token_of(shard: str, tokens: Iterable[Token]) -> Token | None:
    """Return one token for all those of a shard, or None. Tokens of other shards say nothing about it."""
    mine = [token for token in tokens if token.shard == shard]
    if not mine:
        return None
    latest = max(mine, key=lambda token: (token.timeline, token.lsn))
    seen = sorted({xid for token in mine for xid in token.seen})
    return msgspec.structs.replace(latest, seen=tuple(seen))
