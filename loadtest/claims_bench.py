"""How long a claim takes with millions of finished messages beside it, while an old snapshot is held open.

The snapshot keeps every index entry of what is sent meanwhile from being removed, as a long report or a stuck
session does. A steady flow of new messages is claimed and recorded all the while, as a sender does it.
"""

import asyncio
import time
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from datetime import UTC, datetime
from uuid import uuid4

import msgspec

from loadtest.intake_bench import BenchError
from loadtest.owed_messages import OWE
from loadtest.sending_figures import Latency, latency_of
from pipeline.storage.cluster import Cluster
from pipeline.storage.outbox import Channel, Claim, Receipt, State
from pipeline.storage.shard import Shard

CLAIM_MAX = 100
_CHUNK = 250_000
_TIMEOUT_S = 600.0
_TICK_S = 0.05
_FINISHED = """
INSERT INTO outbox (slot, effect_id, order_id, channel, kind, state, due_at, expires_at, attempts, claim_id,
                    provider, provider_id, created_at, claimed_at, accepted_at, settled_at, provider_status)
SELECT ($1::smallint[])[1 + n % cardinality($1)], gen_random_uuid(), 'old-' || n, channel,
       'order_' || channel, 'delivered', at, at + interval '1 day', 1, gen_random_uuid(), 'bench',
       'SM' || md5(n::text), at, at, at, at, 'delivered'
FROM generate_series($2::bigint, $3::bigint) AS g(n),
     LATERAL (SELECT (array['sms', 'email'])[1 + n % 2] AS channel,
                     now() - interval '29 days' * random() AS at) AS drawn"""
_SNAPSHOT = """
SET idle_in_transaction_session_timeout = 0;
BEGIN ISOLATION LEVEL REPEATABLE READ; SELECT count(*) FROM shard_slot"""
_STATEMENT = """
SELECT sum(calls) AS calls, sum(total_exec_time) AS ms, sum(shared_blks_hit + shared_blks_read) AS pages
FROM pg_stat_statements WHERE query LIKE '%claimed AS (%FROM claimed%'"""


class Minute(msgspec.Struct, frozen=True, kw_only=True):
    """The claims of one minute since the snapshot was taken."""

    minute: int
    claims: int
    p50_ms: float
    p99_ms: float


class Claims(msgspec.Struct, frozen=True, kw_only=True):
    """Claims as the sender waits for them, commit included; `statement_ms` is the server's mean for one."""

    finished_rows: int
    snapshot_minutes: float
    messages: int
    messages_per_s: float
    claims: int
    p50_ms: float
    p99_ms: float
    max_ms: float
    sweep: Latency
    statement_ms: float
    pages_per_claim: float
    by_minute: list[Minute]


class ClaimsBench:
    """One shard of a cluster whose processes do not run: this program is the only sender."""

    def __init__(self, cluster: Cluster) -> None:
        self._cluster = cluster
        self._shard: Shard = next(iter(cluster))
        self._claims: list[tuple[float, float]] = []
        self._sweeps: list[float] = []
        self._messages = 0

    async def fill(self, rows: int, note: Callable[[str], None]) -> None:
        """Write finished messages, and have the table look as after a normal month."""
        slots = self._cluster.shard_map.slots_of(self._shard.name)
        async with self._shard.primary.connection() as connection:
            for first in range(1, rows + 1, _CHUNK):
                last = min(rows, first + _CHUNK - 1)
                await connection.execute(_FINISHED, slots, first, last, timeout=_TIMEOUT_S)
                if last % (4 * _CHUNK) == 0:
                    note(f"  {last:,} finished messages")
            await connection.execute("VACUUM ANALYZE outbox", timeout=_TIMEOUT_S)

    async def run(self, rows: int, minutes: float, rate: float) -> Claims:
        """Claim under an open snapshot; `rate`: new messages per second."""
        before = await self._statement()
        async with self._snapshot():
            over, began = asyncio.Event(), time.monotonic()
            async with asyncio.TaskGroup() as group:
                group.create_task(self._owe(rate, over))
                for channel in Channel:
                    group.create_task(self._send(channel, over))
                group.create_task(self._sweep(over))
                await asyncio.sleep(minutes * 60)
                over.set()
        after = await self._statement()
        calls = after[0] - before[0]
        took = latency_of([seconds for _, seconds in self._claims])
        return Claims(
            finished_rows=rows,
            snapshot_minutes=minutes,
            messages=self._messages,
            messages_per_s=rate,
            claims=took.messages,
            p50_ms=took.p50_ms,
            p99_ms=took.p99_ms,
            max_ms=took.max_ms,
            sweep=latency_of(self._sweeps),
            statement_ms=round((after[1] - before[1]) / calls, 2),
            pages_per_claim=round((after[2] - before[2]) / calls, 1),
            by_minute=self._by_minute(began),
        )

    @asynccontextmanager
    async def _snapshot(self) -> AsyncIterator[None]:
        async with self._shard.primary.connection() as connection:
            await connection.execute(_SNAPSHOT)
            try:
                yield
            finally:
                await connection.execute("ROLLBACK; RESET idle_in_transaction_session_timeout")

    async def _owe(self, rate: float, over: asyncio.Event) -> None:
        """Write new messages at a steady rate, a few at a time, of both channels in turn."""
        each, channels = max(1, round(rate * _TICK_S)), list(Channel)
        began, tick = time.monotonic(), 0
        while not over.is_set():
            async with self._shard.primary.connection() as connection:
                # About half of the numbers fall into the other shard's slots.
                await connection.execute(
                    OWE, uuid4().hex[:8], 1, each * len(self._cluster.shards), channels[tick % 2]
                )
            tick += 1
            await asyncio.sleep(max(0.0, began + tick * _TICK_S - time.monotonic()))

    async def _send(self, channel: Channel, over: asyncio.Event) -> None:
        outbox = self._shard.outbox
        while not over.is_set():
            began = time.monotonic()
            claims = await outbox.claim(channel, CLAIM_MAX, uuid4())
            self._claims.append((began, time.monotonic() - began))
            if claims:
                recorded = await outbox.record(channel, [_accepted(claim) for claim in claims])
                if recorded.stale:
                    raise BenchError("a receipt of a claim that is held was refused")
                self._messages += len(claims)
            await asyncio.sleep(_TICK_S)

    async def _sweep(self, over: asyncio.Event) -> None:
        while not over.is_set():
            began = time.monotonic()
            await self._shard.effects.expire_leases()
            self._sweeps.append(time.monotonic() - began)
            await asyncio.sleep(1.0)

    async def _statement(self) -> tuple[float, float, float]:
        async with self._shard.primary.connection() as connection:
            row = await connection.fetchrow(_STATEMENT)
        return float(row["calls"] or 0), float(row["ms"] or 0), float(row["pages"] or 0)

    def _by_minute(self, began: float) -> list[Minute]:
        found: dict[int, list[float]] = {}
        for at, seconds in self._claims:
            found.setdefault(int((at - began) // 60), []).append(seconds)
        figures = {minute: latency_of(seconds) for minute, seconds in found.items()}
        return [
            Minute(minute=minute, claims=one.messages, p50_ms=one.p50_ms, p99_ms=one.p99_ms)
            for minute, one in sorted(figures.items())
        ]


def _accepted(claim: Claim) -> Receipt:
    return Receipt(
        claim.slot,
        claim.effect_id,
        claim.claim_id,
        State.ACCEPTED,
        provider="bench",
        provider_id=claim.effect_id.hex,
        accepted_at=datetime.now(UTC),
    )
