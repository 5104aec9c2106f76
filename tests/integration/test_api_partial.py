"""The API while a shard is away, or hangs: the others are shown and worked on, and who is away is named."""

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from datetime import UTC, datetime
from pathlib import Path
from uuid import uuid4

import asyncpg
import msgspec
import pytest
from api_site import Api, problem_of, running_api
from flow import Flow
from hung_servers import hanging
from ledger import Ledger
from real_stack import Bench

from consumers.api.callers import Access
from consumers.effects import list_effects
from consumers.shards_report import Views
from pipeline.storage.effect_desk import Wanted
from pipeline.storage.move_table import Move, MoveTable
from pipeline.storage.node import Node
from pipeline.storage.outbox import State
from stack.launcher import StackConfig, up

pytestmark = pytest.mark.integration

BODIES = tuple(b"[%d" % number for number in range(12))  # on both shards: their slots are of their bytes


@pytest.fixture
async def api(bench: Bench) -> AsyncIterator[Api]:
    async with running_api(bench.settings, bench.cluster) as running:
        yield running


async def held(bench: Bench) -> dict[str, list[str]]:
    """Have deliveries held on both shards; return their ids by shard."""
    flow = Flow(bench)
    await flow.processor.start()
    flow.give(*BODIES)
    await flow.until_acknowledged(len(BODIES))
    await flow.processor.stop()
    assert flow.crashes == []
    found = {}
    for shard in ("shard0", "shard1"):
        rows = await bench.rows("SELECT quarantine_id::text AS id FROM quarantine", shard=shard)
        found[shard] = [row["id"] for row in rows]
        assert found[shard]
    return found


async def cut_off(bench: Bench, name: str) -> None:
    """Have a shard be where nobody answers."""
    shard = bench.cluster[name]
    await shard.primary.close()
    nowhere = Node(f"{name} primary", "postgresql://u@127.0.0.1:1/d", "", bench.settings.storage)
    shard.primary = shard.control._node = shard.audit._node = shard.maps._node = nowhere


@asynccontextmanager
async def outbox_locked(bench: Bench) -> AsyncIterator[None]:
    """Have the second shard read no message inside the block."""
    locker = await asyncpg.connect(bench.stack.shards[1].primary_dsn, timeout=5)
    try:
        async with locker.transaction():
            await locker.execute("LOCK TABLE outbox IN ACCESS EXCLUSIVE MODE")
            yield
    finally:
        await locker.close()


async def test_quarantine_of_the_others_is_listed_redriven_and_dropped(api: Api, bench: Bench) -> None:
    ids = await held(bench)
    await cut_off(bench, "shard1")
    listed = await api.get("/v1/quarantine")
    assert {one["quarantine_id"] for one in listed["deliveries"]} == set(ids["shard0"])
    assert listed["away"] == ["shard1"]
    assert (await api.get(f"/v1/quarantine/{ids['shard0'][0]}", Access.OPERATE))["shard"] == "shard0"
    reply = await api.request("GET", f"/v1/quarantine/{ids['shard1'][0]}", access=Access.OPERATE)
    assert (reply.status, problem_of(reply)["detail"]) == (
        503,
        "shard1: no answer: the delivery may be there",
    )
    both = {"ids": [ids["shard0"][0], ids["shard1"][0]]}
    for what, done in (("redrive", 1), ("drop", 0)):
        worked = await api.send("POST", f"/v1/quarantine/{what}", both, Access.ADMIN)
        assert (worked["done"], worked["away"]) == (done, ["shard1"])
    held_still = await bench.rows("SELECT count(*) AS n FROM quarantine WHERE state = 'held'", shard="shard1")
    assert held_still == [{"n": len(ids["shard1"])}]


async def test_messages_of_the_others_are_listed_and_resolved(api: Api, bench: Bench) -> None:
    [claim] = await Ledger(bench).unknown(1)
    there = next(one.name for one in bench.cluster if one.name != "shard0")
    await cut_off(bench, there)
    found = await api.get("/v1/effects")
    assert ([one["effect_id"] for one in found["effects"]], found["away"]) == (
        [str(claim.effect_id)],
        [there],
    )
    word = {"seen": "unknown", "to": "accepted", "because": "it is in the provider's log"}
    path = f"/v1/effects/{claim.effect_id}"
    assert (await api.send("POST", f"{path}/resolution", word))["effect"]["state"] == "accepted"
    assert (await api.get(path))["effect"]["state"] == "accepted"
    reply = await api.request("GET", f"/v1/effects/{uuid4()}")
    assert (reply.status, problem_of(reply)["detail"]) == (
        503,
        f"{there}: no answer: the message may be there",
    )


