"""Who is asked about persons, and how old an answer may be."""

import asyncio
import socket
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from pathlib import Path

import msgspec
import pytest
from customers import at, store
from reading import held_back, pair_of, proxies
from real_stack import Bench, customer_event

from pipeline.clock import SystemClock
from pipeline.errors import StorageUnavailableError
from pipeline.lifecycle import Tasks
from pipeline.notifications.contacts import ContactBook
from pipeline.settings import Settings
from pipeline.sharding.router import Router
from pipeline.sharding.slots import SLOT_COUNT, slot_of
from pipeline.storage.cluster import Cluster
from pipeline.storage.customers import read_persons
from pipeline.storage.persons import Persons, _Heard
from stack.ports import HOST

pytestmark = pytest.mark.integration

NAMES = [f"c-{number}" for number in range(2, 100)]


class Flow:
    """A contact book and its reader on the real shards."""

    def __init__(self, cluster: Cluster) -> None:
        self.crashes: list[BaseException] = []
        self.changes: list[set[int]] = []
        clock, self._tasks = SystemClock(), Tasks(lambda _name, error: self.crashes.append(error))
        self.persons = Persons(cluster, on_change=self._on_change, clock=clock, tasks=self._tasks)
        self.book = ContactBook(
            router=cluster.router,
            read=self.persons.read,
            refresh=cluster.refresh,
            wait_s=0,
            clock=clock,
            tasks=self._tasks,
        )
        self._news = asyncio.Event()

    def _on_change(self, slots) -> None:
        self.changes.append(set(slots))
        self.book.changed(slots)
        self._news.set()

    async def until(self, condition: Callable[[], bool]) -> None:
        async with asyncio.timeout(10):
            while not condition():
                self._news.clear()
                await self._news.wait()

    async def until_told(self, customer_id: str) -> None:
        """Wait for a notice that names just this slot, and forget it."""
        await self.until(lambda: {slot_of(customer_id)} in self.changes)
        self.changes.clear()

    def trusts_replica(self, shard: str) -> bool:
        """Whether a replica of the shard could prove to be up to date."""
        heard = self.persons._heard[shard]
        return heard.required(range(SLOT_COUNT)) is not None


def trusts(flow: Flow, shard: str) -> Callable[[], Awaitable[bool]]:
    async def condition() -> bool:
        return flow.trusts_replica(shard)

    return condition


def _shard(bench: Bench, customer_id: str) -> str:
    return bench.cluster.router.place(customer_id).shard


@asynccontextmanager
async def flow_on(cluster: Cluster, *, listening: int = 2) -> AsyncIterator[Flow]:
    flow = Flow(cluster)
    await flow.persons.start()
    try:
        await flow.until(lambda: len(flow.persons._heard) >= listening)
        yield flow
    finally:
        await flow.persons.stop()
        assert flow.crashes == []


@asynccontextmanager
async def cluster_with(settings: Settings, **servers: str) -> AsyncIterator[Cluster]:
    """The cluster, with another address for every shard's primary or replica."""
    shards = tuple(msgspec.structs.replace(shard, **servers) for shard in settings.shards)
    cluster = Cluster(msgspec.structs.replace(settings, shards=shards))
    try:
        if "primary" not in servers:
            for shard in cluster:
                await shard.primary.open()
        yield cluster
    finally:
        await cluster.close()


async def test_a_change_is_seen_as_soon_as_it_is_told(bench: Bench) -> None:
    async with flow_on(bench.cluster) as flow:
        await store(bench, customer_event("c-1", updated_at=at(1), email="1@example.com"))
        await flow.until_told("c-1")
        for number in range(2, 30):
            assert (await flow.book.person("c-1")).email == f"{number - 1}@example.com"
            await store(bench, customer_event("c-1", updated_at=at(number), email=f"{number}@example.com"))
            await flow.until_told("c-1")
        assert (await flow.book.person("c-1")).email == "29@example.com"
        reads = flow.book.reads
        await flow.book.person("c-1")
        # What changes nothing is not told: here an update that is older.
        same_shard = next(name for name in NAMES if _shard(bench, name) == _shard(bench, "c-1"))
        await store(bench, customer_event("c-1", updated_at=at(3)))
        await store(bench, customer_event(same_shard, updated_at=at(3)))
        await flow.until(lambda: flow.changes != [])
        assert flow.changes == [{slot_of(same_shard)}]
        await flow.book.person("c-1")
        assert flow.book.reads == reads


async def test_a_notice_that_would_be_too_long_means_everybody(bench: Bench) -> None:
    async with flow_on(bench.cluster) as flow:
        flow.changes.clear()
        await store(bench, *(customer_event(f"c-{number}") for number in range(9000)))
        await flow.until(lambda: len(flow.changes) == 2)  # one batch for each shard
        assert [len(slots) for slots in flow.changes] == [SLOT_COUNT, SLOT_COUNT]
    assert min(bench.cluster.shard_map.shares().values()) > 1500


