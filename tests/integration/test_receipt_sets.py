"""Sets of receipts on a real shard: whose slots must be here, and messages that are in a set twice."""

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from uuid import uuid4

import pytest
from ledger import Ledger, accepted
from real_stack import Bench

from pipeline.errors import SlotsMovedError
from pipeline.storage.outbox import Claim, State

pytestmark = pytest.mark.integration


@asynccontextmanager
async def slot_is(ledger: Ledger, slot: int, state: str | None) -> AsyncIterator[None]:
    """Have a slot be on its way, or gone from the shard, inside the block."""
    bench, shard = ledger.bench, ledger.shard.name
    [before] = await bench.rows("SELECT epoch FROM shard_slot WHERE slot = $1", slot, shard=shard)
    await bench.execute("UPDATE shard_map SET is_settled = false")
    if state:
        await bench.execute("UPDATE shard_slot SET state = $2 WHERE slot = $1", slot, state)
    else:
        await bench.execute("DELETE FROM shard_slot WHERE slot = $1", slot)
    try:
        yield
    finally:
        async with ledger.shard.primary.connection() as connection:
            await connection.execute(
                "INSERT INTO shard_slot (slot, epoch) VALUES ($1, $2) "
                "ON CONFLICT (slot) DO UPDATE SET state = 'owned'",
                slot,
                before["epoch"],
            )
        await bench.execute("UPDATE shard_map SET is_settled = true")


@pytest.mark.parametrize("state", ["leaving", "arriving", None])
async def test_of_a_set_with_a_slot_that_is_not_owned_nothing_is_recorded(
    bench: Bench, state: str | None
) -> None:
    ledger = Ledger(bench)
    claims = await ledger.claimed(3)
    receipts = [accepted(claim) for claim in claims]
    async with slot_is(ledger, claims[1].slot, state):
        with pytest.raises(SlotsMovedError) as refused:
            await ledger.outbox.record(ledger.channel, receipts)
        assert refused.value.slots == {claims[1].slot}
        assert set(await ledger.states()) == {"submitting"}
        others = [receipt for receipt in receipts if receipt.slot != claims[1].slot]
        assert await ledger.outbox.record(ledger.channel, others) == ({State.ACCEPTED: len(others)}, 0)
    mine = [receipt for receipt in receipts if receipt.slot == claims[1].slot]
    assert await ledger.outbox.record(ledger.channel, mine) == ({State.ACCEPTED: len(mine)}, 0)


async def claimed_again(ledger: Ledger) -> tuple[Claim, Claim]:
    """A claim whose lease ended, and a second one of the same message."""
    [first] = await ledger.unknown(1)
    await ledger.bench.execute("UPDATE outbox SET state = 'pending', due_at = now()")
    ledger.outbox.look_anew()
    [second] = await ledger.outbox.claim(ledger.channel, 1, uuid4())
    assert first.effect_id == second.effect_id
    return first, second


async def test_a_late_receipt_in_one_set_with_its_successors_is_not_lost(bench: Bench) -> None:
    """It was told from it by the message alone, and taken for recorded: nobody learned of the second SMS."""
    ledger = Ledger(bench)
    first, second = await claimed_again(ledger)
    both = [accepted(first, "first"), accepted(second, "second")]
    assert await ledger.outbox.record(ledger.channel, both) == ({State.ACCEPTED: 1}, 1)
    [row] = await ledger.rows()
    assert (row["state"], row["provider_id"]) == ("accepted", "second")
    notes = [(note["what"], note["detail"]) for note in await ledger.notes()]
    assert ("stale_receipt", "accepted first") in notes


async def test_a_receipt_that_is_in_a_set_twice_is_recorded_once(bench: Bench) -> None:
    """It was refused for ever: the statement about late ones was asked about none, without parameters."""
    ledger = Ledger(bench)
    [claim] = await ledger.claimed(1)
    recorded = await ledger.outbox.record(ledger.channel, [accepted(claim), accepted(claim)])
    assert recorded == ({State.ACCEPTED: 1}, 0)
    assert await ledger.states() == ["accepted"]