async def test_settled_messages_are_waited_for_longer_because_a_table_is_read(api: Api, bench: Bench) -> None:
    settled = Wanted(state=State.ACCEPTED)
    async with outbox_locked(bench):
        waiting = asyncio.gather(
            api.get("/v1/effects?state=accepted"), list_effects(bench.settings, settled, 10)
        )
        assert (await api.get("/v1/effects"))["away"] == ["shard1"]
    answer, listed = await waiting
    assert (answer["away"], listed.missing) == ([], {})


async def test_they_are_waited_for_no_longer_than_an_answer_may_take(bench: Bench) -> None:
    async with outbox_locked(bench), running_api(bench.settings, bench.cluster, answer_timeout_s=1.0) as api:
        assert (await api.get("/v1/effects?state=accepted"))["away"] == ["shard1"]


@asynccontextmanager
async def moving(bench: Bench, target: str = "shard1") -> AsyncIterator[None]:
    """Have the first shard know of slots that go to another."""
    slots = bench.cluster.shard_map.slots_of("shard0")[:3]
    move = Move(move_id=uuid4(), source="shard0", target=target, slots=slots, started_at=datetime.now(UTC))
    await MoveTable(bench.cluster["shard0"].primary).register([move], bench.cluster.shard_map.epoch)
    try:
        yield
    finally:
        await bench.rows("DELETE FROM slot_move", shard="shard0")


async def test_moves_are_shown_while_a_shard_hangs(api: Api, bench: Bench, stack_folder: Path) -> None:
    async with moving(bench):
        assert [one["moved"] for one in (await api.get("/v1/overview"))["moves"]] == [0]  # it is open
        pid = up(StackConfig(data_dir=stack_folder), lambda _text: None).pids["shard1-primary"]
        async with running_api(bench.settings, bench.cluster) as fresh:
            with hanging(pid):
                async with asyncio.timeout(3):  # two for each part of it
                    overview = await fresh.get("/v1/overview")
    assert [(one["target"], one["moved"]) for one in overview["moves"]] == [("shard1", None)]
    assert [one["is_reachable"] for one in overview["shards"]] == [True, False]
    assert [one["about"] for one in overview["problems"]] == ["shard1"]


async def test_shards_and_moves_are_shown_without_the_one_that_is_away(api: Api, bench: Bench) -> None:
    async with moving(bench):
        await cut_off(bench, "shard1")
        views = msgspec.convert(await api.get("/v1/shards"), Views)
        overview = await api.get("/v1/overview")
    assert [(one.name, one.has_replica, one.replicas) for one in views.shards] == [("shard0", True, 1)]
    assert list(views.away) == ["shard1"]
    assert views.away["shard1"].startswith("shard1 primary at 127.0.0.1:1")
    assert [(one.target, one.slots, one.moved) for one in views.moves] == [("shard1", 3, None)]
    assert [one["is_reachable"] for one in overview["shards"]] == [True, False]
    assert [one["moved"] for one in overview["moves"]] == [None]
    assert [one["about"] for one in overview["problems"]] == ["shard1"]


async def test_a_move_to_a_shard_that_is_being_added_is_shown(api: Api, bench: Bench) -> None:
    """Until the first slots are its own no map names it, and a process that runs does not know it."""
    async with moving(bench, target="shard2"):
        views = msgspec.convert(await api.get("/v1/shards"), Views)
        overview = await api.get("/v1/overview")
    assert [(one.target, one.slots, one.moved) for one in views.moves] == [("shard2", 3, None)]
    assert [(one["target"], one["moved"]) for one in overview["moves"]] == [("shard2", None)]
    assert (views.away, overview["problems"]) == ({}, [])


async def test_when_none_answers_it_says_so(api: Api, bench: Bench) -> None:
    for name in ("shard0", "shard1"):
        await cut_off(bench, name)
    for path in ("/v1/effects", "/v1/quarantine", "/v1/shards"):
        reply = await api.request("GET", path)
        assert reply.status == 503
        assert problem_of(reply)["detail"].startswith("no shard of 2 answers: shard0 primary at 127.0.0.1:1")


async def test_requests_that_were_given_up_hold_no_connection(bench: Bench) -> None:
    """More of them than there are connections: then one is answered as ever."""
    await held(bench)
    primary = bench.cluster["shard0"].primary
    most = primary.connections()[2]
    locker = await asyncpg.connect(bench.stack.shards[0].primary_dsn, timeout=5)
    try:
        async with running_api(bench.settings, bench.cluster, answer_timeout_s=0.5) as api:
            async with locker.transaction():
                await locker.execute("LOCK TABLE quarantine IN ACCESS EXCLUSIVE MODE")
                asked = [api.request("GET", "/v1/quarantine") for _ in range(2 * most)]
                assert {reply.status for reply in await asyncio.gather(*asked)} == {503}
            async with asyncio.timeout(10):
                while primary.connections()[0]:  # noqa: ASYNC110  # cut ones go as the server says so
                    await asyncio.sleep(0.01)
            assert len((await api.get("/v1/quarantine"))["deliveries"]) == len(BODIES)
    finally:
        await locker.close()
