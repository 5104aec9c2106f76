"""Sets of receipts on a real shard: whose slots must be here, what is in a set twice, how rows are found."""

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any
from uuid import uuid4

import pytest
from ledger import Ledger, accepted
from real_stack import Bench

from pipeline.errors import SlotsMovedError
from pipeline.storage.outbox import Claim, State
from pipeline.storage.statements import EFFECTS, OUTBOX

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


MESSAGES = """
INSERT INTO outbox (slot, effect_id, order_id, channel, kind, state, expires_at, claim_id, accepted_at)
SELECT slot_of(id), effect_id_of(id, 1), id, 'sms', 'order_sms', $1, now() + interval '1 day', $2, now()
FROM generate_series(1, $3::int) AS g(n), LATERAL (SELECT $1 || '-' || n AS id) AS named"""
INVOICES = """
INSERT INTO invoices (slot, order_id, invoice_id, currency, total, issued_at, media_type, effect_id,
                      event_source, event_id)
SELECT slot, order_id, 'i-' || order_id, 'EUR', 1, now(), 'application/pdf',
       CASE WHEN state = 'accepted' THEN effect_id END, '/tests', order_id FROM outbox WHERE state = $1"""


@pytest.mark.parametrize("name", ["record_receipts", "late_receipts", "conclude", "carry_invoices"])
async def test_rows_are_found_by_their_key_whatever_the_statistics_say(bench: Bench, name: str) -> None:
    """By those of an hour in which all was sent, the whole table was compared with each receipt of a set."""
    async with bench.cluster["shard0"].primary.connection() as connection:
        for state, count in (("accepted", 500), ("unknown", 3000)):
            await connection.execute(MESSAGES, state, uuid4(), count)
            await connection.execute(INVOICES, state)
            if state == "accepted":
                await connection.execute("ANALYZE outbox; ANALYZE invoices")
        rows = await connection.fetch(
            "SELECT slot, effect_id, order_id, claim_id FROM outbox WHERE state = 'unknown' LIMIT 45"
        )
        slots, effects, orders, claims = (list(column) for column in zip(*rows, strict=True))
        none, no, yes = [None] * 45, [False] * 45, [True] * 45
        receipts = [slots, effects, claims, ["accepted"] * 45, none, none, none, none, none, no]
        values = {
            "record_receipts": receipts,
            "late_receipts": receipts,
            "conclude": [slots, effects, claims, ["accepted"] * 45, *([none] * 4), ["x"] * 45, none, no],
            "carry_invoices": [slots, effects, orders, yes],
        }
        statement = await connection.prepare({**OUTBOX, **EFFECTS}[name])
        transaction = connection.transaction()
        await transaction.start()
        [explained] = await statement.explain(*values[name], analyze=True)
        await transaction.rollback()
    assert compared_in_vain(explained["Plan"]) < 3000


def compared_in_vain(plan: dict[str, Any]) -> int:
    """How many pairs of rows were looked at that did not belong together."""
    here = plan.get("Rows Removed by Join Filter", 0) * plan.get("Actual Loops", 1)
    return max(here, *(compared_in_vain(child) for child in plan.get("Plans", ())), 0)
