"""`postorder shards` as an operator types it: what is done, and what is refused before anything changes."""

import re
from urllib.parse import urlsplit

import pytest
from commands import postorder
from moving_shards import Moving
from on_record import last_done
from reading import Writer

pytestmark = pytest.mark.acceptance


async def owners(moving: Moving) -> list[dict]:
    return await moving.bench.rows("SELECT slot, epoch, state FROM shard_slot ORDER BY slot")


async def check_nothing_has_changed(moving: Moving, before: list[dict]) -> None:
    assert await owners(moving) == before
    assert await moving.bench.rows("SELECT FROM slot_move WHERE state NOT IN ('finished', 'aborted')") == []
    assert await moving.links() == []


async def test_a_shard_is_removed_and_the_last_one_is_not(moving: Moving) -> None:
    config, writer = ("--config", str(moving.two)), Writer(moving.bench)
    names = [*writer.names("shard0", 2), *writer.names("shard1", 2)]
    for name in names:
        await writer.order(name)
    done = postorder("shards", "remove", "shard1", "--yes", "--finish", *config)
    assert done.returncode == 0, done.stderr
    lines = done.stdout.splitlines()
    assert len(lines) < 60, done.stdout  # a line for each tenth of a phase, and not for each group of slots
    slots = len(moving.bench.cluster.shard_map.slots_of("shard1"))
    assert re.fullmatch(
        rf"{slots} slots moved, \d+ rows of {slots} slots: 0 missing, 0 extra, 0 mismatched", lines[-1]
    )
    assert sorted(await moving.order_ids()) == sorted(names)
    assert await moving.rows_of("shard1", "orders") == 0
    assert (await last_done(moving.bench.cluster, "shards.change")).detail == f"{slots} slots"
    before = await owners(moving)
    for command in (("remove", "shard0", "--yes"), ("plan", "remove", "shard0")):
        refused = postorder("shards", *command, *config)
        assert refused.returncode == 1
        assert refused.stderr.splitlines() == [
            "postorder: shard shard0 is the last one: its slots have nowhere to go"
        ]
    await check_nothing_has_changed(moving, before)
    assert postorder("shards", "verify", *config).returncode == 0


async def test_a_replica_given_as_a_primary_is_refused(moving: Moving) -> None:
    primary, replica = (
        urlsplit(dsn).port
        for dsn in (moving.bench.stack.shards[1].primary_dsn, moving.bench.stack.shards[1].replica_dsn)
    )
    text = moving.two.read_text()
    wrong = moving.two.with_name("wrong.toml")
    wrong.write_text(text.replace(f":{primary}/", f":{replica}/"))
    before = await owners(moving)
    slot = moving.bench.cluster.shard_map.slots_of("shard0")[0]
    for command in (
        ("move", "--slots", str(slot), "--to", "shard1", "--yes"),
        ("plan", "move", "--slots", str(slot), "--to", "shard1"),
        ("remove", "shard1", "--yes"),
    ):
        refused = postorder("shards", *command, "--config", str(wrong))
        assert refused.returncode == 1
        [line] = refused.stderr.splitlines()
        assert f"shard1 primary: no read-write server: 127.0.0.1:{replica} is a replica" in line
    await check_nothing_has_changed(moving, before)
