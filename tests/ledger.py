"""The ledger of one shard with messages in any state, for tests."""

from collections.abc import Sequence
from datetime import UTC, datetime
from typing import Any
from uuid import uuid4

import orjson
from real_stack import Bench, order_event

from consumers.event_files import as_delivery
from pipeline.ingest.decoder import Decoder
from pipeline.ingest.entries import EntryBuilder
from pipeline.sharding.router import Router
from pipeline.storage.effects import Effects
from pipeline.storage.outbox import Channel, Claim, Receipt, State
from pipeline.storage.outbox_table import Outbox
from pipeline.storage.rows import QuarantineRow, Trigger
from pipeline.storage.shard import Shard
from pipeline.storage.writer import IntakeWriter

__all__ = ["LIFETIME_S", "Intake", "Ledger", "accepted", "order_event"]

LIFETIME_S = 3600.0


class Intake:
    """Writes events straight to their shard, with a grace window of the test's choice."""

    def __init__(self, bench: Bench, grace_s: float = 0.0) -> None:
        self._bench = bench
        self._grace_s = grace_s
        self._decoder = Decoder(message_bytes_max=1_000_000)
        self._entries = EntryBuilder(
            Router(bench.cluster.shard_map), document_bytes_max=10_000, document_hosts=(), allow_http=False
        )

    async def write(self, *events: dict[str, Any]) -> Shard:
        """Write events of one shard in one transaction; return the shard."""
        deliveries = [as_delivery(orjson.dumps(event)) for event in events]
        placed = [self._entries.of_event(self._decoder.decode(d)) for d in deliveries]
        shard = self._bench.cluster[placed[0][0]]
        writer = IntakeWriter(shard.primary, grace_window_s=self._grace_s, message_lifetime_s=LIFETIME_S)
        await writer.write([row for _, row in placed], Trigger.SIZE, _never)
        return shard


def _never(_place: int, _reason: str, _detail: str) -> QuarantineRow:
    raise AssertionError("no conflicts here")


def accepted(claim: Claim, provider_id: str = "id") -> Receipt:
    return Receipt(
        *(claim.slot, claim.effect_id, claim.claim_id, State.ACCEPTED),
        *("smtp", provider_id, None, datetime.now(UTC)),
    )


class Ledger:
    """Messages of one channel on the first shard."""

    def __init__(self, bench: Bench, channel: Channel = Channel.SMS) -> None:
        self.bench = bench
        self.channel = channel
        self.shard = bench.cluster["shard0"]
        self.outbox = Outbox(self.shard.name, self.shard.primary, lease_s=60.0)
        self.effects = Effects(self.shard.name, self.shard.primary, message_lifetime_s=LIFETIME_S)

    async def owe(self, count: int) -> None:
        """Owe messages, each for an order of its own."""
        router, found = Router(self.bench.cluster.shard_map), []
        while len(found) < count:
            name = f"o-{uuid4().hex[:12]}"
            if router.place(name).shard == self.shard.name:
                found.append(order_event(name))
        await Intake(self.bench).write(*found)
        other = Channel.EMAIL if self.channel is Channel.SMS else Channel.SMS
        await self.bench.execute(f"DELETE FROM outbox WHERE channel = '{other}'")

    async def claimed(self, count: int) -> list[Claim]:
        """Owe messages and claim them."""
        await self.owe(count)
        return await self.outbox.claim(self.channel, count, uuid4())

    async def unknown(self, count: int) -> list[Claim]:
        """Owe messages, and have the process that claimed them die."""
        claims = await self.claimed(count)
        await self.lose(claims)
        return claims

    async def lose(self, claims: Sequence[Claim]) -> None:
        """Have the leases of claims end, and the claims be found lost."""
        await self.end_leases(claims)
        self.effects.look_anew()
        assert await self.effects.expire_leases() == len(claims)

    async def end_leases(self, claims: Sequence[Claim]) -> None:
        """Have the leases of claims end."""
        await self.bench.execute(
            "UPDATE outbox SET lease_until = now() - interval '1 second' WHERE effect_id = ANY($1)",
            [claim.effect_id for claim in claims],
        )

    async def rows(self) -> list[dict[str, Any]]:
        return await self.bench.rows(
            "SELECT * FROM outbox ORDER BY created_at, effect_id", shard=self.shard.name
        )

    async def states(self) -> list[str]:
        return [row["state"] for row in await self.rows()]

    async def notes(self) -> list[dict[str, Any]]:
        return await self.bench.rows("SELECT * FROM effect_note ORDER BY at", shard=self.shard.name)
