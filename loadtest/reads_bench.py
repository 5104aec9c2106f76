"""What reads take in each mode when one server is slow, what they cost in requests, and that none is stale.

Reads come by the clock, whether or not earlier ones are answered, and a read's time counts from when it was
due. A writer changes messages meanwhile and notes what was acknowledged: an answer that shows less than had
been acknowledged when its read began is stale.
"""

import asyncio
import random
import time
from collections import Counter
from collections.abc import AsyncIterator, Iterable
from contextlib import AsyncExitStack, asynccontextmanager
from math import ceil
from typing import Self
from urllib.parse import urlsplit, urlunsplit

import msgspec

from consumers.migration import migrate_all
from loadtest.slow_proxy import Behaviour, ProxyProcess
from pipeline.errors import PostorderError
from pipeline.reading.consistency import Consistency, Mode, Token
from pipeline.reading.order_reader import OrderReader
from pipeline.settings import Settings
from pipeline.sharding.slots import slot_of
from pipeline.storage.cluster import Cluster
from stack.ports import HOST

SLOW_SHARE = 0.05
SLOW_S = 0.05
_SLOW = Behaviour(SLOW_SHARE, SLOW_S)
_ROLES = ("primary", "replica")
_POSTGRES_PORT = 5432
_HOT = 100
_WRITES_PER_S = 50.0
_WARM_UP_S = 2.0
_FILL = """
INSERT INTO orders (slot, order_id, customer_id, currency, total, lines, processed_at, event_source, event_id)
SELECT slot_of(id), id, 'c-' || n / 5, 'EUR', 74.40, '[{"sku": "LP-77", "quantity": 2}]', now(), '/bench', id
FROM generate_series(0, $1 - 1) AS g(n), LATERAL (SELECT 'o-' || n AS id) AS named
WHERE slot_of(id) IN (SELECT slot FROM shard_slot WHERE state = 'owned')
ON CONFLICT DO NOTHING"""
_FILL_MESSAGES = """
INSERT INTO outbox (slot, effect_id, order_id, channel, kind, state, expires_at)
SELECT slot, effect_id_of(order_id, 1), order_id, 'sms', 'order_sms', 'accepted', now() FROM orders
ON CONFLICT DO NOTHING"""
_CHANGE = """
UPDATE outbox SET attempts = (attempts + 1) % 30000 WHERE slot = $1 AND effect_id = effect_id_of($2, 1)
RETURNING attempts"""


class Record(msgspec.Struct, frozen=True, kw_only=True):
    """One mode. `extra_load`: requests beyond one for each read, as a share of the reads.

    `own_writes_read` are reads of what was changed and acknowledged just before; they count in `stale` and
    `extra_load`, not in the percentiles.
    """

    reads: int
    p50_ms: float
    p99_ms: float
    p999_ms: float
    extra_load: float
    own_writes_read: int
    stale: int
    errors: int
    by_primary: int
    by_replica: int


class Tally:
    """What happened to the reads of one run. Changed by its reads as they end."""

    def __init__(self) -> None:
        self.latencies_s: list[float] = []
        self.stale = 0
        self.errors = 0
        self.by_role: Counter[str] = Counter()
        self.extra = 0
        self.own_writes_read = 0

    @classmethod
    def of(cls, runs: Iterable["Tally"]) -> Self:
        """Return one for several runs."""
        total = cls()
        for run in runs:
            total.latencies_s += run.latencies_s
            total.stale += run.stale
            total.errors += run.errors
            total.by_role += run.by_role
            total.extra += run.extra
            total.own_writes_read += run.own_writes_read
        return total

    def record(self) -> Record:
        """Return the figures."""
        ordered = sorted(self.latencies_s)
        p50, p99, p999 = (
            round(ordered[ceil(share * len(ordered)) - 1] * 1e3, 2) for share in (0.5, 0.99, 0.999)
        )
        reads = len(ordered)
        return Record(
            reads=reads,
            p50_ms=p50,
            p99_ms=p99,
            p999_ms=p999,
            extra_load=round(self.extra / (reads + self.own_writes_read), 4),
            own_writes_read=self.own_writes_read,
            stale=self.stale,
            errors=self.errors,
            by_primary=self.by_role["primary"],
            by_replica=self.by_role["replica"],
        )


class _Truth:
    """What was acknowledged: the count of changes of each hot order, and the token of its last change."""

    def __init__(self, hot: list[str]) -> None:
        self.hot = hot
        self.changes = dict.fromkeys(hot, 0)
        self.tokens: dict[str, tuple[Token, int]] = {}


