"""Persons of all shards: read from a replica that can prove to be up to date, else from the primary.

For the proof every shard is listened to. A notice names the slots in which persons changed. The primary is
then asked where its WAL ends: what a replica says after it has replayed up to there is no older than the
notice.
"""

import asyncio
from collections.abc import Callable, Collection, Iterable, Sequence

import asyncpg
import msgspec
import structlog

from pipeline.clock import Clock
from pipeline.errors import PostorderError, StorageTimeoutError, StorageUnavailableError
from pipeline.lifecycle import Tasks
from pipeline.sharding.slots import SLOT_COUNT
from pipeline.storage.cluster import Cluster
from pipeline.storage.customers import CHANGED, STATEMENTS, PersonsRead, parse_notice, read_persons
from pipeline.storage.listener import Listener
from pipeline.storage.node import Node
from pipeline.storage.shard import Shard

log = structlog.get_logger(__name__)

_ALL_SLOTS = frozenset(range(SLOT_COUNT))
_REPLICA_PATIENCE_S = 0.5
_REST_S = 5.0  # who failed is not asked again so soon


class Answer(msgspec.Struct, frozen=True):
    """What a shard says of persons. `is_current`: it may be kept until the next notice about its slots."""

    found: PersonsRead
    is_current: bool


class _Heard:
    """What is known of one shard's changes. `lsn`: a replica must have replayed this much.

    `unproven`: slots whose last change may lie behind that. `asking`: those that the question under way will
    prove.
    """

    def __init__(self) -> None:
        self.lsn: int | None = None
        self.unproven: set[int] = set()
        self.asking: set[int] = set()

    def required(self, slots: Collection[int]) -> int | None:
        """Return what a replica must have replayed to speak about slots; None: only the primary may."""
        if self.lsn is None or not self.unproven.isdisjoint(slots) or not self.asking.isdisjoint(slots):
            return None
        return self.lsn


class _Replica:
    """A shard's replica. Mutable state: whether it is open, when to ask it again, an overdue answer."""

    def __init__(self, node: Node, clock: Clock) -> None:
        self._node = node
        self._clock = clock
        self._is_open = False
        self._rests_until = 0.0
        self._overdue: asyncio.Task[PersonsRead] | None = None

    async def read(self, wanted: Sequence[tuple[int, str]]) -> PersonsRead:
        """Return its answer. Raises StorageUnavailableError or StorageTimeoutError, soon."""
        if self._overdue is not None or self._clock.monotonic() < self._rests_until:
            raise StorageUnavailableError(f"{self._node.name}: did not answer a moment ago")
        reading = asyncio.create_task(self._read(wanted), name=f"persons from {self._node.name}")
        try:
            done, _ = await asyncio.wait({reading}, timeout=_REPLICA_PATIENCE_S)
        except asyncio.CancelledError:
            reading.cancel()
            raise
        if not done:
            # Not waited for: even giving its connection back takes until the server answers or times out.
            self._overdue = reading
            reading.add_done_callback(self._forget)
            reading.cancel()
            raise StorageTimeoutError(f"{self._node.name}: no answer in {_REPLICA_PATIENCE_S:g} s")
        try:
            return reading.result()
        except PostorderError:
            self._rests_until = self._clock.monotonic() + _REST_S
            raise

    async def _read(self, wanted: Sequence[tuple[int, str]]) -> PersonsRead:
        if not self._is_open:
            await self._node.open()
            self._is_open = True
        return await read_persons(self._node, wanted)

    def _forget(self, reading: "asyncio.Task[PersonsRead]") -> None:
        self._overdue = None
        self._rests_until = self._clock.monotonic() + _REST_S
        if not reading.cancelled():
            reading.exception()  # looked at, so that asyncio does not complain of it


