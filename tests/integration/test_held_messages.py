"""Messages that wait because a rule of ours says so: their claims know it, whatever else happens to them."""

import json
from datetime import UTC, datetime, timedelta
from uuid import uuid4

import pytest
from ledger import Intake, Ledger
from real_stack import Bench, order_event

from pipeline.storage.outbox import Channel, Claim, Receipt, State
from pipeline.storage.statements import OUTBOX

pytestmark = pytest.mark.integration


def put_off(claim: Claim, reason: str) -> Receipt:
    """A message that nobody was called for, to be looked at again at once."""
    receipt = Receipt(claim.slot, claim.effect_id, claim.claim_id, State.PENDING, reason=reason)
    return receipt._replace(retry_in_s=0.0, is_untried=True)


@pytest.mark.parametrize(("reasons", "is_held"), [
    (["quiet_hours"], True), (["daily_cap"], True), (["spend_prefix"], True), (["rate_limited"], True),
    (["quiet_hours", "circuit_open"], True), (["contact_unknown", "429"], True),
    (["circuit_open"], False), (["recipients_unavailable", "retry_after"], False),
])  # fmt: skip
async def test_a_claim_knows_whether_its_message_was_ever_held(
    bench: Bench,
    reasons: list[str],
    is_held: bool,  # noqa: FBT001
) -> None:
    ledger = Ledger(bench)
    [claim] = await ledger.claimed(1)
    assert not claim.was_held
    for reason in reasons:
        await ledger.outbox.record(Channel.SMS, [put_off(claim, reason)])
        [claim] = await ledger.outbox.claim(Channel.SMS, 1, uuid4())
    assert claim.was_held is is_held


async def test_a_claim_says_when_its_message_was_due(bench: Bench) -> None:
    shard = await Intake(bench, grace_s=-30.0).write(order_event("o-1"))
    [mail] = await shard.outbox.claim(Channel.EMAIL, 1, uuid4())
    assert mail.due_at is not None
    assert mail.due_at - mail.created_at == timedelta(seconds=-30)
    assert abs(datetime.now(UTC) - mail.created_at) < timedelta(seconds=20)


async def test_notes_are_looked_up_for_each_message_and_never_read_through(bench: Bench) -> None:
    await bench.execute(
        "INSERT INTO effect_note (slot, effect_id, what, detail, actor) "
        "SELECT n % 4096, gen_random_uuid(), 'retry', 'quiet_hours', 'receipts' "
        "FROM generate_series(1, 30000) AS n"
    )
    await bench.execute("ANALYZE effect_note")
    async with bench.cluster["shard0"].primary.connection() as connection:
        await connection.execute("SET plan_cache_mode = force_generic_plan")
        statement = await connection.prepare(OUTBOX["claim"])
        plan = json.dumps(await statement.explain("sms", 100, uuid4(), timedelta(seconds=60), None))
        await connection.execute("RESET plan_cache_mode")
    assert '"Index Name": "pk_effect_note"' in plan
    assert "hashed subplan" not in plan.lower()
    assert '"Node Type": "Seq Scan", "Parent Relationship": "SubPlan"' not in plan