class _Reads:
    """Reads in one mode, by the clock, each checked against the truth."""

    def __init__(
        self, reader: OrderReader, truth: _Truth, how: "Reading", orders: int, chance: random.Random
    ) -> None:
        self._reader = reader
        self._truth = truth
        self._how = how
        self._orders = orders
        self._chance = chance

    async def for_seconds(self, seconds: float, tally: Tally) -> None:
        """Start reads at the rate; return when all have ended."""
        began, extra = time.monotonic(), _extra(self._reader)
        async with asyncio.TaskGroup() as group:
            for number in range(int(self._how.rate * seconds)):
                due = began + number / self._how.rate
                await asyncio.sleep(due - time.monotonic())
                consistency = self._how.consistencies[number % len(self._how.consistencies)]
                group.create_task(self._one(tally, consistency, due))
        tally.extra = _extra(self._reader) - extra

    async def _one(self, tally: Tally, consistency: Consistency, due: float) -> None:
        name, least, after = self._choice(consistency)
        role = await self._checked(tally, name, least, consistency, after)
        if role:
            tally.latencies_s.append(time.monotonic() - due)
            tally.by_role[role] += 1

    async def own_write(self, tally: Tally, name: str, least: int, token: Token | None) -> None:
        """Read what was just written."""
        consistency = self._how.consistencies[-1 if token else 0]
        await self._checked(tally, name, least, consistency, [token] if token else [])
        tally.own_writes_read += 1

    async def _checked(
        self, tally: Tally, name: str, least: int, consistency: Consistency, after: list[Token]
    ) -> str:
        """Read an order; return who answered, empty when nobody did."""
        try:
            answer = await self._reader.order(name, mode=self._how.mode, consistency=consistency, after=after)
        except PostorderError:
            tally.errors += 1
            return ""
        shown = [message.attempts for message in answer.value.messages if message.kind == "order_sms"]
        tally.stale += answer.value.order is None or not shown or shown[0] < least
        return answer.served[0].role

    def _choice(self, consistency: Consistency) -> tuple[str, int, list[Token]]:
        """Choose an order, half of the time one that changes; return what its answer must show at least."""
        if self._chance.getrandbits(1):
            return f"o-{self._chance.randrange(self._orders)}", 0, []
        name = self._chance.choice(self._truth.hot)
        if consistency is Consistency.SESSION and name in self._truth.tokens:
            token, least = self._truth.tokens[name]
            return name, least, [token]
        return name, self._truth.changes[name], []


class Reading(msgspec.Struct, frozen=True, kw_only=True):
    """How to read: in which mode, how many a second, and how fresh, one after the other."""

    mode: Mode
    rate: float
    consistencies: tuple[Consistency, ...] = (Consistency.LATEST, Consistency.SESSION)


class ReadsBench:
    """The servers of a stack, the first shard's behind proxies."""

    def __init__(self, settings: Settings, orders: int, seed: int = 7) -> None:
        self._direct = settings
        self._orders = orders
        self._chance = random.Random(seed)
        self._cluster = Cluster(settings)
        self._proxies: ProxyProcess | None = None
        self._settings = settings

    @asynccontextmanager
    async def opened(self) -> AsyncIterator["ReadsBench"]:
        """Make tables and rows, start the proxies."""
        await migrate_all(self._direct)
        async with AsyncExitStack() as exits:
            exits.push_async_callback(self._cluster.close)
            for shard in self._cluster:
                await shard.primary.open()
                async with shard.primary.connection() as connection:
                    await connection.execute(_FILL, self._orders, timeout=120)
                    await connection.execute(_FILL_MESSAGES, timeout=120)
                    await connection.execute("ANALYZE orders, outbox, invoices", timeout=120)
            first, *others = self._direct.shards
            dsns = [getattr(first, role) for role in _ROLES]
            self._proxies = ProxyProcess([urlsplit(dsn).port or _POSTGRES_PORT for dsn in dsns])
            await exits.enter_async_context(self._proxies)
            slow = {
                role: _at_port(dsn, port)
                for role, dsn, port in zip(_ROLES, dsns, self._proxies.ports, strict=True)
            }
            self._settings = msgspec.structs.replace(
                self._direct, shards=(msgspec.structs.replace(first, **slow), *others)
            )
            yield self

    async def run(self, how: Reading, slow: str, seconds: float) -> Tally:
        """Read while one server, `primary` or `replica` of the first shard, is slow."""
        assert self._proxies is not None, "not opened"
        await self._proxies.behave(*(_SLOW if role == slow else Behaviour() for role in _ROLES))
        truth = _Truth(self._hot())
        reader = OrderReader(self._settings)
        reads = _Reads(reader, truth, how, self._orders, self._chance)
        tally, over = Tally(), asyncio.Event()
        try:
            await reads.for_seconds(_WARM_UP_S, Tally())
            async with asyncio.TaskGroup() as group:
                group.create_task(self._write(reads, reader, truth, tally, over))
                await reads.for_seconds(seconds, tally)
                over.set()
        finally:
            await reader.close()
        return tally

    def _hot(self) -> list[str]:
        return [f"o-{self._chance.randrange(self._orders)}" for _ in range(_HOT)]

    async def _write(  # what a writer needs
        self, reads: _Reads, reader: OrderReader, truth: _Truth, tally: Tally, over: asyncio.Event
    ) -> None:
        """Change one hot order after the other and read it; every other change comes with a token."""
        takes_token = False
        while not over.is_set():
            name = self._chance.choice(truth.hot)
            slot, takes_token, token = slot_of(name), not takes_token, None
            shard = self._cluster[self._cluster.shard_map.owners[slot]]
            async with shard.primary.connection() as connection:
                changes = await connection.fetchval(_CHANGE, slot, name)
            truth.changes[name] = changes
            if takes_token:
                token = await reader.token(name)
                truth.tokens[name] = (token, changes)
            await reads.own_write(tally, name, changes, token)
            await asyncio.sleep(1 / _WRITES_PER_S)


def _extra(reader: OrderReader) -> int:
    return sum(pair.asked - pair.reads for pair in reader.pairs.values())


def _at_port(dsn: str, port: int) -> str:
    parts = urlsplit(dsn)
    return urlunsplit(parts._replace(netloc=f"{parts.username}@{HOST}:{port}"))