class Persons:
    """A service that reads persons and says when they change.

    `on_change` is called with the slots in which persons may have changed; with all of them when notices may
    have been missed. Mutable state: `_heard`, by shard, there while it is listened to; `_replicas`.
    """

    name = "persons"

    def __init__(
        self, cluster: Cluster, *, on_change: Callable[[Iterable[int]], None], clock: Clock, tasks: Tasks
    ) -> None:
        self._cluster = cluster
        self._on_change = on_change
        self._clock = clock
        self._tasks = tasks
        self._heard: dict[str, _Heard] = {}
        self._replicas: dict[str, _Replica] = {}
        self._rests_until: dict[str, float] = {}

    def __repr__(self) -> str:
        return f"Persons(listening to {', '.join(self._heard) or 'nobody'})"

    async def start(self) -> None:
        """Listen to every shard, and to those that come."""
        for shard in self._cluster:
            self._listen_to(shard)
        self._cluster.on_added.append(self._listen_to)

    async def drain(self) -> None:
        """End: whoever asks has finished before."""
        await self.stop()

    async def stop(self) -> None:
        """End."""
        if self._listen_to in self._cluster.on_added:
            self._cluster.on_added.remove(self._listen_to)
        await self._tasks.cancel()

    async def read(self, name: str, wanted: Sequence[tuple[int, str]]) -> Answer:
        """Return what a shard knows of persons, given as slot and customer id.

        While the primary is away, a replica's word is taken without proof: nothing new is stored meanwhile.
        So that not every message waits for its time-out, a primary that failed and that nobody hears is not
        asked for a while. Raises StorageUnavailableError or StorageTimeoutError when neither answers.
        """
        shard = self._cluster[name]
        replica = self._replica(shard)
        if replica is not None and (answer := await self._from_replica(name, replica, wanted)) is not None:
            return answer
        is_heard = name in self._heard
        try:
            found = await read_persons(shard.primary, wanted, asks_lsn=False)
            return Answer(found, is_current=is_heard)
        except PostorderError as error:
            if replica is None or not error.retryable:
                raise
            log.debug("persons.primary_away", shard=name, error=str(error))
            self._rests_until[name] = self._clock.monotonic() + _REST_S
            return Answer(await replica.read(wanted), is_current=False)

    async def _from_replica(
        self, name: str, replica: _Replica, wanted: Sequence[tuple[int, str]]
    ) -> Answer | None:
        """Return a replica's answer, if it counts."""
        heard = self._heard.get(name)
        required = heard.required([slot for slot, _ in wanted]) if heard else None
        primary_rests = heard is None and self._clock.monotonic() < self._rests_until.get(name, 0.0)
        if required is None and not primary_rests:
            return None
        try:
            found = await replica.read(wanted)
        except PostorderError as error:
            log.debug("persons.replica_away", shard=name, error=str(error))
            return None
        if required is None:
            return Answer(found, is_current=False)
        is_proven = found.lsn is None or found.lsn >= required
        return Answer(found, is_current=True) if is_proven else None

    def _replica(self, shard: Shard) -> _Replica | None:
        if shard.replica is None:
            return None
        if shard.name not in self._replicas:
            self._replicas[shard.name] = _Replica(shard.replica, self._clock)
        return self._replicas[shard.name]

    # --- listening ------------------------------------------------------------------------------------

    def _listen_to(self, shard: Shard) -> None:
        heard = _Heard()

        def on_notice(payload: str) -> None:
            slots = parse_notice(payload) or _ALL_SLOTS
            heard.unproven |= slots
            self._on_change(slots)

        async def attend(connection: asyncpg.Connection) -> None:
            if shard.name not in self._heard:
                self._heard[shard.name] = heard
                self._on_change(_ALL_SLOTS)  # it may have changed before anybody listened
            heard.asking, heard.unproven = heard.unproven, set()
            heard.lsn = await connection.fetchval(STATEMENTS["written_up_to"])
            heard.asking = set()

        def on_lost() -> None:
            self._heard.pop(shard.name, None)
            heard.lsn, heard.unproven, heard.asking = None, set(), set()
            self._on_change(_ALL_SLOTS)

        listener = Listener(
            shard, CHANGED, on_notice=on_notice, attend=attend, on_lost=on_lost, clock=self._clock
        )
        self._tasks.start(listener.run(), f"listen for customers of {shard.name}")