@pytest.mark.parametrize("proof", ["with the proof", "without it"])
async def test_a_replica_that_is_behind_is_not_believed(
    bench: Bench, stack_folder: Path, proof: str, monkeypatch
) -> None:
    """Without the proof, what the replica said a moment too early would be kept as the truth."""
    if proof == "without it":
        monkeypatch.setattr(_Heard, "required", lambda _self, _slots: 0)
    place = bench.cluster.router.place("c-1")
    shard = bench.cluster[place.shard]
    await store(bench, customer_event("c-1", updated_at=at(1), email="old@example.com"))
    async with flow_on(bench.cluster) as flow:
        with held_back(pair_of(stack_folder, place.shard)):
            await store(bench, customer_event("c-1", updated_at=at(2), email="new@example.com"))
            await flow.until_told("c-1")
            await bench.until_true(trusts(flow, place.shard))
            for _ in range(3):
                expected = "new@example.com" if proof == "with the proof" else "old@example.com"
                assert (await flow.book.person("c-1")).email == expected
            assert shard.replica is not None
            behind = await read_persons(shard.replica, [(place.slot, "c-1")])
            assert behind.persons["c-1"].email == "old@example.com"


async def test_a_replica_is_asked_when_it_is_up_to_date(bench: Bench) -> None:
    await store(bench, customer_event("c-1"))
    place = bench.cluster.router.place("c-1")
    async with flow_on(bench.cluster) as flow:

        async def from_replica() -> bool:
            answer = await flow.persons.read(place.shard, [(place.slot, "c-1")])
            assert answer.found.persons["c-1"].email == "c-1@example.com"
            return answer.found.lsn is not None and answer.is_current

        await bench.until(from_replica, "the replica answers")


async def test_a_replica_that_hangs_costs_half_a_second_once(bench: Bench, settings: Settings) -> None:
    over, hanging = asyncio.Event(), set()

    async def hang(_reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        hanging.add(asyncio.current_task())
        await over.wait()
        writer.close()

    server = await asyncio.start_server(hang, HOST, 0)
    port = server.sockets[0].getsockname()[1]
    await store(bench, customer_event("c-1"))
    dsn = f"postgresql://postorder@{HOST}:{port}/postorder"
    try:
        async with cluster_with(settings, replica=dsn) as cluster, flow_on(cluster) as flow:
            place = cluster.router.place("c-1")
            await bench.until_true(trusts(flow, place.shard))
            started = asyncio.get_running_loop().time()
            for _ in range(5):
                answer = await flow.persons.read(place.shard, [(place.slot, "c-1")])
                assert answer.found.persons["c-1"].email == "c-1@example.com"
                assert answer.is_current
            assert 0.4 < asyncio.get_running_loop().time() - started < 1.5
    finally:
        server.close()
        over.set()
        await asyncio.gather(*hanging)
    assert hanging


async def test_while_the_primary_is_away_the_replica_answers_and_nothing_is_kept(
    bench: Bench, settings: Settings
) -> None:
    await store(bench, customer_event("c-1"))
    with socket.create_server((HOST, 0)) as closed:
        nobody = f"postgresql://postorder@{HOST}:{closed.getsockname()[1]}/postorder"
    async with cluster_with(settings, primary=nobody) as cluster, flow_on(cluster, listening=0) as flow:

        async def is_replayed() -> bool:
            return (await flow.book.person("c-1")).is_known

        await bench.until_true(is_replayed)
        reads = flow.book.reads
        await flow.book.person("c-1")
        assert (flow.book.reads, flow.book.hits) == (reads + 1, 0)
        for shard in cluster:
            assert shard.replica is not None
            await shard.replica.close()
        with pytest.raises(StorageUnavailableError):
            await flow.book.person("c-1")


class TurnedClock(SystemClock):
    """A clock that the test turns on."""

    ahead_s = 0.0

    def monotonic(self) -> float:
        return super().monotonic() + self.ahead_s


async def test_a_primary_that_hangs_and_is_not_heard_costs_one_time_out(
    bench: Bench, settings: Settings
) -> None:
    """Each set of messages waited for it, and held up the messages of other shards' customers as well."""
    name = next(name for name in NAMES if _shard(bench, name) == settings.shards[0].name)
    await store(bench, customer_event(name))
    storage = msgspec.structs.replace(settings.storage, command_timeout_s=0.5)
    async with proxies(msgspec.structs.replace(settings, storage=storage)) as through:
        cluster, clock, changes = Cluster(through.settings), TurnedClock(), []
        persons = Persons(cluster, on_change=changes.append, clock=clock, tasks=Tasks(lambda *_: None))
        first = next(iter(cluster))
        await first.primary.open()
        wanted = [(slot_of(name), name)]
        answers = [await persons.read(first.name, wanted)]
        through.primary.stall()
        took = []
        for _ in range(5):
            began = clock.monotonic()
            answers.append(await persons.read(first.name, wanted))
            took.append(clock.monotonic() - began)
        through.primary.flow()
        assert [answer.found.persons[name].email for answer in answers] == [f"{name}@example.com"] * 6
        assert not any(answer.is_current for answer in answers)
        assert took[0] > 0.4
        assert max(took[1:]) < 0.4
        before, clock.ahead_s = through.primary.connections, 10.0
        await persons.read(first.name, wanted)
        assert through.primary.connections > before  # it is asked again
        await cluster.close()


async def test_a_shard_does_not_answer_for_slots_that_are_not_its_own(bench: Bench) -> None:
    """An old map leads to the wrong shard, which says so; the newest one leads on."""
    await store(bench, customer_event("c-1"))
    cluster = bench.cluster
    await cluster.refresh()
    right = cluster.router.shard_map
    first, second = cluster.shards
    swapped = tuple(second if owner == first else first for owner in right.owners)
    cluster.router = Router(msgspec.structs.replace(right, epoch=0, owners=swapped))
    async with flow_on(cluster) as flow:
        assert (await flow.book.person("c-1")).email == "c-1@example.com"
        assert flow.book.reads == 2
    assert cluster.router.shard_map == right
